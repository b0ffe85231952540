// SPDX-License-Identifier: Apache-2.0
//! Breakpoints and watchpoints as the CPU's debug registers have them (Arm ARM, D2.8 and D2.9).

/// DBGBCR<n>_EL1 of a breakpoint at one instruction, in EL0 and EL1: E, PMC 0b11, BAS 0b1111.
pub const BREAK_CONTROL: u64 = 1 | 0b11 << 1 | 0b1111 << 5;

/// The largest range that a watchpoint has, as a power of two (DBGWCR<n>_EL1.MASK).
const MAX_MASK: u32 = 31;

/// What a watchpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Loads.
    Read = 1,
    /// Stores.
    Write = 2,
    /// Both.
    Any = 3,
}

/// A watchpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// The first byte.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// Which accesses.
    pub access: Access,
}

impl Watch {
    /// DBGWVR<n>_EL1 and DBGWCR<n>_EL1. `None` where one pair of registers cannot have it: that
    /// takes bytes within one doubleword, or a range whose length is a power of two that its
    /// address is a multiple of.
    pub fn registers(&self) -> Option<(u64, u64)> {
        let control = 1 | 0b11 << 1 | (self.access as u64) << 3;
        let offset = self.address % 8;
        if (1..=8 - offset).contains(&self.length) {
            let bytes = (0xff >> (8 - self.length)) << offset;
            return Some((self.address - offset, control | bytes << 5));
        }
        let mask = self.length.trailing_zeros();
        let fits = self.length.is_power_of_two() && mask <= MAX_MASK && self.address % self.length == 0;
        fits.then(|| (self.address, control | 0xff << 5 | u64::from(mask) << 24))
    }

    /// Whether an access that was seen at `address` can be this one's. It may begin before what is
    /// watched: the CPU tells where within a block of 16 bytes at least (Arm ARM, D2.9.7).
    pub fn is_at(&self, address: u64) -> bool {
        const BLOCK: u64 = 64;
        address / BLOCK * BLOCK < self.address.saturating_add(self.length) && self.address <= address | (BLOCK - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: u64, length: u64, access: Access) -> Option<(u64, u64)> {
        Watch { address, length, access }.registers()
    }

    #[test]
    fn watchpoints() {
        assert_eq!(of(0x1000, 8, Access::Write), Some((0x1000, 0x1ff7)));
        assert_eq!(of(0x1004, 4, Access::Read), Some((0x1000, 0x1e0f)));
        assert_eq!(of(0x1003, 1, Access::Any), Some((0x1000, 0x011f)));
        assert_eq!(of(0x1002, 3, Access::Any), Some((0x1000, 0x039f)));
        assert_eq!(of(0x2000, 0x1000, Access::Write), Some((0x2000, 0x0c00_1ff7)));
        for (address, length) in [(0x1004, 8), (0x1000, 0), (0x1000, 24), (0x1008, 16), (0, 1 << 32)] {
            assert_eq!(of(address, length, Access::Any), None, "{address:#x} {length}");
        }
    }

    #[test]
    fn where_a_watchpoint_was_seen() {
        let watch = Watch { address: 0x1010, length: 4, access: Access::Any };
        assert!(watch.is_at(0x1010) && watch.is_at(0x1008) && watch.is_at(0x103f));
        assert!(!watch.is_at(0x1040) && !watch.is_at(0xfff));
    }
}
