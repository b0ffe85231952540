// SPDX-License-Identifier: Apache-2.0
//! A device's thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{mpsc, OnceLock};
use std::thread::{Builder, JoinHandle};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::interrupt::Interrupt;
use crate::ring::RingError;

/// What each thread calls first, with its name.
pub type Entry = fn(&str);

type Body = Box<dyn FnOnce() + Send>;

/// A thread that is to be started: its name, what it does, and who wants to know.
type Order = (String, Body, mpsc::Sender<io::Result<JoinHandle<()>>>);

/// The way to the thread that starts the others.
static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();

/// Starts a thread, called `starter`, that starts all devices' threads: then a vCPU's thread, which
/// finds that a driver is there, needs no right to start any. Each calls `entry` first. To be
/// called once, before the first device is activated; else whoever activates a device starts its
/// thread.
pub fn start_starter(entry: Entry) -> io::Result<()> {
    let (orders, to_do) = mpsc::channel::<Order>();
    Builder::new().name("starter".into()).spawn(move || {
        entry("starter");
        for (name, body, answer) in to_do {
            let title = name.clone();
            let thread = Builder::new().name(name).spawn(move || {
                entry(&title);
                body();
            });
            // Who does not wait for the answer has ended.
            let _ = answer.send(thread);
        }
    })?;
    STARTER.set(orders).map_err(|_| io::ErrorKind::AlreadyExists.into())
}

fn start(name: &str, body: Body) -> io::Result<JoinHandle<()>> {
    let Some(starter) = STARTER.get() else { return Builder::new().name(name.to_owned()).spawn(body) };
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let (answer, result) = mpsc::channel();
    starter.send((name.to_owned(), body, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

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
        let body = move || {
            if let Err(error) = body(&stopped) {
                log::warn!("{title}: {error}; the device waits for a reset");
                interrupt.needs_reset();
            }
        };
        let thread = start(name, Box::new(body))?;
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
