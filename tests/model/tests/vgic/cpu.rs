// SPDX-License-Identifier: GPL-2.0

//! A virtual CPU interface as the hardware has it: the ICV registers over a file of list registers (IHI 0069, chapters 4
//! and 12.4). Written from the specification, not from the model.

use loft_model::model::vgic::{hcr, lr, vmcr, LrFile};

/// What the guest gets if there is nothing to acknowledge.
pub const SPURIOUS: u32 = 1023;

/// What a write to DIR did.
#[derive(Debug, PartialEq, Eq)]
pub enum Dir {
    /// The hardware took care of it, or ignored it.
    Done,
    /// It trapped.
    Trapped,
}

pub struct Cpu {
    pub file: LrFile,
    /// The active priorities: group and group priority, in the order of acknowledgement.
    pub active: Vec<(bool, u8)>,
    /// Physical interrupts that the guest deactivated through a list register.
    pub physically_ended: Vec<u32>,
}

impl Cpu {
    pub fn new(list_registers: usize) -> Self {
        let mut file = LrFile::new(list_registers);
        // Both groups on, no mask, binary points at their minimum for 5 bits.
        file.vmcr = vmcr::VENG0
            | vmcr::VENG1
            | (0xff << vmcr::VPMR_SHIFT)
            | (2 << vmcr::VBPR0_SHIFT)
            | (3 << vmcr::VBPR1_SHIFT);
        Self {
            file,
            active: Vec::new(),
            physically_ended: Vec::new(),
        }
    }

    fn slots(&mut self) -> &mut [u64] {
        let limit = self.file.limit();
        &mut self.file.lr[..limit]
    }

    pub fn pmr(&self) -> u8 {
        (self.file.vmcr >> vmcr::VPMR_SHIFT) as u8
    }

    pub fn set_pmr(&mut self, pmr: u8) {
        self.file.vmcr &= !(0xff << vmcr::VPMR_SHIFT);
        self.file.vmcr |= u64::from(pmr) << vmcr::VPMR_SHIFT;
    }

    pub fn set_groups(&mut self, group0: bool, group1: bool) {
        self.file.vmcr &= !(vmcr::VENG0 | vmcr::VENG1);
        self.file.vmcr |= u64::from(group0) | (u64::from(group1) << 1);
    }

    pub fn group_on(&self, group1: bool) -> bool {
        self.file.vmcr & (if group1 { vmcr::VENG1 } else { vmcr::VENG0 }) != 0
    }

    pub fn split_eoi(&self) -> bool {
        self.file.vmcr & vmcr::VEOIM != 0
    }

    pub fn set_split_eoi(&mut self, split: bool) {
        self.file.vmcr &= !vmcr::VEOIM;
        if split {
            self.file.vmcr |= vmcr::VEOIM;
        }
    }

    /// The part of a priority that decides preemption.
    pub fn group_priority(&self, group1: bool, priority: u8) -> u8 {
        let field = |shift: u32| ((self.file.vmcr >> shift) & 7) as u32;
        let ignored = if group1 && self.file.vmcr & vmcr::VCBPR == 0 {
            field(vmcr::VBPR1_SHIFT)
        } else {
            field(vmcr::VBPR0_SHIFT) + 1
        };
        (u32::from(priority) >> ignored << ignored) as u8
    }

    /// ICV_RPR_EL1: 0xff if nothing is active.
    pub fn running(&self) -> u8 {
        self.active.iter().map(|&(_, p)| p).min().unwrap_or(0xff)
    }

    /// Whether an interrupt with this priority would be signalled now.
    pub fn signals(&self, group1: bool, priority: u8) -> bool {
        self.group_on(group1)
            && priority < self.pmr()
            && self.group_priority(group1, priority) < self.running()
    }

    /// The list register with the highest priority pending interrupt of an enabled group.
    fn highest_pending(&mut self) -> Option<usize> {
        let groups = [self.group_on(false), self.group_on(true)];
        let slots = self.slots();
        (0..slots.len())
            .filter(|&n| slots[n] & lr::STATE == lr::PENDING)
            .filter(|&n| groups[usize::from(slots[n] & lr::GROUP1 != 0)])
            .min_by_key(|&n| (slots[n] >> lr::PRIORITY_SHIFT) as u8)
    }

