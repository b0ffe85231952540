// SPDX-License-Identifier: GPL-2.0

//! Which TLBI instructions forget a range of IPAs: the arithmetic behind [`Tlb::flush`](super::Tlb::flush).

use super::level::{Level, PAGE_SHIFT};
use crate::model::types::Ipa;
use core::ops::Range;

/// What this CPU's TLB maintenance instructions can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbFeatures {
    /// FEAT_TLBIRANGE (ID_AA64ISAR0_EL1.TLB is 2): there is TLBI RIPAS2E1IS.
    pub range: bool,
    /// FEAT_TTL (ID_AA64MMFR2_EL1.TTL): TLBI IPAS2E1IS takes a level hint.
    pub ttl: bool,
}

/// One instruction, with its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tlbi {
    /// IPAS2E1IS, or IPAS2LE1IS.
    Ipa(u64),
    /// RIPAS2E1IS, or RIPAS2LE1IS.
    Range(u64),
}

/// From this many instructions on, forgetting the whole VMID is cheaper, and keeps the interconnect free for others.
pub const MAX_TLBIS: u64 = 512;

/// The TLBIs for a range, to be issued in any order. If [`is_last_level`](Tlbis::is_last_level), the last-level forms do.
#[derive(Clone, Debug)]
pub struct Tlbis {
    next: u64,
    pages: u64,
    leaf: Option<Level>,
    features: TlbFeatures,
}

/// The granule in operands: 4 KiB.
const TG_4K: u64 = 0b01;
/// RIPAS2E1IS: the largest SCALE.
const MAX_SCALE: u32 = 3;
/// RIPAS2E1IS: the largest NUM, plus one.
const MAX_UNITS: u64 = 32;

/// log2 of the pages in a unit of this SCALE: an operand covers NUM + 1 units of 2^(5 * SCALE + 1) pages.
const fn unit_shift(scale: u32) -> u32 {
    (5 * (scale & MAX_SCALE) + 1) & 63
}

impl Tlbis {
    /// The instructions for what [`Tlb::flush`](super::Tlb::flush) is given; `None` if it is better to forget everything.
    pub fn new(stale: Range<Ipa>, leaf: Option<Level>, features: TlbFeatures) -> Option<Self> {
        let this = Self {
            next: stale.start.raw() >> PAGE_SHIFT,
            pages: stale.end.checked_sub(stale.start).unwrap_or(0) >> PAGE_SHIFT,
            leaf,
            features,
        };
        let instructions = if features.range {
            (this.pages >> unit_shift(MAX_SCALE)) / MAX_UNITS
        } else {
            this.pages / this.stride()
        };
        (instructions < MAX_TLBIS).then_some(this)
    }

    /// Whether only the last level of the lookup has changed.
    pub const fn is_last_level(&self) -> bool {
        self.leaf.is_some()
    }

    /// Pages per instruction where each names one entry.
    fn stride(&self) -> u64 {
        self.leaf.unwrap_or(Level::L3).size() >> PAGE_SHIFT
    }

    /// IPAS2E1IS: TTL 47:44, of which the upper half is the granule, and the page number from bit 0.
    fn one(&self) -> Tlbi {
        let ttl = match self.leaf {
            Some(level) if self.features.ttl => (TG_4K << 2) | u64::from(level.number()),
            _ => 0,
        };
        Tlbi::Ipa((ttl << 44) | self.next)
    }

    /// RIPAS2E1IS: TG 47:46, SCALE 45:44, NUM 43:39, TTL 38:37, and the page number from bit 0.
    ///
    /// A hint obliges to begin at a multiple of the level's size. Large units first keep to that: the size is a multiple
    /// of all units that a remainder below it is made of.
    fn range(&self, scale: u32, units: u64) -> Tlbi {
        let ttl = self.leaf.map_or(0, |level| u64::from(level.number()));
        let fields =
            (TG_4K << 46) | (u64::from(scale) << 44) | (units.wrapping_sub(1) << 39) | (ttl << 37);
        Tlbi::Range(fields | self.next)
    }

    fn advance(&mut self, pages: u64) {
        self.next = self.next.wrapping_add(pages);
        self.pages = self.pages.saturating_sub(pages);
    }
}

impl Iterator for Tlbis {
    type Item = Tlbi;

    fn next(&mut self) -> Option<Tlbi> {
        if self.pages == 0 {
            return None;
        }
        if self.features.range {
            for scale in [3, 2, 1, 0] {
                let units = (self.pages >> unit_shift(scale)).min(MAX_UNITS);
                if units > 0 {
                    let tlbi = self.range(scale, units);
                    self.advance(units << unit_shift(scale));
                    return Some(tlbi);
                }
            }
        }
        let tlbi = self.one();
        self.advance(self.stride());
        Some(tlbi)
    }
}
