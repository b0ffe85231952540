// SPDX-License-Identifier: Apache-2.0
//! What the system says about itself, collected in one place so that the judgement can be tested.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whether a device node can be opened for reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It can.
    Usable,
    /// It is there.
    Denied,
    /// It is not there, or nothing is behind it.
    Absent,
}

impl Access {
    fn of(path: &str) -> Self {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(_) => Self::Usable,
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Self::Denied,
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Self::Usable,
            Err(_) => Self::Absent,
        }
    }
}

/// The facts.
#[derive(Debug, Clone)]
pub struct Facts {
    /// As `uname -m`.
    pub machine: String,
    /// As `uname -r`.
    pub release: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// /proc/cmdline.
    pub cmdline: String,
    /// /proc/interrupts.
    pub interrupts: String,
    /// /proc/meminfo.
    pub meminfo: String,
    /// The kernel's messages, as far as they can be read.
    pub log: String,
    /// Whether the module is loaded.
    pub module_loaded: bool,
    /// Whether there is a /dev/kvm.
    pub kvm_present: bool,
    /// /dev/net/tun.
    pub tun: Access,
    /// /dev/vhost-net.
    pub vhost_net: Access,
    /// /dev/vhost-vsock.
    pub vhost_vsock: Access,
    /// Whether passt is installed.
    pub passt: bool,
    /// Whether virtiofsd is installed.
    pub virtiofsd: bool,
}

impl Facts {
    /// Asks the system.
    pub fn gather() -> Self {
        let uname = rustix::system::uname();
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            machine: uname.machine().to_string_lossy().into_owned(),
            release: uname.release().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cmdline: text("/proc/cmdline"),
            interrupts: text("/proc/interrupts"),
            meminfo: text("/proc/meminfo"),
            log: kernel_log(),
            module_loaded: Path::new("/sys/module/loft").exists(),
            kvm_present: Path::new("/dev/kvm").exists(),
            tun: Access::of("/dev/net/tun"),
            vhost_net: Access::of("/dev/vhost-net"),
            vhost_vsock: Access::of("/dev/vhost-vsock"),
            passt: crate::passt::is_installed(),
            virtiofsd: crate::share::is_installed(),
        }
    }

    /// Whether the kernel has said `text` since it was booted.
    pub fn log_has(&self, text: &str) -> bool {
        self.log.contains(text)
    }
}

/// /dev/kmsg gives one message for each read, and EAGAIN at the end.
fn kernel_log() -> String {
    let mut log = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    if let Ok(mut file) = file {
        read_messages(&mut file, &mut log);
    }
    String::from_utf8_lossy(&log).into_owned()
}

fn read_messages(file: &mut File, log: &mut Vec<u8>) {
    let mut message = [0; 8192];
    loop {
        match file.read(&mut message) {
            Ok(0) => return,
            Ok(n) => log.extend_from_slice(&message[..n]),
            // EPIPE: the message was overwritten while it was read; the next read goes on behind it.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => return,
        }
    }
}
