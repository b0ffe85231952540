// SPDX-License-Identifier: GPL-2.0

//! The registers of the GICv3, as a VMM saves and restores them while its vCPUs are stopped.
//!
//! An attribute's upper half is the affinity of the vCPU that is meant: Aff3 63:56, Aff2 55:48,
//! Aff1 47:40, Aff0 39:32.

use super::super::user;
use crate::host::ffi::*;
use crate::model::vcpus::VcpuId;
use crate::model::vgic::{CpuIf, Error as GicError, GicFrame};
use crate::vm::gic::{gic_errno, After, GicModel};
use crate::vm::lpi::LpiTables;
use crate::vm::vcpu_handle::VcpuHandle;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO tells of lines: their levels. (The kernel's headers for
/// userspace have no name for it.)
const LINE_LEVEL: u32 = 0;

/// What an attribute is about.
enum AttrTarget {
    /// A register of 32 bits in a frame, and its offset.
    Frame(GicFrame, u32),
    /// The lines of 32 interrupts, the first of which is `first`; `kind` says what of them.
    Lines { vcpu: VcpuId, kind: u32, first: u32 },
    /// A system register of a vCPU's CPU interface, by its encoding.
    Interface(Arc<VcpuHandle>, u16),
}

impl AttrTarget {
    /// Finds what an attribute is about; `EINVAL` if its vCPU does not exist. The distributor's
    /// registers do not name one, but are there with the first only.
    fn new(vm: &Vm, attr: &kvm_device_attr) -> Result<Self> {
        let offset = attr.attr as u32;
        if attr.group == KVM_DEV_ARM_VGIC_GRP_DIST_REGS {
            vm.vcpu(VcpuId::FIRST).ok_or(EINVAL)?;
            return Ok(Self::Frame(GicFrame::Dist, offset));
        }
        let vcpu = vm.vcpu_by_affinity(affinity(attr.attr)).ok_or(EINVAL)?;
        match attr.group {
            KVM_DEV_ARM_VGIC_GRP_REDIST_REGS => Ok(Self::Frame(GicFrame::Redist(vcpu.id), offset)),
            KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS => Ok(Self::Interface(vcpu, attr.attr as u16)),
            KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO => Ok(Self::Lines {
                vcpu: vcpu.id,
                kind: offset >> KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT,
                first: offset & KVM_DEV_ARM_VGIC_LINE_LEVEL_INTID_MASK,
            }),
            _ => Err(ENXIO),
        }
    }
}

/// Returns the affinity in an attribute, as in MPIDR_EL1.
fn affinity(attr: u64) -> u64 {
    let packed = attr >> KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT;
    packed & 0xff_ffff | (packed >> 24) << 32
}

/// Returns whether there is such a register; the levels of lines exist without a vCPU to ask for.
pub(super) fn has(vm: &Vm, attr: &kvm_device_attr) -> Result<bool> {
    if attr.group == KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO {
        return Ok(attr.attr as u32 >> KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT == LINE_LEVEL);
    }
    Ok(match AttrTarget::new(vm, attr)? {
        AttrTarget::Frame(frame, offset) => match vm.gic.model() {
            Some(model) => model.user_has(frame, offset),
            None => vm.gic.setup.lock().config.user_has(frame, offset),
        },
        AttrTarget::Interface(_, encoding) => CpuIf::user_has(encoding),
        AttrTarget::Lines { .. } => false,
    })
}

/// Reads a register into the memory that the attribute names: 64 bits of a system register, else
/// 32.
pub(super) fn get(vm: &Vm, attr: &kvm_device_attr) -> Result {
    let target = AttrTarget::new(vm, attr)?;
    let address = attr.addr as usize;
    let config = vm.config.lock();
    match target {
        AttrTarget::Interface(vcpu, encoding) => {
            let value = vm.while_stopped(|| {
                check_ready(vm)?;
                check_encoding(encoding)?;
                let interface = vcpu.interface();
                interface
                    .registers
                    .user_get(interface.vmcr, encoding)
                    .map_err(gic_errno)
            })??;
            drop(config);
            user::write::<u64>(address, &value)
        }
        AttrTarget::Frame(frame, offset) => {
            let value = vm.while_stopped(|| {
                if vm.gic.is_ready() {
                    access(vm, |model| absent(model.user_read(frame, offset)))
                } else {
                    check_early(frame)?;
                    vm.gic
                        .setup
                        .lock()
                        .config
                        .user_read(offset)
                        .map_err(gic_errno)
                }
            })??;
            drop(config);
            user::write::<u32>(address, &value)
        }
        AttrTarget::Lines { vcpu, kind, first } => {
            let value = vm.while_stopped(|| {
                check_ready(vm)?;
                check_kind(kind)?;
                access(vm, |model| model.level_info(vcpu, first))
            })??;
            drop(config);
            user::write::<u32>(address, &value)
        }
    }
}

/// Sets a register from the memory that the attribute names.
pub(super) fn set(vm: &Vm, attr: &kvm_device_attr) -> Result {
    let target = AttrTarget::new(vm, attr)?;
    let address = attr.addr as usize;
    match target {
        AttrTarget::Interface(vcpu, encoding) => {
            // Whether that can be read matters least; whether something else is wrong does not
            // depend on it.
            let value: Result<u64> = user::read(address);
            let _config = vm.config.lock();
            vm.while_stopped(|| {
                check_ready(vm)?;
                let value = value?;
                check_encoding(encoding)?;
                let mut interface = vcpu.interface();
                interface
                    .registers
                    .user_set(&mut interface.vmcr, encoding, value)
                    .map_err(gic_errno)?;
                vcpu.set_interface(interface);
                Ok(())
            })?
        }
        AttrTarget::Frame(frame, offset) => {
            let value: u32 = user::read(address)?;
            let _config = vm.config.lock();
            vm.while_stopped(|| {
                if vm.gic.is_ready() {
                    // No vCPU runs that could be kicked.
                    let mut after = After::default();
                    access(vm, |model| {
                        absent(model.user_write(frame, offset, value, &mut after))
                    })?;
                    if let Some(work) = after.lpis {
                        LpiTables(vm).work(work);
                    }
                    Ok(())
                } else {
                    check_early(frame)?;
                    vm.gic
                        .setup
                        .lock()
                        .config
                        .user_write(offset, value)
                        .map_err(gic_errno)
                }
            })?
        }
        AttrTarget::Lines { vcpu, kind, first } => {
            let value: u32 = user::read(address)?;
            let _config = vm.config.lock();
            vm.while_stopped(|| {
                check_ready(vm)?;
                check_kind(kind)?;
                access(vm, |model| model.set_level_info(vcpu, first, value))?;
                if let Some(vcpu) = vm.vcpu(vcpu) {
                    vcpu.note_levels();
                }
                Ok(())
            })?
        }
    }
}

/// Makes one access to the model; `EBUSY` before initialisation.
fn access<R>(vm: &Vm, body: impl FnOnce(&GicModel) -> Result<R, GicError>) -> Result<R> {
    body(vm.gic.model().ok_or(EBUSY)?).map_err(gic_errno)
}

/// Takes an offset that is not in the frame at all for a register that does not exist: zero, and
/// not to be written.
fn absent<R: Default>(result: Result<R, GicError>) -> Result<R, GicError> {
    match result {
        Err(GicError::BadAccess) => Ok(R::default()),
        other => other,
    }
}

fn check_ready(vm: &Vm) -> Result {
    if vm.gic.is_ready() {
        Ok(())
    } else {
        Err(EBUSY)
    }
}

/// Checks that a frame is there before initialisation: there is but the distributor, and little of
/// that. Else `EBUSY`.
fn check_early(frame: GicFrame) -> Result {
    match frame {
        GicFrame::Dist => Ok(()),
        GicFrame::Redist(_) => Err(EBUSY),
    }
}

fn check_kind(kind: u32) -> Result {
    if kind == LINE_LEVEL {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

fn check_encoding(encoding: u16) -> Result {
    if CpuIf::user_has(encoding) {
        Ok(())
    } else {
        Err(ENOENT)
    }
}
