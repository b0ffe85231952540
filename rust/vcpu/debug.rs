// SPDX-License-Identifier: GPL-2.0

//! A debugger outside of the guest: KVM_SET_GUEST_DEBUG.
//!
//! While there is one, the CPU's debug registers and PSTATE.SS are its own; the guest's wait in
//! memory. What its breakpoints, its steps and the guest's BRKs bring is not the guest's to see,
//! but ends KVM_RUN.

use crate::arch::debug::External;
use crate::model::sysreg::regs::SPSR_EL1;

/// What such a debugger wants.
pub(crate) struct Debugger {
    pub(crate) external: External,
    /// The guest's own PSTATE.SS, while it runs with the debugger's.
    guest_step: u64,
    /// An emulated instruction completed a step that is still to be reported.
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

    /// Takes the place of another debugger, if there was one.
    pub(super) fn replace(&mut self, old: Option<&Self>) {
        self.step_is_due = old.is_some_and(|old| old.step_is_due);
    }

    /// Prepares the guest's `pstate` as KVM_RUN begins: the guest is to run one instruction, if
    /// that is what the debugger wants.
    pub(super) fn begin(&mut self, pstate: &mut u64) {
        if self.external.steps {
            self.guest_step = *pstate & SS;
            *pstate = *pstate & !SS | if self.step_is_due { 0 } else { SS };
        }
    }

    /// Gives the guest its own PSTATE.SS back as KVM_RUN ends.
    pub(super) fn end(&mut self, pstate: &mut u64) {
        if self.external.steps {
            self.step_is_due = *pstate & SS == 0;
            *pstate = *pstate & !SS | self.guest_step;
        }
    }

    /// Returns whether the guest was entered, with `pstate`, to run one instruction.
    pub(super) fn steps(&self, pstate: u64) -> bool {
        self.external.steps && pstate & SS != 0
    }
}

/// The step that PSTATE.SS allows has not been taken yet.
pub(super) const SS: u64 = SPSR_EL1::SS.mask();
