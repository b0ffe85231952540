// SPDX-License-Identifier: GPL-2.0
//! The caches that a guest sees: CLIDR_EL1 and CCSIDR_EL1. Neither is the host's, which vary from
//! CPU to CPU; both follow CTR_EL0, which does not.

use super::regs;
use crate::speculation;

/// The largest cache index: seven levels, instruction and data.
pub const CSSELR_COUNT: u8 = 14;

/// Returns CLIDR_EL1 of a guest: the least that is consistent with CTR_EL0, because the host's
/// caches vary from CPU to CPU. One level, or a unified second one if the instruction cache must be
/// invalidated but the data cache not cleaned.
pub const fn clidr(ctr: u64) -> u64 {
    use regs::CLIDR_EL1 as C;
    const INSTRUCTION: u64 = 1;
    const DATA: u64 = 2;
    const UNIFIED: u64 = 4;
    let idc = regs::CTR_EL0::IDC.is_set(ctr);
    let dic = regs::CTR_EL0::DIC.is_set(ctr);
    // IDC: no clean to the point of unification is needed, so LoUU and LoUIS are 0.
    let (data, loc) = match (idc, dic) {
        (true, true) => (C::Ctype1.of(UNIFIED), 1),
        (true, false) => (C::Ctype2.of(UNIFIED), 2),
        (false, _) => (C::Ctype1.of(DATA) | C::LoUU.of(1) | C::LoUIS.of(1), 1),
    };
    let instruction = if dic { 0 } else { C::Ctype1.of(INSTRUCTION) };
    data | instruction | C::LoC.of(loc)
}

/// Returns CCSIDR_EL1 of a guest: one set, one way, lines as CTR_EL0 says. Guests must not maintain
/// caches by set and way; this geometry keeps those that do from looping long.
pub const fn ccsidr(ctr: u64, csselr: u64) -> u64 {
    let log2_words = if regs::CSSELR_EL1::InD.is_set(csselr) {
        regs::CTR_EL0::IminLine.get(ctr)
    } else {
        regs::CTR_EL0::DminLine.get(ctr)
    };
    // LineSize is log2(bytes) - 4, which is log2(words) - 2.
    regs::CCSIDR_EL1::LineSize.of(log2_words.saturating_sub(2))
}

/// CCSIDR_EL1 of each of a guest's caches, where userspace has given another than [`ccsidr`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Geometries([Option<u32>; CSSELR_COUNT as usize]);

impl Geometries {
    /// Returns CCSIDR_EL1 of the cache `csselr`.
    pub fn get(&self, ctr: u64, csselr: u64) -> u64 {
        let given = speculation::get(&self.0, csselr as usize)
            .copied()
            .flatten();
        given.map_or_else(|| ccsidr(ctr, csselr), u64::from)
    }

    /// Sets CCSIDR_EL1 of the cache `csselr` for userspace. False is -EINVAL: its lines are shorter
    /// than the CPU's, so that a guest that maintains line by line would skip some.
    #[must_use]
    pub fn set(&mut self, ctr: u64, csselr: u64, value: u32) -> bool {
        let line = regs::CCSIDR_EL1::LineSize;
        match speculation::get_mut(&mut self.0, csselr as usize) {
            Some(given) if line.get(value.into()) >= line.get(ccsidr(ctr, csselr)) => {
                *given = Some(value);
                true
            }
            _ => false,
        }
    }
}

/// Returns what CLIDR_EL1 becomes when userspace sets it to `value`; `None` is -EINVAL: a reserved
/// bit, or a hierarchy without a point of unification to clean to while the host's CTR_EL0 (`ctr`)
/// says that cleaning is needed.
pub const fn set_clidr(ctr: u64, value: u64) -> Option<u64> {
    use regs::CLIDR_EL1 as C;
    let claims_idc = !C::LoC.is_set(value) || !C::LoUIS.is_set(value) && !C::LoUU.is_set(value);
    if value & C::RES0 != 0 || claims_idc && !regs::CTR_EL0::IDC.is_set(ctr) {
        None
    } else {
        Some(value)
    }
}
