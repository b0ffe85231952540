// SPDX-License-Identifier: GPL-2.0

//! The GIC's CPU interface: the virtual one that guests use (ICH_*), and what of the physical one
//! (ICC_*) the fast exits need. IHI 0069, chapter 12.

use super::{dsb_ishst, isb};
use crate::model::sysreg::regs::*;
use crate::model::vgic::{CpuIf, LrFile};

/// Returns how many list registers there are (ICH_VTR_EL2.ListRegs).
pub(crate) fn list_registers() -> usize {
    (ICH_VTR_EL2::ListRegs.get(read_sysreg!(ICH_VTR_EL2)) as usize)
        .wrapping_add(1)
        .min(16)
}

/// Returns ICH_VTR_EL2.
pub(crate) fn vtr() -> u64 {
    read_sysreg!(ICH_VTR_EL2)
}

macro_rules! each_lr {
    ($index:expr, $do:ident $(, $value:expr)?) => {
        match $index {
            0 => $do!(ICH_LR0_EL2 $(, $value)?), 1 => $do!(ICH_LR1_EL2 $(, $value)?),
            2 => $do!(ICH_LR2_EL2 $(, $value)?), 3 => $do!(ICH_LR3_EL2 $(, $value)?),
            4 => $do!(ICH_LR4_EL2 $(, $value)?), 5 => $do!(ICH_LR5_EL2 $(, $value)?),
            6 => $do!(ICH_LR6_EL2 $(, $value)?), 7 => $do!(ICH_LR7_EL2 $(, $value)?),
            8 => $do!(ICH_LR8_EL2 $(, $value)?), 9 => $do!(ICH_LR9_EL2 $(, $value)?),
            10 => $do!(ICH_LR10_EL2 $(, $value)?), 11 => $do!(ICH_LR11_EL2 $(, $value)?),
            12 => $do!(ICH_LR12_EL2 $(, $value)?), 13 => $do!(ICH_LR13_EL2 $(, $value)?),
            14 => $do!(ICH_LR14_EL2 $(, $value)?), _ => $do!(ICH_LR15_EL2 $(, $value)?),
        }
    };
}

/// Reads the list registers that are in use, and what the guest did to the rest of the interface.
pub(crate) fn read_lists(lists: &mut LrFile) {
    for (index, lr) in lists.lr.iter_mut().enumerate().take(lists.count.into()) {
        *lr = each_lr!(index, read_sysreg);
    }
    if lists.needs_hcr() {
        lists.hcr = read_sysreg!(ICH_HCR_EL2);
    }
    lists.vmcr = read_sysreg!(ICH_VMCR_EL2);
}

/// Writes the list registers that changed, and ICH_HCR_EL2, which makes the interface work. The
/// guest sees it after the ERET.
pub(crate) fn write_lists(lists: &LrFile) {
    for (index, lr) in lists.lr.iter().enumerate().take(lists.to_write.into()) {
        each_lr!(index, write_sysreg, *lr);
    }
    write_sysreg!(ICH_HCR_EL2, lists.hcr);
}

/// Returns whether no list register holds an interrupt, nor would assert a maintenance interrupt.
pub(crate) fn lists_are_empty() -> bool {
    let all = (1u64 << super::cpu::features().list_registers) - 1;
    read_sysreg!(ICH_ELRSR_EL2) & all == all
}

/// Empties all list registers, if one is not: what is left in one would be an interrupt of the next
/// guest's, which KVM expects of nobody and writes only those that it needs.
pub(crate) fn clear_lists() {
    if lists_are_empty() {
        return;
    }
    for index in 0..super::cpu::features().list_registers {
        each_lr!(index, write_sysreg, 0);
    }
}

/// Returns ICH_VMCR_EL2.
pub(crate) fn vmcr() -> u64 {
    read_sysreg!(ICH_VMCR_EL2)
}

/// Stops the interface, so that it raises no maintenance interrupt while the host runs.
pub(crate) fn stop() {
    write_sysreg!(ICH_HCR_EL2, 0);
}

