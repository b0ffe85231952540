// SPDX-License-Identifier: GPL-2.0

//! The mutex that a killed process does not wait for.

use super::ffi;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use kernel::prelude::*;
use kernel::sync::LockClassKey;
use kernel::types::{NotThreadSafe, Opaque};

/// A mutex whose wait a fatal signal ends.
///
/// C header: [`include/linux/mutex.h`](srctree/include/linux/mutex.h)
#[pin_data]
pub(crate) struct KillableMutex<T> {
    #[pin]
    raw: Opaque<kernel::bindings::mutex>,
    data: UnsafeCell<T>,
}

// SAFETY: The data is reached by one thread at a time, through the guard.
unsafe impl<T: Send> Sync for KillableMutex<T> {}
// SAFETY: A lock that nobody holds may move between threads as its data may.
unsafe impl<T: Send> Send for KillableMutex<T> {}

impl<T> KillableMutex<T> {
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes and is not used before this; name and key are static.
            raw <- Opaque::ffi_init(|slot: *mut kernel::bindings::mutex| unsafe {
                ffi::loft_mutex_init(slot.cast(), name.as_char_ptr().cast(), key.as_ptr())
            }),
            data: UnsafeCell::new(data),
        })
    }

    /// Takes the lock; may sleep. `EINTR`: the process is being killed.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>> {
        // SAFETY: The lock was initialised in `new`.
        kernel::error::to_result(unsafe { ffi::loft_mutex_lock_killable(self.raw.get().cast()) })?;
        Ok(MutexGuard {
            lock: self,
            _not_send: NotThreadSafe,
        })
    }
}

/// Proof that a [`KillableMutex`] is held.
pub(crate) struct MutexGuard<'a, T> {
    lock: &'a KillableMutex<T>,
    _not_send: NotThreadSafe,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: The lock is held.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The lock is held, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: This guard holds the lock.
        unsafe { ffi::loft_mutex_unlock(self.lock.raw.get().cast()) };
    }
}
