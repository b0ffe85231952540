// SPDX-License-Identifier: Apache-2.0
//! File systems in the guest.

use super::{log, Result};
use crate::task::Root;
use nix::errno::Errno;
use nix::mount::{mount, MsFlags};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a disk may take to appear.
const DISK_LIMIT: Duration = Duration::from_secs(20);
const NONE: Option<&str> = None;

/// Mounts /dev, /proc and /sys under `root`, where they are not mounted yet.
pub fn kernel_file_systems(root: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (kind, target, flags) in [
        ("devtmpfs", "dev", MsFlags::MS_NOSUID),
        ("proc", "proc", flags | MsFlags::MS_NODEV),
        ("sysfs", "sys", flags | MsFlags::MS_NODEV),
    ] {
        let target = Path::new(root).join(target);
        let _ = std::fs::create_dir_all(&target);
        match mount(Some(kind), &target, Some(kind), flags, NONE) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) => return Err(format!("{kind} cannot be mounted on {}: {e}", target.display())),
        }
    }
    Ok(())
}

/// Mounts what programs expect beside those. Missing ones are not fatal: the command may not need them.
pub fn user_file_systems() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for (kind, target, flags, options) in [
        ("devpts", "/dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=0620,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", flags, "mode=1777"),
        ("tmpfs", "/run", flags, "mode=0755"),
        ("tmpfs", "/tmp", flags, "mode=1777"),
    ] {
        // A root that cannot be written to and lacks the directory goes without.
        if std::fs::create_dir_all(target).is_ok() {
            let _ = mount(Some(kind), target, Some(kind), flags, Some(options));
        }
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(target, Path::new("/dev").join(link));
    }
}

/// Mounts `root` and makes it the root directory, as switch_root(8) does.
pub fn switch_root(root: &Root) -> Result<()> {
    const TARGET: &str = "/.loft/root";
    wait_for(&root.device)?;
    std::fs::create_dir_all(TARGET).map_err(|e| format!("{TARGET}: {e}"))?;
    let flags = if root.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    mount(Some(root.device.as_str()), TARGET, Some(root.file_system.as_str()), flags, NONE).map_err(|e| {
        let hint = if e == Errno::ENODEV {
            "; the kernel has no such file system: give its modules with --modules"
        } else {
            ""
        };
        format!("{} cannot be mounted as {}: {e}{hint}", root.device, root.file_system)
    })?;
    for name in ["dev", "proc", "sys"] {
        let target = Path::new(TARGET).join(name);
        let _ = std::fs::create_dir(&target);
        let from = Path::new("/").join(name);
        if let Err(e) = mount(Some(&from), &target, NONE, MsFlags::MS_MOVE, NONE) {
            log(&format!("{} cannot be moved into the root file system: {e}", from.display()));
        }
    }
    let change = || {
        std::env::set_current_dir(TARGET)?;
        mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
        nix::unistd::chroot(".")?;
        std::env::set_current_dir("/")
    };
    change().map_err(|e: std::io::Error| format!("the root file system cannot be switched to: {e}"))
}

fn wait_for(device: &str) -> Result<()> {
    let deadline = Instant::now() + DISK_LIMIT;
    while !Path::new(device).exists() {
        if Instant::now() > deadline {
            return Err(format!(
                "{device} did not appear; the kernel has no driver for it (virtio_mmio, virtio_blk): give its modules with --modules"
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
