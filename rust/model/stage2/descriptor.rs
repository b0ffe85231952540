// SPDX-License-Identifier: GPL-2.0

//! Stage-2 descriptors: their bits (DDI 0487, D8.3, "Translation table descriptor formats" and
//! D8.4, D8.6 for the attributes of stage 2), and no other file knows them.
//!
//! An invalid descriptor's bits 63:1 are ignored by the CPU. Two of them are used:
//!
//! - `LOCKED`: a CPU that holds the shared lock is changing this descriptor with break-before-make.
//!   The rest is zero.
//! - `DEAD`: a leaf that the holder of the exclusive lock made invalid, and whose memory awaits
//!   cache maintenance. All its other bits are as they were, so that the output address is still
//!   known.

use super::attributes::{Attributes, Leaf, MemType, Perm};
use super::level::Level;
use super::platform::TableAddr;
use crate::model::types::HostPa;

/// Some bits of a descriptor.
#[derive(Clone, Copy)]
struct DescriptorField {
    shift: u32,
    mask: u64,
}

impl DescriptorField {
    /// Makes the field of bits `high` to `low`.
    const fn bits(high: u32, low: u32) -> Self {
        Self {
            shift: low & 63,
            mask: (u64::MAX >> (63u32.wrapping_sub(high) & 63)) & (u64::MAX << (low & 63)),
        }
    }

    const fn get(self, descriptor: u64) -> u64 {
        (descriptor & self.mask) >> (self.shift & 63)
    }

    const fn put(self, value: u64) -> u64 {
        (value << (self.shift & 63)) & self.mask
    }
}

/// Valid.
const VALID: u64 = DescriptorField::bits(0, 0).mask;
/// In a valid descriptor: a table above level 3, a page at level 3; clear in a block.
const TABLE_OR_PAGE: u64 = DescriptorField::bits(1, 1).mask;
/// The memory type.
const MEM_ATTR: DescriptorField = DescriptorField::bits(5, 2);
/// Data access permissions.
const S2AP: DescriptorField = DescriptorField::bits(7, 6);
/// Shareability.
const SH: DescriptorField = DescriptorField::bits(9, 8);
/// The access flag.
const AF: u64 = DescriptorField::bits(10, 10).mask;
/// The output address, or the next table's address. Bits below the level's size are zero.
const OUTPUT: u64 = DescriptorField::bits(47, 12).mask;
/// Execute-never.
const XN: DescriptorField = DescriptorField::bits(54, 53);
/// In an invalid descriptor: being changed under the shared lock. Bits 58:55 are for software in
/// valid ones too.
const LOCKED: u64 = DescriptorField::bits(55, 55).mask;
/// In an invalid descriptor: a leaf whose memory awaits cache maintenance.
const DEAD: u64 = DescriptorField::bits(56, 56).mask;

/// S2AP, bit 0: reads are allowed.
const S2AP_READ: u64 = 0b01;
/// S2AP, bit 1: writes are allowed.
const S2AP_WRITE: u64 = 0b10;

/// SH: inner shareable, which all CPUs of the host are together. Device and non-cacheable memory
/// ignore it.
const SH_INNER: u64 = 0b11;

/// XN: executable at EL1 and EL0. Without FEAT_XNX, bit 53 is RES0 and bit 54 alone decides; with
/// it, 0b01 and 0b11 tell EL1 from EL0. This value and [`XN_NEVER`] mean the same either way, and
/// no others are used.
const XN_EXECUTE: u64 = 0b00;
/// XN: executable nowhere.
const XN_NEVER: u64 = 0b10;

/// MemAttr: Device-nGnRE, with or without FEAT_S2FWB.
const MEM_DEVICE_NGNRE: u64 = 0b0001;
/// MemAttr: Normal, inner and outer non-cacheable; with FEAT_S2FWB, Normal non-cacheable unless
/// stage 1 says Device.
const MEM_NORMAL_NC: u64 = 0b0101;
/// MemAttr without FEAT_S2FWB: Normal, inner and outer write-back; stage 1 may weaken it.
const MEM_NORMAL_WB: u64 = 0b1111;
/// MemAttr with FEAT_S2FWB: Normal write-back whatever stage 1 says.
const MEM_FORCE_WB: u64 = 0b0110;

