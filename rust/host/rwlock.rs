// SPDX-License-Identifier: GPL-2.0

//! The reader-writer spin lock.
//!
//! C header: [`include/linux/rwlock.h`](srctree/include/linux/rwlock.h)

use super::ffi;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use kernel::prelude::*;
use kernel::sync::LockClassKey;
use kernel::types::{NotThreadSafe, Opaque};

/// A reader-writer spin lock. It may be taken where sleeping is not allowed, but not with
/// interrupts off.
///
/// # Invariants
///
/// `raw` is an initialised `rwlock_t`, in its final place. `data` is reached only through a guard.
///
/// # Examples
///
/// ```
/// let lock = KBox::pin_init(RwLock::new(0, c"example", static_lock_class!()), GFP_KERNEL)?;
/// *lock.write() += 1;
/// pr_info!("{}\n", *lock.read());
/// ```
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
    /// Makes it with `data` in it; `name` and `key` are lockdep's.
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: The initializer's place is final, as it is pinned.
            // SAFETY: `slot` is valid for writes and is not used before this; name and key are
            // static.
            raw <- Opaque::ffi_init(|slot: *mut kernel::bindings::rwlock| unsafe {
                ffi::loft_rwlock_init(slot, name.as_char_ptr().cast(), key.as_ptr())
            }),
            data: UnsafeCell::new(data),
        })
    }

    /// Takes the lock together with other readers.
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: By the invariant it is initialised.
        unsafe { ffi::loft_read_lock(self.raw.get()) };
        // INVARIANT: It is held from here on.
        ReadGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Takes the lock alone.
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: By the invariant it is initialised.
        unsafe { ffi::loft_write_lock(self.raw.get()) };
        // INVARIANT: It is held from here on.
        WriteGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }
}

/// Proves that an [`RwLock`] is held, perhaps by others as well.
///
/// # Invariants
///
/// This thread holds `lock` for reading, until this is dropped.
pub(crate) struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    _not_send: NotThreadSafe,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: By the invariant nobody writes.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant this thread holds it for reading.
        unsafe { ffi::loft_read_unlock(self.lock.raw.get()) };
    }
}

/// Proves that an [`RwLock`] is held by nobody else.
///
/// # Invariants
///
/// This thread holds `lock` for writing, until this is dropped.
pub(crate) struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    _not_send: NotThreadSafe,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: By the invariant nobody else has access.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the invariant nobody else has access, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant this thread holds it for writing.
        unsafe { ffi::loft_write_unlock(self.lock.raw.get()) };
    }
}
