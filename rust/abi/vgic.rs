// SPDX-License-Identifier: GPL-2.0

//! The attributes of the GICv3 (Documentation/virt/kvm/devices/arm-vgic-v3.rst).

use super::user;
use crate::host::ffi::*;
use crate::model::vgic::Frame;
use crate::vm::gic::{gic_errno, Region, DIST_SIZE, MAX_REGIONS, REDIST_SIZE, UNSET};
use crate::vm::Vm;
use kernel::prelude::*;

const ALIGN: u64 = 0x1_0000;

/// Whether an attribute exists.
pub(super) fn has(_vm: &Vm, attr: &kvm_device_attr) -> Result<isize> {
    let number = attr.attr as u32;
    let known = match attr.group {
        KVM_DEV_ARM_VGIC_GRP_ADDR => matches!(
            number,
            KVM_VGIC_V3_ADDR_TYPE_DIST | KVM_VGIC_V3_ADDR_TYPE_REDIST | KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION
        ),
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS => true,
        KVM_DEV_ARM_VGIC_GRP_CTRL => number == KVM_DEV_ARM_VGIC_CTRL_INIT,
        KVM_DEV_ARM_VGIC_GRP_DIST_REGS
        | KVM_DEV_ARM_VGIC_GRP_REDIST_REGS
        | KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
        | KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO => true,
        _ => false,
    };
    if known {
        Ok(0)
    } else {
        Err(ENXIO)
    }
}

/// Sets an attribute.
pub(super) fn set(vm: &Vm, attr: &kvm_device_attr) -> Result<isize> {
    let number = attr.attr as u32;
    let address = attr.addr as usize;
    match attr.group {
        KVM_DEV_ARM_VGIC_GRP_ADDR => {
            let value: u64 = user::read(address)?;
            set_address(vm, number, value)
        }
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS => {
            let count: u32 = user::read(address)?;
            let mut setup = vm.gic.setup.lock();
            if vm.gic.is_ready() {
                return Err(EBUSY);
            }
            setup.config.set_nr_irqs(count).map_err(gic_errno)?;
            Ok(0)
        }
        KVM_DEV_ARM_VGIC_GRP_CTRL if number == KVM_DEV_ARM_VGIC_CTRL_INIT => {
            let _config = vm.config.lock();
            vm.gic.init(vm)?;
            Ok(0)
        }
        KVM_DEV_ARM_VGIC_GRP_DIST_REGS => {
            let value: u32 = user::read(address)?;
            with_register(vm, Frame::Dist, attr, |model, frame, offset| model.user_write(frame, offset, value))
        }
        _ => Err(ENXIO),
    }
}

/// Reads an attribute.
pub(super) fn get(vm: &Vm, attr: &kvm_device_attr) -> Result<isize> {
    let number = attr.attr as u32;
    let address = attr.addr as usize;
    match attr.group {
        KVM_DEV_ARM_VGIC_GRP_ADDR => {
            let setup = vm.gic.setup.lock();
            let value = match number {
                KVM_VGIC_V3_ADDR_TYPE_DIST => vm.gic.dist(),
                KVM_VGIC_V3_ADDR_TYPE_REDIST if setup.legacy_region => setup.regions.first().map_or(UNSET, |region| region.base),
                KVM_VGIC_V3_ADDR_TYPE_REDIST if setup.regions.is_empty() => UNSET,
                KVM_VGIC_V3_ADDR_TYPE_REDIST => return Err(EINVAL),
                _ => return Err(ENODEV),
            };
            drop(setup);
            user::write(address, &value)?;
            Ok(0)
        }
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS => {
            let count = vm.gic.setup.lock().config.nr_irqs();
            user::write(address, &count)?;
            Ok(0)
        }
        KVM_DEV_ARM_VGIC_GRP_DIST_REGS => {
            let mut value = 0;
            with_register(vm, Frame::Dist, attr, |model, frame, offset| {
                value = model.user_read(frame, offset)?;
                Ok(())
            })?;
            user::write(address, &value)?;
            Ok(0)
        }
        _ => Err(ENXIO),
    }
}

fn with_register(
    vm: &Vm,
    frame: Frame,
    attr: &kvm_device_attr,
    access: impl FnOnce(&mut crate::vm::gic::Model, Frame, u32) -> core::result::Result<(), crate::model::vgic::Error>,
) -> Result<isize> {
    let offset = attr.attr as u32;
    let mut model = vm.gic.lock().ok_or(EBUSY)?;
    access(&mut model, frame, offset).map_err(gic_errno)?;
    Ok(0)
}

fn set_address(vm: &Vm, kind: u32, value: u64) -> Result<isize> {
    let mut setup = vm.gic.setup.lock();
    let end = vm.memory.end();
    match kind {
        KVM_VGIC_V3_ADDR_TYPE_DIST => {
            check_range(value, DIST_SIZE, end)?;
            if vm.gic.dist() != UNSET {
                return Err(EEXIST);
            }
            vm.gic.set_dist(value);
        }
        KVM_VGIC_V3_ADDR_TYPE_REDIST => {
            if !setup.regions.is_empty() {
                return Err(if setup.legacy_region { EEXIST } else { EINVAL });
            }
            check_range(value, REDIST_SIZE, end)?;
            let count = u32::try_from(crate::model::vcpus::VcpuId::LIMIT).map_err(|_| EINVAL)?;
            setup.regions.push(Region { base: value, count, first: 0 }, GFP_KERNEL_ACCOUNT)?;
            setup.legacy_region = true;
        }
        KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION => {
            if setup.legacy_region {
                return Err(EINVAL);
            }
            // Bits 63:52 count, 51:16 base, 15:12 flags, 11:0 index.
            let (count, base, flags, index) = ((value >> 52) as u32, value & 0xf_ffff_ffff_0000, value >> 12 & 0xf, value as u32 & 0xfff);
            if count == 0 || flags != 0 {
                return Err(EINVAL);
            }
            let have = setup.regions.len();
            if index as usize != have || have >= MAX_REGIONS {
                return Err(if (index as usize) < have { EINVAL } else { EINVAL });
            }
            let size = u64::from(count).checked_mul(REDIST_SIZE).ok_or(EINVAL)?;
            check_range(base, size, end)?;
            let first = setup.regions.last().map_or(0, |region| region.first.saturating_add(region.count));
            setup.regions.push(Region { base, count, first }, GFP_KERNEL_ACCOUNT)?;
        }
        _ => return Err(ENODEV),
    }
    Ok(0)
}

fn check_range(base: u64, size: u64, end: u64) -> Result {
    if base % ALIGN != 0 {
        return Err(EINVAL);
    }
    match base.checked_add(size) {
        Some(last) if last <= end => Ok(()),
        _ => Err(E2BIG),
    }
}
