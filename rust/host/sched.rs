// SPDX-License-Identifier: GPL-2.0

//! The scheduler, as a thread sees it that may have to give its CPU away.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)
//!
//! # Examples
//!
//! ```
//! while !done() {
//!     if sched::is_dying() {
//!         return Err(EINTR);
//!     }
//!     a_bounded_part();
//!     sched::cond_resched();
//! }
//! ```

use super::ffi;
use kernel::cpu::CpuId;

/// Returns whether the scheduler wants this CPU for another thread.
pub(crate) fn need_resched() -> bool {
    // SAFETY: Reads the flags of the current thread.
    unsafe { ffi::loft_need_resched() }
}

/// Returns whether no other thread waits for this CPU.
pub(crate) fn has_no_other_thread() -> bool {
    // SAFETY: Reads one word of this CPU's run queue.
    unsafe { ffi::loft_single_task_running() }
}

/// Returns whether an interrupt comes for each thread that wants this CPU, at the latest with the
/// host's tick: not on a CPU that is nohz_full, which may have no tick, nor where the kernel leaves
/// preemption to the tick (PREEMPT_LAZY).
///
/// C headers: [`include/linux/tick.h`](srctree/include/linux/tick.h),
/// [`include/linux/preempt.h`](srctree/include/linux/preempt.h)
pub(crate) fn tick_preempts() -> bool {
    // SAFETY: Reads this CPU's bit in a mask that is fixed at boot.
    let has_tick = || unsafe { !ffi::loft_tick_nohz_full_cpu(CpuId::current().into()) };
    !cfg!(CONFIG_PREEMPT_LAZY) && has_tick()
}

/// Returns whether the current process is being killed: nobody waits for what it does.
pub(crate) fn is_dying() -> bool {
    // SAFETY: Reads the current thread's signals.
    unsafe { ffi::loft_fatal_signal_pending() }
}

/// Lets another thread run where one is due. May sleep.
pub(crate) fn cond_resched() {
    // SAFETY: Has no requirement that concerns memory; a debug kernel reports callers that may not
    // sleep.
    unsafe { ffi::loft_cond_resched() };
}

/// Gives this CPU to another thread that can run. May sleep.
pub(crate) fn yield_now() {
    // SAFETY: Has no requirement that concerns memory; a debug kernel reports callers that may not
    // sleep.
    unsafe { kernel::bindings::yield_() };
}
