// SPDX-License-Identifier: Apache-2.0
//! Where the serial port's output goes.

use rustix::stdio;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

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

/// A writer without a buffer: what a guest prints is seen at once.
pub struct Output {
    target: Target,
    hidden: Arc<AtomicBool>,
}

impl Output {
    /// Writes to `target` until `hidden` is set.
    pub fn new(target: Target, hidden: Arc<AtomicBool>) -> Self {
        Self { target, hidden }
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if !self.hidden.load(Ordering::Relaxed) {
            match self.target {
                Target::Stdout => write_all(stdio::stdout(), buf)?,
                Target::Stderr => write_all(stdio::stderr(), buf)?,
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