/// Puts what outlives a run of the guest into the CPU. Accesses to ICC_SRE_EL1 trap from here on
/// where the CPU can.
pub(crate) fn load(vmcr: u64, priorities: &CpuIf) {
    write_sysreg!(ICH_VMCR_EL2, vmcr);
    let n = CpuIf::nr_apr(super::cpu::features().vtr);
    macro_rules! one {
        ($i:literal, $ap0:ident, $ap1:ident) => {
            if n > $i {
                write_sysreg!($ap0, priorities.ap0r[$i]);
                write_sysreg!($ap1, priorities.ap1r[$i]);
            }
        };
    }
    one!(0, ICH_AP0R0_EL2, ICH_AP1R0_EL2);
    one!(1, ICH_AP0R1_EL2, ICH_AP1R1_EL2);
    one!(2, ICH_AP0R2_EL2, ICH_AP1R2_EL2);
    one!(3, ICH_AP0R3_EL2, ICH_AP1R3_EL2);
}

/// Takes it from the CPU.
pub(crate) fn save(vmcr: &mut u64, priorities: &mut CpuIf) {
    *vmcr = read_sysreg!(ICH_VMCR_EL2);
    let n = CpuIf::nr_apr(super::cpu::features().vtr);
    macro_rules! one {
        ($i:literal, $ap0:ident, $ap1:ident) => {
            if n > $i {
                priorities.ap0r[$i] = read_sysreg!($ap0);
                priorities.ap1r[$i] = read_sysreg!($ap1);
            }
        };
    }
    one!(0, ICH_AP0R0_EL2, ICH_AP1R0_EL2);
    one!(1, ICH_AP0R1_EL2, ICH_AP1R1_EL2);
    one!(2, ICH_AP0R2_EL2, ICH_AP1R2_EL2);
    one!(3, ICH_AP0R3_EL2, ICH_AP1R3_EL2);
}

/// A software generated interrupt for one CPU, ready to be sent: a value of ICC_SGI1R_EL1, never 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sgi(pub(crate) u64);

impl Sgi {
    /// Makes the SGI `intid`, below 16, for the CPU that this runs on.
    pub(crate) fn to_this_cpu(intid: u32) -> Self {
        let mpidr = read_sysreg!(MPIDR_EL1);
        let aff0 = MPIDR_EL1::Aff0.get(mpidr);
        Self(
            ICC_SGI1R_EL1::Aff3.of(MPIDR_EL1::Aff3.get(mpidr))
                | ICC_SGI1R_EL1::RS.of(aff0 >> 4)
                | ICC_SGI1R_EL1::Aff2.of(MPIDR_EL1::Aff2.get(mpidr))
                | ICC_SGI1R_EL1::INTID.of(intid.into())
                | ICC_SGI1R_EL1::Aff1.of(MPIDR_EL1::Aff1.get(mpidr))
                | ICC_SGI1R_EL1::TargetList.of(1 << (aff0 & 0xf)),
        )
    }

    /// Sends it. Who takes it sees what was written before. In any context, a fast exit included:
    /// at EL2 the register is the physical one's.
    #[inline]
    pub(crate) fn send(self) {
        dsb_ishst();
        write_sysreg!(ICC_SGI1R_EL1, self.0);
        isb();
    }
}

/// What [`pending`] returns if there is none (IHI 0069, "Special INTIDs").
pub(crate) const NONE: u64 = 1023;

/// Returns the INTID of the highest-priority interrupt that is pending for the host on this CPU;
/// [`NONE`] if there is none.
#[inline]
pub(crate) fn pending() -> u64 {
    ICC_HPPIR1_EL1::INTID.get(read_sysreg!(ICC_HPPIR1_EL1))
}

/// Deactivates a physical interrupt that is active on this CPU. (The host runs with
/// ICC_CTLR_EL1.EOImode = 1, as every Linux at EL2 does, so this is a deactivation and nothing
/// else.)
pub(crate) fn deactivate(intid: u64) {
    write_sysreg!(ICC_DIR_EL1, intid);
    isb();
}
