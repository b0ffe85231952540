// SPDX-License-Identifier: GPL-2.0

//! Error numbers of the user ABI that the kernel crate does not name.
//!
//! C header: [`include/linux/errno.h`](srctree/include/linux/errno.h)
//!
//! # Examples
//!
//! ```
//! match page {
//!     Err(error) if error == ehwpoison() => report_poison(address),
//!     page => page?,
//! }
//! ```

use kernel::bindings;
use kernel::error::Error;

/// Returns ENOSYS.
pub(crate) fn enosys() -> Error {
    Error::from_errno(-(bindings::ENOSYS as i32))
}

/// Returns EHWPOISON.
pub(crate) fn ehwpoison() -> Error {
    Error::from_errno(-(bindings::EHWPOISON as i32))
}

/// Returns EOPNOTSUPP.
pub(crate) fn eopnotsupp() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as i32))
}
