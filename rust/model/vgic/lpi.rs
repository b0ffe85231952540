// SPDX-License-Identifier: GPL-2.0

//! LPIs: interrupts that are messages (IHI 0069, chapter 5).
//!
//! An LPI is a latch and nothing else: it has no line and no active state, and is always of the
//! non-secure group. Which vCPU it goes to is the ITS's business; whether it is enabled and how
//! urgent it is stands in a table in the guest's memory, of which this keeps a copy, as the
//! architecture allows, until the guest invalidates it. What is in tables the caller reads and
//! writes: nothing in here may sleep.
//!
//! A guest may have tens of thousands of them, so they are kept apart from the other interrupts: in
//! blocks that are there once one of their LPIs is mapped, and, where they are pending, in a queue
//! for each vCPU and priority. Filling the list registers looks at the most urgent ones only,
//! however many there are.
//!
//! An LPI belongs to one redistributor, and what there is to know of it is under that one's lock:
//! it and its neighbours in a queue always belong to the same. Whose it is can be read without the
//! lock, and must be looked at again with it; it changes with the lock of the shared interrupts as
//! well, so that who has that knows. An LPI in a list register does not move.
//!
//! While an LPI is in a list register the CPU interface gives it an active state. It ends with the
//! priority drop, counts for nothing in EOIcount (IHI 0069, ICH_HCR_EL2.EOIcount), and so needs no
//! list register: an LPI that was acknowledged is done with.

use super::lrs::{lr, LrFile};
use super::regs;
use super::state::{forwards, BankView, GicStorage, Lock, View};
use super::{Error, Gic, StaleLists};
use crate::model::sysreg::regs::GICR_PROPBASER;
use crate::model::vcpus::VcpuId;
use core::num::NonZeroU16;
use core::sync::atomic::{AtomicU64, Ordering};

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

    /// Returns the LPI with this number, if it is one.
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

    /// Returns LPI `n` of block `block`.
    pub const fn of_block(block: usize, n: u32) -> Option<Self> {
        if block >= Self::BLOCKS || n as usize >= Self::BLOCK {
            return None;
        }
        Self::new(Self::FIRST + (block * Self::BLOCK) as u32 + n)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0.get() as u32
    }

    /// Returns how many LPIs are before this one.
    pub const fn index(self) -> usize {
        self.get().wrapping_sub(Self::FIRST) as usize
    }

    /// Returns the number of the block that it is in.
    pub const fn block(self) -> usize {
        self.index() / Self::BLOCK
    }
}

/// One LPI, in as little room as it takes: see `LpiState`. The default is one that is not mapped.
///
/// It is read and written under the lock of the redistributor that it belongs to; being atomic is
/// what lets safe code share it.
#[derive(Debug, Default)]
pub struct Lpi {
    /// Maps 31:0, target + 1 47:32, priority 55:48, enabled 56, latch 57, in a list register 58.
    what: AtomicU64,
    /// Owner 15:0, next 31:16, previous 47:32, priority of the queue / 8 + 1 55:48.
    place: AtomicU64,
}

/// What there is to know of an LPI.
#[derive(Clone, Copy)]
struct LpiState {
    /// How many events of ITSes it stands for; 0: it is not mapped.
    maps: u32,
    /// Whose redistributor has it: its owner's. None: its collection is mapped to nobody.
    target: Option<VcpuId>,
    /// As the guest's table said when it was last looked at.
    priority: u8,
    enabled: bool,
    /// Pending, unless `in_lr` says that this is in a list register.
    latch: bool,
    /// It is in a list register of its owner, where it was pending.
    in_lr: bool,
    /// Whose lock it is under.
    owner: VcpuId,
    /// The owner's queue that it is in, by its priority, and its neighbours there.
    queued: Option<u8>,
    next: Option<LpiId>,
    previous: Option<LpiId>,
}

impl Lpi {
    fn state(&self) -> LpiState {
        let (what, place) = (
            self.what.load(Ordering::Relaxed),
            self.place.load(Ordering::Relaxed),
        );
        let bit = |n: u32| what >> n & 1 != 0;
        let id = |n: u32| LpiId::new((place >> n & 0xffff) as u32);
        LpiState {
            maps: what as u32,
            target: ((what >> 32 & 0xffff) as usize)
                .checked_sub(1)
                .and_then(VcpuId::new),
            priority: (what >> 48) as u8,
            enabled: bit(56),
            latch: bit(57),
            in_lr: bit(58),
            owner: owner(place),
            queued: ((place >> 48) as u8)
                .checked_sub(1)
                .map(|n| n << PRIORITY_SHIFT),
            next: id(16),
            previous: id(32),
        }
    }

