// SPDX-License-Identifier: GPL-2.0

//! Files whose behaviour is a Rust type: see [`super::miscdevice`] and [`super::anon_inode`].
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)
//!
//! `kernel::miscdevice` leaves `file_operations::owner` empty, so a module could go away under an
//! open file. Here it is always set: `rmmod` is refused with EBUSY as long as any of these files is
//! open.
//!
//! # Examples
//!
//! ```
//! impl FileObject for Counter {
//!     const NAME: &'static CStr = c"loft-counter";
//!
//!     fn ioctl(this: &Arc<Self>, command: u32, _argument: usize) -> Result<isize> {
//!         match command {
//!             COUNT => Ok(this.count()),
//!             _ => Err(ENOTTY),
//!         }
//!     }
//! }
//!
//! let fd = NewFd::prepare(Arc::new(Counter::new(), GFP_KERNEL_ACCOUNT)?)?;
//! Ok(fd.install())
//! ```

use core::ffi::{c_int, c_uint};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use kernel::bindings;
use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::Arc;
use kernel::types::{ForeignOwnable, Opaque};
use kernel::uaccess::{UserPtr, UserSlice, UserSliceWriter};

/// What an open file does.
pub(crate) trait FileObject: Send + Sync + Sized + 'static {
    /// The name in `/proc/PID/fd`.
    const NAME: &'static CStr;

    /// Does what `ioctl(2)` asks for. May sleep.
    fn ioctl(this: &Arc<Self>, command: u32, argument: usize) -> Result<isize>;

    /// Tells whether there is something to read.
    const READABLE: bool = false;

    /// Does what `read(2)` and `pread(2)` ask for, if [`FileObject::READABLE`]. Returns the number
    /// of bytes that were written to `to`.
    fn read(&self, _to: &mut UserSliceWriter, _offset: usize) -> Result<usize> {
        Err(EINVAL)
    }

    /// Does what `mmap(2)` asks for, in an area that nobody else has yet.
    fn mmap(&self, _vma: &VmaNew) -> Result {
        Err(ENODEV)
    }

    /// Adds lines to `/proc/PID/fdinfo/FD`. Waits for no lock that an ioctl may hold for long.
    fn show_fdinfo(&self, _to: &SeqFile) {}

    /// Learns that the last reference to the file is gone.
    fn release(&self) {}
}

/// `THIS_MODULE` of C. The `module!` macro has it too, but under another name in each kernel
/// version.
pub(super) const OWNER: *mut bindings::module = {
    // Its address is all that is used, so its layout does not matter.
    #[allow(improper_ctypes)]
    extern "C" {
        static __this_module: Opaque<bindings::module>;
    }
    // SAFETY: The build system defines it for every module; its address is all that is taken.
    unsafe { __this_module.get() }
};

/// The C side of a [`FileObject`].
pub(super) struct FileOps<T>(PhantomData<T>);

impl<T: FileObject> FileOps<T> {
    pub(super) const OPS: bindings::file_operations = bindings::file_operations {
        owner: OWNER,
        release: Some(Self::release),
        read: if T::READABLE { Some(Self::read) } else { None },
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: None,
        mmap: Some(Self::mmap),
        llseek: Some(bindings::noop_llseek),
        show_fdinfo: Some(Self::show_fdinfo),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` is an open file with these operations, so its private data came from
    /// `Arc::into_foreign`.
    unsafe fn borrow<'a>(file: *mut bindings::file) -> kernel::sync::ArcBorrow<'a, T> {
        // SAFETY: By the requirement; it is released only in `release`, after every other call.
        unsafe { <Arc<T> as ForeignOwnable>::borrow((*file).private_data) }
    }

    /// # Safety
    ///
    /// Called by the kernel for a file with these operations.
    unsafe extern "C" fn release(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The last call for this file; it gives back the reference that opening made.
        let this = unsafe { <Arc<T> as ForeignOwnable>::from_foreign((*file).private_data) };
        this.release();
        0
    }

    /// # Safety
    ///
    /// Called by the kernel for a file with these operations.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        to: *mut kernel::ffi::c_char,
        size: usize,
        position: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: The kernel calls this for an open file of ours, with a position that is its own
        // for the call.
        let (this, position) = unsafe { (Self::borrow(file), &mut *position) };
        let read = || {
            let offset = usize::try_from(*position).map_err(|_| EINVAL)?;
            let mut to = UserSlice::new(UserPtr::from_ptr(to.cast()), size).writer();
            this.read(&mut to, offset)
        };
        match read() {
            Ok(count) => {
                *position += count as bindings::loff_t;
                count as isize
            }
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by the kernel for a file with these operations.
    unsafe extern "C" fn ioctl(
        file: *mut bindings::file,
        command: c_uint,
        argument: usize,
    ) -> isize {
        // SAFETY: The kernel calls this for an open file of ours. It is the file's own reference,
        // lent for the call: never dropped here.
        let this = unsafe {
            ManuallyDrop::new(<Arc<T> as ForeignOwnable>::from_foreign(
                (*file).private_data,
            ))
        };
        match T::ioctl(&this, command, argument) {
            Ok(value) => value,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by the kernel for a file with these operations.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The kernel calls this for an open file of ours; `vma` is being set up and not yet
        // visible to others.
        let (this, vma) = unsafe { (Self::borrow(file), VmaNew::from_raw(vma)) };
        match this.mmap(vma) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the kernel for a file with these operations.
    unsafe extern "C" fn show_fdinfo(to: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: The kernel calls this for an open file of ours; `to` is this thread's for the
        // call.
        let (this, to) = unsafe { (Self::borrow(file), SeqFile::from_raw(to)) };
        this.show_fdinfo(to);
    }
}
