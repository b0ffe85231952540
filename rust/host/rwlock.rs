// SPDX-License-Identifier: GPL-2.0

//! The reader-writer spin lock.

use super::ffi;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use kernel::prelude::*;
use kernel::sync::LockClassKey;
use kernel::types::{NotThreadSafe, Opaque};

/// A reader-writer spin lock. It may be taken where sleeping is not allowed, but not with interrupts off.
///
/// C header: [`include/linux/rwlock.h`](srctree/include/linux/rwlock.h)
#[pin_data]
pub(crate) struct RwLock<T> {
    #[pin]
    raw: Opaque<kernel::bindings::rwlock>,
    data: UnsafeCell<T>,
}

// SAFETY: Readers share `&T` between threads, a writer has `&mut T` alone.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}
// SAFETY: A lock that nobody holds may move between threads as its data may.
unsafe impl<T: Send> Send for RwLock<T> {}

impl<T> RwLock<T> {
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes and is not used before this; name and key are static.
            raw <- Opaque::ffi_init(|slot: *mut kernel::bindings::rwlock| unsafe {
                ffi::loft_rwlock_init(slot.cast(), name.as_char_ptr().cast(), key.as_ptr())
            }),
            data: UnsafeCell::new(data),
        })
    }

    /// Takes the lock together with other readers.
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: The lock was initialised in `new`.
        unsafe { ffi::loft_read_lock(self.raw.get().cast()) };
        ReadGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Takes the lock alone.
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: The lock was initialised in `new`.
        unsafe { ffi::loft_write_lock(self.raw.get().cast()) };
        WriteGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }
}

/// Proof that an [`RwLock`] is held, perhaps by others as well.
pub(crate) struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    _not_send: NotThreadSafe,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: The lock is held for reading, so nobody has a `&mut T`.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: This guard holds the lock.
        unsafe { ffi::loft_read_unlock(self.lock.raw.get().cast()) };
    }
}

/// Proof that an [`RwLock`] is held by nobody else.
pub(crate) struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    _not_send: NotThreadSafe,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: The lock is held.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The lock is held for writing, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: This guard holds the lock.
        unsafe { ffi::loft_write_unlock(self.lock.raw.get().cast()) };
    }
}