    fn set(&self, state: LpiState) {
        let what = u64::from(state.maps)
            | state.target.map_or(0, |vcpu| vcpu.index() as u64 + 1) << 32
            | u64::from(state.priority) << 48
            | u64::from(state.enabled) << 56
            | u64::from(state.latch) << 57
            | u64::from(state.in_lr) << 58;
        let id = |id: Option<LpiId>| id.map_or(0, |id| u64::from(id.get()));
        let queue = state
            .queued
            .map_or(0, |priority| (priority >> PRIORITY_SHIFT) + 1);
        let place = state.owner.index() as u64
            | id(state.next) << 16
            | id(state.previous) << 32
            | u64::from(queue) << 48;
        self.what.store(what, Ordering::Relaxed);
        // Who finds a new owner, and has that one's lock, has not had the lock that the rest was
        // written with.
        self.place.store(place, Ordering::Release);
    }

    /// Returns whose lock it is under.
    pub(super) fn owner(&self) -> VcpuId {
        owner(self.place.load(Ordering::Acquire))
    }
}

fn owner(place: u64) -> VcpuId {
    VcpuId::new((place & 0xffff) as usize).unwrap_or(VcpuId::FIRST)
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
    /// Makes it from the byte in the table: priority in 7:2, enabled in 0.
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

/// Where LPIs are stored: some blocks of [`LpiId::BLOCK`], which stay once they are there.
pub trait LpiStore {
    /// Returns a block, if it is there.
    fn block(&self, n: usize) -> Option<&[Lpi]>;
}

impl dyn LpiStore + '_ {
    /// Returns an LPI, if its block is there.
    pub(super) fn get(&self, id: LpiId) -> Option<&Lpi> {
        self.block(id.block())?.get(id.index() % LpiId::BLOCK)
    }
}

impl LpiQueues {
    /// Returns the most urgent priority, if there is any LPI.
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
    fn lpi(&self, id: LpiId) -> Option<LpiState> {
        Some(self.lpis.get(id)?.state())
    }

    fn update_lpi(&self, id: LpiId, update: impl FnOnce(&mut LpiState)) {
        if let Some(lpi) = self.lpis.get(id) {
            let mut state = lpi.state();
            update(&mut state);
            lpi.set(state);
        }
    }

    fn redist_lpis(&self, vcpu: VcpuId) -> Option<&RedistLpis> {
        Some(&self.bank(vcpu)?.lpis)
    }

    /// Changes a vCPU's queues.
    fn change_queues(&mut self, vcpu: VcpuId, change: impl FnOnce(&mut LpiQueues)) {
        let Some(bank) = self.bank_mut(vcpu) else {
            return;
        };
        change(&mut bank.lpis.queues);
        let some = bank.lpis.queues.len != 0;
        if let Some(redist) = self.redists.get(vcpu.index()) {
            redist.note_lpis(some);
        }
    }

    fn link(&mut self, id: LpiId, owner: VcpuId, priority: u8) {
        let mut last = None;
        self.change_queues(owner, |queues| {
            if let Some(ends) = queues.ends(priority) {
                last = ends.map(|(_, last)| last);
                *ends = Some((ends.map_or(id, |(first, _)| first), id));
            }
            queues.note(priority, true);
            queues.len = queues.len.saturating_add(1);
        });
        if let Some(last) = last {
            self.update_lpi(last, |lpi| lpi.next = Some(id));
        }
        self.update_lpi(id, |lpi| {
            (lpi.queued, lpi.previous, lpi.next) = (Some(priority), last, None);
        });
    }

    fn unlink(&mut self, id: LpiId) {
        let Some(lpi) = self.lpi(id) else { return };
        let Some(priority) = lpi.queued else { return };
        let (previous, next) = (lpi.previous, lpi.next);
        self.update_lpi(id, |lpi| {
            (lpi.queued, lpi.previous, lpi.next) = (None, None, None);
        });
        if let Some(previous) = previous {
            self.update_lpi(previous, |lpi| lpi.next = next);
        }
        if let Some(next) = next {
            self.update_lpi(next, |lpi| lpi.previous = previous);
        }
        self.change_queues(lpi.owner, |queues| {
            queues.len = queues.len.saturating_sub(1);
            if let Some(ends) = queues.ends(priority) {
                *ends = ends.and_then(|(first, last)| {
                    let first = if first == id { next? } else { first };
                    let last = if last == id { previous? } else { last };
                    Some((first, last))
                });
                let some = ends.is_some();
                queues.note(priority, some);
            }
        });
    }

