// SPDX-License-Identifier: GPL-2.0
//! The rows of the [table](super::table): those of the context's registers, which
//! [`context_registers`] lists, and here all others.

use super::context::{context_registers, Reg};
use super::regs;
use super::table::{
    GicReg, Guest, Reset, Row, Storage, TimerReg, User, When, RESET_OSLSR, RESET_SCTLR,
};
use super::Encoding;

/// External debug of the non-secure state: implemented and disabled, invasive and not.
const DBGAUTHSTATUS: u64 = 0b1010;

macro_rules! reg {
    ($kind:ident $name:ident $(, $rest:expr)*) => {
        Row::$kind(stringify!($name), regs::$name::ENCODING $(, $rest)*)
    };
}

/// An unallocated identification register: zero, for the guest and for userspace.
macro_rules! unallocated {
    ($crm:literal, $op2:literal) => {
        Row::id(
            concat!("S3_0_C0_C", $crm, "_", $op2),
            Encoding::new(3, 0, 0, $crm, $op2),
            User::IdReg,
        )
    };
}

/// The registers whose value is not in a vCPU's context, by subject.
const OTHERS: &[Row] = &[
    // Caches.
    reg!(write_only DC_ISW, Storage::SetWay),
    reg!(write_only DC_CSW, Storage::SetWay),
    reg!(write_only DC_CISW, Storage::SetWay),
    reg!(new CCSIDR_EL1, Storage::CacheGeometry, Guest::ReadOnly, User::Hidden),
    // Debug.
    reg!(raz_wi MDRAR_EL1),
    reg!(write_only OSLAR_EL1, Storage::OsLock),
    reg!(raz_wi OSDLR_EL1),
    reg!(raz_wi DBGPRCR_EL1),
    reg!(raz_wi DBGCLAIMSET_EL1),
    reg!(raz_wi DBGCLAIMCLR_EL1),
    reg!(new DBGAUTHSTATUS_EL1, Storage::Const(DBGAUTHSTATUS), Guest::WriteIgnored, User::Hidden),
    reg!(raz_wi MDCCSR_EL0),
    reg!(raz_wi DBGDTR_EL0),
    reg!(raz_wi DBGDTRTX_EL0),
    // Identification.
    reg!(id MIDR_EL1, User::Implementation),
    reg!(id REVIDR_EL1, User::Implementation),
    reg!(id AIDR_EL1, User::Implementation),
    reg!(id CTR_EL0, User::IdReg),
    reg!(id ID_PFR0_EL1, User::IdReg),
    reg!(id ID_PFR1_EL1, User::IdReg),
    reg!(id ID_DFR0_EL1, User::IdReg),
    reg!(id ID_AFR0_EL1, User::IdReg),
    reg!(id ID_MMFR0_EL1, User::IdReg),
    reg!(id ID_MMFR1_EL1, User::IdReg),
    reg!(id ID_MMFR2_EL1, User::IdReg),
    reg!(id ID_MMFR3_EL1, User::IdReg),
    reg!(id ID_ISAR0_EL1, User::IdReg),
    reg!(id ID_ISAR1_EL1, User::IdReg),
    reg!(id ID_ISAR2_EL1, User::IdReg),
    reg!(id ID_ISAR3_EL1, User::IdReg),
    reg!(id ID_ISAR4_EL1, User::IdReg),
    reg!(id ID_ISAR5_EL1, User::IdReg),
    reg!(id ID_MMFR4_EL1, User::IdReg),
    reg!(id ID_ISAR6_EL1, User::IdReg),
    reg!(id MVFR0_EL1, User::IdReg),
    reg!(id MVFR1_EL1, User::IdReg),
    reg!(id MVFR2_EL1, User::IdReg),
    unallocated!(3, 3),
    reg!(id ID_PFR2_EL1, User::IdReg),
    reg!(id ID_DFR1_EL1, User::IdReg),
    reg!(id ID_MMFR5_EL1, User::IdReg),
    unallocated!(3, 7),
    reg!(id ID_AA64PFR0_EL1, User::IdReg),
    reg!(id ID_AA64PFR1_EL1, User::IdReg),
    reg!(id ID_AA64PFR2_EL1, User::IdReg),
    unallocated!(4, 3),
    reg!(id ID_AA64ZFR0_EL1, User::IdReg),
    reg!(id ID_AA64SMFR0_EL1, User::IdReg),
    unallocated!(4, 6),
    reg!(id ID_AA64FPFR0_EL1, User::IdReg),
    reg!(id ID_AA64DFR0_EL1, User::IdReg),
    reg!(id ID_AA64DFR1_EL1, User::IdReg),
    reg!(id ID_AA64DFR2_EL1, User::IdReg),
    unallocated!(5, 3),
    reg!(id ID_AA64AFR0_EL1, User::IdReg),
    reg!(id ID_AA64AFR1_EL1, User::IdReg),
    unallocated!(5, 6),
    unallocated!(5, 7),
    reg!(id ID_AA64ISAR0_EL1, User::IdReg),
    reg!(id ID_AA64ISAR1_EL1, User::IdReg),
    reg!(id ID_AA64ISAR2_EL1, User::IdReg),
    reg!(id ID_AA64ISAR3_EL1, User::IdReg),
    unallocated!(6, 4),
    unallocated!(6, 5),
    unallocated!(6, 6),
    unallocated!(6, 7),
    reg!(id ID_AA64MMFR0_EL1, User::IdReg),
    reg!(id ID_AA64MMFR1_EL1, User::IdReg),
    reg!(id ID_AA64MMFR2_EL1, User::IdReg),
    reg!(id ID_AA64MMFR3_EL1, User::IdReg),
    reg!(id ID_AA64MMFR4_EL1, User::IdReg),
    unallocated!(7, 5),
    unallocated!(7, 6),
    unallocated!(7, 7),
    // With the FP registers.
    reg!(new FPMR, Storage::Fpmr, Guest::Undefined, User::Plain).when(When::Fpmr),
    // Error records: none.
    reg!(raz_wi ERRIDR_EL1).when(When::Ras),
    reg!(raz_wi ERRSELR_EL1).when(When::Ras),
    reg!(raz_wi ERXFR_EL1).when(When::Ras),
    reg!(raz_wi ERXCTLR_EL1).when(When::Ras),
    reg!(raz_wi ERXSTATUS_EL1).when(When::Ras),
    reg!(raz_wi ERXADDR_EL1).when(When::Ras),
    reg!(raz_wi ERXMISC0_EL1).when(When::Ras),
    reg!(raz_wi ERXMISC1_EL1).when(When::Ras),
    reg!(raz_wi ERXPFGF_EL1).when(When::RasV1p1),
    reg!(raz_wi ERXPFGCTL_EL1).when(When::RasV1p1),
    reg!(raz_wi ERXPFGCDN_EL1).when(When::RasV1p1),
    reg!(raz_wi ERXMISC2_EL1).when(When::RasV1p1),
    reg!(raz_wi ERXMISC3_EL1).when(When::RasV1p1),
    // Limited ordering regions: none.
    reg!(raz_wi LORSA_EL1).when(When::Lor),
    reg!(raz_wi LOREA_EL1).when(When::Lor),
    reg!(raz_wi LORN_EL1).when(When::Lor),
    reg!(raz_wi LORC_EL1).when(When::Lor),
    reg!(new LORID_EL1, Storage::Const(0), Guest::ReadOnly, User::Hidden).when(When::Lor),
    // The GIC's CPU interface, where it traps.
    reg!(write_only ICC_DIR_EL1, Storage::Gic(GicReg::Dir)).when(When::Gic),
    reg!(write_only ICC_SGI1R_EL1, Storage::Gic(GicReg::Sgi1)).when(When::Gic),
    reg!(write_only ICC_ASGI1R_EL1, Storage::Gic(GicReg::Asgi1)).when(When::Gic),
    reg!(write_only ICC_SGI0R_EL1, Storage::Gic(GicReg::Sgi0)).when(When::Gic),
    reg!(new ICC_SRE_EL1, Storage::Gic(GicReg::Sre), Guest::WriteIgnored, User::Hidden)
        .when(When::Gic),
    // The generic timer.
    reg!(timer CNTPCT_EL0, TimerReg::Cntpct, User::Timer),
    reg!(timer CNTVCT_EL0, TimerReg::Cntvct, User::Timer),
    reg!(timer CNTPCTSS_EL0, TimerReg::Cntpct, User::Hidden).when(When::SelfSynchronised),
    reg!(timer CNTVCTSS_EL0, TimerReg::Cntvct, User::Hidden).when(When::SelfSynchronised),
    reg!(timer CNTP_TVAL_EL0, TimerReg::CntpTval, User::Hidden),
    reg!(timer CNTP_CTL_EL0, TimerReg::CntpCtl, User::Timer),
    reg!(timer CNTP_CVAL_EL0, TimerReg::CntpCval, User::Timer),
    reg!(timer CNTV_TVAL_EL0, TimerReg::CntvTval, User::Hidden),
    reg!(timer CNTV_CTL_EL0, TimerReg::CntvCtl, User::Timer),
    reg!(timer CNTV_CVAL_EL0, TimerReg::CntvCval, User::Timer),
];