/// What a descriptor says; `T` is what one that leads to a table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry<T> {
    /// Nothing is here.
    Empty,
    /// Someone is changing it under the shared lock: come again.
    Locked,
    /// Unmapped under the exclusive lock, awaiting cache maintenance.
    Dead(Leaf),
    /// The next table.
    Table(T),
    /// A block or page.
    Leaf(Leaf),
}

/// The descriptor format that this CPU was told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// HCR_EL2.FWB is set, which needs FEAT_S2FWB. It changes what MemAttr means, and stage 2 then
    /// forces cacheability, so that no cache maintenance is needed for data.
    pub fwb: bool,
}

impl Format {
    /// No mapping.
    pub(super) const EMPTY: u64 = 0;

    /// The marker of a descriptor that is being changed.
    pub(super) const LOCK: u64 = LOCKED;

    /// Returns the descriptor that leads to `table`.
    pub const fn table(table: TableAddr) -> u64 {
        VALID | TABLE_OR_PAGE | (table.pa().raw() & OUTPUT)
    }

    /// Returns the table that `descriptor`, of a table of `level`, leads to, if it does: the
    /// reverse of [`table`](Self::table).
    pub const fn next_table(level: Level, descriptor: u64) -> Option<TableAddr> {
        let leads = VALID | TABLE_OR_PAGE;
        match level {
            Level::L0 | Level::L1 | Level::L2 if descriptor & leads == leads => {
                Some(TableAddr::from_output(HostPa::new(descriptor & OUTPUT)))
            }
            _ => None,
        }
    }

    /// Returns the block or page descriptor of `leaf`.
    pub(super) const fn leaf(self, leaf: Leaf) -> u64 {
        let Attributes { perm, mem, young } = leaf.attributes;
        let mut descriptor = VALID | (leaf.pa.raw() & OUTPUT) | SH.put(SH_INNER);
        if let Level::L3 = leaf.level {
            descriptor |= TABLE_OR_PAGE;
        }
        if perm.r {
            descriptor |= S2AP.put(S2AP_READ);
        }
        if perm.w {
            descriptor |= S2AP.put(S2AP_WRITE);
        }
        descriptor |= XN.put(if perm.x { XN_EXECUTE } else { XN_NEVER });
        if young {
            descriptor |= AF;
        }
        descriptor
            | MEM_ATTR.put(match (mem, self.fwb) {
                (MemType::Normal, true) => MEM_FORCE_WB,
                (MemType::Normal, false) => MEM_NORMAL_WB,
                (MemType::NormalNc, _) => MEM_NORMAL_NC,
                (MemType::Device, _) => MEM_DEVICE_NGNRE,
            })
    }

    /// Returns the descriptor of `leaf`, invalid, and remembered as one that awaits cache
    /// maintenance.
    pub(super) const fn dead(self, leaf: Leaf) -> u64 {
        (self.leaf(leaf) & !VALID) | DEAD
    }

    /// Returns what `descriptor`, found in a table of `level`, says. It leads to no table.
    ///
    /// An encoding that the architecture reserves at this level is empty, as it is for the CPU.
    #[inline(always)]
    pub(super) const fn decode<T>(self, level: Level, descriptor: u64) -> Entry<T> {
        let next_or_page = descriptor & TABLE_OR_PAGE != 0;
        if descriptor & VALID == 0 {
            return if descriptor & LOCKED != 0 {
                Entry::Locked
            } else if descriptor & DEAD != 0 {
                Entry::Dead(self.decode_leaf(level, descriptor))
            } else {
                Entry::Empty
            };
        }
        match level {
            Level::L3 if next_or_page => Entry::Leaf(self.decode_leaf(level, descriptor)),
            Level::L1 | Level::L2 if !next_or_page => {
                Entry::Leaf(self.decode_leaf(level, descriptor))
            }
            _ => Entry::Empty,
        }
    }

