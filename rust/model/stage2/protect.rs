// SPDX-License-Identifier: GPL-2.0

//! Taking write permission away, for dirty logging and for memory that becomes read-only. Runs
//! under the exclusive lock.
//!
//! Blocks are protected as a whole, also where only a part of them is meant, and are not split: the
//! next write to one faults, and [`map`](Stage2::map) then splits it if a page is all that may be
//! written.

use super::platform::Platform;
use super::stale::Stale;
use super::visit::Work;
use super::Stage2;
use crate::model::types::Ipa;
use core::ops::{ControlFlow, Range};

impl<P: Platform> Stage2<P> {
    /// Makes everything that `range` touches read-only, looking at about `limit` descriptors.
    ///
    /// Returns where to go on, or `None` at the end. No CPU can write to what lies before when this
    /// returns.
    #[must_use = "the range may not be through"]
    pub fn write_protect(&mut self, range: Range<Ipa>, limit: usize) -> Option<Ipa> {
        let mut stale = Stale::new();
        let range = self.clamp(&range);
        let next = self.protect(range, &mut Work::new(limit), &mut stale);
        self.flush(stale);
        next
    }

    /// Makes the pages read-only that `mask` has a bit for: bit 0 is the page at `base`.
    ///
    /// CPUs may go on writing until `stale` is given to [`flush`](Stage2::flush), which can wait
    /// until many masks are done, and does not need the lock. The dirty bits that the masks were
    /// made of must not be acted on before.
    pub fn write_protect_mask(&mut self, base: Ipa, mask: u64, stale: &mut Stale) {
        let mut work = Work::unlimited();
        let mut mask = mask;
        while mask != 0 {
            let first = mask.trailing_zeros();
            let run = (mask >> (first & 63)).trailing_ones();
            let start = base.wrapping_add(u64::from(first) << P::GRANULE.page_shift());
            let range = start..start.wrapping_add(u64::from(run) << P::GRANULE.page_shift());
            let range = self.clamp(&range);
            let _ = self.protect(range, &mut work, stale);
            let end = first.wrapping_add(run);
            mask = if end < u64::BITS {
                mask & (u64::MAX << (end & 63))
            } else {
                0
            };
        }
    }

    /// Makes all CPUs forget the old translations of `stale`.
    pub fn flush(&self, stale: Stale) {
        stale.flush(&self.platform);
    }

    fn protect(&self, range: Range<Ipa>, work: &mut Work, stale: &mut Stale) -> Option<Ipa> {
        self.for_each_leaf(range, work, |at, leaf, base, _| {
            let protected = self.rewrite(at, leaf, |leaf| {
                let mut perm = leaf.attributes.perm;
                perm.w = false;
                leaf.with_perm(perm)
            });
            if protected.is_some() {
                stale.add_leaf(P::GRANULE, base, at.level);
            }
            ControlFlow::Continue(())
        })
    }
}
