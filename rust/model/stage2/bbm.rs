// SPDX-License-Identifier: GPL-2.0

//! Break-before-make under the shared lock; see the module's documentation for why this is safe.

use super::attributes::Leaf;
use super::descriptor::Format;
use super::level::Level;
use super::platform::Platform;
use super::stale::Stale;
use super::visit::Position;
use super::Stage2;
use crate::model::types::Ipa;

impl<P: Platform> Stage2<P> {
    /// Makes the descriptor invalid and ours; `false` if it is not what it was when `at` was read.
    pub(super) fn lock<'a>(&'a self, at: &Position<'a, P>) -> bool {
        self.platform.cmpxchg(at.at, at.raw, Format::LOCK).is_ok()
    }

    /// Writes what a locked descriptor becomes.
    pub(super) fn unlock<'a>(&'a self, at: &Position<'a, P>, descriptor: u64) {
        self.platform.store(at.at, descriptor);
        self.platform.publish();
    }

    /// Makes all CPUs forget the leaf of `level` that mapped `ipa`.
    pub(super) fn flush_leaf(&self, level: Level, ipa: Ipa) {
        let mut stale = Stale::new();
        stale.add_leaf(P::GRANULE, ipa.align_down(P::GRANULE.size(level)), level);
        stale.flush(&self.platform);
    }

    /// Puts `table` in place of the block at `at`; with `keep`, filled with the parts of the block.
    ///
    /// Errors: the table, if the descriptor is not what it was when `at` was read.
    pub(super) fn swap_block_for_table<'a>(
        &'a self,
        at: &Position<'a, P>,
        block: Leaf,
        base: Ipa,
        table: P::Table,
        keep: bool,
    ) -> Result<(), P::Table> {
        let Some(level) = at.level.next() else {
            return Err(table);
        };
        if !self.lock(at) {
            return Err(table);
        }
        self.flush_leaf(at.level, base);
        let linked = if keep {
            self.platform
                .link_parts(at.at, Format::LOCK, table, |index| {
                    let offset = u64::from(index).wrapping_mul(P::GRANULE.size(level));
                    let pa = block.pa.wrapping_add(offset);
                    self.format.leaf(Leaf { level, pa, ..block })
                })
        } else {
            self.platform.link(at.at, Format::LOCK, table).is_ok()
        };
        debug_assert!(linked, "a locked descriptor was changed");
        self.platform.publish();
        Ok(())
    }
}
