// SPDX-License-Identifier: GPL-2.0

//! What the registers do when the guest accesses them.

use super::intid::Line;
use super::irq::IrqBit;
use super::lpi::{LpiId, LpiWork};
use super::mmio::MmioAccess;
use super::redist::{Bank, Redist};
use super::state::{Dist, View};
use super::{config as setup, Error, Notify, StaleLists};
use crate::model::bitset::bits;
use crate::model::sysreg::regs::{
    GICD_CTLR, GICD_PIDR2, GICD_TYPER, GICR_CTLR, GICR_PENDBASER, GICR_PROPBASER, GICR_TYPER,
    GIC_STATUSR,
};
use core::sync::atomic::Ordering::Relaxed;

/// Priorities have 5 bits, as KVM's: the most that every GICv3 implements.
const PRIORITY_BITS: u8 = 0xf8;

/// The groups' enables in GICD_CTLR.
pub(super) const ENABLES: u32 =
    (GICD_CTLR::EnableGrp0.mask() | GICD_CTLR::EnableGrp1.mask()) as u32;
/// In GICD_CTLR: affinity routing and one security state, always.
pub(super) const ARE_DS: u32 = (GICD_CTLR::ARE.mask() | GICD_CTLR::DS.mask()) as u32;
/// In GICD_CTLR: a write that disables a group is not complete.
pub(super) const RWP: u32 = GICD_CTLR::RWP.mask() as u32;

/// Bits of INTID without LPIs.
const ID_BITS: u32 = 10;

/// What GICD_STATUSR and GICR_STATUSR have.
pub(super) const STATUS: u32 = !GIC_STATUSR::RES0 as u32;

/// Ignores the write.
pub(super) fn ignore(
    _: &mut View<'_>,
    _: &MmioAccess,
    _: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    Ok(())
}

/// Returns an identification register: PIDR2 says GICv3, the others say nothing.
pub(super) fn id_register(_: &Dist, offset: u32) -> u64 {
    // The same in both frames.
    if offset == GICD_PIDR2::OFFSET {
        GICD_PIDR2::ArchRev.of(3) | GICD_PIDR2::JEDEC.mask() | GICD_PIDR2::DES_1.of(3)
    } else {
        0
    }
}

pub(super) fn ctlr(dist: &Dist, _: u32) -> u64 {
    dist.ctlr.load(Relaxed).into()
}

pub(super) fn typer(dist: &Dist, _: u32) -> u64 {
    let lines = (dist.nr_irqs / 32).saturating_sub(1);
    let lpis = dist.has_lpis();
    let id_bits = if lpis { LpiId::BITS } else { ID_BITS };
    GICD_TYPER::ITLinesNumber.of(lines.into())
        | GICD_TYPER::IDbits.of(id_bits.wrapping_sub(1).into())
        | GICD_TYPER::LPIS.of(lpis.into())
        | GICD_TYPER::No1N.mask()
}

pub(super) fn iidr(dist: &Dist, _: u32) -> u64 {
    setup::iidr(dist.revision.load(Relaxed)).into()
}

pub(super) fn status(dist: &Dist, _: u32) -> u64 {
    dist.status.load(Relaxed).into()
}

/// Takes a write to GICD_STATUSR: writing 1 clears a bit.
pub(super) fn clear_status(
    gic: &mut View<'_>,
    _: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    gic.dist.status.fetch_and(!(value as u32), Relaxed);
    Ok(())
}

/// In GICR_CTLR: LPIs can be disabled again, and invalidated through registers.
const CES_IR: u64 = GICR_CTLR::CES.mask() | GICR_CTLR::IR.mask();

pub(super) fn redist_ctlr(dist: &Dist, bank: &Bank, _: u32) -> u64 {
    let features = if dist.revision.load(Relaxed) >= 3 {
        CES_IR
    } else {
        0
    };
    features | GICR_CTLR::EnableLPIs.of(bank.lpis.enabled.into())
}

/// Takes a write to GICR_CTLR. The registers' part is done when this returns, that of the tables in
/// the guest's memory is the caller's.
pub(super) fn set_redist_ctlr(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    let enable = GICR_CTLR::EnableLPIs.is_set(value);
    let (Some(vcpu), true) = (access.bank, gic.dist.has_lpis()) else {
        return Ok(());
    };
    let Some(bank) = gic.bank_mut(vcpu) else {
        return Ok(());
    };
    if bank.lpis.enabled == enable {
        return Ok(());
    }
    if !enable && bank.resident && bank.forwarded != 0 {
        let mut stale = StaleLists::default();
        stale.add_vcpu(access.by, Some(vcpu));
        stale.check()?;
    }
    bank.lpis.enabled = enable;
    if !enable {
        notify.lpis(LpiWork::Disabled(vcpu));
    } else if !GICR_PENDBASER::PTZ.is_set(bank.lpis.pendbaser) {
        notify.lpis(LpiWork::Enabled(vcpu));
    }
    Ok(())
}

