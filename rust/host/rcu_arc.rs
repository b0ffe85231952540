// SPDX-License-Identifier: GPL-2.0

//! Values that are read often and replaced seldom: reading takes no lock and writes nothing.

use super::ffi;
use super::preempt::PreemptDisabled;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;
use kernel::sync::{new_mutex, rcu, Arc, ArcBorrow, Mutex, MutexGuard, UniqueArc};

/// What drops values when their readers are done. While this lives [`RcuArc`] values may be replaced; made once.
pub(crate) struct Retirement(());

impl Retirement {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: In process context; there is no other.
        kernel::error::to_result(unsafe { ffi::loft_rcu_begin() })?;
        Ok(Self(()))
    }
}

impl Drop for Retirement {
    fn drop(&mut self) {
        // SAFETY: Begun in `new`; nothing that publishes is left. Waits until all that was retired is dropped.
        unsafe { ffi::loft_rcu_end() };
    }
}

/// Drops `value` when all who may have found it are done, in a thread of the kernel's. Does not wait for them, unless memory is
/// short, and interrupts no CPU for it. May sleep.
fn retire<T: Send + Sync>(value: Arc<T>) {
    /// # Safety
    ///
    /// `value` came from `Arc::<T>::into_raw`, and that reference is the callee's.
    unsafe extern "C" fn end<T>(value: *mut c_void) {
        // SAFETY: By the requirement.
        drop(unsafe { Arc::from_raw(value.cast::<T>()) });
    }
    let value = Arc::into_raw(value).cast_mut().cast();
    // SAFETY: In process context. `end` is called once, with this value; it may be called by any thread, as `T` is `Send` and
    // `Sync`, and before the module goes (see `Retirement`).
    unsafe { ffi::loft_rcu_retire(Some(end::<T>), value) };
}

/// A value that readers see whole, either as it was or as it is, while a writer puts a new one in its place.
///
/// C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)
///
/// # Invariants
///
/// `current` came from `Arc::into_raw`, and that reference is this one's. It is replaced with `writer` held, and dropped only
/// when every reader that could have seen it is done ([`retire`]).
#[pin_data(PinnedDrop)]
pub(crate) struct RcuArc<T: Send + Sync> {
    current: AtomicPtr<T>,
    /// One writer at a time.
    #[pin]
    writer: Mutex<()>,
}

impl<T: Send + Sync + 'static> RcuArc<T> {
    pub(crate) fn new(value: T) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // INVARIANT: owned from here on.
            current: AtomicPtr::new(Arc::into_raw(Arc::new(value, GFP_KERNEL_ACCOUNT)?).cast_mut()),
            writer <- new_mutex!((), "loft::RcuArc::writer"),
        }? Error)
    }

    /// Lends the value to `read`, which must not sleep. May be called with interrupts off, but not in a fast exit: RCU
    /// does not watch a CPU that it takes to be in a guest.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        let _guard = rcu::read_lock();
        // SAFETY: By the invariant it is not freed before this reader is done. Acquire: what the writer wrote into it
        // is there.
        read(unsafe { &*self.current.load(Ordering::Acquire) })
    }

    /// The value as it is now, to keep. Only where the caller may sleep: whoever lets go of it last frees it, which may take
    /// long and sleep (vfree). A debug kernel reports other callers at once.
    pub(crate) fn get(&self) -> Arc<T> {
        #[cfg(CONFIG_DEBUG_ATOMIC_SLEEP)]
        kernel::task::might_sleep();
        let _guard = rcu::read_lock();
        // SAFETY: By the invariant it came from `into_raw`, and is not dropped before this reader is done.
        unsafe { ArcBorrow::from_raw(self.current.load(Ordering::Acquire)) }.into()
    }

    /// The same as `read` where the thread is not preempted anyway: all that RCU waits for, such a stretch is as good as a read lock.
    #[inline]
    pub(crate) fn read_sched<R>(
        &self,
        _preempt: PreemptDisabled<'_>,
        read: impl FnOnce(&T) -> R,
    ) -> R {
        // SAFETY: By the invariant it is not freed before all readers are done: RCU waits for those that
        // cannot be preempted, too. Acquire: what the writer wrote into it is there.
        read(unsafe { &*self.current.load(Ordering::Acquire) })
    }

    /// Replaces the value by what `next` makes of it. `next` may sleep; if it fails nothing changes. Whoever reads may have the
    /// old one for a little longer.
    pub(crate) fn update(&self, next: impl FnOnce(&T) -> Result<T>) -> Result {
        let guard = self.writer.lock();
        // SAFETY: Only a writer retires it, and this is the one writer.
        let current = unsafe { &*self.current.load(Ordering::Relaxed) };
        // Room for it first: when `next` has succeeded nothing fails any more.
        let room = UniqueArc::<T>::new_uninit(GFP_KERNEL_ACCOUNT)?;
        let new = room.write(next(current)?).into();
        self.replace(guard, new);
        Ok(())
    }

    /// Replaces the value by `new`. Whoever reads may have the old one for a little longer.
    pub(crate) fn set(&self, new: Arc<T>) {
        self.replace(self.writer.lock(), new);
    }

    fn replace(&self, writer: MutexGuard<'_, ()>, new: Arc<T>) {
        // INVARIANT: The reference to `new` is this one's now, the old one no longer. Release: as in `read`.
        let new = Arc::into_raw(new).cast_mut();
        let old = self.current.swap(new, Ordering::Release);
        drop(writer);
        // SAFETY: By the invariant it came from `into_raw`, and it was taken out above, by this thread alone.
        retire(unsafe { Arc::from_raw(old) });
    }
}

#[pinned_drop]
impl<T: Send + Sync> PinnedDrop for RcuArc<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant it came from `into_raw`; readers borrow this, so there are none.
        drop(unsafe { Arc::from_raw(self.current.load(Ordering::Relaxed)) });
    }
}
