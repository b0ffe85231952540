// SPDX-License-Identifier: GPL-2.0

//! Interrupt numbers, and the lines that lead into the interrupt controller.

use crate::model::bitset::Member;
use crate::model::vcpus::VcpuId;

/// The number of an SGI, PPI or SPI (IHI 0069, "INTIDs").
///
/// # Invariants
///
/// The number is at most [`IntId::MAX`]: the special INTIDs 1020 to 1023 are not interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntId(u16);

impl Member for IntId {
    fn number(self) -> usize {
        self.index()
    }

    fn from_number(number: usize) -> Option<Self> {
        Self::new(number as u32)
    }
}

impl IntId {
    /// The highest SPI.
    pub const MAX: u32 = 1019;

    /// How many interrupts each PE has for itself: 16 SGIs and 16 PPIs.
    pub const PRIVATE: u32 = 32;

    /// Returns the interrupt with this number, if it is not special or an LPI.
    pub const fn new(intid: u32) -> Option<Self> {
        if intid <= Self::MAX {
            // INVARIANT: just checked.
            Some(Self(intid as u16))
        } else {
            None
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// Returns the number, for a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns whether it is an SGI, 0 to 15: raised by software on another PE.
    pub const fn is_sgi(self) -> bool {
        self.0 < 16
    }

    /// Returns whether it is a PPI, 16 to 31: a device that each PE has for itself.
    pub const fn is_ppi(self) -> bool {
        self.0 >= 16 && self.0 < 32
    }

    /// Returns whether it is an SPI, 32 and up: a device that the PEs share.
    pub const fn is_spi(self) -> bool {
        self.0 >= 32
    }
}

/// One interrupt of one VM: a private interrupt needs the vCPU that it belongs to, an SPI does not.
///
/// # Invariants
///
/// There is a vCPU if and only if the interrupt is private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    bank: Option<VcpuId>,
    id: IntId,
}

impl Line {
    /// Returns a shared interrupt; `None` if `id` is private.
    pub const fn spi(id: IntId) -> Option<Self> {
        if id.is_spi() {
            // INVARIANT: an SPI, without vCPU.
            Some(Self { bank: None, id })
        } else {
            None
        }
    }

    /// Returns a private interrupt of one vCPU; `None` if `id` is shared.
    pub const fn private(vcpu: VcpuId, id: IntId) -> Option<Self> {
        if id.is_spi() {
            None
        } else {
            // INVARIANT: private, with vCPU.
            Some(Self {
                bank: Some(vcpu),
                id,
            })
        }
    }

    /// Returns what `vcpu` means by this number.
    pub const fn seen_by(vcpu: VcpuId, id: IntId) -> Self {
        // INVARIANT: the vCPU is kept for private interrupts only.
        Self {
            bank: if id.is_spi() { None } else { Some(vcpu) },
            id,
        }
    }

    /// Returns the vCPU that a private interrupt belongs to; `None` for a shared one.
    pub const fn bank(self) -> Option<VcpuId> {
        self.bank
    }

    /// Returns the interrupt's number.
    pub const fn id(self) -> IntId {
        self.id
    }
}
