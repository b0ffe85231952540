// SPDX-License-Identifier: Apache-2.0
//! Stage 1 of a guest's address translation (Arm ARM, D8), as a debugger needs it: where an address
//! is, not what may be done there. KVM has no KVM_TRANSLATE on arm64.

/// The registers that stage 1 goes by.
#[derive(Debug, Default, Clone, Copy)]
pub struct Regime {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
}

/// SCTLR_EL1.M.
const MMU_ON: u64 = 1;
/// TCR_EL1.DS: addresses of 52 bits with pages of 4 or 16 KiB.
const DS: u64 = 1 << 59;
/// TCR_EL1.IPS of 52 bits.
const IPS_52: u64 = 0b110;

/// What TCR_EL1 says of one half of the address space.
struct Half {
    table: u64,
    page_bits: u32,
    address_bits: u32,
}

impl Regime {
    fn half(&self, upper: bool) -> Option<Half> {
        let (tcr, shift) = (self.tcr, if upper { 16 } else { 0 });
        let page_bits = match (upper, tcr >> if upper { 30 } else { 14 } & 0b11) {
            (false, 0b00) | (true, 0b10) => 12,
            (false, 0b10) | (true, 0b01) => 14,
            (false, 0b01) | (true, 0b11) => 16,
            _ => return None,
        };
        let address_bits = 64 - (tcr >> shift & 0x3f) as u32;
        // EPD0, EPD1: no walk.
        let disabled = tcr >> (shift + 7) & 1 == 1;
        let sensible = (page_bits + 1..=52).contains(&address_bits);
        let ttbr = if upper { self.ttbr1 } else { self.ttbr0 };
        let mut table = ttbr & 0xffff_ffff_fffe;
        if self.is_wide(page_bits) {
            table = table & !0x3f | (ttbr >> 2 & 0xf) << 48;
        }
        (!disabled && sensible).then_some(Half { table, page_bits, address_bits })
    }

    /// Whether descriptors have output addresses of 52 bits.
    fn is_wide(&self, page_bits: u32) -> bool {
        if page_bits == 16 {
            self.tcr >> 32 & 0b111 == IPS_52
        } else {
            self.tcr & DS != 0
        }
    }

    /// The output address of a descriptor that maps 2^`bits` bytes, or the next table.
    fn output(&self, descriptor: u64, page_bits: u32, bits: u32) -> u64 {
        let low = descriptor & 0xffff_ffff_ffff;
        let (address, above) = match (self.is_wide(page_bits), page_bits) {
            (false, _) => (low, 0),
            (true, 16) => (low, (descriptor >> 12 & 0xf) << 48),
            (true, _) => (descriptor & 0x3_ffff_ffff_ffff, (descriptor >> 8 & 0b11) << 50),
        };
        address >> bits << bits | above
    }

