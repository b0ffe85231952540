// SPDX-License-Identifier: GPL-2.0

//! What has to be done before a guest is entered, and before its thread returns to userspace.
//!
//! C header: [`include/linux/entry-virt.h`](srctree/include/linux/entry-virt.h)
//!
//! # Examples
//!
//! ```
//! if entry_virt::work_pending() {
//!     entry_virt::handle_work()?;
//! }
//! irqflags::with_disabled(|irq| {
//!     if !entry_virt::work_pending_before_entry(irq.token()) {
//!         enter_the_guest(irq.token());
//!     }
//! });
//! entry_virt::leave_to_user();
//! ```

use super::ffi;
use super::irqflags::IrqDisabled;
use kernel::prelude::*;

/// Returns whether something (a signal, the scheduler, task work) has to be done before a guest
/// may be entered.
pub(crate) fn work_pending() -> bool {
    // SAFETY: Reads the current thread's flags.
    unsafe { ffi::loft_xfer_to_guest_mode_work_pending() }
}

/// Looks as [`work_pending`] does, for the last time before a guest is entered: nothing that was
/// put off may wait while it runs.
pub(crate) fn work_pending_before_entry(_irq: IrqDisabled<'_>) -> bool {
    // SAFETY: Interrupts are off, by the witness.
    unsafe { ffi::loft_xfer_to_guest_mode_work_pending_irqoff() }
}

/// Does the work that [`work_pending`] tells of. May sleep.
///
/// # Errors
///
/// `EINTR` if a signal waits for userspace.
pub(crate) fn handle_work() -> Result {
    // SAFETY: Has no requirement that concerns memory; a debug kernel reports callers that may not
    // sleep.
    kernel::error::to_result(unsafe { ffi::xfer_to_guest_mode_handle_work() })
}

/// Makes up for what entering guests kept from being done on the way to userspace (restartable
/// sequences): after the last guest that this thread entered in a system call.
pub(crate) fn leave_to_user() {
    // SAFETY: Sets a flag of the current thread.
    unsafe { ffi::loft_rseq_virt_userspace_exit() };
}
