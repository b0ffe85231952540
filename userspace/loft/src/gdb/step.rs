// SPDX-License-Identifier: Apache-2.0
//! Which instructions can be stepped with interrupts masked, without the guest's noticing.

/// PSTATE.I and PSTATE.F (Arm ARM, C5.2.20).
pub const MASKS: u64 = 1 << 7 | 1 << 6;

/// Whether `instruction` reads or writes PSTATE.DAIF, or makes an exception: it is stepped with the
/// masks as they are.
pub fn looks_at_masks(instruction: u32) -> bool {
    // SVC, HVC, SMC, BRK, HLT: exception generation (Arm ARM, C4.1.66).
    instruction >> 24 == 0xd4
        // ERET, ERETAA, ERETAB.
        || matches!(instruction, 0xd69f_03e0 | 0xd69f_0bff | 0xd69f_0fff)
        // MSR DAIFSet, #imm and MSR DAIFClr, #imm.
        || instruction & 0xffff_f0df == 0xd503_40df
        // MSR DAIF, Xt and MRS Xt, DAIF.
        || instruction & 0xffdf_ffe0 == 0xd51b_4220
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_at_the_masks() {
        let all = [
            (0xd400_0001, "svc #0"),
            (0xd400_0002, "hvc #0"),
            (0xd421_0000, "brk #0x800"),
            (0xd69f_03e0, "eret"),
            (0xd503_42df, "msr daifset, #2"),
            (0xd503_42ff, "msr daifclr, #2"),
            (0xd51b_4220, "msr daif, x0"),
            (0xd53b_4233, "mrs x19, daif"),
        ];
        for (instruction, text) in all {
            assert!(looks_at_masks(instruction), "{text}");
        }
    }

    #[test]
    fn what_does_not() {
        let all = [
            (0xd503_201f, "nop"),
            (0xd503_233f, "paciasp"),
            (0xd503_245f, "bti c"),
            (0xd503_207f, "wfi"),
            (0xd503_3fdf, "isb"),
            (0xd65f_03c0, "ret"),
            (0xd53b_4200, "mrs x0, nzcv"),
            (0xd518_1000, "msr sctlr_el1, x0"),
            (0xd503_409f, "msr pan, #0"),
            (0xa9bf_7bfd, "stp x29, x30, [sp, #-16]!"),
            (0xf940_0020, "ldr x0, [x1]"),
        ];
        for (instruction, text) in all {
            assert!(!looks_at_masks(instruction), "{text}");
        }
    }
}
