// SPDX-License-Identifier: GPL-2.0
//! The registers of a vCPU that userspace can read and write one by one.

use super::aarch32;
use super::smccc::firmware::FwReg;
use super::sysreg::{regs, Encoding};

/// A register that userspace can name. Whether the VM has the system register is the table's
/// business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OneReg {
    /// A core register (struct kvm_regs).
    Core(CoreReg),
    /// A firmware pseudo register.
    Firmware(FwReg),
    /// A system register.
    Sysreg(Encoding),
    /// CCSIDR_EL1 of the cache with this CSSELR_EL1 value, of which there are
    /// [`CSSELR_COUNT`](super::sysreg::cache::CSSELR_COUNT).
    CacheGeometry(u8),
}

/// A register of struct kvm_regs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreReg {
    /// x0 to x30.
    X(u8),
    /// SP_EL0.
    Sp,
    /// PC.
    Pc,
    /// PSTATE.
    Pstate,
    /// SP_EL1.
    SpEl1,
    /// ELR_EL1.
    ElrEl1,
    /// SPSR_EL1.
    SpsrEl1,
    /// SPSR_abt, _und, _irq, _fiq: AArch32's, 0 to 3; saved and restored, nothing else.
    SpsrAarch32(u8),
    /// v0 to v31.
    V(u8),
    /// FPSR.
    Fpsr,
    /// FPCR.
    Fpcr,
}

/// Returns whether userspace may set the PSTATE core register to `value`: AArch64 EL0 or EL1, and
/// AArch32's user mode if the vCPU has that (`aarch32`).
pub const fn pstate_is_valid(value: u64, aarch32: bool) -> bool {
    // SPSR's M field and the bit above it, nRW.
    use regs::SPSR_EL1 as P;
    if P::nRW.is_set(value) {
        return aarch32 && aarch32::is_user(value);
    }
    matches!(P::M.get(value), P::M_EL0t | P::M_EL1t | P::M_EL1h)
}
