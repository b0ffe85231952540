// SPDX-License-Identifier: GPL-2.0

//! What must happen between making descriptors invalid and reusing what they led to.

use super::level::{Granule, Level};
use super::platform::{Flushed, Tlb};
use crate::model::types::Ipa;
use core::ops::Range;

/// Addresses whose translation some CPU may still have in its TLB after the descriptors have
/// changed.
///
/// It covers everything between the lowest and the highest of them: one maintenance sequence for a
/// whole call. That is cheap (FEAT_TLBIRANGE, or the whole VMID when there is very much) next to
/// what each sequence costs a guest, which loses all its stage-1 entries every time, see
/// [`Tlb::flush`].
#[must_use = "the TLBs still have the old translations until this is flushed"]
#[derive(Debug)]
pub struct Stale {
    range: Option<Range<Ipa>>,
    leaf: Option<Level>,
}

impl Stale {
    /// Makes one with nothing to forget.
    pub const fn new() -> Self {
        Self {
            range: None,
            leaf: None,
        }
    }

    /// Returns whether there is nothing to forget.
    pub const fn is_empty(&self) -> bool {
        self.range.is_none()
    }

    /// Adds the leaf of `level` that maps `base`.
    pub(super) fn add_leaf(&mut self, granule: Granule, base: Ipa, level: Level) {
        self.add(base..base.wrapping_add(granule.size(level)), Some(level));
    }

    /// Adds a table that was unlinked while some of the leaves below it, all in `range`, were still
    /// valid.
    pub(super) fn add_table(&mut self, range: Range<Ipa>) {
        self.add(range, None);
    }

    /// Adds an empty table that was unlinked; `ipa` is one of the addresses that it would have
    /// translated.
    ///
    /// One address is enough: TLBI IPAS2E1IS drops the descriptors of all levels on the way to it,
    /// and there was no leaf.
    pub(super) fn add_empty_table(&mut self, granule: Granule, ipa: Ipa) {
        let page = ipa.align_down(granule.page_size());
        self.add(page..page.wrapping_add(granule.page_size()), None);
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

    /// Makes all CPUs forget what is in it.
    pub(super) fn flush(self, tlb: &impl Tlb) -> Flushed {
        if let Some(range) = self.range {
            tlb.flush(range, self.leaf);
        }
        Flushed(())
    }
}

impl Default for Stale {
    fn default() -> Self {
        Self::new()
    }
}
