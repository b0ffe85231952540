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

/// A stretch of code with this CPU's interrupts off: what [`with_disabled`] runs.
///
/// # Invariants
///
/// It is there only while its `body` runs, on the thread and CPU that it was made on, with
/// interrupts off but for what [`take_interrupts`](super::context_tracking::take_interrupts) does
/// while it has this mutably.
pub(crate) struct IrqSection(NotThreadSafe);

impl IrqSection {
    /// Returns the proof that interrupts are off.
    #[inline(always)]
    pub(crate) fn token(&self) -> IrqDisabled<'_> {
        // SAFETY: By the invariant, and the borrow keeps others from having it mutably.
        unsafe { IrqDisabled::assume() }
    }
}

/// Runs `body` with this CPU's interrupts off. May be called in any context, and nested.
///
/// As with `local_irq_save()`, what was saved first has to be restored last. So sections can only
/// be nested, and no guard of a raw spin lock can be taken into one or out of it: as those are not
/// `Send`, nothing that goes in or comes out may be.
///
/// # Examples
///
/// ```
/// let old = irqflags::with_disabled(|irq| replace_what_an_interrupt_handler_reads(irq.token()));
/// ```
#[inline(always)]
pub(crate) fn with_disabled<R: Send>(body: impl FnOnce(&mut IrqSection) -> R + Send) -> R {
    // SAFETY: It is restored below, on this CPU, as the thread stays on it.
    let flags = unsafe { ffi::loft_local_irq_save() };
    // INVARIANT: They are off, and the reference cannot outlive `body`.
    let ret = body(&mut IrqSection(NotThreadSafe));
    // SAFETY: The flags are this CPU's, from before `body`, which has left no other to be restored.
    unsafe { ffi::loft_local_irq_restore(flags) };
    ret
}