    /// The guest physical address of `address`; `None` where nothing is mapped. `read` gives the
    /// doubleword at a guest physical address.
    pub fn translate(&self, address: u64, read: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        if self.sctlr & MMU_ON == 0 {
            return Some(address);
        }
        let upper = address >> 55 & 1 == 1;
        let Half { mut table, page_bits, address_bits } = self.half(upper)?;
        // TBI0, TBI1: the top byte is a tag.
        let tagged = self.tcr >> if upper { 38 } else { 37 } & 1 == 1;
        let top = if tagged { (address as i64) << 8 >> 8 } else { address as i64 };
        if top >> address_bits != if upper { -1 } else { 0 } {
            return None;
        }
        let inside = address & ((1 << address_bits) - 1);
        let index_bits = page_bits - 3;
        let mut level = 4 - (address_bits - page_bits).div_ceil(index_bits) as i32;
        loop {
            let shift = page_bits + index_bits * (3 - level) as u32;
            let index = inside >> shift & ((1 << index_bits) - 1);
            let descriptor = read(table + index * 8)?;
            match (descriptor & 0b11, level) {
                (0b11, 3) | (0b01, 0..=2) => {
                    return Some(self.output(descriptor, page_bits, shift) | inside & ((1 << shift) - 1));
                }
                (0b11, _) => table = self.output(descriptor, page_bits, page_bits),
                _ => return None,
            }
            level += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Pages of 4 KiB, 48 bits in both halves, tags in the lower one.
    const TCR: u64 = 16 | 16 << 16 | 0b10 << 30 | 1 << 37;

    fn walk(regime: Regime, memory: &[(u64, u64)], address: u64) -> Option<u64> {
        let memory: BTreeMap<u64, u64> = memory.iter().copied().collect();
        regime.translate(address, |at| memory.get(&at).copied())
    }

    fn regime(tcr: u64) -> Regime {
        Regime { sctlr: 1, tcr, ttbr0: 7 << 48 | 0x1000_0001, ttbr1: 0x2000_0000 }
    }

    #[test]
    fn without_an_mmu() {
        assert_eq!(walk(Regime::default(), &[], 0x1234), Some(0x1234));
    }

    #[test]
    fn pages_and_blocks() {
        let memory = [
            (0x2000_0000, 0x2000_1003),                   // level 0, the next table
            (0x2000_1000 + 8, 0x2000_2003),               // level 1
            (0x2000_2000 + 2 * 8, 0x2000_3003),           // level 2
            (0x2000_3000 + 5 * 8, 0x0068_0123_4000_f703), // level 3: a page
            (0x2000_2000 + 3 * 8, 0x0060_0000_4060_0f01), // a block of 2 MiB
            (0x2000_1000 + 2 * 8, 0x0060_0000_8000_0f01), // a block of 1 GiB
            (0x1000_0000 + 8, 0x1000_1003),
            (0x1000_1000, 0x0000_0000_c000_0f01),
        ];
        let upper = 0xffff_0000_0000_0000;
        let at = |address| walk(regime(TCR), &memory, address);
        assert_eq!(at(upper | 1 << 30 | 2 << 21 | 5 << 12 | 0x678), Some(0x0123_4000_f678));
        assert_eq!(at(upper | 1 << 30 | 3 << 21 | 0x12_3456), Some(0x4072_3456));
        assert_eq!(at(upper | 2 << 30 | 0x1234_5678), Some(0x9234_5678));
        assert_eq!(at(upper | 3 << 30), None);
        // The lower half, by its own table and with a tag.
        assert_eq!(at(1 << 39 | 0x42), Some(0xc000_0042));
        assert_eq!(at(0x5a << 56 | 1 << 39 | 0x42), Some(0xc000_0042));
        // The upper half has none, and nothing is between the two.
        assert_eq!(at(0x5aff_0000_0000_0000), None);
        assert_eq!(at(1 << 50), None);
        // EPD1: no walk there.
        assert_eq!(walk(regime(TCR | 1 << 23), &memory, upper | 2 << 30), None);
    }

    #[test]
    fn fewer_levels() {
        // 39 bits begin at level 1.
        let memory = [(0x2000_0000 + 511 * 8, 0x4000_0701)];
        let tcr = 25 | 25 << 16 | 0b10 << 30;
        assert_eq!(walk(regime(tcr), &memory, 0xffff_ffff_c000_0010), Some(0x4000_0010));
        // Pages of 64 KiB and 42 bits: level 2, blocks of 512 MiB.
        let tcr = 22 | 22 << 16 | 0b11 << 30 | 0b01 << 14;
        let memory = [(0x2000_0000 + 8, 0x2001_0003), (0x2001_0000 + 16, 0x4003_0703), (0x2000_0000 + 16, 0x8000_0701)];
        assert_eq!(walk(regime(tcr), &memory, 0xffff_fc00_2002_1234), Some(0x4003_1234));
        assert_eq!(walk(regime(tcr), &memory, 0xffff_fc00_4002_1234), Some(0x8002_1234));
        // Pages of 16 KiB and 47 bits: level 1.
        let tcr = 17 | 17 << 16 | 0b01 << 30 | 0b10 << 14;
        let memory = [(0x2000_0000, 0x2000_4003), (0x2000_4000 + 8, 0x4200_0701)];
        assert_eq!(walk(regime(tcr), &memory, 0xffff_8000_0200_5678), Some(0x4200_5678));
    }

    #[test]
    fn addresses_of_52_bits() {
        // Pages of 4 KiB with DS begin at level -1; bits 50 and 51 are in bits 8 and 9.
        let tcr = 12 | 12 << 16 | 0b10 << 30 | DS;
        let memory = [
            (0x2000_0000 + 15 * 8, 0x2000_1003),
            (0x2000_1000 + 511 * 8, 0x2000_2003),
            (0x2000_2000 + 511 * 8, 0x4000_0201),
        ];
        assert_eq!(walk(regime(tcr), &memory, 0xffff_ffff_c000_0123), Some(1 << 51 | 0x4000_0123));
        // Pages of 64 KiB: bits 48 to 51 are in bits 12 to 15, of TTBR1 in bits 2 to 5.
        let tcr = 22 | 22 << 16 | 0b11 << 30 | 0b01 << 14 | IPS_52 << 32;
        let memory = [(1 << 48 | 0x2000_0000, 0x2001_0003), (0x2001_0000, 0x4003_2703)];
        let regime = Regime { ttbr1: 0x2000_0000 | 1 << 2, ..regime(tcr) };
        assert_eq!(walk(regime, &memory, 0xffff_fc00_0000_0123), Some(2 << 48 | 0x4003_0123));
    }
}
