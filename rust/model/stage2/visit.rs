// SPDX-License-Identifier: GPL-2.0

//! Finding descriptors.

use super::attributes::Leaf;
use super::descriptor::Entry;
use super::level::{Level, PAGE_SIZE};
use super::platform::{Platform, Slot};
use super::Stage2;
use crate::model::types::Ipa;
use core::ops::{ControlFlow, Range};

/// A descriptor that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) level: Level,
    pub(super) slot: Slot,
    pub(super) raw: u64,
    pub(super) entry: Entry,
}

/// How many more descriptors may be looked at before the caller gets a chance to drop its lock.
pub(super) struct Work(usize);

impl Work {
    /// At least one, so that every call makes progress.
    pub(super) fn new(limit: usize) -> Self {
        Self(limit.max(1))
    }

    pub(super) fn unlimited() -> Self {
        Self(usize::MAX)
    }

    pub(super) fn spend(&mut self, descriptors: usize) {
        self.0 = self.0.saturating_sub(descriptors);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

impl<P: Platform> Stage2<P> {
    pub(super) fn read(&self, level: Level, slot: Slot) -> Position {
        let raw = self.platform.load(slot);
        Position {
            level,
            slot,
            raw,
            entry: self.format.decode(level, raw),
        }
    }

    /// The same descriptor, as it is now.
    pub(super) fn read_again(&self, at: &Position) -> Position {
        self.read(at.level, at.slot)
    }

    pub(super) fn read_root(&self, ipa: Ipa) -> Position {
        self.read(
            self.geometry.start_level(),
            self.geometry.root_slot(self.root, ipa),
        )
    }

    /// The descriptor that ends the lookup of `ipa`, or the one at `deepest` that would carry it on.
    pub(super) fn descend(&self, ipa: Ipa, deepest: Level) -> Position {
        let mut at = self.read_root(ipa);
        while at.level < deepest {
            let (Entry::Table(table), Some(level)) = (at.entry, at.level.next()) else {
                break;
            };
            at = self.read(level, Slot::new(table, level.index(ipa)));
        }
        at
    }

    /// The pages that `range` touches, as far as there are any.
    pub(super) fn clamp(&self, range: &Range<Ipa>) -> Range<Ipa> {
        let end = self.geometry.end();
        range.start.align_down(PAGE_SIZE)..range.end.align_up(PAGE_SIZE).map_or(end, |e| e.min(end))
    }

    /// Calls `visit` with every leaf that maps a part of `range`, in order, and with the first address it maps.
    ///
    /// Returns where to go on if the work ran out; `None` when through, or when `visit` said to stop.
    pub(super) fn for_each_leaf(
        &self,
        range: Range<Ipa>,
        work: &mut Work,
        mut visit: impl FnMut(&Position, Leaf, Ipa, &mut Work) -> ControlFlow<()>,
    ) -> Option<Ipa> {
        let mut ipa = range.start;
        while ipa < range.end {
            if work.is_spent() {
                return Some(ipa);
            }
            let mut at = self.descend(ipa, Level::L3);
            // Neighbours in the same table are read without a new descent.
            loop {
                work.spend(1);
                let base = ipa.align_down(at.level.size());
                ipa = base.wrapping_add(at.level.size());
                if let Entry::Leaf(leaf) = at.entry {
                    if visit(&at, leaf, base, work).is_break() {
                        return None;
                    }
                }
                if ipa >= range.end || work.is_spent() {
                    break;
                }
                let Some(slot) = at.slot.following() else {
                    break;
                };
                at = self.read(at.level, slot);
                if let Entry::Table(_) = at.entry {
                    break;
                }
            }
        }
        None
    }

    /// The first 2 MiB in `range` that are mapped in pages, by a table of their own, looking at about `limit` descriptors; and
    /// where to go on if there are none before. `None` at the end. Shared lock.
    pub fn next_pages(&self, range: Range<Ipa>, limit: usize) -> Option<Result<Ipa, Ipa>> {
        let range = self.clamp(&range);
        let mut ipa = range.start;
        for _ in 0..limit.max(1) {
            if ipa >= range.end {
                return None;
            }
            let at = self.descend(ipa, Level::L2);
            let base = ipa.align_down(at.level.size());
            if let (Level::L2, Entry::Table(_)) = (at.level, at.entry) {
                return Some(Ok(base));
            }
            ipa = base.wrapping_add(at.level.size());
        }
        Some(Err(ipa))
    }

    /// Changes the leaf at `at` into what `change` makes of it, which must not need break-before-make.
    ///
    /// The CPU may set the access flag meanwhile (VTCR_EL2.HA), and under the shared lock others may do more: then `change`
    /// is asked again. `None` if it leaves the leaf as it is, or if the leaf is gone.
    pub(super) fn rewrite(
        &self,
        at: &Position,
        leaf: Leaf,
        mut change: impl FnMut(Leaf) -> Leaf,
    ) -> Option<Leaf> {
        let (mut raw, mut leaf) = (at.raw, leaf);
        loop {
            let new = change(leaf);
            if new == leaf {
                return None;
            }
            match self.platform.cmpxchg(at.slot, raw, self.format.leaf(new)) {
                Ok(()) => return Some(leaf),
                Err(now) => raw = now,
            }
            match self.format.decode(at.level, raw) {
                Entry::Leaf(now) => leaf = now,
                _ => return None,
            }
        }
    }
}
