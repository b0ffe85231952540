// SPDX-License-Identifier: GPL-2.0

//! A debugger outside of the guest: KVM_SET_GUEST_DEBUG.
//!
//! While there is one, the CPU's debug registers and PSTATE.SS are its own; the guest's wait in memory. What its breakpoints,
//! its steps and the guest's BRKs bring is not the guest's to see, but ends KVM_RUN.

use super::core::Core;
use crate::arch::debug::External;
use crate::arch::{cpu, world};
use crate::model::sysreg::regs::SPSR_EL1;
use kernel::prelude::*;

/// What such a debugger wants.
pub(crate) struct Debugger {
    pub(crate) external: External,
    /// The guest's own PSTATE.SS, while it runs with the debugger's.
    guest_step: u64,
    /// An instruction has been executed for the guest, and that the step is over has not been said yet.
    step_is_due: bool,
}

impl Debugger {
    pub(crate) fn new(external: External) -> Self {
        Self {
            external,
            guest_step: 0,
            step_is_due: false,
        }
    }
}

const SS: u64 = SPSR_EL1::SS.mask();

impl Core {
    /// There is this debugger from now on, or none.
    pub(crate) fn set_debugger(&mut self, mut new: Option<KBox<Debugger>>) {
        if let (Some(new), Some(old)) = (&mut new, &self.debugger) {
            new.step_is_due = old.step_is_due;
        }
        self.debugger = new;
    }

    /// KVM_RUN begins: the guest is to run one instruction, if that is what a debugger wants.
    pub(super) fn begin_debugging(&mut self) {
        if let Some(debugger) = &mut self.debugger {
            if debugger.external.steps {
                let pstate = &mut self.frame.pstate;
                debugger.guest_step = *pstate & SS;
                *pstate = *pstate & !SS | if debugger.step_is_due { 0 } else { SS };
            }
        }
    }

    /// The debugger is about to be told: the step, if it was one, is over.
    pub(super) fn end_step(&mut self) {
        self.frame.pstate |= SS;
    }

    /// In a fast exit for an instruction of pointer authentication that traps: SPSR_EL2 becomes right.
    ///
    /// Cortex-A510's erratum 2077057: where a step was expected of that instruction, SPSR_EL2 is a copy of the guest's SPSR_EL1,
    /// so what the guest likes. The instruction has not been executed, and nothing has since the guest was entered with
    /// PSTATE.SS set: with one instruction done, the step itself would have come first. So PSTATE is what it was then.
    #[cold]
    pub(super) fn repair_stepped_pstate(&mut self) {
        let steps = self
            .debugger
            .as_ref()
            .is_some_and(|debugger| debugger.external.steps);
        if cpu::features().step_loses_pstate && steps && self.frame.pstate & SS != 0 {
            world::set_pstate(self.frame.pstate);
        }
    }

    /// KVM_RUN ends.
    pub(super) fn end_debugging(&mut self) {
        if let Some(debugger) = &mut self.debugger {
            if debugger.external.steps {
                let pstate = &mut self.frame.pstate;
                debugger.step_is_due = *pstate & SS == 0;
                *pstate = *pstate & !SS | debugger.guest_step;
            }
        }
    }
}
