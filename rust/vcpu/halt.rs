// SPDX-License-Identifier: GPL-2.0

//! Where a guest's WFI waits: in the vector, or by way of the host's scheduler.
//!
//! To put a vCPU's thread to sleep and to wake it costs thousands of instructions, and most waits
//! end within microseconds. So while no other thread wants the CPU, a WFI is executed where it
//! arrived, at EL2, with the guest still in the CPU and interrupts masked. Whoever has something
//! for the guest finds its vCPU in the guest and sends an SGI, and the guest's own timer is in the
//! CPU: either ends the WFI and is served like an exit, without the way out.
//!
//! # What ends a wait
//!
//! Any interrupt. One that is not the guest's sends the thread to the host, which takes it and then
//! puts the vCPU to sleep. A signal and a request to this vCPU come with an interrupt. A thread
//! that becomes runnable may not: where the kernel leaves preemption to its tick (PREEMPT_LAZY)
//! whoever wakes one up on this CPU only sets a flag. So with FEAT_WFxT a wait is cut in pieces of
//! 50 us and looks for other threads in between, which also bounds it: by the module's parameter
//! `wait_us`, or by what the VM was given with KVM_CAP_HALT_POLL. Without FEAT_WFxT a WFI waits
//! here only where each thread that wants the CPU brings an interrupt, and the CPU has a tick,
//! which bounds it then.
//!
//! # What it costs
//!
//! Unlike a poll it executes nothing, but the host takes the CPU for busy meanwhile, and it is in
//! no deeper idle state than WFI's. A guest that waits long would keep it there for nothing. So
//! waits that did not end with something for the guest make the next ones go to the host at once:
//! 1, 3, 7, ... 63.

/// How worthwhile a vCPU's waits in the vector are.
#[derive(Clone, Copy, Default)]
pub(crate) struct Halt {
    /// How many in a row were not.
    in_vain: u8,
    /// So many more WFIs go to the host at once.
    skip: u8,
}

impl Halt {
    /// After this many in a row the number of WFIs that are skipped no longer doubles.
    const MAX_IN_VAIN: u8 = 6;

    /// Returns whether the next WFI should wait in the vector.
    pub(crate) fn is_worthwhile(&mut self) -> bool {
        let worthwhile = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        worthwhile
    }

    /// Notes that a wait ended with something for the guest.
    pub(crate) fn succeeded(&mut self) {
        self.in_vain = 0;
    }

    /// Notes that a wait ended for another reason.
    pub(crate) fn failed(&mut self) {
        self.in_vain = self.in_vain.saturating_add(1).min(Self::MAX_IN_VAIN);
        self.skip = (1_u8 << self.in_vain).wrapping_sub(1);
    }
}
