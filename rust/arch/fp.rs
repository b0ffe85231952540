// SPDX-License-Identifier: GPL-2.0

//! The guest's FP/SIMD registers.

use super::cpu::features;
use crate::host::fpsimd::FpOwned;
use core::arch::asm;

/// V0 to V31, FPSR and FPCR, and FPMR where the CPU has it.
#[repr(C, align(16))]
#[derive(Clone)]
pub(crate) struct Fp {
    pub(crate) v: [u128; 32],
    pub(crate) fpsr: u64,
    pub(crate) fpcr: u64,
    pub(crate) fpmr: u64,
    /// They are in the CPU, and stale here.
    loaded: bool,
}

impl Fp {
    pub(crate) const fn new() -> Self {
        Self {
            v: [0; 32],
            fpsr: 0,
            fpcr: 0,
            fpmr: 0,
            loaded: false,
        }
    }

    /// Returns whether the registers are in the CPU. The guest's accesses to them trap otherwise.
    #[inline]
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns whether the guest may run: its registers are here, or its accesses to them can be
    /// trapped. They cannot be in streaming mode, or with the matrix storage on (SVCR.SM and ZA),
    /// whichever program of the host's has left that behind.
    #[inline]
    pub(crate) fn may_run(&self) -> bool {
        self.loaded || !features().sme || read_sysreg!(SVCR) == 0
    }

    /// Puts them into the CPU.
    pub(crate) fn load(&mut self, _fp: FpOwned<'_>) {
        self.loaded = true;
        if features().fpmr {
            write_sysreg!(FPMR, self.fpmr);
        }
        // SAFETY: Reads 512 bytes of `self`. The registers are not the compiler's: the kernel is
        // built without FP.
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "ldp q0, q1, [{p}]", "ldp q2, q3, [{p}, #32]", "ldp q4, q5, [{p}, #64]", "ldp q6, q7, [{p}, #96]",
                "ldp q8, q9, [{p}, #128]", "ldp q10, q11, [{p}, #160]", "ldp q12, q13, [{p}, #192]",
                "ldp q14, q15, [{p}, #224]", "ldp q16, q17, [{p}, #256]", "ldp q18, q19, [{p}, #288]",
                "ldp q20, q21, [{p}, #320]", "ldp q22, q23, [{p}, #352]", "ldp q24, q25, [{p}, #384]",
                "ldp q26, q27, [{p}, #416]", "ldp q28, q29, [{p}, #448]", "ldp q30, q31, [{p}, #480]",
                "msr fpsr, {s}", "msr fpcr, {c}",
                p = in(reg) self.v.as_ptr(), s = in(reg) self.fpsr, c = in(reg) self.fpcr,
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    /// Takes them from the CPU.
    pub(crate) fn save(&mut self, _fp: FpOwned<'_>) {
        let (s, c): (u64, u64);
        // SAFETY: Writes 512 bytes of `self`.
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "stp q0, q1, [{p}]", "stp q2, q3, [{p}, #32]", "stp q4, q5, [{p}, #64]", "stp q6, q7, [{p}, #96]",
                "stp q8, q9, [{p}, #128]", "stp q10, q11, [{p}, #160]", "stp q12, q13, [{p}, #192]",
                "stp q14, q15, [{p}, #224]", "stp q16, q17, [{p}, #256]", "stp q18, q19, [{p}, #288]",
                "stp q20, q21, [{p}, #320]", "stp q22, q23, [{p}, #352]", "stp q24, q25, [{p}, #384]",
                "stp q26, q27, [{p}, #416]", "stp q28, q29, [{p}, #448]", "stp q30, q31, [{p}, #480]",
                "mrs {s}, fpsr", "mrs {c}, fpcr",
                p = in(reg) self.v.as_mut_ptr(), s = out(reg) s, c = out(reg) c,
                options(nostack, preserves_flags),
            );
        }
        if features().fpmr {
            self.fpmr = read_sysreg!(FPMR);
        }
        self.fpsr = s;
        self.fpcr = c;
        self.loaded = false;
    }
}
