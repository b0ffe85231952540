// SPDX-License-Identifier: GPL-2.0

//! Values that are read often and replaced seldom: reading takes no lock and writes nothing.
//!
//! C headers: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h) and
//! [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::ffi;
use super::preempt::PreemptDisabled;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Release};
use kernel::sync::{new_mutex, rcu, Arc, ArcBorrow, Mutex, MutexGuard, UniqueArc};
use kernel::types::Opaque;

/// The queue of what is dropped when its readers are done; there while a [`Retirement`] is.
static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// Drops values when their readers are done. Made once; while it lives [`RcuArc`]s may be replaced.
///
/// # Invariants
///
/// [`QUEUE`] is a workqueue, which is this one's to destroy.
pub(crate) struct Retirement(());

impl Retirement {
    /// Makes it; there must not be another one.
    pub(crate) fn new() -> Result<Self> {
        let name = c"loft".as_char_ptr().cast();
        // SAFETY: The name has nothing to be formatted.
        let queue =
            unsafe { bindings::alloc_workqueue_noprof(name, bindings::wq_flags_WQ_UNBOUND, 0) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: It was made above.
        QUEUE.store(queue, Release);
        Ok(Self(()))
    }
}

impl Drop for Retirement {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is a queue. After the barrier all that was retired is in it,
        // as nothing that publishes is left; destroying it waits until that is dropped.
        unsafe {
            bindings::rcu_barrier();
            bindings::destroy_workqueue(QUEUE.load(Acquire));
        }
    }
}

/// A value to be dropped when its readers are done.
///
/// # Invariants
///
/// The work is the first field: the address of one is that of the other.
#[repr(C)]
struct Retired<T: Send + Sync> {
    work: Opaque<bindings::rcu_work>,
    value: Arc<T>,
}

const _: () = assert!(core::mem::offset_of!(bindings::rcu_work, work) == 0);

/// Drops `value` when all who may have found it are done, in a thread of the kernel's. Does not
/// wait for them, unless memory is short, and interrupts no CPU for it. May sleep.
fn retire<T: Send + Sync + 'static>(value: Arc<T>) {
    /// # Safety
    ///
    /// `work` is that of a `Retired<T>` in a `KBox`, which is the callee's.
    unsafe extern "C" fn end<T: Send + Sync>(work: *mut bindings::work_struct) {
        // SAFETY: By the requirement, and the invariant of `Retired`.
        drop(unsafe { KBox::from_raw(work.cast::<Retired<T>>()) });
    }
    let Ok(room) = KBox::new_uninit(GFP_KERNEL_ACCOUNT) else {
        // SAFETY: May sleep.
        unsafe { bindings::synchronize_rcu() };
        return;
    };
    // INVARIANT: By the order of the fields.
    let retired = KBox::into_raw(room.write(Retired {
        work: Opaque::uninit(),
        value,
    }));
    // SAFETY:
    // - The work is new, and stays where it is until `end` frees it.
    // - `end` is called once. It may be called by any thread, as `T` is `Send` and `Sync`, and
    //   before the module goes (see `Retirement`).
    unsafe {
        let work = (*retired).work.get();
        ffi::loft_init_rcu_work(work, Some(end::<T>));
        bindings::queue_rcu_work(QUEUE.load(Acquire), work);
    }
}

/// Holds a value that readers see whole, either as it was or as it is, while a writer puts a new
/// one in its place.
///
/// # Invariants
///
/// `current` came from `Arc::into_raw`, and that reference is this one's. It is replaced with
/// `writer` held, and dropped only when every reader that could have seen it is done ([`retire`]).
///
/// # Examples
///
/// ```
/// let names = KBox::pin_init(RcuArc::new(KVec::new()), GFP_KERNEL)?;
/// let count = names.read(|names| names.len());
/// names.update(|old| with_one_more(old))?;
/// ```
#[pin_data(PinnedDrop)]
pub(crate) struct RcuArc<T: Send + Sync> {
    current: AtomicPtr<T>,
    /// One writer at a time.
    #[pin]
    writer: Mutex<()>,
}

impl<T: Send + Sync + 'static> RcuArc<T> {
    /// Makes it with `value` in it. Fails with `ENOMEM`.
    pub(crate) fn new(value: T) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // INVARIANT: owned from here on.
            current: AtomicPtr::new(Arc::into_raw(Arc::new(value, GFP_KERNEL_ACCOUNT)?).cast_mut()),
            writer <- new_mutex!((), "loft::RcuArc::writer"),
        }? Error)
    }

    /// Lends the value to `read`, which must not sleep. May be called with interrupts off, but not
    /// in a fast exit: RCU does not watch a CPU that it takes to be in a guest.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        let _guard = rcu::read_lock();
        // SAFETY: By the invariant it is not freed before this reader is done. Acquire: what the
        // writer wrote into it is there.
        read(unsafe { &*self.current.load(Ordering::Acquire) })
    }

    /// Returns the value as it is now, to keep. May sleep: whoever lets go of it last frees it,
    /// which may take long (vfree). A debug kernel reports callers that may not sleep at once.
    pub(crate) fn get(&self) -> Arc<T> {
        #[cfg(CONFIG_DEBUG_ATOMIC_SLEEP)]
        kernel::task::might_sleep();
        let _guard = rcu::read_lock();
        // SAFETY: By the invariant it came from `into_raw`, and is not dropped before this reader
        // is done.
        unsafe { ArcBorrow::from_raw(self.current.load(Ordering::Acquire)) }.into()
    }

    /// Lends the value to `read` where the thread is not preempted anyway: RCU waits for such a
    /// stretch as for a read lock.
    #[inline]
    pub(crate) fn read_sched<R>(
        &self,
        _preempt: PreemptDisabled<'_>,
        read: impl FnOnce(&T) -> R,
    ) -> R {
        // SAFETY: By the invariant it is not freed before all readers are done: RCU waits for those
        // that cannot be preempted, too. Acquire: what the writer wrote into it is there.
        read(unsafe { &*self.current.load(Ordering::Acquire) })
    }

    /// Replaces the value by what `next` makes of it. `next` may sleep; if it fails nothing
    /// changes. Whoever reads may have the old one for a little longer.
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
        // INVARIANT: The reference to `new` is this one's now, the old one no longer. Release:
        // pairs with the loads of the readers.
        let new = Arc::into_raw(new).cast_mut();
        let old = self.current.swap(new, Ordering::Release);
        drop(writer);
        // SAFETY: By the invariant it came from `into_raw`, and it was taken out above, by this
        // thread alone.
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
