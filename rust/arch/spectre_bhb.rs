// SPDX-License-Identifier: GPL-2.0

//! Spectre-BHB: what the vectors do so that the branches that a guest has taken do not steer the
//! CPU's speculation in the host's code, where the host has found that it needs that
//! (ARM64_SPECTRE_BHB).
//!
//! From Arm's "Spectre-BHB: Speculative Target Reuse Attacks". The kernel has the same lists of
//! CPUs and shows them to nobody: `scripts/inside/errata` compares the two.

use super::cpu::{sanitised, workaround};
use super::meltdown;
use super::midr::{all_versions, is_in, END};
use crate::host::ffi;
use crate::host::percpu_irq::PrepareCpu;
use crate::host::preempt::{PreemptDisabled, PreemptGuard};
use crate::model::smccc::function::{ARCH_WORKAROUND_1, ARCH_WORKAROUND_3};
use crate::model::sysreg::regs::*;
use kernel::bindings::{self, midr_range};
use kernel::cpu::CpuId;
use kernel::pr_notice_once;
use kernel::sync::atomic::{Atomic, Relaxed};

/// What the vectors do: `BRANCHES_*` of `arch/arm64/layout.h`. `entry.S` reads it.
#[export_name = "loft_branch_history"]
static BRANCH_HISTORY: Atomic<u64> = Atomic::new(0);

/// How many branches fill the history, and of which CPUs, with an empty entry at the end.
struct BranchLoop(u64, &'static [midr_range]);

static TABLE: [BranchLoop; 6] = [
    BranchLoop(
        132,
        &[
            all_versions(ffi::LOFT_MIDR_CORTEX_X3),
            all_versions(ffi::LOFT_MIDR_NEOVERSE_V2),
            END,
        ],
    ),
    BranchLoop(
        38,
        &[
            all_versions(ffi::LOFT_MIDR_CORTEX_A715),
            all_versions(ffi::LOFT_MIDR_CORTEX_A720),
            all_versions(ffi::LOFT_MIDR_CORTEX_A720AE),
            END,
        ],
    ),
    BranchLoop(
        32,
        &[
            all_versions(ffi::LOFT_MIDR_CORTEX_A78),
            all_versions(ffi::LOFT_MIDR_CORTEX_A78AE),
            all_versions(ffi::LOFT_MIDR_CORTEX_A78C),
            all_versions(ffi::LOFT_MIDR_CORTEX_X1),
            all_versions(ffi::LOFT_MIDR_CORTEX_X1C),
            all_versions(ffi::LOFT_MIDR_CORTEX_A710),
            all_versions(ffi::LOFT_MIDR_CORTEX_X2),
            all_versions(ffi::LOFT_MIDR_NEOVERSE_N2),
            all_versions(ffi::LOFT_MIDR_NEOVERSE_V1),
            all_versions(ffi::LOFT_MIDR_HISI_TSV110),
            END,
        ],
    ),
    BranchLoop(
        24,
        &[
            all_versions(ffi::LOFT_MIDR_CORTEX_A76),
            all_versions(ffi::LOFT_MIDR_CORTEX_A76AE),
            all_versions(ffi::LOFT_MIDR_CORTEX_A77),
            all_versions(ffi::LOFT_MIDR_NEOVERSE_N1),
            all_versions(ffi::LOFT_MIDR_QCOM_KRYO_4XX_GOLD),
            all_versions(ffi::LOFT_MIDR_HISI_HIP09),
            END,
        ],
    ),
    BranchLoop(11, &[all_versions(ffi::LOFT_MIDR_AMPERE1), END]),
    BranchLoop(
        8,
        &[
            all_versions(ffi::LOFT_MIDR_CORTEX_A72),
            all_versions(ffi::LOFT_MIDR_CORTEX_A57),
            END,
        ],
    ),
];

/// Returns how many branches fill this CPU's history; 0 where that is not known.
fn branches() -> u64 {
    TABLE
        .iter()
        .find(|BranchLoop(_, cpus)| is_in(cpus))
        .map_or(0, |&BranchLoop(branches, _)| branches)
}

/// Returns whether the kernel takes this CPU to need something against Spectre-BHB. Its own list of
/// those that do not is not repeated.
fn is_affected(_preempt: PreemptDisabled<'_>) -> bool {
    // SAFETY: The thread stays on this CPU, by the witness.
    unsafe { bindings::this_cpu_has_cap(bindings::ARM64_SPECTRE_BHB) }
}

/// Returns whether the vectors, or all CPUs by themselves, do something about it.
pub(crate) fn is_handled() -> bool {
    BRANCH_HISTORY.load(Relaxed) != 0
        || ID_AA64MMFR1_EL1::ECBHB.get(sanitised(ID_AA64MMFR1_EL1::ENCODING)) != 0
}

/// Finds out what this CPU needs: what one needs, the vectors do on all.
pub(crate) struct Prepare;

impl PrepareCpu for Prepare {
    fn prepare() {
        meltdown::note_cpu();
        let csv2 = ID_AA64PFR0_EL1::CSV2.get(read_sysreg!(ID_AA64PFR0_EL1));
        let ecbhb = ID_AA64MMFR1_EL1::ECBHB.get(read_sysreg!(ID_AA64MMFR1_EL1));
        if csv2 >= ID_AA64PFR0_EL1::CSV2_CSV2_3 || ecbhb != 0 {
            // The CPU keeps the two apart by itself.
            return;
        }
        let call = |function: u32| u64::from(function) << ffi::BRANCHES_CALL_SHIFT;
        let loops = u64::from(ffi::BRANCHES_LOOPS);
        let branches = branches();
        let mut now = BRANCH_HISTORY.load(Relaxed);
        if ID_AA64ISAR2_EL1::CLRBHB.get(read_sysreg!(ID_AA64ISAR2_EL1)) != 0 {
            now |= 1 << ffi::BRANCHES_CLEAR_BIT;
        } else if branches != 0 {
            now = now & !loops | branches.max(now & loops);
        } else if workaround(ARCH_WORKAROUND_3) == 0 {
            now |= call(ARCH_WORKAROUND_3);
        } else {
            if workaround(ARCH_WORKAROUND_1) == 0 {
                now |= call(ARCH_WORKAROUND_1);
            }
            // The kernel is in the same position, and lists the machine as vulnerable.
            if is_affected(PreemptGuard::new().token()) {
                pr_notice_once!(
                    "CPU {}: guests can steer the host's speculation (Spectre-BHB), and nothing is known against it\n",
                    CpuId::current().as_u32()
                );
            }
        }
        BRANCH_HISTORY.store(now, Relaxed);
    }
}
