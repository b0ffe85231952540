// SPDX-License-Identifier: GPL-2.0

//! From the model into the list registers, at entry to the guest.
//!
//! There may be more interrupts than list registers. Then:
//!
//! - Pending interrupts go first, most urgent first: an interrupt that the guest must not wait for
//!   is never outside while a less urgent pending one is inside. Those that the guest's own group
//!   enables hold back come last.
//! - One list register is kept for the active interrupt that was acknowledged last, which is the
//!   next one that the guest will deactivate in EOImode 0 (unless there is only one list register
//!   at all). The rest may stay outside.
//! - If pending ones stay outside, NPIE brings the guest out when it has acknowledged all that it
//!   can see. If active ones stay outside, their deactivation finds no list register and increments
//!   EOIcount, and LRENPIE brings the guest out.
//! - UIE is not used: with one list register it would be asserted for ever, and the two above say
//!   everything.
//!
//! None of these is asserted at the moment of entry, so an entry always makes progress. The same
//! holds for the group conditions: only changes of the guest's group enables are asked for, because
//! they change which interrupts count.
//!
//! In EOImode 1 the guest deactivates in any order and, what is shared, on any vCPU: EOIcount does
//! not tell which interrupt it was, and the vCPU that writes DIR may have none in its list
//! registers. So every write to DIR traps (TDIR), always: the guest can change its EOI mode without
//! an exit, and in EOImode 0, which is what nearly all guests use, nobody writes DIR.

use super::intid::{IntId, Line};
use super::irq::{InLr, Irq, IrqBit, IrqBlock};
use super::lpi::LpiId;
use super::lrs::{group_enabled, hcr, lr, quiet_hcr, vmcr, LrFile, MAX_LRS};
use super::state::{forwards, View};
use crate::model::timer::{TimerId, TimerSet};
use crate::model::vcpus::VcpuId;

/// The first `CAP` of the interrupts that are added, and how many were added in all.
pub(super) struct Best<const CAP: usize> {
    /// In order; behind them what comes after everything.
    keys: [u32; CAP],
    pub(super) total: usize,
}

impl<const CAP: usize> Best<CAP> {
    const NONE: u32 = u32::MAX;

    pub(super) fn new() -> Self {
        Self {
            keys: [Self::NONE; CAP],
            total: 0,
        }
    }

    /// Adds an interrupt. Lower ranks come first, among them lower priorities, which are more
    /// urgent, among them lower INTIDs.
    pub(super) fn add(&mut self, rank: u8, priority: u8, intid: u32) {
        let key = (u32::from(rank) << 24) | (u32::from(priority) << 16) | (intid & 0xffff);
        let at = self.total.min(CAP.saturating_sub(1));
        self.total = self.total.saturating_add(1);
        let Some((last, before)) = self.keys.get_mut(..=at).and_then(<[_]>::split_last_mut) else {
            return;
        };
        if *last <= key {
            return;
        }
        // What was last falls off, and this one moves up to its place.
        *last = key;
        let mut place = last;
        for other in before.iter_mut().rev() {
            if *other <= *place {
                break;
            }
            core::mem::swap(other, place);
            place = other;
        }
    }

    /// Returns their INTIDs, the first one first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.keys.iter().take(self.total).map(|key| key & 0xffff)
    }
}

