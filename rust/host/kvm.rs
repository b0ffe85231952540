// SPDX-License-Identifier: GPL-2.0

//! KVM, where the kernel has it on beside loft.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h) and
//! [`include/uapi/linux/kvm.h`](srctree/include/uapi/linux/kvm.h)
//!
//! # Examples
//!
//! ```
//! let held = HeldOn::new()?;
//! // As long as `held` is there KVM is on, on all CPUs.
//! debug_assert!(kvm::is_on());
//! ```

use super::ffi;
use core::ffi::{c_int, c_uint};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::bindings;
use kernel::error::from_err_ptr;
use kernel::prelude::*;

/// Whether there is a [`HeldOn`].
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Returns whether guests of KVM's may run on this machine as well. It does not change while loft
/// is loaded.
#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// An open file.
///
/// # Invariants
///
/// The pointer is a counted reference to a file.
struct OpenFile(NonNull<bindings::file>);

// SAFETY: A counted reference to a file, usable from any thread.
unsafe impl Send for OpenFile {}
// SAFETY: A file may be used by several threads at a time.
unsafe impl Sync for OpenFile {}

impl OpenFile {
    /// Opens the file at `path`. Called in a process, which may sleep.
    fn open(path: &CStr) -> Result<Self> {
        const FLAGS: i32 = (bindings::O_RDWR | bindings::O_CLOEXEC) as i32;
        // SAFETY: The path is a C string; whoever loads a module is a process, which has files.
        let file = from_err_ptr(unsafe { bindings::filp_open(path.as_char_ptr(), FLAGS, 0) })?;
        // INVARIANT: That is a reference, which is this one's now.
        NonNull::new(file).map(Self).ok_or(ENODEV)
    }

    /// Takes over the current process's descriptor `fd`.
    fn take(fd: c_uint) -> Result<Self> {
        // SAFETY: Any number may be asked for.
        let file = NonNull::new(unsafe { bindings::fget(fd) });
        // SAFETY: As above.
        unsafe { bindings::close_fd(fd) };
        // INVARIANT: fget() has taken a reference.
        file.map(Self).ok_or(EBADF)
    }

    /// Calls the file's ioctl. `command` takes a number as its argument, not an address.
    fn ioctl(&self, command: u32, argument: usize) -> Result<c_int> {
        // SAFETY: By the invariant the file is open, and has its operations until it is not.
        let ioctl = unsafe { (*(*self.0.as_ptr()).f_op).unlocked_ioctl }.ok_or(ENOTTY)?;
        // SAFETY: It is this file's.
        let result = unsafe { ioctl(self.0.as_ptr(), command, argument) };
        let result = c_int::try_from(result).map_err(|_| ENOTTY)?;
        if result < 0 {
            return Err(Error::from_errno(result));
        }
        Ok(result)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // SAFETY: Gives back the reference, by the invariant.
        unsafe { bindings::fput(self.0.as_ptr()) };
    }
}

/// Keeps KVM on, on all CPUs, while this lives: its interrupts stay enabled, which loft's guests
/// use too, and it does not start a CPU anew while a guest of loft's is there.
///
/// With kvm.enable_virt_at_load=0 KVM is on only while it has a VM, and nothing that it exports to
/// modules changes that. So this has a VM of KVM's, in which nothing ever runs, in the way in which
/// programs have one.
pub(crate) struct HeldOn {
    _vm: OpenFile,
}

impl HeldOn {
    /// Creates the VM. Called in a process, which may sleep.
    ///
    /// # Errors
    ///
    /// Those of opening /dev/kvm and of KVM_CREATE_VM; `ENODEV` if that is not KVM.
    pub(crate) fn new() -> Result<Self> {
        let kvm = OpenFile::open(c"/dev/kvm")?;
        let version = kvm.ioctl(ffi::LOFT_KVM_GET_API_VERSION, 0)?;
        if version != ffi::KVM_API_VERSION as c_int {
            return Err(ENODEV);
        }
        let fd = kvm.ioctl(ffi::LOFT_KVM_CREATE_VM, 0)?;
        let vm = OpenFile::take(c_uint::try_from(fd).map_err(|_| ENODEV)?)?;
        IS_ON.store(true, Ordering::Relaxed);
        Ok(Self { _vm: vm })
    }
}
