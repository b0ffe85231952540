// SPDX-License-Identifier: Apache-2.0
//! What programs ask of a system's first process: to switch the system off, or to start it anew.
//!
//! The `poweroff`, `halt` and `reboot` of busybox send a signal. Those of systemd and of sysvinit write to a named pipe, systemd's
//! only where the first process is not systemd.

use super::{log, Result};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

const PIPE: &str = "/run/initctl";
/// Bytes of sysvinit's `struct init_request`: its magic number, a command, a run level, and what is of no use here.
const MESSAGE: usize = 384;
const MAGIC: u32 = 0x0309_1969;
/// The command that changes the run level.
const RUN_LEVEL: u32 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Off, or halted: a guest that is halted is of no more use.
    Off,
    /// A reboot.
    Reboot,
}

/// The ways in which requests come.
pub struct Requests {
    signals: SignalFd,
    pipe: Option<File>,
}

impl Requests {
    /// To be called once, before any thread starts: threads inherit what is blocked.
    pub fn listen() -> Result<Self> {
        let failed = |e: Errno| format!("signals cannot be listened to: {e}");
        let mut set = SigSet::empty();
        [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTERM, Signal::SIGCHLD].iter().for_each(|s| set.add(*s));
        set.thread_block().map_err(failed)?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(failed)?;
        Ok(Self { signals, pipe: None })
    }

    /// Makes the named pipe, once /run is there. A root file system that has no /run goes without.
    pub fn make_pipe(&mut self) {
        let opened = || -> std::io::Result<File> {
            nix::unistd::mkfifo(PIPE, Mode::S_IRUSR | Mode::S_IWUSR)?;
            // Open for writing too, so that it has no end.
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(PIPE)
        };
        match opened() {
            Ok(pipe) => self.pipe = Some(pipe),
            Err(e) => log(&format!("{PIPE} cannot be made: {e}")),
        }
    }

    /// Waits until there is a request, or a process has ended.
    pub fn wait(&self) {
        let fds = [Some(self.signals.as_fd()), self.pipe.as_ref().map(File::as_fd)];
        let mut fds: Vec<PollFd> = fds.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = poll(&mut fds, PollTimeout::NONE);
    }

    /// The next request that has come. It takes note of processes that have ended as well.
    pub fn next(&mut self) -> Option<Request> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGUSR1 | Signal::SIGUSR2) => return Some(Request::Off),
                Ok(Signal::SIGTERM) => return Some(Request::Reboot),
                _ => {}
            }
        }
        let mut message = [0; MESSAGE];
        // Each is written in one piece.
        while let Some(length) = self.pipe.as_mut().and_then(|pipe| pipe.read(&mut message).ok()) {
            if let Some(request) = decode(message.get(..length)?) {
                return Some(request);
            }
        }
        None
    }
}

/// Asks the guest's first process for `request`, in the way that it understands.
pub fn ask(request: Request) {
    let signal = |number: i32| {
        // SAFETY: it takes two numbers. SIGRTMIN and what is above it are no signals that nix knows.
        if unsafe { libc::kill(1, number) } != 0 {
            log(&format!("the guest's first process cannot be asked: {}", Errno::last()));
        }
    };
    let off = request == Request::Off;
    if std::path::Path::new("/run/systemd/system").is_dir() {
        // systemd(1), SIGNALS: poweroff.target, reboot.target.
        return signal(libc::SIGRTMIN() + if off { 4 } else { 5 });
    }
    match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(PIPE) {
        Ok(mut pipe) => {
            if let Err(e) = pipe.write_all(&encode(request)) {
                log(&format!("{PIPE} cannot be written: {e}"));
            }
        }
        Err(_) => signal(if off { libc::SIGUSR2 } else { libc::SIGTERM }),
    }
}

fn encode(request: Request) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let level = match request {
        Request::Off => b'0',
        Request::Reboot => b'6',
    };
    for (word, value) in message.chunks_exact_mut(4).zip([MAGIC, RUN_LEVEL, u32::from(level)]) {
        word.copy_from_slice(&value.to_ne_bytes());
    }
    message
}

fn decode(message: &[u8]) -> Option<Request> {
    let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != MAGIC || word(4)? != RUN_LEVEL {
        return None;
    }
    match u8::try_from(word(8)?).ok()? {
        b'0' => Some(Request::Off),
        b'6' => Some(Request::Reboot),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_sysvinit() {
        let message = |magic: u32, command: u32, level: u8| {
            let mut bytes = [0; MESSAGE];
            bytes[..4].copy_from_slice(&magic.to_ne_bytes());
            bytes[4..8].copy_from_slice(&command.to_ne_bytes());
            bytes[8..12].copy_from_slice(&u32::from(level).to_ne_bytes());
            bytes
        };
        assert_eq!(decode(&message(MAGIC, RUN_LEVEL, b'0')), Some(Request::Off));
        assert_eq!(decode(&message(MAGIC, RUN_LEVEL, b'6')), Some(Request::Reboot));
        assert_eq!(decode(&message(MAGIC, RUN_LEVEL, b'3')), None);
        assert_eq!(decode(&message(MAGIC, 2, b'0')), None);
        assert_eq!(decode(&message(0, RUN_LEVEL, b'0')), None);
        assert_eq!(decode(&message(MAGIC, RUN_LEVEL, b'0')[..11]), None);
        for request in [Request::Off, Request::Reboot] {
            assert_eq!(decode(&encode(request)), Some(request));
        }
    }
}
