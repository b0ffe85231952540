// SPDX-License-Identifier: GPL-2.0

//! Saving and restoring: KVM_DEV_ARM_VGIC_GRP_DIST_REGS, REDIST_REGS and LEVEL_INFO
//! (Documentation/virt/kvm/devices/ arm-vgic-v3.rst in the kernel).
//!
//! Userspace sees the same registers as the guest, in 32-bit halves, except where the guest's view
//! does not hold all of the state: the pending latch apart from the line, STATUSR to be set, IIDR
//! to be compared.

use super::intid::{IntId, Line};
use super::mmio::{GicFrame, MmioAccess};
use super::regs::{self, gather, zero, ENABLES, STATUS};
use super::state::View;
use super::{config as setup, Error, Notify};
use crate::model::vcpus::VcpuId;
use core::sync::atomic::Ordering::Relaxed;

impl View<'_> {
    pub(super) fn user_has(&self, frame: GicFrame, offset: u32) -> bool {
        matches!(self.find(None, frame, offset, 4), Ok(Some(_)))
    }

    pub(super) fn user_read(&self, frame: GicFrame, offset: u32) -> Result<u32, Error> {
        match self.find(None, frame, offset, 4)? {
            None => Ok(0),
            Some((register, access)) => {
                if register.fresh_read {
                    self.check(&access, u64::MAX, |_| true)?;
                }
                let read = register.user_read.unwrap_or(register.read);
                Ok(read(self, &access) as u32)
            }
        }
    }

    pub(super) fn user_write(
        &mut self,
        frame: GicFrame,
        offset: u32,
        value: u32,
        notify: &mut dyn Notify,
    ) -> Result<(), Error> {
        match self.find(None, frame, offset, 4)? {
            None => Ok(()),
            Some((register, access)) => {
                // Restoring the latch writes zeroes too.
                let touched = if register.user_write.is_some() {
                    u64::MAX
                } else {
                    value.into()
                };
                self.check_write(register, &access, touched)?;
                let write = register.user_write.unwrap_or(register.write);
                write(self, &access, value.into(), notify)
            }
        }
    }

    pub(super) fn level_info(&self, vcpu: VcpuId, first: u32) -> Result<u32, Error> {
        if first % 32 != 0 {
            return Err(Error::Invalid);
        }
        let levels = device_lines(vcpu, first)
            .filter(|&(_, line)| self.irq(line).is_some_and(|irq| !irq.edge && irq.line))
            .fold(0, |levels, (n, _)| levels | (1 << n));
        Ok(levels)
    }

    pub(super) fn set_level_info(
        &mut self,
        vcpu: VcpuId,
        first: u32,
        levels: u32,
    ) -> Result<(), Error> {
        if first % 32 != 0 {
            return Err(Error::Invalid);
        }
        for (n, line) in device_lines(vcpu, first) {
            if let Some(irq) = self.irq_mut(line) {
                irq.line = (levels >> n) & 1 != 0;
                self.place(line);
            }
        }
        Ok(())
    }
}

/// 32 interrupts from `first` on, without those that no device is wired to.
fn device_lines(vcpu: VcpuId, first: u32) -> impl Iterator<Item = (u32, Line)> {
    (0..32).filter_map(move |n| {
        let id = IntId::new(first.saturating_add(n)).filter(|id| !id.is_sgi())?;
        Some((n, Line::seen_by(vcpu, id)))
    })
}

pub(super) fn set_ctlr(
    gic: &mut View<'_>,
    _: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    gic.dist.enable_groups(value as u32 & ENABLES);
    Ok(())
}

pub(super) fn set_iidr(
    gic: &mut View<'_>,
    _: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    let revision = setup::parse_iidr(value as u32)?;
    gic.dist.revision.store(revision, Relaxed);
    Ok(())
}

/// A confirmation only, once the controller exists.
pub(super) fn set_typer2(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    if value == zero(gic, access) {
        Ok(())
    } else {
        Err(Error::Busy)
    }
}

pub(super) fn set_status(
    gic: &mut View<'_>,
    _: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    gic.dist.status.store(value as u32 & STATUS, Relaxed);
    Ok(())
}

pub(super) fn set_redist_status(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    if let Some(bank) = access.bank.and_then(|vcpu| gic.bank_mut(vcpu)) {
        bank.status = value as u32 & STATUS;
    }
    Ok(())
}

/// An active interrupt follows its route here: which of the two is restored first must not matter.
pub(super) fn set_route(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    regs::set_route(gic, access, value, notify)?;
    for (_, line) in access.lines() {
        let Some(irq) = gic.irq_mut(line).filter(|irq| irq.active) else {
            continue;
        };
        irq.active = false;
        gic.place(line);
        if let Some(irq) = gic.irq_mut(line) {
            irq.active = true;
            gic.place(line);
        }
    }
    Ok(())
}

pub(super) fn latch(gic: &View<'_>, access: &MmioAccess) -> u64 {
    gather(gic, access, |irq| irq.latch)
}

/// Every bit counts, the clear ones too.
pub(super) fn set_latch(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    for (n, line) in access.lines() {
        if let Some(irq) = gic.irq_mut(line) {
            irq.latch = (value >> (n & 63)) & 1 != 0;
            gic.place(line);
        }
    }
    Ok(())
}
