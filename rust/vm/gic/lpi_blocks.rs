// SPDX-License-Identifier: GPL-2.0

//! Where the LPIs of a VM are stored.

use crate::arch::speculation;
use crate::model::its::TableError;
use crate::model::vgic::{Lpi, LpiId, LpiStore};
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::SetOnce;

type Block = KVec<Lpi>;

/// The LPIs of a VM, block by block. What is there stays, so it is found without a lock.
#[derive(Default)]
pub(crate) struct LpiBlocks {
    blocks: SetOnce<KVVec<SetOnce<Block>>>,
    /// Behind the last one that is there.
    end: AtomicUsize,
}

impl LpiStore for LpiBlocks {
    fn block(&self, n: usize) -> Option<&[Lpi]> {
        Some(speculation::get(self.blocks.as_ref()?, n)?.as_ref()?)
    }
}

impl LpiBlocks {
    /// Makes room for all blocks, none of them there. Nothing if that has been done.
    pub(crate) fn make_room(&self) -> Result {
        let mut blocks = KVVec::with_capacity(LpiId::BLOCKS, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..LpiId::BLOCKS {
            blocks.push(SetOnce::new(), GFP_KERNEL_ACCOUNT)?;
        }
        self.blocks.populate(blocks);
        Ok(())
    }

    /// Makes sure that this LPI's block is there. One caller at a time: while another one puts it
    /// in its place it is not there yet.
    pub(crate) fn make_block(&self, lpi: LpiId) -> core::result::Result<(), TableError> {
        if self.block(lpi.block()).is_some() {
            return Ok(());
        }
        let mut block = Block::with_capacity(LpiId::BLOCK, GFP_KERNEL_ACCOUNT)
            .map_err(|_| TableError::NoMemory)?;
        for _ in 0..LpiId::BLOCK {
            block
                .push_within_capacity(Lpi::default())
                .map_err(|_| TableError::NoMemory)?;
        }
        let blocks = self.blocks.as_ref();
        if let Some(place) = blocks.and_then(|blocks| blocks.get(lpi.block())) {
            place.populate(block);
            let end = lpi.block().saturating_add(1);
            self.end.fetch_max(end, Ordering::Release);
        }
        Ok(())
    }

    /// Returns the number of the block from which on there is none. Most VMs have a few of all.
    pub(crate) fn end(&self) -> usize {
        self.end.load(Ordering::Acquire)
    }
}
