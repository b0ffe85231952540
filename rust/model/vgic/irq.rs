// SPDX-License-Identifier: GPL-2.0

//! The state of the interrupts, in blocks of 32, as the registers have them.
//!
//! A register that has a bit for each of 32 interrupts is read from the bytes of all of them at
//! once, eight bytes to a word, and a write to it does something about those only that it changes.

use super::intid::IntId;
use crate::model::timer::TimerSet;
use crate::model::vcpus::VcpuId;
use crate::speculation;
use core::ops::{Deref, DerefMut};

/// Something that an interrupt is, or is not: a bit of its byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IrqBit {
    /// Its bit in GICD_ISENABLER.
    Enabled,
    /// In group 1, otherwise in group 0.
    Group1,
    /// Edge-triggered, otherwise level-sensitive.
    Edge,
    /// Active.
    Active,
    /// Pending by an edge or by a write to ISPENDR.
    Latch,
    /// The level of the input. Means nothing for an edge.
    Line,
    /// While it is active: its holder has acknowledged it, and has it in its
    /// [`Nest`](super::active).
    Acknowledged,
    /// Somebody waits for the guest to deactivate it.
    Watched,
}

impl IrqBit {
    const fn mask(self) -> u8 {
        1 << self as u8
    }
}

/// What was written into a list register for an interrupt, for as long as the guest may be changing
/// it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InLr {
    /// It was put there as pending.
    pub(super) pending: bool,
    /// Being an edge, its latch moved there.
    pub(super) latched: bool,
    /// Its deactivation asserts a maintenance interrupt.
    pub(super) eoi: bool,
    /// The list register is linked to the physical interrupt of a timer, which is deactivated with
    /// it.
    pub(super) timer: TimerSet,
}

impl InLr {
    /// In the byte of an interrupt: it is in a list register. The others say nothing without it.
    const HELD: u8 = 1 << 0;
    const PENDING: u8 = 1 << 1;
    const LATCHED: u8 = 1 << 2;
    const EOI: u8 = 1 << 3;
    const TIMER_SHIFT: u32 = 4;

    #[inline(always)]
    fn pack(lr: Option<Self>) -> u8 {
        lr.map_or(0, |lr| {
            let bit = |is, bit| if is { bit } else { 0 };
            Self::HELD
                | bit(lr.pending, Self::PENDING)
                | bit(lr.latched, Self::LATCHED)
                | bit(lr.eoi, Self::EOI)
                | lr.timer.bits() << Self::TIMER_SHIFT
        })
    }

    #[inline(always)]
    fn unpack(byte: u8) -> Option<Self> {
        (byte & Self::HELD != 0).then(|| Self {
            pending: byte & Self::PENDING != 0,
            latched: byte & Self::LATCHED != 0,
            eoi: byte & Self::EOI != 0,
            timer: TimerSet::from_bits(byte >> Self::TIMER_SHIFT),
        })
    }
}

/// Where an interrupt goes.
#[derive(Clone, Copy, Debug, Default)]
struct IrqPlace {
    /// GICD_IROUTER: Aff2, Aff1, Aff0 in 24 bits.
    route: u32,
    /// The vCPU that `route` names, or that a private interrupt belongs to. None: routed to nobody.
    target: Option<VcpuId>,
    /// The vCPU that has it in its work set: the target, or where it is active.
    holder: Option<VcpuId>,
}

/// 32 interrupts, private or shared, whose numbers follow each other.
///
/// While one sits in a list register of a running vCPU, whether it is active and its latch are here
/// only what they were at the last entry, plus edges that arrived since.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct IrqBlock {
    /// An [`IrqBit`] each.
    bits: PerIrq,
    /// An [`InLr`], or 0.
    lr: PerIrq,
    priority: PerIrq,
    /// In the order of the bytes.
    place: [IrqPlace; Self::LEN],
}

