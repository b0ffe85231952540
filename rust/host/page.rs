// SPDX-License-Identifier: GPL-2.0

//! Pages of the host's memory that hardware reads: translation tables.

use super::ffi;
use crate::model::stage2::{Slot, Table, PAGE_SIZE};
use crate::model::types::HostPa;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::prelude::*;

/// The kernel's address of a page.
///
/// # Safety
///
/// `page` is allocated and not highmem; arm64 has none.
pub(crate) unsafe fn address_of(page: *mut kernel::bindings::page) -> *mut u8 {
    // SAFETY: By the requirement the page is in the linear map.
    unsafe { ffi::loft_phys_to_virt(ffi::loft_page_to_phys(page)).cast() }
}

/// Allocates a block of zeroed, naturally aligned pages for tables, charged to the current process.
pub(crate) fn alloc_tables(bytes: u64) -> Result<Table> {
    let order = (bytes.max(PAGE_SIZE) / PAGE_SIZE)
        .next_power_of_two()
        .trailing_zeros();
    let flags = kernel::bindings::GFP_KERNEL_ACCOUNT | kernel::bindings::__GFP_ZERO;
    // SAFETY: May sleep: called in process context without spin locks.
    let page = unsafe { kernel::bindings::alloc_pages_noprof(flags, order) };
    if page.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: The page was just allocated.
    let pa = unsafe { ffi::loft_page_to_phys(page) };
    match Table::new(HostPa::new(pa)) {
        Some(table) => Ok(table),
        None => {
            // Memory beyond what stage 2 can address; see `arch::cpu::Features::pa_bits`.
            // SAFETY: Allocated above with this order.
            unsafe { kernel::bindings::__free_pages(page, order) };
            Err(ENOMEM)
        }
    }
}

/// Frees what [`alloc_tables`] gave for the same size. No CPU walks these tables any more.
pub(crate) fn free_tables(table: Table, bytes: u64) {
    let order = (bytes.max(PAGE_SIZE) / PAGE_SIZE)
        .next_power_of_two()
        .trailing_zeros();
    // SAFETY: A `Table` of the stage-2 model stands for pages that `alloc_tables` gave: the model makes none of its own.
    unsafe {
        let page = ffi::loft_virt_to_page(ffi::loft_phys_to_virt(table.pa().raw()));
        kernel::bindings::__free_pages(page, order);
    }
}

/// The descriptor in a table.
pub(crate) fn descriptor<'a>(slot: Slot) -> &'a AtomicU64 {
    // SAFETY: The table is allocated, by the reasoning of `free_tables`, a slot lies within it and is aligned, and all
    // accesses of the kernel's are atomic ones.
    unsafe { &*ffi::loft_phys_to_virt(slot.pa().raw()).cast::<AtomicU64>() }
}

/// Cleans and invalidates memory that a guest is given, see [`crate::arch::cache`].
pub(crate) fn clean_to_poc(pa: HostPa, size: u64) {
    // SAFETY: Called for RAM only, which is in the linear map: on CPUs that need it a guest has no other cacheable memory.
    unsafe {
        crate::arch::cache::clean_invalidate_to_poc(
            ffi::loft_phys_to_virt(pa.raw()) as usize,
            size as usize,
        )
    };
}

/// Lets instruction fetches see what is in memory, see [`crate::arch::cache`].
pub(crate) fn sync_instructions(pa: HostPa, size: u64) {
    // SAFETY: As above.
    unsafe {
        crate::arch::cache::sync_instructions(
            ffi::loft_phys_to_virt(pa.raw()) as usize,
            size as usize,
        )
    };
}

/// Loads with the ordering that a table walk in software needs.
pub(crate) fn load(slot: Slot) -> u64 {
    descriptor(slot).load(Ordering::Acquire)
}

/// A compare-and-exchange on a descriptor.
pub(crate) fn cmpxchg(slot: Slot, old: u64, new: u64) -> Result<(), u64> {
    descriptor(slot)
        .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
        .map(|_| ())
}

/// A store to a descriptor.
pub(crate) fn store(slot: Slot, new: u64) {
    descriptor(slot).store(new, Ordering::Release);
}
