// SPDX-License-Identifier: GPL-2.0

//! The host's clocks.

use super::ffi;

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> i64 {
    // SAFETY: May be called in any context.
    unsafe { kernel::bindings::ktime_get() }
}

/// CLOCK_REALTIME in nanoseconds, and the physical counter, at one moment.
pub(crate) fn real_with_counter() -> (u64, u64) {
    let mut counter = 0;
    // SAFETY: `counter` is valid for writes.
    let ns = unsafe { ffi::loft_real_time(&mut counter) };
    (ns, counter)
}
