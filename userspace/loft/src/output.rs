// SPDX-License-Identifier: Apache-2.0
//! The launcher's own outputs, and where the serial port's output goes.

use crate::console_log::ConsoleLog;
use crate::control::Guest;
use rustix::stdio;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

/// The launcher's own output, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Only recorded.
    Nowhere,
}

/// That standard output takes no more of what the serial port writes, and why.
pub struct Refused {
    /// Readable from when it is so.
    pub event: EventFd,
    why: OnceLock<io::Error>,
}

impl Refused {
    /// Nothing has been refused yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?, why: OnceLock::new() })
    }

    /// What the system said when it refused for the first time.
    pub fn why(&self) -> Option<&io::Error> {
        self.why.get()
    }

    fn set(&self, error: io::Error) {
        if self.why.set(error).is_ok() {
            let _ = self.event.write(1);
        }
    }
}

/// A writer without a buffer: what a guest prints is seen at once.
pub struct Output {
    target: Target,
    hidden: Arc<AtomicBool>,
    refused: Arc<Refused>,
    guest: Arc<Guest>,
    log: Option<Arc<ConsoleLog>>,
}

impl Output {
    /// Writes to `target` and `log` until `hidden` is set; an error of standard output is told to
    /// `refused`. Standard output is
    /// `guest`'s console, which others hear as well.
    pub fn new(
        target: Target,
        hidden: Arc<AtomicBool>,
        refused: Arc<Refused>,
        guest: Arc<Guest>,
        log: Option<Arc<ConsoleLog>>,
    ) -> Self {
        Self { target, hidden, refused, guest, log }
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if !self.hidden.load(Ordering::Relaxed) {
            if let Some(log) = &self.log {
                log.push(buf);
            }
            match self.target {
                Target::Stdout => {
                    self.guest.hub.push(buf);
                    if let Err(error) = write_all(stdio::stdout(), buf) {
                        self.refused.set(error);
                    }
                }
                // The kernel's messages are an extra: the command goes on without them.
                Target::Stderr => drop(write_all(stdio::stderr(), buf)),
                Target::Nowhere => {}
            }
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of `bytes`; waits where `fd` does not take more at the moment.
pub fn write_all(fd: BorrowedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(nix::errno::Errno::EINTR) => {}
            // Somebody who shares the terminal has made it non-blocking.
            Err(nix::errno::Errno::EAGAIN) => {
                let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLOUT)];
                nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE)?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Prints a line for the user to standard error. Where that is closed, nobody wants to know.
pub fn message(text: &str) {
    let _ = write_all(stdio::stderr(), format!("{text}\n").as_bytes());
}
