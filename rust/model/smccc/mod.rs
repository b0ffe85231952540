// SPDX-License-Identifier: GPL-2.0
//! SMC Calling Convention (DEN0028): a guest's hypercalls, sorted by who answers them.

pub mod filter;
pub mod firmware;
pub mod trng;

pub use firmware::{Bitmaps, Firmware, Mitigation};

use super::psci;

/// Function identifiers.
#[allow(missing_docs)] // the specifications' names
pub mod function {
    pub const VERSION: u32 = 0x8000_0000;
    pub const ARCH_FEATURES: u32 = 0x8000_0001;
    pub const ARCH_WORKAROUND_1: u32 = 0x8000_8000;
    pub const ARCH_WORKAROUND_2: u32 = 0x8000_7fff;
    pub const ARCH_WORKAROUND_3: u32 = 0x8000_3fff;
    // DEN0057.
    pub const PV_TIME_FEATURES: u32 = 0xc500_0020;
    pub const PV_TIME_ST: u32 = 0xc500_0021;
    // KVM's own.
    pub const VENDOR_FEATURES: u32 = 0x8600_0000;
    pub const VENDOR_PTP: u32 = 0x8600_0001;
    pub const VENDOR_CALL_UID: u32 = 0x8600_ff01;
}

/// SMCCC_VERSION: 1.1.
pub const VERSION_1_1: u64 = 0x1_0001;

/// The call was made, for x0.
pub const SUCCESS: u64 = 0;
/// NOT_SUPPORTED, for x0.
pub const NOT_SUPPORTED: u64 = -1i64 as u64;

/// The identity that says "KVM's hypercalls are here": 28b46fb6-2ec5-11e9-a9ca-4b564d003a74.
const VENDOR_HYP_UID: [u64; 4] = uuid(&[
    0x28, 0xb4, 0x6f, 0xb6, 0x2e, 0xc5, 0x11, 0xe9, 0xa9, 0xca, 0x4b, 0x56, 0x4d, 0x00, 0x3a, 0x74,
]);

/// Which counter a PTP call wants beside the time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counter {
    /// CNTVCT.
    Virtual,
    /// CNTPCT.
    Physical,
}

/// What a call asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Nothing but these in x0 to x3.
    Return([u64; 4]),
    /// See [`psci::Action`]. Its value goes into x0; x1 to x3 become zero.
    Psci(psci::Action),
    /// Random bits: [`trng::random`] makes the answer.
    Random {
        /// How many.
        bits: u8,
        /// Whether x1 to x3 carry 64 bits each, or 32.
        wide: bool,
    },
    /// PV_TIME_ST: begin stolen time accounting. x0: the structure's address, or [`NOT_SUPPORTED`].
    StolenTime,
    /// The firmware's workaround of this number, for the guest's own mitigations.
    Workaround(u32),
    /// The host's real time and this counter, at once: [`ptp`] makes the answer.
    Ptp(Counter),
}

impl Call {
    /// Returns the answer, x0 to x3, where there is nothing to be done for it.
    #[inline(always)]
    pub const fn answer(self) -> Option<[u64; 4]> {
        match self {
            Self::Return(values) => Some(values),
            Self::Psci(psci::Action::Return(code)) => Some([code as u64, 0, 0, 0]),
            _ => None,
        }
    }
}

