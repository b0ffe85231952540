// SPDX-License-Identifier: GPL-2.0

//! The FP/SIMD registers in the kernel's own use.
//!
//! C header: [`arch/arm64/include/asm/neon.h`](srctree/arch/arm64/include/asm/neon.h)

use super::ffi;
use core::marker::PhantomData;
use kernel::prelude::*;
use kernel::types::{NotThreadSafe, Opaque};

/// Proves that the FP/SIMD registers are the current thread's to use as it likes, for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct FpOwned<'a>(PhantomData<&'a ()>, NotThreadSafe);

/// Has room for what the kernel keeps of the FP/SIMD registers while it is preempted.
///
/// # Examples
///
/// ```
/// let mut room = KBox::pin(HostFp::new(), GFP_KERNEL)?;
/// room.as_mut().with(|fp| registers.load(fp));
/// ```
#[repr(C, align(16))]
pub(crate) struct HostFp(Opaque<kernel::bindings::user_fpsimd_state>);

impl HostFp {
    /// Makes it, with all registers zero.
    pub(crate) fn new() -> Self {
        Self(Opaque::zeroed())
    }

    /// Runs `body` with the FP/SIMD registers its own: the kernel has saved the thread's, and keeps
    /// the body's across preemption and softirqs (TIF_KERNEL_FPSTATE).
    ///
    /// Only in process context, and not nested, with another room neither: the kernel stops (BUG)
    /// before that could lose registers.
    pub(crate) fn with<R>(self: Pin<&mut Self>, body: impl FnOnce(FpOwned<'_>) -> R) -> R {
        // SAFETY: The room is borrowed mutably until `kernel_neon_end`, so that nobody else uses
        // it; `body` cannot unwind.
        unsafe { ffi::kernel_neon_begin(self.0.get()) };
        let ret = body(FpOwned(PhantomData, NotThreadSafe));
        // SAFETY: On the same thread as the begin above, with the same room.
        unsafe { ffi::kernel_neon_end(self.0.get()) };
        ret
    }
}

// SAFETY: It is plain memory. The kernel uses it only during `with`, on one thread.
unsafe impl Send for HostFp {}
// SAFETY: A `&HostFp` gives access to nothing.
unsafe impl Sync for HostFp {}
