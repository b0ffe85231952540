// SPDX-License-Identifier: GPL-2.0

//! The machine's CPUs.

use super::ffi;

/// Returns how many CPUs are online.
///
/// C header: [`include/linux/cpumask.h`](srctree/include/linux/cpumask.h)
pub(crate) fn online() -> u32 {
    // SAFETY: Reads one word.
    unsafe { ffi::loft_num_online_cpus() }
}

/// Interrupts every other CPU and waits until all have taken it. May sleep.
///
/// C header: [`include/linux/smp.h`](srctree/include/linux/smp.h)
pub(crate) fn interrupt_all() {
    extern "C" fn nothing(_: *mut core::ffi::c_void) {}
    // SAFETY: `nothing` may run in an interrupt, and is there as long as the call lasts. Where
    // interrupts were off the kernel would wait for ever and say so, but break no memory.
    unsafe { ffi::loft_on_each_cpu(Some(nothing)) };
}
