// SPDX-License-Identifier: GPL-2.0

//! What this machine's CPUs are.

use crate::host::errno::eopnotsupp;
use crate::host::ffi;
use crate::model::sysreg::{regs::*, Encoding};
use core::cell::UnsafeCell;
use kernel::bindings;
use kernel::prelude::*;

/// Errata of CPUs, as the bits of the module's parameter `errata`.
///
/// This is the one place where the kernel is asked; errata.list says what becomes of everything
/// else that it knows of CPUs.
mod erratum {
    use crate::host::ffi;
    use kernel::bindings::*;

    pub(super) const REPEAT_TLBI: u32 = 1 << 0;
    pub(super) const SPECULATIVE_AT: u32 = 1 << 1;
    pub(super) const MMU_WRITES_TRAP: u32 = 1 << 2;
    pub(super) const HIDDEN_HAFDBS: u32 = 1 << 3;
    pub(super) const NO_CNTVOFF: u32 = 1 << 4;
    pub(super) const CACHES_DIFFER: u32 = 1 << 5;
    pub(super) const PAR_DEADLOCK: u32 = 1 << 6;
    pub(super) const LOAD_DEADLOCK: u32 = 1 << 7;
    pub(super) const STEP_LOSES_PSTATE: u32 = 1 << 8;
    pub(super) const REPEAT_CLEANING: u32 = 1 << 9;

    /// The kernel's capability that stands for each.
    pub(super) const TABLE: [(u32, u32); 10] = [
        (ffi::LOFT_ARM64_WORKAROUND_REPEAT_TLBI, REPEAT_TLBI),
        (ARM64_WORKAROUND_SPECULATIVE_AT, SPECULATIVE_AT),
        (ARM64_WORKAROUND_CAVIUM_TX2_219_TVM, MMU_WRITES_TRAP),
        (ARM64_WORKAROUND_AMPERE_AC03_CPU_38, HIDDEN_HAFDBS),
        (ARM64_WORKAROUND_QCOM_ORYON_CNTVOFF, NO_CNTVOFF),
        (ARM64_MISMATCHED_CACHE_TYPE, CACHES_DIFFER),
        (ARM64_WORKAROUND_1508412, PAR_DEADLOCK),
        (ARM64_WORKAROUND_DEVICE_LOAD_ACQUIRE, LOAD_DEADLOCK),
        (ARM64_WORKAROUND_2077057, STEP_LOSES_PSTATE),
        (ARM64_WORKAROUND_4311569, REPEAT_CLEANING),
    ];
}

/// The features that loft itself uses. The same on all CPUs: they come from the kernel's sanitised
/// registers.
#[derive(Clone, Copy)]
pub(crate) struct CpuFeatures {
    /// Pointer authentication, which the host uses as well.
    pub(crate) pauth: bool,
    /// FEAT_RAS: DISR_EL1 and virtual SErrors with a syndrome.
    pub(crate) ras: bool,
    /// FEAT_S2FWB: stage 2 can make all of the guest's memory accesses write-back.
    pub(crate) fwb: bool,
    /// FEAT_FGT: HFGRTR_EL2 and its like exist.
    pub(crate) fgt: bool,
    /// FEAT_FGT2.
    pub(crate) fgt2: bool,
    /// FEAT_HCX: HCRX_EL2 exists.
    pub(crate) hcx: bool,
    /// FEAT_TCR2: TCR2_EL1 exists.
    pub(crate) tcr2: bool,
    /// FEAT_SCTLR2: SCTLR2_EL1 exists.
    pub(crate) sctlr2: bool,
    /// FEAT_S1PIE, permission indirection: PIR_EL1 and PIRE0_EL1 exist.
    pub(crate) indirection: bool,
    /// FEAT_FPMR: FPMR exists.
    pub(crate) fpmr: bool,
    /// FEAT_DIT.
    pub(crate) dit: bool,
    /// FEAT_EVT: HCR_EL2.TID4 and its like.
    pub(crate) evt: bool,
    /// FEAT_WFxT: WFI with a timeout.
    pub(crate) wfxt: bool,
    /// How many bits a VMID has: 8 or 16.
    pub(crate) vmid_bits: u32,
    /// How many bits a physical address has.
    pub(crate) pa_bits: u32,
    /// List registers of the GIC.
    pub(crate) list_registers: usize,
    /// ICH_VTR_EL2.
    pub(crate) vtr: u64,
    /// The counter's frequency in Hz.
    pub(crate) counter_hz: u32,
    /// CTR_EL0 as it is safe for all CPUs: the smallest line, and no more coherence than each has.
    pub(crate) ctr: u64,
    /// Instruction fetches see data writes (CTR_EL0.DIC).
    pub(crate) dic: bool,
    /// FEAT_MPAM: MPAM2_EL2 exists.
    pub(crate) mpam: bool,
    /// MPAMHCR_EL2 exists as well.
    pub(crate) mpam_hcr: bool,
    /// FEAT_SPE, and the firmware has left it to this exception level.
    pub(crate) profiling: bool,
    /// FEAT_SME.
    pub(crate) sme: bool,
    /// FEAT_MTE2: GMID_EL1 exists.
    pub(crate) mte: bool,
    /// The host's errata: TLB maintenance has to be repeated.
    pub(crate) repeat_tlbi: bool,
    /// The host's errata: a speculative AT may use what is not in place yet.
    pub(crate) speculative_at: bool,
    /// ThunderX2 erratum 219: what is loaded between a guest's write to TTBR<n>_EL1 and its ISB can
    /// fault in any thread of the core, also at EL2. So these writes trap (HCR_EL2.TVM), and the
    /// ERET after them is the synchronisation.
    pub(crate) mmu_writes_trap: bool,
    /// AmpereOne's AC03_CPU_38: TCR_EL1.HA and HD take effect although FEAT_HAFDBS is not offered,
    /// and wrongly: descriptors are updated that are invalid already. So writes of the guest's to
    /// TCR_EL1 trap, and leave the two out.
    pub(crate) hidden_hafdbs: bool,
    /// CTR_EL0 differs between the CPUs, so that the guest must not read the one of the CPU that it
    /// happens to run on.
    pub(crate) caches_differ: bool,
    /// Cortex-A77's erratum 1508412: PAR_EL1 is read between DMBs.
    pub(crate) par_deadlock: bool,
    /// Cortex-A510's erratum 2077057: where a step is expected and a trap of pointer authentication
    /// comes, SPSR_EL2 is wrong.
    pub(crate) step_loses_pstate: bool,
    /// SI L1's erratum 4311569: what is cleaned to the point of coherency is cleaned twice.
    pub(crate) repeat_cleaning: bool,
}

