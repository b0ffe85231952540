// SPDX-License-Identifier: GPL-2.0

//! What must happen between making descriptors invalid and reusing what they led to.

use super::descriptor::Format;
use super::level::{Level, PAGE_SIZE};
use super::platform::{Memory, Slot, Table, Tlb};
use crate::model::types::{HostPa, Ipa};
use core::ops::Range;

/// Addresses whose translation some CPU may still have in its TLB after the descriptors have changed.
///
/// It covers everything between the lowest and the highest of them: one maintenance sequence for a whole call. That is
/// cheap (FEAT_TLBIRANGE, or the whole VMID when there is very much) next to what each sequence costs a guest, which loses
/// all its stage-1 entries every time, see [`Tlb::flush`].
#[must_use = "the TLBs still have the old translations until this is flushed"]
#[derive(Debug)]
pub struct Stale {
    range: Option<Range<Ipa>>,
    leaf: Option<Level>,
}

impl Stale {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            range: None,
            leaf: None,
        }
    }

    /// Whether there is nothing to forget.
    pub const fn is_empty(&self) -> bool {
        self.range.is_none()
    }

    /// The leaf of `level` that maps `base`.
    pub(super) fn add_leaf(&mut self, base: Ipa, level: Level) {
        self.add(base..base.wrapping_add(level.size()), Some(level));
    }

    /// A table that was unlinked while some of the leaves below it, all in `range`, were still valid.
    pub(super) fn add_table(&mut self, range: Range<Ipa>) {
        self.add(range, None);
    }

    /// An empty table that was unlinked; `ipa` is one of the addresses that it would have translated.
    ///
    /// One address is enough: TLBI IPAS2E1IS drops the descriptors of all levels on the way to it, and there was no leaf.
    pub(super) fn add_empty_table(&mut self, ipa: Ipa) {
        let page = ipa.align_down(PAGE_SIZE);
        self.add(page..page.wrapping_add(PAGE_SIZE), None);
    }

    fn add(&mut self, more: Range<Ipa>, leaf: Option<Level>) {
        (self.range, self.leaf) = match self.range.take() {
            None => (Some(more), leaf),
            Some(range) => {
                let hull = range.start.min(more.start)..range.end.max(more.end);
                (Some(hull), if self.leaf == leaf { leaf } else { None })
            }
        };
    }

    /// Makes all CPUs forget.
    pub(super) fn flush(self, tlb: &impl Tlb) {
        if let Some(range) = self.range {
            tlb.flush(range, self.leaf);
        }
    }
}

impl Default for Stale {
    fn default() -> Self {
        Self::new()
    }
}

/// Tables that are unlinked but that a CPU may still be walking.
///
/// They are chained through their own first descriptor. A walker that comes there through a stale copy of the unlinked
/// descriptor reads a page aligned address, whose bit 0 says invalid, and faults, as it may.
#[must_use = "the tables leak unless they are released after a flush"]
pub(super) struct Graveyard {
    newest: Option<Table>,
}

impl Graveyard {
    pub(super) const fn new() -> Self {
        Self { newest: None }
    }

    /// Adds `table`, which no descriptor points at any more. Its first descriptor is overwritten.
    pub(super) fn bury(&mut self, memory: &impl Memory, table: Table) {
        let link = match self.newest {
            Some(older) => older.pa().raw(),
            None => Format::EMPTY,
        };
        memory.store(Slot::new(table, 0), link);
        self.newest = Some(table);
    }

    /// Frees them all. The addresses that they translated were flushed.
    pub(super) fn release(self, memory: &impl Memory) {
        let mut table = self.newest;
        while let Some(this) = table {
            let link = memory.load(Slot::new(this, 0));
            memory.free(this);
            table = match link {
                Format::EMPTY => None,
                older => Table::new(HostPa::new(older)),
            };
        }
    }
}
