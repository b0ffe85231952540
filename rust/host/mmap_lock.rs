// SPDX-License-Identifier: GPL-2.0

//! The lock of an address space's areas, for those who may be killed while they wait.
//!
//! C header: [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h)
//!
//! # Examples
//!
//! ```
//! let areas = MmapRead::lock(mm)?;
//! let may_write = areas
//!     .vma_lookup(address)
//!     .is_some_and(|vma| vma.flags() & flags::WRITE != 0);
//! drop(areas);
//! ```

use super::ffi;
use core::marker::PhantomData;
use kernel::bindings;
use kernel::error::to_result;
use kernel::mm::virt::VmaRef;
use kernel::mm::MmWithUser;
use kernel::prelude::*;

/// The areas of an address space, which nobody changes while this lives. The wait for them ends
/// when the process is killed, unlike that of [`MmWithUser::mmap_read_lock`].
///
/// # Invariants
///
/// The current thread holds the lock, for reading.
pub(super) struct MmapRead<'a> {
    mm: &'a MmWithUser,
    _not_send: PhantomData<*mut ()>,
}

impl<'a> MmapRead<'a> {
    /// Takes the lock. May sleep.
    ///
    /// # Errors
    ///
    /// `EINTR` if the process is killed meanwhile.
    pub(super) fn lock(mm: &'a MmWithUser) -> Result<Self> {
        // SAFETY: The address space is in use.
        to_result(unsafe { ffi::loft_mmap_read_lock_killable(mm.as_raw()) })?;
        // INVARIANT: It has been taken.
        Ok(Self {
            mm,
            _not_send: PhantomData,
        })
    }

    /// Returns the area that `address` is in.
    pub(super) fn vma_lookup(&self, address: usize) -> Option<&VmaRef> {
        // SAFETY: The lock is held, by the invariant, and any address may be looked up.
        let vma = unsafe { bindings::vma_lookup(self.mm.as_raw(), address) };
        if vma.is_null() {
            return None;
        }
        // SAFETY: It stays as long as the lock is held, which the lifetime is not longer than.
        Some(unsafe { VmaRef::from_raw(vma) })
    }
}

impl Drop for MmapRead<'_> {
    fn drop(&mut self) {
        // SAFETY: The lock is held, by the invariant.
        unsafe { bindings::mmap_read_unlock(self.mm.as_raw()) };
    }
}
