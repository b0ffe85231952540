// SPDX-License-Identifier: GPL-2.0

//! Unmapping, and freeing the tables that are left empty. Runs under the exclusive lock.

use super::attributes::MemType;
use super::descriptor::{Entry, Format};
use super::level::Level;
use super::platform::{DescriptorAddr, Platform};
use super::stale::Stale;
use super::visit::{LinkedOf, Position, Work};
use super::Stage2;
use crate::model::types::Ipa;
use core::ops::{ControlFlow, Range};

/// Returns whether a descriptor that covers `size` bytes, and that `ipa` begins, translates nothing
/// outside of `ipa..end`.
fn covers(size: u64, ipa: Ipa, end: Ipa) -> bool {
    ipa.is_aligned(size) && end.checked_sub(ipa).is_some_and(|bytes| bytes >= size)
}

impl<P: Platform> Stage2<P> {
    /// Unmaps everything that `range` touches, blocks that reach beyond it included, looking at
    /// about `limit` descriptors.
    ///
    /// Returns where to go on, or `None` at the end. What lies before has left the page tables and
    /// all TLBs when this returns, the tables that it left empty are freed, and the host may reuse
    /// the pages.
    ///
    /// A block that is only partly in `range` goes as a whole. Splitting it would need a table,
    /// which a notifier that may not sleep cannot promise, and the guest simply faults the rest in
    /// again. It is rare besides: while the host maps memory as one large folio it has no reason to
    /// unmap a part of it.
    ///
    /// Unmapping the whole IPA space frees all tables and leaves a root of zeroes: that is how a
    /// VM's tables are destroyed.
    #[must_use = "the range may not be through"]
    pub fn unmap(&mut self, range: Range<Ipa>, limit: usize) -> Option<Ipa> {
        let mut ranges = [range];
        let done = self.unmap_each(&mut ranges, limit);
        let [rest] = ranges;
        (!done).then_some(rest.start)
    }

    /// Unmaps several ranges as [`Self::unmap`] does one, with one flush for all of them: the
    /// places that one piece of the host's memory has.
    ///
    /// Returns whether all are through. If not, what begins where it ends is, and the others are to
    /// be given again.
    #[must_use = "the ranges may not be through"]
    pub fn unmap_each(&mut self, ranges: &mut [Range<Ipa>], limit: usize) -> bool {
        let mut work = Work::new(limit);
        for range in ranges.iter_mut() {
            *range = self.clamp(range);
        }
        if self.format.fwb {
            return self.unlink(ranges, Ipa::new(u64::MAX), &mut work);
        }
        // The host's caches may be cleaned only when no CPU can reach the memory any more. So first
        // all leaves die, then comes one flush for all of them, and then each is cleaned and
        // forgotten.
        let (count, next) = self.kill(ranges, &mut work);
        let all = next.is_none();
        let dead = ranges.get_mut(..count).unwrap_or(&mut []);
        self.unlink(
            dead,
            next.unwrap_or(Ipa::new(u64::MAX)),
            &mut Work::unlimited(),
        ) && all
    }

    /// Makes the leaves of RAM in `ranges` invalid, and all CPUs forget them. How many ranges it
    /// has come to, and where in the last of them to go on.
    fn kill(&mut self, ranges: &[Range<Ipa>], work: &mut Work) -> (usize, Option<Ipa>) {
        let mut stale = Stale::new();
        let mut count = 0;
        let mut next = None;
        for range in ranges {
            count += 1;
            next = self.for_each_leaf(range.clone(), work, |at, leaf, base, work| {
                if leaf.attributes.mem == MemType::Normal {
                    self.platform.store(at.at, self.format.dead(leaf));
                    stale.add_leaf(P::GRANULE, base, leaf.level);
                    // Its pages will have to be cleaned, which takes longer than looking at a
                    // descriptor.
                    work.spend((P::GRANULE.size(leaf.level) >> P::GRANULE.page_shift()) as usize);
                }
                ControlFlow::Continue(())
            });
            if next.is_some() {
                break;
            }
        }
        stale.flush(&self.platform);
        (count, next)
    }

    /// Empties the descriptors that map a part of `ranges`, dead ones included, and frees the
    /// tables that are left empty. Goes no further than `end` in the last range.
    fn unlink(&mut self, ranges: &mut [Range<Ipa>], end: Ipa, work: &mut Work) -> bool {
        let mut stale = Stale::new();
        let mut unlinked = P::Unlinked::default();
        let mut done = true;
        let last = ranges.len().wrapping_sub(1);
        for (n, range) in ranges.iter_mut().enumerate() {
            let end = if n == last {
                range.end.min(end)
            } else {
                range.end
            };
            let next = self.unlink_range(range.start..end, work, &mut stale, &mut unlinked);
            range.start = next.unwrap_or(end);
            if next.is_some() {
                done = false;
                break;
            }
        }
        let flushed = stale.flush(&self.platform);
        self.platform.free(unlinked, flushed);
        done
    }