/// A byte for each interrupt of a block, in four words of eight bytes.
///
/// Of four interrupts whose numbers follow each other the bytes are in the same place of the four
/// words: a bit of each byte is gathered in few steps then.
#[derive(Clone, Copy, Debug, Default)]
struct PerIrq([Eight; 4]);

/// Eight bytes that are loaded as one word: their type says that they are aligned.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
struct Eight([u8; 8]);

impl PerIrq {
    /// Returns where the byte of the interrupt in place `n` of the block is.
    #[inline(always)]
    const fn slot(n: usize) -> usize {
        n % 4 * 8 | n / 4 % 8
    }

    /// Returns the byte in a slot.
    #[inline(always)]
    const fn get(&self, slot: usize) -> u8 {
        self.0[slot / 8 % 4].0[slot % 8]
    }

    /// Returns the byte in a slot, to be changed.
    #[inline(always)]
    fn get_mut(&mut self, slot: usize) -> &mut u8 {
        &mut self.0[slot / 8 % 4].0[slot % 8]
    }

    /// The words.
    #[inline(always)]
    fn words(&self) -> [u64; 4] {
        let [a, b, c, d] = &self.0;
        [
            u64::from_le_bytes(a.0),
            u64::from_le_bytes(b.0),
            u64::from_le_bytes(c.0),
            u64::from_le_bytes(d.0),
        ]
    }

    /// Returns a bit for each interrupt: the one with this number, at most 4, of its byte.
    #[inline(always)]
    fn gather(&self, bit: u32) -> u32 {
        gather(self.words(), bit)
    }
}

/// Returns a bit for each byte of four words of bytes, as [`PerIrq`] has them: the one with this
/// number, at most 4.
#[inline(always)]
fn gather(words: [u64; 4], bit: u32) -> u32 {
    let mask = LOWEST << (bit & 7);
    let [a, b, c, d] = words;
    let (a, b, c, d) = (a & mask, b & mask, c & mask, d & mask);
    // Byte n has the bits of interrupts 4n to 4n + 3; then every second one those of eight, and so
    // on.
    let nibbles = (a | b << 1 | c << 2 | d << 3) >> (bit & 7);
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (halves | halves >> 16) as u32
}

/// The lowest bit of each byte.
const LOWEST: u64 = 0x0101_0101_0101_0101;

impl Default for IrqBlock {
    fn default() -> Self {
        Self {
            bits: PerIrq::default(),
            lr: PerIrq::default(),
            priority: PerIrq::default(),
            place: [IrqPlace::default(); Self::LEN],
        }
    }
}

impl IrqBlock {
    /// How many interrupts a block has.
    pub const LEN: usize = 32;

    /// A shared interrupt out of reset. The architecture leaves most of it unknown; group 1, edge,
    /// not enabled are what KVM starts with. So what a device does before the guest has configured
    /// its interrupt is kept, as an edge.
    pub(super) const SPI: u8 = IrqBit::Group1.mask() | IrqBit::Edge.mask();

    /// An SGI out of reset: edge-triggered, and enabled, which the architecture leaves to the
    /// implementation.
    pub(super) const SGI: u8 = Self::SPI | IrqBit::Enabled.mask();

    /// A PPI out of reset: level-sensitive, as GICR_ICFGR1 says for good.
    pub(super) const PPI: u8 = IrqBit::Group1.mask();

    /// Returns one of the interrupts.
    #[inline(always)]
    pub(super) fn irq(&self, id: IntId) -> Irq<&Self> {
        Irq::new(self, id)
    }

    /// Returns one of the interrupts, to be changed.
    #[inline(always)]
    pub(super) fn irq_mut(&mut self, id: IntId) -> Irq<&mut Self> {
        Irq::new(self, id)
    }

    /// Returns a bit for each interrupt: whether `bit`, one of the first five, is set.
    #[inline(always)]
    pub(super) fn word(&self, bit: IrqBit) -> u32 {
        self.bits.gather(bit as u32)
    }

