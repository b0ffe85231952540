// SPDX-License-Identifier: GPL-2.0
//! The rows of the [table](super::table). Their order is that of the encodings, and that of GET_REG_LIST.

use super::context::Reg;
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

/// All rows, sorted by encoding.
pub static TABLE: &[Row] = &[
    reg!(write_only DC_ISW, Storage::SetWay),
    reg!(write_only DC_CSW, Storage::SetWay),
    reg!(write_only DC_CISW, Storage::SetWay),
    // Debug.
    reg!(plain DBGBVR0_EL1, Storage::Debug(Reg::Dbgbvr0)),
    reg!(plain DBGBCR0_EL1, Storage::Debug(Reg::Dbgbcr0)),
    reg!(plain DBGWVR0_EL1, Storage::Debug(Reg::Dbgwvr0)),
    reg!(plain DBGWCR0_EL1, Storage::Debug(Reg::Dbgwcr0)),
    reg!(plain DBGBVR1_EL1, Storage::Debug(Reg::Dbgbvr1)),
    reg!(plain DBGBCR1_EL1, Storage::Debug(Reg::Dbgbcr1)),
    reg!(plain DBGWVR1_EL1, Storage::Debug(Reg::Dbgwvr1)),
    reg!(plain DBGWCR1_EL1, Storage::Debug(Reg::Dbgwcr1)),
    reg!(plain MDCCINT_EL1, Storage::Debug(Reg::MdccintEl1)),
    reg!(plain MDSCR_EL1, Storage::Debug(Reg::MdscrEl1)),
    reg!(plain DBGBVR2_EL1, Storage::Debug(Reg::Dbgbvr2)),
    reg!(plain DBGBCR2_EL1, Storage::Debug(Reg::Dbgbcr2)),
    reg!(plain DBGWVR2_EL1, Storage::Debug(Reg::Dbgwvr2)),
    reg!(plain DBGWCR2_EL1, Storage::Debug(Reg::Dbgwcr2)),
    reg!(plain DBGBVR3_EL1, Storage::Debug(Reg::Dbgbvr3)),
    reg!(plain DBGBCR3_EL1, Storage::Debug(Reg::Dbgbcr3)),
    reg!(plain DBGWVR3_EL1, Storage::Debug(Reg::Dbgwvr3)),
    reg!(plain DBGWCR3_EL1, Storage::Debug(Reg::Dbgwcr3)),
    reg!(plain DBGBVR4_EL1, Storage::Debug(Reg::Dbgbvr4)),
    reg!(plain DBGBCR4_EL1, Storage::Debug(Reg::Dbgbcr4)),
    reg!(plain DBGWVR4_EL1, Storage::Debug(Reg::Dbgwvr4)),
    reg!(plain DBGWCR4_EL1, Storage::Debug(Reg::Dbgwcr4)),
    reg!(plain DBGBVR5_EL1, Storage::Debug(Reg::Dbgbvr5)),
    reg!(plain DBGBCR5_EL1, Storage::Debug(Reg::Dbgbcr5)),
    reg!(plain DBGWVR5_EL1, Storage::Debug(Reg::Dbgwvr5)),
    reg!(plain DBGWCR5_EL1, Storage::Debug(Reg::Dbgwcr5)),
    reg!(plain DBGBVR6_EL1, Storage::Debug(Reg::Dbgbvr6)),
    reg!(plain DBGBCR6_EL1, Storage::Debug(Reg::Dbgbcr6)),
    reg!(plain DBGWVR6_EL1, Storage::Debug(Reg::Dbgwvr6)),
    reg!(plain DBGWCR6_EL1, Storage::Debug(Reg::Dbgwcr6)),
    reg!(plain DBGBVR7_EL1, Storage::Debug(Reg::Dbgbvr7)),
    reg!(plain DBGBCR7_EL1, Storage::Debug(Reg::Dbgbcr7)),
    reg!(plain DBGWVR7_EL1, Storage::Debug(Reg::Dbgwvr7)),
    reg!(plain DBGWCR7_EL1, Storage::Debug(Reg::Dbgwcr7)),
    reg!(plain DBGBVR8_EL1, Storage::Debug(Reg::Dbgbvr8)),
    reg!(plain DBGBCR8_EL1, Storage::Debug(Reg::Dbgbcr8)),
    reg!(plain DBGWVR8_EL1, Storage::Debug(Reg::Dbgwvr8)),
    reg!(plain DBGWCR8_EL1, Storage::Debug(Reg::Dbgwcr8)),
    reg!(plain DBGBVR9_EL1, Storage::Debug(Reg::Dbgbvr9)),
    reg!(plain DBGBCR9_EL1, Storage::Debug(Reg::Dbgbcr9)),
    reg!(plain DBGWVR9_EL1, Storage::Debug(Reg::Dbgwvr9)),
    reg!(plain DBGWCR9_EL1, Storage::Debug(Reg::Dbgwcr9)),
    reg!(plain DBGBVR10_EL1, Storage::Debug(Reg::Dbgbvr10)),
    reg!(plain DBGBCR10_EL1, Storage::Debug(Reg::Dbgbcr10)),
    reg!(plain DBGWVR10_EL1, Storage::Debug(Reg::Dbgwvr10)),
    reg!(plain DBGWCR10_EL1, Storage::Debug(Reg::Dbgwcr10)),
    reg!(plain DBGBVR11_EL1, Storage::Debug(Reg::Dbgbvr11)),
    reg!(plain DBGBCR11_EL1, Storage::Debug(Reg::Dbgbcr11)),
    reg!(plain DBGWVR11_EL1, Storage::Debug(Reg::Dbgwvr11)),
    reg!(plain DBGWCR11_EL1, Storage::Debug(Reg::Dbgwcr11)),
    reg!(plain DBGBVR12_EL1, Storage::Debug(Reg::Dbgbvr12)),
    reg!(plain DBGBCR12_EL1, Storage::Debug(Reg::Dbgbcr12)),
    reg!(plain DBGWVR12_EL1, Storage::Debug(Reg::Dbgwvr12)),
    reg!(plain DBGWCR12_EL1, Storage::Debug(Reg::Dbgwcr12)),
    reg!(plain DBGBVR13_EL1, Storage::Debug(Reg::Dbgbvr13)),
    reg!(plain DBGBCR13_EL1, Storage::Debug(Reg::Dbgbcr13)),
    reg!(plain DBGWVR13_EL1, Storage::Debug(Reg::Dbgwvr13)),
    reg!(plain DBGWCR13_EL1, Storage::Debug(Reg::Dbgwcr13)),
    reg!(plain DBGBVR14_EL1, Storage::Debug(Reg::Dbgbvr14)),
    reg!(plain DBGBCR14_EL1, Storage::Debug(Reg::Dbgbcr14)),
    reg!(plain DBGWVR14_EL1, Storage::Debug(Reg::Dbgwvr14)),
    reg!(plain DBGWCR14_EL1, Storage::Debug(Reg::Dbgwcr14)),
    reg!(plain DBGBVR15_EL1, Storage::Debug(Reg::Dbgbvr15)),
    reg!(plain DBGBCR15_EL1, Storage::Debug(Reg::Dbgbcr15)),
    reg!(plain DBGWVR15_EL1, Storage::Debug(Reg::Dbgwvr15)),
    reg!(plain DBGWCR15_EL1, Storage::Debug(Reg::Dbgwcr15)),
    reg!(raz_wi MDRAR_EL1),
    reg!(write_only OSLAR_EL1, Storage::OsLock),
    reg!(new OSLSR_EL1, Storage::Memory(Reg::OslsrEl1), Guest::ReadOnly, User::OsLock)
        .reset(Reset::To(RESET_OSLSR)),
    reg!(raz_wi OSDLR_EL1),
    reg!(raz_wi DBGPRCR_EL1),
    reg!(raz_wi DBGCLAIMSET_EL1),
    reg!(raz_wi DBGCLAIMCLR_EL1),
    reg!(new DBGAUTHSTATUS_EL1, Storage::Const(DBGAUTHSTATUS), Guest::WriteIgnored, User::Hidden),
    reg!(raz_wi MDCCSR_EL0),
    reg!(raz_wi DBGDTR_EL0),
    reg!(raz_wi DBGDTRTX_EL0),
    reg!(new DBGVCR32_EL2, Storage::Memory(Reg::Dbgvcr32El2), Guest::Undefined, User::Plain)
        .reset(Reset::To(0)),
    // Identification.
    reg!(id MIDR_EL1, User::Implementation),
    reg!(new MPIDR_EL1, Storage::Loaded(Reg::MpidrEl1), Guest::ReadOnly, User::Plain)
        .reset(Reset::Mpidr),
    reg!(id REVIDR_EL1, User::Implementation),
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
    // EL1 state.
    reg!(plain SCTLR_EL1, Storage::Loaded(Reg::SctlrEl1)).reset(Reset::To(RESET_SCTLR)),
    reg!(new ACTLR_EL1, Storage::Memory(Reg::ActlrEl1), Guest::WriteIgnored, User::Plain)
        .reset(Reset::To(0)),
    reg!(plain CPACR_EL1, Storage::Loaded(Reg::CpacrEl1)),
    reg!(plain TTBR0_EL1, Storage::Loaded(Reg::Ttbr0El1)),
    reg!(plain TTBR1_EL1, Storage::Loaded(Reg::Ttbr1El1)),
    reg!(plain TCR_EL1, Storage::Loaded(Reg::TcrEl1)),
    reg!(plain APIAKEYLO_EL1, Storage::SwitchedAtEntry(Reg::ApiaKeyLo)).when(When::PointerAuth),
    reg!(plain APIAKEYHI_EL1, Storage::SwitchedAtEntry(Reg::ApiaKeyHi)).when(When::PointerAuth),
    reg!(plain APIBKEYLO_EL1, Storage::SwitchedAtEntry(Reg::ApibKeyLo)).when(When::PointerAuth),
    reg!(plain APIBKEYHI_EL1, Storage::SwitchedAtEntry(Reg::ApibKeyHi)).when(When::PointerAuth),
    reg!(plain APDAKEYLO_EL1, Storage::SwitchedAtEntry(Reg::ApdaKeyLo)).when(When::PointerAuth),
    reg!(plain APDAKEYHI_EL1, Storage::SwitchedAtEntry(Reg::ApdaKeyHi)).when(When::PointerAuth),
    reg!(plain APDBKEYLO_EL1, Storage::SwitchedAtEntry(Reg::ApdbKeyLo)).when(When::PointerAuth),
    reg!(plain APDBKEYHI_EL1, Storage::SwitchedAtEntry(Reg::ApdbKeyHi)).when(When::PointerAuth),
    reg!(plain APGAKEYLO_EL1, Storage::SwitchedAtEntry(Reg::ApgaKeyLo)).when(When::PointerAuth),
    reg!(plain APGAKEYHI_EL1, Storage::SwitchedAtEntry(Reg::ApgaKeyHi)).when(When::PointerAuth),
    reg!(plain AFSR0_EL1, Storage::Loaded(Reg::Afsr0El1)),
    reg!(plain AFSR1_EL1, Storage::Loaded(Reg::Afsr1El1)),
    reg!(plain ESR_EL1, Storage::Loaded(Reg::EsrEl1)),
    reg!(raz_wi ERRIDR_EL1).when(When::Ras),
    reg!(raz_wi ERRSELR_EL1).when(When::Ras),
    reg!(raz_wi ERXFR_EL1).when(When::Ras),
    reg!(raz_wi ERXCTLR_EL1).when(When::Ras),
    reg!(raz_wi ERXSTATUS_EL1).when(When::Ras),
    reg!(raz_wi ERXADDR_EL1).when(When::Ras),
    reg!(raz_wi ERXMISC0_EL1).when(When::Ras),
    reg!(raz_wi ERXMISC1_EL1).when(When::Ras),
    reg!(plain FAR_EL1, Storage::Loaded(Reg::FarEl1)),
    reg!(plain PAR_EL1, Storage::Loaded(Reg::ParEl1)),
    reg!(plain MAIR_EL1, Storage::Loaded(Reg::MairEl1)),
    reg!(plain AMAIR_EL1, Storage::Loaded(Reg::AmairEl1)),
    reg!(raz_wi LORSA_EL1).when(When::Lor),
    reg!(raz_wi LOREA_EL1).when(When::Lor),
    reg!(raz_wi LORN_EL1).when(When::Lor),
    reg!(raz_wi LORC_EL1).when(When::Lor),
    reg!(new LORID_EL1, Storage::Const(0), Guest::ReadOnly, User::Hidden).when(When::Lor),
    reg!(plain VBAR_EL1, Storage::Loaded(Reg::VbarEl1)),
    reg!(plain DISR_EL1, Storage::Loaded(Reg::DisrEl1)),
    // The GIC's CPU interface, where it traps.
    reg!(write_only ICC_DIR_EL1, Storage::Gic(GicReg::Dir)).when(When::Gic),
    reg!(write_only ICC_SGI1R_EL1, Storage::Gic(GicReg::Sgi1)).when(When::Gic),
    reg!(write_only ICC_ASGI1R_EL1, Storage::Gic(GicReg::Asgi1)).when(When::Gic),
    reg!(write_only ICC_SGI0R_EL1, Storage::Gic(GicReg::Sgi0)).when(When::Gic),
    reg!(new ICC_SRE_EL1, Storage::Gic(GicReg::Sre), Guest::WriteIgnored, User::Hidden)
        .when(When::Gic),
    // More EL1 state, and EL0's.
    reg!(plain CONTEXTIDR_EL1, Storage::Loaded(Reg::ContextidrEl1)),
    reg!(plain TPIDR_EL1, Storage::Loaded(Reg::TpidrEl1)),
    reg!(plain CNTKCTL_EL1, Storage::Loaded(Reg::CntkctlEl1)),
    reg!(new CCSIDR_EL1, Storage::CacheGeometry, Guest::ReadOnly, User::Hidden),
    reg!(new CLIDR_EL1, Storage::Memory(Reg::ClidrEl1), Guest::ReadOnly, User::Clidr)
        .reset(Reset::Clidr),
    reg!(id AIDR_EL1, User::Implementation),
    reg!(plain CSSELR_EL1, Storage::Memory(Reg::CsselrEl1)),
    reg!(id CTR_EL0, User::IdReg),
    reg!(plain TPIDR_EL0, Storage::Loaded(Reg::TpidrEl0)),
    reg!(plain TPIDRRO_EL0, Storage::Loaded(Reg::TpidrroEl0)),
    // The generic timer.
    reg!(timer CNTPCT_EL0, TimerReg::Cntpct, User::Timer),
    reg!(timer CNTVCT_EL0, TimerReg::Cntvct, User::Timer),
    reg!(timer CNTP_TVAL_EL0, TimerReg::CntpTval, User::Hidden),
    reg!(timer CNTP_CTL_EL0, TimerReg::CntpCtl, User::Timer),
    reg!(timer CNTP_CVAL_EL0, TimerReg::CntpCval, User::Timer),
    reg!(timer CNTV_TVAL_EL0, TimerReg::CntvTval, User::Hidden),
    reg!(timer CNTV_CTL_EL0, TimerReg::CntvCtl, User::Timer),
    reg!(timer CNTV_CVAL_EL0, TimerReg::CntvCval, User::Timer),
    // AArch32 state that no guest has but userspace lists.
    reg!(new DACR32_EL2, Storage::Memory(Reg::Dacr32El2), Guest::Undefined, User::Plain)
        .reset(Reset::To(0)),
    reg!(new IFSR32_EL2, Storage::Memory(Reg::Ifsr32El2), Guest::Undefined, User::Plain)
        .reset(Reset::To(0)),
    reg!(new FPEXC32_EL2, Storage::Memory(Reg::Fpexc32El2), Guest::Undefined, User::Plain)
        .reset(Reset::To(0x700)),
];

const _: () = {
    let mut at = 1;
    while at < TABLE.len() {
        assert!(
            TABLE[at - 1].encoding.bits() < TABLE[at].encoding.bits(),
            "the rows are not in order"
        );
        at += 1;
    }
};
