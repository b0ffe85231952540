// SPDX-License-Identifier: GPL-2.0
//! True random number firmware interface (DEN0098), version 1.0.

use super::Call;

/// Function identifiers.
#[allow(missing_docs)] // DEN0098's names
pub mod function {
    pub const VERSION: u32 = 0x8400_0050;
    pub const FEATURES: u32 = 0x8400_0051;
    pub const GET_UUID: u32 = 0x8400_0052;
    pub const RND32: u32 = 0x8400_0053;
    pub const RND64: u32 = 0xc400_0053;
}

const VERSION_1_0: u64 = 0x1_0000;
const SUCCESS: u64 = 0;
const NOT_SUPPORTED: u64 = -1i64 as u64;
const INVALID_PARAMETERS: u64 = -2i64 as u64;

/// The identity that KVM gives: 0d21e000-4384-11eb-8070-5244554e5a4c.
const UUID: [u64; 4] = super::uuid(&[
    0x0d, 0x21, 0xe0, 0x00, 0x43, 0x84, 0x11, 0xeb, 0x80, 0x70, 0x52, 0x44, 0x55, 0x4e, 0x5a, 0x4c,
]);

/// Returns whether a function identifier is this interface's.
#[inline(always)]
pub const fn is_trng(function: u32) -> bool {
    matches!(
        function,
        function::VERSION..=function::RND32 | function::RND64
    )
}

#[inline(always)]
pub(super) fn decide(function: u32, first: u32) -> Call {
    match function {
        function::VERSION => super::value(VERSION_1_0),
        function::FEATURES => super::value(if is_trng(first) {
            SUCCESS
        } else {
            NOT_SUPPORTED
        }),
        function::GET_UUID => Call::Return(UUID),
        function::RND32 => random_bits(first, false),
        function::RND64 => random_bits(first, true),
        _ => super::value(NOT_SUPPORTED),
    }
}

#[inline(always)]
const fn random_bits(bits: u32, wide: bool) -> Call {
    // Three registers carry the bits.
    let most = if wide { 192 } else { 96 };
    if bits > most {
        super::value(INVALID_PARAMETERS)
    } else {
        Call::Random {
            bits: bits as u8,
            wide,
        }
    }
}

/// Returns x0 to x3 for `bits` random bits: the lowest are in x3, what was not asked for is zero.
/// `entropy` is used once and must be wiped by the caller.
pub const fn random(bits: u8, wide: bool, entropy: [u64; 3]) -> [u64; 4] {
    const fn word(entropy: u64, bits: u8, used: u8, width: u8) -> u64 {
        let left = bits.saturating_sub(used);
        let keep = if left < width { left } else { width };
        if keep == 64 {
            entropy
        } else {
            entropy & ((1 << keep) - 1)
        }
    }
    let width = if wide { 64 } else { 32 };
    [
        SUCCESS,
        word(entropy[2], bits, 2 * width, width),
        word(entropy[1], bits, width, width),
        word(entropy[0], bits, 0, width),
    ]
}