    /// Returns a bit for each interrupt: whether it is pending.
    #[inline(always)]
    pub(super) fn pending_word(&self) -> u32 {
        #[inline(always)]
        const fn pending(word: u64) -> u64 {
            word >> IrqBit::Latch as u32
                | word >> IrqBit::Line as u32 & !(word >> IrqBit::Edge as u32)
        }
        let [a, b, c, d] = self.bits.words();
        gather([pending(a), pending(b), pending(c), pending(d)], 0)
    }

    /// Returns a bit for each interrupt: whether it is level-sensitive, and its line is asserted.
    pub(super) fn level_word(&self) -> u32 {
        let levels = self
            .bits
            .words()
            .map(|word| word >> IrqBit::Line as u32 & !(word >> IrqBit::Edge as u32));
        gather(levels, 0)
    }

    /// Returns a bit for each interrupt: whether it is in a list register.
    #[inline]
    pub(super) fn held_word(&self) -> u32 {
        const { assert!(InLr::HELD == 1) };
        self.lr.gather(0)
    }

    /// Returns a bit for each interrupt: whether it is in a list register, and went there as
    /// pending.
    #[inline]
    pub(super) fn held_pending_word(&self) -> u32 {
        const { assert!(InLr::HELD == 1 && InLr::PENDING == 1 << 1) };
        gather(self.lr.words().map(|word| word & word >> 1), 0)
    }

    /// Returns whether any of the interrupts is in a list register.
    #[inline(always)]
    pub(super) fn any_held(&self) -> bool {
        let [a, b, c, d] = self.lr.words();
        a | b | c | d != 0
    }

    /// Returns the priorities of some interrupts, a byte each, the one in place `first` in the
    /// lowest: as many as there are up to the next place that is a multiple of 4.
    #[inline(always)]
    pub(super) fn priorities(&self, first: u32) -> u32 {
        let at = first as usize / 4 % 8;
        let byte = |word: usize| u32::from(self.priority.get(word * 8 + at)) << (word * 8);
        (byte(0) | byte(1) | byte(2) | byte(3)) >> (8 * (first % 4))
    }

    /// Returns GICD_IROUTER of the interrupt in place `n`.
    #[inline(always)]
    pub(super) fn route(&self, n: u32) -> u32 {
        self.place[PerIrq::slot(n as usize)].route
    }
}

/// One interrupt of a block, which is there to be read (`&IrqBlock`) or to be changed.
///
/// # Invariants
///
/// The slot is below [`IrqBlock::LEN`].
pub(super) struct Irq<B> {
    block: B,
    slot: usize,
}

impl<B: Deref<Target = IrqBlock>> Irq<B> {
    #[inline(always)]
    fn new(block: B, id: IntId) -> Self {
        let n = speculation::wrap::<{ IrqBlock::LEN }>(id.index());
        // INVARIANT: the slots of a block are.
        Self {
            block,
            slot: PerIrq::slot(n),
        }
    }

    #[inline(always)]
    fn is(&self, bit: IrqBit) -> bool {
        self.bits() & bit.mask() != 0
    }

    #[inline(always)]
    fn bits(&self) -> u8 {
        self.block.bits.get(self.slot)
    }

    #[inline(always)]
    fn place(&self) -> &IrqPlace {
        &self.block.place[self.slot % IrqBlock::LEN]
    }

    #[inline(always)]
    pub(super) fn group1(&self) -> bool {
        self.is(IrqBit::Group1)
    }

    #[inline(always)]
    pub(super) fn edge(&self) -> bool {
        self.is(IrqBit::Edge)
    }

    #[inline(always)]
    pub(super) fn line(&self) -> bool {
        self.is(IrqBit::Line)
    }

    #[inline(always)]
    pub(super) fn latch(&self) -> bool {
        self.is(IrqBit::Latch)
    }

    #[inline(always)]
    pub(super) fn active(&self) -> bool {
        self.is(IrqBit::Active)
    }

    #[inline(always)]
    pub(super) fn acknowledged(&self) -> bool {
        self.is(IrqBit::Acknowledged)
    }