    fn unlink_range(
        &mut self,
        range: Range<Ipa>,
        work: &mut Work,
        stale: &mut Stale,
        unlinked: &mut P::Unlinked,
    ) -> Option<Ipa> {
        let end = range.end;
        let mut ipa = range.start;
        while ipa < end {
            if work.is_spent() {
                return Some(ipa);
            }
            // A level 3 table that goes as a whole is unlinked without a look at its descriptors.
            let deepest = if covers(P::GRANULE.size(Level::L2), ipa, end) {
                Level::L2
            } else {
                Level::L3
            };
            let mut at = self.descend(ipa, deepest);
            let last = loop {
                work.spend(1);
                let mut base = ipa.align_down(P::GRANULE.size(at.level));
                ipa = base.wrapping_add(P::GRANULE.size(at.level));
                if let Entry::Table(table) = at.entry {
                    let level = at.level;
                    if !self.format.fwb {
                        self.clean_pages(table);
                    }
                    stale.add_table(base..ipa);
                    self.platform
                        .unlink(self.geometry.path(base, level), unlinked);
                    at = self.descend(base, level);
                } else {
                    self.empty_leaf(&at, base, stale);
                }
                // Most descriptors of a table that goes are empty: for these a look is enough.
                let size = P::GRANULE.size(at.level);
                let mut following = at.at.following(P::GRANULE);
                while let Some(place) = following {
                    if ipa >= end || work.is_spent() || !self.is_unused(place) {
                        break;
                    }
                    work.spend(1);
                    base = ipa;
                    ipa = ipa.wrapping_add(size);
                    following = place.following(P::GRANULE);
                }
                if ipa >= end || work.is_spent() {
                    break base;
                }
                let Some(place) = following else {
                    break base;
                };
                let next = self.read(at.level, place.table, place.index);
                if let Entry::Table(_) = next.entry {
                    if at.level != Level::L2 || !covers(P::GRANULE.size(Level::L2), ipa, end) {
                        break base;
                    }
                }
                at = next;
            };
            let (level, empty) = (at.level, self.is_empty(&at));
            self.prune(last, level, empty, stale, unlinked);
        }
        None
    }

    /// Empties the descriptor at `at`, which begins at `base` and leads to no table.
    fn empty_leaf<'a>(&'a self, at: &Position<'a, P>, base: Ipa, stale: &mut Stale) {
        match at.entry {
            Entry::Leaf(leaf) => {
                self.platform.store(at.at, Format::EMPTY);
                stale.add_leaf(P::GRANULE, base, leaf.level);
            }
            Entry::Dead(leaf) => {
                self.platform
                    .after_data(leaf.pa, P::GRANULE.size(leaf.level));
                self.platform.store(at.at, Format::EMPTY);
            }
            Entry::Empty => {}
            Entry::Locked | Entry::Table(_) => {
                debug_assert!(false, "locked under the exclusive lock, or a table");
            }
        }
    }

    /// Unlinks the table of `level` that translates `ipa`, if it is `empty`, and those above it as
    /// far as they are empty then.
    ///
    /// Whether a table is empty is found out by looking, beginning behind the descriptors that were
    /// just emptied: there the next mapping usually is. A count per table would cost every `map` a
    /// second atomic operation, on a cache line that all vCPUs share.
    fn prune(
        &mut self,
        ipa: Ipa,
        level: Level,
        empty: bool,
        stale: &mut Stale,
        unlinked: &mut P::Unlinked,
    ) {
        let (mut level, mut empty) = (level, empty);
        while let (true, Some(above)) = (empty, level.above()) {
            self.platform
                .unlink(self.geometry.path(ipa, above), unlinked);
            stale.add_empty_table(P::GRANULE, ipa);
            let parent = self.descend(ipa, above);
            (level, empty) = (above, self.is_empty(&parent));
        }
    }

    /// Returns whether all descriptors of the table of `at` are empty. The root stays: it never is.
    fn is_empty<'a>(&'a self, at: &Position<'a, P>) -> bool {
        let (table, first) = (at.at.table, at.at.index.wrapping_add(1));
        at.level > self.geometry.start_level()
            && (0..P::GRANULE.entries()).all(|i| {
                let index = first.wrapping_add(i) & P::GRANULE.entries().wrapping_sub(1);
                self.is_unused(DescriptorAddr { table, index })
            })
    }

    /// Returns whether nothing is at `at`.
    #[inline]
    fn is_unused<'a>(&'a self, at: DescriptorAddr<LinkedOf<'a, P>>) -> bool {
        self.platform.load(at).0 == Format::EMPTY
    }

    /// Cleans the dead pages of a level 3 table.
    fn clean_pages<'a>(&'a self, table: LinkedOf<'a, P>) {
        for index in 0..P::GRANULE.entries() {
            if let Entry::Dead(leaf) = self.read(Level::L3, table, index).entry {
                self.platform
                    .after_data(leaf.pa, P::GRANULE.size(leaf.level));
            }
        }
    }
}
