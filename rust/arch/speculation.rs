// SPDX-License-Identifier: GPL-2.0

//! Indices that a guest or a VMM chooses, where the CPU guesses (Spectre variant 1).
//!
//! A bounds check is a branch, which the CPU may take wrongly for a while. What it loads then, from
//! wherever the index leads, shows in the caches once it is used for another access. Here the index
//! is made 0 with data processing instead of a branch where it is out of bounds, and CSDB keeps
//! what follows from using a guess of the flags (DDI 0487, "Consumption of Speculative Data
//! Barrier"). The compiler cannot undo it, for it does not look into it.

use core::arch::asm;

/// Returns `index`, or 0 where it is not below `len`, also while the CPU guesses.
#[inline(always)]
pub(crate) fn clamp(index: usize, len: usize) -> usize {
    let clamped: usize;
    // SAFETY: Two instructions on registers and a barrier, which depend on nothing else and change
    // only the flags.
    unsafe {
        asm!(
            "cmp {index}, {len}",
            "csel {clamped}, {index}, xzr, lo",
            "hint #20", // CSDB
            index = in(reg) index,
            len = in(reg) len,
            clamped = lateout(reg) clamped,
            options(pure, nomem, nostack),
        )
    };
    clamped
}

/// Does what `slice.get(index)` does, for an index that somebody else has chosen.
#[inline(always)]
pub(crate) fn get<T>(slice: &[T], index: usize) -> Option<&T> {
    if index >= slice.len() {
        return None;
    }
    // SAFETY: `index` is below the length, as just checked, and so stays what it is.
    Some(unsafe { slice.get_unchecked(clamp(index, slice.len())) })
}

/// Does what `slice.get_mut(index)` does, for an index that somebody else has chosen.
#[inline(always)]
pub(crate) fn get_mut<T>(slice: &mut [T], index: usize) -> Option<&mut T> {
    let len = slice.len();
    if index >= len {
        return None;
    }
    // SAFETY: `index` is below the length, as just checked, and so stays what it is.
    Some(unsafe { slice.get_unchecked_mut(clamp(index, len)) })
}

/// Returns `index` modulo `N`, a power of two, with data processing that the compiler cannot leave
/// out for a check that it has seen. One instruction, where [`get`] takes five: a mask needs no
/// flags, and so no barrier.
#[inline(always)]
pub(crate) fn wrap<const N: usize>(mut index: usize) -> usize {
    const { assert!(N.is_power_of_two()) };
    // SAFETY: No instruction at all.
    unsafe { asm!("/* {} */", inout(reg) index, options(pure, nomem, nostack, preserves_flags)) };
    index & (N - 1)
}
