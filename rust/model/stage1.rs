// SPDX-License-Identifier: GPL-2.0
//! The walk of a guest's own tables (DDI 0487, D8.2): which descriptors the CPU reads for an
//! address, from the first level on. Only as far as it takes to tell the level of a descriptor that
//! it could not read, or where the address leads: whether the access is allowed is not asked.

use super::sysreg::regs::{TCR_EL1, TTBR0_EL1};
use super::types::Ipa;

/// The address in a descriptor, where it has 48 bits.
const TABLE: u64 = 0xffff_ffff_f000;
/// Bits 1:0 of a descriptor that leads to a table.
const IS_TABLE: u64 = 0b11;
const LAST: i8 = 3;
/// TCR_EL1.IPS: addresses have 52 bits.
const OUTPUT_52: u64 = 0b110;

/// A walk that is about to read a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    level: i8,
    /// Where its table is.
    table: u64,
    /// What is left of the virtual address.
    rest: u64,
    /// The granule, as a number of bits.
    granule: u32,
    /// Descriptors have addresses of 52 bits.
    wide: bool,
}

/// Returns the address in a descriptor (DDI 0487, D8.3): of 52 bits the upper four are in bits that
/// smaller granules have no use for with FEAT_LPA, and with FEAT_LPA2 the upper two are in those of
/// the shareability, which TCR_EL1 says instead.
const fn address(descriptor: u64, granule: u32, wide: bool) -> u64 {
    match (wide, granule) {
        (false, _) => descriptor & TABLE,
        (true, 16) => descriptor & 0xffff_ffff_0000 | (descriptor >> 12 & 0xf) << 48,
        (true, _) => descriptor & 0x3_ffff_ffff_f000 | (descriptor >> 8 & 3) << 50,
    }
}

impl Walk {
    /// Returns the walk for `va` with TCR_EL1 and TTBR0_EL1 and TTBR1_EL1. `None`: there is none
    /// for the half that `va` is in.
    pub const fn new(tcr: u64, ttbrs: [u64; 2], va: u64) -> Option<Self> {
        // Bit 55 chooses the half, whatever a tag makes of the bits above it.
        let upper = va >> 55 & 1 != 0;
        let (size, granule, disabled, ttbr) = if upper {
            let granule = match TCR_EL1::TG1.get(tcr) {
                TCR_EL1::TG1_16K => 14,
                TCR_EL1::TG1_64K => 16,
                _ => 12,
            };
            let size = TCR_EL1::T1SZ.get(tcr);
            (size, granule, TCR_EL1::EPD1.is_set(tcr), ttbrs[1])
        } else {
            let granule = match TCR_EL1::TG0.get(tcr) {
                TCR_EL1::TG0_16K => 14,
                TCR_EL1::TG0_64K => 16,
                _ => 12,
            };
            let size = TCR_EL1::T0SZ.get(tcr);
            (size, granule, TCR_EL1::EPD0.is_set(tcr), ttbrs[0])
        };
        if disabled {
            return None;
        }
        // 52 bits with the largest granule (FEAT_LVA), or where TCR_EL1.DS says so (FEAT_LPA2).
        // What is out of bounds may be taken for the bound.
        let large = granule == 16;
        let descriptors_52 = TCR_EL1::DS.is_set(tcr) && !large;
        let most = if large || descriptors_52 { 52 } else { 48 };
        let wide = descriptors_52 || large && TCR_EL1::IPS.get(tcr) == OUTPUT_52;
        let bits = match 64 - size as u32 {
            bits if bits > most => most,
            bits if bits <= granule => granule + 1,
            bits => bits,
        };
        let levels = (bits - granule).div_ceil(granule - 3);
        let walk = Self {
            level: LAST + 1 - levels as i8,
            table: 0,
            rest: va & ((1 << bits) - 1),
            granule,
            wide,
        };
        // The first table has as many descriptors as there are bits left for it, and is aligned to
        // its size, at least 64 bytes.
        let index_bits = bits - walk.shift();
        let size = if index_bits < 3 { 64 } else { 8 << index_bits };
        let low = ttbr & TTBR0_EL1::BADDR.mask() & !(size - 1);
        let table = if wide {
            // Bits 5:2 are the upper four of the address.
            low & !0x3f | (ttbr >> 2 & 0xf) << 48
        } else {
            low
        };
        Some(Self { table, ..walk })
    }

    /// Returns the lowest bit of the address that this level translates.
    const fn shift(self) -> u32 {
        self.granule + (self.granule - 3) * (LAST - self.level) as u32
    }

    /// Returns the level of the descriptor.
    pub const fn level(self) -> i8 {
        self.level
    }

    /// Returns where the descriptor is.
    pub const fn descriptor(self) -> Ipa {
        Ipa::new(self.table | self.rest >> self.shift() << 3)
    }

    /// Returns where the address leads, if `descriptor`, which has been read, is a block's or a
    /// page's.
    pub const fn end(self, descriptor: u64) -> Option<Ipa> {
        let kind = if self.level == LAST { 0b11 } else { 0b01 };
        if descriptor & 0b11 != kind {
            return None;
        }
        let offset = (1 << self.shift()) - 1;
        let base = address(descriptor, self.granule, self.wide);
        Some(Ipa::new(base & !offset | self.rest & offset))
    }

    /// Returns the walk at the next level, if `descriptor`, which has been read, leads to a table.
    pub const fn next(self, descriptor: u64) -> Option<Self> {
        if self.level == LAST || descriptor & IS_TABLE != IS_TABLE {
            return None;
        }
        Some(Self {
            level: self.level + 1,
            table: address(descriptor, self.granule, self.wide) & !((1 << self.granule) - 1),
            rest: self.rest & ((1 << self.shift()) - 1),
            ..self
        })
    }
}
