// SPDX-License-Identifier: GPL-2.0

//! Locks that the kernel crate lacks: the raw spin lock taken with interrupts off, and the reader-writer spin lock.
//!
//! The lock order of loft, outermost first; a thread takes them in this order only:
//!
//! ```text
//! Vcpu::state      mutex      one vCPU's ioctls
//!   Vm::config     mutex      creating vCPUs and devices, memory slots
//!     VmGic::setup mutex      where and how large the interrupt controller is
//!     Stage2::mmu  rwlock     page faults read, mmu notifiers and slot changes write
//!       Vm::gic    raw, irq   interrupt controller state; also taken in a fast exit
//!     Shared::interface  spin  the CPU interface of a vCPU that does not run; nothing is taken inside
//!   Irqfds::state  mutex      irqfds, routing
//!     (the wait queue of an eventfd)  irq   held by whoever signals it
//!       Irqfd::route  raw, irq   where that one leads
//!         Vm::gic
//!         Vm::vcpus  raw, irq   finding vCPUs; nothing is taken inside
//! ```

use super::ffi;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use kernel::prelude::*;
use kernel::sync::LockClassKey;
use kernel::types::{NotThreadSafe, Opaque};

kernel::sync::global_lock! {
    // SAFETY: The module's init calls `init_vmids` before anything else runs.
    /// The next VMID to give out, see [`crate::vm::vmid`]. A static that owns no memory: nobody drops it when the module goes.
    pub(crate) unsafe(uninit) static NEXT_VMID: Mutex<u64> = 1;
}

/// Once, by the module's init.
pub(crate) fn init_vmids() {
    // SAFETY: The one call, before there is any VM.
    unsafe { NEXT_VMID.init() };
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
    pub(crate) fn lock(&self) -> RawGuard<'_, T> {
        // SAFETY: The lock was initialised in `new`.
        let flags = unsafe { ffi::loft_raw_spin_lock_irqsave(self.raw.get()) };
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
        unsafe { ffi::loft_raw_spin_unlock_irqrestore(self.lock.raw.get(), self.flags) };
    }
}

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
