// SPDX-License-Identifier: GPL-2.0

//! Accesses to addresses that are not memory: what is left for the VMM, and putting its answer into the register.

use super::core::Core;
use crate::model::esr::Abort;
use crate::model::sysreg::regs::{SCTLR_EL1, SPSR_EL1};
use crate::model::sysreg::Reg;

/// A load that userspace answers.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) abort: Abort,
}

impl Load {
    /// The value has come: it goes into the register, and the guest goes on behind the instruction.
    pub(crate) fn complete(self, core: &mut Core, value: u64) {
        let value = guest_order(core, core.frame.pstate, value, self.abort.size());
        core.set_x(self.abort.register(), extend(value, &self.abort));
        core.skip();
    }
}

/// What the register holds after loading `value`: cut to the access's size, and sign-extended if the instruction does.
pub(crate) fn extend(value: u64, abort: &Abort) -> u64 {
    let unused = 64u32
        .saturating_sub(u32::from(abort.size()).saturating_mul(8))
        .min(63);
    let value = if abort.is_sign_extended() {
        ((value << unused) as i64 >> unused) as u64
    } else {
        value << unused >> unused
    };
    if abort.is_64bit() {
        value
    } else {
        value & u64::from(u32::MAX)
    }
}

/// Whether the guest accesses memory with the most significant byte first, with this PSTATE.
pub(super) fn is_big_endian(core: &mut Core, pstate: u64) -> bool {
    let sctlr = core.get(Reg::SCTLR_EL1);
    if SPSR_EL1::M.get(pstate) == SPSR_EL1::M_EL0t {
        SCTLR_EL1::E0E.is_set(sctlr)
    } else {
        SCTLR_EL1::EE.is_set(sctlr)
    }
}

/// Devices, and userspace for them, have the least significant byte first: from their order of a value of `size` bytes to
/// the guest's, or back.
pub(super) fn guest_order(core: &mut Core, pstate: u64, value: u64, size: u8) -> u64 {
    let unused = 64u32
        .saturating_sub(u32::from(size).saturating_mul(8))
        .min(63);
    if is_big_endian(core, pstate) {
        value.swap_bytes() >> unused
    } else {
        value << unused >> unused
    }
}
