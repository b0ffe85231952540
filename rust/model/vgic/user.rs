// SPDX-License-Identifier: GPL-2.0

//! Saving and restoring: KVM_DEV_ARM_VGIC_GRP_DIST_REGS, REDIST_REGS and LEVEL_INFO
//! (Documentation/virt/kvm/devices/ arm-vgic-v3.rst in the kernel).
//!
//! Userspace sees the same registers as the guest, in 32-bit halves, except where the guest's view
//! does not hold all of the state: the pending latch apart from the line, STATUSR to be set, IIDR
//! to be compared.

use super::intid::{IntId, Line};
use super::irq::{IrqBit, IrqBlock};
use super::mmio::MmioAccess;
use super::regs::{self, ENABLES, STATUS};
use super::state::View;
use super::table::IrqField;
use super::{config as setup, Error, Notify};
use crate::model::vcpus::VcpuId;
use core::sync::atomic::Ordering::Relaxed;

impl View<'_> {
    pub(super) fn level_info(&self, vcpu: VcpuId, first: u32) -> Result<u32, Error> {
        if first % 32 != 0 {
            return Err(Error::Invalid);
        }
        let Some(id) = IntId::new(first) else {
            return Ok(0);
        };
        if id.is_spi() {
            return Ok(self.shared_block(id).map_or(0, IrqBlock::level_word));
        }
        // SGIs have no lines.
        let levels = self.bank(vcpu).map_or(0, |bank| bank.private.level_word());
        Ok(levels & !0xffff)
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
            if let Some(mut irq) = self.irq_mut(line) {
                irq.set(IrqBit::Line, (levels >> n) & 1 != 0);
                self.place(line);
            }
        }
        Ok(())
    }
}

/// Returns 32 interrupts from `first` on, without those that no device is wired to.
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
    gic.dist.set_enables(value as u32 & ENABLES);
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

/// Takes a confirmation only, once the controller exists.
pub(super) fn set_typer2(
    _: &mut View<'_>,
    _: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    if value == 0 {
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

/// Sets GICD_IROUTER. An active interrupt follows its route here: which of the two is restored
/// first must not matter.
pub(super) fn set_route(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    regs::set_route(gic, access, value, notify)?;
    for (_, line) in access.lines() {
        let Some(mut irq) = gic.irq_mut(line).filter(|irq| irq.active()) else {
            continue;
        };
        irq.set(IrqBit::Active, false);
        gic.place(line);
        if let Some(mut irq) = gic.irq_mut(line) {
            irq.set(IrqBit::Active, true);
            gic.place(line);
        }
    }
    Ok(())
}

/// Sets the latches: every bit counts, the clear ones too.
pub(super) fn set_latch(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    let different = value ^ access.fields(gic, IrqField::Bit(IrqBit::Latch));
    for line in access.lines_in(different) {
        if let Some(mut irq) = gic.irq_mut(line) {
            let latch = !irq.latch();
            irq.set(IrqBit::Latch, latch);
            gic.place(line);
        }
    }
    Ok(())
}
