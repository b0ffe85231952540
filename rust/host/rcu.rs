// SPDX-License-Identifier: GPL-2.0

//! Values that are read often and replaced seldom: reading takes no lock and writes nothing.

use super::cpu::Pinned;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::alloc::kvec::PushError;
use kernel::prelude::*;
use kernel::sync::{new_mutex, rcu, Arc, ArcBorrow, Mutex, MutexGuard, UniqueArc};

/// So many old values are kept before one waits for their readers: to wait means to interrupt every CPU.
const KEPT: usize = 32;

/// A value that readers see whole, either as it was or as it is, while a writer puts a new one in its place.
///
/// C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)
///
/// # Invariants
///
/// `current` came from `Arc::into_raw`, and that reference is this one's. It is replaced with `writer` held, and dropped only
/// when every reader that could have seen it is done.
#[pin_data(PinnedDrop)]
pub(crate) struct Published<T: Send + Sync> {
    current: AtomicPtr<T>,
    /// One writer at a time; and what was replaced but not dropped yet.
    #[pin]
    writer: Mutex<KVec<Arc<T>>>,
}

impl<T: Send + Sync> Published<T> {
    pub(crate) fn new(value: T) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // INVARIANT: owned from here on.
            current: AtomicPtr::new(Arc::into_raw(Arc::new(value, GFP_KERNEL_ACCOUNT)?).cast_mut()),
            writer <- new_mutex!(KVec::new(), "loft::Published::writer"),
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

    /// The value as it is now, to keep. Like `read`.
    pub(crate) fn get(&self) -> Arc<T> {
        let _guard = rcu::read_lock();
        // SAFETY: By the invariant it came from `into_raw`, and is not dropped before this reader is done.
        unsafe { ArcBorrow::from_raw(self.current.load(Ordering::Acquire)) }.into()
    }

    /// The same as `read` where the thread is not preempted anyway: all that RCU waits for, such a stretch is as good as a read lock.
    #[inline]
    pub(crate) fn read_pinned<R>(&self, _pinned: &Pinned, read: impl FnOnce(&T) -> R) -> R {
        // SAFETY: As in `read`: synchronize_rcu_expedited() waits for CPUs that cannot be preempted, too.
        read(unsafe { &*self.current.load(Ordering::Acquire) })
    }

    /// Replaces the value by what `next` makes of it. `next` may sleep; if it fails nothing changes. When this returns,
    /// nobody reads the old value any more.
    pub(crate) fn update(&self, next: impl FnOnce(&T) -> Result<T>) -> Result {
        let guard = self.writer.lock();
        // SAFETY: Only a writer frees it, and this is the one writer.
        let current = unsafe { &*self.current.load(Ordering::Relaxed) };
        // Room for it first: when `next` has succeeded nothing fails any more.
        let room = UniqueArc::<T>::new_uninit(GFP_KERNEL_ACCOUNT)?;
        let new = room.write(next(current)?).into();
        self.replace(guard, new, false);
        Ok(())
    }

    /// Replaces the value by `new`. Whoever reads may have the old one for a little longer. With `keep` that is kept for some
    /// time, so that most calls need not wait for readers.
    pub(crate) fn set(&self, new: Arc<T>, keep: bool) {
        self.replace(self.writer.lock(), new, keep);
    }

    fn replace(&self, mut kept: MutexGuard<'_, KVec<Arc<T>>>, new: Arc<T>, keep: bool) {
        // INVARIANT: The reference to `new` is this one's now, the old one no longer. Release: as in `read`.
        let new = Arc::into_raw(new).cast_mut();
        let old = self.current.swap(new, Ordering::Release);
        // SAFETY: By the invariant it came from `into_raw`, and it was taken out above, by this thread alone.
        let old = unsafe { Arc::from_raw(old) };
        let old = match keep {
            true => match kept.push_within_capacity(old) {
                Ok(()) => return,
                Err(PushError(old)) => old,
            },
            false => old,
        };
        let room = if keep { KEPT } else { 0 };
        let room = KVec::with_capacity(room, GFP_KERNEL_ACCOUNT).unwrap_or_default();
        let older = core::mem::replace(&mut *kept, room);
        drop(kept);
        // SAFETY: In process context, holding nothing that a reader could wait for.
        unsafe { kernel::bindings::synchronize_rcu_expedited() };
        // All who had found them before are done.
        drop((old, older));
    }
}

#[pinned_drop]
impl<T: Send + Sync> PinnedDrop for Published<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant it came from `into_raw`; readers borrow this, so there are none.
        drop(unsafe { Arc::from_raw(self.current.load(Ordering::Relaxed)) });
    }
}
