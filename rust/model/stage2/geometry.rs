// SPDX-License-Identifier: GPL-2.0

//! How large an IPA space is, and where its lookup starts.
//!
//! Stage 2 may concatenate up to 16 tables at the start level (DDI 0487, D8.2, "Concatenated
//! translation tables"), which resolves four more bits there. The fewest levels that can hold the
//! IPA space are used: a level less is a memory access less for every TLB miss of the guest, and
//! the root, at most 16 pages, is allocated once per VM.
//!
//! | granule | IPA bits | start level | root tables |
//! |---|---|---|---|
//! | 4 KiB | 32..=34 | 2 | 4..=16 |
//! | | 35..=43 | 1 | 1..=16 |
//! | | 44..=48 | 0 | 1 |
//! | 16 KiB | 32..=40 | 2 | 1..=16 |
//! | | 41..=48 | 1 | 1..=2 |
//! | 64 KiB | 32 | 3 | 8 |
//! | | 33..=45 | 2 | 1..=8 |
//! | | 46..=48 | 1 | 1 |
//!
//! 48 is the end of it: without FEAT_LPA2's VTCR_EL2.DS, which loft does not set, and without the
//! larger addresses that FEAT_LPA gives the 64 KiB granule, 48 bits are translated to at most 48
//! bits. A CPU with larger physical addresses works; memory above 2^48 cannot be mapped on it.

use super::level::{Granule, Level};
use crate::model::types::{HostPa, Ipa};

/// The largest input and output address, in bits, without FEAT_LPA and FEAT_LPA2.
pub const MAX_ADDRESS_BITS: u32 = 48;

/// The smallest IPA space that loft offers, in bits.
pub const MIN_IPA_BITS: u32 = 32;

/// log2 of the most tables that may be concatenated at the start level (DDI 0487, "Concatenated
/// translation tables").
const MAX_CONCATENATION_BITS: u32 = 4;

/// How many bits the index of a descriptor has, in a table or in the concatenated ones of the root.
const ROOT_INDEX_BITS: u32 = u16::BITS;

/// Returns log2 of the most tables that are concatenated: fewer than may be where an index of all
/// their descriptors would have too many bits.
const fn concatenation_bits(granule: Granule) -> u32 {
    let room = ROOT_INDEX_BITS.saturating_sub(granule.index_bits());
    if room < MAX_CONCATENATION_BITS {
        room
    } else {
        MAX_CONCATENATION_BITS
    }
}

/// Why there is no such IPA space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// Fewer than [`MIN_IPA_BITS`] IPA bits.
    TooSmall,
    /// More IPA bits than the CPU has physical address bits, or than [`MAX_ADDRESS_BITS`].
    TooLarge,
    /// Not a number of physical address bits that ID_AA64MMFR0_EL1.PARange can say.
    BadPaBits,
}

/// The shape of a stage-2 translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    granule: Granule,
    ipa_bits: u32,
    pa_bits: u32,
    ps: u8,
    start: Level,
    root_bits: u32,
}

impl Geometry {
    /// Makes an IPA space of `ipa_bits` bits, in pages of `granule`, on a CPU with `pa_bits` bits
    /// of physical address.
    pub const fn new(granule: Granule, ipa_bits: u32, pa_bits: u32) -> Result<Self, GeometryError> {
        // VTCR_EL2.PS has the encoding of PARange. What lies above 48 bits is not reachable, see
        // the top of this file.
        let (ps, pa_bits) = match pa_bits {
            32 => (0, 32),
            36 => (1, 36),
            40 => (2, 40),
            42 => (3, 42),
            44 => (4, 44),
            48 | 52 | 56 => (5, MAX_ADDRESS_BITS),
            _ => return Err(GeometryError::BadPaBits),
        };
        if ipa_bits < MIN_IPA_BITS {
            return Err(GeometryError::TooSmall);
        }
        // DDI 0487, AArch64.S2MinTxSZ: an input size above the implemented physical address size
        // faults at level 0. It also keeps a start at level 0 to CPUs with 44 bits or more, as
        // AArch64.S2InvalidSL wants.
        if ipa_bits > pa_bits {
            return Err(GeometryError::TooLarge);
        }
        // A table of a level resolves what one descriptor of the level above covers.
        let concatenated = concatenation_bits(granule);
        let start = if ipa_bits <= granule.shift(Level::L2).wrapping_add(concatenated) {
            Level::L3
        } else if ipa_bits <= granule.shift(Level::L1).wrapping_add(concatenated) {
            Level::L2
        } else if ipa_bits <= granule.shift(Level::L0).wrapping_add(concatenated) {
            Level::L1
        } else {
            Level::L0
        };
        Ok(Self {
            granule,
            ipa_bits,
            pa_bits,
            ps,
            start,
            root_bits: ipa_bits
                .saturating_sub(granule.shift(start).wrapping_add(granule.index_bits())),
        })
    }

