// SPDX-License-Identifier: GPL-2.0

//! Devices in the kernel: the GICv3 (KVM_CREATE_DEVICE), and the attributes of vCPUs.

use super::user;
use crate::host::ffi::*;
use crate::host::file::{new_fd, FileObject};
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::sync::Arc;

/// KVM_CREATE_DEVICE.
pub(super) fn create(vm: &Arc<Vm>, argument: usize) -> Result<isize> {
    let mut request: kvm_create_device = user::read(argument)?;
    if request.type_ != kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3 {
        return Err(ENODEV);
    }
    if request.flags & KVM_CREATE_DEVICE_TEST != 0 {
        return Ok(0);
    }
    {
        let mut setup = vm.gic.setup.lock();
        if setup.created {
            return Err(EEXIST);
        }
        setup.created = true;
    }
    request.fd = new_fd(Arc::new(Vgic { vm: vm.clone() }, GFP_KERNEL_ACCOUNT)?)? as u32;
    user::write(argument, &request)?;
    Ok(0)
}

/// The GICv3's file.
pub(crate) struct Vgic {
    pub(super) vm: Arc<Vm>,
}

impl FileObject for Vgic {
    const NAME: &'static CStr = c"loft-arm-vgic-v3";

    fn ioctl(this: &Arc<Self>, command: u32, argument: usize) -> Result<isize> {
        if !this.vm.is_mine() {
            return Err(EPERM);
        }
        match command {
            LOFT_KVM_SET_DEVICE_ATTR => super::vgic::set(&this.vm, &user::read(argument)?),
            LOFT_KVM_GET_DEVICE_ATTR => super::vgic::get(&this.vm, &user::read(argument)?),
            LOFT_KVM_HAS_DEVICE_ATTR => super::vgic::has(&this.vm, &user::read(argument)?),
            _ => Err(ENOTTY),
        }
    }
}

/// The interrupt numbers of the timers: only the usual ones, which loft uses.
fn timer_irq(attr: &kvm_device_attr) -> Option<u32> {
    match u32::try_from(attr.attr).ok()? {
        KVM_ARM_VCPU_TIMER_IRQ_VTIMER => Some(crate::vm::gic::VIRTUAL_TIMER_PPI),
        KVM_ARM_VCPU_TIMER_IRQ_PTIMER => Some(crate::vm::gic::PHYSICAL_TIMER_PPI),
        _ => None,
    }
}

pub(super) fn vcpu_has(_vcpu: &Vcpu, attr: &kvm_device_attr) -> Result<isize> {
    match attr.group {
        KVM_ARM_VCPU_TIMER_CTRL => timer_irq(attr).map(|_| 0).ok_or(ENXIO),
        _ => Err(ENXIO),
    }
}

pub(super) fn vcpu_set(vcpu: &Vcpu, attr: &kvm_device_attr) -> Result<isize> {
    vcpu_has(vcpu, attr)?;
    let usual = timer_irq(attr).ok_or(ENXIO)?;
    let irq: u32 = user::read(attr.addr as usize)?;
    if irq != usual {
        return Err(EINVAL);
    }
    Ok(0)
}

pub(super) fn vcpu_get(vcpu: &Vcpu, attr: &kvm_device_attr) -> Result<isize> {
    vcpu_has(vcpu, attr)?;
    let usual = timer_irq(attr).ok_or(ENXIO)?;
    user::write(attr.addr as usize, &usual)?;
    Ok(0)
}