pub(super) const PROPBASER_ADDRESS: u64 = GICR_PROPBASER::Physical_Address.mask();
pub(super) const PENDBASER_ADDRESS: u64 = GICR_PENDBASER::Physical_Address.mask();

/// GICR_PROPBASER and GICR_PENDBASER out of reset: no address, inner shareable, inner write-back.
/// As with KVM, GICR_PENDBASER says so without LPIs too.
pub(super) const TABLE_AT_RESET: u64 =
    GICR_PROPBASER::Shareability.of(1) | GICR_PROPBASER::InnerCache.of(3);

/// Returns GICR_PROPBASER: one table for all redistributors, as GICR_TYPER.CommonLPIAff says.
pub(super) fn propbaser(dist: &Dist, offset: u32) -> u64 {
    half(dist.propbaser.load(Relaxed), offset)
}

/// Takes a write to GICR_PROPBASER, which cannot be written while the redistributor has LPIs
/// enabled.
pub(super) fn set_propbaser(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    if gic.dist.has_lpis() && bank(gic, access).is_some_and(|bank| !bank.lpis.enabled) {
        // One writer at a time: the lock of what is shared.
        let propbaser = &gic.dist.propbaser;
        let new = merge(propbaser.load(Relaxed), access, value);
        propbaser.store(memory_attributes(new & !GICR_PROPBASER::RES0), Relaxed);
    }
    Ok(())
}

/// Returns GICR_PENDBASER. PTZ reads as zero: it says that the table is all zeroes when LPIs are
/// enabled, and so need not be looked at then.
pub(super) fn pendbaser(_: &Dist, bank: &Bank, offset: u32) -> u64 {
    half(GICR_PENDBASER::PTZ.with(bank.lpis.pendbaser, 0), offset)
}

/// Takes a write to GICR_PENDBASER, as [`set_propbaser`].
pub(super) fn set_pendbaser(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    let lpis = gic.dist.has_lpis();
    let bank = access
        .bank
        .and_then(|vcpu| gic.bank_mut(vcpu))
        .filter(|bank| lpis && !bank.lpis.enabled);
    if let Some(bank) = bank {
        let new = merge(bank.lpis.pendbaser, access, value);
        bank.lpis.pendbaser = memory_attributes(new & !GICR_PENDBASER::RES0);
    }
    Ok(())
}

pub(super) fn invalidate_lpi(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    let enabled = bank(gic, access).is_some_and(|bank| bank.lpis.enabled);
    if let Some(id) = LpiId::new(value as u32).filter(|_| enabled && is_lower(access)) {
        notify.lpis(LpiWork::Invalidate(id));
    }
    Ok(())
}

pub(super) fn invalidate_all_lpis(
    gic: &mut View<'_>,
    access: &MmioAccess,
    _: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    let enabled = bank(gic, access).is_some_and(|bank| bank.lpis.enabled);
    if let Some(vcpu) = access.bank.filter(|_| enabled && is_lower(access)) {
        notify.lpis(LpiWork::InvalidateAll(vcpu));
    }
    Ok(())
}

/// Returns `value` as it reads back. Where the guest says that a table is cacheable and shared
/// otherwise than this host accesses it, it reads back what the host does: inner shareable, inner
/// write-back, outer the same as inner or not cacheable. The fields are in the same places in
/// GICR_PROPBASER and GICR_PENDBASER.
pub(super) fn memory_attributes(value: u64) -> u64 {
    use GICR_PROPBASER::{InnerCache, OuterCache, Shareability};
    let inner = InnerCache.get(value);
    let inner = if inner <= 1 { 3 } else { inner };
    let shareability = Shareability.get(value);
    let shareability = if shareability == 2 { 1 } else { shareability };
    let outer = OuterCache.get(value);
    let outer = if outer > 1 { 0 } else { outer };
    let value = InnerCache.with(value, inner);
    OuterCache.with(Shareability.with(value, shareability), outer)
}

fn bank<'a>(gic: &'a View<'_>, access: &MmioAccess) -> Option<&'a Bank> {
    gic.bank(access.bank?)
}

/// Returns GICR_IIDR: KVM shows no revision here.
pub(super) fn redist_iidr(_: &Dist, _: u32) -> u64 {
    setup::iidr(0).into()
}

pub(super) fn redist_typer(dist: &Dist, redist: &Redist, offset: u32) -> u64 {
    // Aff3, in the upper byte, is not there.
    let value = u64::from(redist.affinity()) << GICR_TYPER::Aff0.shift()
        | GICR_TYPER::Processor_Number.of(redist.number.into())
        | GICR_TYPER::Last.of(redist.is_last().into())
        | GICR_TYPER::PLPIS.of(dist.has_lpis().into());
    half(value, offset)
}

pub(super) fn redist_status(_: &Dist, bank: &Bank, _: u32) -> u64 {
    bank.status.into()
}

