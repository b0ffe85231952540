// SPDX-License-Identifier: GPL-2.0

//! vCPUs of one VM, by number.

use super::bitset::{BitSet, Member};

/// Index of a vCPU within its VM: 0 for the first one created, without holes.
///
/// # Invariants
///
/// The index is below [`VcpuId::LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(u16);

impl VcpuId {
    /// No VM has more vCPUs than this.
    pub const LIMIT: usize = 512;

    /// The first vCPU of every VM.
    pub const FIRST: VcpuId = VcpuId(0);

    /// Returns the vCPU with this index, if there can be one.
    pub const fn new(index: usize) -> Option<Self> {
        if index < Self::LIMIT {
            // INVARIANT: just checked.
            Some(Self(index as u16))
        } else {
            None
        }
    }

    /// Returns the index, fit for a slice of vCPUs.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Member for VcpuId {
    fn number(self) -> usize {
        self.index()
    }

    fn from_number(number: usize) -> Option<Self> {
        Self::new(number)
    }
}

/// A set of vCPUs of one VM.
pub type VcpuSet = BitSet<VcpuId, { VcpuId::LIMIT / 64 }>;
