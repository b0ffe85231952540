// SPDX-License-Identifier: GPL-2.0

//! One vCPU's side of the interrupt controller.

use super::intid::IntId;
use super::irq::Irq;
use super::lpi::RedistLpis;
use crate::model::timer::{TimerId, TimerSet};
use crate::model::vcpus::{bits, VcpuId};

/// The interrupts that a vCPU may have to be given: everything in here is active, or pending and enabled.
///
/// Two levels of bitmap, so that finding the members costs what there are members, and an empty set costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkSet {
    words: [u64; 16],
    /// Bit n: `words[n]` is not zero.
    summary: u16,
}

impl WorkSet {
    pub(super) fn insert(&mut self, id: IntId) {
        let n = id.index() / 64;
        if let Some(word) = self.words.get_mut(n) {
            *word |= 1 << (id.index() % 64);
            self.summary |= 1 << n;
        }
    }

    pub(super) fn remove(&mut self, id: IntId) {
        let n = id.index() / 64;
        if let Some(word) = self.words.get_mut(n) {
            *word &= !(1 << (id.index() % 64));
            if *word == 0 {
                self.summary &= !(1 << n);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.summary == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = IntId> + '_ {
        bits(u64::from(self.summary)).flat_map(|n| {
            let word = self.words.get(n as usize).copied().unwrap_or(0);
            bits(word).filter_map(move |bit| IntId::new(n * 64 + bit))
        })
    }
}

/// A physical interrupt that belongs to a private one while it is in a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HwMap {
    pub(super) id: IntId,
    /// The physical INTID, a PPI of the CPU that the vCPU runs on.
    pub(super) physical: u16,
}

/// The redistributor of one vCPU, with its SGIs and PPIs.
#[derive(Clone, Debug)]
pub struct Redist {
    /// Aff2, Aff1, Aff0 as in GICD_IROUTER.
    pub(super) affinity: u32,
    /// GICR_TYPER.Processor_Number.
    pub(super) number: u16,
    /// GICR_TYPER.Last: no redistributor follows it in memory.
    pub(super) last: bool,
    /// GICR_STATUSR.
    pub(super) status: u32,
    pub(super) work: WorkSet,
    /// Between flush and sync: the vCPU may be changing its list registers at this moment.
    pub(super) resident: bool,
    /// Some interrupt is in its list registers.
    pub(super) in_lrs: bool,
    /// What the timers' interrupts are linked to, by [`TimerId`].
    pub(super) timers: [Option<HwMap>; 2],
    pub(super) lpis: RedistLpis,
    pub(super) private: [Irq; IntId::PRIVATE as usize],
}

impl Redist {
    /// The redistributor of a vCPU with this affinity (Aff2, Aff1, Aff0 in bits 23:0; Aff3 is not supported) and this
    /// number (KVM's vCPU id, shown in GICR_TYPER).
    pub fn new(affinity: u32, vcpu_id: u16) -> Self {
        let mut private = [Irq::ppi(); IntId::PRIVATE as usize];
        for sgi in private.iter_mut().take(16) {
            *sgi = Irq::sgi();
        }
        Self {
            affinity: affinity & 0xff_ffff,
            number: vcpu_id,
            last: false,
            status: 0,
            work: WorkSet::default(),
            resident: false,
            in_lrs: false,
            timers: [None; 2],
            lpis: RedistLpis::default(),
            private,
        }
    }

    /// The timer that this interrupt is, and the physical interrupt that it is linked to, if that is active.
    pub(super) fn link(&self, id: IntId, active: TimerSet) -> Option<(TimerId, u16)> {
        if active.is_empty() {
            return None;
        }
        self.timers
            .iter()
            .zip(TimerId::ALL)
            .find_map(|(map, timer)| Some((timer, map.filter(|map| map.id == id)?.physical)))
            .filter(|&(timer, _)| active.contains(timer))
    }

    /// Whether its vCPU may have to be given something.
    pub(super) fn has_work(&self) -> bool {
        !self.work.is_empty() || self.lpis.queues.len != 0
    }

    /// Out of reset, as the redistributor of this vCPU. What it is wired to stays.
    pub(super) fn reset(&mut self, vcpu: VcpuId) {
        self.status = 0;
        self.work = WorkSet::default();
        self.resident = false;
        self.in_lrs = false;
        self.reset_private(vcpu);
    }

    /// The private interrupts out of reset; none of them is in the work set.
    pub(super) fn reset_private(&mut self, vcpu: VcpuId) {
        for (n, irq) in self.private.iter_mut().enumerate() {
            irq.reset(Irq {
                target: Some(vcpu),
                ..if n < 16 { Irq::sgi() } else { Irq::ppi() }
            });
        }
    }

    /// The affinity that KVM gives the vCPU with this index: 16 vCPUs to a cluster, because an SGI's target list has
    /// 16 bits.
    pub const fn usual_affinity(vcpu: VcpuId) -> u32 {
        let n = vcpu.index() as u32;
        (n & 0xf) | (((n >> 4) & 0xff) << 8) | (((n >> 12) & 0xff) << 16)
    }

    /// The inverse of [`Redist::usual_affinity`], for affinities that have one.
    pub(super) fn usual_index(affinity: u32) -> Option<VcpuId> {
        if affinity & 0xf0 != 0 {
            return None;
        }
        let n =
            (affinity & 0xf) | (((affinity >> 8) & 0xff) << 4) | (((affinity >> 16) & 0xff) << 12);
        VcpuId::new(n as usize)
    }
}
