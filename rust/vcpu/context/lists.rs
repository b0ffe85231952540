// SPDX-License-Identifier: GPL-2.0

//! The guest's interrupts, between the model of the interrupt controller and the CPU interface.

use super::{StoppedVcpu, VcpuContext};
use crate::arch::guest_mode::Live;
use crate::arch::timer::Ctls;
use crate::host::{entry_virt, percpu_irq};
use crate::model::timer::TimerSet;
use crate::model::vgic::GicFrame;

impl VcpuContext {
    /// Moves what is pending into the list registers' image.
    pub(super) fn fill_lists(&mut self) {
        let Some(gic) = self.frozen.gic() else {
            self.interface.trap_all();
            return;
        };
        let linked = self.interface.fill(gic, self.id, self.timers.active());
        self.timers.wake_idle(linked);
    }

    /// Does what [`VcpuContext::fill_lists`] does, on the way into the guest, where there is mostly
    /// nothing.
    #[inline(always)]
    pub(super) fn fill_lists_at_entry(&mut self) {
        let gic = self.frozen.gic();
        if gic.is_some_and(|gic| self.interface.fill_with_nothing(gic, self.id)) {
            self.timers.wake_idle(TimerSet::NONE);
        } else {
            self.fill_lists();
        }
    }

    /// Folds the list registers back into the model. `lines`: the timers whose lines are up.
    pub(super) fn take_lists(&mut self, lines: TimerSet) {
        self.set_timer_lines(lines);
        if !self.interface.is_filled() {
            self.interface.read_vmcr();
            return;
        }
        let Some(gic) = self.frozen.gic() else { return };
        let deactivated = self.interface.take(gic, self.id, &mut self.after);
        self.timers.deactivated(deactivated);
    }

    /// Puts what is new into the list registers at once, in a fast exit. True if the guest may go
    /// on; false if others have to be told of something first. The list registers are right in any
    /// case.
    pub(crate) fn refresh_lists(&mut self) -> bool {
        if self.frozen.gic().is_none() {
            return false;
        }
        self.take_lists(Ctls::read().lines());
        self.after.kicks.remove(self.id);
        self.fill_lists();
        self.interface.write();
        self.after.is_empty()
    }

    /// Gives the list registers' contents back to the model, in a fast exit.
    pub(crate) fn give_lists_back(&mut self, _live: Live<'_>) {
        self.take_lists(Ctls::read().lines());
        self.interface.set_empty();
    }

    /// Returns ICH_VMCR_EL2 as it was when the guest was left.
    pub(crate) fn vmcr(&self) -> u64 {
        self.interface.vmcr()
    }

    /// Returns which frame of the interrupt controller, and where in it, an access at `ipa` is.
    #[inline]
    pub(crate) fn gic_frame(&self, ipa: u64) -> Option<(GicFrame, u32)> {
        self.frozen.gic_frame(ipa)
    }

    /// Handles a pending kick, in a fast exit. True if the guest may go on: all that was asked for
    /// was to take new interrupts.
    ///
    /// Linux sends the same SGI, when the scheduler or a signal wants this thread. It says so in
    /// the thread's flags first, and they are looked at after the clearing.
    pub(crate) fn kicked(&mut self) -> bool {
        percpu_irq::clear_kick();
        !entry_virt::work_pending() && self.handle.take_interrupt() && self.refresh_lists()
    }
}

impl StoppedVcpu {
    /// Wakes up the vCPUs that a fast exit could not tell of their interrupts, between two runs.
    /// False, and nothing done, if that is not all that is left to be done, or if they are many:
    /// interrupts are off.
    pub(crate) fn wake_few(&mut self) -> bool {
        const FEW: usize = 4;
        let this = &mut self.0;
        let after = &mut this.after;
        let Some(peers) = this.frozen.peers() else {
            return false;
        };
        if !after.is_only_kicks() || after.kicks.contains(this.id) || after.kicks.len() > FEW {
            return false;
        }
        for peer in after.kicks.iter().filter_map(|id| peers.get(id.index())) {
            peer.interrupt();
        }
        after.kicks = Default::default();
        true
    }

    /// Takes the CPU interface along as KVM_RUN begins, with what userspace has set.
    pub(crate) fn take_interface(&mut self) {
        if let Some(interface) = self.handle.take_interface() {
            self.interface.accept(interface);
            // The levels, too: from here on only changes are told.
            if let Some(gic) = self.frozen.gic() {
                let levels = gic.level_info(self.id, 0).unwrap_or(0);
                self.timers.take_levels(levels);
            }
        }
    }

    /// Lets userspace look at the CPU interface as KVM_RUN ends. The vCPU is not loaded.
    pub(crate) fn give_interface(&mut self) {
        if let Some(interface) = self.interface.news() {
            self.handle.give_interface(interface);
        }
    }

    /// Returns whether the guest would take an interrupt.
    pub(crate) fn has_interrupt(&mut self) -> bool {
        self.update_timers();
        let vmcr = self.vmcr();
        self.handle.lines() != 0
            || self
                .frozen
                .gic()
                .is_some_and(|gic| gic.has_pending(self.id, vmcr))
    }
}
