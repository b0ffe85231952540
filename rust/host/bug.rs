// SPDX-License-Identifier: GPL-2.0

//! Warnings about states that cannot be. The `kernel` crate has `warn_on!`; this adds one that
//! warns a single time.
//!
//! C header: [`include/asm-generic/bug.h`](srctree/include/asm-generic/bug.h)

/// Warns, the first time that `cond` is true here, and returns `cond`.
///
/// It is for what a guest or a program could otherwise repeat until the log is full. As long as
/// `cond` is false it costs no more than looking at it.
///
/// # Examples
///
/// ```
/// if warn_on_once!(vcpu.is_none()) {
///     return Err(EINVAL);
/// }
/// ```
macro_rules! warn_on_once {
    ($cond:expr) => {{
        let cond = $cond;
        if cond {
            const ONCE_FLAGS: u32 = ::kernel::bug::bugflag_taint(::kernel::bindings::TAINT_WARN)
                | ::kernel::bindings::BUGFLAG_ONCE;
            ::kernel::warn_flags!(::core::file!(), ONCE_FLAGS);
        }
        cond
    }};
}

pub(crate) use warn_on_once;
