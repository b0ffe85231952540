// SPDX-License-Identifier: GPL-2.0

//! The active interrupts of a vCPU, and the order in which they end.
//!
//! The order matters for those that are in no list register. In EOImode 0 the guest's write to EOIR
//! only counts their end; it ends the one that was acknowledged last. (In EOImode 1 each is named
//! by a write to DIR, which traps.) So each vCPU keeps what it has acknowledged in a [`Nest`].
//! Behind these come the others, whose active state was written: by priority, because a guest that
//! was saved and restored has acknowledged them all, each one at a higher priority than the one
//! before.
//!
//! A guest can make all shared interrupts active. They are found by the words of sets, and only as
//! many as are asked for are looked at.

use super::flush::Best;
use super::intid::{IntId, Line};
use super::irq::IrqBit;
use super::lrs::{hcr, MAX_LRS};
use super::redist::WorkSet;
use super::state::View;
use crate::model::vcpus::VcpuId;

/// The most interrupts whose order an operation needs: what EOIcount counts to.
pub(super) const MOST: usize = hcr::EOICOUNT_MASK as usize;
const _: () = assert!(MOST >= MAX_LRS);

/// The interrupts that one vCPU has acknowledged, in this order. They may have ended since.
///
/// There are 32 priorities, so in EOImode 0 no more interrupts nest. In EOImode 1, where the order
/// does not matter, more may be active: then the oldest are forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nest {
    ids: [Option<IntId>; Self::CAPACITY],
    len: u8,
}

impl Nest {
    const CAPACITY: usize = 32;

    fn push(&mut self, id: IntId) {
        if usize::from(self.len) == Self::CAPACITY {
            self.ids.rotate_left(1);
            self.len = self.len.wrapping_sub(1);
        }
        if let Some(last) = self.ids.get_mut(usize::from(self.len)) {
            *last = Some(id);
            self.len = self.len.wrapping_add(1);
        }
    }

    /// Returns the interrupts; the first acknowledged comes first.
    fn iter(&self) -> impl DoubleEndedIterator<Item = IntId> + '_ {
        self.ids.iter().take(self.len.into()).copied().flatten()
    }
}

impl View<'_> {
    /// Returns the active interrupts of this vCPU, whose redistributor is locked, as of its last
    /// sync; the shared ones if they are locked, too.
    #[inline(never)]
    pub(super) fn active(&self, cpu: VcpuId) -> WorkSet {
        let spis = self.spi_work(cpu);
        let mut active = spis.map_or(WorkSet::default(), |spis| spis.active());
        self.each_private(cpu, |id, irq| {
            if irq.active() {
                active.insert(id);
            }
        });
        active
    }

    /// Returns the first of these, active interrupts of this vCPU, in the order in which the guest
    /// ends them.
    #[inline(never)]
    pub(super) fn in_order_of_end(&self, cpu: VcpuId, mut active: WorkSet) -> Best<MOST> {
        let mut order = Best::new();
        let Some(bank) = self.bank(cpu) else {
            return order;
        };
        for (rank, id) in (0..).zip(bank.nest.iter().rev()) {
            let acknowledged = |id| {
                self.irq(Line::seen_by(cpu, id))
                    .is_some_and(|irq| irq.acknowledged())
            };
            if active.contains(id) && acknowledged(id) {
                active.remove(id);
                order.add(rank, 0, id.get());
            }
        }
        for id in active.iter().take_while(|id| !id.is_spi()) {
            if let Some(irq) = self.irq(Line::seen_by(cpu, id)) {
                order.add(u8::MAX, irq.priority(), id.get());
            }
        }
        if let Some(shared) = &self.shared {
            for (priority, id) in shared.by_priority(&active).take(MOST) {
                order.add(u8::MAX, priority, id.get());
            }
        }
        order
    }

    /// Notes that this vCPU, which has just been synced, has acknowledged these interrupts in its
    /// last run and not ended them. The most urgent is the last: it has preempted the others.
    #[inline(never)]
    pub(super) fn nest(&mut self, cpu: VcpuId, run: &Best<MAX_LRS>) {
        let Some(old) = self.bank(cpu).map(|bank| bank.nest) else {
            return;
        };
        let mut nest = Nest::default();
        for id in old.iter() {
            let irq = self.irq(Line::seen_by(cpu, id));
            // One of those that were acknowledged again is not yet marked.
            if irq
                .is_some_and(|irq| irq.acknowledged() && irq.active() && irq.holder() == Some(cpu))
            {
                nest.push(id);
            }
        }
        for id in run.iter().rev().filter_map(IntId::new) {
            if let Some(mut irq) = self.irq_mut(Line::seen_by(cpu, id)) {
                irq.set(IrqBit::Acknowledged, true);
                nest.push(id);
            }
        }
        if let Some(bank) = self.bank_mut(cpu) {
            bank.nest = nest;
        }
    }
}
