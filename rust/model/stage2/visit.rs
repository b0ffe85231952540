// SPDX-License-Identifier: GPL-2.0

//! Finding descriptors.

use super::attributes::Leaf;
use super::descriptor::Entry;
use super::level::Level;
use super::platform::{DescriptorAddr, Platform, TableMemory};
use super::Stage2;
use crate::model::types::Ipa;
use core::ops::{ControlFlow, Range};

/// A table that is linked, in the memory of the platform `P`.
pub(super) type LinkedOf<'a, P> = <P as TableMemory>::Linked<'a>;

/// A descriptor that was read.
pub(super) struct Position<'a, P: Platform + 'a> {
    pub(super) level: Level,
    pub(super) at: DescriptorAddr<LinkedOf<'a, P>>,
    pub(super) raw: u64,
    pub(super) entry: Entry<LinkedOf<'a, P>>,
}

/// How many more descriptors may be looked at before the caller gets a chance to drop its lock.
pub(super) struct Work(usize);

impl Work {
    /// Makes it from a limit, but at least one, so that every call makes progress.
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
    #[inline(always)]
    pub(super) fn read<'a>(
        &'a self,
        level: Level,
        table: LinkedOf<'a, P>,
        index: u16,
    ) -> Position<'a, P> {
        let at = DescriptorAddr { table, index };
        let (raw, next) = self.platform.load(at);
        Position {
            level,
            at,
            raw,
            entry: match next {
                Some(table) => Entry::Table(table),
                None => self.format.decode(level, raw),
            },
        }
    }

    /// Reads the same descriptor, as it is now.
    #[inline(always)]
    pub(super) fn read_again<'a>(&'a self, at: &Position<'a, P>) -> Position<'a, P> {
        self.read(at.level, at.at.table, at.at.index)
    }

    #[inline(always)]
    pub(super) fn read_root(&self, ipa: Ipa) -> Position<'_, P> {
        self.read(
            self.geometry.start_level(),
            self.platform.root(),
            self.geometry.root_index(ipa),
        )
    }

    /// Returns the descriptor that ends the lookup of `ipa`, or the one at `deepest` that would
    /// carry it on.
    pub(super) fn descend(&self, ipa: Ipa, deepest: Level) -> Position<'_, P> {
        let mut at = self.read_root(ipa);
        while at.level < deepest {
            let (Entry::Table(table), Some(level)) = (at.entry, at.level.next()) else {
                break;
            };
            at = self.read(level, table, P::GRANULE.index(level, ipa));
        }
        at
    }

    /// Returns the descriptor after this one in the same table, if there is one.
    #[inline(always)]
    pub(super) fn read_following<'a>(&'a self, at: &Position<'a, P>) -> Option<Position<'a, P>> {
        let next = at.at.following(P::GRANULE)?;
        Some(self.read(at.level, next.table, next.index))
    }

    /// Returns the pages that `range` touches, as far as there are any.
    pub(super) fn clamp(&self, range: &Range<Ipa>) -> Range<Ipa> {
        let end = self.geometry.end();
        let page = P::GRANULE.page_size();
        range.start.align_down(page)..range.end.align_up(page).map_or(end, |e| e.min(end))
    }

    /// Calls `visit` with every leaf that maps a part of `range`, in order, and with the first
    /// address it maps.
    ///
    /// Returns where to go on if the work ran out; `None` when through, or when `visit` said to
    /// stop.
    pub(super) fn for_each_leaf<'a>(
        &'a self,
        range: Range<Ipa>,
        work: &mut Work,
        mut visit: impl FnMut(&Position<'a, P>, Leaf, Ipa, &mut Work) -> ControlFlow<()>,
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
                let base = ipa.align_down(P::GRANULE.size(at.level));
                ipa = base.wrapping_add(P::GRANULE.size(at.level));
                if let Entry::Leaf(leaf) = at.entry {
                    if visit(&at, leaf, base, work).is_break() {
                        return None;
                    }
                }
                if ipa >= range.end || work.is_spent() {
                    break;
                }
                let Some(next) = self.read_following(&at) else {
                    break;
                };
                if let Entry::Table(_) = next.entry {
                    break;
                }
                at = next;
            }
        }
        None
    }

    /// Returns the first block of level 2 in `range` that is mapped in pages, by a table of its
    /// own, looking at about `limit` descriptors; as an error, where to go on if there is none
    /// before. `None` at the end. Shared lock.
    pub fn next_pages(&self, range: Range<Ipa>, limit: usize) -> Option<Result<Ipa, Ipa>> {
        let range = self.clamp(&range);
        let mut ipa = range.start;
        for _ in 0..limit.max(1) {
            if ipa >= range.end {
                return None;
            }
            let at = self.descend(ipa, Level::L2);
            let base = ipa.align_down(P::GRANULE.size(at.level));
            if let (Level::L2, Entry::Table(_)) = (at.level, at.entry) {
                return Some(Ok(base));
            }
            ipa = base.wrapping_add(P::GRANULE.size(at.level));
        }
        Some(Err(ipa))
    }

    /// Changes the leaf at `at` into what `change` makes of it, which must not need
    /// break-before-make.
    ///
    /// The CPU may set the access flag meanwhile (VTCR_EL2.HA), and under the shared lock others
    /// may do more: then `change` is asked again. `None` if it leaves the leaf as it is, or if the
    /// leaf is gone.
    pub(super) fn rewrite<'a>(
        &'a self,
        at: &Position<'a, P>,
        leaf: Leaf,
        mut change: impl FnMut(Leaf) -> Leaf,
    ) -> Option<Leaf> {
        let (mut raw, mut leaf) = (at.raw, leaf);
        loop {
            let new = change(leaf);
            if new == leaf {
                return None;
            }
            match self.platform.cmpxchg(at.at, raw, self.format.leaf(new)) {
                Ok(()) => return Some(leaf),
                Err(now) => raw = now,
            }
            match self.format.decode::<()>(at.level, raw) {
                Entry::Leaf(now) => leaf = now,
                _ => return None,
            }
        }
    }
}