    /// Reads IAR0 or IAR1, whichever has something.
    pub fn acknowledge(&mut self) -> u32 {
        let Some(n) = self.highest_pending() else {
            return SPURIOUS;
        };
        let value = self.slots()[n];
        let group1 = value & lr::GROUP1 != 0;
        let priority = (value >> lr::PRIORITY_SHIFT) as u8;
        if !self.signals(group1, priority) {
            return SPURIOUS;
        }
        self.slots()[n] = value & !lr::PENDING | lr::ACTIVE;
        let preempts = self.group_priority(group1, priority);
        self.active.push((group1, preempts));
        value as u32
    }

    fn end(&mut self, intid: u32) -> bool {
        let slots = self.slots();
        let found = slots
            .iter()
            .position(|&v| v as u32 == intid && v & lr::ACTIVE != 0);
        let Some(n) = found else {
            return false;
        };
        slots[n] &= !lr::ACTIVE;
        let value = slots[n];
        if value & lr::HW != 0 {
            let physical = ((value >> lr::PHYSICAL_SHIFT) & 0x1fff) as u32;
            self.physically_ended.push(physical);
        }
        true
    }

    fn count_eoi(&mut self) {
        let count = (self.file.hcr >> hcr::EOICOUNT_SHIFT) & hcr::EOICOUNT_MASK;
        self.file.hcr &= !(hcr::EOICOUNT_MASK << hcr::EOICOUNT_SHIFT);
        self.file.hcr |= ((count + 1) & hcr::EOICOUNT_MASK) << hcr::EOICOUNT_SHIFT;
    }

    /// Writes EOIR0 or EOIR1: drops the priority, and with EOImode 0 deactivates.
    pub fn eoi(&mut self, intid: u32) {
        let highest = (0..self.active.len()).min_by_key(|&n| self.active[n].1);
        if let Some(n) = highest {
            self.active.remove(n);
        }
        // An LPI's active state ends here in either mode, and counts nowhere if it is in no list register.
        let lpi = intid >= 8192;
        if lpi {
            self.end(intid);
        } else if !self.split_eoi() && !self.end(intid) {
            self.count_eoi();
        }
    }

    /// Writes DIR.
    pub fn dir(&mut self, intid: u32) -> Dir {
        if self.file.hcr & hcr::TDIR != 0 {
            return Dir::Trapped;
        }
        if self.split_eoi() && !self.end(intid) {
            self.count_eoi();
        }
        Dir::Done
    }

    /// The maintenance interrupt, from ICH_MISR_EL2.
    pub fn maintenance(&self) -> bool {
        let file = &self.file;
        let slots = &file.lr[..file.limit()];
        let on = |bit: u64| file.hcr & bit != 0;
        let eoi = slots
            .iter()
            .any(|&v| v & lr::STATE == 0 && v & lr::HW == 0 && v & lr::EOI != 0);
        let none_pending = !slots.iter().any(|&v| v & lr::STATE == lr::PENDING);
        let valid = slots.iter().filter(|&&v| v & lr::STATE != 0).count();
        let counted = (file.hcr >> hcr::EOICOUNT_SHIFT) & hcr::EOICOUNT_MASK != 0;
        on(hcr::EN)
            && (eoi
                || on(hcr::NPIE) && none_pending
                || on(1 << 1) && valid <= 1
                || on(hcr::LRENPIE) && counted
                || on(hcr::VGRP0EIE) && self.group_on(false)
                || on(hcr::VGRP0DIE) && !self.group_on(false)
                || on(hcr::VGRP1EIE) && self.group_on(true)
                || on(hcr::VGRP1DIE) && !self.group_on(true))
    }

    /// The states in which list registers hold this interrupt.
    pub fn held(&self, intid: u32) -> u64 {
        self.file.lr[..self.file.limit()]
            .iter()
            .filter(|&&v| v & lr::STATE != 0 && v as u32 == intid)
            .fold(0, |states, v| states | v & lr::STATE)
    }
}