    /// Returns the size of pages and tables.
    pub const fn granule(&self) -> Granule {
        self.granule
    }

    /// Returns how many bits the IPA space has.
    pub const fn ipa_bits(&self) -> u32 {
        self.ipa_bits
    }

    /// Returns how many bits the host's physical addresses that can be mapped have.
    pub const fn pa_bits(&self) -> u32 {
        self.pa_bits
    }

    /// Returns VTCR_EL2.T0SZ.
    pub const fn t0sz(&self) -> u8 {
        64u32.wrapping_sub(self.ipa_bits) as u8
    }

    /// Returns VTCR_EL2.SL0: with the 4 KiB granule the start levels 2, 1, 0 are 0, 1, 2, with
    /// others 3, 2, 1 are.
    pub const fn sl0(&self) -> u8 {
        let last = match self.granule {
            Granule::K4 => Level::L2,
            Granule::K16 | Granule::K64 => Level::L3,
        };
        last.number().wrapping_sub(self.start.number())
    }

    /// Returns VTCR_EL2.PS.
    pub const fn ps(&self) -> u8 {
        self.ps
    }

    /// Returns the level of the root.
    pub const fn start_level(&self) -> Level {
        self.start
    }

    /// Returns how many tables lie side by side at the root.
    pub const fn root_tables(&self) -> usize {
        1 << (self.root_bits & (usize::BITS - 1))
    }

    /// Returns the size of the root in bytes, which is also the alignment that VTTBR_EL2.BADDR
    /// wants of it.
    pub const fn root_size(&self) -> u64 {
        (self.root_tables() as u64).wrapping_mul(self.granule.page_size())
    }

    /// Returns the most tables that one [`map`](super::Stage2::map) takes from its pool.
    pub const fn tables_per_map(&self) -> usize {
        3u8.wrapping_sub(self.start.number()) as usize
    }

    /// Returns the end of the IPA space.
    pub const fn end(&self) -> Ipa {
        Ipa::new(1 << (self.ipa_bits & 63))
    }

    /// Returns whether `size` bytes from `pa` can be mapped.
    pub const fn can_output(&self, pa: HostPa, size: u64) -> bool {
        let end = 1u64 << (self.pa_bits & 63);
        match pa.checked_add(size) {
            Some(last) => last.raw() <= end,
            None => false,
        }
    }

    /// Returns the index in the root of the descriptor for `ipa`, which lies in the IPA space.
    pub(super) const fn root_index(&self, ipa: Ipa) -> u16 {
        let bits = self.granule.index_bits().wrapping_add(self.root_bits);
        let index = ipa.raw() >> (self.granule.shift(self.start) & 63);
        (index & !(u64::MAX << (bits & 63))) as u16
    }

    /// Returns the indices, from the root on, of the descriptors on the way to the one of `level`
    /// for `ipa`, that included.
    pub(super) fn path(&self, ipa: Ipa, level: Level) -> impl Iterator<Item = u16> {
        let levels = [Level::L1, Level::L2, Level::L3];
        let (granule, start) = (self.granule, self.start);
        let below = levels.into_iter().filter(move |&l| start < l && l <= level);
        core::iter::once(self.root_index(ipa))
            .chain(below.map(move |level| granule.index(level, ipa)))
    }
}
