// SPDX-License-Identifier: Apache-2.0
//! A device's thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread::{Builder, JoinHandle};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::interrupt::Interrupt;
use crate::ring::RingError;

/// A running thread. Dropping it asks the thread to stop and waits until it has.
#[derive(Debug)]
pub struct Worker {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs `body` on a thread called `name`. It gets the eventfd that says when to stop, and returns soon after that is
    /// readable. If it returns an error, the device needs a reset, and the driver is told so.
    pub fn spawn<F>(name: &str, interrupt: Interrupt, body: F) -> io::Result<Self>
    where
        F: FnOnce(&EventFd) -> Result<(), RingError> + Send + 'static,
    {
        let stop = EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        let stopped = stop.try_clone()?;
        let title = name.to_owned();
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = body(&stopped) {
                log::warn!("{title}: {error}; the device waits for a reset");
                interrupt.needs_reset();
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but that it panicked, which was printed.
            let _ = thread.join();
        }
    }
}

/// An eventfd as the rest of the standard library knows descriptors.
pub(crate) fn fd(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: `event` owns the descriptor and closes it only when dropped, and the result borrows `event`.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// Waits until one of `fds` is ready and returns, in the same order, which of them are. Errors and hang-ups count as ready.
pub(crate) fn wait<const N: usize>(fds: [(BorrowedFd<'_>, PollFlags); N]) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags));
    wait_for(&mut polled)?;
    Ok(polled.map(|fd| !fd.revents().is_empty()))
}

/// Whether `fd` is ready now.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, flags)];
    match poll(&mut polled, Some(&Timespec::default())) {
        Err(Errno::INTR) => Ok(false),
        result => Ok(result? > 0),
    }
}

/// Waits until one of `fds` is ready.
pub(crate) fn wait_for(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(fds, None) {
            Err(Errno::INTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_dropped_worker_has_ended() {
        let ended = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&ended);
        let worker = Worker::spawn("test", Interrupt::new().unwrap(), move |stop| {
            wait([(fd(stop), PollFlags::IN)])?;
            std::thread::sleep(Duration::from_millis(50));
            theirs.store(true, Ordering::SeqCst);
            Ok(())
        });
        drop(worker.unwrap());
        assert!(ended.load(Ordering::SeqCst));
    }
}
