// SPDX-License-Identifier: GPL-2.0

//! One vCPU's side of the interrupt controller.

use super::active::Nest;
use super::intid::IntId;
use super::irq::IrqBlock;
use super::lpi::RedistLpis;
use super::regs;
use crate::model::bitset::{bits, BitSet};
use crate::model::timer::{TimerId, TimerSet};
use crate::model::vcpus::VcpuId;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Some of the shared interrupts: those that a vCPU may have to be given, each of which is active,
/// or pending and enabled; or all of one kind.
pub type WorkSet = BitSet<IntId, 16>;

impl WorkSet {
    /// How many sets there are by kind: one for each priority, one for group 0, one for what is
    /// active.
    pub const KINDS: usize = 34;

    /// As many members cost less one by one.
    const FEW: usize = 32;

    /// Returns whether it has so many members that nobody should look at each of them.
    #[inline]
    pub(super) fn is_crowd(&self) -> bool {
        self.is_spread() && self.len() > Self::FEW
    }
}

/// A physical interrupt that belongs to a private one while it is in a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HwMap {
    pub(super) id: IntId,
    /// The physical INTID, a PPI of the CPU that the vCPU runs on.
    pub(super) physical: u16,
}

/// What of one vCPU's redistributor is read without a lock. Each has its own cache line: others
/// write here for a vCPU what that one reads whenever it enters the guest.
#[derive(Debug)]
#[repr(align(64))]
pub struct Redist {
    /// The private interrupts that the vCPU may have to be given, each in the place of its number,
    /// and [`Redist::LPIS`]. Written with its [`Bank`] locked.
    banked: AtomicU64,
    /// There are shared interrupts that the vCPU may have to be given. Written with those locked.
    spis: AtomicBool,
    /// GICR_TYPER.Last: no redistributor follows it in memory.
    last: AtomicBool,
    /// GICR_TYPER.Processor_Number.
    pub(super) number: u16,
    /// Aff2, Aff1, Aff0 as in GICD_IROUTER.
    affinity: AtomicU32,
}

impl Redist {
    /// In `banked`: there are LPIs that the vCPU may have to be given.
    const LPIS: u64 = 1 << 32;

    /// Makes the redistributor of a vCPU with this affinity (Aff2, Aff1, Aff0 in bits 23:0; Aff3 is
    /// not supported) and this number (KVM's vCPU id, shown in GICR_TYPER).
    pub fn new(affinity: u32, vcpu_id: u16) -> Self {
        Self {
            banked: AtomicU64::new(0),
            spis: AtomicBool::new(false),
            last: AtomicBool::new(false),
            number: vcpu_id,
            affinity: AtomicU32::new(affinity & 0xff_ffff),
        }
    }

    /// Returns whether its vCPU may have to be given something.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.banked.load(Relaxed) != 0 || self.has_spis()
    }

    /// Returns whether its vCPU may have to be given a shared interrupt.
    #[inline]
    pub(super) fn has_spis(&self) -> bool {
        self.spis.load(Relaxed)
    }

    pub(super) fn note_spis(&self, some: bool) {
        self.spis.store(some, Relaxed);
    }

    /// Returns the private interrupts that its vCPU, whose bank is locked, may have to be given.
    pub(super) fn private_work(&self) -> impl Iterator<Item = IntId> {
        bits(self.banked.load(Relaxed) & !Self::LPIS).filter_map(IntId::new)
    }

    /// Puts a private interrupt among them, or takes it out. One writer at a time: the bank's lock.
    #[inline]
    pub(super) fn set_private(&self, id: IntId, wanted: bool) {
        self.set_banked(1 << (id.index() % 32), wanted);
    }

    /// Notes that there are LPIs that its vCPU, whose bank is locked, may have to be given, or
    /// none.
    pub(super) fn note_lpis(&self, some: bool) {
        self.set_banked(Self::LPIS, some);
    }

    fn set_banked(&self, bits: u64, on: bool) {
        let old = self.banked.load(Relaxed);
        self.banked
            .store(if on { old | bits } else { old & !bits }, Relaxed);
    }

    pub(super) fn affinity(&self) -> u32 {
        self.affinity.load(Relaxed)
    }

    pub(super) fn set_affinity(&self, affinity: u32) {
        self.affinity.store(affinity & 0xff_ffff, Relaxed);
    }

    pub(super) fn is_last(&self) -> bool {
        self.last.load(Relaxed)
    }

    pub(super) fn set_last(&self, last: bool) {
        self.last.store(last, Relaxed);
    }

    /// Notes that no private interrupt is among those that the vCPU may have to be given; its bank
    /// is locked.
    pub(super) fn forget_private(&self) {
        self.set_banked(!Self::LPIS, false);
    }

    /// Returns the affinity that KVM gives the vCPU with this index: 16 vCPUs to a cluster, because
    /// an SGI's target list has 16 bits.
    pub const fn usual_affinity(vcpu: VcpuId) -> u32 {
        let n = vcpu.index() as u32;
        (n & 0xf) | (((n >> 4) & 0xff) << 8) | (((n >> 12) & 0xff) << 16)
    }

    /// Returns the inverse of [`Redist::usual_affinity`], for affinities that have one.
    pub(super) fn usual_index(affinity: u32) -> Option<VcpuId> {
        if affinity & 0xf0 != 0 {
            return None;
        }
        let n =
            (affinity & 0xf) | (((affinity >> 8) & 0xff) << 4) | (((affinity >> 16) & 0xff) << 12);
        VcpuId::new(n as usize)
    }
}

/// What of one vCPU's redistributor is under its lock: SGIs, PPIs, and its LPIs.
#[derive(Clone, Debug)]
pub struct Bank {
    /// GICR_STATUSR.
    pub(super) status: u32,
    /// Between flush and sync: the vCPU may be changing its list registers at this moment.
    pub(super) resident: bool,
    /// The group enables of GICD_CTLR that its list registers were filled by; 0: nothing is in
    /// them.
    pub(super) forwarded: u32,
    /// What the timers' interrupts are linked to, by [`TimerId`].
    pub(super) timers: [Option<HwMap>; 2],
    pub(super) lpis: RedistLpis,
    /// What the vCPU has acknowledged.
    pub(super) nest: Nest,
    pub(super) private: IrqBlock,
}

impl Bank {
    /// Makes it out of reset, as this vCPU's.
    pub fn new(vcpu: VcpuId) -> Self {
        let mut bank = Self {
            status: 0,
            resident: false,
            forwarded: 0,
            timers: [None; 2],
            lpis: RedistLpis {
                pendbaser: regs::TABLE_AT_RESET,
                ..RedistLpis::default()
            },
            nest: Nest::default(),
            private: IrqBlock::default(),
        };
        bank.reset_private(vcpu);
        bank
    }

    /// Returns the timer that this interrupt is, and the physical interrupt that it is linked to,
    /// if that is active.
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

    /// Resets it. What it is wired to stays.
    pub(super) fn reset(&mut self, vcpu: VcpuId) {
        self.status = 0;
        self.resident = false;
        self.forwarded = 0;
        self.reset_private(vcpu);
    }

    /// Resets the private interrupts; none of them is in the work set.
    pub(super) fn reset_private(&mut self, vcpu: VcpuId) {
        for id in (0..IntId::PRIVATE).filter_map(IntId::new) {
            let bits = if id.is_sgi() {
                IrqBlock::SGI
            } else {
                IrqBlock::PPI
            };
            self.private.irq_mut(id).reset(bits, vcpu);
        }
    }
}
