// SPDX-License-Identifier: GPL-2.0
//! Data and instruction aborts.

use super::{Esr, ExceptionClass};
use crate::model::sysreg::regs;
use crate::model::types::Ipa;

/// How bad an error is (SET), with FEAT_RAS.
const SET: u32 = 3 << 11;
const FNV: u32 = 1 << 10;
const EA: u32 = 1 << 9;
const CM: u32 = 1 << 8;
const S1PTW: u32 = 1 << 7;
const WNR: u32 = 1 << 6;
const ISV: u32 = 1 << 24;
const SSE: u32 = 1 << 21;
const SF: u32 = 1 << 15;
const AR: u32 = 1 << 14;

/// Bits of FAR_EL2 that HPFAR_EL2 does not have: the place within 4 KiB, whatever the granule.
const FAR_OFFSET: u64 = 0xfff;

/// An instruction or data abort's syndrome (DDI 0487, "ISS encoding for an exception from a Data
/// Abort").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abort(u64);

/// Why (IFSC or DFSC). Levels are -1 to 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultStatus {
    /// The address has more bits than allowed.
    AddressSize(i8),
    /// Not mapped.
    Translation(i8),
    /// The access flag is not set.
    AccessFlag(i8),
    /// Mapped, but not for this access.
    Permission(i8),
    /// Synchronous external abort on the access itself.
    External,
    /// Synchronous external abort on a translation table walk.
    ExternalOnWalk(i8),
    /// Synchronous parity or ECC error on the access.
    Parity,
    /// Synchronous parity or ECC error on a walk.
    ParityOnWalk(i8),
    /// Alignment.
    Alignment,
    /// Two TLB entries matched.
    TlbConflict,
    /// An exclusive or atomic access to memory that has none.
    UnsupportedExclusive,
    /// Any other, by its number.
    Other(u8),
}

impl FaultStatus {
    /// Makes the status from its six bits (DFSC or IFSC).
    pub const fn new(code: u8) -> Self {
        let level = (code & 3) as i8;
        match code {
            0x00..=0x03 => Self::AddressSize(level),
            0x29 => Self::AddressSize(-1),
            0x04..=0x07 => Self::Translation(level),
            0x2b => Self::Translation(-1),
            0x08..=0x0b => Self::AccessFlag(level),
            0x0c..=0x0f => Self::Permission(level),
            0x10 => Self::External,
            0x13 => Self::ExternalOnWalk(-1),
            0x14..=0x17 => Self::ExternalOnWalk(level),
            0x18 => Self::Parity,
            0x1b => Self::ParityOnWalk(-1),
            0x1c..=0x1f => Self::ParityOnWalk(level),
            0x21 => Self::Alignment,
            0x30 => Self::TlbConflict,
            0x35 => Self::UnsupportedExclusive,
            other => Self::Other(other),
        }
    }

    /// Returns the six bits. A level outside of -1 to 3 is cut to two bits.
    pub const fn code(self) -> u8 {
        const fn at(level: i8, base: u8, minus_one: u8) -> u8 {
            if level == -1 {
                minus_one
            } else {
                base | level as u8 & 3
            }
        }
        match self {
            Self::AddressSize(level) => at(level, 0x00, 0x29),
            Self::Translation(level) => at(level, 0x04, 0x2b),
            Self::AccessFlag(level) => at(level, 0x08, 0x08),
            Self::Permission(level) => at(level, 0x0c, 0x0c),
            Self::External => 0x10,
            Self::ExternalOnWalk(level) => at(level, 0x14, 0x13),
            Self::Parity => 0x18,
            Self::ParityOnWalk(level) => at(level, 0x1c, 0x1b),
            Self::Alignment => 0x21,
            Self::TlbConflict => 0x30,
            Self::UnsupportedExclusive => 0x35,
            Self::Other(code) => code & 0x3f,
        }
    }

    /// Returns the level of the table, if the kind has one.
    pub const fn level(self) -> Option<i8> {
        match self {
            Self::AddressSize(level)
            | Self::Translation(level)
            | Self::AccessFlag(level)
            | Self::Permission(level)
            | Self::ExternalOnWalk(level)
            | Self::ParityOnWalk(level) => Some(level),
            _ => None,
        }
    }

    /// Returns whether it was the memory system and not a translation table that refused: nothing
    /// that stage 2 can mend.
    pub const fn is_external(self) -> bool {
        matches!(
            self,
            Self::External | Self::ExternalOnWalk(_) | Self::Parity | Self::ParityOnWalk(_)
        )
    }
}

impl Abort {
    pub(super) const fn new(esr: u64) -> Self {
        Self(esr)
    }

    const fn has(self, bit: u32) -> bool {
        self.0 as u32 & bit != 0
    }

    /// Returns why the access aborted (DFSC or IFSC).
    pub const fn fault(self) -> FaultStatus {
        FaultStatus::new(self.0 as u8 & 0x3f)
    }

    /// Returns whether an instruction fetch aborted.
    pub const fn is_instruction(self) -> bool {
        matches!(
            Esr::new(self.0).class(),
            ExceptionClass::InstructionAbortLower | ExceptionClass::InstructionAbortSame
        )
    }

    /// Returns whether the syndrome describes the instruction (ISV): only a plain load or store of
    /// one general purpose register without writeback. The fields up to
    /// [`Self::is_acquire_release`] mean something only then.
    pub const fn is_described(self) -> bool {
        !self.is_instruction() && self.has(ISV)
    }

    /// Returns whether it is what an access to a device looks like: described by the syndrome, to
    /// an address that is not mapped, and not a table walk's nor a cache maintenance instruction's.
    #[inline(always)]
    pub const fn is_plain_device_access(self) -> bool {
        // Of the status the two bits for the level are free.
        const BITS: u32 = ISV | S1PTW | CM | 0x3c;
        const TRANSLATION: u32 = 0x04;
        self.0 as u32 & BITS == ISV | TRANSLATION
    }

