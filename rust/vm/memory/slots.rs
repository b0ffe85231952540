// SPDX-License-Identifier: GPL-2.0

//! The memory slots of a VM: which of the VMM's memory is the guest's, and where.
//!
//! A list is never changed but replaced by another, so that whoever has one needs no lock. A VMM
//! may have tens of thousands of slots; so lists share what is the same in both, and a copy with
//! one slot more or less costs little.

use super::dirty_log::DirtyLog;
use crate::host::page::PAGE_SIZE;
use crate::model::types::Ipa;
use core::marker::PhantomData;
use core::ops::Range;
use kernel::prelude::*;
use kernel::sync::Arc;

/// One memory slot.
#[derive(Clone)]
pub(crate) struct MemSlot {
    /// The number that userspace gave it.
    pub(crate) id: u32,
    /// Where the guest has it.
    pub(crate) ipa: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Where the VMM has it.
    pub(crate) hva: u64,
    /// The guest may not write it (KVM_MEM_READONLY).
    pub(crate) readonly: bool,
    /// It has a dirty log (KVM_MEM_LOG_DIRTY_PAGES).
    pub(crate) logs: bool,
    /// It is being deleted or moved: the guest does not find it any more, but may have it mapped
    /// still.
    pub(super) dying: bool,
    /// If `logs`, from when the slot is listed: which of its pages have been written.
    pub(super) log: Option<Arc<DirtyLog>>,
}

