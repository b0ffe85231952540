// SPDX-License-Identifier: GPL-2.0

//! LPIs: interrupts that are messages (IHI 0069, chapter 5).
//!
//! An LPI is a latch and nothing else: it has no line and no active state, and is always in group 1. Which vCPU it goes to is
//! the ITS's business; whether it is enabled and how urgent it is stands in a table in the guest's memory, of which this
//! keeps a copy, as the architecture allows, until the guest invalidates it. What is in tables the caller reads and writes:
//! nothing in here may sleep.
//!
//! A guest may have tens of thousands of them, so they are kept apart from the other interrupts: in blocks that are there
//! once one of their LPIs is mapped, and, where they are pending, in a queue for each vCPU and priority. Filling the list
//! registers looks at the most urgent ones only, however many there are.
//!
//! While an LPI is in a list register the CPU interface gives it an active state. It ends with the priority drop, counts
//! for nothing in EOIcount (IHI 0069, ICH_HCR_EL2.EOIcount), and so needs no list register: an LPI that was acknowledged
//! is done with.

use super::lrs::{lr, LrFile};
use super::{Error, Notify, Stale, View};
use crate::model::vcpus::VcpuId;
use core::num::NonZeroU16;

/// The number of an LPI.
///
/// # Invariants
///
/// The number is at least [`LpiId::FIRST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LpiId(NonZeroU16);

impl LpiId {
    /// The lowest LPI.
    pub const FIRST: u32 = 8192;

    /// How many bits INTIDs have where there are LPIs.
    pub const BITS: u32 = 16;

    /// How many LPIs a block has.
    pub const BLOCK: usize = 128;

    /// How many blocks there are for all LPIs.
    pub const BLOCKS: usize = ((1 << Self::BITS) - Self::FIRST as usize) / Self::BLOCK;

    /// The LPI with this number, if it is one.
    pub const fn new(intid: u32) -> Option<Self> {
        if intid < Self::FIRST || intid >> Self::BITS != 0 {
            return None;
        }
        match NonZeroU16::new(intid as u16) {
            // INVARIANT: just checked.
            Some(intid) => Some(Self(intid)),
            None => None,
        }
    }

    /// LPI `n` of block `block`.
    pub const fn of_block(block: usize, n: u32) -> Option<Self> {
        if block >= Self::BLOCKS || n as usize >= Self::BLOCK {
            return None;
        }
        Self::new(Self::FIRST + (block * Self::BLOCK) as u32 + n)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get() as u32
    }

    /// How many LPIs are before this one.
    pub const fn index(self) -> usize {
        self.get().wrapping_sub(Self::FIRST) as usize
    }

    /// The block that it is in.
    pub const fn block(self) -> usize {
        self.index() / Self::BLOCK
    }
}

/// One LPI.
#[derive(Clone, Debug, Default)]
pub struct Lpi {
    /// How many events of ITSes it stands for; 0: it is not mapped.
    maps: u32,
    /// Whose redistributor has it. None: its collection is mapped to nobody.
    target: Option<VcpuId>,
    /// As the guest's table said when it was last looked at.
    priority: u8,
    enabled: bool,
    /// Pending, unless `lr` says that this is in a list register.
    latch: bool,
    /// It is in a list register of the vCPU that has it queued, where it was pending.
    in_lr: bool,
    /// The queue that it is in, and its neighbours there.
    queued: Option<Queue>,
    next: Option<LpiId>,
    previous: Option<LpiId>,
}

/// One of a vCPU's queues: all of it has one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Queue {
    vcpu: VcpuId,
    priority: u8,
}

/// Priorities have 5 bits, in 7:3.
const PRIORITY_SHIFT: u32 = 3;
const PRIORITIES: usize = 32;

/// The LPIs that a vCPU may have to be given: pending and enabled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LpiQueues {
    ends: [Option<(LpiId, LpiId)>; PRIORITIES],
    /// Bit n: there are some of priority n << 3.
    priorities: u32,
    pub(super) len: u32,
}

/// One redistributor's side of LPIs.
#[derive(Clone, Debug, Default)]
pub(super) struct RedistLpis {
    /// GICR_CTLR.EnableLPIs.
    pub(super) enabled: bool,
    /// GICR_PENDBASER.
    pub(super) pendbaser: u64,
    pub(super) queues: LpiQueues,
}

