// SPDX-License-Identifier: GPL-2.0

//! Linux as loft needs it, where the `kernel` crate has no abstraction yet.
//!
//! Each file wraps one thing, with a safe interface, as it would be sent to the `kernel` crate. The
//! C side of what is inline or a macro in C is in `helpers`.

pub(crate) mod anon_inode;
pub(crate) mod bug;
pub(crate) mod context_tracking;
pub(crate) mod cpu;
pub(crate) mod debugfs;
pub(crate) mod entry_virt;
pub(crate) mod errno;
pub(crate) mod eventfd;
pub(crate) mod file;
pub(crate) mod fpsimd;
pub(crate) mod gup;
pub(crate) mod irqflags;
pub(crate) mod killable_mutex;
pub(crate) mod kvm;
pub(crate) mod memory_failure;
pub(crate) mod miscdevice;
pub(crate) mod mm;
mod mmap_lock;
pub(crate) mod mmu_notifier;
pub(crate) mod module;
pub(crate) mod page;
pub(crate) mod percpu_irq;
pub(crate) mod perf;
mod platform;
pub(crate) mod preempt;
pub(crate) mod preempt_notifier;
pub(crate) mod random;
pub(crate) mod raw_spinlock;
pub(crate) mod rcu_arc;
pub(crate) mod rcuwait;
pub(crate) mod run_page;
pub(crate) mod rwlock;
pub(crate) mod sched;
pub(crate) mod sigmask;
pub(crate) mod sync;
pub(crate) mod time;
pub(crate) mod trace;
mod uapi;

/// What bindgen made of `bindings.h` and of `helpers`.
#[allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ptr_cast_constness,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    // Only pointers to the kernel's own structures are passed, never those by value.
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]
pub(crate) mod ffi {
    use ::kernel::bindings::*;
    use ::kernel::ffi;

    include!(env!("LOFT_BINDINGS"));
    include!(env!("LOFT_HELPERS"));
}
