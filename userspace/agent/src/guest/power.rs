// SPDX-License-Identifier: Apache-2.0
//! The end of the guest.

use super::{mounts, network, requests::Request};
use nix::errno::Errno;
use nix::mount::{mount, MsFlags};
use nix::sys::reboot::{reboot, RebootMode};
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// How long killed processes may take to be gone.
const LIMIT: Duration = Duration::from_secs(5);
/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(1);

/// Gives every process but this one some time to end by itself.
pub fn ask_everything_to_end() {
    send(Signal::SIGTERM, GRACE);
}

/// Ends every process but this one.
pub fn end_everything() {
    send(Signal::SIGKILL, LIMIT);
}

fn send(signal: Signal, limit: Duration) {
    // There may be none.
    let _ = kill(Pid::from_raw(-1), signal);
    let deadline = Instant::now() + limit;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(nix::sys::wait::WaitStatus::StillAlive) => {
                if Instant::now() > deadline {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => {}
        }
    }
}

/// Brings the disks to rest and switches the guest off, or starts it anew.
pub fn down(request: Request) -> ! {
    network::undo();
    mounts::undo();
    nix::unistd::sync();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let _ = mount(None::<&str>, "/", None::<&str>, flags, None::<&str>);
    let _ = reboot(match request {
        Request::Off => RebootMode::RB_POWER_OFF,
        Request::Reboot => RebootMode::RB_AUTOBOOT,
    });
    // Only a kernel without power-off gets here; if the first process ended it would panic.
    loop {
        std::thread::park();
    }
}
