// SPDX-License-Identifier: GPL-2.0

//! eventfds: signalling them, and being called when somebody else does.
//!
//! C headers: [`include/linux/eventfd.h`](srctree/include/linux/eventfd.h) and
//! [`include/linux/wait.h`](srctree/include/linux/wait.h)
//!
//! # Examples
//!
//! ```
//! struct Doorbell(Waiter);
//!
//! impl Listener for Doorbell {
//!     fn signalled(&self) {
//!         self.0.wake();
//!     }
//!
//!     fn closed(&self) {}
//! }
//!
//! // `signalled`: it had been before, of which the listener does not hear.
//! let (hook, signalled) = EventfdHook::new(EventFile::get(fd)?, Doorbell::new())?;
//! ```

use super::ffi;
use core::ffi::{c_int, c_uint, c_void};
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::{from_err_ptr, to_result};
use kernel::fs::file::LocalFile;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::types::Opaque;
use kernel::workqueue::Work;

/// A reference to an eventfd. The eventfd stays when its files are closed, but then nobody else can
/// reach it.
///
/// # Invariants
///
/// Holds one reference to the context.
pub(crate) struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: A counted reference to what has its own lock.
unsafe impl Send for EventFd {}
// SAFETY: All that a `&EventFd` does takes the context's lock.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// Returns the eventfd that the current process has open as `fd`.
    ///
    /// # Errors
    ///
    /// `EBADF` if nothing is open there, `EINVAL` if it is something else.
    pub(crate) fn get(fd: i32) -> Result<Self> {
        // SAFETY: Takes any number.
        Self::own(unsafe { bindings::eventfd_ctx_fdget(fd) })
    }

    /// Takes over a reference, if it is one and no error.
    fn own(context: *mut bindings::eventfd_ctx) -> Result<Self> {
        // INVARIANT: The reference is the caller's to give.
        NonNull::new(from_err_ptr(context)?).map(Self).ok_or(EINVAL)
    }

    /// Adds one to the count and wakes who waits. Does not sleep; may be called with interrupts
    /// off, but not from a [`Listener`].
    pub(crate) fn signal(&self) {
        // SAFETY: The context is referenced.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl PartialEq for EventFd {
    /// Returns whether it is one and the same eventfd.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}

/// An eventfd with an open file of it, for as long as it takes to make an [`EventfdHook`].
///
/// # Invariants
///
/// `event` is the eventfd of `file`.
pub(crate) struct EventFile {
    file: ARef<LocalFile>,
    event: EventFd,
}

impl EventFile {
    /// Returns the file that the current process has open as `fd`, with its eventfd.
    ///
    /// # Errors
    ///
    /// `EBADF` if nothing is open there, `EINVAL` if it is something else.
    pub(crate) fn get(fd: u32) -> Result<Self> {
        let file = LocalFile::fget(fd)?;
        // SAFETY: The file is open.
        let event = EventFd::own(unsafe { bindings::eventfd_ctx_fileget(file.as_ptr()) })?;
        // INVARIANT: The file was asked for its own.
        Ok(Self { file, event })
    }
}

/// What an [`EventfdHook`] calls.
///
/// Both functions are called with the eventfd's lock held and interrupts off, perhaps from a
/// device's interrupt: they may take raw spin locks and wake threads, but neither sleep nor signal
/// an eventfd.
pub(crate) trait Listener: Send + Sync {
    /// Learns that somebody has signalled the eventfd, once or more often; its count is zero again.
    fn signalled(&self);
    /// Learns that the last file of the eventfd has been closed: nobody will signal it any more.
    fn closed(&self);
}

/// A question to an eventfd's file whether it can be read, which is how to find its wait queue.
///
/// # Invariants
///
/// The table is the first field: the address of one is that of the other.
#[repr(C)]
struct Question {
    table: bindings::poll_table,
    /// What to put into the queue.
    entry: *mut bindings::wait_queue_entry,
    /// Whether that was done; `EBUSY` if somebody else is alone in being called.
    hooked: Result,
}

impl Question {
    /// Puts the entry first into the queue, alone in being called.
    ///
    /// # Safety
    ///
    /// Called by the file that is asked, with the table of a `Question` whose entry is unused.
    unsafe extern "C" fn queue(
        _file: *mut bindings::file,
        head: *mut bindings::wait_queue_head,
        table: *mut bindings::poll_table,
    ) {
        // SAFETY: By the requirement, and the invariant.
        unsafe {
            let this = &mut *table.cast::<Self>();
            this.hooked = to_result(bindings::add_wait_queue_priority_exclusive(
                head, this.entry,
            ));
        }
    }
}

/// Has a [`Listener`] called for each signal of an eventfd, instead of those who poll it, until it
/// is dropped.
///
/// # Invariants
///
/// While `hooked`, the entry is in the wait queue of `event`, where only `drop` takes it out.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct EventfdHook<T: Listener> {
    #[pin]
    entry: Opaque<bindings::wait_queue_entry>,
    event: EventFd,
    hooked: Atomic<bool>,
    #[pin]
    listener: T,
}

