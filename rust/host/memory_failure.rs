// SPDX-License-Identifier: GPL-2.0

//! Memory that is broken.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h) and
//! [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)
//!
//! # Examples
//!
//! ```
//! match HostPage::get(address, true, false) {
//!     Err(error) if error == ehwpoison() => memory_failure::report_poison(address),
//!     page => map(page?),
//! }
//! ```

use super::ffi;
use super::page::PAGE_SIZE;
use crate::model::types::HostPa;
use core::ffi::{c_int, c_short};
use kernel::bindings;
use kernel::prelude::*;

/// Tells the current thread that the memory at `address` is broken, as its own access would have
/// (SIGBUS). May sleep.
pub(crate) fn report_poison(address: u64) {
    let task = kernel::current!();
    let Some(mm) = task.mm() else {
        return;
    };
    let shift = {
        let lock = mm.mmap_read_lock();
        lock.vma_lookup(address as usize)
            .map_or(PAGE_SIZE.trailing_zeros(), |vma| {
                // SAFETY: A `VmaRef` is there only while the area may be read.
                unsafe { ffi::loft_vma_poison_shift(vma.as_ptr()) }
            })
    };
    // SAFETY: The signal is for the current thread, and its address is only a number.
    unsafe {
        bindings::send_sig_mceerr(
            bindings::BUS_MCEERR_AR as c_int,
            core::ptr::without_provenance_mut(address as usize),
            shift as c_short,
            task.as_ptr(),
        )
    };
}

/// Says in the log that the hardware has found the memory at `physical` broken when the guest of
/// the current thread used it, and lets the kernel take the page out of use, which tells whoever
/// has it mapped.
pub(crate) fn report_error(physical: HostPa) {
    // SAFETY: May be called wherever a work may be queued; the kernel judges for itself what is at
    // the address.
    unsafe {
        ffi::loft_pr_memory_error(physical.raw());
        ffi::loft_memory_failure_queue((physical.raw() / PAGE_SIZE) as usize);
    }
}

/// Stops the machine after a hardware error that nobody knows the extent of.
pub(crate) fn uncontained_error() {
    let message = c"loft: uncontained SError in a guest";
    // SAFETY: May be called in any context; the message has nothing to be formatted.
    unsafe { bindings::nmi_panic(core::ptr::null_mut(), message.as_char_ptr().cast()) };
}
