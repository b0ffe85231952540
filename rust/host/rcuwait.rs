// SPDX-License-Identifier: GPL-2.0

//! One thread that sleeps until something happens to it.
//!
//! C header: [`include/linux/rcuwait.h`](srctree/include/linux/rcuwait.h)

use super::ffi;
use core::ffi::c_void;
use kernel::prelude::*;
use kernel::types::Opaque;

/// What one thread, a vCPU's, sleeps on. Anybody may wake it.
///
/// # Invariants
///
/// `raw` is initialised, in its final place.
///
/// # Examples
///
/// ```
/// waiter.block(rcuwait::NEVER, || done.load(Ordering::Acquire))?;
/// ```
#[pin_data]
pub(crate) struct Waiter {
    #[pin]
    raw: Opaque<kernel::bindings::rcuwait>,
}

// SAFETY: Waking is safe from any thread; only one thread blocks, see `block`.
unsafe impl Sync for Waiter {}
// SAFETY: Nothing in it belongs to a thread while none blocks.
unsafe impl Send for Waiter {}

/// A deadline that never comes.
pub(crate) const NEVER: i64 = i64::MAX;

impl Waiter {
    /// Makes it, with nobody asleep.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes.
            raw <- Opaque::ffi_init(|slot| unsafe { ffi::loft_rcuwait_init(slot) }),
        })
    }

    /// Sleeps until `done` says so, a signal arrives (`EINTR`), or CLOCK_MONOTONIC reaches
    /// `deadline_ns`.
    ///
    /// `done` is asked after the task state is set, so that a wake-up between the question and the
    /// sleep is not lost; it must not sleep. Of two threads that slept here at once, one would miss
    /// wake-ups, but no memory is at stake: only the last is known, as long as it sleeps.
    pub(crate) fn block<F: FnMut() -> bool>(&self, deadline_ns: i64, mut done: F) -> Result {
        /// # Safety
        ///
        /// `arg` is an `F` that nobody else uses.
        unsafe extern "C" fn ask<F: FnMut() -> bool>(arg: *mut c_void) -> bool {
            // SAFETY: `arg` is the closure of the `block` below, which outlives the call.
            unsafe { (*arg.cast::<F>())() }
        }
        // SAFETY: The wait was initialised in `new`; `done` lives until the call returns.
        let ret = unsafe {
            ffi::loft_rcuwait_block(
                self.raw.get(),
                Some(ask::<F>),
                (&raw mut done).cast(),
                deadline_ns,
            )
        };
        kernel::error::to_result(ret)
    }

    /// Wakes the thread, if one sleeps here.
    pub(crate) fn wake(&self) {
        // SAFETY: The wait was initialised in `new`.
        unsafe { kernel::bindings::rcuwait_wake_up(self.raw.get()) };
    }
}
