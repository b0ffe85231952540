// SPDX-License-Identifier: GPL-2.0

//! Interrupts of the CPU that the current thread runs on.
//!
//! C header: [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h)

use super::ffi;
use super::preempt::PreemptDisabled;
use core::marker::PhantomData;
use kernel::types::NotThreadSafe;

/// Proves that this CPU takes no interrupt, so that the current thread stays on it too, for `'a`.
///
/// It has no size: to pass it by value costs nothing.
///
/// # Invariants
///
/// Interrupts are off for as long as `'a` lasts, and this value is on the CPU for which they are.
#[derive(Clone, Copy)]
pub(crate) struct IrqDisabled<'a>(PhantomData<&'a ()>, NotThreadSafe);

impl<'a> IrqDisabled<'a> {
    /// Takes it for granted that interrupts are off, which changes nothing about them.
    ///
    /// # Safety
    ///
    /// Interrupts are off on this CPU for as long as the lifetime that the caller gives the result.
    #[inline(always)]
    pub(super) unsafe fn assume() -> IrqDisabled<'a> {
        // INVARIANT: By the requirement.
        IrqDisabled(PhantomData, NotThreadSafe)
    }

    /// Returns the proof that the thread is not preempted either: the scheduler does not without
    /// an interrupt.
    #[inline(always)]
    pub(crate) fn preempt(self) -> PreemptDisabled<'a> {
        // SAFETY: By the invariant interrupts are off, and preemption is the work of one.
        unsafe { PreemptDisabled::assume() }
    }
}

/// Keeps this CPU's interrupts off while it lives.
///
/// As with `local_irq_save()`, what was saved first is restored last: guards, those of raw spin
/// locks too, are dropped in the reverse order.
///
/// # Invariants
///
/// `flags` is what this CPU had before the guard turned its interrupts off.
///
/// # Examples
///
/// ```
/// let guard = IrqGuard::new();
/// write_what_an_interrupt_handler_reads(guard.token());
/// ```
#[must_use = "interrupts are as they were as soon as the guard is dropped"]
pub(crate) struct IrqGuard {
    flags: usize,
    _not_send: NotThreadSafe,
}

impl IrqGuard {
    /// Turns this CPU's interrupts off. May be called in any context, and nested.
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            // INVARIANT: It returns what was there.
            // SAFETY: `drop`, on the same CPU as the thread stays here, restores it.
            flags: unsafe { ffi::loft_local_irq_save() },
            _not_send: NotThreadSafe,
        }
    }

    /// Returns the proof that interrupts are off.
    #[inline(always)]
    pub(crate) fn token(&self) -> IrqDisabled<'_> {
        // SAFETY: `new` has turned them off, and the borrow keeps `drop` from turning them on.
        unsafe { IrqDisabled::assume() }
    }
}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant the flags are this CPU's.
        unsafe { ffi::loft_local_irq_restore(self.flags) };
    }
}
