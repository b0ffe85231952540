// SPDX-License-Identifier: GPL-2.0

//! The image of one vCPU's virtual CPU interface: list registers, ICH_HCR_EL2, ICH_VMCR_EL2 (IHI
//! 0069, "AArch64 virtualization control System registers").

use crate::model::timer::TimerSet;

/// The architecture's limit on list registers.
pub const MAX_LRS: usize = 16;

/// Bits and fields of ICH_LR<n>_EL2.
pub mod lr {
    use crate::model::sysreg::regs::ICH_LR_EL2 as R;

    /// The state is pending. With [`ACTIVE`], both.
    pub const PENDING: u64 = R::State.of(R::State_Pending);
    /// The state is active.
    pub const ACTIVE: u64 = R::State.of(R::State_Active);
    /// Neither bit of the state set: the list register is free.
    pub const STATE: u64 = R::State.mask();
    /// Linked to the physical interrupt in pINTID, deactivated with it.
    pub const HW: u64 = R::HW.mask();
    /// Group 1.
    pub const GROUP1: u64 = R::Group.mask();
    /// With HW clear: becoming free asserts a maintenance interrupt.
    pub const EOI: u64 = R::SW_EOI.mask();
    /// Where the priority begins.
    pub const PRIORITY_SHIFT: u32 = R::Priority.shift();
    /// Where the physical INTID begins, with HW set.
    pub const PHYSICAL_SHIFT: u32 = R::pINTID.shift();
}

/// Bits and fields of ICH_HCR_EL2.
pub mod hcr {
    use crate::model::sysreg::regs::ICH_HCR_EL2 as R;

    /// The virtual CPU interface works at all.
    pub const EN: u64 = R::En.mask();
    /// Maintenance interrupt while EOIcount is not zero.
    pub const LRENPIE: u64 = R::LRENPIE.mask();
    /// Maintenance interrupt while no list register is pending.
    pub const NPIE: u64 = R::NPIE.mask();
    /// Maintenance interrupt while the guest has group 0 enabled.
    pub const VGRP0EIE: u64 = R::VGrp0EIE.mask();
    /// Maintenance interrupt while the guest has group 0 disabled.
    pub const VGRP0DIE: u64 = R::VGrp0DIE.mask();
    /// Maintenance interrupt while the guest has group 1 enabled.
    pub const VGRP1EIE: u64 = R::VGrp1EIE.mask();
    /// Maintenance interrupt while the guest has group 1 disabled.
    pub const VGRP1DIE: u64 = R::VGrp1DIE.mask();
    /// The guest's ICC_DIR_EL1 writes trap.
    pub const TDIR: u64 = R::TDIR.mask();
    /// Where EOIcount begins: deactivations of interrupts that were in no list register.
    pub const EOICOUNT_SHIFT: u32 = R::EOIcount.shift();
    /// EOIcount, shifted down.
    pub const EOICOUNT_MASK: u64 = R::EOIcount.get(u64::MAX);
}

/// Bits and fields of ICH_VMCR_EL2.
pub mod vmcr {
    use crate::model::sysreg::regs::ICH_VMCR_EL2 as R;

    /// Group 0 enabled.
    pub const VENG0: u64 = R::VENG0.mask();
    /// Group 1 enabled.
    pub const VENG1: u64 = R::VENG1.mask();
    /// Group 0 is signalled as FIQ: always so with the system register interface.
    pub const VFIQEN: u64 = R::VFIQEn.mask();
    /// One binary point for both groups.
    pub const VCBPR: u64 = R::VCBPR.mask();
    /// EOImode: a write to EOIR drops the priority only, deactivation is a write to DIR.
    pub const VEOIM: u64 = R::VEOIM.mask();
    /// Where the binary point of group 1 begins.
    pub const VBPR1_SHIFT: u32 = R::VBPR1.shift();
    /// Where the binary point of group 0 begins.
    pub const VBPR0_SHIFT: u32 = R::VBPR0.shift();
    /// Where the priority mask begins.
    pub const VPMR_SHIFT: u32 = R::VPMR.shift();
}

