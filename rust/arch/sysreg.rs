// SPDX-License-Identifier: GPL-2.0

//! Access to system registers by the names that `arch/arm64/tools/sysreg` gives them.

use core::arch::asm;

/// Reads the system register named `$name`.
///
/// The assembler is given the encoding, not the name: it then needs to know no architecture
/// extension, and the encoding has one source.
macro_rules! read_sysreg {
    ($name:ident) => {
        read_sysreg!(@ crate::model::sysreg::regs::$name::ENCODING, crate::model::sysreg::regs::$name::ENCODING.op1())
    };
    (@ $enc:expr, $op1:expr) => {{
        let value: u64;
        // SAFETY: Reading one of the registers that loft names changes nothing that the compiler
        // knows of. It is not `pure`: a register may read differently each time.
        unsafe {
            ::core::arch::asm!(
                "mrs {v}, S{op0}_{op1}_C{crn}_C{crm}_{op2}",
                v = out(reg) value,
                op0 = const $enc.op0(), op1 = const $op1, crn = const $enc.crn(),
                crm = const $enc.crm(), op2 = const $enc.op2(),
                options(nostack, preserves_flags),
            );
        }
        value
    }};
}

/// Writes the system register named `$name`. Whether an ISB has to follow is the caller's to know
/// and to say.
macro_rules! write_sysreg {
    ($name:ident, $value:expr) => {
        write_sysreg!(@ crate::model::sysreg::regs::$name::ENCODING, crate::model::sysreg::regs::$name::ENCODING.op1(), $value)
    };
    (@ $enc:expr, $op1:expr, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: The callers in `arch` write only registers that hold the guest's state or that
        // they restore; memory accesses are ordered around the write (no `nomem`).
        unsafe {
            ::core::arch::asm!(
                "msr S{op0}_{op1}_C{crn}_C{crm}_{op2}, {v}",
                v = in(reg) value,
                op0 = const $enc.op0(), op1 = const $op1, crn = const $enc.crn(),
                crm = const $enc.crm(), op2 = const $enc.op2(),
                options(nostack, preserves_flags),
            );
        }
    }};
}

/// Reads the guest's copy of an EL1 (or EL0 timer) register: with E2H set the plain name is the
/// host's at EL2, and the `_EL12`/`_EL02` alias, which differs in op1 alone, is the guest's (DDI
/// 0487, D13.2 "VHE register aliasing").
macro_rules! read_sysreg_el12 {
    ($name:ident) => {
        read_sysreg!(@ crate::model::sysreg::regs::$name::ENCODING, 5u8)
    };
}

/// Writes the guest's copy of an EL1 (or EL0 timer) register, see [`read_sysreg_el12`].
macro_rules! write_sysreg_el12 {
    ($name:ident, $value:expr) => {
        write_sysreg!(@ crate::model::sysreg::regs::$name::ENCODING, 5u8, $value)
    };
}

/// Writes HCR_EL2, from which on the instructions after it see it.
///
/// The barriers around it are what erratum AC04_CPU_23 (AmpereOne) asks for: without them loads and
/// stores nearby may be translated wrongly. Nobody who writes this register is in such a hurry that
/// the rest should do without.
#[inline(always)]
pub(crate) fn write_hcr(value: u64) {
    // SAFETY: A barrier.
    unsafe { asm!("dsb nsh", options(nostack, preserves_flags)) };
    write_sysreg!(HCR_EL2, value);
    isb();
}

/// Makes a context synchronisation: what was written to system registers holds for the instructions
/// after it.
#[inline(always)]
pub(crate) fn isb() {
    // SAFETY: A barrier.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Tells the CPU that nothing is to be gained by going on at once: another thread of the same core
/// may.
#[inline(always)]
pub(crate) fn relax() {
    // SAFETY: A hint.
    unsafe { asm!("yield", options(nostack, preserves_flags, nomem)) };
}

/// Orders the memory accesses before it and after it, as seen by everybody.
#[inline(always)]
pub(crate) fn dmb() {
    // SAFETY: A barrier.
    unsafe { asm!("dmb sy", options(nostack, preserves_flags)) };
}

/// Waits for all earlier memory accesses and maintenance operations, as seen by the inner shareable
/// domain.
#[inline(always)]
pub(crate) fn dsb_ish() {
    // SAFETY: A barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
}

/// Waits for all earlier stores, as seen by the inner shareable domain: a table walk after it sees
/// them.
#[inline(always)]
pub(crate) fn dsb_ishst() {
    // SAFETY: A barrier.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
}
