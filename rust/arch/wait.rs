// SPDX-License-Identifier: GPL-2.0

//! Waiting at EL2 for an interrupt, with a guest in the CPU.

use super::cpu::features;

/// Waits until an interrupt is pending for this CPU, and with FEAT_WFxT for no longer than `ticks`
/// of its counter; in a fast exit. May return earlier, for no reason.
///
/// A pending physical interrupt ends a WFI whether PSTATE masks it or not (DDI 0487, "Wait for
/// Interrupt mechanism"), so nothing that comes between the last look at what there is to do and
/// the instruction is slept over. Virtual interrupts are none at EL2: who has one for the guest
/// sends an SGI. With HCR_EL2.E2H the counter that WFIT compares with has no offset at EL2
/// (CNTVCT_EL0).
pub(crate) fn for_interrupt(ticks: u64) {
    if features().wfxt {
        let until = read_sysreg!(CNTVCT_EL0).wrapping_add(ticks);
        // SAFETY: The barrier completes what the guest and this CPU have stored, for whoever is to
        // send the interrupt; waiting changes no register.
        unsafe {
            core::arch::asm!(
                "dsb sy",
                // wfit x0; the assembler of the oldest supported toolchain does not have it.
                ".inst 0xd5031020",
                in("x0") until,
                options(nostack, preserves_flags)
            )
        };
    } else {
        // SAFETY: As above.
        unsafe { core::arch::asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
    }
}
