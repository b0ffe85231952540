// SPDX-License-Identifier: GPL-2.0

//! The machine's CPUs.
//!
//! # Examples
//!
//! ```
//! // Each CPU has seen the store when this returns.
//! generation.store(next, Relaxed);
//! cpu::interrupt_all();
//! ```

use super::ffi;
use super::preempt::PreemptDisabled;

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

/// Notes that `guest`, a number of the caller's choice, comes to this CPU. Returns the one that was
/// here last; 0 if none was since the module was loaded.
pub(crate) fn exchange_last_guest(guest: u64, _preempt: PreemptDisabled<'_>) -> u64 {
    // SAFETY: The thread stays on this CPU, by the witness.
    unsafe { ffi::loft_exchange_last_guest(guest) }
}
