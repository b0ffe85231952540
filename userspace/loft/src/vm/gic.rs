// SPDX-License-Identifier: Apache-2.0
//! The in-kernel GICv3 (Documentation/virt/kvm/devices/arm-vgic-v3.rst).

use anyhow::{Context, Result};
use kvm_bindings::{
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_ITS_ADDR_TYPE, KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION,
};
use kvm_ioctls::{DeviceFd, VmFd};
use loft_boot::layout;

/// More redistributors than this need a region that says how many it holds: the plain form was made for up to 123.
const PLAIN_LIMIT: usize = 123;

/// KVM_CREATE_DEVICE_TEST: says whether the device could be created, and creates nothing.
const TEST: u32 = 1;

/// Whether `vm` can have a GICv3.
pub fn test(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, fd: 0, flags: TEST };
    // With this flag no descriptor comes back, and the library takes what is in the struct for one: ask directly.
    let request = vmm_sys_util::ioctl::ioctl_expr(
        vmm_sys_util::ioctl::_IOC_READ | vmm_sys_util::ioctl::_IOC_WRITE,
        kvm_bindings::KVMIO,
        0xe0,
        size_of::<kvm_create_device>() as u32,
    );
    // SAFETY: KVM_CREATE_DEVICE reads and writes a kvm_create_device, and this is one.
    let result = unsafe { vmm_sys_util::ioctl::ioctl_with_mut_ref(vm, request, &mut device) };
    if result < 0 {
        return Err(kvm_ioctls::Error::last());
    }
    Ok(())
}

/// The interrupt controller; the VM keeps it alive.
pub struct Gic(DeviceFd);

impl Gic {
    /// Creates the controller for `vcpus` vCPUs and `irqs` interrupts. [`Gic::init`] follows once all vCPUs exist.
    pub fn create(vm: &VmFd, vcpus: usize, irqs: u32) -> Result<Self> {
        let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, fd: 0, flags: 0 };
        let gic = Self(vm.create_device(&mut device).context(
            "the hypervisor has no GICv3 for guests; loft needs a host with a GICv3 or later (see `loft doctor`)",
        )?);
        gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST.into(), &layout::GICD.0)
            .context("the hypervisor refused the GIC distributor's address")?;
        let region = ((vcpus as u64) << 52) | layout::GICR_BASE;
        if vcpus > PLAIN_LIMIT {
            gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION.into(), &region)
        } else {
            gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST.into(), &layout::GICR_BASE)
        }
        .context("the hypervisor refused the GIC redistributors' address")?;
        gic.set(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &irqs)
            .with_context(|| format!("the hypervisor refused a GIC with {irqs} interrupts"))?;
        Ok(gic)
    }

    /// Completes the controller.
    pub fn init(&self) -> Result<()> {
        self.0
            .set_device_attr(&attr(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT.into(), 0))
            .context("the hypervisor could not set up the GIC")
    }

    fn set<T>(&self, group: u32, attribute: u64, value: &T) -> Result<(), kvm_ioctls::Error> {
        set(&self.0, group, attribute, value)
    }
}

/// The ITS, which takes messages of devices (Documentation/virt/kvm/devices/arm-vgic-its.rst); the
/// VM keeps it alive.
pub struct Its(#[expect(dead_code, reason = "it is kept open")] DeviceFd);

impl Its {
    /// Creates the ITS of `vm`, whose GICv3 is complete.
    pub fn create(vm: &VmFd) -> Result<Self> {
        let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS, fd: 0, flags: 0 };
        let its = vm
            .create_device(&mut device)
            .context("the hypervisor has no ITS for guests, which --transport pci needs; give --transport mmio")?;
        set(&its, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE.into(), &layout::GITS.0)
            .context("the hypervisor refused the ITS's address")?;
        its.set_device_attr(&attr(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT.into(), 0))
            .context("the hypervisor could not set up the ITS")?;
        Ok(Self(its))
    }
}

fn set<T>(device: &DeviceFd, group: u32, attribute: u64, value: &T) -> Result<(), kvm_ioctls::Error> {
    device.set_device_attr(&attr(group, attribute, std::ptr::from_ref(value) as u64))
}

fn attr(group: u32, attr: u64, addr: u64) -> kvm_device_attr {
    kvm_device_attr { group, attr, addr, flags: 0 }
}