/// Written once, by [`probe`], before the module does anything else; so reading takes no check.
struct Probed(UnsafeCell<CpuFeatures>);

// SAFETY: It is written before there is a second thread that could read it.
unsafe impl Sync for Probed {}

static FEATURES: Probed = Probed(UnsafeCell::new(CpuFeatures {
    pauth: false,
    ras: false,
    fwb: false,
    fgt: false,
    fgt2: false,
    hcx: false,
    tcr2: false,
    sctlr2: false,
    indirection: false,
    fpmr: false,
    dit: false,
    evt: false,
    wfxt: false,
    vmid_bits: 8,
    pa_bits: 32,
    list_registers: 1,
    vtr: 0,
    counter_hz: 1,
    ctr: 0,
    dic: false,
    mpam: false,
    mpam_hcr: false,
    profiling: false,
    sme: false,
    mte: false,
    repeat_tlbi: false,
    speculative_at: false,
    mmu_writes_trap: false,
    hidden_hafdbs: false,
    caches_differ: false,
    par_deadlock: false,
    step_loses_pstate: false,
    repeat_cleaning: false,
}));

/// Returns what the kernel has settled on for the identification register `encoding`, over all
/// CPUs.
pub(crate) fn sanitised(encoding: Encoding) -> u64 {
    // SAFETY: Looks the register up in a table; an unknown one is 0 and a warning, and loft asks
    // for known ones.
    unsafe { kernel::bindings::read_sanitised_ftr_reg(encoding.linux()) }
}

/// Returns an identification register of the host's: as sanitised, or this CPU's where that is what
/// identifies it.
pub(crate) fn id_register(encoding: Encoding) -> u64 {
    match encoding {
        MIDR_EL1::ENCODING => read_sysreg!(MIDR_EL1),
        REVIDR_EL1::ENCODING => read_sysreg!(REVIDR_EL1),
        AIDR_EL1::ENCODING => read_sysreg!(AIDR_EL1),
        _ => sanitised(encoding),
    }
}

/// Returns what the host's firmware answers about a workaround (SMCCC_ARCH_FEATURES): 0 needed, 1
/// not needed, negative unknown.
pub(crate) fn workaround(function: u32) -> i32 {
    // SAFETY: A firmware call that changes nothing.
    unsafe { ffi::loft_arm_smccc_arch_features(function) }
}

/// Returns whether the kernel has found this of its own (`ARM64_*`, arch/arm64/tools/cpucaps) in
/// the machine.
fn has_capability(capability: u32) -> bool {
    // SAFETY: Any number may be asked about.
    unsafe { ffi::loft_cpus_have_cap(capability) }
}

/// Returns the bits of those in `table` whose capability the machine has.
fn bits_of(table: &[(u32, u32)]) -> u32 {
    table
        .iter()
        .filter(|&&(capability, _)| has_capability(capability))
        .fold(0, |bits, &(_, bit)| bits | bit)
}

