// SPDX-License-Identifier: GPL-2.0

//! The race between a page fault and the host's taking the page away, as pure state.
//!
//! A fault looks up the host's page without a lock, since that may sleep, and maps it under the
//! shared lock. In between the host may have invalidated its mapping. Each of the two steps looks
//! at the other's:
//!
//! ```text
//! fault                                        invalidation (mmu notifier, change of a slot)
//!   shared lock: seq = state.seq()               exclusive lock: state.begin(range)
//!   find the slot and the host's page            exclusive lock: unmap range
//!   shared lock: unless state.must_retry(..),    the host changes its mapping
//!                map the page                    exclusive lock: state.end()
//! ```
//!
//! The two shared sections and the exclusive ones are ordered by the lock. If the mapping section
//! comes before `begin`, the unmapping sees what it mapped. If it comes between `begin` and `end`,
//! the range tells it. If it comes after `end`, then either `seq` was read before `end` and differs
//! now, or everything that the fault found out is newer than the change.
//!
//! KVM has the same protocol (`mmu_invalidate_seq`, `mmu_invalidate_in_progress`).

use core::ops::Range;

/// Host address ranges under invalidation, and a sequence number. Lives in the lock of the stage-2
/// tables.
#[derive(Debug)]
pub struct InvalidateState {
    /// Invalidations that have ended, modulo 2^64.
    seq: u64,
    /// Invalidations that have begun and not ended.
    in_progress: u32,
    /// The hull of the ranges of those in progress; meaningless if there are none.
    range: Range<u64>,
}

impl InvalidateState {
    /// Returns the state of tables that nothing was ever taken from.
    pub const fn new() -> Self {
        Self {
            seq: 0,
            in_progress: 0,
            range: 0..0,
        }
    }

    /// Returns the sequence number that a fault notes before it looks at anything. At least the
    /// shared lock is held.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Begins the invalidation of a range of host addresses. The exclusive lock is held. What is
    /// mapped in the range is unmapped after this, and before the host changes anything.
    pub fn begin(&mut self, range: Range<u64>) {
        self.range = if self.in_progress == 0 {
            range
        } else {
            self.range.start.min(range.start)..self.range.end.max(range.end)
        };
        self.in_progress = self.in_progress.wrapping_add(1);
    }

    /// Ends an invalidation that has begun. The exclusive lock is held.
    pub fn end(&mut self) {
        debug_assert!(self.in_progress != 0, "an end without a beginning");
        self.seq = self.seq.wrapping_add(1);
        self.in_progress = self.in_progress.saturating_sub(1);
    }

    /// Returns whether what a fault has found out about `range`, since it read `seq`, may be wrong
    /// by now.
    ///
    /// At least the shared lock is held, and the mapping is made before it is released.
    pub fn must_retry(&self, range: &Range<u64>, seq: u64) -> bool {
        let overlap = range.start < self.range.end && self.range.start < range.end;
        self.seq != seq || (self.in_progress != 0 && overlap)
    }
}

impl Default for InvalidateState {
    fn default() -> Self {
        Self::new()
    }
}
