// SPDX-License-Identifier: GPL-2.0

//! The raw spin lock, taken with interrupts off.

use super::ffi;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use kernel::prelude::*;
use kernel::sync::LockClassKey;
use kernel::types::{NotThreadSafe, Opaque};

/// raw_spin_lock_irqsave() and its reverse. In C they are macros, over these functions of the kernel's where it has them out
/// of line (it does if it can be preempted): a fast exit calls them without a detour.
#[cfg(not(CONFIG_INLINE_SPIN_LOCK_IRQSAVE))]
mod raw_lock {
    use kernel::bindings::raw_spinlock;
    extern "C" {
        #[link_name = "_raw_spin_lock_irqsave"]
        pub(super) fn lock(lock: *mut raw_spinlock) -> usize;
        #[link_name = "_raw_spin_unlock_irqrestore"]
        pub(super) fn unlock(lock: *mut raw_spinlock, flags: usize);
    }
}
#[cfg(CONFIG_INLINE_SPIN_LOCK_IRQSAVE)]
mod raw_lock {
    pub(super) use super::ffi::loft_raw_spin_lock_irqsave as lock;
    pub(super) use super::ffi::loft_raw_spin_unlock_irqrestore as unlock;
}

/// A raw spin lock that is held with this CPU's interrupts off. It may be taken in any context, a fast exit included.
///
/// C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)
#[pin_data]
pub(crate) struct RawSpinLock<T> {
    #[pin]
    raw: Opaque<kernel::bindings::raw_spinlock>,
    data: UnsafeCell<T>,
}

// SAFETY: The data is reached by one thread at a time, through the guard.
unsafe impl<T: Send> Sync for RawSpinLock<T> {}
// SAFETY: A lock that nobody holds may move between threads as its data may.
unsafe impl<T: Send> Send for RawSpinLock<T> {}

impl<T> RawSpinLock<T> {
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes and is not used before this; name and key are static.
            raw <- Opaque::ffi_init(|slot| unsafe {
                ffi::loft_raw_spin_lock_init(slot, name.as_char_ptr().cast(), key.as_ptr())
            }),
            data: UnsafeCell::new(data),
        })
    }

    /// Takes the lock; interrupts stay off until the guard is dropped.
    #[inline]
    pub(crate) fn lock(&self) -> RawGuard<'_, T> {
        // SAFETY: The lock was initialised in `new`.
        let flags = unsafe { raw_lock::lock(self.raw.get()) };
        RawGuard {
            lock: self,
            flags,
            _not_send: NotThreadSafe,
        }
    }
}

/// Proof that the lock is held.
pub(crate) struct RawGuard<'a, T> {
    lock: &'a RawSpinLock<T>,
    flags: usize,
    _not_send: NotThreadSafe,
}

impl<T> Deref for RawGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: The lock is held.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for RawGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The lock is held, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for RawGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: This guard holds the lock, and `flags` is what taking it returned.
        unsafe { raw_lock::unlock(self.lock.raw.get(), self.flags) };
    }
}
