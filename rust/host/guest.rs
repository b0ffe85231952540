// SPDX-License-Identifier: GPL-2.0

//! Running a guest, as the rest of Linux sees it: accounting, the scheduler's notifications, floating point.

use super::cpu::{IrqOff, Pinned};
use super::ffi;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::prelude::*;
use kernel::types::{NotThreadSafe, Opaque};

/// Tells RCU and time accounting that this CPU goes into a guest; with interrupts off.
pub(crate) fn enter_irqoff() {
    // SAFETY: The run loop calls it with interrupts off, paired with `exit_irqoff`.
    unsafe { ffi::loft_guest_enter_irqoff() };
}

/// The reverse of [`enter_irqoff`].
pub(crate) fn exit_irqoff() {
    // SAFETY: As above.
    unsafe { ffi::loft_guest_exit_irqoff() };
}

/// While this lives, RCU watches this CPU again though a guest is in it: in a fast exit, around everything of the kernel's that may
/// be traced or read under RCU, so around every lock. Only CPUs that are kept free of the tick (nohz_full) are not watched in
/// guests; on all others this does nothing.
pub(crate) struct Watched(NotThreadSafe);

/// There are such CPUs. It is settled when the kernel boots.
static TRACKED: AtomicBool = AtomicBool::new(false);

/// Once, when the module is loaded.
pub(crate) fn init() {
    // SAFETY: Reads a constant of the running kernel.
    TRACKED.store(unsafe { ffi::loft_tracks_context() }, Ordering::Relaxed);
}

impl Watched {
    #[inline]
    pub(crate) fn new() -> Self {
        if TRACKED.load(Ordering::Relaxed) {
            // SAFETY: In a fast exit: interrupts are off, between `enter_irqoff` and `exit_irqoff`. Undone once, in `drop`.
            unsafe { ffi::loft_guest_pause_irqoff() };
        }
        Self(NotThreadSafe)
    }
}

impl Drop for Watched {
    #[inline]
    fn drop(&mut self) {
        if TRACKED.load(Ordering::Relaxed) {
            // SAFETY: Balances `new`, with interrupts still off.
            unsafe { ffi::loft_guest_resume_irqoff() };
        }
    }
}

/// Takes the host's pending interrupts, then accounts the time that the guest ran; with interrupts off before and after.
pub(crate) fn take_interrupts() {
    // SAFETY: The run loop calls it with interrupts off, holding no lock.
    unsafe { ffi::loft_guest_tick_irqoff() };
}

/// Whether something (a signal, the scheduler, task work) has to be done before a guest may be entered.
pub(crate) fn work_pending() -> bool {
    // SAFETY: Reads the current thread's flags.
    unsafe { ffi::loft_guest_work_pending() }
}

/// Looks as [`work_pending`] does, for the last time before a guest is entered: nothing that was put off may wait while it runs.
///
/// C header: [`include/linux/entry-virt.h`](srctree/include/linux/entry-virt.h)
pub(crate) fn work_pending_before_entry(_off: &IrqOff) -> bool {
    // SAFETY: Interrupts are off, by the witness.
    unsafe { ffi::loft_guest_work_pending_irqoff() }
}

/// Does the work that [`work_pending`] tells of. `EINTR`: a signal waits for userspace.
pub(crate) fn handle_work() -> Result {
    // SAFETY: Called in process context with interrupts on.
    kernel::error::to_result(unsafe { ffi::loft_guest_handle_work() })
}

/// Between the last guest that this thread entered in a system call and its return to userspace: what entering guests kept
/// from being done on the way (restartable sequences).
pub(crate) fn leave_to_user() {
    // SAFETY: About the current thread only, in process context.
    unsafe { ffi::loft_guest_leave_to_user() };
}

/// What is in the CPU while its thread is, and in memory while it is not.
pub(crate) trait Resident {
    /// Moves into this CPU. Preemption is off.
    fn load(&mut self);
    /// Moves out of this CPU. Preemption is off.
    fn put(&mut self);
}

/// A [`Resident`], with the registration that moves it when the scheduler moves its thread.
///
/// The scheduler's callbacks need it in between whatever its thread does with it; so the thread only ever has it while
/// preemption is off ([`Loaded::with`]), when there are no callbacks.
///
/// C header: [`include/linux/preempt.h`](srctree/include/linux/preempt.h)
#[pin_data]
#[repr(C)]
pub(crate) struct Scheduled<T: Resident> {
    #[pin]
    notifier: Opaque<kernel::bindings::preempt_notifier>,
    inner: UnsafeCell<T>,
}

// SAFETY: Access to the inner value needs `&mut`, or is from the callbacks on the thread that has it.
unsafe impl<T: Resident + Send> Send for Scheduled<T> {}
// SAFETY: As above.
unsafe impl<T: Resident + Send> Sync for Scheduled<T> {}

struct Ops<T>(PhantomData<T>);

