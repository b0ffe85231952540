// SPDX-License-Identifier: GPL-2.0

//! Cache maintenance for memory that a guest is given.

use super::cpu::features;
use crate::host::page::linear;
use crate::model::sysreg::regs::CTR_EL0;
use crate::model::types::HostPa;
use core::arch::asm;

/// Returns the size in bytes of the smallest line of any data cache. Not only of this CPU's:
/// maintenance by address reaches the caches of all, and longer strides would leave out lines of
/// those whose lines are shorter.
fn data_line() -> usize {
    // Log2 of the number of 4-byte words.
    4usize << CTR_EL0::DminLine.get(features().ctr)
}

/// Executes a data cache operation by address, `dc $operation, $at`. It changes no data. Where
/// nothing is mapped it does nothing: the fault is passed over, by an exception table entry of the
/// type EX_TYPE_KACCESS_ERR_ZERO that writes no registers (C header:
/// `arch/arm64/include/asm/asm-extable.h`).
macro_rules! dc {
    ($operation:literal, $at:expr) => {
        // SAFETY: As the macro's documentation says.
        unsafe {
            asm!(
                concat!("2: dc ", $operation, ", {}"),
                "3:",
                ".pushsection __ex_table, \"a\"",
                ".balign 4",
                ".long 2b - .",
                ".long 3b - .",
                ".short 3",
                ".short 31 << 5 | 31",
                ".popsection",
                in(reg) $at,
                options(nostack, preserves_flags)
            )
        }
    };
}

/// Cleans and invalidates the data cache to the point of coherency for `size` bytes of RAM from
/// `pa` on, so that a guest whose caches are off sees what the host wrote there (DDI 0487, D7.5.9).
pub(crate) fn clean_invalidate_to_poc(pa: HostPa, size: u64) {
    let line = data_line();
    let address = linear(pa);
    let end = address.wrapping_add(size as usize);
    // Erratum 4311569 (SI L1): the first may be answered before the data is where it is to go; the
    // second is not.
    for _ in 0..=u32::from(features().repeat_cleaning) {
        let mut at = address & !(line - 1);
        while at < end {
            dc!("civac", at);
            at = at.wrapping_add(line);
        }
    }
    // SAFETY: A barrier: the maintenance is complete before the guest is let at the page.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Makes `size` bytes of RAM from `pa` on visible to instruction fetches: the guest may execute
/// from there through another address than the host wrote through.
pub(crate) fn sync_instructions(pa: HostPa, size: u64) {
    // What one CPU need not do, another may have to: the guest runs on all.
    let ctr = features().ctr;
    if CTR_EL0::IDC.get(ctr) == 0 {
        let line = data_line();
        let address = linear(pa);
        let end = address.wrapping_add(size as usize);
        let mut at = address & !(line - 1);
        while at < end {
            dc!("cvau", at);
            at = at.wrapping_add(line);
        }
    }
    // SAFETY: Barriers and instruction cache invalidation lose no data. All of the instruction
    // cache, since a VIPT or aliasing one may hold the page under the guest's virtual addresses
    // (DDI 0487, D7.5.5).
    unsafe {
        asm!("dsb ish", options(nostack, preserves_flags));
        if CTR_EL0::DIC.get(ctr) == 0 {
            asm!("ic ialluis", "dsb ish", options(nostack, preserves_flags));
        }
        asm!("isb", options(nostack, preserves_flags));
    }
}
