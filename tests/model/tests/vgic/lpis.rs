// SPDX-License-Identifier: GPL-2.0

//! Room for LPIs.

use loft_model::model::vgic::{Lpi, LpiId, LpiStore};

#[derive(Debug)]
pub struct Lpis(Vec<Option<Vec<Lpi>>>);

impl Lpis {
    /// Without any.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    pub fn new() -> Self {
        Self(vec![None; LpiId::BLOCKS])
    }

    /// Makes sure that there is room for this one.
    pub fn make_room(&mut self, id: LpiId) {
        self.0[id.block()].get_or_insert_with(|| vec![Lpi::default(); LpiId::BLOCK]);
    }
}

impl LpiStore for Lpis {
    fn block(&self, n: usize) -> Option<&[Lpi]> {
        self.0.get(n)?.as_deref()
    }

    fn block_mut(&mut self, n: usize) -> Option<&mut [Lpi]> {
        self.0.get_mut(n)?.as_deref_mut()
    }
}

pub fn lpi(intid: u32) -> LpiId {
    LpiId::new(intid).unwrap()
}

/// For who does not look at GICD_CTLR from outside.
pub fn no_ctlr() -> Box<std::sync::atomic::AtomicU32> {
    Box::default()
}
