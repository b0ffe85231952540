// SPDX-License-Identifier: GPL-2.0

//! Being in a guest, as RCU and the accounting of CPU time see it.
//!
//! C headers: [`include/linux/context_tracking.h`](srctree/include/linux/context_tracking.h) and
//! [`include/linux/kvm_host.h`](srctree/include/linux/kvm_host.h)

use super::ffi;
use super::irqflags::{IrqDisabled, IrqSection};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::types::NotThreadSafe;

/// Keeps this CPU in a guest, as RCU and time accounting see it, while it lives.
///
/// # Examples
///
/// ```
/// irqflags::with_disabled(|irq| {
///     let guest = GuestContext::enter(irq.token());
///     run_the_guest();
///     drop(guest);
///     take_interrupts(irq);
/// });
/// ```
pub(crate) struct GuestContext<'a>(IrqDisabled<'a>);

impl<'a> GuestContext<'a> {
    /// Tells RCU and time accounting that this CPU goes into a guest.
    #[inline]
    pub(crate) fn enter(irq: IrqDisabled<'a>) -> Self {
        // SAFETY: Interrupts are off, by the witness; `drop` is the reverse.
        unsafe { ffi::loft_guest_enter_irqoff() };
        Self(irq)
    }

    /// Returns the proof that this CPU is in a guest.
    #[inline(always)]
    pub(crate) fn token(&mut self) -> InGuest<'_> {
        // SAFETY: `enter` has told so, interrupts are off as long as this lives, and the mutable
        // borrow makes it the only proof.
        unsafe { InGuest::assume() }
    }
}

impl Drop for GuestContext<'_> {
    #[inline]
    fn drop(&mut self) {
        let _irq = self.0;
        // SAFETY: The reverse of `enter`, with interrupts still off, by the witness.
        unsafe { ffi::loft_guest_exit_irqoff() };
    }
}

/// Proves that this CPU is in a guest for RCU, with interrupts off, for `'a`.
///
/// It has no size, and cannot be copied: whoever has it is the only one.
///
/// # Invariants
///
/// This CPU is between [`GuestContext::enter`] and its end, with interrupts off, for as long as
/// `'a` lasts; there is no other value of this type for it, and no [`RcuActive`].
pub(crate) struct InGuest<'a>(PhantomData<&'a mut ()>, NotThreadSafe);

impl<'a> InGuest<'a> {
    /// Takes it for granted that this CPU is in a guest, as in the vector of its exceptions.
    ///
    /// # Safety
    ///
    /// The type's invariants hold for the lifetime that the caller gives the result.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> InGuest<'a> {
        // INVARIANT: By the requirement.
        InGuest(PhantomData, NotThreadSafe)
    }
}

/// Makes RCU watch this CPU again while it lives, though a guest is in it.
///
/// In a fast exit it is around everything of the kernel's that may be traced or read under RCU,
/// so around every lock. Only CPUs that are kept free of the tick (nohz_full) are not watched in
/// guests: on all others this does nothing.
pub(crate) struct RcuActive<'a>(#[allow(dead_code)] InGuest<'a>);

/// Whether there are such CPUs. It is settled when the kernel boots.
static TRACKED: AtomicBool = AtomicBool::new(false);

/// Looks whether there are CPUs that RCU does not watch in guests; once, when the module is
/// loaded.
pub(crate) fn init() {
    // SAFETY: Reads a constant of the running kernel.
    let enabled = unsafe { ffi::loft_context_tracking_enabled() };
    TRACKED.store(enabled, Ordering::Relaxed);
}

impl<'a> RcuActive<'a> {
    /// Makes RCU watch this CPU.
    #[inline]
    pub(crate) fn new(guest: InGuest<'a>) -> Self {
        if TRACKED.load(Ordering::Relaxed) {
            // SAFETY: By the witness this CPU is in a guest for RCU and interrupts are off. It is
            // not undone yet by another `RcuActive`, which would have taken the witness.
            unsafe { ffi::loft_context_tracking_guest_exit() };
        }
        Self(guest)
    }
}

impl Drop for RcuActive<'_> {
    #[inline]
    fn drop(&mut self) {
        if TRACKED.load(Ordering::Relaxed) {
            // SAFETY: Balances `new`, with interrupts still off, by the witness.
            unsafe { ffi::loft_context_tracking_guest_enter() };
        }
    }
}

/// Takes the host's pending interrupts, then accounts the time that the guest ran.
///
/// Interrupts are on in between, so nobody may have a proof that they are off meanwhile.
#[inline]
pub(crate) fn take_interrupts(_irq: &mut IrqSection) {
    // SAFETY: Interrupts are off before and after, and by the mutable borrow nobody relies on it in
    // between, as what surrounds a section cannot be brought into it.
    unsafe { ffi::loft_guest_tick_irqoff() };
}
