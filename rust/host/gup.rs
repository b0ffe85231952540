// SPDX-License-Identifier: GPL-2.0

//! Finding the pages behind the current process's addresses.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::ffi;
use crate::model::stage2::MemType;
use crate::model::types::HostPa;
use kernel::bindings;
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

/// What is behind an address of the current process's.
///
/// A page of RAM is referenced. Other memory (VM_PFNMAP: a device's, or what its owner does not let be counted) is the process's
/// only until the next change of the mapping, of which [`MmuNotifier`](super::mmu_notifier::MmuNotifier)s are told: nothing but mapping it, under the lock that they
/// take, may be done with it.
pub(crate) struct HostPage {
    pa: HostPa,
    writable: bool,
    mem: MemType,
    reference: Option<Reference>,
}

impl HostPage {
    /// What is at `address`, faulted in; for writing if `write`. With `cacheable` also cacheable memory that is no RAM.
    ///
    /// Errors: `EFAULT` if there is nothing, `EHWPOISON` if the memory is broken, `EAGAIN` if the mapping is changing.
    pub(crate) fn get(address: u64, write: bool, cacheable: bool) -> Result<Self> {
        let mut page = core::ptr::null_mut();
        let mut writable = false;
        // SAFETY: In process context, without spin locks; the places are valid for writes.
        let got = kernel::error::to_result(unsafe {
            ffi::loft_get_page(address as usize, write, &mut writable, &mut page)
        });
        match got {
            Ok(()) => Ok(Self {
                // SAFETY: The page is referenced.
                pa: HostPa::new(unsafe { ffi::loft_page_to_phys(page) }),
                writable,
                mem: MemType::Normal,
                // INVARIANT: `loft_get_page` took it for its caller.
                reference: Some(Reference(page)),
            }),
            Err(error) if error == EFAULT => Self::follow(address, write, cacheable),
            Err(error) => Err(error),
        }
    }

    fn follow(address: u64, write: bool, cacheable: bool) -> Result<Self> {
        let (mut writable, mut pa) = (false, 0);
        // SAFETY: In process context, without locks; the places are valid for writes.
        let kind =
            unsafe { ffi::loft_follow_page(address as usize, write, &mut writable, &mut pa) };
        kernel::error::to_result(kind)?;
        let mem = match kind as u32 {
            ffi::LOFT_MEMORY_RAM => MemType::Normal,
            ffi::LOFT_MEMORY_CACHED if cacheable => MemType::Normal,
            ffi::LOFT_MEMORY_UNCACHED => MemType::NormalNc,
            ffi::LOFT_MEMORY_DEVICE => MemType::Device,
            _ => return Err(EFAULT),
        };
        Ok(Self {
            pa: HostPa::new(pa),
            writable,
            mem,
            reference: None,
        })
    }

    /// Whether the process could write it at the time.
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn pa(&self) -> HostPa {
        self.pa
    }

    /// How a guest has to reach it.
    pub(crate) fn mem(&self) -> MemType {
        self.mem
    }

    /// Whether it is a page of RAM that is referenced.
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
