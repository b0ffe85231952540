// SPDX-License-Identifier: GPL-2.0
//! The policy of the identification registers: one line per field that a guest may see.
//!
//! **A field without a line is zero**, so that what the architecture adds tomorrow stays hidden
//! until somebody decides. `Fixed(0)` is zero too, but says that the field is one of those which
//! KVM lets userspace write: it is in the mask of KVM_ARM_GET_REG_WRITABLE_MASKS. A feature is
//! hidden or works. These stay hidden although the host may have them, with what they wait for:
//! SVE, SME, MTE, GCS (state to save); LS64, CMOW (HCRX_EL2); permission overlays, DoubleFault2,
//! THE (EL1 registers to save and HCRX_EL2); PMU, SPE, TRBE, BRBE, trace, AMU, MPAM (not
//! virtualised).
//!
//! What says something of EL2, EL3 or the Secure state alone is the host's: a guest, which is at
//! EL1 and cannot leave it upwards, has no use for it and cannot tell. KVM shows it, and where it
//! is not writable takes nothing else, so that otherwise no VM could go from one to the other. The
//! same holds for AArch32 at EL1, which is chosen with KVM_ARM_VCPU_INIT, for external debuggers,
//! and for PARANGE, which says nothing about the size that KVM_CREATE_VM was given
//! (Documentation/virt/kvm/api.rst, KVM_CAP_ARM_VM_IPA_SIZE).

use super::regs;
use super::{Encoding, Field};

/// One field.
pub(super) struct FieldRule {
    /// The register it is in.
    pub(super) register: Encoding,
    /// The field.
    pub(super) field: Field,
    /// What a new VM gets.
    pub(super) take: Take,
    /// Which other values promise less.
    pub(super) safe: Safe,
    /// Whether userspace may lower it.
    pub(super) writable: bool,
    /// The least that it can be lowered to.
    pub(super) least: i8,
}

/// What a new VM gets.
pub(super) enum Take {
    /// The host's value.
    Host,
    /// The host's value, or this if that is less.
    AtMost(u64),
    /// This.
    Fixed(u64),
    /// The host's value if the VM has pointer authentication, else 0.
    PointerAuth,
    /// 1 if the host has a GICv3.
    Gic,
    /// See `csv`.
    Csv2,
    /// See `csv`.
    Csv3,
}

impl Take {
    /// Returns whether the host's value counts.
    // Called while this is compiled only, which the lint does not see.
    #[allow(dead_code)]
    pub(super) const fn needs_host(&self) -> bool {
        !matches!(self, Self::Fixed(_) | Self::Gic)
    }
}

/// Which values promise less than another.
pub(super) enum Safe {
    /// Lower ones.
    Lower,
    /// Higher ones.
    Higher,
    /// This one.
    Exactly(i8),
}

impl FieldRule {
    const fn new(register: Encoding, field: Field, take: Take) -> Self {
        Self {
            register,
            field,
            take,
            safe: Safe::Lower,
            writable: true,
            least: i8::MIN,
        }
    }

    const fn read_only(self) -> Self {
        Self {
            writable: false,
            ..self
        }
    }

    const fn at_least(self, least: i8) -> Self {
        Self { least, ..self }
    }

    const fn safe(self, safe: Safe) -> Self {
        Self { safe, ..self }
    }
}

macro_rules! rules {
    ($($register:ident { $($field:ident: $take:expr $(=> $method:ident $(($arg:expr))?)*;)* })*) => {
        &[$($(
            FieldRule::new(regs::$register::ENCODING, regs::$register::$field, $take) $(.$method($($arg)?))*,
        )*)*]
    };
}

use Take::{AtMost, Csv2, Csv3, Fixed, Gic, Host, PointerAuth};

