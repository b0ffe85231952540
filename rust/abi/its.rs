// SPDX-License-Identifier: GPL-2.0

//! The ITS's file and its attributes (Documentation/virt/kvm/devices/arm-vgic-its.rst).

use super::user;
use crate::host::ffi::*;
use crate::host::file::FileObject;
use crate::vm::its::VmIts;
use crate::vm::lpi::LpiTables;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::sync::Arc;

/// An ITS as userspace has it open. It stays when this is closed.
pub(crate) struct ItsFile {
    pub(super) vm: Arc<Vm>,
    pub(super) its: Arc<VmIts>,
}

const INIT: u64 = KVM_DEV_ARM_VGIC_CTRL_INIT as u64;
const SAVE: u64 = KVM_DEV_ARM_ITS_SAVE_TABLES as u64;
const RESTORE: u64 = KVM_DEV_ARM_ITS_RESTORE_TABLES as u64;
const RESET: u64 = KVM_DEV_ARM_ITS_CTRL_RESET as u64;
const ADDRESS: u64 = KVM_VGIC_ITS_ADDR_TYPE as u64;

impl FileObject for ItsFile {
    const NAME: &'static CStr = c"loft-arm-vgic-its";

    fn ioctl(this: &Arc<Self>, command: u32, argument: usize) -> Result<isize> {
        if !this.vm.is_mine() {
            return Err(EIO);
        }
        match command {
            LOFT_KVM_SET_DEVICE_ATTR => this.set(&user::read(argument)?)?,
            LOFT_KVM_GET_DEVICE_ATTR => this.get(&user::read(argument)?)?,
            LOFT_KVM_HAS_DEVICE_ATTR => has(&user::read(argument)?)?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

fn has(attr: &kvm_device_attr) -> Result {
    match (attr.group, attr.attr) {
        (KVM_DEV_ARM_VGIC_GRP_ADDR, ADDRESS)
        | (KVM_DEV_ARM_VGIC_GRP_CTRL, INIT | SAVE | RESTORE | RESET) => Ok(()),
        (KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset) => VmIts::user_has(offset),
        _ => Err(ENXIO),
    }
}

impl ItsFile {
    fn set(&self, attr: &kvm_device_attr) -> Result {
        let address = attr.addr as usize;
        match attr.group {
            KVM_DEV_ARM_VGIC_GRP_ADDR if attr.attr != ADDRESS => Err(ENODEV),
            KVM_DEV_ARM_VGIC_GRP_ADDR => {
                let base = user::read(address)?;
                let _config = self.vm.config.lock();
                self.vm.its.place(&self.its, base, self.vm.memory.end())
            }
            KVM_DEV_ARM_VGIC_GRP_CTRL => self.control(attr.attr),
            KVM_DEV_ARM_VGIC_GRP_ITS_REGS => {
                let value = user::read(address)?;
                self.stopped(attr.attr, || {
                    self.its
                        .user_write(&mut LpiTables(&self.vm), attr.attr, value)
                })
            }
            _ => Err(ENXIO),
        }
    }

    fn get(&self, attr: &kvm_device_attr) -> Result {
        let address = attr.addr as usize;
        match attr.group {
            KVM_DEV_ARM_VGIC_GRP_ADDR if attr.attr != ADDRESS => Err(ENODEV),
            KVM_DEV_ARM_VGIC_GRP_ADDR => user::write(address, &self.its.base()),
            KVM_DEV_ARM_VGIC_GRP_ITS_REGS => {
                let value = self.stopped(attr.attr, || self.its.user_read(attr.attr))?;
                user::write(address, &value)
            }
            _ => Err(ENXIO),
        }
    }

    /// Calls `access` for the register at `offset`, while no vCPU is in KVM_RUN.
    ///
    /// Errors: `EINVAL` if the offset is not aligned, then `EBUSY` if a vCPU runs, then `ENXIO` if
    /// the ITS has no address or no such register.
    fn stopped<R>(&self, offset: u64, access: impl FnOnce() -> Result<R>) -> Result<R> {
        let known = VmIts::user_has(offset);
        if known == Err(EINVAL) {
            return Err(EINVAL);
        }
        let _config = self.vm.config.lock();
        self.vm.while_stopped(|| {
            if self.its.base() == crate::vm::its::NOWHERE {
                return Err(ENXIO);
            }
            known?;
            access()
        })?
    }

    fn control(&self, command: u64) -> Result {
        if command == INIT {
            return Ok(());
        }
        let _config = self.vm.config.lock();
        self.vm.while_stopped(|| match command {
            RESET => {
                self.its.reset(&mut LpiTables(&self.vm));
                Ok(())
            }
            SAVE => self.its.save(&mut LpiTables(&self.vm)),
            RESTORE => self.its.restore(&mut LpiTables(&self.vm)),
            _ => Err(ENXIO),
        })?
    }
}
