// SPDX-License-Identifier: GPL-2.0

//! The VMM's address space, whose memory is the guest's. See also [`super::gup`] and
//! [`super::mmu_notifier`].
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::ffi;
use kernel::bindings;
use kernel::prelude::*;

/// An address space that stays allocated, not necessarily in use.
pub(crate) struct AddressSpace(pub(super) *mut bindings::mm_struct);

// SAFETY: A counted reference, usable from any thread.
unsafe impl Send for AddressSpace {}
// SAFETY: What a `&AddressSpace` gives access to may be read by any thread.
unsafe impl Sync for AddressSpace {}

impl AddressSpace {
    /// The current process's; `ESRCH` for a kernel thread.
    pub(crate) fn current() -> Result<Self> {
        // SAFETY: The current task's address space cannot go while it runs.
        let mm = unsafe { ffi::loft_current_mm() };
        if mm.is_null() {
            return Err(ESRCH);
        }
        // SAFETY: It is the current task's, which holds a reference; `drop` drops the one taken here.
        unsafe { ffi::loft_mmgrab(mm) };
        Ok(Self(mm))
    }

    /// Whether the current thread runs in this address space.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: Reads one word of the current task.
        core::ptr::eq(unsafe { ffi::loft_current_mm() }, self.0)
    }

    /// Returns how large a leaf the host maps `address` with: log2 of the bytes; 0 if it maps nothing there right now.
    pub(crate) fn leaf_shift(&self, address: u64) -> u32 {
        // SAFETY: The root of the tables lives as long as this reference. Those below it are read with interrupts off, and
        // are unlinked before they are freed, which waits for such readers (MMU_GATHER_RCU_TABLE_FREE), also when the
        // address space ends. Any number is an address: of each index no more bits are used than a table has entries.
        unsafe { ffi::loft_host_leaf_shift(self.0, address as usize) }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // SAFETY: Gives back the reference that `current` took.
        unsafe { ffi::loft_mmdrop(self.0) };
    }
}

/// Whether what the current process has in a range of addresses may be a guest's memory, as far as it is there already; `logs`:
/// with a log of what is written; `cacheable` as in [`super::gup::HostPage::get`]. `EINVAL`: it may not.
pub(crate) fn check_memory(address: u64, size: u64, logs: bool, cacheable: bool) -> Result {
    // SAFETY: In process context, without locks; any addresses may be asked about.
    kernel::error::to_result(unsafe {
        ffi::loft_check_memory(address as usize, size as usize, logs, cacheable)
    })
}

/// Whether all of a range of addresses is userspace's, and its start has no tag.
pub(crate) fn is_user_range(address: u64, size: u64) -> bool {
    // SAFETY: Compares numbers.
    unsafe { ffi::loft_access_ok(address as usize, size as usize) }
}
