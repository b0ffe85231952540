// SPDX-License-Identifier: GPL-2.0

//! The mutex that a killed process does not wait for.
//!
//! C header: [`include/linux/mutex.h`](srctree/include/linux/mutex.h)

use super::ffi;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::lock::mutex::{Mutex, MutexGuard};
use kernel::sync::LockClassKey;

/// A mutex whose wait a fatal signal ends.
///
/// # Examples
///
/// ```
/// let mutex = KBox::pin_init(
///     KillableMutex::new(0, c"example", static_lock_class!()),
///     GFP_KERNEL,
/// )?;
/// *mutex.lock()? += 1;
/// ```
#[pin_data]
pub(crate) struct KillableMutex<T> {
    #[pin]
    inner: Mutex<T>,
}

impl<T> KillableMutex<T> {
    /// Makes it with `data` in it; `name` and `key` are lockdep's.
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Mutex::new(data, name, key),
        })
    }

    /// Takes the lock. May sleep.
    ///
    /// # Errors
    ///
    /// `EINTR` if the process is being killed.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>> {
        // A `Lock` is `repr(C)`, and the C lock its first field, in an `Opaque`.
        let raw = (&raw const self.inner).cast::<bindings::mutex>().cast_mut();
        // SAFETY: By the line above it is the C lock, which `new` has initialised.
        if unsafe { ffi::loft_mutex_lock_killable(raw) } != 0 {
            return Err(EINTR);
        }
        // SAFETY: The lock was taken above, by this thread.
        Ok(unsafe { MutexGuard::new(&self.inner, ()) })
    }
}
