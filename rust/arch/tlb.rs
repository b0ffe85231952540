// SPDX-License-Identifier: GPL-2.0

//! Stage-2 TLB maintenance.
//!
//! TLBI IPAS2E1IS and VMALLE1IS work on the VMID in VTTBR_EL2, and only with HCR_EL2.TGE = 0: with TGE = 1 the second
//! would be about the host's EL2&0 regime (DDI 0487, D8.17). So the guest's VTTBR and TGE = 0 are in place around them,
//! with interrupts off, since the host's own TLBIs must not run in between. Each change is synchronised by an ISB before
//! the first TLBI that depends on it; the DSB before makes the descriptor's change visible to the walkers, the one after
//! waits for all CPUs to be done with the old one.

use super::{dsb_ish, dsb_ishst, isb};
use crate::host::cpu::IrqOff;
use crate::model::sysreg::regs::*;
use core::arch::asm;

/// The translation regime of one guest: the value of VTTBR_EL2 (VMID and root table).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vttbr(pub(crate) u64);

fn with_guest(vttbr: Vttbr, body: impl FnOnce()) {
    let _off = IrqOff::new();
    let hcr = read!(HCR_EL2);
    let old = read!(VTTBR_EL2);
    dsb_ishst();
    write!(VTTBR_EL2, vttbr.0);
    write!(HCR_EL2, hcr & !HCR_EL2::TGE.mask());
    isb();
    body();
    dsb_ish();
    write!(VTTBR_EL2, old);
    write!(HCR_EL2, hcr);
    isb();
}

/// All translations of the guest, of both stages, on all CPUs.
pub(crate) fn flush_all(vttbr: Vttbr) {
    with_guest(vttbr, || {
        // SAFETY: Invalidating translations changes no data.
        unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
    });
}

/// The stage-2 translations of `count` granules of `1 << shift` bytes from `ipa` on, and, since those may be cached
/// combined with stage 1, all stage-1 ones of the guest (there is no way to name them by IPA).
pub(crate) fn flush_ipas(vttbr: Vttbr, ipa: u64, count: u64, shift: u32) {
    with_guest(vttbr, || {
        let mut at = ipa;
        for _ in 0..count {
            let operand = at >> 12;
            // SAFETY: As above.
            unsafe {
                asm!("tlbi ipas2e1is, {}", in(reg) operand, options(nostack, preserves_flags))
            };
            at = at.wrapping_add(1 << shift);
        }
        // The combined entries go after the stage-2 ones, or they could be made again from those.
        dsb_ish();
        // SAFETY: As above.
        unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
    });
}

/// The translations of all guests, on all CPUs: before VMIDs are handed out anew.
pub(crate) fn flush_all_guests() {
    dsb_ishst();
    // SAFETY: As above. ALLE1IS does not depend on VTTBR_EL2 or TGE.
    unsafe { asm!("tlbi alle1is", options(nostack, preserves_flags)) };
    dsb_ish();
    isb();
}

/// The stage-1 translations of this guest on this CPU only: another vCPU of the same VM has run here, and the two may
/// use the same ASID for different address spaces (a guest's TLBI without IS reaches one vCPU only).
pub(crate) fn flush_local_stage1(vttbr: Vttbr) {
    let _off = IrqOff::new();
    let hcr = read!(HCR_EL2);
    let old = read!(VTTBR_EL2);
    write!(VTTBR_EL2, vttbr.0);
    write!(HCR_EL2, hcr & !HCR_EL2::TGE.mask());
    isb();
    // SAFETY: As above. The I-cache goes too: with VPIPT or VIPT ones it may hold another vCPU's lines.
    unsafe {
        asm!(
            "tlbi vmalle1",
            "ic iallu",
            "dsb nsh",
            options(nostack, preserves_flags)
        )
    };
    isb();
    write!(VTTBR_EL2, old);
    write!(HCR_EL2, hcr);
    isb();
}
