// SPDX-License-Identifier: GPL-2.0

//! Locks that the kernel crate lacks: the raw spin lock taken with interrupts off, the reader-writer spin lock, and the mutex
//! that a killed process does not wait for.
//!
//! The lock order of loft, outermost first; a thread takes them in this order only:
//!
//! ```text
//! Vm::making_vcpu  mutex      creating a vCPU
//! Vcpu::state      mutex      one vCPU's ioctls
//!   Vm::config     mutex      creating vCPUs and devices, memory slots
//!     VmGic::setup mutex      where and how large the interrupt controller is
//!     Its::model   mutex      one ITS's tables and registers; the guest's memory is read and written inside
//!       VmGic::making_lpis mutex  making a block of LPIs; nothing is taken inside
//!       Its::events  raw, irq   its translations
//!         Gic::shared
//!     Stage2::mmu  rwlock     page faults read, mmu notifiers and slot changes write
//!     Shared::interface  spin  the CPU interface of a vCPU that does not run; nothing is taken inside
//!     NEXT_VMID    mutex      handing out VMIDs; interrupts all CPUs inside
//!     Gic::shared  raw, irq   the interrupts that all vCPUs share
//!       Gic::bank  raw, irq   one vCPU's interrupts; never two of them, nothing is taken inside. Both also in a fast exit
//!   Irqfds::state  mutex      irqfds, routing
//!     (the wait queue of an eventfd)  irq   held by whoever signals it
//!       Irqfd::route  raw, irq   where that one leads
//!         Its::events raw, irq   for a message
//!           Gic::shared
//!     Vm::vcpus    raw, irq   finding vCPUs; nothing is taken inside
//! ```

use super::ffi;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use kernel::prelude::*;
use kernel::sync::LockClassKey;
use kernel::types::{NotThreadSafe, Opaque};

kernel::sync::global_lock! {
    /// The next VMID of the current generation to be handed out (`vm::vmid`).
    // SAFETY: Initialised by `init_statics`, which the module calls before it can have any VM.
    pub(crate) unsafe(uninit) static NEXT_VMID: Mutex<u64> = 1;
}

/// Once, when the module is loaded.
pub(crate) fn init_statics() {
    // SAFETY: Called once.
    unsafe { NEXT_VMID.init() };
}

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
