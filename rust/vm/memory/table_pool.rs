// SPDX-License-Identifier: GPL-2.0

//! Tables that a vCPU keeps ready for its faults: nothing is allocated under a lock.

use crate::host::page;
use crate::model::stage2::{Cache, Table, PAGE_SIZE};
use kernel::prelude::*;

/// Zeroed tables for the faults of one vCPU.
pub(crate) struct VcpuTablePool(KVec<Table>);

impl VcpuTablePool {
    /// More than one fault can use: a path of tables, and one to split a block into.
    const ENOUGH: usize = 6;

    /// Returns an empty pool: a vCPU that has no fault needs no tables.
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    /// Fills the pool, so that one fault finds all that it can need. May sleep. Errors: `ENOMEM`.
    pub(super) fn fill(&mut self) -> Result {
        if self.0.capacity() == 0 {
            self.0.reserve(Self::ENOUGH, GFP_KERNEL_ACCOUNT)?;
        }
        while self.0.len() < Self::ENOUGH {
            self.0
                .push(page::alloc_tables(PAGE_SIZE)?, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }
}

impl Cache for VcpuTablePool {
    fn take(&mut self) -> Option<Table> {
        self.0.pop()
    }
    fn put(&mut self, table: Table) {
        // There is room: it came from here.
        if self.0.push_within_capacity(table).is_err() {
            page::free_tables(table, PAGE_SIZE);
        }
    }
}

impl Drop for VcpuTablePool {
    fn drop(&mut self) {
        while let Some(table) = self.0.pop() {
            page::free_tables(table, PAGE_SIZE);
        }
    }
}
