// SPDX-License-Identifier: GPL-2.0

//! KVM_CHECK_EXTENSION.

use crate::arch::cpu;
use crate::host::ffi::*;
use crate::model::vcpus::VcpuId;
use crate::vm::Vm;
use kernel::prelude::*;

/// How many memory slots a VM may have. Their number is limited by memory alone; this is what
/// userspace may count on.
pub(super) const MAX_SLOTS: u32 = 32_764;

/// Serves KVM_CHECK_EXTENSION: an unknown extension is 0. `vm` where it is asked of a VM: only one
/// can tell of some, `EINVAL`.
pub(super) fn check(extension: usize, vm: Option<&Vm>) -> Result<isize> {
    let Ok(extension) = u32::try_from(extension) else {
        return Ok(0);
    };
    Ok(match extension {
        KVM_CAP_IRQCHIP
        | KVM_CAP_USER_MEMORY
        | KVM_CAP_USER_MEMORY2
        | KVM_CAP_DESTROY_MEMORY_REGION_WORKS
        | KVM_CAP_JOIN_MEMORY_REGIONS_WORKS
        | KVM_CAP_ONE_REG
        | KVM_CAP_ARM_PSCI
        | KVM_CAP_ARM_PSCI_0_2
        | KVM_CAP_MP_STATE
        | KVM_CAP_SET_GUEST_DEBUG
        | KVM_CAP_DEVICE_CTRL
        | KVM_CAP_READONLY_MEM
        | KVM_CAP_IMMEDIATE_EXIT
        | KVM_CAP_INTERNAL_ERROR_DATA
        | KVM_CAP_ARM_NISV_TO_USER
        | KVM_CAP_ARM_SEA_TO_USER
        | KVM_CAP_VCPU_ATTRIBUTES
        | KVM_CAP_ENABLE_CAP_VM
        | KVM_CAP_CHECK_EXTENSION_VM
        | KVM_CAP_COUNTER_OFFSET
        | KVM_CAP_ARM_INJECT_EXT_DABT
        | KVM_CAP_VCPU_EVENTS
        | KVM_CAP_ARM_IRQ_LINE_LAYOUT_2
        | KVM_CAP_ARM_SYSTEM_SUSPEND
        | KVM_CAP_ARM_WRITABLE_IMP_ID_REGS
        | KVM_CAP_PTP_KVM
        | KVM_CAP_SYSTEM_EVENT_DATA
        | KVM_CAP_SYNC_MMU
        | KVM_CAP_IOEVENTFD
        | KVM_CAP_IOEVENTFD_ANY_LENGTH
        | KVM_CAP_IRQFD
        | KVM_CAP_SIGNAL_MSI
        | KVM_CAP_BINARY_STATS_FD
        | KVM_CAP_HALT_POLL
        | KVM_CAP_IRQFD_RESAMPLE => 1,
        KVM_CAP_ARM_PTRAUTH_ADDRESS | KVM_CAP_ARM_PTRAUTH_GENERIC => cpu::features().pauth.into(),
        KVM_CAP_ARM_INJECT_SERROR_ESR => cpu::features().ras.into(),
        KVM_CAP_STEAL_TIME => crate::host::time::counts_run_delay().into(),
        // A bit for each range that KVM_ARM_GET_REG_WRITABLE_MASKS knows: the identification
        // registers only.
        KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES => 1,
        KVM_CAP_ARM_VM_IPA_SIZE => cpu::features().pa_bits as isize,
        KVM_CAP_NR_MEMSLOTS => MAX_SLOTS as isize,
        KVM_CAP_NR_VCPUS => (crate::host::cpu::online() as usize).min(VcpuId::LIMIT) as isize,
        KVM_CAP_MAX_VCPUS | KVM_CAP_MAX_VCPU_ID => VcpuId::LIMIT as isize,
        // A message says who sends it where there is an ITS to tell devices apart.
        KVM_CAP_MSI_DEVID => vm.ok_or(EINVAL)?.its.any().into(),
        KVM_CAP_IRQ_ROUTING => 4096,
        KVM_CAP_SET_GUEST_DEBUG2 => super::vcpu::DEBUG_OPTIONS as isize,
        KVM_CAP_GUEST_DEBUG_HW_BPS => crate::arch::debug::counts().0 as isize,
        KVM_CAP_GUEST_DEBUG_HW_WPS => crate::arch::debug::counts().1 as isize,
        KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 => super::vm_attributes::DIRTY_LOG_OPTIONS as isize,
        KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED => vm
            .ok_or(EINVAL)
            .map(|_| crate::vm::memory::has_cacheable_pfnmap().into())?,
        _ => 0,
    })
}
