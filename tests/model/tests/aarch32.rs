// SPDX-License-Identifier: GPL-2.0
//! Exits of 32-bit programs.

use loft_model::model::aarch32::{self, Coprocessor};
use loft_model::model::esr::Esr;
use loft_model::model::sysreg::regs;

const USER: u64 = 0x10;
const THUMB: u64 = USER | 1 << 5;

/// PSTATE of T32 with this IT.
fn in_block(it: u64) -> u64 {
    THUMB | (it >> 2) << 10 | (it & 3) << 25
}

fn syndrome(class: u64, iss: u64) -> Esr {
    Esr::new(class << 26 | iss)
}

#[test]
fn modes() {
    assert!(aarch32::is_user(USER) && aarch32::is_user(THUMB | 0xf000_01c0));
    // EL0 of AArch64, and the modes that a guest has not.
    for mode in [0x00, 0x04, 0x05, 0x11, 0x12, 0x13, 0x17, 0x1a, 0x1b, 0x1f] {
        assert!(!aarch32::is_user(mode), "{mode:#x}");
    }
}

#[test]
fn lengths_and_blocks() {
    assert_eq!(aarch32::skip(0x1000, USER, true), (0x1004, USER));
    assert_eq!(aarch32::skip(0x1000, THUMB, true), (0x1004, THUMB));
    assert_eq!(aarch32::skip(0x1002, THUMB, false), (0x1004, THUMB));
    assert_eq!(aarch32::skip(0xffff_fffc, USER, true).0, 0);
    // A step has been taken.
    assert_eq!(aarch32::skip(0, USER | 1 << 21, true).1, USER);
    // ITTEE EQ: 0b0000_0111, and what comes after each of the four (DDI 0487, "ITSTATE").
    let block = [0x07, 0x0e, 0x1c, 0x18, 0x00];
    for (now, next) in block.into_iter().zip(&block[1..]) {
        let (_, pstate) = aarch32::skip(0, in_block(now), false);
        assert_eq!(pstate, in_block(*next), "after {now:#x}");
    }
    assert_eq!(aarch32::skip(0, in_block(0x18), false).1, THUMB);
}

#[test]
fn conditions() {
    let flags = |n: u64, z: u64, c: u64, v: u64| USER | n << 31 | z << 30 | c << 29 | v << 28;
    // WFI with a condition, valid (CV).
    let wfi = |condition: u64| syndrome(0x01, 1 << 24 | condition << 20);
    for all in 0..16u64 {
        let (n, z, c, v) = (all >> 3, all >> 2 & 1, all >> 1 & 1, all & 1);
        let pstate = flags(n, z, c, v);
        let expected = [
            z == 1,
            z == 0,
            c == 1,
            c == 0,
            n == 1,
            n == 0,
            v == 1,
            v == 0,
            c == 1 && z == 0,
            c == 0 || z == 1,
            n == v,
            n != v,
            z == 0 && n == v,
            z == 1 || n != v,
            true,
            true,
        ];
        for (condition, expected) in expected.into_iter().enumerate() {
            assert_eq!(
                aarch32::runs(wfi(condition as u64), pstate),
                expected,
                "condition {condition}, flags {all:#x}"
            );
        }
    }
    // Not valid: the block's; none: always.
    let zero = 1 << 30;
    let unknown = syndrome(0x01, 0);
    assert!(aarch32::runs(unknown, THUMB));
    assert!(aarch32::runs(unknown, in_block(0x08) | zero));
    assert!(!aarch32::runs(unknown, in_block(0x08)));
    assert!(!aarch32::runs(unknown, in_block(0x18) | zero));
    // A data abort's instruction has run, whatever its bits 23:20 are.
    assert!(aarch32::runs(syndrome(0x24, 1 << 24), USER));
}

#[test]
fn registers_of_the_timer() {
    // MRC p15, 0, r3, c14, c2, 1: CNTP_CTL.
    let one = |opc2: u64, opc1: u64, crn: u64, rt: u64, crm: u64, read: u64| {
        let condition = 1 << 24 | 14 << 20;
        let iss = condition | opc2 << 17 | opc1 << 14 | crn << 10 | rt << 5 | crm << 1 | read;
        Coprocessor::new(syndrome(0x03, iss))
    };
    let found = one(1, 0, 14, 3, 2, 1).expect("a register");
    assert_eq!(found.register, regs::CNTP_CTL_EL0::ENCODING);
    assert_eq!((found.rt, found.rt2, found.read), (3, None, true));
    let found = one(0, 0, 14, 12, 3, 0).expect("a register");
    assert_eq!(found.register, regs::CNTV_TVAL_EL0::ENCODING);
    assert_eq!((found.rt, found.read), (12, false));
    // PMCCNTR, TPIDRURW.
    assert_eq!(one(0, 0, 9, 0, 13, 1), None);
    assert_eq!(one(2, 0, 13, 0, 0, 1), None);
    // MRRC p15, 1, r2, r5, c14: CNTVCT.
    let two = |opc1: u64, rt2: u64, rt: u64, crm: u64, read: u64| {
        let iss = 1 << 24 | 14 << 20 | opc1 << 16 | rt2 << 10 | rt << 5 | crm << 1 | read;
        Coprocessor::new(syndrome(0x04, iss))
    };
    let found = two(1, 5, 2, 14, 1).expect("a register");
    assert_eq!(found.register, regs::CNTVCT_EL0::ENCODING);
    assert_eq!((found.rt, found.rt2, found.read), (2, Some(5), true));
    let found = two(2, 1, 0, 14, 0).expect("a register");
    assert_eq!(found.register, regs::CNTP_CVAL_EL0::ENCODING);
    assert!(!found.read);
    assert_eq!(two(0, 1, 0, 2, 0), None);
    assert_eq!(Coprocessor::new(syndrome(0x05, 0)), None);
}