impl<T: Resident> Ops<T> {
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
        // SAFETY: The notifier is the first field (repr(C); `Opaque` is transparent) of a `Scheduled` that is borrowed
        // mutably by the `Loaded` of this thread, which has not lent the inner value: preemption was on.
        unsafe { (*(*notifier.cast::<Scheduled<T>>()).inner.get()).load() };
    }

    /// # Safety
    ///
    /// Called by the scheduler for a notifier that is registered with these operations.
    unsafe extern "C" fn sched_out(
        notifier: *mut kernel::bindings::preempt_notifier,
        _next: *mut kernel::bindings::task_struct,
    ) {
        // SAFETY: As above.
        unsafe { (*(*notifier.cast::<Scheduled<T>>()).inner.get()).put() };
    }
}

impl<T: Resident> Scheduled<T> {
    pub(crate) fn new(inner: T) -> impl PinInit<Self> {
        pin_init!(Self {
            notifier <- Opaque::uninit(),
            inner: UnsafeCell::new(inner),
        })
    }

    /// The value, while it is in memory.
    pub(crate) fn in_memory(self: Pin<&mut Self>) -> &mut T {
        // SAFETY: Borrowed mutably, and no `Loaded` is there, so no callback runs. The value is not moved out of.
        unsafe { &mut *self.inner.get() }
    }

    /// Moves the value into the CPU for as long as `body` runs, wherever the scheduler puts this thread meanwhile.
    pub(crate) fn loaded<R>(self: Pin<&mut Self>, body: impl FnOnce(&mut Loaded<'_, T>) -> R) -> R {
        let this: &Self = &self;
        let mut loaded = Loaded {
            cell: this,
            _not_send: NotThreadSafe,
        };
        {
            let _pinned = Pinned::new();
            // SAFETY: The notifier stays in place (`self` is pinned) until it is unregistered below, by this thread;
            // the value is not lent.
            unsafe {
                ffi::loft_preempt_notifier_init(this.notifier.get(), &Ops::<T>::OPS);
                kernel::bindings::preempt_notifier_register(this.notifier.get());
                (*this.inner.get()).load();
            }
        }
        let ret = body(&mut loaded);
        let _pinned = Pinned::new();
        // SAFETY: As above.
        unsafe {
            (*this.inner.get()).put();
            kernel::bindings::preempt_notifier_unregister(this.notifier.get());
        }
        ret
    }
}

/// Proof that a [`Resident`] is loaded.
pub(crate) struct Loaded<'a, T: Resident> {
    cell: &'a Scheduled<T>,
    _not_send: NotThreadSafe,
}

impl<T: Resident> Loaded<'_, T> {
    /// The value, for as long as this thread stays on its CPU. `body` must not sleep.
    pub(crate) fn with<R>(&mut self, body: impl FnOnce(&mut T) -> R) -> R {
        self.with_pinned(|inner, _| body(inner))
    }

    /// The same, with the proof that the thread stays here.
    pub(crate) fn with_pinned<R>(&mut self, body: impl FnOnce(&mut T, &Pinned) -> R) -> R {
        let pinned = Pinned::new();
        // SAFETY: Preemption is off, so no callback runs; `&mut self` keeps this from being nested.
        body(unsafe { &mut *self.cell.inner.get() }, &pinned)
    }
}

/// While any of these lives, the scheduler looks for notifiers.
pub(crate) struct NotifiersOn(());

impl NotifiersOn {
    pub(crate) fn new() -> Self {
        // SAFETY: Balanced by `drop`.
        unsafe { ffi::loft_preempt_notifiers_inc() };
        Self(())
    }
}

impl Drop for NotifiersOn {
    fn drop(&mut self) {
        // SAFETY: Balances `new`.
        unsafe { ffi::loft_preempt_notifiers_dec() };
    }
}

/// Room for what the kernel keeps of the floating-point registers while it is preempted.
#[repr(C, align(16))]
pub(crate) struct HostFp(Opaque<kernel::bindings::user_fpsimd_state>);

impl HostFp {
    pub(crate) fn new() -> Self {
        Self(Opaque::zeroed())
    }

    /// Runs `body` with the FP/SIMD registers its own: the kernel has saved the thread's, and keeps the body's across
    /// preemption and softirqs (TIF_KERNEL_FPSTATE).
    pub(crate) fn with<R>(&self, body: impl FnOnce() -> R) -> R {
        // SAFETY: In process context, not nested; the buffer lives until `end`.
        unsafe { ffi::loft_neon_begin(self.0.get()) };
        let ret = body();
        // SAFETY: Paired with the above.
        unsafe { ffi::loft_neon_end(self.0.get()) };
        ret
    }
}

// SAFETY: Only used by the thread that runs the vCPU, under its mutex.
unsafe impl Send for HostFp {}
// SAFETY: As above.
unsafe impl Sync for HostFp {}

/// The signals that are blocked while a vCPU runs (KVM_SET_SIGNAL_MASK).
pub(crate) struct SignalMask(kernel::bindings::sigset_t);

impl SignalMask {
    /// From the bits of a `sigset_t`.
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
        unsafe { ffi::loft_sigprocmask((&raw mut new).cast(), (&raw mut old).cast()) };
        SignalsBlocked {
            old,
            _not_send: NotThreadSafe,
        }
    }
}

/// See [`SignalMask::activate`].
pub(crate) struct SignalsBlocked {
    old: kernel::bindings::sigset_t,
    _not_send: NotThreadSafe,
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: As in `activate`; puts back what was there.
        unsafe { ffi::loft_sigprocmask((&raw mut self.old).cast(), core::ptr::null_mut()) };
    }
}