    #[inline(always)]
    const fn decode_leaf(self, level: Level, descriptor: u64) -> Leaf {
        let access = S2AP.get(descriptor);
        Leaf {
            level,
            pa: HostPa::new(descriptor & OUTPUT),
            attributes: Attributes {
                perm: Perm {
                    r: access & S2AP_READ != 0,
                    w: access & S2AP_WRITE != 0,
                    x: XN.get(descriptor) == XN_EXECUTE,
                },
                mem: match MEM_ATTR.get(descriptor) {
                    MEM_NORMAL_NC => MemType::NormalNc,
                    MEM_NORMAL_WB if !self.fwb => MemType::Normal,
                    MEM_FORCE_WB if self.fwb => MemType::Normal,
                    // Nothing else is ever written; of all types it is the one that assumes least.
                    _ => MemType::Device,
                },
                young: descriptor & AF != 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::model::stage2::Granule;

    type Entry = super::Entry<()>;

    const FWB: Format = Format { fwb: true };
    const NO_FWB: Format = Format { fwb: false };

    const fn leaf(level: Level, pa: u64, perm: Perm, mem: MemType, young: bool) -> Leaf {
        Leaf {
            level,
            pa: HostPa::new(pa),
            attributes: Attributes { perm, mem, young },
        }
    }

    /// Compares with what is written out by hand from the tables in DDI 0487.
    #[test]
    fn known_descriptors() {
        let ram = leaf(Level::L3, 0x1234_5000, Perm::RWX, MemType::Normal, true);
        assert_eq!(
            NO_FWB.leaf(ram),
            0x1234_5000 | 0x400 | 0x300 | 0xc0 | 0x3c | 0b11
        );
        assert_eq!(
            FWB.leaf(ram),
            0x1234_5000 | 0x400 | 0x300 | 0xc0 | 0x18 | 0b11
        );
        let block = leaf(Level::L2, 0x20_0000, Perm::R, MemType::Normal, false);
        assert_eq!(
            NO_FWB.leaf(block),
            (1 << 54) | 0x20_0000 | 0x300 | 0x40 | 0x3c | 0b01
        );
        let device = leaf(Level::L3, 0xffff_ffff_f000, Perm::RW, MemType::Device, true);
        for format in [FWB, NO_FWB] {
            assert_eq!(
                format.leaf(device),
                (1 << 54) | 0xffff_ffff_f000 | 0x400 | 0x300 | 0xc0 | 0x04 | 0b11
            );
        }
        let nc = leaf(Level::L1, 1 << 30, Perm::RW, MemType::NormalNc, true);
        assert_eq!(
            FWB.leaf(nc),
            (1 << 54) | (1 << 30) | 0x400 | 0x300 | 0xc0 | 0x14 | 0b01
        );
        assert_eq!(
            Some(Format::table(TableAddr::from_output(HostPa::new(0x5000)))),
            Some(0x5003)
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for format in [FWB, NO_FWB] {
            for level in [Level::L1, Level::L2, Level::L3] {
                for mem in [MemType::Normal, MemType::NormalNc, MemType::Device] {
                    for bits in 0..16 {
                        let perm = Perm::new(bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                        let leaf = leaf(
                            level,
                            0xabc0_0000_0000 + Granule::K4.size(level),
                            perm,
                            mem,
                            bits & 8 != 0,
                        );
                        assert_eq!(format.decode(level, format.leaf(leaf)), Entry::Leaf(leaf));
                        assert_eq!(format.decode(level, format.dead(leaf)), Entry::Dead(leaf));
                        assert_eq!(format.dead(leaf) & 1, 0);
                    }
                }
            }
        }
    }

    #[test]
    fn tables_and_markers() {
        let table = TableAddr::from_output(HostPa::new(0x8000_1000));
        for level in [Level::L0, Level::L1, Level::L2] {
            assert_eq!(Format::next_table(level, Format::table(table)), Some(table));
            assert_eq!(Format::next_table(level, Format::table(table) & !2), None);
            assert_eq!(Format::next_table(level, Format::LOCK), None);
        }
        for level in [Level::L0, Level::L1, Level::L2, Level::L3] {
            assert_eq!(FWB.decode(level, Format::LOCK), Entry::Locked);
            assert_eq!(FWB.decode(level, Format::EMPTY), Entry::Empty);
        }
        assert_eq!(Format::next_table(Level::L3, Format::table(table)), None);
        assert_eq!(Format::LOCK & 1, 0);
    }

    /// Checks that we take for invalid what the CPU does.
    #[test]
    fn reserved_encodings_are_empty() {
        assert_eq!(FWB.decode(Level::L3, 0b01), Entry::Empty);
        assert_eq!(FWB.decode(Level::L0, 0b01), Entry::Empty);
    }
}
