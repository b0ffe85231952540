// SPDX-License-Identifier: GPL-2.0
//! Exception syndromes (ESR_ELx): decoding those that a guest's exits bring, and building those
//! that a guest is given.
//!
//! DDI 0487, D24.2.45 (ESR_EL2): bits 31:26 are the class (EC), 25 the instruction length (IL),
//! 24:0 the syndrome (ISS).

mod abort;

pub use abort::{Abort, FaultStatus};

use super::sysreg::regs::ESR_ELx;
use super::sysreg::Encoding;

/// How far an error has spread that arrived as an SError.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorExtent {
    /// Nobody was affected.
    Harmless,
    /// Who ran cannot go on as if nothing had happened.
    Guest,
    /// Nobody knows.
    Uncontained,
}

/// What kind of exception it was. AArch32-only classes are `Other` where nothing is emulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExceptionClass {
    /// No class of its own: an UNDEFINED instruction, mostly.
    Unknown,
    /// WFI, WFE, WFIT or WFET trapped.
    Wfx,
    /// MCR or MRC of coprocessor 15, in AArch32.
    Cp15,
    /// MCRR or MRRC of coprocessor 15, in AArch32.
    Cp15Double,
    /// SIMD and floating point access trapped.
    FpAccess,
    /// Pointer authentication instruction or key register trapped.
    PointerAuth,
    /// A jump to a place that is no branch target.
    BranchTarget,
    /// PSTATE.IL was set.
    IllegalState,
    /// SVC.
    Svc,
    /// HVC.
    Hvc,
    /// SMC trapped.
    Smc,
    /// MSR, MRS or system instruction trapped.
    Sysreg,
    /// SVE access trapped.
    SveAccess,
    /// ERET trapped.
    Eret,
    /// Pointer authentication failed.
    PointerAuthFailure,
    /// SME access trapped.
    SmeAccess,
    /// Instruction abort from a lower exception level: at EL2, stage 2's.
    InstructionAbortLower,
    /// Instruction abort from the same level: at EL2, the host's own.
    InstructionAbortSame,
    /// PC not aligned.
    PcAlignment,
    /// Data abort from a lower exception level: at EL2, stage 2's.
    DataAbortLower,
    /// Data abort from the same level: at EL2, the host's own.
    DataAbortSame,
    /// SP not aligned.
    SpAlignment,
    /// Memory copy or set instruction trapped.
    MemoryOperation,
    /// SError.
    SError,
    /// Hardware breakpoint, from a lower level.
    BreakpointLower,
    /// Software step, from a lower level.
    SoftwareStepLower,
    /// Watchpoint, from a lower level.
    WatchpointLower,
    /// BKPT, in AArch32.
    Bkpt,
    /// BRK.
    Brk,
    /// Any other, by its number.
    Other(u8),
}

impl ExceptionClass {
    /// Returns the class with this number (EC).
    #[inline(always)]
    pub const fn new(ec: u8) -> Self {
        match ec {
            0x00 => Self::Unknown,
            0x01 => Self::Wfx,
            0x03 => Self::Cp15,
            0x04 => Self::Cp15Double,
            0x07 => Self::FpAccess,
            0x09 => Self::PointerAuth,
            0x0d => Self::BranchTarget,
            0x0e => Self::IllegalState,
            0x15 => Self::Svc,
            0x16 => Self::Hvc,
            0x17 => Self::Smc,
            0x18 => Self::Sysreg,
            0x19 => Self::SveAccess,
            0x1a => Self::Eret,
            0x1c => Self::PointerAuthFailure,
            0x1d => Self::SmeAccess,
            0x20 => Self::InstructionAbortLower,
            0x21 => Self::InstructionAbortSame,
            0x22 => Self::PcAlignment,
            0x24 => Self::DataAbortLower,
            0x25 => Self::DataAbortSame,
            0x26 => Self::SpAlignment,
            0x27 => Self::MemoryOperation,
            0x2f => Self::SError,
            0x30 => Self::BreakpointLower,
            0x32 => Self::SoftwareStepLower,
            0x34 => Self::WatchpointLower,
            0x38 => Self::Bkpt,
            0x3c => Self::Brk,
            other => Self::Other(other),
        }
    }

