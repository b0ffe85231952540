// SPDX-License-Identifier: GPL-2.0

//! Being told when the pages of an address space go.
//!
//! C header: [`include/linux/mmu_notifier.h`](srctree/include/linux/mmu_notifier.h)

use super::ffi;
use super::mm;
use core::ffi::c_int;
use core::marker::PhantomData;
use core::ops::Range;
use kernel::bindings;
use kernel::mm::Mm;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;
use kernel::types::Opaque;

/// What is told of changes of an address space.
pub(crate) trait MmuNotifier: Send + Sync + 'static {
    /// Stops the use of the pages in `range`, which are about to change or go. When this returns,
    /// nobody uses them any more, and nobody will until [`MmuNotifier::invalidate_range_end`] is
    /// called for the same range. Must not sleep unless `may_sleep`.
    fn invalidate_range_start(&self, range: Range<u64>, may_sleep: bool);
    /// Learns that the change that was announced for `range` is done.
    fn invalidate_range_end(&self, range: Range<u64>);
    /// Forgets that the pages were used, and returns whether they had been. With `flush` the next
    /// use is noticed surely.
    fn clear_young(&self, range: Range<u64>, flush: bool) -> bool;
    /// Returns whether the pages were used since they were last aged.
    fn test_young(&self, range: Range<u64>) -> bool;
    /// Stops the use of all pages: the address space ends.
    fn release(&self);
}

/// Tells an [`MmuNotifier`] of the changes of the address space that was current when this was
/// made, until it is dropped.
///
/// # Invariants
///
/// `raw` is the first field, and while its `mm` is not null it is registered there.
///
/// # Examples
///
/// ```
/// let registration = Registration::current(memory.clone())?;
/// ```
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Registration<T: MmuNotifier> {
    #[pin]
    raw: Opaque<bindings::mmu_notifier>,
    target: Arc<T>,
    /// Keeps the address space allocated.
    _mm: ARef<Mm>,
}

// SAFETY: Registering and unregistering may be done from any thread.
unsafe impl<T: MmuNotifier> Send for Registration<T> {}
// SAFETY: A `&Registration` gives access to nothing.
unsafe impl<T: MmuNotifier> Sync for Registration<T> {}

struct NotifierOps<T>(PhantomData<T>);

impl<T: MmuNotifier> NotifierOps<T> {
    const OPS: bindings::mmu_notifier_ops = bindings::mmu_notifier_ops {
        release: Some(Self::release),
        clear_flush_young: Some(Self::clear_flush_young),
        clear_young: Some(Self::clear_young),
        test_young: Some(Self::test_young),
        invalidate_range_start: Some(Self::start),
        invalidate_range_end: Some(Self::end),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `notifier` is the first field of a `Registration<T>` (repr(C), `Opaque` is transparent) that
    /// is not dropped yet.
    unsafe fn target<'a>(notifier: *mut bindings::mmu_notifier) -> &'a T {
        // SAFETY: By the requirement.
        unsafe { &(*notifier.cast::<Registration<T>>()).target }
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn release(
        notifier: *mut bindings::mmu_notifier,
        _mm: *mut bindings::mm_struct,
    ) {
        // SAFETY: The notifier is registered.
        unsafe { Self::target(notifier) }.release();
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn start(
        notifier: *mut bindings::mmu_notifier,
        range: *const bindings::mmu_notifier_range,
    ) -> c_int {
        // SAFETY: The notifier is registered, and the range valid for the call.
        let (this, from, to, may_sleep) = unsafe {
            (
                Self::target(notifier),
                (*range).start,
                (*range).end,
                ffi::loft_mmu_notifier_range_blockable(range),
            )
        };
        this.invalidate_range_start(from as u64..to as u64, may_sleep);
        0
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn end(
        notifier: *mut bindings::mmu_notifier,
        range: *const bindings::mmu_notifier_range,
    ) {
        // SAFETY: The notifier is registered, and the range valid for the call.
        let (this, from, to) = unsafe { (Self::target(notifier), (*range).start, (*range).end) };
        this.invalidate_range_end(from as u64..to as u64);
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn clear_flush_young(
        notifier: *mut bindings::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        start: usize,
        end: usize,
    ) -> bool {
        // SAFETY: The notifier is registered.
        unsafe { Self::target(notifier) }.clear_young(start as u64..end as u64, true)
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn clear_young(
        notifier: *mut bindings::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        start: usize,
        end: usize,
    ) -> bool {
        // SAFETY: The notifier is registered.
        unsafe { Self::target(notifier) }.clear_young(start as u64..end as u64, false)
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn test_young(
        notifier: *mut bindings::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        address: usize,
    ) -> bool {
        // SAFETY: The notifier is registered.
        unsafe { Self::target(notifier) }
            .test_young(address as u64..(address as u64).wrapping_add(1))
    }
}

impl<T: MmuNotifier> Registration<T> {
    /// Registers `target` for the current process's address space. May sleep.
    ///
    /// # Errors
    ///
    /// `ESRCH` for a kernel thread, `ENOMEM`, `EINTR` if a signal is pending.
    pub(crate) fn current(target: Arc<T>) -> Result<Pin<KBox<Self>>> {
        let mm = mm::current()?;
        let raw_mm = mm.as_raw();
        KBox::try_pin_init(
            try_pin_init!(Self {
                raw <- Opaque::try_ffi_init(move |slot: *mut bindings::mmu_notifier| {
                    let mut notifier: bindings::mmu_notifier = pin_init::zeroed();
                    notifier.ops = &NotifierOps::<T>::OPS;
                    // SAFETY: `slot` is pinned and valid; it is unregistered before it goes. No
                    // callback can come before `target` is written: the address space is the
                    // current thread's, which holds mmap_lock inside, but other threads may change
                    // it right after, so the target is written first, below.
                    unsafe { slot.write(notifier) };
                    Ok::<(), Error>(())
                }),
                target,
                _mm: mm,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
        .and_then(|this| {
            // SAFETY: All fields are written and pinned now; `raw_mm` is the current, referenced,
            // address space.
            kernel::error::to_result(unsafe {
                bindings::mmu_notifier_register(this.raw.get(), raw_mm)
            })?;
            Ok(this)
        })
    }
}

#[pinned_drop]
impl<T: MmuNotifier> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // `mmu_notifier_register` sets `mm`; without it nothing was registered.
        // SAFETY: The field is written once, before this.
        let mm = unsafe { (*self.raw.get()).mm };
        if !mm.is_null() {
            // SAFETY: Registered; waits for callbacks that run.
            unsafe { bindings::mmu_notifier_unregister(self.raw.get(), mm) };
        }
    }
}
