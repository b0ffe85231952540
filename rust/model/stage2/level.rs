// SPDX-License-Identifier: GPL-2.0

//! Levels of a VMSAv8-64 lookup, and the granules that say how much each covers.

use crate::model::types::Ipa;

/// A level of lookup. A smaller number is nearer to the root, and each of its descriptors covers
/// more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
// A word: padding beside it would be copied byte by byte wherever a table or descriptor is passed.
#[repr(u64)]
pub enum Level {
    /// Tables only (blocks would need FEAT_LPA2). With the 4 KiB granule 512 GiB per descriptor.
    L0 = 0,
    /// Tables, and with the 4 KiB granule blocks of 1 GiB (with others they would need FEAT_LPA2 or
    /// FEAT_LPA).
    L1 = 1,
    /// Tables and blocks: 2 MiB, 32 MiB or 512 MiB.
    L2 = 2,
    /// Pages only: of the granule's size.
    L3 = 3,
}

impl Level {
    /// Returns the level that a table descriptor of this level points at.
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

    /// Returns the number that the architecture gives to this level.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// The size of a page and of a table, and with it how many address bits a level resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// 4 KiB: 512 descriptors in a table.
    K4,
    /// 16 KiB: 2048 descriptors in a table.
    K16,
    /// 64 KiB: 8192 descriptors in a table.
    K64,
}

impl Granule {
    /// Returns log2 of the bytes in a page, and in a table.
    pub const fn page_shift(self) -> u32 {
        match self {
            Granule::K4 => 12,
            Granule::K16 => 14,
            Granule::K64 => 16,
        }
    }

    /// Returns the bytes in a page, and in a table.
    pub const fn page_size(self) -> u64 {
        1 << (self.page_shift() & 63)
    }

    /// Returns log2 of the number of descriptors in a table.
    pub(super) const fn index_bits(self) -> u32 {
        self.page_shift().wrapping_sub(3)
    }

    /// Returns the number of descriptors in a table.
    pub const fn entries(self) -> u16 {
        1 << (self.index_bits() & 15)
    }

    /// Returns log2 of the bytes that one descriptor of `level` covers.
    pub const fn shift(self, level: Level) -> u32 {
        let below = 3u32.wrapping_sub(level as u32);
        self.page_shift()
            .wrapping_add(self.index_bits().wrapping_mul(below))
    }

    /// Returns the bytes that one descriptor of `level` covers.
    pub const fn size(self, level: Level) -> u64 {
        1 << (self.shift(level) & 63)
    }

    /// Returns whether a descriptor of `level` can map memory.
    pub const fn maps(self, level: Level) -> bool {
        match level {
            Level::L0 => false,
            Level::L1 => matches!(self, Granule::K4),
            Level::L2 | Level::L3 => true,
        }
    }

    /// Returns where `ipa` is found in a table of `level`.
    pub(super) const fn index(self, level: Level, ipa: Ipa) -> u16 {
        (ipa.raw() >> (self.shift(level) & 63)) as u16 & self.entries().wrapping_sub(1)
    }
}
