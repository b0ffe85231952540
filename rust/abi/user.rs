// SPDX-License-Identifier: GPL-2.0

//! Reading ioctl arguments from the VMM and writing answers back.

use kernel::prelude::*;
use kernel::transmute::{AsBytes, FromBytes};
use kernel::uaccess::{UserPtr, UserSlice};

/// Copies a `T` from `address`; `EFAULT` if it is not all there.
pub(super) fn read<T: FromBytes>(address: usize) -> Result<T> {
    UserSlice::new(UserPtr::from_addr(address), size_of::<T>())
        .reader()
        .read()
}

/// Copies `value` to `address`.
pub(super) fn write<T: AsBytes>(address: usize, value: &T) -> Result {
    UserSlice::new(UserPtr::from_addr(address), size_of::<T>())
        .writer()
        .write(value)
}
