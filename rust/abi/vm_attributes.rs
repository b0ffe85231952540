// SPDX-License-Identifier: GPL-2.0

//! What a VMM may say about a VM as a whole before it runs: the attributes of a VM, KVM_ENABLE_CAP,
//! the counters' offset; and what it may ask about it: KVM_ARM_GET_REG_WRITABLE_MASKS.

use super::user;
use crate::arch::cpu;
use crate::host::ffi::*;
use crate::model::smccc::filter::{FilterAction, FilterError};
use crate::model::sysreg::idregs::IdReg;
use crate::model::sysreg::regs::ID_AA64PFR0_EL1;
use crate::model::sysreg::{lookup, Encoding};
use crate::vm::{ManualDirtyLog, Vm};
use core::sync::atomic::Ordering::Relaxed;
use kernel::prelude::*;

/// Serves KVM_HAS_DEVICE_ATTR on a VM.
pub(super) fn has(attr: &kvm_device_attr) -> Result<isize> {
    match (attr.group, attr.attr) {
        (KVM_ARM_VM_SMCCC_CTRL, FILTER) => Ok(0),
        _ => Err(ENXIO),
    }
}

/// Serves KVM_SET_DEVICE_ATTR on a VM.
pub(super) fn set(vm: &Vm, attr: &kvm_device_attr) -> Result<isize> {
    match (attr.group, attr.attr) {
        (KVM_ARM_VM_SMCCC_CTRL, FILTER) => filter(vm, user::read(attr.addr as usize)?),
        _ => Err(ENXIO),
    }
}

const FILTER: u64 = KVM_ARM_VM_SMCCC_FILTER as u64;

/// Serves KVM_ARM_VM_SMCCC_FILTER: sets what happens to a range of firmware calls.
fn filter(vm: &Vm, request: kvm_smccc_filter) -> Result<isize> {
    if request.pad.iter().any(|byte| *byte != 0) {
        return Err(EINVAL);
    }
    let action = FilterAction::new(request.action).ok_or(EINVAL)?;
    let last = request
        .nr_functions
        .checked_sub(1)
        .and_then(|more| request.base.checked_add(more));
    last.ok_or(EINVAL)?;
    let mut config = vm.config.lock();
    if config.started {
        return Err(EBUSY);
    }
    let inserted = config
        .smccc_filter
        .insert(request.base, request.nr_functions, action);
    inserted.map(|()| 0).map_err(|error| match error {
        FilterError::Invalid => EINVAL,
        FilterError::Exists => EEXIST,
        FilterError::NoMemory => ENOMEM,
    })
}

/// The options of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.
pub(super) const DIRTY_LOG_OPTIONS: u64 =
    KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE as u64 | KVM_DIRTY_LOG_INITIALLY_SET as u64;

/// Serves KVM_ENABLE_CAP.
pub(super) fn enable_capability(vm: &Vm, request: kvm_enable_cap) -> Result<isize> {
    if request.flags != 0 {
        return Err(EINVAL);
    }
    match request.cap {
        KVM_CAP_ARM_NISV_TO_USER => vm.tell_undescribed(),
        KVM_CAP_ARM_SEA_TO_USER => vm.tell_errors(),
        KVM_CAP_ARM_SYSTEM_SUSPEND => {
            let mut config = vm.config.lock();
            vm.change_firmware(&mut config, |firmware| firmware.psci.system_suspend = true);
        }
        KVM_CAP_ARM_WRITABLE_IMP_ID_REGS => {
            let mut config = vm.config.lock();
            if vm.vcpu_count() != 0 {
                return Err(EINVAL);
            }
            config.writable_implementation = true;
        }
        KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 => {
            let [options, ..] = request.args;
            let mode = ManualDirtyLog {
                clears: options & u64::from(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0,
                initially_set: options & u64::from(KVM_DIRTY_LOG_INITIALLY_SET) != 0,
            };
            // The second is nothing without the first.
            if options & !DIRTY_LOG_OPTIONS != 0 || (mode.initially_set && !mode.clears) {
                return Err(EINVAL);
            }
            vm.config.lock().dirty_log = mode;
        }
        KVM_CAP_HALT_POLL => {
            let [ns, ..] = request.args;
            vm.limit_halts(u32::try_from(ns).map_err(|_| EINVAL)?);
        }
        _ => return Err(EINVAL),
    }
    Ok(0)
}

/// Serves KVM_ARM_SET_COUNTER_OFFSET: for both counters, and from now on for good.
pub(super) fn set_counter_offset(vm: &Vm, request: kvm_arm_counter_offset) -> Result<isize> {
    if request.reserved != 0 {
        return Err(EINVAL);
    }
    let _config = vm.config.lock();
    vm.while_stopped(|| {
        vm.offsets.virtual_.store(request.counter_offset, Relaxed);
        vm.offsets.physical.store(request.counter_offset, Relaxed);
        vm.offsets.fixed.store(true, Relaxed);
    })?;
    Ok(0)
}

/// How many registers the space of identification registers has room for: op0 = 3, op1 = 0, 1 or 3,
/// CRn = 0, CRm below 8.
const ID_SPACE: usize = KVM_ARM_FEATURE_ID_RANGE_SIZE as usize;

/// Serves KVM_ARM_GET_REG_WRITABLE_MASKS: tells which bits of the identification registers
/// userspace may change.
pub(super) fn writable_masks(request: reg_mask_range) -> Result<isize> {
    if request.range != KVM_ARM_FEATURE_ID_RANGE || request.reserved.iter().any(|word| *word != 0) {
        return Err(EINVAL);
    }
    let mut at = request.addr as usize;
    for op1 in [0, 1, 3] {
        for low in 0..(ID_SPACE / 3) as u8 {
            let encoding = Encoding::new(3, op1, 0, low >> 3, low & 7);
            user::write(at, &writable_mask(encoding))?;
            at = at.checked_add(size_of::<u64>()).ok_or(EFAULT)?;
        }
    }
    Ok(0)
}

fn writable_mask(encoding: Encoding) -> u64 {
    let el0 = ID_AA64PFR0_EL1::EL0.get(cpu::sanitised(ID_AA64PFR0_EL1::ENCODING));
    let has_aarch32 = el0 == ID_AA64PFR0_EL1::EL0_AARCH32;
    let id = IdReg::new(encoding).filter(|id| !id.is_aarch32() || has_aarch32);
    id.filter(|_| lookup(encoding).is_some())
        .map_or(0, |id| id.writable())
}