/// What the guest's table says of an LPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LpiConfig {
    /// 5 bits, in 7:3.
    pub priority: u8,
    /// Whether it is forwarded.
    pub enabled: bool,
}

impl LpiConfig {
    /// From the byte in the table: priority in 7:2, enabled in 0.
    pub const fn new(byte: u8) -> Self {
        Self {
            priority: byte & 0xf8,
            enabled: byte & 1 != 0,
        }
    }
}

/// What a write to a redistributor's registers asks for that takes the guest's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LpiWork {
    /// LPIs were enabled for this vCPU: what its pending table says is pending.
    Enabled(VcpuId),
    /// LPIs were disabled: none is pending any more.
    Disabled(VcpuId),
    /// The copy of one LPI's configuration is no longer valid.
    Invalidate(LpiId),
    /// The same for all LPIs of this vCPU.
    InvalidateAll(VcpuId),
}

/// Why a message raised nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRaised {
    /// The LPI is not mapped, or goes to nobody.
    Unmapped,
    /// The vCPU has LPIs disabled.
    Disabled,
}

/// Where LPIs are stored: some blocks of [`LpiId::BLOCK`].
pub trait LpiStore {
    /// A block, if it is there.
    fn block(&self, n: usize) -> Option<&[Lpi]>;
    /// A block, if it is there.
    fn block_mut(&mut self, n: usize) -> Option<&mut [Lpi]>;
}

impl LpiQueues {
    /// The most urgent priority.
    fn first(&self) -> Option<u8> {
        (self.priorities != 0).then(|| (self.priorities.trailing_zeros() << PRIORITY_SHIFT) as u8)
    }

    fn ends(&mut self, priority: u8) -> Option<&mut Option<(LpiId, LpiId)>> {
        self.ends.get_mut(usize::from(priority >> PRIORITY_SHIFT))
    }

    fn note(&mut self, priority: u8, some: bool) {
        let bit = 1 << (priority >> PRIORITY_SHIFT);
        if some {
            self.priorities |= bit;
        } else {
            self.priorities &= !bit;
        }
    }
}