    /// Returns its number (EC).
    pub const fn number(self) -> u8 {
        match self {
            Self::Unknown => 0x00,
            Self::Wfx => 0x01,
            Self::Cp15 => 0x03,
            Self::Cp15Double => 0x04,
            Self::FpAccess => 0x07,
            Self::PointerAuth => 0x09,
            Self::BranchTarget => 0x0d,
            Self::IllegalState => 0x0e,
            Self::Svc => 0x15,
            Self::Hvc => 0x16,
            Self::Smc => 0x17,
            Self::Sysreg => 0x18,
            Self::SveAccess => 0x19,
            Self::Eret => 0x1a,
            Self::PointerAuthFailure => 0x1c,
            Self::SmeAccess => 0x1d,
            Self::InstructionAbortLower => 0x20,
            Self::InstructionAbortSame => 0x21,
            Self::PcAlignment => 0x22,
            Self::DataAbortLower => 0x24,
            Self::DataAbortSame => 0x25,
            Self::SpAlignment => 0x26,
            Self::MemoryOperation => 0x27,
            Self::SError => 0x2f,
            Self::BreakpointLower => 0x30,
            Self::SoftwareStepLower => 0x32,
            Self::WatchpointLower => 0x34,
            Self::Bkpt => 0x38,
            Self::Brk => 0x3c,
            Self::Other(ec) => ec,
        }
    }
}

/// The value of an ESR_ELx.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Esr(u64);

impl Esr {
    /// Makes the syndrome from the register.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the value for the register.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Makes the syndrome of a 32-bit instruction, or of no instruction.
    pub const fn build(class: ExceptionClass, iss: u32) -> Self {
        Self(
            ESR_ELx::EC.of(class.number() as u64)
                | ESR_ELx::IL.mask()
                | ESR_ELx::ISS.of(iss as u64),
        )
    }

    /// Returns the number of its class.
    #[inline(always)]
    pub const fn ec(self) -> u8 {
        ESR_ELx::EC.get(self.0) as u8
    }

    /// Returns its class.
    #[inline(always)]
    pub const fn class(self) -> ExceptionClass {
        ExceptionClass::new(self.ec())
    }

    /// Returns bits 24:0, whose meaning depends on the class.
    pub const fn iss(self) -> u32 {
        ESR_ELx::ISS.get(self.0) as u32
    }

    /// Returns whether the instruction that trapped has 32 bits; all of AArch64's have.
    pub const fn is_32bit(self) -> bool {
        ESR_ELx::IL.is_set(self.0)
    }

    /// Returns the immediate of HVC, SMC, SVC or BRK.
    pub const fn immediate(self) -> u16 {
        self.iss() as u16
    }

    /// Returns the access, for the syndrome of a system register or instruction that trapped.
    pub const fn sysreg(self) -> SysregAccess {
        SysregAccess(self.iss())
    }

    /// Returns which of WFI, WFE and their timed forms trapped.
    pub const fn wfx(self) -> Wfx {
        match self.iss() & 3 {
            0 => Wfx::Wfi,
            1 => Wfx::Wfe,
            2 => Wfx::Wfit,
            _ => Wfx::Wfet,
        }
    }

    /// Returns the register with the timeout of a WFIT or WFET, if the CPU says (bit 2, RV).
    pub const fn wfx_register(self) -> Option<u8> {
        if self.iss() & (1 << 2) == 0 {
            None
        } else {
            Some(((self.iss() >> 5) & 31) as u8)
        }
    }

    /// Returns the abort, for the syndrome of one.
    pub const fn abort(self) -> Abort {
        Abort::new(self.0)
    }

    /// Returns the syndrome that an UNDEFINED instruction gives, of 32 bits or of 16 (T32's).
    pub const fn undefined(is_32bit: bool) -> Self {
        let undefined = Self::build(ExceptionClass::Unknown, 0);
        Self(ESR_ELx::IL.with(undefined.0, is_32bit as u64))
    }

    /// Returns what a trapped access (`self`) to a register that the guest does not have gives:
    /// UNDEFINED, but with FEAT_IDST a read in the Feature ID space is reported as the trap that it
    /// was.
    pub const fn undefined_sysreg(self, idst: bool) -> Self {
        let access = self.sysreg();
        if idst && access.is_read() && access.encoding().is_feature_id() {
            Self::build(ExceptionClass::Sysreg, self.iss())
        } else {
            Self::undefined(true)
        }
    }

