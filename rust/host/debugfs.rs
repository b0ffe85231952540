// SPDX-License-Identifier: GPL-2.0

//! Directories of debugfs whose files say something of a Rust value.
//!
//! C headers: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h) and
//! [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)
//!
//! `kernel::debugfs` leaves `file_operations::owner` empty. So the module could go away under an
//! open file, and closing that calls what was in the module. Here it is always set, as in
//! [`super::file`]: `rmmod` is refused as long as a file is open, also one that is removed.
//!
//! Removing a file waits for those who are reading it. Whoever drops a [`Dir`] holds no lock that
//! [`Shown::show`] takes.

use super::file::OWNER;
use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::Arc;

/// What a file shows, each time that it is read from its beginning.
pub(crate) trait Shown: Send + Sync + 'static {
    /// Returns the file's name.
    fn name(&self) -> &CStr;

    /// Writes down what is to be read. May sleep.
    fn show(&self, to: &SeqFile);
}

/// A directory with a file for each of some values. It is there while this lives. Its files can be
/// read by anyone whom the administrator lets into debugfs, which without that is root.
///
/// # Invariants
///
/// `dentry` is a directory of debugfs, which is this one's to remove. The data of each file in it
/// is one of `files`, which stay where they are.
///
/// # Examples
///
/// ```
/// let all = Arc::new(Dir::new(c"example", sums)?, GFP_KERNEL)?;
/// let one = Dir::within(all, c"1", numbers)?;
/// ```
pub(crate) struct Dir<T: Shown, P = ()> {
    dentry: NonNull<bindings::dentry>,
    files: KVec<T>,
    /// What keeps the directory that this one is in.
    _parent: P,
}

// SAFETY: Any thread may remove a directory, and drop what is in `files`: that is `Send`.
unsafe impl<T: Shown, P: Send> Send for Dir<T, P> {}
// SAFETY: A `&Dir` gives access to the address of the directory alone.
unsafe impl<T: Shown, P: Sync> Sync for Dir<T, P> {}

impl<T: Shown> Dir<T> {
    /// Makes a directory in the root of debugfs. A file that cannot be made is left out.
    ///
    /// Errors: `EPERM` if debugfs is off, `EEXIST` if there is such a directory, `ENOMEM`.
    pub(crate) fn new(name: &CStr, files: KVec<T>) -> Result<Self> {
        // SAFETY: Null is debugfs's root, which stays.
        unsafe { Self::create(ptr::null_mut(), name, files, ()) }
    }
}

impl<T: Shown, U: Shown> Dir<T, Arc<Dir<U>>> {
    /// Makes a directory in another one. A file that cannot be made is left out.
    ///
    /// Errors: `EEXIST` if there is such a directory, `ENOMEM`.
    pub(crate) fn within(parent: Arc<Dir<U>>, name: &CStr, files: KVec<T>) -> Result<Self> {
        let at = parent.dentry.as_ptr();
        // Creating it would say that to the kernel's log.
        // SAFETY: By the invariant of `parent` it is a directory of debugfs's, and stays one for
        // the call.
        let other = unsafe { bindings::debugfs_lookup(name.as_char_ptr(), at) };
        if !other.is_null() {
            // SAFETY: Looking it up has made this reference.
            unsafe { bindings::dput(other) };
            return Err(EEXIST);
        }
        // SAFETY: By the invariant of `parent`, which the new directory keeps.
        unsafe { Self::create(at, name, files, parent) }
    }
}

impl<T: Shown, P> Dir<T, P> {
    /// # Safety
    ///
    /// `at` is null or a directory of debugfs's, which stays while `parent` lives.
    unsafe fn create(
        at: *mut bindings::dentry,
        name: &CStr,
        files: KVec<T>,
        parent: P,
    ) -> Result<Self> {
        // SAFETY: By the requirement.
        let dentry = from_err_ptr(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), at) })?;
        // INVARIANT: It was made above, and has no files yet.
        let dir = Self {
            dentry: NonNull::new(dentry).ok_or(ENOMEM)?,
            files,
            _parent: parent,
        };
        for file in &dir.files {
            // INVARIANT: The data is in `files`, which is not changed from here on.
            // SAFETY: The directory is `dir`'s, and so there. The operations are for such data,
            // which lives until `dir` is dropped: that removes the file first.
            unsafe {
                bindings::debugfs_create_file_full(
                    file.name().as_char_ptr(),
                    0o444,
                    dir.dentry.as_ptr(),
                    ptr::from_ref(file).cast_mut().cast(),
                    ptr::null(),
                    &ShownOps::<T>::OPS,
                )
            };
        }
        Ok(dir)
    }
}

impl<T: Shown, P> Drop for Dir<T, P> {
    fn drop(&mut self) {
        // SAFETY: By the invariant. It returns when nobody uses the data of the files any more, and
        // nobody will.
        unsafe { bindings::debugfs_remove(self.dentry.as_ptr()) };
    }
}

/// The C side of [`Shown`].
struct ShownOps<T>(PhantomData<T>);

impl<T: Shown> ShownOps<T> {
    const OPS: bindings::file_operations = bindings::file_operations {
        owner: OWNER,
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by debugfs for a file with these operations.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: debugfs lends both for the call. `show` is for the data of such a file.
        unsafe { bindings::single_open(file, Some(Self::show), (*inode).i_private) }
    }

    /// # Safety
    ///
    /// Called by the kernel for a file that [`Self::open`] has opened.
    unsafe extern "C" fn show(to: *mut bindings::seq_file, _: *mut c_void) -> c_int {
        // SAFETY: `to` is this thread's for the call. Its private data is that of the file, which
        // is not removed before debugfs has done with the read that this is called by: so by the
        // invariant of `Dir` it is a `T`.
        let (this, to) = unsafe { (&*(*to).private.cast::<T>(), SeqFile::from_raw(to)) };
        this.show(to);
        0
    }
}
