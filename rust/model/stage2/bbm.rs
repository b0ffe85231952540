// SPDX-License-Identifier: GPL-2.0

//! Break-before-make under the shared lock; see the module's documentation for why this is safe.

use super::attributes::Leaf;
use super::descriptor::Format;
use super::level::{Level, ENTRIES};
use super::platform::{Platform, Slot, Table};
use super::stale::Stale;
use super::visit::Position;
use super::Stage2;
use crate::model::types::Ipa;

impl<P: Platform> Stage2<P> {
    /// Makes the descriptor invalid and ours; `false` if it is not what it was when `at` was read.
    pub(super) fn lock(&self, at: &Position) -> bool {
        self.platform.cmpxchg(at.slot, at.raw, Format::LOCK).is_ok()
    }

    /// Writes what a locked descriptor becomes.
    pub(super) fn unlock(&self, at: &Position, descriptor: u64) {
        self.platform.store(at.slot, descriptor);
        self.platform.publish();
    }

    /// Makes all CPUs forget the leaf of `level` that mapped `ipa`.
    pub(super) fn flush_leaf(&self, level: Level, ipa: Ipa) {
        let mut stale = Stale::new();
        stale.add_leaf(ipa.align_down(level.size()), level);
        stale.flush(&self.platform);
    }

    /// Puts `table`, which is zeroed, in place of the block at `at`; with `keep`, filled with the block's 512 parts.
    ///
    /// `false`, and the table is still zeroed, if the descriptor is not what it was when `at` was read.
    pub(super) fn swap_block_for_table(
        &self,
        at: &Position,
        block: Leaf,
        base: Ipa,
        table: Table,
        keep: bool,
    ) -> bool {
        let Some(level) = at.level.next() else {
            return false;
        };
        if !self.lock(at) {
            return false;
        }
        self.flush_leaf(at.level, base);
        if keep {
            let mut part = Leaf { level, ..block };
            for index in 0..ENTRIES {
                self.platform
                    .store(Slot::new(table, index), self.format.leaf(part));
                part.pa = part.pa.wrapping_add(level.size());
            }
        }
        self.unlock(at, Format::table(table));
        true
    }
}