    /// Brings the queues up to date with an LPI that changed. One in a list register stays where it
    /// is until it comes back.
    fn place_lpi(&mut self, id: LpiId) {
        let Some(lpi) = self.lpi(id).filter(|lpi| !lpi.in_lr) else {
            return;
        };
        let wanted = lpi
            .target
            .filter(|_| lpi.maps != 0 && lpi.enabled && lpi.latch)
            .filter(|&vcpu| self.redist_lpis(vcpu).is_some_and(|lpis| lpis.enabled))
            .map(|_| lpi.priority);
        if lpi.queued == wanted {
            return;
        }
        self.unlink(id);
        if let Some(priority) = wanted {
            self.link(id, lpi.owner, priority);
        }
    }

    /// Returns who has to be kicked for an LPI that has just become pending, or may go to somebody
    /// else now.
    fn lpi_kick(&self, id: LpiId) -> Option<VcpuId> {
        let lpi = self.lpi(id)?;
        (lpi.queued.is_some() && lpi.latch && self.dist.forwards(true)).then_some(lpi.owner)
    }

    /// Fails with the vCPU that has it in a list register.
    fn check_lpi(&self, id: LpiId) -> Result<(), Error> {
        let mut stale = StaleLists::default();
        if let Some(lpi) = self.lpi(id).filter(|lpi| lpi.in_lr) {
            stale.add_vcpu(None, Some(lpi.owner));
        }
        stale.check()
    }

    /// Notes one more event for an LPI: see [`super::Gic::map_lpi`]. The shared interrupts are
    /// locked, too.
    pub(super) fn map_lpi(&mut self, id: LpiId, target: Option<VcpuId>) -> bool {
        let mut first = false;
        self.update_lpi(id, |lpi| {
            first = lpi.maps == 0;
            if first {
                // It is in no queue and no list register: it was not pending when it was unmapped.
                *lpi = LpiState {
                    target,
                    owner: target.unwrap_or(lpi.owner),
                    ..Lpi::default().state()
                };
            }
            lpi.maps = lpi.maps.saturating_add(1);
        });
        first
    }

    /// Notes one event less for an LPI: see [`super::Gic::unmap_lpi`].
    pub(super) fn unmap_lpi(&mut self, id: LpiId) -> Result<(), Error> {
        self.check_lpi(id)?;
        self.update_lpi(id, |lpi| {
            lpi.maps = lpi.maps.saturating_sub(1);
            if lpi.maps == 0 {
                lpi.latch = false;
            }
        });
        self.place_lpi(id);
        Ok(())
    }

    /// Does the first half of [`super::Gic::route_lpi`]: the LPI's owner gives it away, unless it
    /// goes to nobody. The shared interrupts are locked, too.
    pub(super) fn give_lpi(&mut self, id: LpiId, target: Option<VcpuId>) -> Result<(), Error> {
        self.check_lpi(id)?;
        self.unlink(id);
        self.update_lpi(id, |lpi| {
            lpi.target = target;
            lpi.owner = target.unwrap_or(lpi.owner);
        });
        Ok(())
    }

    /// Does the other half: its new owner, or who keeps it, takes it in. Returns who has to be
    /// kicked for it.
    pub(super) fn take_lpi(&mut self, id: LpiId) -> Option<VcpuId> {
        self.place_lpi(id);
        self.lpi_kick(id)
    }

    /// Takes what the guest's table says of an LPI: see [`super::Gic::configure_lpi`].
    pub(super) fn configure_lpi(
        &mut self,
        id: LpiId,
        config: LpiConfig,
    ) -> Result<Option<VcpuId>, Error> {
        let Some(lpi) = self.lpi(id) else {
            return Ok(None);
        };
        if (lpi.priority, lpi.enabled) == (config.priority, config.enabled) {
            return Ok(None);
        }
        self.check_lpi(id)?;
        self.update_lpi(id, |lpi| {
            (lpi.priority, lpi.enabled) = (config.priority, config.enabled);
        });
        Ok(self.take_lpi(id))
    }

    /// Makes an LPI pending, or no longer: see [`super::Gic::set_lpi_pending`].
    pub(super) fn set_lpi_pending(
        &mut self,
        id: LpiId,
        pending: bool,
    ) -> Result<Option<VcpuId>, Error> {
        self.check_lpi(id)?;
        self.update_lpi(id, |lpi| lpi.latch = pending && lpi.maps != 0);
        Ok(self.take_lpi(id))
    }

