// SPDX-License-Identifier: GPL-2.0

//! Looking up one address.

use super::attributes::Leaf;
use super::descriptor::Entry;
use super::level::Level;
use super::platform::Platform;
use super::Stage2;
use crate::model::types::Ipa;

impl<P: Platform> Stage2<P> {
    /// Returns the block or page that maps `ipa`, if there is one. Shared lock.
    pub fn walk(&self, ipa: Ipa) -> Option<Leaf> {
        if ipa >= self.geometry.end() {
            return None;
        }
        match self.descend(ipa, Level::L3).entry {
            Entry::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }
}
