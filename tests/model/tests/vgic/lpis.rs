// SPDX-License-Identifier: GPL-2.0

//! Room for LPIs.

use loft_model::model::vgic::{Lpi, LpiId, LpiStore};
use std::sync::OnceLock;

pub struct Lpis(Vec<OnceLock<Vec<Lpi>>>);

impl Lpis {
    /// Without any.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    pub fn new() -> Self {
        Self((0..LpiId::BLOCKS).map(|_| OnceLock::new()).collect())
    }

    /// Makes sure that there is room for this one.
    pub fn make_room(&self, id: LpiId) {
        self.0[id.block()].get_or_init(|| (0..LpiId::BLOCK).map(|_| Lpi::default()).collect());
    }
}

impl LpiStore for Lpis {
    fn block(&self, n: usize) -> Option<&[Lpi]> {
        self.0.get(n)?.get().map(Vec::as_slice)
    }
}

pub fn lpi(intid: u32) -> LpiId {
    LpiId::new(intid).unwrap()
}