/// Takes a write to GICR_STATUSR: writing 1 clears a bit.
pub(super) fn clear_redist_status(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    if let Some(bank) = access.bank.and_then(|vcpu| gic.bank_mut(vcpu)) {
        bank.status &= !(value as u32);
    }
    Ok(())
}

/// Returns whether an access to a 64-bit register is to all of it, or to its lower half. The upper
/// half of one that does something when it is written is reserved, or belongs to what is not there:
/// vPEs and a fourth level of affinity.
fn is_lower(access: &MmioAccess) -> bool {
    access.offset & 4 == 0
}

/// Returns what an access at `offset` has of a 64-bit register, from the lowest bit on.
fn half(value: u64, offset: u32) -> u64 {
    value >> (8 * (offset & 4))
}

/// Returns a 64-bit register after a write of 4 or 8 bytes.
fn merge(old: u64, access: &MmioAccess, value: u64) -> u64 {
    match (access.size, access.offset & 4) {
        (8, _) => value,
        (_, 0) => old & !0xffff_ffff | value & 0xffff_ffff,
        _ => old & 0xffff_ffff | value << 32,
    }
}

/// Kicks who presents an interrupt: something that decides how it is presented has been changed.
fn changed(gic: &mut View<'_>, line: Line, notify: &mut dyn Notify) {
    if let Some(vcpu) = gic.rearrange(line) {
        notify.kick(vcpu);
    }
}

/// Moves interrupts to the other group. `different`: those that go there.
pub(super) fn turn_group(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(different) {
        if let Some(mut irq) = gic.irq_mut(line) {
            let (priority, group1) = (irq.priority(), !irq.group1());
            irq.set(IrqBit::Group1, group1);
            gic.note_order(line, priority, priority, group1);
            changed(gic, line, notify);
        }
    }
    Ok(())
}

pub(super) fn set_enabled(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(different) {
        if let Some(mut irq) = gic.irq_mut(line) {
            irq.set(IrqBit::Enabled, true);
            changed(gic, line, notify);
        }
    }
    Ok(())
}

pub(super) fn clear_enabled(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(different) {
        if let Some(mut irq) = gic.irq_mut(line) {
            irq.set(IrqBit::Enabled, false);
            gic.place(line);
        }
    }
    Ok(())
}

pub(super) fn set_pending(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(different) {
        if let Some(mut irq) = gic.irq_mut(line) {
            irq.set(IrqBit::Latch, true);
        }
        if let Some(vcpu) = gic.raise(line) {
            notify.kick(vcpu);
        }
    }
    Ok(())
}

pub(super) fn clear_pending(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(different) {
        if let Some(mut irq) = gic.irq_mut(line) {
            irq.set(IrqBit::Latch, false);
            gic.place(line);
        }
    }
    Ok(())
}

pub(super) fn set_active(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(different) {
        if let Some(mut irq) = gic.irq_mut(line) {
            irq.set(IrqBit::Acknowledged, false);
            irq.set(IrqBit::Active, true);
            gic.note_active(line, true);
            gic.place(line);
        }
    }
    Ok(())
}

pub(super) fn clear_active(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(different) {
        if let Some(mut irq) = gic.irq_mut(line) {
            irq.set(IrqBit::Active, false);
        }
        gic.note_active(line, false);
        if let Some(vcpu) = gic.raise(line) {
            notify.kick(vcpu);
        }
    }
    Ok(())
}

/// Changes priorities. `different`: the bits of the priorities that change; those that are not
/// implemented do not.
pub(super) fn change_priority(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for (n, line) in access.lines() {
        let change = (different >> (8 * (n % 4))) as u8 & PRIORITY_BITS;
        if change == 0 {
            continue;
        }
        if let Some(mut irq) = gic.irq_mut(line) {
            let (before, group1) = (irq.priority(), irq.group1());
            let priority = before ^ change;
            irq.set_priority(priority);
            gic.note_order(line, before, priority, group1);
            changed(gic, line, notify);
        }
    }
    Ok(())
}

/// Turns levels into edges, and edges into levels. `different`: of those that become an edge, or a
/// level, the upper one of two bits is set. The lower one means nothing.
pub(super) fn turn_config(
    gic: &mut View<'_>,
    access: &MmioAccess,
    different: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for line in bits(different & 0xaaaa_aaaa).filter_map(|bit| access.line(bit / 2)) {
        if let Some(mut irq) = gic.irq_mut(line) {
            let edge = !irq.edge();
            irq.set(IrqBit::Edge, edge);
            changed(gic, line, notify);
        }
    }
    Ok(())
}

pub(super) fn set_route(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    if !is_lower(access) {
        return Ok(());
    }
    let route = value as u32 & 0xff_ffff;
    let target = gic.by_affinity(route);
    for (_, line) in access.lines() {
        if let Some(mut irq) = gic
            .irq_mut(line)
            .filter(|irq| (irq.route(), irq.target()) != (route, target))
        {
            irq.set_route(route, target);
            changed(gic, line, notify);
        }
    }
    Ok(())
}
