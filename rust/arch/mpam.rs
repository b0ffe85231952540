// SPDX-License-Identifier: GPL-2.0

//! Memory partitioning (MPAM) is the host's alone: a guest's accesses to its registers trap, and
//! what the guest accesses is labelled as what its thread in the host accesses. DDI 0487, chapter
//! D30.
//!
//! At EL2 the host's kernel labels its own accesses with MPAM2_EL2, which it knows as MPAM1_EL1,
//! and writes as a whole: when another thread comes, and from an interrupt when resctrl moves the
//! current one. It writes only if it takes the register to have something else. So of this register
//! loft changes the traps and keeps nothing: put back as a value it would be one that the kernel
//! never corrects.

use super::cpu::features;
use crate::host::irqflags;
use crate::model::sysreg::regs::{MPAM0_EL1, MPAM1_EL1, MPAM2_EL2, MPAMHCR_EL2};

/// A guest that could write MPAM0_EL1 would even choose for the programs of the host, which run
/// with it.
const TRAPS: u64 = MPAM2_EL2::TRAPMPAM0EL1.mask() | MPAM2_EL2::TRAPMPAM1EL1.mask();

/// Everything that says whose accesses they are.
const LABEL: u64 = MPAM0_EL1::PARTID_D.mask()
    | MPAM0_EL1::PARTID_I.mask()
    | MPAM0_EL1::PMG_D.mask()
    | MPAM0_EL1::PMG_I.mask();

/// Traps MPAMIDR_EL1 where that is not MPAM2_EL2's to do, which then has [`enter`] do it with the
/// rest.
pub(super) fn load() {
    if features().mpam_hcr {
        write_sysreg!(MPAMHCR_EL2, MPAMHCR_EL2::TRAP_MPAMIDR_EL1.mask());
    }
}

/// Sees to it, just before the guest runs and with interrupts off, that the traps are there and the
/// label is the thread's.
///
/// If the traps are, nobody has written the register since this did, and so no other label either:
/// the kernel writes MPAM0_EL1 together with it. The ERET synchronises.
#[inline]
pub(super) fn enter() {
    if features().mpam && read_sysreg!(MPAM2_EL2) & TRAPS != TRAPS {
        renew();
    }
}

#[cold]
fn renew() {
    let mpam2 = read_sysreg!(MPAM2_EL2);
    // From MPAM 1.1 on; before, and with MPAMHCR_EL2, the bit is RES0 or says the same.
    let identification = MPAM2_EL2::TIDR.mask();
    write_sysreg!(
        MPAM2_EL2,
        mpam2 & !MPAM2_EL2::EnMPAMSM.mask() | TRAPS | identification
    );
    // EL1's label; out of reset it is UNKNOWN, and the host has no use for it. EL0's is MPAM0_EL1
    // itself.
    let label = read_sysreg!(MPAM0_EL1) & LABEL;
    write_sysreg_el12!(MPAM1_EL1, label | MPAM1_EL1::MPAMEN.mask());
}

/// Leaves the traps as the kernel leaves them when it starts.
pub(super) fn put() {
    if !features().mpam {
        return;
    }
    // Or what resctrl writes from an interrupt between the two would be undone.
    irqflags::with_disabled(|_| {
        let mpam2 = read_sysreg!(MPAM2_EL2) & !(TRAPS | MPAM2_EL2::TIDR.mask());
        write_sysreg!(MPAM2_EL2, mpam2 | MPAM2_EL2::EnMPAMSM.mask());
        if features().mpam_hcr {
            write_sysreg!(MPAMHCR_EL2, 0);
        }
    });
}
