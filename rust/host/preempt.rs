// SPDX-License-Identifier: GPL-2.0

//! Preemption: staying on one CPU.
//!
//! C header: [`include/linux/preempt.h`](srctree/include/linux/preempt.h)

use super::ffi;
use core::marker::PhantomData;
use kernel::types::NotThreadSafe;

/// Proves that the current thread is not preempted, so that it stays on its CPU, for `'a`.
///
/// It has no size: to pass it by value costs nothing.
///
/// # Invariants
///
/// Preemption is off for as long as `'a` lasts, and this value is on the thread for which it is.
#[derive(Clone, Copy)]
pub(crate) struct PreemptDisabled<'a>(PhantomData<&'a ()>, NotThreadSafe);

impl PreemptDisabled<'_> {
    /// Takes it for granted that preemption is off, which changes nothing about it.
    ///
    /// # Safety
    ///
    /// Preemption is off for as long as the lifetime that the caller gives the result.
    #[inline(always)]
    pub(super) unsafe fn assume<'a>() -> PreemptDisabled<'a> {
        // INVARIANT: By the requirement.
        PreemptDisabled(PhantomData, NotThreadSafe)
    }
}

/// Keeps preemption off while it lives.
///
/// # Examples
///
/// ```
/// let guard = PreemptGuard::new();
/// let here = CpuId::current();
/// stays_true_for(here, guard.token());
/// ```
#[must_use = "preemption is on again as soon as the guard is dropped"]
pub(crate) struct PreemptGuard(NotThreadSafe);

impl PreemptGuard {
    /// Turns preemption off. May be called in any context, and nested.
    #[inline]
    pub(crate) fn new() -> Self {
        // SAFETY: It only counts; `drop`, on the same thread, counts back.
        unsafe { ffi::loft_preempt_disable() };
        Self(NotThreadSafe)
    }

    /// Returns the proof that preemption is off.
    #[inline(always)]
    pub(crate) fn token(&self) -> PreemptDisabled<'_> {
        // SAFETY: `new` has turned it off, and the borrow keeps `drop` from turning it on.
        unsafe { PreemptDisabled::assume() }
    }
}

impl Drop for PreemptGuard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `new` has counted once for this guard, on this thread.
        unsafe { ffi::loft_preempt_enable() };
    }
}
