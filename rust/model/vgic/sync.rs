// SPDX-License-Identifier: GPL-2.0

//! From the list registers back into the model, after an exit.

use super::active::MOST;
use super::flush::Best;
use super::intid::{IntId, Line};
use super::irq::IrqBit;
use super::lpi::LpiId;
use super::lrs::{group_enabled, hcr, lr, vmcr, LrFile, MAX_LRS};
use super::state::View;
use super::{Error, Notify, StaleLists};
use crate::model::timer::TimerSet;
use crate::model::vcpus::VcpuId;

/// What sync found out about the physical interrupts that are linked to private ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// The guest deactivated these through their list registers, and with them the hardware
    /// deactivated the physical ones.
    pub deactivated: TimerSet,
}

impl View<'_> {
    /// Takes back what the guest has done since the last flush: see [`super::Gic::sync`].
    pub(super) fn sync(
        &mut self,
        cpu: VcpuId,
        file: &mut LrFile,
        notify: &mut dyn Notify,
    ) -> SyncReport {
        let mut report = SyncReport::default();
        match self.bank_mut(cpu) {
            Some(bank) if bank.resident => {
                bank.resident = false;
                bank.forwarded = 0;
            }
            _ => return report,
        }
        // Those that were outside at the entry, before what was inside has changed.
        let outside =
            (file.needs_hcr() && file.eoi_count() > 0).then(|| self.active_outside(cpu, file));
        let mut acknowledged = None;
        for &value in file.lr.iter().take(file.count.into()) {
            let ended = self.fold(cpu, value, &mut acknowledged, notify);
            report.deactivated = report.deactivated.union(ended);
        }
        if let Some(outside) = outside {
            for id in outside.iter().take(file.eoi_count()).filter_map(IntId::new) {
                let line = Line::seen_by(cpu, id);
                self.end_active(line, notify);
                self.hand_over(cpu, line, notify);
            }
        }
        if let Some(acknowledged) = acknowledged {
            self.nest(cpu, &acknowledged);
        }
        file.hcr &= !(hcr::EOICOUNT_MASK << hcr::EOICOUNT_SHIFT);
        report
    }

    /// Returns the active interrupts that are in no list register, in the order in which they end.
    /// Only EOImode 0 counts, since DIR traps.
    #[cold]
    fn active_outside(&self, cpu: VcpuId, file: &LrFile) -> Best<{ MOST }> {
        let mut active = self.active(cpu);
        for &value in file.lr.iter().take(file.count.into()) {
            if let Some(id) = IntId::new((value & 0xffff_ffff) as u32) {
                active.remove(id);
            }
        }
        self.in_order_of_end(cpu, active)
    }

    /// Takes over what the guest made of one list register, and adds an interrupt that it has
    /// acknowledged and not ended. Returns the timer whose linked physical interrupt was
    /// deactivated.
    fn fold(
        &mut self,
        cpu: VcpuId,
        value: u64,
        nested: &mut Option<Best<MAX_LRS>>,
        notify: &mut dyn Notify,
    ) -> TimerSet {
        let intid = (value & 0xffff_ffff) as u32;
        let Some(id) = IntId::new(intid) else {
            if let Some(id) = LpiId::new(intid) {
                self.fold_lpi(id, value);
            }
            return TimerSet::NONE;
        };
        let line = Line::seen_by(cpu, id);
        let Some(mut irq) = self.irq_mut(line) else {
            return TimerSet::NONE;
        };
        let Some(note) = irq.lr() else {
            return TimerSet::NONE;
        };
        irq.set_lr(None);
        let pending = value & lr::PENDING != 0;
        let acknowledged = note.pending && !pending;
        let ended = value & lr::STATE == 0 && (irq.active() || acknowledged);
        let active = value & lr::ACTIVE != 0;
        if acknowledged && active {
            let priority = (value >> lr::PRIORITY_SHIFT) as u8;
            irq.set(IrqBit::Acknowledged, false);
            nested
                .get_or_insert_with(Best::new)
                .add(0, priority, id.get());
        }
        let turned = irq.active() != active;
        irq.set(IrqBit::Active, active);
        if note.latched {
            if pending {
                irq.set(IrqBit::Latch, true);
            }
        } else if acknowledged {
            irq.set(IrqBit::Latch, false);
        }
        let level = !irq.edge();
        if turned && id.is_spi() {
            self.note_active(line, active);
        }
        self.place(line);
        if ended && level && id.is_spi() {
            notify.deactivated(id);
        }
        self.hand_over(cpu, line, notify);
        if ended {
            note.timer
        } else {
            TimerSet::NONE
        }
    }

    /// Ends the active state of an interrupt that is in no list register. False: it had none.
    fn end_active(&mut self, line: Line, notify: &mut dyn Notify) -> bool {
        let Some(mut irq) = self.irq_mut(line).filter(|irq| irq.active()) else {
            return false;
        };
        irq.set(IrqBit::Active, false);
        let level = !irq.edge();
        self.note_active(line, false);
        if level && line.id().is_spi() {
            notify.deactivated(line.id());
        }
        self.place(line);
        true
    }

    /// Tells another vCPU of an interrupt that left this vCPU's list registers and may belong to
    /// that one by now. That is told even while the distributor does not forward its group: who
    /// found nothing to do relies on being told of all that comes later.
    fn hand_over(&self, from: VcpuId, line: Line, notify: &mut dyn Notify) {
        if let Some(vcpu) = self.irq(line).and_then(|irq| irq.kick_when_raised()) {
            if vcpu != from {
                notify.kick(vcpu);
            }
        }
    }

    /// Deactivates an interrupt: see [`super::Gic::deactivate`].
    pub(super) fn deactivate(
        &mut self,
        by: VcpuId,
        line: Line,
        notify: &mut dyn Notify,
    ) -> Result<(), Error> {
        let mut stale = StaleLists::default();
        stale.add(Some(by), self.irq(line));
        stale.check()?;
        if self.end_active(line, notify) {
            if let Some(vcpu) = self.raise(line) {
                notify.kick(vcpu);
            }
        }
        Ok(())
    }

    /// Returns whether a vCPU has an interrupt that would wake it from WFI: see
    /// [`super::Gic::has_pending`].
    pub(super) fn has_pending(&self, cpu: VcpuId, vmcr: u64) -> bool {
        let mask = ((vmcr >> vmcr::VPMR_SHIFT) & 0xff) as u8;
        if self.dist.forwards(true) && group_enabled(vmcr, true) && self.has_lpi(cpu, mask) {
            return true;
        }
        let mut found = false;
        let all = self.each_work(cpu, |_, irq| {
            found |= irq.raised()
                && !irq.active()
                && irq.priority() < mask
                && self.dist.forwards(irq.group1())
                && group_enabled(vmcr, irq.group1());
        });
        if let Some(spis) = self.spi_work(cpu).filter(|_| !all) {
            let groups = self.dist.enables() & vmcr as u32;
            spis.first_pending(groups, 1, |priority, _| found |= priority < mask);
        }
        found
    }
}
