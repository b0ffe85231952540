// SPDX-License-Identifier: GPL-2.0

//! The generic timer. The guest's virtual timer is the hardware's; its physical timer is emulated.

use super::isb;
use crate::model::sysreg::regs::*;

/// The counter, without any offset: at EL2 with E2H = 1, CNTVOFF_EL2 does not count (DDI 0487, D12.2.2).
/// The ISB keeps the read from being done early.
pub(crate) fn counter() -> u64 {
    isb();
    read!(CNTVCT_EL0)
}

/// CNTVOFF_EL2, what the guest's virtual counter is behind the physical one.
pub(crate) fn set_offset(offset: u64) {
    write!(CNTVOFF_EL2, offset);
}

/// Lets the guest read the physical counter directly, or traps it; its physical timer always traps.
pub(crate) fn trap_physical(counter: bool) {
    let open = CNTHCTL_EL2::EL1PCTEN.mask();
    let value = read!(CNTHCTL_EL2) & !(open | CNTHCTL_EL2::EL1PTEN.mask());
    write!(CNTHCTL_EL2, if counter { value } else { value | open });
}

/// As the host has it: with E2H and TGE the EL1 bits have no effect, Linux leaves them set.
pub(crate) fn untrap_physical() {
    let value = read!(CNTHCTL_EL2) | CNTHCTL_EL2::EL1PCTEN.mask() | CNTHCTL_EL2::EL1PTEN.mask();
    write!(CNTHCTL_EL2, value);
}

/// CNTV_CTL_EL0 of the guest.
pub(crate) fn virtual_ctl() -> u64 {
    read_guest!(CNTV_CTL_EL0)
}

pub(crate) fn set_virtual_ctl(value: u64) {
    write_guest!(CNTV_CTL_EL0, value);
}

/// CNTV_CVAL_EL0 of the guest.
pub(crate) fn virtual_cval() -> u64 {
    read_guest!(CNTV_CVAL_EL0)
}

pub(crate) fn set_virtual_cval(value: u64) {
    write_guest!(CNTV_CVAL_EL0, value);
}