    /// Returns whether it is a load or a store that the syndrome describes, and not a table walk's
    /// nor a cache maintenance instruction's; for an abort that is not an instruction fetch's.
    #[inline(always)]
    pub const fn is_plain_access(self) -> bool {
        self.0 as u32 & (ISV | S1PTW | CM) == ISV
    }

    /// Returns how many bytes are accessed: 1, 2, 4 or 8 (SAS).
    pub const fn size(self) -> u8 {
        1 << ((self.0 >> 22) & 3)
    }

    /// Returns whether the loaded value is sign-extended (SSE).
    pub const fn is_sign_extended(self) -> bool {
        self.has(SSE)
    }

    /// Returns the register that is loaded or stored; 31 is XZR (SRT).
    pub const fn register(self) -> u8 {
        ((self.0 >> 16) & 31) as u8
    }

    /// Returns whether the register is 64 bits wide; a 32-bit load clears the upper half (SF).
    pub const fn is_64bit(self) -> bool {
        self.has(SF)
    }

    /// Returns whether the access has acquire or release semantics (AR).
    pub const fn is_acquire_release(self) -> bool {
        self.has(AR)
    }

    /// Returns whether FAR does not hold the address; may be so for external aborts only (FnV).
    pub const fn far_is_invalid(self) -> bool {
        self.has(FNV)
    }

    /// Returns the bit that tells the external abort's kind, as the platform defines it (EA).
    pub const fn external_kind(self) -> bool {
        self.has(EA)
    }

    /// Returns whether a cache maintenance or address translation instruction aborted; then
    /// [`Self::is_write`] is set too.
    pub const fn is_cache_maintenance(self) -> bool {
        !self.is_instruction() && self.has(CM)
    }

    /// Returns whether the walk of the guest's own tables faulted at stage 2 (S1PTW): the address
    /// is a descriptor's.
    pub const fn is_on_walk(self) -> bool {
        self.has(S1PTW)
    }

    /// Returns whether it was a write (WnR). A stage-1 walk that sets the dirty state or access
    /// flag may say write here.
    pub const fn is_write(self) -> bool {
        !self.is_instruction() && self.has(WNR)
    }

    /// Returns whether an external abort was of an access that is the host's own: to the tables of
    /// stage 2. Without FEAT_RAS no other is taken to the host, for HCR_EL2.TEA is RES0.
    pub const fn is_hosts(self, ras: bool) -> bool {
        !ras || self.is_on_walk()
    }

    /// Returns whether its address can be looked for: the access itself failed, not a walk, and FAR
    /// holds the address.
    pub const fn is_of_known_address(self) -> bool {
        matches!(self.fault(), FaultStatus::External | FaultStatus::Parity)
            && !self.far_is_invalid()
    }

    /// Returns what userspace is told of the syndrome of an external abort (KVM_EXIT_ARM_SEA):
    /// nothing of the host's.
    pub const fn external_esr(self, ras: bool) -> u64 {
        let set = if ras { SET } else { 0 };
        let iss = FNV | EA | CM | WNR | set | 0x3f;
        self.0 & (regs::ESR_ELx::EC.mask() | regs::ESR_ELx::IL.mask() | iss as u64)
    }

    /// Returns the value of ESR_ELx.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns what the syndrome says where it does not describe the instruction, for userspace to
    /// make out the access by itself: kind and direction (CM, WnR) and the fault. Of the other bits
    /// some mean nothing then, and some are about the host.
    pub const fn undescribed_iss(self) -> u64 {
        self.0 & (CM | WNR | 0x3f) as u64
    }

    /// Returns whether HPFAR_EL2 holds the address. After a permission fault that was not on a walk
    /// it is UNKNOWN, and the address must be found by translating FAR_EL2 (AT S1E1R).
    pub const fn hpfar_is_valid(self) -> bool {
        match self.fault() {
            FaultStatus::Translation(_)
            | FaultStatus::AccessFlag(_)
            | FaultStatus::AddressSize(_) => true,
            FaultStatus::Permission(_) => self.is_on_walk(),
            _ => false,
        }
    }

    /// Returns the intermediate physical address, from HPFAR_EL2 and FAR_EL2. After a fault on a
    /// walk FAR_EL2 is about the access and not about the descriptor: the result is then good to 4
    /// KiB only.
    pub const fn ipa(hpfar: u64, far: u64) -> Ipa {
        let page = regs::HPFAR_EL2::FIPA.get(hpfar) << 12;
        Ipa::new(page | far & FAR_OFFSET)
    }
}

/// Returns the class of an abort, which tells from which exception level the guest is made to
/// believe it came.
const fn abort_class(instruction: bool, from_el0: bool) -> ExceptionClass {
    match (instruction, from_el0) {
        (true, true) => ExceptionClass::InstructionAbortLower,
        (true, false) => ExceptionClass::InstructionAbortSame,
        (false, true) => ExceptionClass::DataAbortLower,
        (false, false) => ExceptionClass::DataAbortSame,
    }
}

impl Esr {
    /// Makes the syndrome of an abort for the guest, taken to EL1. `pstate` is the guest's: an
    /// abort at EL0 comes from a lower level.
    pub const fn inject_abort(instruction: bool, pstate: u64, fault: FaultStatus) -> Self {
        let from_el0 = regs::SPSR_EL1::M.get(pstate) == regs::SPSR_EL1::M_EL0t;
        Self::build(abort_class(instruction, from_el0), fault.code() as u32)
    }
}
