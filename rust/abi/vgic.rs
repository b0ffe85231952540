// SPDX-License-Identifier: GPL-2.0

//! The attributes of the GICv3 (Documentation/virt/kvm/devices/arm-vgic-v3.rst): what it is and
//! where. What is in it: [`registers`].

mod registers;

use super::user;
use crate::host::ffi::*;
use crate::model::vgic::{GicConfig, IntId};
use crate::vm::gic::{gic_errno, Region};
use crate::vm::lpi::LpiTables;
use crate::vm::Vm;
use kernel::prelude::*;

const DIST: u64 = KVM_VGIC_V3_ADDR_TYPE_DIST as u64;
const REDIST: u64 = KVM_VGIC_V3_ADDR_TYPE_REDIST as u64;
const REDIST_REGION: u64 = KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION as u64;
const INIT: u64 = KVM_DEV_ARM_VGIC_CTRL_INIT as u64;
const SAVE_PENDING_TABLES: u64 = KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES as u64;

/// What the address of something that has none reads as.
const UNSET: u64 = u64::MAX;

/// The value of KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION: count 63:52, base 51:16, flags 15:12, index
/// 11:0.
#[derive(Clone, Copy)]
struct RegionAttr(u64);

impl RegionAttr {
    fn new(index: u8, region: Region) -> Self {
        Self(u64::from(region.count.unwrap_or(0)) << 52 | region.base | u64::from(index))
    }

    fn count(self) -> u32 {
        (self.0 >> 52) as u32
    }

    fn base(self) -> u64 {
        self.0 & 0xf_ffff_ffff_0000
    }

    fn flags(self) -> u32 {
        (self.0 >> 12 & 0xf) as u32
    }

    /// Returns the index: KVM takes eight bits of the twelve.
    fn index(self) -> u8 {
        self.0 as u8
    }
}

/// Checks that an attribute exists: `ENXIO` if not, `EINVAL` if its vCPU does not.
pub(super) fn has(vm: &Vm, attr: &kvm_device_attr) -> Result<isize> {
    let known = match attr.group {
        KVM_DEV_ARM_VGIC_GRP_ADDR => matches!(attr.attr, DIST | REDIST | REDIST_REGION),
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS | KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ => true,
        KVM_DEV_ARM_VGIC_GRP_CTRL => matches!(attr.attr, INIT | SAVE_PENDING_TABLES),
        KVM_DEV_ARM_VGIC_GRP_DIST_REGS
        | KVM_DEV_ARM_VGIC_GRP_REDIST_REGS
        | KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
        | KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO => registers::has(vm, attr)?,
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
    let address = attr.addr as usize;
    match attr.group {
        KVM_DEV_ARM_VGIC_GRP_ADDR => set_address(vm, attr.attr, user::read(address)?)?,
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS => set_nr_irqs(vm, user::read(address)?)?,
        KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ => set_maintenance(vm, user::read(address)?)?,
        KVM_DEV_ARM_VGIC_GRP_CTRL => control(vm, attr.attr)?,
        KVM_DEV_ARM_VGIC_GRP_DIST_REGS
        | KVM_DEV_ARM_VGIC_GRP_REDIST_REGS
        | KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
        | KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO => registers::set(vm, attr)?,
        _ => return Err(ENXIO),
    }
    Ok(0)
}

/// Reads an attribute.
pub(super) fn get(vm: &Vm, attr: &kvm_device_attr) -> Result<isize> {
    let address = attr.addr as usize;
    match attr.group {
        KVM_DEV_ARM_VGIC_GRP_ADDR => {
            // A region's index is in the value.
            let asked = if attr.attr == REDIST_REGION {
                user::read(address)?
            } else {
                0
            };
            user::write(address, &address_of(vm, attr.attr, asked)?)?;
        }
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS => {
            let nr_irqs: u32 = {
                let config = vm.gic.setup.lock().config;
                if vm.gic.is_ready() || config.is_sized() {
                    config.nr_irqs()
                } else {
                    IntId::PRIVATE
                }
            };
            user::write(address, &nr_irqs)?;
        }
        KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ => {
            let maintenance = vm.gic.setup.lock().maintenance;
            user::write(address, &maintenance)?;
        }
        KVM_DEV_ARM_VGIC_GRP_DIST_REGS
        | KVM_DEV_ARM_VGIC_GRP_REDIST_REGS
        | KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
        | KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO => registers::get(vm, attr)?,
        _ => return Err(ENXIO),
    }
    Ok(0)
}

fn set_address(vm: &Vm, kind: u64, value: u64) -> Result {
    // The number of vCPUs stays as it is.
    let _config = vm.config.lock();
    let vcpus = vm.vcpu_count() as u32;
    let limit = vm.memory.end();
    let mut setup = vm.gic.setup.lock();
    match kind {
        DIST => setup.layout.set_dist(value, limit)?,
        REDIST => setup.layout.add(
            0,
            Region {
                base: value,
                count: None,
            },
            vcpus,
            limit,
        )?,
        REDIST_REGION => {
            let attr = RegionAttr(value);
            if attr.count() == 0 || attr.flags() != 0 {
                return Err(EINVAL);
            }
            let region = Region {
                base: attr.base(),
                count: Some(attr.count()),
            };
            setup
                .layout
                .add(attr.index().into(), region, vcpus, limit)?;
        }
        _ => return Err(ENXIO),
    }
    vm.gic.note_last(vcpus as usize, &setup);
    Ok(())
}

fn address_of(vm: &Vm, kind: u64, asked: u64) -> Result<u64> {
    let setup = vm.gic.setup.lock();
    let layout = &setup.layout;
    match kind {
        DIST => Ok(layout.dist.unwrap_or(UNSET)),
        REDIST => Ok(layout.regions.first().map_or(UNSET, |region| region.base)),
        REDIST_REGION => {
            let index = RegionAttr(asked).index();
            let region = layout.regions.get(usize::from(index)).ok_or(ENOENT)?;
            Ok(RegionAttr::new(index, *region).0)
        }
        _ => Err(ENXIO),
    }
}

fn set_nr_irqs(vm: &Vm, count: u32) -> Result {
    // A number that cannot be is the first thing to complain of.
    GicConfig::default().set_nr_irqs(count).map_err(gic_errno)?;
    let mut setup = vm.gic.setup.lock();
    if vm.gic.is_ready() {
        return Err(EBUSY);
    }
    setup.config.set_nr_irqs(count).map_err(gic_errno)
}

fn set_maintenance(vm: &Vm, intid: u32) -> Result {
    let mut setup = vm.gic.setup.lock();
    if vm.gic.is_ready() {
        return Err(EBUSY);
    }
    if !IntId::new(intid).is_some_and(IntId::is_ppi) {
        return Err(EINVAL);
    }
    setup.maintenance = intid;
    Ok(())
}

fn control(vm: &Vm, command: u64) -> Result {
    let _config = vm.config.lock();
    match command {
        INIT => vm.init_gic(),
        SAVE_PENDING_TABLES => vm.while_stopped(|| {
            if vm.gic.is_ready() {
                LpiTables(vm).save_pending()
            } else {
                Err(ENXIO)
            }
        })?,
        _ => Err(ENXIO),
    }
}
