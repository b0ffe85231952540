// SPDX-License-Identifier: GPL-2.0

//! Memory that is broken.

use super::ffi;
use crate::model::types::HostPa;

/// Tells the current thread that the memory at `address` is broken, as its own access would have (SIGBUS).
pub(crate) fn report_poison(address: u64) {
    // SAFETY: Sends a signal to the current thread.
    unsafe { ffi::loft_report_poison(address as usize) };
}

/// The hardware has found the page at `physical` broken when the guest of the current thread used it: says so in the log, and
/// lets the kernel take the page out of use, which tells whoever has it mapped.
pub(crate) fn report_error(physical: HostPa) {
    // SAFETY: May be called wherever a work may be queued; the kernel judges for itself what is at the address.
    unsafe { ffi::loft_report_error(physical.raw()) };
}

/// A hardware error that nobody knows the extent of: the machine must not go on. Does not return.
pub(crate) fn uncontained_error(esr: u64) {
    // SAFETY: May be called in any context.
    unsafe { ffi::loft_uncontained_error(esr) };
}