    /// Takes a message for an LPI: see [`super::Gic::raise_lpi`].
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
        self.update_lpi(id, |lpi| lpi.latch = true);
        Ok(self.take_lpi(id))
    }

    /// Returns where an LPI goes and whether it is pending: see [`super::Gic::lpi_state`].
    pub(super) fn lpi_state(&self, id: LpiId) -> Result<Option<(VcpuId, bool)>, Error> {
        self.check_lpi(id)?;
        Ok(self
            .lpi(id)
            .filter(|lpi| lpi.maps != 0)
            .and_then(|lpi| Some((lpi.target?, lpi.latch))))
    }

    /// Returns whether a vCPU, which is synced, has an LPI above this priority mask. (LPIs are in
    /// group 1, which is the caller's to look at.)
    pub(super) fn has_lpi(&self, cpu: VcpuId, mask: u8) -> bool {
        self.redist_lpis(cpu)
            .filter(|lpis| lpis.enabled)
            .and_then(|lpis| lpis.queues.first())
            .is_some_and(|priority| priority < mask)
    }

    /// Calls `add` with the priorities and numbers of the most urgent LPIs of a vCPU that has none
    /// in its list registers, at most `limit` of them. Returns how many there are in all.
    /// `enables`: GICD_CTLR's.
    pub(super) fn first_lpis(
        &self,
        cpu: VcpuId,
        enables: u32,
        limit: usize,
        mut add: impl FnMut(u8, LpiId),
    ) -> usize {
        let Some(lpis) = self
            .redist_lpis(cpu)
            .filter(|lpis| lpis.enabled && lpis.queues.len != 0 && forwards(enables, true))
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
        let Some(lpi) = self.lpi(id) else { return };
        let value = u64::from(id.get())
            | u64::from(lpi.priority) << lr::PRIORITY_SHIFT
            | lr::PENDING
            | lr::GROUP1;
        if file.push(value) {
            self.update_lpi(id, |lpi| (lpi.latch, lpi.in_lr) = (false, true));
        }
    }

    /// Takes over what the guest made of an LPI in a list register. Nobody has to be kicked: it is
    /// still the same vCPU's.
    pub(super) fn fold_lpi(&mut self, id: LpiId, value: u64) {
        if self.lpi(id).is_none_or(|lpi| !lpi.in_lr) {
            return;
        }
        self.update_lpi(id, |lpi| {
            lpi.in_lr = false;
            lpi.latch |= value & lr::PENDING != 0;
        });
        self.place_lpi(id);
    }
}

