// SPDX-License-Identifier: Apache-2.0
//! Waiting until the host has space for what a guest writes, instead of failing the request.

use std::fmt;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What stops the guest: the disk's name and the reason.
type Pause = dyn Fn(&str, &io::Error) + Send + Sync;

/// Where a disk's thread waits while the host is full.
///
/// Flushes do not wait: after a failed one the host may have dropped what it could not write, and
/// the next one would succeed.
pub struct Space {
    pause: Box<Pause>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    retries: u64,
    /// Whether the device is being reset, which must not wait for space.
    reset: bool,
}

impl fmt::Debug for Space {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Space").finish_non_exhaustive()
    }
}

impl Space {
    /// Calls `pause` with the disk's name and the reason each time before it waits: it stops the
    /// guest and tells the user. It does not wait itself.
    pub fn new(pause: impl Fn(&str, &io::Error) + Send + Sync + 'static) -> Self {
        Self { pause: Box::new(pause), inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Has the write that waits be tried once more.
    pub fn retry(&self) {
        self.inner().retries += 1;
        self.changed.notify_all();
    }

    /// Makes the write that waits fail, and every later one that would, if `reset`; has them wait
    /// again if not.
    pub(super) fn set_reset(&self, reset: bool) {
        self.inner().reset = reset;
        self.changed.notify_all();
    }

    /// Whether the device is being reset, so that the guest learns nothing of what fails.
    pub(super) fn is_reset(&self) -> bool {
        self.inner().reset
    }

    /// Tries `write`, to the disk that is called `disk`, until it does not fail for want of space.
    pub(super) fn wait_for<T>(&self, disk: &str, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if is_full(&error) && !self.is_reset() => {
                    let before = self.inner().retries;
                    (self.pause)(disk, &error);
                    let waits = |inner: &mut Inner| inner.retries == before && !inner.reset;
                    let inner = self.changed.wait_while(self.inner(), waits).unwrap_or_else(PoisonError::into_inner);
                    if inner.reset {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is the file system, or the user's share of it, that is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{mpsc, Arc};

    fn full() -> io::Error {
        io::Error::from_raw_os_error(libc::ENOSPC)
    }

    #[test]
    fn a_write_waits_until_there_is_space() {
        let (paused, was_paused) = mpsc::channel();
        let space = Arc::new(Space::new(move |_, error| paused.send(error.raw_os_error()).unwrap()));
        let left = Arc::new(AtomicU32::new(2));
        let (theirs, tries) = (space.clone(), left.clone());
        let writer = std::thread::spawn(move || {
            theirs.wait_for("disk", || match tries.fetch_sub(1, Ordering::SeqCst) {
                0 => Ok("written"),
                _ => Err(full()),
            })
        });
        for left_after in [1, 0] {
            assert_eq!(was_paused.recv().unwrap(), Some(libc::ENOSPC));
            assert_eq!(left.load(Ordering::SeqCst), left_after, "it is not tried before somebody asks for it");
            space.retry();
        }
        assert_eq!(writer.join().unwrap().unwrap(), "written");
    }

    #[test]
    fn a_reset_does_not_wait() {
        let (paused, was_paused) = mpsc::channel();
        let space = Arc::new(Space::new(move |disk, _| paused.send(disk.to_owned()).unwrap()));
        let theirs = space.clone();
        let writer = std::thread::spawn(move || theirs.wait_for("disk a", || Err::<(), _>(full())));
        assert_eq!(was_paused.recv().unwrap(), "disk a");
        space.set_reset(true);
        assert_eq!(writer.join().unwrap().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert!(space.is_reset() && space.wait_for("disk a", || Err::<(), _>(full())).is_err());
        assert!(was_paused.try_recv().is_err(), "the guest is not paused for it");
    }

    #[test]
    fn other_errors_are_the_guests() {
        let space = Space::new(|_, _| panic!("the guest is paused"));
        let error = space.wait_for("disk", || Err::<(), _>(io::Error::from_raw_os_error(libc::EIO))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
}
