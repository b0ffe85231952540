// SPDX-License-Identifier: GPL-2.0
//! The registers that a vCPU's context has room for.

/// A register in a vCPU's context: the index into `[u64; Reg::COUNT]`.
///
/// The order has a meaning: first those that are in the CPU while the vCPU is loaded ([`Reg::LOADED`]), then the
/// pointer authentication keys, then the debug registers, then those that are only in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the architecture's names
pub enum Reg {
    // In the CPU while the vCPU is loaded.
    SpEl1,
    ElrEl1,
    SpsrEl1,
    SctlrEl1,
    CpacrEl1,
    Ttbr0El1,
    Ttbr1El1,
    TcrEl1,
    EsrEl1,
    Afsr0El1,
    Afsr1El1,
    FarEl1,
    MairEl1,
    AmairEl1,
    VbarEl1,
    ContextidrEl1,
    TpidrEl0,
    TpidrroEl0,
    TpidrEl1,
    CntkctlEl1,
    ParEl1,
    /// Through VDISR_EL2: with HCR_EL2.AMO set, DISR_EL1 at EL1 is that register.
    DisrEl1,
    /// Through VMPIDR_EL2.
    MpidrEl1,

    // Pointer authentication keys, low and high half in turn.
    ApiaKeyLo,
    ApiaKeyHi,
    ApibKeyLo,
    ApibKeyHi,
    ApdaKeyLo,
    ApdaKeyHi,
    ApdbKeyLo,
    ApdbKeyHi,
    ApgaKeyLo,
    ApgaKeyHi,

    // Debug.
    MdscrEl1,
    MdccintEl1,
    Dbgbvr0,
    Dbgbvr1,
    Dbgbvr2,
    Dbgbvr3,
    Dbgbvr4,
    Dbgbvr5,
    Dbgbvr6,
    Dbgbvr7,
    Dbgbvr8,
    Dbgbvr9,
    Dbgbvr10,
    Dbgbvr11,
    Dbgbvr12,
    Dbgbvr13,
    Dbgbvr14,
    Dbgbvr15,
    Dbgbcr0,
    Dbgbcr1,
    Dbgbcr2,
    Dbgbcr3,
    Dbgbcr4,
    Dbgbcr5,
    Dbgbcr6,
    Dbgbcr7,
    Dbgbcr8,
    Dbgbcr9,
    Dbgbcr10,
    Dbgbcr11,
    Dbgbcr12,
    Dbgbcr13,
    Dbgbcr14,
    Dbgbcr15,
    Dbgwvr0,
    Dbgwvr1,
    Dbgwvr2,
    Dbgwvr3,
    Dbgwvr4,
    Dbgwvr5,
    Dbgwvr6,
    Dbgwvr7,
    Dbgwvr8,
    Dbgwvr9,
    Dbgwvr10,
    Dbgwvr11,
    Dbgwvr12,
    Dbgwvr13,
    Dbgwvr14,
    Dbgwvr15,
    Dbgwcr0,
    Dbgwcr1,
    Dbgwcr2,
    Dbgwcr3,
    Dbgwcr4,
    Dbgwcr5,
    Dbgwcr6,
    Dbgwcr7,
    Dbgwcr8,
    Dbgwcr9,
    Dbgwcr10,
    Dbgwcr11,
    Dbgwcr12,
    Dbgwcr13,
    Dbgwcr14,
    Dbgwcr15,

    // Only in memory.
    /// Its OSLK bit is what OSLAR_EL1 writes.
    OslsrEl1,
    ActlrEl1,
    CsselrEl1,
    ClidrEl1,
    // AArch32 registers that userspace lists, saves and restores although no guest has AArch32.
    Dbgvcr32El2,
    Dacr32El2,
    Ifsr32El2,
    Fpexc32El2,
}

impl Reg {
    /// How many there are.
    pub const COUNT: usize = Self::Fpexc32El2 as usize + 1;

    /// How many, from the first on, are in the CPU while the vCPU is loaded.
    pub const LOADED: usize = Self::MpidrEl1 as usize + 1;

    /// The register's place in the context.
    pub const fn index(self) -> usize {
        self as usize
    }
}
