// SPDX-License-Identifier: GPL-2.0

//! Making another CPU leave its guest.

use super::ffi;

/// Interrupts `cpu`, for nothing but that the interrupt arrives. In any context, a fast exit included.
///
/// Each CPU has one of these at most on its way to it: a second one serves nobody, for the first has not been taken yet, so
/// the CPU that takes it sees what the second caller wrote before. (This is why it is kept by CPU and not by vCPU: one
/// that is on its way to a vCPU's former CPU does not serve who wants to interrupt it on its present one.)
///
/// C header: [`include/linux/smp.h`](srctree/include/linux/smp.h)
pub(crate) fn interrupt(cpu: u32) {
    // SAFETY: May be called in any context; a CPU that does not exist, or is offline, runs no guest.
    unsafe { ffi::loft_kick(cpu) };
}