impl MemSlot {
    /// Returns a slot of `size` bytes of guest memory at `ipa`, which is the VMM's at `hva`;
    /// writable, without a log.
    pub(crate) fn new(id: u32, ipa: u64, size: u64, hva: u64) -> Self {
        Self {
            id,
            ipa,
            size,
            hva,
            readonly: false,
            logs: false,
            dying: false,
            log: None,
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.ipa.wrapping_add(self.size)
    }
    pub(super) fn ipas(&self) -> Range<Ipa> {
        Ipa::new(self.ipa)..Ipa::new(self.end())
    }
    pub(super) fn hvas(&self) -> Range<u64> {
        self.hva..self.hva.wrapping_add(self.size)
    }
    /// Returns where the VMM has the byte at `ipa`, which is in this slot.
    pub(super) fn address(&self, ipa: u64) -> u64 {
        self.hva.wrapping_add(ipa.wrapping_sub(self.ipa))
    }
    /// Notes that the page at `ipa`, which is in this slot, has been written or may be from now on.
    pub(super) fn note_dirty(&self, ipa: u64) {
        if let Some(log) = &self.log {
            log.note(ipa.wrapping_sub(self.ipa) / PAGE_SIZE);
        }
    }
}

/// By what slots are in order; no two have the same key.
trait Order {
    fn key(slot: &MemSlot) -> u64;
}

struct ByIpa;
impl Order for ByIpa {
    #[inline]
    fn key(slot: &MemSlot) -> u64 {
        slot.ipa
    }
}

struct ById;
impl Order for ById {
    #[inline]
    fn key(slot: &MemSlot) -> u64 {
        slot.id.into()
    }
}

/// So many slots are copied when one of them changes.
const LONGEST: usize = 128;

/// Some slots that follow each other in an order: at least one, at most [`LONGEST`].
struct Run {
    slots: KVec<Arc<MemSlot>>,
    /// Around all their places in the VMM's memory.
    hvas: Range<u64>,
}

impl Run {
    fn new(slots: &[Arc<MemSlot>]) -> Result<Arc<Self>> {
        let mut list = KVec::with_capacity(slots.len(), GFP_KERNEL_ACCOUNT)?;
        let (mut start, mut end) = (u64::MAX, 0);
        for slot in slots {
            let hvas = slot.hvas();
            (start, end) = (start.min(hvas.start), end.max(hvas.end));
            list.push_within_capacity(slot.clone())?;
        }
        Ok(Arc::new(
            Self {
                slots: list,
                hvas: start..end,
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }
}

/// Slots in an order.
struct Sorted<O: Order> {
    runs: KVVec<Arc<Run>>,
    order: PhantomData<O>,
}

impl<O: Order> Sorted<O> {
    const fn new() -> Self {
        Self {
            runs: KVVec::new(),
            order: PhantomData,
        }
    }

    /// Returns the run that has the last slot up to `key`, by its number and itself, and how many
    /// of its slots are up to there.
    #[inline]
    fn up_to(&self, key: u64) -> Option<(usize, &Run, usize)> {
        let begins = |run: &Arc<Run>| run.slots.first().is_none_or(|slot| O::key(slot) <= key);
        let n = self.runs.partition_point(begins).checked_sub(1)?;
        let run = self.runs.get(n)?;
        let count = run.slots.partition_point(|slot| O::key(slot) <= key);
        Some((n, run, count))
    }

    /// Returns the last slot up to `key`.
    #[inline]
    fn last(&self, key: u64) -> Option<&Arc<MemSlot>> {
        let (_, run, count) = self.up_to(key)?;
        run.slots.get(count.wrapping_sub(1))
    }

    /// Returns a copy without `old`, which is in here, and with `new`.
    fn with(&self, old: Option<&MemSlot>, new: Option<&Arc<MemSlot>>) -> Result<Self> {
        let mut copy = Self::new();
        let room = self.runs.len().saturating_add(1);
        copy.runs.reserve(room, GFP_KERNEL_ACCOUNT)?;
        copy.runs
            .extend_from_slice(&self.runs, GFP_KERNEL_ACCOUNT)?;
        if let Some((n, _, count)) = old.and_then(|old| copy.up_to(O::key(old))) {
            let mut slots = copy.take(n)?;
            slots.remove(count.saturating_sub(1))?;
            copy.put(n, &slots)?;
        }
        if let Some(new) = new {
            let place = copy.up_to(O::key(new));
            let (n, count) = place.map_or((0, 0), |(n, _, count)| (n, count));
            let mut slots = copy.take(n)?;
            slots.insert_within_capacity(count, new.clone())?;
            copy.put(n, &slots)?;
        }
        Ok(copy)
    }

    /// Takes the `n`th run out, if there is one: its slots, with room for one more.
    fn take(&mut self, n: usize) -> Result<KVec<Arc<MemSlot>>> {
        let mut slots = KVec::with_capacity(LONGEST + 1, GFP_KERNEL_ACCOUNT)?;
        if n < self.runs.len() {
            slots.extend_from_slice(&self.runs.remove(n)?.slots, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(slots)
    }

    /// Makes these slots the `n`th run: two runs if they are too many for one, and none if there
    /// are none.
    fn put(&mut self, n: usize, slots: &[Arc<MemSlot>]) -> Result {
        let half = if slots.len() > LONGEST {
            slots.len() / 2
        } else {
            0
        };
        let (first, second) = slots.split_at_checked(half).unwrap_or((&[], slots));
        for part in [second, first] {
            if !part.is_empty() {
                self.runs.reserve(1, GFP_KERNEL_ACCOUNT)?;
                self.runs.insert_within_capacity(n, Run::new(part)?)?;
            }
        }
        Ok(())
    }
}

/// All slots of a VM.
pub(crate) struct Slots {
    by_ipa: Sorted<ByIpa>,
    by_id: Sorted<ById>,
}

impl Slots {
    /// Makes it, with no slots.
    pub(super) const fn new() -> Self {
        Self {
            by_ipa: Sorted::new(),
            by_id: Sorted::new(),
        }
    }

    /// Returns a copy with `new` in the place of `old`.
    pub(super) fn with(&self, old: Option<&MemSlot>, new: Option<MemSlot>) -> Result<Arc<Self>> {
        let new = match new {
            Some(slot) => Some(Arc::new(slot, GFP_KERNEL_ACCOUNT)?),
            None => None,
        };
        let slots = Self {
            by_ipa: self.by_ipa.with(old, new.as_ref())?,
            by_id: self.by_id.with(old, new.as_ref())?,
        };
        Ok(Arc::new(slots, GFP_KERNEL_ACCOUNT)?)
    }

    /// Returns the slot that has `ipa`.
    #[inline]
    pub(crate) fn find(&self, ipa: u64) -> Option<&MemSlot> {
        let slot = self.by_ipa.last(ipa)?;
        (ipa < slot.end() && !slot.dying).then_some(slot)
    }

    /// Returns the slot that userspace numbered `id`.
    pub(crate) fn by_id(&self, id: u32) -> Option<&MemSlot> {
        let slot = self.by_id.last(id.into())?;
        (slot.id == id).then_some(slot)
    }

    /// Returns the slot that userspace numbered `id`, with its dirty log. `ENOENT`: there is no
    /// such slot, or it has no log.
    pub(super) fn logged(&self, id: u32) -> Result<(&MemSlot, &DirtyLog)> {
        let slot = self.by_id(id).ok_or(ENOENT)?;
        Ok((slot, slot.log.as_ref().ok_or(ENOENT)?))
    }

    /// Returns how many bytes of guest memory there are.
    pub(crate) fn size(&self) -> u64 {
        let slots = self.by_ipa.runs.iter().flat_map(|run| run.slots.iter());
        slots.fold(0, |sum, slot| sum.wrapping_add(slot.size))
    }

    /// Returns whether another slot has any of the addresses of `new`.
    pub(super) fn collide(&self, new: &MemSlot) -> bool {
        let before = |end: u64| self.by_ipa.last(end.checked_sub(1)?);
        // None of them overlap: if the last one does not reach into `new`, no other does.
        let last = before(new.end()).and_then(|slot| match slot.id == new.id {
            true => before(slot.ipa),
            false => Some(slot),
        });
        last.is_some_and(|slot| slot.end() > new.ipa)
    }

    /// Returns the IPA ranges that the host's addresses in `range` are mapped at, or may be.
    pub(super) fn ipas(&self, range: Range<u64>) -> impl Iterator<Item = Range<Ipa>> + '_ {
        let common = move |other: Range<u64>| {
            let both = range.start.max(other.start)..range.end.min(other.end);
            (!both.is_empty()).then_some(both)
        };
        let runs = self.by_ipa.runs.iter();
        let slots = runs
            .filter(move |run| common(run.hvas.clone()).is_some())
            .flat_map(|run| run.slots.iter());
        slots.filter_map(move |slot| {
            let hvas = common(slot.hvas())?;
            let from = slot.ipa.wrapping_add(hvas.start.wrapping_sub(slot.hva));
            let to = slot.ipa.wrapping_add(hvas.end.wrapping_sub(slot.hva));
            let to = Ipa::new(to.wrapping_add(PAGE_SIZE - 1));
            Some(Ipa::new(from).align_down(PAGE_SIZE)..to.align_down(PAGE_SIZE))
        })
    }
}
