// SPDX-License-Identifier: GPL-2.0

//! Making another CPU leave its guest.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::prelude::*;

/// An interrupt for another CPU that does nothing there: arriving is all it is for.
///
/// C header: [`include/linux/smp.h`](srctree/include/linux/smp.h)
///
/// # Invariants
///
/// While `sent` is true the kernel owns `csd`; it is false again once the other CPU has taken the interrupt.
#[pin_data(PinnedDrop)]
pub(crate) struct Ipi {
    csd: UnsafeCell<kernel::bindings::call_single_data_t>,
    sent: AtomicBool,
    #[pin]
    _pin: core::marker::PhantomPinned,
}

// SAFETY: `sent` gives `csd` to one sender at a time.
unsafe impl Sync for Ipi {}
// SAFETY: Nothing in it belongs to a thread.
unsafe impl Send for Ipi {}

/// Runs on the other CPU, which has let go of the structure by now.
///
/// # Safety
///
/// Called by the kernel with what `send` passed to it.
unsafe extern "C" fn arrived(sent: *mut c_void) {
    // SAFETY: `send` passed the address of `sent`, which is pinned and outlives this (see `drop`).
    unsafe { &*sent.cast::<AtomicBool>() }.store(false, Ordering::Release);
}

impl Ipi {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            csd: UnsafeCell::new(pin_init::zeroed()),
            sent: AtomicBool::new(false),
            _pin: core::marker::PhantomPinned,
        })
    }

    /// Interrupts `cpu`. May be called in any context.
    ///
    /// If one of these is already on its way, that one serves: it has not been taken yet, so the CPU that takes it sees
    /// what the caller wrote before. (It may be on its way to a CPU that the vCPU has left since; then the vCPU has
    /// looked at its requests again on the way into the guest.)
    pub(crate) fn send(&self, cpu: u32) {
        let Ok(cpu) = i32::try_from(cpu) else { return };
        if self.sent.swap(true, Ordering::AcqRel) {
            return;
        }
        let csd = self.csd.get();
        // SAFETY: By the invariant nobody else uses `csd` now: `sent` was false and is ours. It stays in place until
        // `drop`, which waits for the callback.
        let ret = unsafe {
            (*csd).func = Some(arrived);
            (*csd).info = (&raw const self.sent).cast_mut().cast();
            kernel::bindings::smp_call_function_single_async(cpu, csd)
        };
        if ret != 0 {
            // The CPU is offline, so it runs no guest.
            self.sent.store(false, Ordering::Release);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Ipi {
    fn drop(self: Pin<&mut Self>) {
        // As long as an interrupt takes to reach a CPU.
        while self.sent.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
    }
}
