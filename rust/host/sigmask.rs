// SPDX-License-Identifier: GPL-2.0

//! The signals that a thread blocks.
//!
//! C header: [`include/linux/signal.h`](srctree/include/linux/signal.h)
//!
//! # Examples
//!
//! ```
//! let mask = SignalMask::new(bits);
//! let blocked = mask.activate();
//! run_the_guest();
//! drop(blocked);
//! ```

use core::ffi::c_int;
use core::ptr;
use kernel::bindings::{sigprocmask, SIG_SETMASK};
use kernel::types::NotThreadSafe;

/// The signals that are blocked while a vCPU runs (KVM_SET_SIGNAL_MASK).
pub(crate) struct SignalMask(kernel::bindings::sigset_t);

impl SignalMask {
    /// Makes it from the bits of a `sigset_t`.
    pub(crate) fn new(bits: u64) -> Self {
        // As for every other way to block signals: these two cannot be.
        const UNBLOCKABLE: u64 =
            1 << (kernel::bindings::SIGKILL - 1) | 1 << (kernel::bindings::SIGSTOP - 1);
        let mut set: kernel::bindings::sigset_t = pin_init::zeroed();
        set.sig[0] = (bits & !UNBLOCKABLE) as usize;
        Self(set)
    }

    /// Blocks these signals, and no others, until the guard is dropped.
    pub(crate) fn activate(&self) -> SignalsBlocked {
        let mut old: kernel::bindings::sigset_t = pin_init::zeroed();
        let mut new = self.0;
        // SAFETY: Both sets are valid; changes the current thread's mask only.
        unsafe { sigprocmask(SIG_SETMASK as c_int, &mut new, &mut old) };
        SignalsBlocked {
            old,
            _not_send: NotThreadSafe,
        }
    }
}

/// Keeps a [`SignalMask`] active while it lives, and then brings back the mask from before.
pub(crate) struct SignalsBlocked {
    old: kernel::bindings::sigset_t,
    _not_send: NotThreadSafe,
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: The set is valid; changes the current thread's mask only, which is that of
        // `activate`, as the guard is not `Send`.
        unsafe { sigprocmask(SIG_SETMASK as c_int, &mut self.old, ptr::null_mut()) };
    }
}
