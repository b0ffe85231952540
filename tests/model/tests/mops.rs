// SPDX-License-Identifier: GPL-2.0
//! Memory copies and sets that go on with another CPU's layout of their registers.

use loft_model::model::esr::{Esr, ExceptionClass};
use loft_model::model::mops::MemoryOperation;
use proptest::prelude::*;

const DESTINATION: u8 = 3;
const SOURCE: u8 = 7;
const SIZE: u8 = 21;

/// What a CPU of either option has in the registers after `done` of `size` bytes, by the pseudocode
/// of CPYFM and SETM: destination, source, size, and PSTATE.N.
fn halfway(
    option_a: bool,
    set: bool,
    backward: bool,
    start: [u64; 3],
    done: u64,
) -> ([u64; 3], bool) {
    let [to, from, size] = start;
    let left = size - done;
    // A set has a byte where a copy has an address.
    let moved = |by: u64| if set { from } else { from.wrapping_add(by) };
    match (option_a, backward) {
        // The end of both, and what is left as a negative number.
        (true, false) => (
            [to.wrapping_add(size), moved(size), left.wrapping_neg()],
            false,
        ),
        // The start of both: the next bytes are the last of what is left.
        (true, true) => ([to, from, left], false),
        (false, false) => ([to.wrapping_add(done), moved(done), left], false),
        // Behind what is left.
        (false, true) => ([to.wrapping_add(left), moved(left), left], true),
    }
}

fn syndrome(set: bool, epilogue: bool, wrong: bool, option_a: bool) -> MemoryOperation {
    let iss = u32::from(set) << 24
        | u32::from(epilogue) << 18
        | u32::from(wrong) << 17
        | u32::from(option_a) << 16
        | u32::from(DESTINATION) << 10
        | u32::from(SOURCE) << 5
        | u32::from(SIZE);
    let esr = Esr::new(0x27 << 26 | 1 << 25 | u64::from(iss));
    assert_eq!(esr.class(), ExceptionClass::MemoryOperation);
    MemoryOperation::new(esr)
}

#[test]
fn the_syndrome_names_the_registers_and_the_way_back() {
    let operation = syndrome(false, false, true, true);
    assert_eq!(operation.registers(), [DESTINATION, SOURCE, SIZE]);
    assert_eq!(operation.distance(), 4);
    assert_eq!(syndrome(true, true, false, false).distance(), 8);
}

proptest! {
    /// Whatever was copied or set so far, the prologue gets exactly the bytes that are left.
    #[test]
    fn what_is_left_is_done_from_the_prologue(
        to: u64, from: u64, size in 1_u64..1 << 55, part in 0_u64..=1000,
        // The layout that the registers are in, and whether the CPU that finds them so has it too:
        // it also asks for a restart where its own layout has been tampered with.
        option_a: bool, wrong: bool, set: bool, backward: bool, epilogue: bool,
    ) {
        let backward = backward && !set;
        let done = (u128::from(size) * u128::from(part) / 1000).min(u128::from(size) - 1) as u64;
        let (found, negative) = halfway(option_a, set, backward, [to, from, size], done);
        let operation = syndrome(set, epilogue, wrong, option_a != wrong);
        let [d, s, n] = operation.undone(found, negative);
        prop_assert_eq!(n, size - done);
        // Forwards the rest begins where it had come to; backwards the rest is the first part.
        let at = if backward { 0 } else { done };
        prop_assert_eq!(d, to.wrapping_add(at));
        prop_assert_eq!(s, if set { from } else { from.wrapping_add(at) });
    }
}
