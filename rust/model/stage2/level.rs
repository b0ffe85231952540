// SPDX-License-Identifier: GPL-2.0

//! Levels of a VMSAv8-64 lookup with the 4 KiB granule.

use crate::model::types::Ipa;

/// log2 of the number of descriptors in a table.
pub(super) const INDEX_BITS: u32 = 9;

/// Number of descriptors in a table.
pub(super) const ENTRIES: u16 = 1 << INDEX_BITS;

/// log2 of the granule, which is the size of a page and of a table.
pub const PAGE_SHIFT: u32 = 12;

/// Bytes in a page, and in a table.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// A level of lookup. A smaller number is nearer to the root, and each of its descriptors covers more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// 512 GiB per descriptor; tables only (blocks would need FEAT_LPA2).
    L0 = 0,
    /// 1 GiB per descriptor.
    L1 = 1,
    /// 2 MiB per descriptor.
    L2 = 2,
    /// 4 KiB per descriptor; pages only.
    L3 = 3,
}

impl Level {
    /// log2 of the bytes that one descriptor of this level covers.
    pub const fn shift(self) -> u32 {
        match self {
            Level::L0 => PAGE_SHIFT + 3 * INDEX_BITS,
            Level::L1 => PAGE_SHIFT + 2 * INDEX_BITS,
            Level::L2 => PAGE_SHIFT + INDEX_BITS,
            Level::L3 => PAGE_SHIFT,
        }
    }

    /// Bytes that one descriptor of this level covers.
    pub const fn size(self) -> u64 {
        match self {
            Level::L0 => 1 << Level::L0.shift(),
            Level::L1 => 1 << Level::L1.shift(),
            Level::L2 => 1 << Level::L2.shift(),
            Level::L3 => 1 << Level::L3.shift(),
        }
    }

    /// The level that a table descriptor of this level points at.
    pub const fn next(self) -> Option<Level> {
        match self {
            Level::L0 => Some(Level::L1),
            Level::L1 => Some(Level::L2),
            Level::L2 => Some(Level::L3),
            Level::L3 => None,
        }
    }

    /// Returns the level whose table descriptors point at tables of this one.
    pub(super) const fn above(self) -> Option<Level> {
        match self {
            Level::L0 => None,
            Level::L1 => Some(Level::L0),
            Level::L2 => Some(Level::L1),
            Level::L3 => Some(Level::L2),
        }
    }

    /// Whether a descriptor of this level can map memory.
    pub const fn maps(self) -> bool {
        !matches!(self, Level::L0)
    }

    /// The number that the architecture gives to this level.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Where `ipa` is found in a table of this level.
    pub(super) const fn index(self, ipa: Ipa) -> u16 {
        ((ipa.raw() >> self.shift()) as u16) & (ENTRIES - 1)
    }
}
