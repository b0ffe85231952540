// SPDX-License-Identifier: GPL-2.0

//! Finding the pages behind the current process's addresses.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! # Examples
//!
//! ```
//! let page = HostPage::get(address, write, false)?;
//! let lock = tables.read();
//! // Nobody has taken the page back meanwhile, or will before the lock is let go.
//! if !changes.have_been_since(seen) {
//!     map(page.pa(), page.mem(), page.writable());
//!     page.set_dirty();
//! }
//! ```

use super::ffi;
use super::mmap_lock::MmapRead;
use crate::model::stage2::MemType;
use crate::model::types::HostPa;
use kernel::bindings;
use kernel::error::to_result;
use kernel::mm::virt::VmaRef;
use kernel::prelude::*;

/// A counted reference to a page of RAM.
///
/// # Invariants
///
/// The reference is this one's to give back.
struct Reference(*mut bindings::page);

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { ffi::loft_put_page(self.0) };
    }
}

/// How the host maps memory without counted pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it maps RAM.
    Cached,
    /// Uncached, and its driver says that other uncached types are as good.
    Uncached,
    /// As a device's registers.
    Device,
}

impl Kind {
    /// Returns what stage 1 says of the memory in `vma`, and what its driver says.
    pub(super) fn of(vma: &VmaRef) -> Self {
        // SAFETY: A `VmaRef` is there only while the area may be read.
        let prot = unsafe { (*vma.as_ptr()).vm_page_prot.pgprot };
        let index =
            (prot & ffi::LOFT_PTE_ATTRINDX_MASK) >> ffi::LOFT_PTE_ATTRINDX_MASK.trailing_zeros();
        match index as u32 {
            bindings::MT_NORMAL_NC | bindings::MT_DEVICE_nGnRnE | bindings::MT_DEVICE_nGnRE => {
                if vma.flags() & ffi::LOFT_VM_ALLOW_ANY_UNCACHED as usize != 0 {
                    Self::Uncached
                } else {
                    Self::Device
                }
            }
            _ => Self::Cached,
        }
    }
}

/// What is behind an address of the current process's.
///
/// A page of RAM is referenced. Other memory (VM_PFNMAP: a device's, or what its owner does not let
/// be counted) is the process's only until the next change of the mapping, of which
/// [`MmuNotifier`](super::mmu_notifier::MmuNotifier)s are told: nothing but mapping it, under the
/// lock that they take, may be done with it.
pub(crate) struct HostPage {
    pa: HostPa,
    writable: bool,
    mem: MemType,
    reference: Option<Reference>,
}

impl HostPage {
    /// Finds what is at `address`, faulted in; for writing if `write`. With `cacheable` also
    /// cacheable memory that is no RAM. May sleep.
    ///
    /// It takes a reference, and no pin: for as long as the caller needs to map the page.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is nothing, `EHWPOISON` if the memory is broken, `EAGAIN` if the mapping
    /// is changing.
    pub(crate) fn get(address: u64, write: bool, cacheable: bool) -> Result<Self> {
        let mut page = core::ptr::null_mut();
        let at = address as usize;
        // Whoever reads gets it writable where that costs nothing, so that the guest's first write
        // does not fault again.
        // SAFETY: There is room for the one page that is asked for.
        let fast =
            unsafe { bindings::get_user_pages_fast_only(at, 1, bindings::FOLL_WRITE, &mut page) };
        let mut writable = true;
        if fast != 1 {
            writable = write;
            let flags = bindings::FOLL_HWPOISON | if write { bindings::FOLL_WRITE } else { 0 };
            // SAFETY: There is room for the one page that is asked for.
            let got = unsafe { bindings::get_user_pages_unlocked(at, 1, &mut page, flags) };
            match to_result(got as i32) {
                Ok(()) if got == 1 => {}
                // EEXIST: what is there is no page that is counted.
                Err(error) if error != EFAULT && error != EEXIST => return Err(error),
                _ => return Self::follow(address, write, cacheable),
            }
        }
        Ok(Self {
            // SAFETY: The page is referenced.
            pa: HostPa::new(unsafe { ffi::loft_page_to_phys(page) }),
            writable,
            mem: MemType::Normal,
            // INVARIANT: Either function took it for its caller.
            reference: Some(Reference(page)),
        })
    }

    /// Finds what is at `address` where the mapping has no pages that could be counted.
    fn follow(address: u64, write: bool, cacheable: bool) -> Result<Self> {
        let task = kernel::current!();
        let mm = task.mm().ok_or(EFAULT)?;
        let lock = MmapRead::lock(mm)?;
        let vma = lock.vma_lookup(address as usize).ok_or(EFAULT)?;
        let flags = vma.flags();
        if flags & (bindings::VM_IO | bindings::VM_PFNMAP) == 0 || flags & bindings::VM_READ == 0 {
            return Err(EFAULT);
        }
        let mut args = bindings::follow_pfnmap_args {
            vma: vma.as_ptr(),
            address: address as usize,
            ..Default::default()
        };
        // SAFETY: The area is the address's, and its address space is locked.
        if unsafe { bindings::follow_pfnmap_start(&mut args) } != 0 {
            let mut unlocked = false;
            let flags = if write {
                bindings::fault_flag_FAULT_FLAG_WRITE
            } else {
                0
            };
            // SAFETY: The address space is in use, and locked, now and after the call.
            to_result(unsafe {
                bindings::fixup_user_fault(mm.as_raw(), address as usize, flags, &mut unlocked)
            })?;
            if unlocked {
                // The mapping may be another one by now.
                return Err(EAGAIN);
            }
            // SAFETY: As the call above: the lock has been held all the time.
            to_result(unsafe { bindings::follow_pfnmap_start(&mut args) }).map_err(|_| EFAULT)?;
        }
        let (pfn, writable) = (args.pfn as u64, args.writable);
        // SAFETY: Any number may be asked about.
        let is_ram = unsafe { bindings::pfn_is_map_memory(args.pfn) } != 0;
        let kind = Kind::of(vma);
        // SAFETY: It has been started above.
        unsafe { bindings::follow_pfnmap_end(&mut args) };
        if write && !writable {
            return Err(EFAULT);
        }
        let mem = match kind {
            _ if is_ram => MemType::Normal,
            Kind::Cached if cacheable => MemType::Normal,
            Kind::Cached => return Err(EFAULT),
            Kind::Uncached => MemType::NormalNc,
            Kind::Device => MemType::Device,
        };
        let offset = address % super::page::PAGE_SIZE;
        Ok(Self {
            pa: HostPa::new(pfn * super::page::PAGE_SIZE + offset),
            writable,
            mem,
            reference: None,
        })
    }

    /// Returns whether the process could write it at the time.
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    /// Returns its physical address.
    pub(crate) fn pa(&self) -> HostPa {
        self.pa
    }

    /// Returns how a guest has to reach it.
    pub(crate) fn mem(&self) -> MemType {
        self.mem
    }

    /// Returns whether it is a page of RAM that is referenced.
    pub(crate) fn is_counted(&self) -> bool {
        self.reference.is_some()
    }

    /// Tells the host that the guest may have written it.
    pub(crate) fn set_dirty(&self) {
        if let Some(reference) = &self.reference {
            // SAFETY: The page is referenced.
            unsafe { bindings::set_page_dirty(reference.0) };
        }
    }
}