    /// Returns how far an SError has spread (DDI 0487, "ISS encoding for an SError exception").
    /// `ras`: the CPU says so (FEAT_RAS).
    pub const fn error_extent(self, ras: bool) -> ErrorExtent {
        const IMPLEMENTATION_DEFINED: u64 = 1 << 24;
        const ASYNCHRONOUS: u64 = 0x11;
        if !ras || self.0 & IMPLEMENTATION_DEFINED != 0 {
            return ErrorExtent::Guest;
        }
        // An uncategorised error has no severity (AET is RES0).
        if self.0 & 0x3f != ASYNCHRONOUS {
            return ErrorExtent::Uncontained;
        }
        match self.0 >> 10 & 7 {
            // Restartable and corrected.
            2 | 6 => ErrorExtent::Harmless,
            // Unrecoverable and recoverable.
            1 | 3 => ErrorExtent::Guest,
            _ => ErrorExtent::Uncontained,
        }
    }

    /// The ISS of an SError of which nothing is known: IDS, the rest is IMPLEMENTATION DEFINED. Not
    /// 0, which would say that the error is uncategorised.
    pub const NO_SERROR_SYNDROME: u32 = 1 << 24;

    /// Makes the SError that DISR_EL1 has recorded: its IDS, AET, EA and DFSC, or what is
    /// IMPLEMENTATION DEFINED, are where an ISS has them (DDI 0487, DISR_EL1).
    pub const fn from_disr(disr: u64) -> Self {
        Self::serror(ESR_ELx::ISS.get(disr) as u32)
    }

    /// Makes an SError with this syndrome (KVM_SET_VCPU_EVENTS), 25 bits.
    pub const fn serror(iss: u32) -> Self {
        Self::build(ExceptionClass::SError, iss)
    }
}

/// A trapped access to a system register, or a trapped system instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SysregAccess(u32);

impl SysregAccess {
    /// Makes the access of general purpose register `rt` to `register`.
    pub const fn new(register: Encoding, rt: u8, read: bool) -> Self {
        Self(
            (register.op0() as u32) << 20
                | (register.op2() as u32) << 17
                | (register.op1() as u32) << 14
                | (register.crn() as u32) << 10
                | (rt as u32 & 31) << 5
                | (register.crm() as u32) << 1
                | read as u32,
        )
    }

    /// Returns which register is accessed.
    pub const fn encoding(self) -> Encoding {
        // ISS: op0 21:20, op2 19:17, op1 16:14, CRn 13:10, Rt 9:5, CRm 4:1, direction 0.
        Encoding::new(
            ((self.0 >> 20) & 3) as u8,
            ((self.0 >> 14) & 7) as u8,
            ((self.0 >> 10) & 15) as u8,
            ((self.0 >> 1) & 15) as u8,
            ((self.0 >> 17) & 7) as u8,
        )
    }

    /// Returns whether it writes this register.
    #[inline(always)]
    pub const fn is_write_of(self, register: Encoding) -> bool {
        // All but Rt.
        const FIXED: u32 = 0x3 << 20 | 0x7 << 17 | 0x7 << 14 | 0xf << 10 | 0xf << 1 | 1;
        self.0 & FIXED
            == (register.op0() as u32) << 20
                | (register.op2() as u32) << 17
                | (register.op1() as u32) << 14
                | (register.crn() as u32) << 10
                | (register.crm() as u32) << 1
    }

    /// Returns CRm and op2, as one number, if it reads an AArch64 feature register (op0 = 3, op1 =
    /// 0, CRn = 0, CRm from 0 to 7).
    #[inline(always)]
    pub const fn feature_id(self) -> Option<u8> {
        // All but op2, Rt and CRm's lower three bits, which are free.
        const FIXED: u32 = 0x3 << 20 | 0x7 << 14 | 0xf << 10 | 0x8 << 1 | 1;
        if self.0 & FIXED != 0x3 << 20 | 1 {
            return None;
        }
        Some(((self.0 >> 1 & 7) << 3 | self.0 >> 17 & 7) as u8)
    }

    /// Returns the general purpose register; 31 is XZR.
    pub const fn rt(self) -> u8 {
        ((self.0 >> 5) & 31) as u8
    }

    /// Returns whether it is MRS; a system instruction without a result is a write.
    pub const fn is_read(self) -> bool {
        self.0 & 1 != 0
    }
}

/// WFI, WFE and their timed forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wfx {
    /// Wait for interrupt.
    Wfi,
    /// Wait for event.
    Wfe,
    /// Wait for interrupt, with a timeout.
    Wfit,
    /// Wait for event, with a timeout.
    Wfet,
}

impl Wfx {
    /// Returns whether it waits for an event.
    pub const fn is_wfe(self) -> bool {
        matches!(self, Self::Wfe | Self::Wfet)
    }

    /// Returns whether it has a timeout (FEAT_WFxT).
    pub const fn is_timed(self) -> bool {
        matches!(self, Self::Wfit | Self::Wfet)
    }
}