impl View<'_> {
    /// Fills the list registers: see [`super::Gic::flush`].
    pub(super) fn flush(&mut self, cpu: VcpuId, file: &mut LrFile, active_timers: TimerSet) {
        let (Some(redist), Some(bank)) = (self.redists.get(cpu.index()), self.bank_mut(cpu)) else {
            return;
        };
        if bank.resident {
            return;
        }
        bank.resident = true;
        file.count = 0;
        file.linked = TimerSet::NONE;
        file.hcr = quiet_hcr(file.vmcr);
        file.has_spis = false;
        if redist.has_work() {
            self.fill(cpu, file, active_timers);
        }
        file.finish();
    }

    fn fill(&mut self, cpu: VcpuId, file: &mut LrFile, active_timers: TimerSet) {
        let mut pending = Best::<MAX_LRS>::new();
        let (mut actives, mut active) = (0usize, None);
        let enables = self.dist.enables();
        let all = self.each_work(cpu, |id, irq| {
            if irq.active() {
                actives = actives.saturating_add(1);
                active = Some(id);
            } else if irq.raised() && forwards(enables, irq.group1()) {
                let held_back = !group_enabled(file.vmcr, irq.group1());
                pending.add(held_back.into(), irq.priority(), id.get());
            }
        });
        if !all {
            self.add_crowd(cpu, enables, file.vmcr, &mut pending);
        }
        // Where there is one only, there is no order.
        let mut several = None;
        if actives > 1 || !all && self.any_spi_is_active() {
            let set = self.active(cpu);
            actives = set.len();
            several = Some(set);
        }

        let held_back = !group_enabled(file.vmcr, true);
        let mut looked_at = 0usize;
        let lpis = self.first_lpis(cpu, enables, MAX_LRS, |priority, id| {
            pending.add(held_back.into(), priority, id.get());
            looked_at = looked_at.saturating_add(1);
        });
        pending.total = pending.total.saturating_add(lpis.saturating_sub(looked_at));

        let room = file.limit();
        let kept = usize::from(room > 1).max(room.saturating_sub(pending.total));
        let inside = actives.min(kept).min(room);
        let pendings = pending.total.min(room.saturating_sub(inside));
        let again = pending.total == pendings;
        if let Some(several) = several {
            let order = self.in_order_of_end(cpu, several);
            for id in order.iter().take(inside).filter_map(IntId::new) {
                self.load(cpu, id, file, again, enables, active_timers);
            }
        } else if let Some(id) = active.filter(|_| inside != 0) {
            self.load(cpu, id, file, again, enables, active_timers);
        }
        for intid in pending.iter().take(pendings) {
            match (IntId::new(intid), LpiId::new(intid)) {
                (Some(id), _) => self.load(cpu, id, file, true, enables, active_timers),
                (None, Some(id)) => self.load_lpi(id, file),
                (None, None) => (),
            }
        }

        if pending.total > pendings {
            file.hcr |= hcr::NPIE;
        }
        if actives > inside {
            file.hcr |= hcr::LRENPIE;
            // What it counts may be a shared one.
            file.has_spis = self.shared.is_some();
        }
        if pending.total > pendings || actives > inside {
            // A group that the guest disables now may be what fills the list registers.
            file.hcr |= disable_events(file.vmcr);
        }
        if let Some(bank) = self.bank_mut(cpu) {
            bank.forwarded = if file.count > 0 { enables } else { 0 };
        }
    }

    /// Adds the pending shared interrupts where there are too many to look at each: the first ones,
    /// and how many more there are.
    #[cold]
    #[inline(never)]
    fn add_crowd(&self, cpu: VcpuId, enables: u32, vmcr: u64, pending: &mut Best<MAX_LRS>) {
        let Some(spis) = self.spi_work(cpu) else {
            return;
        };
        // The CPU interface and the distributor have their enables in the same bits.
        let on = vmcr as u32;
        let mut beyond = 0usize;
        for (held_back, groups) in [(0, enables & on), (1, enables & !on)] {
            let before = pending.total;
            let all = spis.first_pending(groups, MAX_LRS, |priority, id| {
                pending.add(held_back, priority, id.get());
            });
            let added = pending.total.saturating_sub(before);
            beyond = beyond.saturating_add(all.saturating_sub(added));
        }
        pending.total = pending.total.saturating_add(beyond);
    }

    fn load(
        &mut self,
        cpu: VcpuId,
        id: IntId,
        file: &mut LrFile,
        again: bool,
        enables: u32,
        active_timers: TimerSet,
    ) {
        let physical = self.bank(cpu).and_then(|bank| bank.link(id, active_timers));
        let Some(mut irq) = self.irq_mut(Line::seen_by(cpu, id)) else {
            return;
        };
        // The latch is not the physical line's doing: nothing but an EOI bit tells when it may be
        // given.
        let physical = physical.filter(|_| !(irq.active() && irq.latch()));
        let (value, note) = list_register(
            &irq,
            id,
            again && irq.target() == Some(cpu),
            forwards(enables, irq.group1()),
            physical,
        );
        if file.push(value) {
            file.has_spis |= id.is_spi();
            irq.set_lr(Some(note));
            if note.latched {
                irq.set(IrqBit::Latch, false);
            }
            file.linked = file.linked.union(note.timer);
        }
    }
}

/// Returns what the list register for an interrupt holds.
///
/// A level-sensitive interrupt is never given as pending while it is active: whether it is pending
/// again is decided by its line and its latch when it is deactivated, and the EOI bit gives us that
/// moment. Without anything to do at that moment (the line is low, nobody watches) the bit stays
/// clear and the guest's EOI costs no exit. An edge may be both, unless it must not simply become
/// pending at its end (not `again`): because it is routed to another vCPU by now, or because a more
/// urgent one may be waiting outside. Then its end exits too.
///
/// A linked one gets no EOI bit: the field is the physical INTID, and the physical line tells when
/// to come back. It is never pending and active either: while it is active, the physical GIC holds
/// what is pending.
fn list_register(
    irq: &Irq<&mut IrqBlock>,
    id: IntId,
    again: bool,
    forwards: bool,
    physical: Option<(TimerId, u16)>,
) -> (u64, InLr) {
    let wanted = irq.raised() && forwards;
    let pending = wanted && (!irq.active() || (irq.edge() && again && physical.is_none()));
    let at_end = if irq.edge() {
        wanted && !again
    } else {
        irq.line() || irq.watched() || (irq.active() && irq.latch())
    };
    let note = InLr {
        pending,
        latched: pending && irq.edge(),
        eoi: physical.is_none() && at_end,
        timer: physical.map_or(TimerSet::NONE, |(timer, _)| TimerSet::only(timer)),
    };
    let mut value = u64::from(id.get()) | (u64::from(irq.priority()) << lr::PRIORITY_SHIFT);
    if irq.active() {
        value |= lr::ACTIVE;
    }
    if note.pending {
        value |= lr::PENDING;
    }
    if irq.group1() {
        value |= lr::GROUP1;
    }
    if note.eoi {
        value |= lr::EOI;
    }
    if let Some((_, physical)) = physical {
        value |= lr::HW | (u64::from(physical & 0x1fff) << lr::PHYSICAL_SHIFT);
    }
    (value, note)
}

/// Returns the bits of ICH_HCR_EL2 for an exit when the guest disables a group that it has enabled.
fn disable_events(vmcr: u64) -> u64 {
    let mut value = 0;
    if vmcr & vmcr::VENG0 != 0 {
        value |= hcr::VGRP0DIE;
    }
    if vmcr & vmcr::VENG1 != 0 {
        value |= hcr::VGRP1DIE;
    }
    value
}
