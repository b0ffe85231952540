// SPDX-License-Identifier: GPL-2.0

//! KVM_RUN, and what it says in `struct kvm_run` (Documentation/virt/kvm/api.rst, section 5).

use crate::host::ffi::*;
use crate::host::run_page::RunPage;
use crate::host::trace;
use crate::model::psci::SystemEvent;
use crate::vcpu::exit::Exit;
use crate::vcpu::run::RunInput;
use crate::vcpu::Vcpu;
use core::mem::offset_of;
use kernel::cpu::CpuId;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// Offsets of the fields of `struct kvm_run`, in bytes.
mod field {
    use super::*;
    pub(super) const IMMEDIATE_EXIT: usize = offset_of!(kvm_run, immediate_exit__unsafe);
    pub(super) const EXIT_REASON: usize = offset_of!(kvm_run, exit_reason);
    pub(super) const FLAGS: usize = offset_of!(kvm_run, flags);
    /// The union of what each exit reason tells.
    pub(super) const DETAIL: usize = offset_of!(kvm_run, __bindgen_anon_1);
    /// `mmio.data`, behind `mmio.phys_addr`.
    pub(super) const MMIO_DATA: usize = DETAIL + 8;
    /// `hypercall.flags`, behind the number, six arguments and the result.
    pub(super) const HYPERCALL_FLAGS: usize = DETAIL + 64;
}

/// KVM_SYSTEM_EVENT_SHUTDOWN_FLAG_PSCI_OFF2.
const SHUTDOWN_FLAG_PSCI_OFF2: u64 = 1;

/// Serves KVM_RUN. `EINTR`: a signal is pending, or `immediate_exit` is set.
pub(super) fn run(vcpu: &Vcpu) -> Result<isize> {
    let mut state = vcpu.state.lock()?;
    let page = &vcpu.run_page;
    let input = RunInput {
        immediate_exit: page.read::<u8>(field::IMMEDIATE_EXIT) != 0,
        mmio_data: page.read(field::MMIO_DATA),
    };
    match vcpu.run(&mut state, &input) {
        Ok(exit) => write_exit(page, exit),
        Err(error) => {
            if trace::is_on() {
                trace::kvm_userspace_exit(page.read(field::EXIT_REASON), error.to_errno());
            }
            Err(error)
        }
    }
}

/// Tells userspace why KVM_RUN returns; returns what it returns.
fn write_exit(page: &RunPage, exit: Exit) -> Result<isize> {
    page.write(field::FLAGS, 0u16);
    let mut result = Ok(0);
    let reason = match exit {
        Exit::Mmio {
            ipa,
            data,
            size,
            write,
        } => {
            page.write(field::DETAIL, ipa);
            page.write(field::MMIO_DATA, data);
            page.write(field::DETAIL + 16, u32::from(size));
            page.write(field::DETAIL + 20, u8::from(write));
            KVM_EXIT_MMIO
        }
        Exit::System(event) => {
            let (kind, flags) = match event {
                SystemEvent::Off => (KVM_SYSTEM_EVENT_SHUTDOWN, 0),
                SystemEvent::Off2 => (KVM_SYSTEM_EVENT_SHUTDOWN, SHUTDOWN_FLAG_PSCI_OFF2),
                SystemEvent::Reset => (KVM_SYSTEM_EVENT_RESET, 0),
                SystemEvent::Reset2 => (
                    KVM_SYSTEM_EVENT_RESET,
                    KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2.into(),
                ),
            };
            system_event(page, kind, Some(flags))
        }
        Exit::Suspend => system_event(page, KVM_SYSTEM_EVENT_SUSPEND, None),
        Exit::Wakeup => system_event(page, KVM_SYSTEM_EVENT_WAKEUP, None),
        Exit::Hypercall { function, smc } => {
            page.write(field::DETAIL, [u64::from(function), 0, 0, 0, 0, 0, 0, 0]);
            page.write(
                field::HYPERCALL_FLAGS,
                u64::from(if smc { KVM_HYPERCALL_EXIT_SMC } else { 0 }),
            );
            KVM_EXIT_HYPERCALL
        }
        Exit::NoSyndrome { iss, ipa } => {
            page.write(field::DETAIL, iss);
            page.write(field::DETAIL + 8, ipa);
            KVM_EXIT_ARM_NISV
        }
        Exit::MemoryError { esr, gva, gpa } => {
            let flags = if gpa.is_some() {
                KVM_EXIT_ARM_SEA_FLAG_GPA_VALID
            } else {
                0
            };
            let gpa = gpa.map_or(0, |gpa| gpa.align_down(PAGE_SIZE as u64).raw());
            page.write(field::DETAIL, [u64::from(flags), esr, gva, gpa]);
            KVM_EXIT_ARM_SEA
        }
        Exit::Debug { esr, far } => {
            page.write(field::DETAIL, esr);
            page.write(field::DETAIL + 8, far);
            page.write(field::FLAGS, KVM_DEBUG_ARCH_HSR_HIGH_VALID as u16);
            KVM_EXIT_DEBUG
        }
        Exit::Internal => {
            page.write(field::DETAIL, KVM_INTERNAL_ERROR_EMULATION);
            page.write(field::DETAIL + 4, 0u32);
            KVM_EXIT_INTERNAL_ERROR
        }
        Exit::FailEntry => {
            page.write(field::DETAIL, 0u64);
            page.write(field::DETAIL + 8, CpuId::current().as_u32());
            KVM_EXIT_FAIL_ENTRY
        }
        Exit::Interrupted => {
            result = Err(EINTR);
            KVM_EXIT_INTR
        }
        // Nothing may be left that tells of the exit before.
        Exit::Failed(error) => {
            result = Err(error);
            KVM_EXIT_UNKNOWN
        }
    };
    page.write(field::EXIT_REASON, reason);
    if trace::is_on() {
        trace::kvm_userspace_exit(reason, result.map_or_else(|error| error.to_errno(), |_| 0));
    }
    result
}

fn system_event(page: &RunPage, kind: u32, flags: Option<u64>) -> u32 {
    page.write(field::DETAIL, kind);
    page.write(field::DETAIL + 4, u32::from(flags.is_some()));
    page.write(field::DETAIL + 8, flags.unwrap_or(0));
    KVM_EXIT_SYSTEM_EVENT
}
