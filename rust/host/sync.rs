// SPDX-License-Identifier: GPL-2.0

//! The lock order of loft, outermost first; a thread takes them in this order only:
//!
//! ```text
//! AllVms::vms      mutex      listing VMs, and reading their counters
//!   VmStats::vcpus mutex      finding them; nothing is taken inside
//! Vm::making_vcpu  mutex      creating a vCPU
//! Vcpu::state      mutex      one vCPU's ioctls
//!   Vm::config     mutex      creating vCPUs and devices, memory slots
//!     VmGic::setup mutex      where and how large the interrupt controller is
//!     Its::model   mutex      one ITS's tables and registers; guest memory is accessed inside
//!       VmGic::making_lpis mutex  making a block of LPIs; nothing is taken inside
//!       Its::events  raw, irq   its translations
//!         Gic::shared
//!     GuestMemory::mmu  rwlock  page faults read, mmu notifiers and slot changes write
//!     VmStats::vcpus mutex    adding one
//!     VcpuHandle::interface  spin  a stopped vCPU's CPU interface; nothing is taken inside
//!     NEXT_VMID    mutex      handing out VMIDs; interrupts all CPUs inside
//!     Gic::shared  raw, irq   the interrupts that all vCPUs share
//!       Gic::bank  raw, irq   one vCPU's interrupts; never two of them, nothing is taken inside.
//!                             Both also in a fast exit
//!   Irqfds::state  mutex      irqfds, routing
//!     (the wait queue of an eventfd)  irq   held by whoever signals it
//!       Irqfd::route  raw, irq   where that one leads
//!         Its::events raw, irq   for a message
//!           Gic::shared
//!     Vm::vcpus    raw, irq   finding vCPUs; nothing is taken inside
//! ```
//!
//! Atomic variables are `kernel::sync::atomic`'s, whose memory model is the kernel's (LKMM), but
//! for those that are accessed between KVM_RUN and the guest, or in an exit. Of the former each
//! access is a call of a C function in kernels without `RUST_INLINE_HELPERS`, as Debian's are. The
//! latter are `core`'s: on arm64 its relaxed loads and stores, acquire, release and `fence(SeqCst)`
//! are the instructions of READ_ONCE(), WRITE_ONCE(), smp_load_acquire(), smp_store_release() and
//! smp_mb(). Nothing here relies on an order that only address, data or control dependencies give,
//! which is where the two models differ. Who writes them is Rust only.

use kernel::prelude::*;

kernel::sync::global_lock! {
    /// The next VMID of the current generation to be handed out (`vm::vmid`).
    // SAFETY: Initialised by `init_statics`, which the module calls before it can have any VM.
    pub(crate) unsafe(uninit) static NEXT_VMID: Mutex<u64> = 1;
}

/// Initialises the locks that are statics; once, when the module is loaded.
pub(crate) fn init_statics() {
    // SAFETY: Called once.
    unsafe { NEXT_VMID.init() };
}
