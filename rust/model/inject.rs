// SPDX-License-Identifier: GPL-2.0
//! Taking an exception to a guest's EL1, from EL0 or from EL1: what the CPU does by itself when it
//! takes one, done by hand (DDI 0487, D1.3 and AArch64.TakeException in chapter J1).

use super::sysreg::regs::{SCTLR_EL1, SPSR_EL1 as P, VBAR_EL1};

/// Which entry of the vector table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vector {
    /// Synchronous.
    Sync,
    /// IRQ.
    Irq,
    /// FIQ.
    Fiq,
    /// SError.
    SError,
}

impl Vector {
    /// Returns where the entry is within its group of four.
    const fn offset(self) -> u64 {
        match self {
            Self::Sync => 0,
            Self::Irq => 0x80,
            Self::Fiq => 0x100,
            Self::SError => 0x180,
        }
    }
}

/// The state that the exception finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Before {
    /// The address to return to: of the instruction that did not run.
    pub pc: u64,
    /// PSTATE, in SPSR's layout.
    pub pstate: u64,
    /// VBAR_EL1.
    pub vbar: u64,
    /// SCTLR_EL1.
    pub sctlr: u64,
}

/// The state that the exception makes. The syndrome (ESR_EL1, FAR_EL1) is the caller's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExceptionEntry {
    /// The new PC.
    pub pc: u64,
    /// The new PSTATE.
    pub pstate: u64,
    /// For ELR_EL1.
    pub elr: u64,
    /// For SPSR_EL1.
    pub spsr: u64,
}

/// PSTATE fields that an exception leaves alone. Everything else is set below or cleared: UAO, SS,
/// IL, BTYPE always; fields of features that a guest does not have (TCO, ALLINT, PM, EXLOCK) are
/// zero anyway.
const KEPT: u64 =
    P::N.mask() | P::Z.mask() | P::C.mask() | P::V.mask() | P::DIT.mask() | P::PAN.mask();

/// What the exception sets: debug exceptions, SError, IRQ and FIQ are masked, and the mode is EL1
/// with its own SP.
const SET: u64 = P::D.mask() | P::A.mask() | P::I.mask() | P::F.mask() | P::M_EL1h;

/// Takes an exception to EL1.
pub const fn enter_el1(before: &Before, vector: Vector) -> ExceptionEntry {
    let group = match P::M.get(before.pstate) {
        _ if P::nRW.is_set(before.pstate) => 0x600,
        P::M_EL1t => 0x000,
        P::M_EL1h => 0x200,
        _ => 0x400,
    };
    let mut pstate = before.pstate & KEPT | SET;
    if !SCTLR_EL1::SPAN.is_set(before.sctlr) {
        pstate |= P::PAN.mask();
    }
    if SCTLR_EL1::DSSBS.is_set(before.sctlr) {
        pstate |= P::SSBS.mask();
    }
    ExceptionEntry {
        // The low bits of VBAR are RES0, so that nothing carries.
        pc: before.vbar & VBAR_EL1::BASE.mask() | (group + vector.offset()),
        pstate,
        elr: before.pc,
        spsr: before.pstate,
    }
}

/// Of PSTATE, what each instruction uses up: where it may have been jumped to, and that it may be
/// the one of a single step.
pub const PER_INSTRUCTION: u64 = P::BTYPE.mask() | P::SS.mask();

/// Returns PSTATE after an emulated instruction. The caller moves the PC on.
pub const fn step_pstate(pstate: u64) -> u64 {
    pstate & !PER_INSTRUCTION
}