// SAFETY: The wait queue's entry may be taken out by any thread; the rest may be shared and sent.
unsafe impl<T: Listener> Send for EventfdHook<T> {}
// SAFETY: A `&EventfdHook` gives access to the listener, which is `Sync`, and to the eventfd.
unsafe impl<T: Listener> Sync for EventfdHook<T> {}

impl<T: Listener> EventfdHook<T> {
    /// Hooks `listener` to an eventfd. True: it had been signalled before, and still is: the
    /// listener is not called for that, and the count stays.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the eventfd has a hook already, here or elsewhere.
    pub(crate) fn new(
        file: EventFile,
        listener: impl PinInit<T>,
    ) -> Result<(Pin<KBox<Self>>, bool)> {
        let EventFile { file, event } = file;
        let this = KBox::pin_init(
            pin_init!(Self {
                entry <- Opaque::zeroed(),
                event,
                hooked: Atomic::new(false),
                listener <- listener,
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        let mut question = Question {
            table: bindings::poll_table::default(),
            entry: this.entry.get(),
            hooked: Err(EINVAL),
        };
        let table = (&raw mut question).cast::<bindings::poll_table>();
        // SAFETY:
        // - The file is that of `event`, and open; its wait queue is the eventfd's.
        // - The entry is pinned and unused; it stays in the wait queue until `drop`.
        // - All of `this` is initialised: the callback may come at once.
        // - The table is the first field of `question`, which outlives the call.
        let events = unsafe {
            ffi::loft_init_waitqueue_func_entry(question.entry, Some(Self::wake));
            ffi::loft_init_poll_funcptr(table, Some(Question::queue));
            ffi::loft_vfs_poll(file.as_ptr(), table)
        };
        question.hooked?;
        // INVARIANT: It is in the queue.
        this.hooked.store(true, Relaxed);
        Ok((this, events & ffi::LOFT_EPOLLIN != 0))
    }

    /// Returns what is called.
    pub(crate) fn listener(&self) -> &T {
        &self.listener
    }

    /// Returns whether it is this eventfd's hook.
    pub(crate) fn is_of(&self, event: &EventFd) -> bool {
        self.event == *event
    }

    /// # Safety
    ///
    /// Called by whoever signals or closes the eventfd, with its lock held and interrupts off, for
    /// an entry that is hooked.
    unsafe extern "C" fn wake(
        entry: *mut bindings::wait_queue_entry,
        _: c_uint,
        _: c_int,
        key: *mut c_void,
    ) -> c_int {
        // SAFETY: The entry is the first field (repr(C); `Opaque` is transparent) of a
        // `EventfdHook<T>`. It is hooked, and taking it out needs the lock that is held now.
        let this = unsafe { &*entry.cast::<Self>() };
        let events = key as usize as c_uint;
        let mut taken = 0;
        if events & ffi::LOFT_EPOLLIN != 0 {
            let mut count = 0;
            // SAFETY: The context is referenced, and its lock held.
            unsafe { bindings::eventfd_ctx_do_read(this.event.0.as_ptr(), &mut count) };
            this.listener.signalled();
            taken = 1;
        }
        if events & ffi::LOFT_EPOLLHUP != 0 {
            this.listener.closed();
        }
        taken
    }
}

#[pinned_drop]
impl<T: Listener> PinnedDrop for EventfdHook<T> {
    fn drop(self: Pin<&mut Self>) {
        if self.hooked.load(Relaxed) {
            let mut count = 0;
            // SAFETY: By the invariant the entry is in that queue. This takes the queue's lock,
            // under which the callback runs: it is not running when this returns, and will not
            // again.
            unsafe {
                bindings::eventfd_ctx_remove_wait_queue(
                    self.event.0.as_ptr(),
                    self.entry.get(),
                    &mut count,
                )
            };
        }
    }
}

/// Waits until `work` is neither queued nor running. May sleep.
pub(crate) fn flush<T: ?Sized, const ID: u64>(work: &Work<T, ID>) {
    // SAFETY: The work item was initialised when the `Work` was made. May sleep: called in process
    // context.
    unsafe { bindings::flush_work(Work::raw_get(work)) };
}
