// SPDX-License-Identifier: GPL-2.0

//! How often a guest was left, and why: counters for userspace (KVM_GET_STATS_FD).
//!
//! Each vCPU has its own, and only its own thread counts, so an increment is a load and a store. Exits that the vector answers
//! are counted by what they are, in one place for each kind. `exits` counts what the vector did not answer, and so did cost
//! the way out to the run loop: KVM's meaning of that name.

use core::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Count {
    /// The guest was left for the run loop.
    Exits,
    /// HVCs, wherever they are answered, like all down to the interrupts.
    Hvc,
    Sysreg,
    Wfe,
    Wfi,
    Abort,
    Irq,
    /// Of the exits those by a system register,
    SysregLeft,
    /// by an access to memory or a device,
    AbortLeft,
    /// by an interrupt.
    IrqLeft,
    /// Stage 2 got a page.
    Fault,
    /// The guest's floating point registers were fetched.
    FloatingPoint,
    /// A store signalled an ioeventfd.
    Ioeventfd,
    /// KVM_RUN returned for a device in userspace,
    MmioUser,
    /// or for a signal.
    Signal,
}

/// Their names, in the order of [`Count`]; those that KVM has too are KVM's.
pub(crate) const NAMES: [&str; 15] = [
    "exits",
    "hvc_exit_stat",
    "sysreg_exit_stat",
    "wfe_exit_stat",
    "wfi_exit_stat",
    "abort_exit_stat",
    "irq_exit_stat",
    "sysreg_exits_left",
    "abort_exits_left",
    "irq_exits_left",
    "stage2_faults",
    "fp_loads",
    "ioeventfd_signals",
    "mmio_exit_user",
    "signal_exits",
];

const _: () = assert!(NAMES.len() == Count::Signal as usize + 1);

/// A vCPU's counters.
pub(crate) struct Stats([AtomicU64; NAMES.len()]);

impl Stats {
    pub(crate) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; NAMES.len()])
    }

    /// One more. To be called by the vCPU's own thread.
    #[inline(always)]
    pub(crate) fn count(&self, what: Count) {
        if let Some(counter) = self.0.get(what as usize) {
            counter.store(
                counter.load(Ordering::Relaxed).wrapping_add(1),
                Ordering::Relaxed,
            );
        }
    }

    /// All of them now, in the order of [`NAMES`].
    pub(crate) fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed))
    }
}
