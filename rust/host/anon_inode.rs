// SPDX-License-Identifier: GPL-2.0

//! Anonymous files, for VMs, vCPUs and devices.
//!
//! C header: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h)

use super::ffi;
use super::file::{FileObject, FileOps};
use core::ffi::c_int;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::fs::file::FileDescriptorReservation;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;
use kernel::types::ForeignOwnable;

/// Makes a file descriptor of the current process for `object`, as KVM's ioctls return one.
pub(crate) fn new_fd<T: FileObject>(object: Arc<T>) -> Result<isize> {
    Ok(NewFd::prepare(object)?.install())
}

/// A file and a file descriptor for it, of which nobody knows yet. Dropped, both are gone.
///
/// # Examples
///
/// ```
/// let fd = NewFd::prepare(object)?;
/// let number = fd.number();
/// tell_userspace(number)?; // what may fail comes before userspace can use it
/// fd.install();
/// ```
pub(crate) struct NewFd {
    fd: FileDescriptorReservation,
    file: ARef<File>,
}

impl NewFd {
    /// Does all that may fail.
    ///
    /// # Errors
    ///
    /// `EMFILE` if the process has no descriptor left, `ENOMEM`.
    pub(crate) fn prepare<T: FileObject>(object: Arc<T>) -> Result<Self> {
        let fd = FileDescriptorReservation::get_unused_fd_flags(bindings::O_CLOEXEC)?;
        let data = object.into_foreign();
        // SAFETY: The operations and the name are static; `data` is what they expect.
        let file = unsafe {
            ffi::anon_inode_getfile_fmode(
                T::NAME.as_char_ptr().cast(),
                &FileOps::<T>::OPS,
                data.cast(),
                if T::READABLE {
                    bindings::O_RDONLY
                } else {
                    bindings::O_RDWR
                } as c_int,
                // It can be read, so from anywhere: anonymous files are not for pread() otherwise.
                if T::READABLE {
                    ffi::LOFT_FMODE_PREAD
                } else {
                    0
                },
            )
        };
        let file = from_err_ptr(file).and_then(|file| NonNull::new(file).ok_or(ENOMEM));
        match file {
            Ok(file) => {
                // SAFETY: The file is new and the reference is ours; it has no position that
                // anybody could be using.
                let file = unsafe { ARef::from_raw(file.cast::<File>()) };
                Ok(Self { fd, file })
            }
            Err(error) => {
                // SAFETY: No file was made, so the reference is still ours.
                drop(unsafe { <Arc<T> as ForeignOwnable>::from_foreign(data) });
                Err(error)
            }
        }
    }

    /// Returns the descriptor that it will have.
    pub(crate) fn number(&self) -> u32 {
        self.fd.reserved_fd()
    }

    /// Gives it to the process, and returns its number.
    pub(crate) fn install(self) -> isize {
        let number = self.number() as isize;
        self.fd.fd_install(self.file);
        number
    }
}
