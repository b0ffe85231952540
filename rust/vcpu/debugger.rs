// SPDX-License-Identifier: GPL-2.0

//! A debugger outside of the guest: KVM_SET_GUEST_DEBUG.
//!
//! While there is one, the CPU's debug registers and PSTATE.SS are its own; the guest's wait in memory. What its breakpoints,
//! its steps and the guest's BRKs bring is not the guest's to see, but ends KVM_RUN.

use super::core::Core;
use crate::arch::debug::External;
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