/// Speculation flaws of the machine.
#[derive(Clone, Copy)]
pub(crate) struct Flaws(u32);

impl Flaws {
    const SPECTRE_V2: u32 = 1 << 0;
    const SPECTRE_V4: u32 = 1 << 1;
    const SPECTRE_BHB: u32 = 1 << 2;

    /// Returns them as the kernel has found out: what one CPU has, the machine has.
    pub(crate) fn of_machine() -> Self {
        Self(bits_of(&[
            (bindings::ARM64_SPECTRE_V2, Self::SPECTRE_V2),
            (bindings::ARM64_SPECTRE_V4, Self::SPECTRE_V4),
            (bindings::ARM64_SPECTRE_BHB, Self::SPECTRE_BHB),
        ]))
    }

    /// Returns whether the machine has Spectre variant 2: it speculates where an indirect branch
    /// goes by what others have trained.
    pub(crate) const fn branch_target(self) -> bool {
        self.0 & Self::SPECTRE_V2 != 0
    }

    /// Returns whether the machine has Spectre variant 4: it loads before older stores.
    pub(crate) const fn store_bypass(self) -> bool {
        self.0 & Self::SPECTRE_V4 != 0
    }

    /// Returns whether the machine has Spectre-BHB: variant 2 by way of the branch history.
    pub(crate) const fn branch_history(self) -> bool {
        self.0 & Self::SPECTRE_BHB != 0
    }
}

/// Calls the firmware's workaround, which a guest wants: something that speculation must not take
/// along is behind it.
pub(crate) fn run_workaround(function: u32) {
    // SAFETY: The call has no other effect. It preserves all registers but x0 to x3 (SMCCC 1.1),
    // before that x18 and up.
    unsafe {
        core::arch::asm!(
            "smc #0",
            inout("x0") u64::from(function) => _, out("x1") _, out("x2") _, out("x3") _,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _, options(nostack)
        )
    };
}

/// Returns the features; [`probe`] has run before anything else of the module.
#[inline(always)]
pub(crate) fn features() -> &'static CpuFeatures {
    // SAFETY: Written in `probe` alone, before anything else of the module runs.
    unsafe { &*FEATURES.0.get() }
}

