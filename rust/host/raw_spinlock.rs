// SPDX-License-Identifier: GPL-2.0

//! The raw spin lock, taken with interrupts off.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use super::ffi;
use core::arch::asm;
use kernel::bindings;
use kernel::sync::lock::{Backend, Lock};

/// A raw spin lock that is held with this CPU's interrupts off, so that it may be taken in any
/// context, a fast exit included.
///
/// # Examples
///
/// ```
/// let lock = KBox::pin_init(
///     RawSpinLock::new(0, c"example", static_lock_class!()),
///     GFP_KERNEL,
/// )?;
/// *lock.lock() += 1;
/// ```
pub(crate) type RawSpinLock<T> = Lock<T, RawSpinLockIrqSaveBackend>;

/// The functions behind `raw_spin_lock_irqsave()` and its reverse.
///
/// In C they are macros, over these functions of the kernel's where it has them out of line (it
/// does if it can be preempted): a fast exit calls them without a detour.
#[cfg(not(CONFIG_INLINE_SPIN_LOCK_IRQSAVE))]
mod raw {
    use kernel::bindings::raw_spinlock;
    extern "C" {
        #[link_name = "_raw_spin_lock_irqsave"]
        pub(super) fn lock(lock: *mut raw_spinlock) -> usize;
        #[link_name = "_raw_spin_unlock_irqrestore"]
        pub(super) fn unlock(lock: *mut raw_spinlock, flags: usize);
    }
}
#[cfg(CONFIG_INLINE_SPIN_LOCK_IRQSAVE)]
mod raw {
    pub(super) use super::ffi::loft_raw_spin_lock_irqsave as lock;
    pub(super) use super::ffi::loft_raw_spin_unlock_irqrestore as unlock;
}

/// In place of the flags: interrupts were masked by PSTATE when the lock was taken, as they are in
/// an exit of a guest's that is answered in the vector. Then it changes nothing about them, nor
/// about preemption, which needs an interrupt.
const MASKED: usize = usize::MAX;

/// Returns whether PSTATE masks interrupts. Kernels that look for mistakes with locks are not
/// asked: they hear of each lock.
#[inline(always)]
fn is_masked() -> bool {
    const I: usize = 1 << 7;
    if cfg!(any(CONFIG_DEBUG_SPINLOCK, CONFIG_LOCKDEP, CONFIG_KCSAN)) {
        return false;
    }
    let daif: usize;
    // SAFETY: Reads a register.
    unsafe { asm!("mrs {}, daif", out(reg) daif, options(nomem, nostack, preserves_flags)) };
    daif & I != 0
}

/// Takes a raw spin lock by `raw_spin_lock_irqsave()`, or by less where interrupts are masked.
pub(crate) struct RawSpinLockIrqSaveBackend;

// SAFETY: A `raw_spinlock_t` has one owner at a time, and `relock` is the trait's, by `lock`.
unsafe impl Backend for RawSpinLockIrqSaveBackend {
    type State = bindings::raw_spinlock;
    /// What the CPU had in PSTATE.DAIF, or the GIC's priority mask, before; or [`MASKED`].
    type GuardState = usize;

    unsafe fn init(
        ptr: *mut Self::State,
        name: *const kernel::ffi::c_char,
        key: *mut bindings::lock_class_key,
    ) {
        // SAFETY: By the requirements `ptr` is valid for writes, and the others for ever.
        unsafe { ffi::loft_raw_spin_lock_init(ptr, name.cast(), key) };
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> usize {
        if is_masked() {
            // SAFETY: By the requirement the lock is initialised; nothing interrupts this CPU.
            unsafe { ffi::loft_raw_spin_lock_masked(ptr) };
            return MASKED;
        }
        // SAFETY: By the requirement the lock is initialised.
        unsafe { raw::lock(ptr) }
    }

    unsafe fn try_lock(ptr: *mut Self::State) -> Option<usize> {
        let mut flags = 0;
        // SAFETY: By the requirement the lock is initialised; `flags` is valid for writes.
        unsafe { ffi::loft_raw_spin_trylock_irqsave(ptr, &mut flags) }.then_some(flags)
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, flags: &usize) {
        if *flags == MASKED {
            // SAFETY: By the requirement the caller owns the lock, which it has taken so.
            unsafe { ffi::loft_raw_spin_unlock_masked(ptr) };
            return;
        }
        // SAFETY: By the requirement the caller owns the lock, and `flags` is what taking it
        // returned.
        unsafe { raw::unlock(ptr, *flags) };
    }

    #[inline(always)]
    unsafe fn assert_is_held(_ptr: *mut Self::State) {
        #[cfg(CONFIG_LOCKDEP)]
        // SAFETY: By the requirement the lock is initialised.
        unsafe {
            ffi::loft_raw_spin_assert_is_held(_ptr)
        };
    }
}