/// All rules.
pub(super) const RULES: &[FieldRule] = rules! {
    ID_AA64PFR0_EL1 {
        EL0: Host => at_least(1);
        EL1: Host => at_least(1);
        EL2: Host;
        EL3: Host;
        FP: Host => read_only;
        AdvSIMD: Host => read_only;
        GIC: Gic;
        // Registers of error records read as zero, those that version 1.1 has added as well.
        RAS: AtMost(regs::ID_AA64PFR0_EL1::RAS_V1P1);
        SEL2: Host;
        DIT: Host;
        CSV2: Csv2;
        CSV3: Csv3;
    }
    ID_AA64PFR1_EL1 {
        BT: Host;
        SSBS: Host;
        RAS_frac: AtMost(regs::ID_AA64PFR1_EL1::RAS_frac_RASv1p1);
        CSV2_frac: AtMost(regs::ID_AA64PFR1_EL1::CSV2_frac_CSV2_1p1);
        DF2: Fixed(0);
    }
    ID_AA64PFR2_EL1 {
        FPMR: AtMost(regs::ID_AA64PFR2_EL1::FPMR_IMP);
    }
    ID_AA64FPFR0_EL1 {
        F8CVT: Host;
        F8FMA: Host;
        F8DP4: Host;
        F8DP2: Host;
        F8MM8: Host;
        F8MM4: Host;
        F16MM2: Host;
        F8E4M3: Host;
        F8E5M2: Host;
    }
    ID_AA64ZFR0_EL1 {
        SVEver: Fixed(0);
        AES: Fixed(0);
        BitPerm: Fixed(0);
        BF16: Fixed(0);
        SHA3: Fixed(0);
        SM4: Fixed(0);
        I8MM: Fixed(0);
        F32MM: Fixed(0);
        F64MM: Fixed(0);
    }
    ID_AA64DFR0_EL1 {
        // What comes between the two is for external debuggers.
        DebugVer: AtMost(regs::ID_AA64DFR0_EL1::DebugVer_V8P8) => at_least(regs::ID_AA64DFR0_EL1::DebugVer_IMP as i8);
        PMUVer: Fixed(0);
        BRPs: Host => read_only;
        WRPs: Host;
        CTX_CMPs: Host => read_only;
        // The lock cannot be closed: OSDLR_EL1 reads as zero, as KVM's.
        DoubleLock: Host;
    }
    ID_AA64ISAR0_EL1 {
        AES: Host;
        SHA1: Host;
        SHA2: Host;
        CRC32: Host;
        ATOMIC: Host;
        RDM: Host;
        SHA3: Host;
        SM3: Host;
        SM4: Host;
        DP: Host;
        FHM: Host;
        TS: Host;
        TLB: Host;
        RNDR: Host;
    }
    ID_AA64ISAR1_EL1 {
        DPB: Host;
        APA: PointerAuth => read_only;
        API: PointerAuth => read_only;
        JSCVT: Host;
        FCMA: Host;
        LRCPC: Host;
        GPA: PointerAuth => read_only;
        GPI: PointerAuth => read_only;
        FRINTTS: Host;
        SB: Host;
        SPECRES: Host;
        BF16: Host;
        DGH: Host;
        I8MM: Host;
        XS: Host;
        LS64: Fixed(0);
    }
    ID_AA64ISAR2_EL1 {
        WFxT: Host;
        RPRES: Host;
        GPA3: PointerAuth => read_only;
        APA3: PointerAuth => read_only;
        MOPS: Host;
        BC: Host;
        PAC_frac: Host;
        CLRBHB: Host;
        RPRFM: Host;
        CSSC: Host;
        LUT: Host;
        ATS1A: Host;
    }
    ID_AA64ISAR3_EL1 {
        FAMINMAX: Host;
        LSFE: Host;
        LSUI: Host;
        FPRCVT: Host;
    }
    ID_AA64MMFR0_EL1 {
        PARANGE: Host;
        ASIDBITS: Host => read_only;
        BIGEND: Host;
        SNSMEM: Host;
        BIGENDEL0: Host;
        // Addresses of 52 bits are stage 1's own; behind stage 2's 48 there is nothing.
        TGRAN16: Host;
        TGRAN64: Host;
        TGRAN4: Host;
        TGRAN16_2: Host => safe(Safe::Exactly(1));
        TGRAN64_2: Host => safe(Safe::Exactly(1));
        TGRAN4_2: Host => safe(Safe::Exactly(1));
        EXS: Host;
        FGT: Host;
        // 2 adds a register of EL2's, but KVM shows it, so a guest that moves here may have it.
        ECV: Host;
    }
    ID_AA64MMFR1_EL1 {
        // What comes after the access flag of tables (TCR2_EL1.HAFT) is EL2's.
        HAFDBS: AtMost(regs::ID_AA64MMFR1_EL1::HAFDBS_HAFT);
        VMIDBits: Host => read_only;
        VH: Host => read_only;
        HPDS: Host;
        LO: Host;
        PAN: Host;
        SpecSEI: Host => safe(Safe::Higher);
        XNX: Host => read_only;
        TWED: Host;
        ETS: Host;
        HCX: Host;
        AFP: Host;
        TIDCP1: Host;
        ECBHB: Host;
    }
    ID_AA64MMFR2_EL1 {
        CnP: Host;
        UAO: Host;
        LSM: Host;
        IESB: Host;
        VARange: AtMost(regs::ID_AA64MMFR2_EL1::VARange_52);
        ST: Host;
        AT: Host;
        IDS: Host => read_only;
        FWB: Host => read_only;
        TTL: Host;
        BBM: Host;
        EVT: Host => read_only;
        E0PD: Host;
    }
    ID_AA64MMFR3_EL1 {
        TCRX: AtMost(regs::ID_AA64MMFR3_EL1::TCRX_IMP);
        SCTLRX: AtMost(regs::ID_AA64MMFR3_EL1::SCTLRX_IMP);
        S1PIE: AtMost(regs::ID_AA64MMFR3_EL1::S1PIE_IMP);
        S1POE: Fixed(0);
    }
    ID_AA64MMFR4_EL1 {
        E2H0: Host => read_only;
        NV_frac: Host;
    }
    CTR_EL0 {
        IminLine: Host;
        L1Ip: Host => safe(Safe::Exactly(regs::CTR_EL0::L1Ip_VIPT as i8));
        DminLine: Host;
        ERG: Host => read_only;
        CWG: Host => read_only;
        IDC: Host;
        DIC: Host;
        TminLine: Host => read_only;
    }
};