    #[inline(always)]
    pub(super) fn watched(&self) -> bool {
        self.is(IrqBit::Watched)
    }

    #[inline(always)]
    pub(super) fn priority(&self) -> u8 {
        self.block.priority.get(self.slot)
    }

    /// Returns GICD_IROUTER.
    pub(super) fn route(&self) -> u32 {
        self.place().route
    }

    /// Returns the vCPU that it is routed to, or belongs to.
    #[inline(always)]
    pub(super) fn target(&self) -> Option<VcpuId> {
        self.place().target
    }

    /// Returns the vCPU that has it in its work set.
    #[inline(always)]
    pub(super) fn holder(&self) -> Option<VcpuId> {
        self.place().holder
    }

    /// Returns what went into a list register, if it is in one.
    #[inline(always)]
    pub(super) fn lr(&self) -> Option<InLr> {
        InLr::unpack(self.block.lr.get(self.slot))
    }

    /// Returns the pending state that the guest reads in ISPENDR.
    #[inline(always)]
    pub(super) fn pending(&self) -> bool {
        self.latch() || (!self.edge() && self.line())
    }

    /// Returns whether it is pending and enabled: the distributor wants to forward it, groups
    /// permitting.
    #[inline(always)]
    pub(super) fn raised(&self) -> bool {
        self.is(IrqBit::Enabled) && self.pending()
    }

    /// Returns whose work set it belongs in. An active interrupt stays where it was acknowledged,
    /// whatever its route says now.
    #[inline(always)]
    pub(super) fn wanted_by(&self) -> Option<VcpuId> {
        if self.active() {
            self.holder().or(self.target())
        } else if self.raised() {
            self.target()
        } else {
            None
        }
    }

    /// Returns who has to leave the guest, or wake up, because this interrupt has just become
    /// pending.
    ///
    /// Not needed where an exit is certain to come before it could be delivered: while it is active
    /// outside the list registers (that deactivation traps), and when a level sits in a list
    /// register whose end asserts a maintenance interrupt.
    #[inline(always)]
    pub(super) fn kick_when_raised(&self) -> Option<VcpuId> {
        if !self.raised() {
            return None;
        }
        match self.lr() {
            Some(lr) if !self.edge() && lr.eoi => None,
            None if self.active() => None,
            _ => self.holder(),
        }
    }
}

impl<B: DerefMut<Target = IrqBlock>> Irq<B> {
    #[inline(always)]
    pub(super) fn set(&mut self, bit: IrqBit, is: bool) {
        let bits = self.block.bits.get_mut(self.slot);
        if is {
            *bits |= bit.mask();
        } else {
            *bits &= !bit.mask();
        }
    }

    pub(super) fn set_priority(&mut self, priority: u8) {
        *self.block.priority.get_mut(self.slot) = priority;
    }

    /// Routes it: GICD_IROUTER, and the vCPU that this names.
    pub(super) fn set_route(&mut self, route: u32, target: Option<VcpuId>) {
        let place = &mut self.block.place[self.slot % IrqBlock::LEN];
        (place.route, place.target) = (route, target);
    }

    #[inline(always)]
    pub(super) fn set_holder(&mut self, holder: Option<VcpuId>) {
        self.block.place[self.slot % IrqBlock::LEN].holder = holder;
    }

    #[inline(always)]
    pub(super) fn set_lr(&mut self, lr: Option<InLr>) {
        *self.block.lr.get_mut(self.slot) = InLr::pack(lr);
    }

    /// Becomes one out of reset with `bits` and for `target`, but keeps what the outside world
    /// decides: the level of the line, and who watches it.
    pub(super) fn reset(&mut self, bits: u8, target: VcpuId) {
        let kept = self.bits() & (IrqBit::Line.mask() | IrqBit::Watched.mask());
        *self.block.bits.get_mut(self.slot) = bits | kept;
        self.set_lr(None);
        self.set_priority(0);
        self.set_route(0, Some(target));
        self.set_holder(None);
    }
}