/// Returns what the call asks for. `arguments`: x1 to x3. `stolen_time`: the vCPU has an address
/// for it.
///
/// Inlined where it is used: a fast exit needs nothing but the registers of an answer, and what is
/// known of a function need not be put together to be taken apart again.
#[inline(always)]
pub fn decide(firmware: &Firmware, function: u32, arguments: [u64; 3], stolen_time: bool) -> Call {
    // By the owner of the function, and whether it is called with 64 bits.
    match function >> 24 {
        0x80 => architecture(firmware, function, arguments[0] as u32),
        0x84 | 0xc4 if psci::number(function).is_some() => {
            Call::Psci(psci::decide(&firmware.psci, function, arguments))
        }
        0x84 | 0xc4 if firmware.bitmaps.std & Bitmaps::TRNG != 0 => {
            trng::decide(function, arguments[0] as u32)
        }
        0x86 => vendor(firmware, function, arguments[0] as u32),
        0x95 if psci::is_psci(function) => {
            Call::Psci(psci::decide(&firmware.psci, function, arguments))
        }
        0xc5 if firmware.bitmaps.std_hyp & Bitmaps::PV_TIME != 0 && stolen_time => {
            match (function, arguments[0] as u32) {
                (function::PV_TIME_FEATURES, function::PV_TIME_FEATURES | function::PV_TIME_ST) => {
                    value(SUCCESS)
                }
                (function::PV_TIME_ST, _) => Call::StolenTime,
                _ => value(NOT_SUPPORTED),
            }
        }
        _ => value(NOT_SUPPORTED),
    }
}

#[inline(always)]
fn architecture(firmware: &Firmware, function: u32, first: u32) -> Call {
    let (flaw, by_firmware) = match function {
        function::VERSION => return value(VERSION_1_1),
        function::ARCH_FEATURES => return value(arch_features(firmware, first)),
        function::ARCH_WORKAROUND_1 => (firmware.spectre_v2, true),
        function::ARCH_WORKAROUND_3 => (firmware.spectre_bhb, firmware.bhb_by_firmware),
        _ => return value(NOT_SUPPORTED),
    };
    match flaw {
        Mitigation::Vulnerable => value(NOT_SUPPORTED),
        Mitigation::Mitigated if by_firmware => Call::Workaround(function),
        // Not needed, but safe to call.
        Mitigation::Mitigated | Mitigation::Unaffected => value(SUCCESS),
    }
}

#[inline(always)]
fn vendor(firmware: &Firmware, function: u32, first: u32) -> Call {
    let bitmaps = &firmware.bitmaps;
    let has = |bit| bitmaps.vendor_hyp & bit != 0;
    match function {
        function::VENDOR_CALL_UID if has(Bitmaps::FUNC_FEAT) => Call::Return(VENDOR_HYP_UID),
        function::VENDOR_FEATURES if has(Bitmaps::FUNC_FEAT) => {
            Call::Return([bitmaps.vendor_hyp, 0, bitmaps.vendor_hyp_2, 0])
        }
        function::VENDOR_PTP if has(Bitmaps::PTP) => match first {
            0 => Call::Ptp(Counter::Virtual),
            1 => Call::Ptp(Counter::Physical),
            _ => value(NOT_SUPPORTED),
        },
        _ => value(NOT_SUPPORTED),
    }
}

/// Returns the answer to [`Call::Ptp`]: nanoseconds since 1970 and the counter, each in two halves.
pub const fn ptp(real_time_ns: u64, counter: u64) -> [u64; 4] {
    [
        real_time_ns >> 32,
        real_time_ns & 0xffff_ffff,
        counter >> 32,
        counter & 0xffff_ffff,
    ]
}

#[inline(always)]
fn arch_features(firmware: &Firmware, feature: u32) -> u64 {
    match feature {
        function::ARCH_WORKAROUND_1 => firmware.spectre_v2.answer(),
        function::ARCH_WORKAROUND_2 => firmware.workaround_2(),
        function::ARCH_WORKAROUND_3 => firmware.spectre_bhb.answer(),
        function::PV_TIME_FEATURES if firmware.bitmaps.std_hyp & Bitmaps::PV_TIME != 0 => SUCCESS,
        _ => NOT_SUPPORTED,
    }
}

#[inline(always)]
const fn value(x0: u64) -> Call {
    Call::Return([x0, 0, 0, 0])
}

/// Returns a UUID in four registers: each takes four bytes in their order, as a little-endian
/// number.
const fn uuid(bytes: &[u8; 16]) -> [u64; 4] {
    const fn word(bytes: &[u8; 16], at: usize) -> u64 {
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as u64
    }
    [
        word(bytes, 0),
        word(bytes, 4),
        word(bytes, 8),
        word(bytes, 12),
    ]
}
