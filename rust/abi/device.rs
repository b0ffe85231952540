// SPDX-License-Identifier: GPL-2.0

//! Devices in the kernel: the GICv3 and its ITSes (KVM_CREATE_DEVICE), and the attributes of vCPUs.

use super::its::ItsFile;
use super::user;
use crate::host::ffi::*;
use crate::host::time;
use crate::host::{anon_inode::NewFd, file::FileObject};
use crate::model::vgic::IntId;
use crate::vcpu::Vcpu;
use crate::vm::its::VmIts;
use crate::vm::timers::TimerKind;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Serves KVM_CREATE_DEVICE.
pub(super) fn create(vm: &Arc<Vm>, argument: usize) -> Result<isize> {
    let request: kvm_create_device = user::read(argument)?;
    let is_its = request.type_ == kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS;
    if !is_its && request.type_ != kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3 {
        return Err(ENODEV);
    }
    if request.flags & KVM_CREATE_DEVICE_TEST != 0 {
        return Ok(0);
    }
    // The file comes first, and its number is told: a device without could not be set up, nor made
    // again.
    if is_its {
        let its = VmIts::new()?;
        let file = ItsFile {
            vm: vm.clone(),
            its: its.clone(),
        };
        let fd = NewFd::prepare(Arc::new(file, GFP_KERNEL_ACCOUNT)?)?;
        answer(argument, request, fd, || {
            let _config = vm.config.lock();
            vm.its.add(its, &vm.gic)
        })
    } else {
        let fd = NewFd::prepare(Arc::new(Vgic { vm: vm.clone() }, GFP_KERNEL_ACCOUNT)?)?;
        answer(argument, request, fd, || create_gic(vm))
    }
}

/// Tells the number of `fd`, makes the device, and then the number leads to it. Where that fails,
/// nothing has happened.
fn answer(
    argument: usize,
    request: kvm_create_device,
    fd: NewFd,
    make: impl FnOnce() -> Result,
) -> Result<isize> {
    let told = kvm_create_device {
        fd: fd.number(),
        ..request
    };
    user::write(argument, &told)?;
    if let Err(error) = make() {
        // As it was, where it still can be written: there is no such file.
        let _ = user::write(argument, &request);
        return Err(error);
    }
    fd.install();
    Ok(0)
}

fn create_gic(vm: &Vm) -> Result {
    let config = vm.config.lock();
    vm.while_stopped(|| {
        if vm.gic.is_created() {
            return Err(EEXIST);
        }
        // What has run without it cannot be given one.
        if config.started {
            return Err(EBUSY);
        }
        vm.gic.create()
    })?
}

/// The GICv3's file.
pub(crate) struct Vgic {
    pub(super) vm: Arc<Vm>,
}

impl FileObject for Vgic {
    const NAME: &'static CStr = c"loft-arm-vgic-v3";

    fn ioctl(this: &Arc<Self>, command: u32, argument: usize) -> Result<isize> {
        if !this.vm.is_mine() {
            return Err(EIO);
        }
        match command {
            LOFT_KVM_SET_DEVICE_ATTR => super::vgic::set(&this.vm, &user::read(argument)?),
            LOFT_KVM_GET_DEVICE_ATTR => super::vgic::get(&this.vm, &user::read(argument)?),
            LOFT_KVM_HAS_DEVICE_ATTR => super::vgic::has(&this.vm, &user::read(argument)?),
            _ => Err(ENOTTY),
        }
    }
}

/// Returns the timer that an attribute of KVM_ARM_VCPU_TIMER_CTRL is about; `ENXIO` if none is.
fn timer(attr: &kvm_device_attr) -> Result<TimerKind> {
    TimerKind::new(attr.attr).ok_or(ENXIO)
}

/// Checks that an attribute of KVM_ARM_VCPU_PVTIME_CTRL exists: there is one, where the host counts
/// what it is about. `ENXIO`: it does not.
fn stolen_time(attr: &kvm_device_attr) -> Result {
    if attr.attr == u64::from(KVM_ARM_VCPU_PVTIME_IPA) && time::counts_run_delay() {
        Ok(())
    } else {
        Err(ENXIO)
    }
}

/// Serves KVM_HAS_DEVICE_ATTR on a vCPU.
pub(super) fn vcpu_has(_vcpu: &Vcpu, attr: &kvm_device_attr) -> Result<isize> {
    match attr.group {
        KVM_ARM_VCPU_TIMER_CTRL => timer(attr).map(|_| 0),
        KVM_ARM_VCPU_PVTIME_CTRL => stolen_time(attr).map(|()| 0),
        _ => Err(ENXIO),
    }
}

/// Serves KVM_SET_DEVICE_ATTR on a vCPU.
pub(super) fn vcpu_set(vcpu: &Vcpu, attr: &kvm_device_attr) -> Result<isize> {
    match attr.group {
        KVM_ARM_VCPU_TIMER_CTRL => set_timer_ppi(vcpu, attr)?,
        KVM_ARM_VCPU_PVTIME_CTRL => {
            stolen_time(attr)?;
            let ipa: u64 = user::read(attr.addr as usize)?;
            vcpu.state
                .lock()?
                .context()
                .steal_time
                .set_ipa(&vcpu.vm, ipa)?;
        }
        _ => return Err(ENXIO),
    }
    Ok(0)
}

/// Serves KVM_GET_DEVICE_ATTR on a vCPU.
pub(super) fn vcpu_get(vcpu: &Vcpu, attr: &kvm_device_attr) -> Result<isize> {
    match attr.group {
        KVM_ARM_VCPU_TIMER_CTRL => {
            let timer = timer(attr)?;
            let intid = vcpu.vm.config.lock().timers.get(timer).get();
            user::write(attr.addr as usize, &intid)?;
        }
        KVM_ARM_VCPU_PVTIME_CTRL => {
            stolen_time(attr)?;
            let ipa = vcpu
                .state
                .lock()?
                .context()
                .steal_time
                .ipa()
                .unwrap_or(NOWHERE);
            user::write(attr.addr as usize, &ipa)?;
        }
        _ => return Err(ENXIO),
    }
    Ok(0)
}

/// The address that says that none has been set.
const NOWHERE: u64 = u64::MAX;

/// Sets a timer's interrupt. The errors come in KVM's order: an unknown timer is the last to be
/// noticed.
fn set_timer_ppi(vcpu: &Vcpu, attr: &kvm_device_attr) -> Result {
    if !vcpu.vm.gic.is_created() {
        return Err(EINVAL);
    }
    let number: u32 = user::read(attr.addr as usize)?;
    let intid = IntId::new(number).filter(|id| id.is_ppi()).ok_or(EINVAL)?;
    let mut config = vcpu.vm.config.lock();
    if config.started {
        return Err(EBUSY);
    }
    config.timers.set(timer(attr)?, intid);
    Ok(())
}
