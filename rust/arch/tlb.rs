// SPDX-License-Identifier: GPL-2.0

//! Stage-2 TLB maintenance.
//!
//! TLBI IPAS2E1IS and VMALLE1IS work on the VMID in VTTBR_EL2, of which VTCR_EL2.VS says how many
//! bits count, and only with HCR_EL2.TGE = 0: with TGE = 1 the second would be about the host's
//! EL2&0 regime (DDI 0487, D8.17). So the guest's translation and TGE = 0 are in place around them,
//! with interrupts off, since the host's own TLBIs must not run in between. VTCR_EL2 cannot be
//! taken for granted: a CPU that has not run a guest has whatever it had out of reset. Each change
//! is synchronised by an ISB before the first TLBI that depends on it; the DSB before makes the
//! descriptor's change visible to the walkers, the one after waits for all CPUs to be done with the
//! old one.

use super::cpu::features;
use super::{dsb_ish, dsb_ishst, isb, write_hcr};
use crate::host::irqflags;
use crate::host::page::Tables;
use crate::model::stage2::{Geometry, Granule};
use crate::model::sysreg::regs::*;
use core::arch::asm;

/// What makes the CPU translate for one guest: the tables, and the VMID under which their entries
/// are in the TLBs.
///
/// Opaque: it is made of tables that exist, and only its VMID can be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuestTranslation {
    vttbr: u64,
    vtcr: u64,
}

impl GuestTranslation {
    /// Returns the translation by `tables`, which are of this geometry, under VMID 0.
    pub(crate) fn new(tables: &Tables, geometry: &Geometry) -> Self {
        let granule = match geometry.granule() {
            Granule::K4 => VTCR_EL2::TG0_4K,
            Granule::K16 => VTCR_EL2::TG0_16K,
            Granule::K64 => VTCR_EL2::TG0_64K,
        };
        let vmid_size = match features().vmid_bits {
            16 => VTCR_EL2::VS_16BIT,
            _ => VTCR_EL2::VS_8BIT,
        };
        Self {
            vttbr: tables.root_addr().pa().raw(),
            vtcr: VTCR_EL2::RES1
                | VTCR_EL2::T0SZ.of(geometry.t0sz().into())
                | VTCR_EL2::SL0.of(geometry.sl0().into())
                | VTCR_EL2::PS.of(geometry.ps().into())
                | VTCR_EL2::TG0.of(granule)
                | VTCR_EL2::SH0.of(VTCR_EL2::SH0_INNER)
                | VTCR_EL2::ORGN0.of(VTCR_EL2::ORGN0_WBWA)
                | VTCR_EL2::IRGN0.of(VTCR_EL2::IRGN0_WBWA)
                | VTCR_EL2::VS.of(vmid_size),
        }
    }

    /// Returns the same translation under another VMID.
    pub(crate) fn with_vmid(self, vmid: u64) -> Self {
        let root = self.vttbr & !VTTBR_EL2::VMID.mask();
        Self {
            vttbr: VTTBR_EL2::VMID.of(vmid) | root,
            ..self
        }
    }

    /// Puts it into this CPU. The caller synchronises.
    pub(super) fn set(self) {
        write_sysreg!(VTTBR_EL2, self.vttbr);
        write_sysreg!(VTCR_EL2, self.vtcr);
    }

    /// Puts it into this CPU again, if somebody has put another one there: KVM's TLB maintenance
    /// does, which any thread may run into, and does not put back what it finds.
    #[inline(always)]
    pub(super) fn set_again(self) {
        if read_sysreg!(VTTBR_EL2) != self.vttbr {
            self.set();
            isb();
        }
    }
}

