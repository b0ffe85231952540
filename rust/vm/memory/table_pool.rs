// SPDX-License-Identifier: GPL-2.0

//! Tables that a vCPU keeps ready for its faults: nothing is allocated under a lock.

use crate::host::page::Table;
use crate::model::stage2::TablePool;
use kernel::prelude::*;

/// Tables for the faults of one vCPU.
pub(crate) struct VcpuTablePool(KVec<Table>);

impl VcpuTablePool {
    /// Returns an empty pool: a vCPU that has no fault needs no tables.
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    /// Sees that there are so many tables. May sleep. Errors: `ENOMEM`.
    pub(super) fn fill(&mut self, tables: usize) -> Result {
        let missing = tables.saturating_sub(self.0.len());
        if missing != 0 {
            self.0.reserve(missing, GFP_KERNEL_ACCOUNT)?;
        }
        for _ in 0..missing {
            self.0.push_within_capacity(Table::new()?)?;
        }
        Ok(())
    }
}

impl TablePool<Table> for VcpuTablePool {
    fn take(&mut self) -> Option<Table> {
        self.0.pop()
    }
    fn put(&mut self, table: Table) {
        // There is room: it came from here. If not, it is freed.
        let _ = self.0.push_within_capacity(table);
    }
}
