// SPDX-License-Identifier: GPL-2.0

//! perf's samples in guests (`perf kvm --guest`).
//!
//! perf asks in an interrupt whether it has interrupted a guest, and where that was. The kernel has
//! room for one who answers; where KVM is on, that is KVM.
//!
//! C header: [`include/linux/perf_event.h`](srctree/include/linux/perf_event.h)
//!
//! # Examples
//!
//! ```
//! let _samples = perf::GuestSamples::register();
//! // As long as it lives, what take_interrupts() takes has interrupted the guest that was left.
//! take_interrupts(irq);
//! ```

use super::ffi;
use super::kvm;

/// Answers perf's questions while it lives.
pub(crate) struct GuestSamples(());

impl GuestSamples {
    /// Registers it; `None` where KVM is on.
    pub(crate) fn register() -> Option<Self> {
        if kvm::is_on() {
            return None;
        }
        // SAFETY: What is registered are functions of the module, which `drop` takes back. Nobody
        // else is there: KVM is not, and loft is loaded once.
        unsafe { ffi::loft_perf_register() };
        Some(Self(()))
    }
}

impl Drop for GuestSamples {
    fn drop(&mut self) {
        // SAFETY: `register` has registered them. When this returns nobody calls them any more.
        unsafe { ffi::loft_perf_unregister() };
    }
}