macro_rules! context_row {
    (el12 $name:ident) => { context_row!(@ $name, Loaded) };
    (plain $name:ident) => { context_row!(@ $name, Loaded) };
    (exchanged $name:ident) => { context_row!(@ $name, Loaded) };
    (key $name:ident) => { context_row!(@ $name, Loaded) };
    (own $name:ident) => { context_row!(@ $name, Loaded) };
    (entry $name:ident) => { context_row!(@ $name, SwitchedAtEntry) };
    (debug $name:ident) => { context_row!(@ $name, Debug) };
    (memory $name:ident) => { context_row!(@ $name, Memory) };
    // A group of a feature's.
    ($feature:ident $name:ident) => { context_row!(@ $name, Loaded) };
    (@ $name:ident, $storage:ident) => { reg!(stored $name, Storage::$storage(Reg::$name)) };
}

macro_rules! context_rows {
    ([] $($group:ident { $($name:ident $(.$setting:ident $how:tt)*,)* })*) => {
        &[$($(context_row!($group $name) $(.$setting $how)*,)*)*]
    };
}

/// The registers of a vCPU's context.
const CONTEXT: &[Row] = context_registers!(context_rows);

/// All rows, in the order of the encodings, which is that of GET_REG_LIST.
pub static TABLE: &[Row] = &{
    let mut rows = [CONTEXT[0]; CONTEXT.len() + OTHERS.len()];
    let mut count = 0;
    while count < rows.len() {
        let new = if count < CONTEXT.len() {
            CONTEXT[count]
        } else {
            OTHERS[count - CONTEXT.len()]
        };
        let mut at = count;
        while at > 0 && rows[at - 1].encoding.bits() > new.encoding.bits() {
            rows[at] = rows[at - 1];
            at -= 1;
        }
        assert!(
            at == 0 || rows[at - 1].encoding.bits() != new.encoding.bits(),
            "a register has two rows"
        );
        rows[at] = new;
        count += 1;
    }
    rows
};
