// SPDX-License-Identifier: GPL-2.0

//! Values that follow their thread into a CPU and out of it.
//!
//! C header: [`include/linux/preempt.h`](srctree/include/linux/preempt.h)

use super::ffi;
use super::preempt::{PreemptDisabled, PreemptGuard};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use kernel::prelude::*;
use kernel::types::{NotThreadSafe, Opaque};

/// What is in the CPU while its thread is, and in memory while it is not.
pub(crate) trait Resident {
    /// Moves into this CPU, until [`Resident::put`].
    fn load(&mut self, arrival: ScheduledIn<'_>);
    /// Moves out of this CPU, which is the one that it was loaded into.
    fn put(&mut self, preempt: PreemptDisabled<'_>);
}

/// Proves that a [`Resident`] is being moved into this CPU, and will be moved out of it before its
/// thread leaves the CPU.
///
/// # Invariants
///
/// [`Scheduled`] has made it for a call of `load`, and calls `put` of the same value on the same
/// CPU, before anything else of its thread runs on another one.
#[derive(Clone, Copy)]
pub(crate) struct ScheduledIn<'a>(PreemptDisabled<'a>);

impl<'a> ScheduledIn<'a> {
    /// Returns the proof that the thread stays on this CPU during the call.
    #[inline(always)]
    pub(crate) fn preempt(self) -> PreemptDisabled<'a> {
        self.0
    }
}

/// A [`Resident`], with the registration that moves it when the scheduler moves its thread.
///
/// The scheduler's callbacks need it in between whatever its thread does with it; so the thread
/// only ever has it while preemption is off ([`Loaded::with`]), when there are no callbacks.
///
/// # Invariants
///
/// `notifier` is the first field. It is registered only while a [`Loaded`] borrows this.
///
/// # Examples
///
/// ```
/// let mut core = KBox::pin_init(Scheduled::new(core), GFP_KERNEL)?;
/// core.as_mut().loaded(|loaded| {
///     loaded.with_token(|core, preempt| core.run(preempt));
///     may_sleep_meanwhile();
/// });
/// ```
#[pin_data]
#[repr(C)]
pub(crate) struct Scheduled<T: Resident> {
    #[pin]
    notifier: Opaque<kernel::bindings::preempt_notifier>,
    inner: UnsafeCell<T>,
}

// SAFETY: Access to the inner value needs `&mut`, or is from the callbacks on the thread that has
// it.
unsafe impl<T: Resident + Send> Send for Scheduled<T> {}
// SAFETY: A `&Scheduled` gives access to nothing.
unsafe impl<T: Resident + Send> Sync for Scheduled<T> {}

struct PreemptOps<T>(PhantomData<T>);

impl<T: Resident> PreemptOps<T> {
    const OPS: kernel::bindings::preempt_ops = kernel::bindings::preempt_ops {
        sched_in: Some(Self::sched_in),
        sched_out: Some(Self::sched_out),
    };

    /// # Safety
    ///
    /// Called by the scheduler for a notifier that is registered with these operations.
    unsafe extern "C" fn sched_in(
        notifier: *mut kernel::bindings::preempt_notifier,
        _cpu: core::ffi::c_int,
    ) {
        // SAFETY:
        // - The notifier is the first field (repr(C); `Opaque` is transparent) of a `Scheduled`
        //   that is borrowed mutably by the `Loaded` of this thread.
        // - `Loaded` has not lent the inner value: preemption was on.
        // - The scheduler calls with preemption off.
        // INVARIANT: The scheduler calls `sched_out` before this thread leaves the CPU, or
        // `Scheduled::loaded` ends first.
        unsafe {
            let arrival = ScheduledIn(PreemptDisabled::assume());
            (*(*notifier.cast::<Scheduled<T>>()).inner.get()).load(arrival);
        };
    }

