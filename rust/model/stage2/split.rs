// SPDX-License-Identifier: GPL-2.0

//! Splitting blocks ahead of time, so that dirty logging need not do it fault by fault. Runs under the shared lock.

use super::level::Level;
use super::platform::{Cache, Platform};
use super::visit::Work;
use super::Stage2;
use crate::model::types::Ipa;
use core::ops::{ControlFlow, Range};

/// How far [`Stage2::split`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the range may not be through"]
pub enum Split {
    /// To the end.
    Done,
    /// To here: call again with the rest.
    More(Ipa),
    /// To here: fill the cache, without the lock, and call again with the rest.
    CacheEmpty(Ipa),
}

impl<P: Platform> Stage2<P> {
    /// Splits the blocks that `range` touches down to `level`, looking at about `limit` descriptors.
    ///
    /// Everything stays mapped as it was, but for the moment of the break-before-make.
    pub fn split(
        &self,
        cache: &mut impl Cache,
        range: Range<Ipa>,
        level: Level,
        limit: usize,
    ) -> Split {
        let range = self.clamp(&range);
        let mut work = Work::new(limit);
        let mut start = range.start;
        loop {
            let mut here = None;
            let mut empty = false;
            let next = self.for_each_leaf(start..range.end, &mut work, |at, leaf, base, work| {
                if leaf.level >= level {
                    return ControlFlow::Continue(());
                }
                here = Some(base.max(start));
                match cache.take() {
                    None => empty = true,
                    Some(table) => {
                        work.spend(512);
                        if !self.swap_block_for_table(at, leaf, base, table, true) {
                            cache.put(table);
                        }
                    }
                }
                ControlFlow::Break(())
            });
            match (here, next) {
                (Some(here), _) if empty => return Split::CacheEmpty(here),
                // The parts may have to be split too, or another vCPU was quicker: look again.
                (Some(here), _) if work.is_spent() => return Split::More(here),
                (Some(here), _) => start = here,
                (None, Some(next)) => return Split::More(next),
                (None, None) => return Split::Done,
            }
        }
    }
}
