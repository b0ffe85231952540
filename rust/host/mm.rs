// SPDX-License-Identifier: GPL-2.0

//! The VMM's address space, whose memory is the guest's: what [`kernel::mm`] has not got. See also
//! [`super::gup`] and [`super::mmu_notifier`].
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h) and
//! [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h)
//!
//! # Examples
//!
//! ```
//! let mm = mm::current()?;
//! mm::check_memory(region.address, region.size, logs, cacheable)?;
//! // Later, in an ioctl: another process may have the file.
//! if !mm::is_current(&mm) {
//!     return Err(EIO);
//! }
//! ```

use super::mmap_lock::MmapRead;
use super::{ffi, gup};
use kernel::bindings;
use kernel::mm::virt::VmaRef;
use kernel::mm::{Mm, MmWithUser};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

/// Returns the current process's address space: it stays allocated, but may end.
///
/// # Errors
///
/// `ESRCH` for a kernel thread, which has none.
pub(crate) fn current() -> Result<ARef<Mm>> {
    let task = kernel::current!();
    let mm: &MmWithUser = task.mm().ok_or(ESRCH)?;
    let mm: &Mm = mm;
    Ok(mm.into())
}

/// Returns whether the current thread runs in this address space.
pub(crate) fn is_current(mm: &Mm) -> bool {
    let task = kernel::current!();
    task.mm()
        .is_some_and(|current| core::ptr::eq(current.as_raw(), mm.as_raw()))
}

/// Returns how large a leaf the host maps `address` with: log2 of the bytes; 0 if it maps nothing
/// there right now.
pub(crate) fn leaf_shift(mm: &Mm, address: u64) -> u32 {
    // SAFETY: The root of the tables lives as long as `mm`. Those below it are read with interrupts
    // off, and are unlinked before they are freed, which waits for such readers
    // (MMU_GATHER_RCU_TABLE_FREE), also when the address space ends. Any number is an address: of
    // each index no more bits are used than a table has entries.
    unsafe { ffi::loft_host_leaf_shift(mm.as_raw(), address as usize) }
}

/// Looks whether what the current process has in a range of addresses may be a guest's memory, as
/// far as it is there already: memory without counted pages cannot be logged, and may be cacheable
/// only if `cacheable`. With `logs` the memory has a log of what is written.
///
/// # Errors
///
/// `EINVAL` if it may not; `EINTR` if the process is killed meanwhile.
pub(crate) fn check_memory(address: u64, size: u64, logs: bool, cacheable: bool) -> Result {
    let task = kernel::current!();
    let mm = task.mm().ok_or(EINVAL)?;
    let lock = MmapRead::lock(mm)?;
    let (mut at, end) = (address as usize, address.saturating_add(size) as usize);
    while at < end {
        // SAFETY: The lock is held, and any addresses may be asked about.
        let vma = unsafe { bindings::find_vma_intersection(mm.as_raw(), at, end) };
        if vma.is_null() {
            break;
        }
        // SAFETY: It was found under the lock, which is held until after its last use.
        let vma = unsafe { VmaRef::from_raw(vma) };
        let is_counted = vma.flags() & bindings::VM_PFNMAP == 0;
        if !is_counted && (logs || !cacheable && gup::Kind::of(vma) == gup::Kind::Cached) {
            return Err(EINVAL);
        }
        at = vma.end();
    }
    drop(lock);
    Ok(())
}

/// Returns whether all of a range of addresses is userspace's, and its start has no tag.
///
/// The notifications about changes have no tags: a slot with one would never hear of them.
pub(crate) fn is_user_range(address: u64, size: u64) -> bool {
    // SAFETY: Both only compute with numbers.
    unsafe {
        ffi::loft_untagged_addr(address as usize) == address as usize
            && ffi::loft_access_ok(address as usize, size as usize)
    }
}
