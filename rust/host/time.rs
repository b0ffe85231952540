// SPDX-License-Identifier: GPL-2.0

//! The host's clocks.
//!
//! C headers: [`include/linux/timekeeping.h`](srctree/include/linux/timekeeping.h) and
//! [`include/linux/sched/stat.h`](srctree/include/linux/sched/stat.h)
//!
//! # Examples
//!
//! ```
//! let begun = time::monotonic_ns();
//! work();
//! let ns = time::monotonic_ns() - begun;
//! ```

use super::ffi;
use core::ffi::c_int;
use kernel::bindings;

/// Returns CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> i64 {
    // SAFETY: May be called in any context.
    unsafe { bindings::ktime_get() }
}

/// Returns CLOCK_REALTIME in nanoseconds, and the physical counter, at one moment; `None` if the
/// host keeps time by something else.
pub(crate) fn real_with_counter() -> Option<(u64, u64)> {
    let mut snapshot = bindings::system_time_snapshot::default();
    // SAFETY: The snapshot is valid for writes.
    unsafe { bindings::ktime_get_snapshot_id(bindings::CLOCK_REALTIME as c_int, &mut snapshot) };
    (snapshot.cs_id == bindings::clocksource_ids_CSID_ARM_ARCH_COUNTER)
        .then_some((snapshot.systime as u64, snapshot.cycles))
}

/// Returns whether the host counts how long threads wait for a CPU.
pub(crate) fn counts_run_delay() -> bool {
    // SAFETY: Says how the kernel was built.
    unsafe { ffi::loft_sched_info_on() }
}

/// Returns how long the current thread has waited for a CPU although it could have run, in
/// nanoseconds; 0 where that is not counted.
pub(crate) fn run_delay_ns() -> u64 {
    // SAFETY: Reads one word of the current thread; may be called in any context.
    unsafe { ffi::loft_run_delay() }
}
