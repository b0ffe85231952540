// SPDX-License-Identifier: GPL-2.0
//! AArch32 at EL0 (DDI 0487, part G): what an exit of a 32-bit program has that one of AArch64 has
//! not. Whether a trapped instruction would have run at all, how long it is, and the block of
//! conditional instructions that it may be in.
//!
//! EL1 is AArch64 always, so the program's state is all in PSTATE and in X0 to X14, and its calls
//! of the guest's kernel come to EL1 without an exit.

use super::esr::{Esr, ExceptionClass};
use super::sysreg::regs::{self, SPSR_EL1 as P};
use super::sysreg::Encoding;

/// In SPSR: the instruction set is T32 (T).
const T32: u64 = 1 << 5;
/// In SPSR: data is big-endian (E).
const BIG_ENDIAN: u64 = 1 << 9;
/// In SPSR: IT[7:2] and IT[1:0].
const IT_HIGH: u32 = 10;
const IT_LOW: u32 = 25;
/// Always, and the one that is always in A32 as well.
const ALWAYS: u8 = 14;

/// Returns whether a vCPU may be in this PSTATE where its EL0 may be AArch32: in user mode, which
/// is M 0b0000 with nRW.
pub const fn is_user(pstate: u64) -> bool {
    P::nRW.is_set(pstate) && P::M.get(pstate) == P::M_EL0t
}

/// Returns whether a 32-bit program has its data with the most significant byte first.
pub const fn is_big_endian(pstate: u64) -> bool {
    pstate & BIG_ENDIAN != 0
}

const fn it(pstate: u64) -> u8 {
    (pstate >> IT_HIGH & 0x3f) as u8 * 4 | (pstate >> IT_LOW & 3) as u8
}

const fn with_it(pstate: u64, it: u8) -> u64 {
    pstate & !(0x3f << IT_HIGH | 3 << IT_LOW)
        | (it as u64 >> 2) << IT_HIGH
        | (it as u64 & 3) << IT_LOW
}

/// Returns whether the trapped instruction runs: a CPU may trap one whose condition fails, which
/// then has to do nothing ("Conditional execution of undefined and trapped instructions", ISS
/// fields CV and COND).
pub const fn runs(esr: Esr, pstate: u64) -> bool {
    const CV: u32 = 1 << 24;
    let has_condition = matches!(
        esr.class(),
        ExceptionClass::Wfx
            | ExceptionClass::FpAccess
            | ExceptionClass::Cp15
            | ExceptionClass::Cp15Double
            | ExceptionClass::Other(CP14 | CP14_LOAD | CP14_DOUBLE | CP10)
    );
    if !has_condition {
        return true;
    }
    let condition = if esr.iss() & CV != 0 {
        (esr.iss() >> 20 & 0xf) as u8
    } else if it(pstate) != 0 {
        // T32 has the condition in the block.
        it(pstate) >> 4
    } else {
        ALWAYS
    };
    holds(condition, pstate)
}

/// Exception classes of which nothing is emulated: accesses to coprocessor 14 (debug), one register
/// or two or a load or store, and VMRS.
const CP14: u8 = 0x05;
const CP14_LOAD: u8 = 0x06;
const CP10: u8 = 0x08;
const CP14_DOUBLE: u8 = 0x0c;

/// Returns whether a condition holds with PSTATE's flags.
const fn holds(condition: u8, pstate: u64) -> bool {
    let (n, z) = (P::N.is_set(pstate), P::Z.is_set(pstate));
    let (c, v) = (P::C.is_set(pstate), P::V.is_set(pstate));
    let holds = match condition >> 1 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    holds != (condition & 1 != 0)
}

/// Returns PC and PSTATE after the instruction that has trapped.
pub const fn skip(pc: u64, pstate: u64, is_32bit: bool) -> (u64, u64) {
    let length = if is_32bit { 4 } else { 2 };
    let block = it(pstate);
    // ITAdvance(): the last one of the block ends it.
    let block = if block & 7 == 0 {
        0
    } else {
        block & 0xe0 | block << 1 & 0x1f
    };
    let pstate = if pstate & T32 != 0 {
        with_it(pstate, block)
    } else {
        pstate
    };
    (pc.wrapping_add(length) & 0xffff_ffff, P::SS.with(pstate, 0))
}

/// An access to the system coprocessor (15) that is one to a register that AArch64 has as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coprocessor {
    /// Which register that is.
    pub register: Encoding,
    /// The general purpose register that is written or read, and for 64 bits the one with the upper
    /// half.
    pub rt: u8,
    /// See `rt`.
    pub rt2: Option<u8>,
    /// It reads the system register.
    pub read: bool,
}

impl Coprocessor {
    /// Decodes the syndrome. `None`: a program has no such register, or it never traps.
    pub const fn new(esr: Esr) -> Option<Self> {
        use regs::*;
        let iss = esr.iss();
        let (rt, read) = ((iss >> 5 & 0xf) as u8, iss & 1 != 0);
        let crm = iss >> 1 & 0xf;
        const TIMER: u32 = 14;
        let (register, rt2) = match esr.class() {
            ExceptionClass::Cp15 => {
                let (opc2, opc1, crn) = (iss >> 17 & 7, iss >> 14 & 7, iss >> 10 & 0xf);
                let register = match (crn, opc1, crm, opc2) {
                    (TIMER, 0, 2, 0) => CNTP_TVAL_EL0::ENCODING,
                    (TIMER, 0, 2, 1) => CNTP_CTL_EL0::ENCODING,
                    (TIMER, 0, 3, 0) => CNTV_TVAL_EL0::ENCODING,
                    (TIMER, 0, 3, 1) => CNTV_CTL_EL0::ENCODING,
                    _ => return None,
                };
                (register, None)
            }
            ExceptionClass::Cp15Double => {
                let register = match (crm, iss >> 16 & 0xf) {
                    (TIMER, 0) => CNTPCT_EL0::ENCODING,
                    (TIMER, 1) => CNTVCT_EL0::ENCODING,
                    (TIMER, 2) => CNTP_CVAL_EL0::ENCODING,
                    (TIMER, 3) => CNTV_CVAL_EL0::ENCODING,
                    (TIMER, 8) => CNTPCTSS_EL0::ENCODING,
                    (TIMER, 9) => CNTVCTSS_EL0::ENCODING,
                    _ => return None,
                };
                (register, Some((iss >> 10 & 0xf) as u8))
            }
            _ => return None,
        };
        Some(Self {
            register,
            rt,
            rt2,
            read,
        })
    }
}
