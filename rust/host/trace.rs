// SPDX-License-Identifier: GPL-2.0

//! loft's trace events: the system `loft`, with KVM's names and fields.
//!
//! While nobody traces any of them, each place that has one costs a NOP ([`is_on`]). None may be
//! told of in the exception vector of a guest: a tracer may be a BPF program or a profiler, which
//! reads the memory of the program that it has interrupted, and the host's world is not back there.
//!
//! The kernel writes a branch over the NOP while other CPUs may execute it, in the vector too: NOP
//! and B are of the few instructions for which that is allowed (DDI 0487, B2.2.5), and each CPU
//! has one or the other. A guest that runs meanwhile is interrupted for it, as every CPU is.
//!
//! C header: `events.h`
//!
//! # Examples
//!
//! ```
//! if trace::is_on() {
//!     trace::kvm_age_hva(range.start, range.end);
//! }
//! ```

use super::ffi;
use core::ffi::c_void;
use kernel::bindings::static_key_false;
use kernel::jump_label::static_branch_unlikely;

/// Whether any event is traced: `loft_traced` in `helpers/trace.c`. The macro wants a field.
#[repr(C)]
struct Traced {
    key: static_key_false,
}

extern "C" {
    static loft_traced: Traced;
}

/// Returns whether anybody traces any of the events. Each of these functions may be called
/// regardless; this spares the arguments.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    // SAFETY: It is a static key that C defines, alone in its structure.
    unsafe { static_branch_unlikely!(loft_traced, Traced, key) }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) = $event:ident;)*) => {$(
        $(#[$doc])*
        #[cold]
        pub(crate) fn $name($($arg: $type),*) {
            // SAFETY: It is given numbers, and addresses that it takes for such. It may be called
            // with a spinlock held and interrupts off.
            unsafe { ffi::$event($($arg),*) };
        }
    )*};
}

/// Why the guest was left, in the numbers of KVM's event.
#[repr(i32)]
pub(crate) enum Ret {
    Interrupt = 0,
    SError = 1,
    Trap = 2,
}

/// What an access to a device did, in the numbers of KVM's event.
#[repr(u32)]
pub(crate) enum Mmio {
    /// A load whose value userspace has to find.
    UnsatisfiedRead = 0,
    Read = 1,
    Write = 2,
}

events! {
    /// Tells that the guest is about to be entered.
    kvm_entry(pc: u64) = loft_trace_kvm_entry;
    /// Tells that KVM_RUN returns, with this exit reason or, if there is one, this errno.
    kvm_userspace_exit(reason: u32, errno: i32) = loft_trace_kvm_userspace_exit;
    /// Tells of an abort that stage 2 is the reason for.
    kvm_guest_fault(pc: u64, esr: u64, far: u64, ipa: u64) = loft_trace_kvm_guest_fault;
    /// Tells of an access flag that the guest's access has found clear.
    kvm_access_fault(ipa: u64) = loft_trace_kvm_access_fault;
    /// Tells of an HVC.
    kvm_hvc_arm64(pc: u64, x0: u64, immediate: u64) = loft_trace_kvm_hvc_arm64;
    /// Tells of a WFI or a WFE.
    kvm_wfx_arm64(pc: u64, is_wfe: bool) = loft_trace_kvm_wfx_arm64;
    /// Tells of an access to a system register, by kvm_handle_sys_reg and kvm_sys_access.
    kvm_sysreg(pc: u64, esr: u64) = loft_trace_kvm_sysreg;
    /// Tells of a KVM_IRQ_LINE. `kind`: 0 the CPU's own line, 1 an SPI, 2 a PPI.
    kvm_irq_line(kind: u32, vcpu: i32, number: i32, level: i32) = loft_trace_kvm_irq_line;
    /// Tells that a line of an interrupt was set.
    vgic_update_irq_pending(vcpu: u64, intid: u32, level: bool) = loft_trace_vgic_update_irq_pending;
    /// Tells that a timer's line has changed.
    kvm_timer_update_irq(vcpu: u64, intid: u32, level: i32) = loft_trace_kvm_timer_update_irq;
    /// Tells that the vCPU loses the CPU and its timer with it: CTL, CVAL, 0 (CNTV) or 1 (CNTP).
    kvm_timer_save_state(ctl: u64, cval: u64, timer: i32) = loft_trace_kvm_timer_save_state;
    /// Tells that the vCPU gets a CPU, and its timer with it.
    kvm_timer_restore_state(ctl: u64, cval: u64, timer: i32) = loft_trace_kvm_timer_restore_state;
    /// Tells of maintenance by set and way, for which the guest's memory is cleaned.
    kvm_set_way_flush(pc: u64, caches_on: bool) = loft_trace_kvm_set_way_flush;
    /// Tells that the guest switches its caches, and its memory is cleaned.
    kvm_toggle_cache(pc: u64, was_on: bool, is_on: bool) = loft_trace_kvm_toggle_cache;
    /// Tells of an access to what is not memory that the abort does not describe.
    kvm_mmio_nisv(pc: u64, esr: u64, far: u64, ipa: u64) = loft_trace_kvm_mmio_nisv;
    /// Tells of a KVM_SET_GUEST_DEBUG with these flags. The vCPU's address tells it from others.
    kvm_set_guest_debug(vcpu: *const c_void, flags: u32) = loft_trace_kvm_set_guest_debug;
    /// Tells that a vCPU has waited. `slept`: not only polled.
    kvm_vcpu_wakeup(ns: u64, slept: bool) = loft_trace_kvm_vcpu_wakeup;
    /// Tells that the host takes back a range of the VMM's memory.
    kvm_unmap_hva_range(start: u64, end: u64) = loft_trace_kvm_unmap_hva_range;
    /// Tells that the host ages a range of the VMM's memory.
    kvm_age_hva(start: u64, end: u64) = loft_trace_kvm_age_hva;
    /// Tells that the host asks whether a page of the VMM's has been used.
    kvm_test_age_hva(address: u64) = loft_trace_kvm_test_age_hva;
}

/// Tells that the guest was left. `fast`: the exit was answered in the vector.
#[cold]
pub(crate) fn kvm_exit(ret: Ret, class: u8, pc: u64, fast: bool) {
    // SAFETY: As above.
    unsafe { ffi::loft_trace_kvm_exit(ret as i32, class.into(), pc, fast) };
}

/// Tells of an access of `size` bytes to a device.
#[cold]
pub(crate) fn kvm_mmio(what: Mmio, size: u8, ipa: u64, value: u64) {
    // SAFETY: As above.
    unsafe { ffi::loft_trace_kvm_mmio(what as u32, size.into(), ipa, value) };
}