/// Checks that loft can work here; says what is missing where it cannot. `pretended`: the errata
/// that the CPUs shall be taken to have in addition.
pub(crate) fn probe(pretended: u32) -> Result {
    if CurrentEL::EL.get(read_sysreg!(CurrentEL)) != 2 {
        pr_err!("the kernel does not run at EL2: loft needs a CPU with VHE and a kernel started at EL2 (without kvm-arm.mode=nvhe or protected, not itself in a VM)\n");
        return Err(ENODEV);
    }
    if !HCR_EL2::E2H.is_set(read_sysreg!(HCR_EL2)) {
        pr_err!("HCR_EL2.E2H is not set: loft needs a CPU with VHE (Armv8.1)\n");
        return Err(ENODEV);
    }
    let pfr0 = sanitised(ID_AA64PFR0_EL1::ENCODING);
    if ID_AA64PFR0_EL1::GIC.get(pfr0) == 0 || !ICC_SRE_EL2::SRE.is_set(read_sysreg!(ICC_SRE_EL2)) {
        pr_err!("no GICv3 system registers: loft needs a GICv3 or later\n");
        return Err(ENXIO);
    }
    if !ICH_VTR_EL2::TDS.is_set(super::gic::vtr()) {
        pr_err!("the GIC cannot trap ICC_DIR_EL1 alone (ICH_VTR_EL2.TDS is 0), which loft needs\n");
        return Err(eopnotsupp());
    }
    if kernel::page::PAGE_SIZE != 4096 {
        pr_err!(
            "the kernel's pages are {} KiB: loft supports 4 KiB only\n",
            kernel::page::PAGE_SIZE / 1024
        );
        return Err(eopnotsupp());
    }
    let mmfr0 = sanitised(ID_AA64MMFR0_EL1::ENCODING);
    let mmfr1 = sanitised(ID_AA64MMFR1_EL1::ENCODING);
    let mmfr2 = sanitised(ID_AA64MMFR2_EL1::ENCODING);
    let mmfr3 = sanitised(ID_AA64MMFR3_EL1::ENCODING);
    if ID_AA64MMFR0_EL1::TGRAN4_2.get(mmfr0) == ID_AA64MMFR0_EL1::TGRAN4_2_NI {
        pr_err!("the CPU has no 4 KiB pages at stage 2\n");
        return Err(eopnotsupp());
    }
    let pfr1 = sanitised(ID_AA64PFR1_EL1::ENCODING);
    // The kernel's view, not the CPU's: firmware may have left accesses to these registers trapping
    // to itself, where they are not expected. The kernel is told so (arm64.nompam), and then
    // touches none of them; else it has done so before now.
    let mpam = ID_AA64PFR0_EL1::MPAM.get(pfr0) != 0 || ID_AA64PFR1_EL1::MPAM_frac.get(pfr1) != 0;
    let errata = bits_of(&erratum::TABLE) | pretended;
    let has = |erratum| errata & erratum != 0;
    if has(erratum::NO_CNTVOFF) {
        pr_err!("CNTVOFF_EL2 of these CPUs does not work (Oryon): loft has no other way to give a guest its time\n");
        return Err(eopnotsupp());
    }
    if has(erratum::PAR_DEADLOCK | erratum::LOAD_DEADLOCK) {
        pr_notice!("a guest's kernel that does not know this CPU's errata can hang the machine: run only guests that you trust\n");
    }
    let ctr = sanitised(CTR_EL0::ENCODING);
    let fgt = ID_AA64MMFR0_EL1::FGT.get(mmfr0);
    // Linux boots late CPUs that lack a feature only without it: so what the boot CPUs have, all
    // have.
    // SAFETY: Reads the kernel's capabilities.
    let pauth = unsafe { ffi::loft_system_supports_address_auth() };
    let features = CpuFeatures {
        pauth,
        ras: ID_AA64PFR0_EL1::RAS.get(pfr0) != 0,
        fwb: ID_AA64MMFR2_EL1::FWB.get(mmfr2) != 0,
        fgt: fgt != 0,
        fgt2: fgt >= ID_AA64MMFR0_EL1::FGT_FGT2,
        hcx: ID_AA64MMFR1_EL1::HCX.get(mmfr1) != 0,
        tcr2: ID_AA64MMFR3_EL1::TCRX.get(mmfr3) != 0,
        sctlr2: ID_AA64MMFR3_EL1::SCTLRX.get(mmfr3) != 0,
        indirection: ID_AA64MMFR3_EL1::S1PIE.get(mmfr3) != 0,
        fpmr: ID_AA64PFR2_EL1::FPMR.get(sanitised(ID_AA64PFR2_EL1::ENCODING)) != 0,
        dit: ID_AA64PFR0_EL1::DIT.get(pfr0) != 0,
        evt: ID_AA64MMFR2_EL1::EVT.get(mmfr2) >= ID_AA64MMFR2_EL1::EVT_IMP,
        wfxt: ID_AA64ISAR2_EL1::WFxT.get(sanitised(ID_AA64ISAR2_EL1::ENCODING))
            >= ID_AA64ISAR2_EL1::WFxT_IMP,
        vmid_bits: if ID_AA64MMFR1_EL1::VMIDBits.get(mmfr1) == ID_AA64MMFR1_EL1::VMIDBits_16 {
            16
        } else {
            8
        },
        pa_bits: match ID_AA64MMFR0_EL1::PARANGE.get(mmfr0) {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            // Stage 2 has no LPA2 here, so 48 bits are all that it can give out.
            _ => 48,
        },
        list_registers: super::gic::list_registers(),
        vtr: super::gic::vtr(),
        counter_hz: u32::try_from(read_sysreg!(CNTFRQ_EL0)).unwrap_or(1).max(1),
        ctr,
        dic: CTR_EL0::DIC.is_set(ctr),
        mpam,
        mpam_hcr: mpam && MPAMIDR_EL1::HAS_HCR.is_set(sanitised(MPAMIDR_EL1::ENCODING)),
        profiling: ID_AA64DFR0_EL1::PMSVer.get(sanitised(ID_AA64DFR0_EL1::ENCODING)) != 0
            && !PMBIDR_EL1::P.is_set(read_sysreg!(PMBIDR_EL1)),
        sme: ID_AA64PFR1_EL1::SME.get(pfr1) != 0,
        mte: ID_AA64PFR1_EL1::MTE.get(pfr1) >= ID_AA64PFR1_EL1::MTE_MTE2,
        repeat_tlbi: has(erratum::REPEAT_TLBI),
        speculative_at: has(erratum::SPECULATIVE_AT),
        mmu_writes_trap: has(erratum::MMU_WRITES_TRAP),
        hidden_hafdbs: has(erratum::HIDDEN_HAFDBS),
        caches_differ: has(erratum::CACHES_DIFFER),
        par_deadlock: has(erratum::PAR_DEADLOCK),
        step_loses_pstate: has(erratum::STEP_LOSES_PSTATE),
        repeat_cleaning: has(erratum::REPEAT_CLEANING),
    };
    // SAFETY: The module is being loaded, by this thread, and nothing else of it runs.
    unsafe { *FEATURES.0.get() = features };
    Ok(())
}