impl View<'_> {
    fn lpi(&self, id: LpiId) -> Option<&Lpi> {
        self.lpis.block(id.block())?.get(id.index() % LpiId::BLOCK)
    }

    fn lpi_mut(&mut self, id: LpiId) -> Option<&mut Lpi> {
        self.lpis
            .block_mut(id.block())?
            .get_mut(id.index() % LpiId::BLOCK)
    }

    fn redist_lpis(&self, vcpu: VcpuId) -> Option<&RedistLpis> {
        Some(&self.redists.get(vcpu.index())?.lpis)
    }

    fn queues(&mut self, vcpu: VcpuId) -> Option<&mut LpiQueues> {
        Some(&mut self.redists.get_mut(vcpu.index())?.lpis.queues)
    }

    fn link(&mut self, id: LpiId, queue: Queue) {
        let Some(ends) = self
            .queues(queue.vcpu)
            .and_then(|queues| queues.ends(queue.priority))
        else {
            return;
        };
        let last = ends.map(|(_, last)| last);
        *ends = Some((ends.map_or(id, |(first, _)| first), id));
        if let Some(queues) = self.queues(queue.vcpu) {
            queues.note(queue.priority, true);
            queues.len = queues.len.saturating_add(1);
        }
        if let Some(last) = last.and_then(|last| self.lpi_mut(last)) {
            last.next = Some(id);
        }
        if let Some(lpi) = self.lpi_mut(id) {
            (lpi.queued, lpi.previous, lpi.next) = (Some(queue), last, None);
        }
    }

    fn unlink(&mut self, id: LpiId) {
        let Some(lpi) = self.lpi_mut(id) else { return };
        let Some(queue) = lpi.queued.take() else {
            return;
        };
        let (previous, next) = (lpi.previous.take(), lpi.next.take());
        if let Some(previous) = previous.and_then(|id| self.lpi_mut(id)) {
            previous.next = next;
        }
        if let Some(next) = next.and_then(|id| self.lpi_mut(id)) {
            next.previous = previous;
        }
        let Some(queues) = self.queues(queue.vcpu) else {
            return;
        };
        queues.len = queues.len.saturating_sub(1);
        if let Some(ends) = queues.ends(queue.priority) {
            *ends = ends.and_then(|(first, last)| {
                let first = if first == id { next? } else { first };
                let last = if last == id { previous? } else { last };
                Some((first, last))
            });
            let some = ends.is_some();
            queues.note(queue.priority, some);
        }
    }

    /// Brings the queues up to date with an LPI that changed. One in a list register stays where it is until it comes back.
    fn place_lpi(&mut self, id: LpiId) {
        let Some(lpi) = self.lpi(id).filter(|lpi| !lpi.in_lr) else {
            return;
        };
        let wanted = lpi
            .target
            .filter(|_| lpi.maps != 0 && lpi.enabled && lpi.latch)
            .filter(|&vcpu| self.redist_lpis(vcpu).is_some_and(|lpis| lpis.enabled))
            .map(|vcpu| Queue {
                vcpu,
                priority: lpi.priority,
            });
        if lpi.queued == wanted {
            return;
        }
        self.unlink(id);
        if let Some(queue) = wanted {
            self.link(id, queue);
        }
    }

    /// Who has to be kicked for an LPI that has just become pending, or may go to somebody else now.
    fn lpi_kick(&self, id: LpiId) -> Option<VcpuId> {
        let lpi = self.lpi(id)?;
        lpi.queued
            .map(|queue| queue.vcpu)
            .filter(|_| lpi.latch && self.dist.forwards(true))
    }

    /// Fails with the vCPU that has it in a list register.
    fn check_lpi(&self, id: LpiId) -> Result<(), Error> {
        let mut stale = Stale::default();
        if let Some(lpi) = self.lpi(id).filter(|lpi| lpi.in_lr) {
            stale.add_vcpu(None, lpi.queued.map(|queue| queue.vcpu));
        }
        stale.check()
    }

    /// See [`super::Gic::map_lpi`].
    pub(super) fn map_lpi(&mut self, id: LpiId, target: Option<VcpuId>) -> Result<bool, Error> {
        let lpi = self.lpi_mut(id).ok_or(Error::Invalid)?;
        let first = lpi.maps == 0;
        if first {
            // It is in no queue and no list register: it was not pending when it was unmapped.
            *lpi = Lpi {
                target,
                ..Lpi::default()
            };
        }
        lpi.maps = lpi.maps.saturating_add(1);
        Ok(first)
    }

    /// See [`super::Gic::unmap_lpi`].
    pub(super) fn unmap_lpi(&mut self, id: LpiId) -> Result<(), Error> {
        self.check_lpi(id)?;
        if let Some(lpi) = self.lpi_mut(id) {
            lpi.maps = lpi.maps.saturating_sub(1);
            if lpi.maps == 0 {
                lpi.latch = false;
            }
            self.place_lpi(id);
        }
        Ok(())
    }

    /// See [`super::Gic::route_lpi`].
    pub(super) fn route_lpi(
        &mut self,
        id: LpiId,
        target: Option<VcpuId>,
    ) -> Result<Option<VcpuId>, Error> {
        self.check_lpi(id)?;
        if let Some(lpi) = self.lpi_mut(id) {
            lpi.target = target;
            self.place_lpi(id);
        }
        Ok(self.lpi_kick(id))
    }

    /// See [`super::Gic::configure_lpi`].
    pub(super) fn configure_lpi(
        &mut self,
        id: LpiId,
        config: LpiConfig,
    ) -> Result<Option<VcpuId>, Error> {
        let Some(lpi) = self.lpi_mut(id) else {
            return Ok(None);
        };
        if (lpi.priority, lpi.enabled) == (config.priority, config.enabled) {
            return Ok(None);
        }
        self.check_lpi(id)?;
        if let Some(lpi) = self.lpi_mut(id) {
            (lpi.priority, lpi.enabled) = (config.priority, config.enabled);
            self.place_lpi(id);
        }
        Ok(self.lpi_kick(id))
    }

    /// See [`super::Gic::set_lpi_pending`].
    pub(super) fn set_lpi_pending(
        &mut self,
        id: LpiId,
        pending: bool,
    ) -> Result<Option<VcpuId>, Error> {
        self.check_lpi(id)?;
        if let Some(lpi) = self.lpi_mut(id).filter(|lpi| lpi.maps != 0) {
            lpi.latch = pending;
            self.place_lpi(id);
        }
        Ok(self.lpi_kick(id))
    }

    /// See [`super::Gic::raise_lpi`].
    pub(super) fn raise_lpi(&mut self, id: LpiId) -> Result<Option<VcpuId>, NotRaised> {
        let lpi = self
            .lpi(id)
            .filter(|lpi| lpi.maps != 0)
            .ok_or(NotRaised::Unmapped)?;
        let target = lpi.target.ok_or(NotRaised::Unmapped)?;
        if !self.redist_lpis(target).is_some_and(|lpis| lpis.enabled) {
            return Err(NotRaised::Disabled);
        }
        if lpi.latch {
            return Ok(None);
        }
        if let Some(lpi) = self.lpi_mut(id) {
            lpi.latch = true;
        }
        self.place_lpi(id);
        Ok(self.lpi_kick(id))
    }

    /// See [`super::Gic::lpis_of_block`].
    pub(super) fn lpis_of_block(&self, block: usize, of: Option<VcpuId>) -> u128 {
        let Some(lpis) = self.lpis.block(block) else {
            return 0;
        };
        (0..).zip(lpis.iter()).fold(0, |set, (n, lpi)| {
            let wanted = lpi.maps != 0 && (of.is_none() || lpi.target == of);
            set | u128::from(wanted) << (n & 127)
        })
    }

    /// See [`super::Gic::lpi_state`].
    pub(super) fn lpi_state(&self, id: LpiId) -> Result<Option<(VcpuId, bool)>, Error> {
        self.check_lpi(id)?;
        Ok(self
            .lpi(id)
            .filter(|lpi| lpi.maps != 0)
            .and_then(|lpi| Some((lpi.target?, lpi.latch))))
    }

    /// Whether a vCPU, which is synced, has an LPI above this priority mask. (LPIs are in group 1, which is the caller's to
    /// look at.)
    pub(super) fn has_lpi(&self, cpu: VcpuId, mask: u8) -> bool {
        self.redist_lpis(cpu)
            .filter(|lpis| lpis.enabled)
            .and_then(|lpis| lpis.queues.first())
            .is_some_and(|priority| priority < mask)
    }

    /// Calls `add` with the priorities and numbers of the most urgent LPIs of a vCPU that has none in its list registers, at
    /// most `limit` of them. Returns how many there are in all.
    pub(super) fn first_lpis(
        &self,
        cpu: VcpuId,
        limit: usize,
        mut add: impl FnMut(u8, LpiId),
    ) -> usize {
        let Some(lpis) = self
            .redist_lpis(cpu)
            .filter(|lpis| lpis.enabled && self.dist.forwards(true))
        else {
            return 0;
        };
        let mut left = limit;
        'all: for (priority, ends) in (0..).zip(&lpis.queues.ends) {
            let mut next = ends.map(|(first, _)| first);
            while let Some(id) = next {
                if left == 0 {
                    break 'all;
                }
                left = left.wrapping_sub(1);
                add(priority << PRIORITY_SHIFT, id);
                next = self.lpi(id).and_then(|lpi| lpi.next);
            }
        }
        lpis.queues.len as usize
    }

    /// Puts an LPI that [`View::first_lpis`] named into a list register.
    pub(super) fn load_lpi(&mut self, id: LpiId, file: &mut LrFile) {
        let Some(lpi) = self.lpi_mut(id) else { return };
        let value = u64::from(id.get())
            | u64::from(lpi.priority) << lr::PRIORITY_SHIFT
            | lr::PENDING
            | lr::GROUP1;
        if file.push(value) {
            lpi.latch = false;
            lpi.in_lr = true;
        }
    }

    /// Takes over what the guest made of an LPI in a list register.
    pub(super) fn fold_lpi(&mut self, cpu: VcpuId, id: LpiId, value: u64, notify: &mut dyn Notify) {
        let Some(lpi) = self.lpi_mut(id).filter(|lpi| lpi.in_lr) else {
            return;
        };
        lpi.in_lr = false;
        lpi.latch |= value & lr::PENDING != 0;
        self.place_lpi(id);
        if let Some(vcpu) = self.lpi_kick(id).filter(|&vcpu| vcpu != cpu) {
            notify.kick(vcpu);
        }
    }
}
