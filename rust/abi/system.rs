// SPDX-License-Identifier: GPL-2.0

//! The ioctls of /dev/loft itself.

use super::capability;
use crate::arch::cpu;
use crate::host::ffi::*;
use crate::host::{anon_inode::NewFd, file::FileObject};
use crate::vm::{debugfs::AllVms, Vm, DEFAULT_IPA_BITS};
use kernel::prelude::*;
use kernel::sync::Arc;

/// /dev/loft, the same for all who have it open.
pub(super) struct System(Arc<AllVms>);

impl System {
    pub(super) fn new(vms: Arc<AllVms>) -> Self {
        Self(vms)
    }
}

impl FileObject for System {
    const NAME: &'static CStr = c"loft";

    fn ioctl(this: &Arc<Self>, command: u32, argument: usize) -> Result<isize> {
        match command {
            LOFT_KVM_GET_API_VERSION if argument == 0 => Ok(KVM_API_VERSION as isize),
            LOFT_KVM_CREATE_VM => create_vm(&this.0, argument),
            LOFT_KVM_CHECK_EXTENSION => capability::check(argument, None),
            LOFT_KVM_GET_VCPU_MMAP_SIZE if argument == 0 => Ok(kernel::page::PAGE_SIZE as isize),
            // As for a VM and a vCPU: what KVM/arm64 says of a command that it does not know.
            _ => Err(EINVAL),
        }
    }
}

/// Serves KVM_CREATE_VM. The machine type is the IPA size in bits, or 0 for the default.
fn create_vm(vms: &Arc<AllVms>, machine: usize) -> Result<isize> {
    if machine & !(KVM_VM_TYPE_ARM_IPA_SIZE_MASK as usize) != 0 {
        return Err(EINVAL);
    }
    let limit = cpu::features().pa_bits;
    let ipa_bits = match machine as u32 {
        0 if limit < DEFAULT_IPA_BITS => return Err(EINVAL),
        0 => DEFAULT_IPA_BITS,
        bits if bits < crate::model::stage2::MIN_IPA_BITS || bits > limit => return Err(EINVAL),
        bits => bits,
    };
    let vm = Vm::new(ipa_bits)?;
    let fd = NewFd::prepare(vm.clone())?;
    vm.list(vms, fd.number());
    Ok(fd.install())
}