/// Runs `body` with this guest's translation in the CPU, so that TLBIs are about it, and interrupts
/// off.
fn with_guest(guest: GuestTranslation, body: impl FnOnce() + Send) {
    irqflags::with_disabled(|_| {
        let hcr = read_sysreg!(HCR_EL2);
        let old = GuestTranslation {
            vttbr: read_sysreg!(VTTBR_EL2),
            vtcr: read_sysreg!(VTCR_EL2),
        };
        dsb_ishst();
        // Erratum 1165522 (and 1530923): a speculative AT may use the EL1&0 regime as soon as TGE
        // is 0, and must not find stage-1 tables that belong to another guest. Walks are off (EPD),
        // and stage 1 is on, so that nothing is taken for an IPA without one.
        let stage1 = features()
            .speculative_at
            .then(|| (read_sysreg_el12!(TCR_EL1), read_sysreg_el12!(SCTLR_EL1)));
        if let Some((tcr, sctlr)) = stage1 {
            write_sysreg_el12!(TCR_EL1, tcr | TCR_EL1::EPD0.mask() | TCR_EL1::EPD1.mask());
            write_sysreg_el12!(SCTLR_EL1, sctlr | SCTLR_EL1::M.mask());
        }
        guest.set();
        isb();
        write_hcr(hcr & !HCR_EL2::TGE.mask());
        body();
        write_hcr(hcr);
        old.set();
        if let Some((tcr, sctlr)) = stage1 {
            isb();
            write_sysreg_el12!(TCR_EL1, tcr);
            write_sysreg_el12!(SCTLR_EL1, sctlr);
        }
        isb();
    });
}

/// Waits until all CPUs are done with what was invalidated.
fn complete() {
    dsb_ish();
    if features().repeat_tlbi {
        // Errata 4118414, 2441009 and their like (ARM64_WORKAROUND_REPEAT_TLBI): the first DSB may
        // be done before accesses under the old translation are. Any broadcast TLBI and another DSB
        // mend that.
        // SAFETY: Invalidating translations changes no data.
        unsafe { asm!("tlbi vale2is, xzr", options(nostack, preserves_flags)) };
        dsb_ish();
    }
}

/// Invalidates all translations of the guest, of both stages, on all CPUs.
pub(crate) fn flush_all(guest: GuestTranslation) {
    with_guest(guest, || {
        // SAFETY: Invalidating translations changes no data.
        unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
        complete();
    });
}

/// Invalidates the stage-2 translations of `count` granules of `1 << shift` bytes from `ipa` on,
/// and, since those may be cached combined with stage 1, all stage-1 ones of the guest (there is no
/// way to name them by IPA).
pub(crate) fn flush_ipas(guest: GuestTranslation, ipa: u64, count: u64, shift: u32) {
    with_guest(guest, || {
        let mut at = ipa;
        for _ in 0..count {
            // Whatever the granule, the operand is the address in units of 4 KiB.
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
        complete();
    });
}

/// Invalidates the translations of all guests, on all CPUs: before VMIDs are handed out anew.
pub(crate) fn flush_all_guests() {
    dsb_ishst();
    // SAFETY: As above. ALLE1IS does not depend on VTTBR_EL2 or TGE.
    unsafe { asm!("tlbi alle1is", options(nostack, preserves_flags)) };
    complete();
    isb();
}

/// Invalidates the stage-1 translations of this guest on this CPU only: another vCPU of the same VM
/// has run here, and the two may use the same ASID for different address spaces (a guest's TLBI
/// without IS reaches one vCPU only).
pub(crate) fn flush_local_stage1(guest: GuestTranslation) {
    with_guest(guest, || {
        // SAFETY: As above. The I-cache goes too: with VPIPT or VIPT ones it may hold another
        // vCPU's lines.
        unsafe {
            asm!(
                "tlbi vmalle1",
                "ic iallu",
                "dsb nsh",
                "isb",
                options(nostack, preserves_flags)
            )
        };
    });
}

/// Invalidates all translations under this guest's VMID, of both stages, on this CPU only: another
/// VM with the same VMID has run here.
pub(crate) fn flush_local(guest: GuestTranslation) {
    with_guest(guest, || {
        // SAFETY: As above. The I-cache goes too: one that is VPIPT has the VMID in its tags.
        unsafe {
            asm!(
                "tlbi vmalls12e1",
                "ic iallu",
                "dsb nsh",
                "isb",
                options(nostack, preserves_flags)
            )
        };
    });
}

/// Invalidates the instruction caches of all CPUs.
pub(crate) fn flush_instructions() {
    // SAFETY: Invalidating instruction caches changes no data.
    unsafe {
        asm!(
            "ic ialluis",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}
