// SPDX-License-Identifier: GPL-2.0

//! The CPU that this thread runs on: staying on it, and its interrupts.

use super::ffi;
use kernel::types::NotThreadSafe;

/// While this lives, the thread is not preempted and stays on its CPU.
pub(crate) struct Pinned(NotThreadSafe);

impl Pinned {
    pub(crate) fn new() -> Self {
        // SAFETY: May be called in any context; undone once, in `drop`.
        unsafe { ffi::loft_preempt_disable() };
        Self(NotThreadSafe)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: Balances `new`.
        unsafe { ffi::loft_preempt_enable() };
    }
}

/// While this lives, this CPU takes no interrupt, so the thread stays on it too.
pub(crate) struct IrqOff {
    flags: usize,
    _not_send: NotThreadSafe,
}

impl IrqOff {
    pub(crate) fn new() -> Self {
        // SAFETY: May be called in any context; undone once, in `drop`.
        let flags = unsafe { ffi::loft_local_irq_save() };
        Self {
            flags,
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for IrqOff {
    fn drop(&mut self) {
        // SAFETY: `flags` is what `new` saved.
        unsafe { ffi::loft_local_irq_restore(self.flags) };
    }
}

/// The number of the CPU that this runs on, as the kernel counts them.
pub(crate) fn current() -> u32 {
    // SAFETY: Reads one word of per-CPU data.
    unsafe { ffi::loft_smp_processor_id() }
}

/// One more than the highest number of a CPU.
pub(crate) fn count() -> u32 {
    // SAFETY: Reads a constant of the running kernel.
    unsafe { ffi::loft_nr_cpu_ids() }
}

/// How many CPUs are online.
pub(crate) fn online() -> u32 {
    // SAFETY: Reads one word.
    unsafe { ffi::loft_num_online_cpus() }
}

/// Whether the scheduler wants this CPU for another thread.
pub(crate) fn need_resched() -> bool {
    // SAFETY: Reads the flags of the current thread.
    unsafe { ffi::loft_need_resched() }
}

/// Whether no other thread wants this CPU, not even later.
pub(crate) fn has_no_other_thread() -> bool {
    // SAFETY: Reads one word of this CPU's run queue.
    unsafe { ffi::loft_single_task_running() }
}

/// Whether the current process is being killed: nobody waits for what it does.
pub(crate) fn is_dying() -> bool {
    // SAFETY: Reads the current thread's signals.
    unsafe { ffi::loft_fatal_signal_pending() }
}

/// Lets another thread run where one is due. The caller holds no spin lock.
pub(crate) fn cond_resched() {
    // SAFETY: The callers are preemptible contexts.
    unsafe { ffi::loft_cond_resched() };
}

/// Gives this CPU to another thread that can run.
pub(crate) fn yield_now() {
    // SAFETY: The callers are preemptible contexts.
    unsafe { ffi::loft_yield() };
}

/// Interrupts every other CPU and waits until all have taken it. The caller may sleep.
pub(crate) fn interrupt_all() {
    extern "C" fn nothing(_: *mut core::ffi::c_void) {}
    // SAFETY: `nothing` may run in interrupt context; interrupts are on here.
    unsafe { ffi::loft_on_each_cpu(Some(nothing)) };
}