/// What the ITS and the redistributors' registers do to LPIs.
impl<S: GicStorage> Gic<S> {
    /// Calls `body` with the lock of the redistributor that an LPI belongs to; `None` if there is
    /// no room for it.
    fn with_lpi<T>(&self, id: LpiId, body: impl FnOnce(&mut View<'_>) -> T) -> Option<T> {
        const TRIES: usize = 2;
        let lpis: &dyn LpiStore = &self.lpis;
        let lpi = lpis.get(id)?;
        for _ in 0..TRIES {
            let owner = lpi.owner();
            let mut state = self.banks.get(owner.index())?.lock();
            if lpi.owner() == owner {
                let bank = BankView {
                    vcpu: owner,
                    state: &mut state,
                };
                return Some(body(&mut self.view(Some(bank), None)));
            }
        }
        // Whoever moves it again and again has to stop for this.
        let _shared = self.lock_shared();
        self.with_bank(lpi.owner(), body)
    }

    /// Makes LPIs exist from now on. Only the first call does anything.
    pub fn add_lpis(&self) {
        if !self.dist.lpis.swap(true, Ordering::Relaxed) {
            self.dist
                .propbaser
                .store(regs::TABLE_AT_RESET, Ordering::Relaxed);
        }
    }

    /// Returns where the LPIs are stored.
    pub fn lpi_store(&self) -> &S::Lpis {
        &self.lpis
    }

    /// Returns the addresses of the guest's LPI configuration table, and of this vCPU's pending
    /// table, if it has LPIs enabled.
    pub fn lpi_tables(&self, vcpu: VcpuId) -> (u64, Option<u64>) {
        let pending = self.banks.get(vcpu.index()).and_then(|bank| {
            let lpis = &bank.lock().lpis;
            lpis.enabled
                .then_some(lpis.pendbaser & regs::PENDBASER_ADDRESS)
        });
        let config = self.dist.propbaser.load(Ordering::Relaxed) & regs::PROPBASER_ADDRESS;
        (config, pending)
    }

    /// Returns the first INTID that GICR_PROPBASER.IDbits leaves no room for.
    pub fn lpi_limit(&self) -> u32 {
        let id_bits =
            GICR_PROPBASER::IDbits.get(self.dist.propbaser.load(Ordering::Relaxed)) as u32;
        1 << (id_bits + 1).min(LpiId::BITS)
    }

    /// Notes that one more event stands for this LPI, which goes to `target` if no event did
    /// before, and returns whether that is so. Then it is neither pending nor enabled yet.
    ///
    /// Errors: [`Error::Invalid`] if its block is not there.
    pub fn map_lpi(&self, id: LpiId, target: Option<VcpuId>) -> Result<bool, Error> {
        let lpis: &dyn LpiStore = &self.lpis;
        let lpi = lpis.get(id).ok_or(Error::Invalid)?;
        // It may get a new owner.
        let _shared = self.lock_shared();
        self.with_bank(lpi.owner(), |view| view.map_lpi(id, target))
            .ok_or(Error::NoVcpu)
    }

    /// Notes that one event less stands for this LPI.
    ///
    /// Errors: [`Error::NeedSync`], as those that follow.
    pub fn unmap_lpi(&self, id: LpiId) -> Result<(), Error> {
        self.with_lpi(id, |view| view.unmap_lpi(id))
            .unwrap_or(Ok(()))
    }

    /// Routes this LPI to another vCPU, and returns the one to be kicked.
    pub fn route_lpi(&self, id: LpiId, target: Option<VcpuId>) -> Result<Option<VcpuId>, Error> {
        let lpis: &dyn LpiStore = &self.lpis;
        let Some(lpi) = lpis.get(id) else {
            return Ok(None);
        };
        // Nobody else moves it. A message that comes between the two halves stays pending, which
        // the second one sees.
        let _shared = self.lock_shared();
        self.with_bank(lpi.owner(), |view| view.give_lpi(id, target))
            .unwrap_or(Ok(()))?;
        Ok(self
            .with_bank(lpi.owner(), |view| view.take_lpi(id))
            .flatten())
    }

    /// Takes what the guest's table says of this LPI, and returns the vCPU to be kicked.
    pub fn configure_lpi(&self, id: LpiId, config: LpiConfig) -> Result<Option<VcpuId>, Error> {
        self.with_lpi(id, |view| view.configure_lpi(id, config))
            .unwrap_or(Ok(None))
    }

    /// Makes this LPI pending, or no longer, and returns the vCPU to be kicked.
    pub fn set_lpi_pending(&self, id: LpiId, pending: bool) -> Result<Option<VcpuId>, Error> {
        self.with_lpi(id, |view| view.set_lpi_pending(id, pending))
            .unwrap_or(Ok(None))
    }

    /// Takes a message that arrived for this LPI, and returns the vCPU to be kicked.
    pub fn raise_lpi(&self, id: LpiId) -> Result<Option<VcpuId>, NotRaised> {
        self.with_lpi(id, |view| view.raise_lpi(id))
            .unwrap_or(Err(NotRaised::Unmapped))
    }

    /// Returns which LPIs of a block are mapped, bit n being LPI n of it: all of them, or those
    /// that go to one vCPU.
    pub fn lpis_of_block(&self, block: usize, of: Option<VcpuId>) -> u128 {
        lpis_of_block(&self.lpis, block, of)
    }

    /// Returns where an LPI goes and whether it is pending; `None` if it is not mapped or goes to
    /// nobody.
    pub fn lpi_state(&self, id: LpiId) -> Result<Option<(VcpuId, bool)>, Error> {
        self.with_lpi(id, |view| view.lpi_state(id))
            .unwrap_or(Ok(None))
    }
}

/// Returns which LPIs of a block are mapped: see [`Gic::lpis_of_block`].
pub(super) fn lpis_of_block(lpis: &dyn LpiStore, block: usize, of: Option<VcpuId>) -> u128 {
    let lpis = lpis.block(block).unwrap_or(&[]);
    (0..).zip(lpis).fold(0, |set, (n, lpi)| {
        let lpi = lpi.state();
        let wanted = lpi.maps != 0 && (of.is_none() || lpi.target == of);
        set | u128::from(wanted) << (n & 127)
    })
}