/// What the hardware gets at entry and gives back at exit. One per vCPU.
#[derive(Clone, Debug)]
pub struct LrFile {
    /// ICH_LR<n>_EL2.
    pub lr: [u64; MAX_LRS],
    /// How many list registers, from 0 up, hold an interrupt: what to read at exit.
    pub count: u8,
    /// How many list registers, from 0 up, to write at entry: those in use, and those that the
    /// hardware may still have something else in.
    pub to_write: u8,
    /// ICH_HCR_EL2, whole, with EOIcount. At exit only EOIcount matters, and only if
    /// [`LrFile::needs_hcr`].
    pub hcr: u64,
    /// ICH_VMCR_EL2. The guest writes it; flush reads the group enables. After a maintenance
    /// interrupt it must be read back before the next flush: the guest's group enables may be what
    /// the interrupt was for.
    pub vmcr: u64,
    /// The timers whose physical interrupt a list register is linked to.
    pub linked: TimerSet,
    /// Flush has put shared interrupts into them, or left active ones outside: sync needs those
    /// locked.
    pub(super) has_spis: bool,
    limit: u8,
    /// How many list registers, from 0 up, may not be zero in the hardware.
    dirty: u8,
}

impl LrFile {
    /// Makes an empty file for hardware with this many list registers (ICH_VTR_EL2.ListRegs + 1). 0
    /// counts as 1, more than 16 as 16.
    pub fn new(list_registers: usize) -> Self {
        Self {
            lr: [0; MAX_LRS],
            count: 0,
            to_write: 0,
            hcr: hcr::EN,
            vmcr: 0,
            linked: TimerSet::NONE,
            has_spis: false,
            limit: list_registers.clamp(1, MAX_LRS) as u8,
            dirty: list_registers.clamp(1, MAX_LRS) as u8,
        }
    }

    /// Notes that the vCPU comes to a CPU on which another one may have run since: the next entry
    /// writes all list registers, unless they are `empty` (ICH_ELRSR_EL2). Whoever leaves the CPU
    /// need not clear them, except for a hypervisor that expects it, as KVM does.
    pub fn moved(&mut self, empty: bool) {
        self.dirty = if empty { 0 } else { self.limit };
    }

    /// Does what [`super::Gic::flush`] would do where there is nothing for this vCPU.
    pub fn flush_nothing(&mut self) {
        // What was in them last may have gone to another vCPU, pending as it was.
        for old in self.lr.iter_mut().take(self.dirty.into()) {
            *old = 0;
        }
        self.count = 0;
        self.linked = TimerSet::NONE;
        self.hcr = quiet_hcr(self.vmcr);
        self.to_write = self.dirty;
        self.dirty = 0;
    }

    /// Makes the list registers that flush leaves unused zero, and tells the caller to write those
    /// that are not zero in the hardware.
    pub(super) fn finish(&mut self) {
        for unused in self.lr.iter_mut().skip(self.count.into()) {
            *unused = 0;
        }
        self.to_write = self.count.max(self.dirty);
        self.dirty = self.count;
    }

    /// Returns how many list registers the hardware has.
    pub fn limit(&self) -> usize {
        self.limit.into()
    }

    /// Notes that list register `n` is free (its bit in ICH_ELRSR_EL2 is set): no need to read it.
    pub fn mark_empty(&mut self, n: usize) {
        if let Some(lr) = self.lr.get_mut(n) {
            *lr &= !lr::STATE;
        }
    }

    /// Returns whether sync needs ICH_HCR_EL2 read back.
    pub fn needs_hcr(&self) -> bool {
        self.hcr & hcr::LRENPIE != 0
    }

    pub(super) fn eoi_count(&self) -> usize {
        ((self.hcr >> hcr::EOICOUNT_SHIFT) & hcr::EOICOUNT_MASK) as usize
    }

    /// Appends a list register. False: there is no room.
    pub(super) fn push(&mut self, value: u64) -> bool {
        if self.count >= self.limit {
            return false;
        }
        if let Some(lr) = self.lr.get_mut(usize::from(self.count)) {
            *lr = value;
        }
        self.count = self.count.saturating_add(1);
        true
    }
}

/// Returns whether the guest's CPU interface has this group enabled.
pub(super) fn group_enabled(vmcr: u64, group1: bool) -> bool {
    vmcr & if group1 { vmcr::VENG1 } else { vmcr::VENG0 } != 0
}

/// Returns ICH_HCR_EL2 for a guest with nothing to do: exit when it enables a group, trap DIR.
pub(super) fn quiet_hcr(vmcr: u64) -> u64 {
    let mut value = hcr::EN | hcr::TDIR;
    if vmcr & vmcr::VENG0 == 0 {
        value |= hcr::VGRP0EIE;
    }
    if vmcr & vmcr::VENG1 == 0 {
        value |= hcr::VGRP1EIE;
    }
    value
}
