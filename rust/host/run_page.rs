// SPDX-License-Identifier: GPL-2.0

//! `struct kvm_run`: the page that a vCPU shares with its VMM.
//!
//! C header: [`include/uapi/linux/kvm.h`](srctree/include/uapi/linux/kvm.h)
//!
//! # Examples
//!
//! ```
//! let page = RunPage::new()?;
//! page.write(offset_of!(kvm_run, exit_reason), KVM_EXIT_MMIO);
//! // Userspace may have written anything there by now.
//! let immediate_exit: u8 = page.read(offset_of!(kvm_run, immediate_exit__unsafe));
//! ```

use super::ffi::kvm_run;
use kernel::mm::virt::VmaNew;
use kernel::page::{Page, PAGE_SIZE};
use kernel::prelude::*;

/// The page with a `struct kvm_run` at its start, which userspace maps and may write at any time.
///
/// So each access is one volatile access, and nothing read from here is believed without a check.
///
/// # Invariants
///
/// `base` is the address of `page`.
pub(crate) struct RunPage {
    page: Page,
    base: usize,
}

const _: () = assert!(size_of::<kvm_run>() <= PAGE_SIZE);

impl RunPage {
    /// Makes a page of zeroes. Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let page = Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO)?;
        // SAFETY: The page is allocated without highmem, so it has an address for as long as it
        // lives.
        let base = unsafe { super::page::address_of(page.as_ptr()) }.expose_provenance();
        // INVARIANT: By the line above.
        Ok(Self { page, base })
    }

    /// Maps the page at the first address of `vma`; offset 0 and the size of one page are all there
    /// is to map, else `EINVAL`.
    pub(crate) fn mmap(&self, vma: &VmaNew) -> Result {
        // SAFETY: `vma` is a valid area that nobody else has yet; its offset is plain data, set
        // before this is called.
        let offset = unsafe { (*vma.as_ptr()).vm_pgoff };
        if offset != 0 || vma.end() - vma.start() > PAGE_SIZE {
            return Err(EINVAL);
        }
        vma.set_dontexpand();
        let mixed = vma.set_mixedmap();
        mixed.vm_insert_page(vma.start(), &self.page)
    }

    /// Writes `value` at the byte `offset` of `struct kvm_run`.
    pub(crate) fn write<T: Copy>(&self, offset: usize, value: T) {
        self.at(offset, |field: *mut T| {
            // SAFETY: `at` gives a valid place for a `T`.
            unsafe { field.write_volatile(value) }
        });
    }

    /// Reads the `T` at the byte `offset` of `struct kvm_run`.
    pub(crate) fn read<T: Copy + kernel::transmute::FromBytes>(&self, offset: usize) -> T {
        // SAFETY: `at` gives a valid place for a `T`, and a `T` may have any bit pattern.
        self.at(offset, |field: *mut T| unsafe { field.read_volatile() })
    }

    /// Runs `access` with the place of the `T` at `offset`.
    fn at<T, R>(&self, offset: usize, access: impl FnOnce(*mut T) -> R) -> R {
        // The offsets are constants, so this is settled at compile time.
        let offset = if offset + size_of::<T>() <= PAGE_SIZE && offset % align_of::<T>() == 0 {
            offset
        } else {
            0
        };
        let base = core::ptr::with_exposed_provenance_mut::<u8>(self.base);
        // SAFETY: By the invariant this is the page; inside it and aligned, by the lines above.
        access(unsafe { base.add(offset) }.cast::<T>())
    }
}
