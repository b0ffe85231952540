// SPDX-License-Identifier: GPL-2.0

//! Cache maintenance for memory that a guest is given.

use super::cpu::features;
use crate::model::sysreg::regs::CTR_EL0;
use core::arch::asm;

/// The size of the smallest line of any data cache. Not only of this CPU's: maintenance by address reaches the caches of all, and
/// longer strides would leave out lines of those whose lines are shorter.
fn data_line() -> usize {
    // Log2 of the number of 4-byte words.
    4usize << CTR_EL0::DminLine.get(features().ctr)
}

/// Cleans and invalidates the data cache to the point of coherency for `[address, address + length)`, so that a guest
/// whose caches are off sees what the host wrote there (DDI 0487, D7.5.9).
///
/// # Safety
///
/// The range is mapped in the kernel.
pub(crate) unsafe fn clean_invalidate_to_poc(address: usize, length: usize) {
    let line = data_line();
    let end = address.wrapping_add(length);
    // Erratum 4311569 (SI L1): the first may be answered before the data is where it is to go; the second is not.
    for _ in 0..=u32::from(features().repeat_cleaning) {
        let mut at = address & !(line - 1);
        while at < end {
            // SAFETY: The address is mapped, by the requirement; the operation changes no data.
            unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
            at = at.wrapping_add(line);
        }
    }
    // SAFETY: A barrier: the maintenance is complete before the guest is let at the page.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Makes what is in memory at `[address, address + length)` visible to instruction fetches: the guest may execute from
/// there through another address than the host wrote through.
///
/// # Safety
///
/// The range is mapped in the kernel.
pub(crate) unsafe fn sync_instructions(address: usize, length: usize) {
    // What one CPU need not do, another may have to: the guest runs on all.
    let ctr = features().ctr;
    if CTR_EL0::IDC.get(ctr) == 0 {
        let line = data_line();
        let mut at = address & !(line - 1);
        while at < address.wrapping_add(length) {
            // SAFETY: As above.
            unsafe { asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags)) };
            at = at.wrapping_add(line);
        }
    }
    // SAFETY: Barriers and instruction cache invalidation lose no data. All of the instruction cache, since a VIPT or
    // aliasing one may hold the page under the guest's virtual addresses (DDI 0487, D7.5.5).
    unsafe {
        asm!("dsb ish", options(nostack, preserves_flags));
        if CTR_EL0::DIC.get(ctr) == 0 {
            asm!("ic ialluis", "dsb ish", options(nostack, preserves_flags));
        }
        asm!("isb", options(nostack, preserves_flags));
    }
}
