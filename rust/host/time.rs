// SPDX-License-Identifier: GPL-2.0

//! The host's clocks.

use super::ffi;

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> i64 {
    // SAFETY: May be called in any context.
    unsafe { kernel::bindings::ktime_get() }
}

/// CLOCK_REALTIME in nanoseconds, and the physical counter, at one moment; `None` if the host keeps time by something else.
pub(crate) fn real_with_counter() -> Option<(u64, u64)> {
    let (mut ns, mut counter) = (0, 0);
    // SAFETY: Both are valid for writes.
    unsafe { ffi::loft_real_time(&mut ns, &mut counter) }.then_some((ns, counter))
}

/// Whether the host counts how long threads wait for a CPU.
pub(crate) fn counts_run_delay() -> bool {
    // SAFETY: Says how the kernel was built.
    unsafe { ffi::loft_sched_info_on() }
}

/// How long the current thread has waited for a CPU although it could have run, in nanoseconds; 0 where that is not counted.
pub(crate) fn run_delay_ns() -> u64 {
    // SAFETY: Reads one word of the current thread; may be called in any context.
    unsafe { ffi::loft_run_delay() }
}
