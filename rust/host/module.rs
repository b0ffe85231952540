// SPDX-License-Identifier: GPL-2.0

//! The module's parameters and its version: `module.c` has them, since the kernel crate's macro
//! knows no range, no sysfs and no version.

use super::ffi;

/// Returns the version, as `modinfo` shows it.
pub(crate) fn version() -> &'static str {
    let (_nul, text) = ffi::LOFT_MODULE_VERSION.split_last().unwrap_or((&0, &[]));
    core::str::from_utf8(text).unwrap_or("")
}

/// Returns whether /dev/kvm is wanted as well (the parameter `kvm_node`).
pub(crate) fn kvm_node() -> bool {
    // SAFETY: Parameters are written before the module's init function runs, and not again: sysfs
    // has them read-only.
    unsafe { ffi::loft_kvm_node != 0 }
}

/// Returns whether exits are answered in the vector (the parameter `fast`).
pub(crate) fn fast_exits() -> bool {
    // SAFETY: Parameters are written before the module's init function runs, and not again.
    unsafe { ffi::loft_fast != 0 }
}

/// Returns for how many nanoseconds at most a waiting vCPU looks for something to do before it
/// sleeps (the parameter `poll_us`).
pub(crate) fn max_poll_ns() -> u64 {
    // SAFETY: Parameters are written before the module's init function runs, and not again.
    u64::from(unsafe { ffi::loft_poll_us }) * 1000
}

/// Returns for how many nanoseconds at most a WFI waits in the vector (the parameter `wait_us`).
pub(crate) fn max_wait_ns() -> u64 {
    // SAFETY: Parameters are written before the module's init function runs, and not again.
    u64::from(unsafe { ffi::loft_wait_us }) * 1000
}

/// Returns the errata to work around although the CPUs do not have them (the parameter `errata`).
pub(crate) fn pretended_errata() -> u32 {
    // SAFETY: Parameters are written before the module's init function runs, and not again.
    unsafe { ffi::loft_pretended_errata }
}
