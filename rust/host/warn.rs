// SPDX-License-Identifier: GPL-2.0

//! Reports of states that cannot be.

/// Warns, once, where `$cond` holds; returns whether it does. For what neither a guest nor a VMM
/// can bring about: the report names a mistake of loft's, and taints the kernel.
///
/// C header: [`include/asm-generic/bug.h`](srctree/include/asm-generic/bug.h)
macro_rules! warn_on_once {
    ($cond:expr) => {{
        static WARNED: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
        let cond = $cond;
        if cond && !WARNED.swap(true, core::sync::atomic::Ordering::Relaxed) {
            kernel::warn_on!(true);
        }
        cond
    }};
}

pub(crate) use warn_on_once;
