// SPDX-License-Identifier: GPL-2.0

//! Meltdown (Spectre variant 3): whether guests have to unmap their kernel while their programs
//! run. A guest asks ID_AA64PFR0_EL1.CSV3, which not all CPUs without the flaw have.
//!
//! The kernel has the same list and shows it to nobody: `scripts/inside/errata` compares the two.

use super::midr::{all_versions, is_in, END};
use crate::host::ffi;
use crate::model::sysreg::regs::ID_AA64PFR0_EL1;
use kernel::bindings::midr_range;
use kernel::sync::atomic::{Atomic, Relaxed};

/// CPUs that do not have it, whatever their registers say.
static SAFE: [midr_range; 16] = [
    all_versions(ffi::LOFT_MIDR_CAVIUM_THUNDERX2),
    all_versions(ffi::LOFT_MIDR_BRCM_VULCAN),
    all_versions(ffi::LOFT_MIDR_BRAHMA_B53),
    all_versions(ffi::LOFT_MIDR_CORTEX_A35),
    all_versions(ffi::LOFT_MIDR_CORTEX_A53),
    all_versions(ffi::LOFT_MIDR_CORTEX_A55),
    all_versions(ffi::LOFT_MIDR_CORTEX_A57),
    all_versions(ffi::LOFT_MIDR_CORTEX_A72),
    all_versions(ffi::LOFT_MIDR_CORTEX_A73),
    all_versions(ffi::LOFT_MIDR_HISI_TSV110),
    all_versions(ffi::LOFT_MIDR_NVIDIA_CARMEL),
    all_versions(ffi::LOFT_MIDR_QCOM_KRYO_2XX_GOLD),
    all_versions(ffi::LOFT_MIDR_QCOM_KRYO_2XX_SILVER),
    all_versions(ffi::LOFT_MIDR_QCOM_KRYO_3XX_SILVER),
    all_versions(ffi::LOFT_MIDR_QCOM_KRYO_4XX_SILVER),
    END,
];

/// Whether a CPU has it, of those that have been online since the module was loaded.
static AFFECTED: Atomic<bool> = Atomic::new(false);

/// Takes note of the CPU that this runs on; the thread stays on it meanwhile.
pub(super) fn note_cpu() {
    let csv3 = ID_AA64PFR0_EL1::CSV3.get(read_sysreg!(ID_AA64PFR0_EL1));
    if csv3 == 0 && !is_in(&SAFE) {
        AFFECTED.store(true, Relaxed);
    }
}

/// Returns whether no CPU of the machine has it.
pub(crate) fn is_unaffected() -> bool {
    !AFFECTED.load(Relaxed)
}