    /// # Safety
    ///
    /// Called by the scheduler for a notifier that is registered with these operations.
    unsafe extern "C" fn sched_out(
        notifier: *mut kernel::bindings::preempt_notifier,
        _next: *mut kernel::bindings::task_struct,
    ) {
        // SAFETY:
        // - The notifier is the first field (repr(C); `Opaque` is transparent) of a `Scheduled`
        //   that is borrowed mutably by the `Loaded` of this thread.
        // - `Loaded` has not lent the inner value: preemption was on.
        // - The scheduler calls with preemption off.
        unsafe { (*(*notifier.cast::<Scheduled<T>>()).inner.get()).put(PreemptDisabled::assume()) };
    }
}

impl<T: Resident> Scheduled<T> {
    /// Makes it, with the value in memory.
    pub(crate) fn new(inner: T) -> impl PinInit<Self> {
        pin_init!(Self {
            notifier <- Opaque::uninit(),
            inner: UnsafeCell::new(inner),
        })
    }

    /// Returns the value, while it is in memory.
    pub(crate) fn in_memory(self: Pin<&mut Self>) -> &mut T {
        // SAFETY: Borrowed mutably, and no `Loaded` is there, so no callback runs. The value is not
        // moved out of.
        unsafe { &mut *self.inner.get() }
    }

    /// Moves the value into the CPU for as long as `body` runs, wherever the scheduler puts this
    /// thread meanwhile.
    pub(crate) fn loaded<R>(self: Pin<&mut Self>, body: impl FnOnce(&mut Loaded<'_, T>) -> R) -> R {
        let this: &Self = &self;
        let mut loaded = Loaded {
            cell: this,
            _not_send: NotThreadSafe,
        };
        {
            let preempt = PreemptGuard::new();
            // SAFETY: The notifier stays in place (`self` is pinned) until it is unregistered
            // below, by this thread. The value is not lent, and no callback runs, as preemption is
            // off.
            // INVARIANT: From here on the scheduler calls `sched_out` before this thread leaves the
            // CPU, until `put` below.
            unsafe {
                ffi::loft_preempt_notifier_init(this.notifier.get(), &PreemptOps::<T>::OPS);
                kernel::bindings::preempt_notifier_register(this.notifier.get());
                (*this.inner.get()).load(ScheduledIn(preempt.token()));
            }
        }
        let ret = body(&mut loaded);
        let preempt = PreemptGuard::new();
        // SAFETY: It was registered above, by this thread. `body` has given back what was lent, and
        // no callback runs, as preemption is off.
        unsafe {
            (*this.inner.get()).put(preempt.token());
            kernel::bindings::preempt_notifier_unregister(this.notifier.get());
        }
        ret
    }
}

/// Proves that a [`Resident`] is loaded.
pub(crate) struct Loaded<'a, T: Resident> {
    cell: &'a Scheduled<T>,
    _not_send: NotThreadSafe,
}

impl<T: Resident> Loaded<'_, T> {
    /// Lends the value to `body`, with the thread staying on its CPU. `body` must not sleep.
    pub(crate) fn with<R>(&mut self, body: impl FnOnce(&mut T) -> R) -> R {
        self.with_token(|inner, _| body(inner))
    }

    /// Lends the value to `body`, with the proof that the thread stays on its CPU. `body` must not
    /// sleep.
    pub(crate) fn with_token<R>(
        &mut self,
        body: impl FnOnce(&mut T, PreemptDisabled<'_>) -> R,
    ) -> R {
        let preempt = PreemptGuard::new();
        // SAFETY: Preemption is off, so no callback runs; `&mut self` keeps this from being nested.
        body(unsafe { &mut *self.cell.inner.get() }, preempt.token())
    }
}

/// Makes the scheduler look for notifiers while any of these lives.
pub(crate) struct NotifiersOn(());

impl NotifiersOn {
    /// Makes it; there may be several.
    pub(crate) fn new() -> Self {
        // SAFETY: Balanced by `drop`.
        unsafe { kernel::bindings::preempt_notifier_inc() };
        Self(())
    }
}

impl Drop for NotifiersOn {
    fn drop(&mut self) {
        // SAFETY: Balances `new`.
        unsafe { kernel::bindings::preempt_notifier_dec() };
    }
}
