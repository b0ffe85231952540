// SPDX-License-Identifier: GPL-2.0

//! What the registers do when the guest accesses them.

use super::intid::Line;
use super::irq::Irq;
use super::lpi::{LpiId, LpiWork};
use super::mmio::MmioAccess;
use super::redist::{Bank, Redist};
use super::state::View;
use super::{config as setup, Error, Notify, StaleLists};
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

/// Bits of INTID without LPIs.
const ID_BITS: u32 = 10;

/// What GICD_STATUSR and GICR_STATUSR have.
pub(super) const STATUS: u32 = !GIC_STATUSR::RES0 as u32;

/// Reads as zero.
pub(super) fn zero(_: &View<'_>, _: &MmioAccess) -> u64 {
    0
}

/// Ignores the write.
pub(super) fn ignore(
    _: &mut View<'_>,
    _: &MmioAccess,
    _: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    Ok(())
}

/// PIDR2 says GICv3, the others say nothing.
pub(super) fn id_register(_: &View<'_>, access: &MmioAccess) -> u64 {
    // The same in both frames.
    if access.offset == GICD_PIDR2::OFFSET {
        GICD_PIDR2::ArchRev.of(3) | GICD_PIDR2::JEDEC.mask() | GICD_PIDR2::DES_1.of(3)
    } else {
        0
    }
}

pub(super) fn ctlr(gic: &View<'_>, _: &MmioAccess) -> u64 {
    gic.dist.ctlr.load(Relaxed).into()
}

pub(super) fn typer(gic: &View<'_>, _: &MmioAccess) -> u64 {
    let lines = (gic.dist.nr_irqs / 32).saturating_sub(1);
    let lpis = gic.dist.has_lpis();
    let id_bits = if lpis { LpiId::BITS } else { ID_BITS };
    GICD_TYPER::ITLinesNumber.of(lines.into())
        | GICD_TYPER::IDbits.of(id_bits.wrapping_sub(1).into())
        | GICD_TYPER::LPIS.of(lpis.into())
        | GICD_TYPER::No1N.mask()
}

pub(super) fn iidr(gic: &View<'_>, _: &MmioAccess) -> u64 {
    setup::iidr(gic.dist.revision.load(Relaxed)).into()
}

pub(super) fn status(gic: &View<'_>, _: &MmioAccess) -> u64 {
    gic.dist.status.load(Relaxed).into()
}

/// Writing 1 clears a bit.
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

pub(super) fn redist_ctlr(gic: &View<'_>, access: &MmioAccess) -> u64 {
    let features = if gic.dist.revision.load(Relaxed) >= 3 {
        CES_IR
    } else {
        0
    };
    let enabled = bank(gic, access).is_some_and(|bank| bank.lpis.enabled);
    features | GICR_CTLR::EnableLPIs.of(enabled.into())
}

/// The registers' part is done when this returns, that of the tables in the guest's memory is the
/// caller's.
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

/// One table for all redistributors, as GICR_TYPER.CommonLPIAff says.
pub(super) fn propbaser(gic: &View<'_>, access: &MmioAccess) -> u64 {
    half(gic.dist.propbaser.load(Relaxed), access)
}

/// Cannot be written while the redistributor has LPIs enabled.
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

/// PTZ reads as zero: it says that the table is all zeroes when LPIs are enabled, and so need not
/// be looked at then.
pub(super) fn pendbaser(gic: &View<'_>, access: &MmioAccess) -> u64 {
    let pendbaser = bank(gic, access).map_or(0, |bank| bank.lpis.pendbaser);
    half(GICR_PENDBASER::PTZ.with(pendbaser, 0), access)
}

/// As [`set_propbaser`].
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

/// Where the guest says that a table is cacheable and shared otherwise than this host accesses it,
/// it reads back how: inner shareable, inner write-back, outer the same as inner or not cacheable.
/// The fields are in the same places in GICR_PROPBASER and GICR_PENDBASER.
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

fn redist<'a>(gic: &View<'a>, access: &MmioAccess) -> Option<&'a Redist> {
    gic.redists.get(access.bank?.index())
}

fn bank<'a>(gic: &'a View<'_>, access: &MmioAccess) -> Option<&'a Bank> {
    gic.bank(access.bank?)
}

/// KVM shows no revision here.
pub(super) fn redist_iidr(_: &View<'_>, _: &MmioAccess) -> u64 {
    setup::iidr(0).into()
}

pub(super) fn redist_typer(gic: &View<'_>, access: &MmioAccess) -> u64 {
    let Some(redist) = redist(gic, access) else {
        return 0;
    };
    // Aff3, in the upper byte, is not there.
    let value = u64::from(redist.affinity()) << GICR_TYPER::Aff0.shift()
        | GICR_TYPER::Processor_Number.of(redist.number.into())
        | GICR_TYPER::Last.of(redist.is_last().into())
        | GICR_TYPER::PLPIS.of(gic.dist.has_lpis().into());
    half(value, access)
}

pub(super) fn redist_status(gic: &View<'_>, access: &MmioAccess) -> u64 {
    bank(gic, access).map_or(0, |bank| bank.status.into())
}

/// Writing 1 clears a bit.
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

/// Whether an access to a 64-bit register is to all of it, or to its lower half. The upper half of
/// one that does something when it is written is reserved, or belongs to what is not there: vPEs
/// and a fourth level of affinity.
fn is_lower(access: &MmioAccess) -> bool {
    access.offset & 4 == 0
}

/// The part of a 64-bit register that an access of 4 or 8 bytes asks for.
fn half(value: u64, access: &MmioAccess) -> u64 {
    match (access.size, access.offset & 4) {
        (8, _) => value,
        (_, 0) => value & 0xffff_ffff,
        _ => value >> 32,
    }
}

/// A 64-bit register after a write of 4 or 8 bytes.
fn merge(old: u64, access: &MmioAccess, value: u64) -> u64 {
    match (access.size, access.offset & 4) {
        (8, _) => value,
        (_, 0) => old & !0xffff_ffff | value & 0xffff_ffff,
        _ => old & 0xffff_ffff | value << 32,
    }
}

/// One bit for each interrupt.
pub(super) fn gather(gic: &View<'_>, access: &MmioAccess, bit: impl Fn(&Irq) -> bool) -> u64 {
    access
        .lines()
        .filter(|&(_, line)| gic.irq(line).is_some_and(&bit))
        .fold(0, |value, (n, _)| value | (1 << (n & 63)))
}

/// Changes something that decides how an interrupt is presented, and kicks who presents it.
fn change(gic: &mut View<'_>, line: Line, notify: &mut dyn Notify, f: impl FnOnce(&mut Irq)) {
    let Some(irq) = gic.irq_mut(line) else {
        return;
    };
    let before = *irq;
    f(irq);
    if *irq != before {
        let (priority, group1) = (irq.priority, irq.group1);
        if (priority, group1) != (before.priority, before.group1) {
            gic.note_order(line, before.priority, priority, group1);
        }
        if let Some(vcpu) = gic.rearrange(line) {
            notify.kick(vcpu);
        }
    }
}

pub(super) fn group(gic: &View<'_>, access: &MmioAccess) -> u64 {
    gather(gic, access, |irq| irq.group1)
}

pub(super) fn set_group(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for (n, line) in access.lines() {
        let group1 = (value >> (n & 63)) & 1 != 0;
        change(gic, line, notify, |irq| irq.group1 = group1);
    }
    Ok(())
}

pub(super) fn enabled(gic: &View<'_>, access: &MmioAccess) -> u64 {
    gather(gic, access, |irq| irq.enabled)
}

pub(super) fn set_enabled(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(value) {
        change(gic, line, notify, |irq| irq.enabled = true);
    }
    Ok(())
}

pub(super) fn clear_enabled(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(value) {
        if let Some(irq) = gic.irq_mut(line) {
            irq.enabled = false;
            gic.place(line);
        }
    }
    Ok(())
}

pub(super) fn pending(gic: &View<'_>, access: &MmioAccess) -> u64 {
    gather(gic, access, Irq::pending)
}

pub(super) fn set_pending(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(value) {
        match gic.irq_mut(line) {
            Some(irq) if !irq.latch => irq.latch = true,
            _ => continue,
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
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(value) {
        if let Some(irq) = gic.irq_mut(line) {
            irq.latch = false;
            gic.place(line);
        }
    }
    Ok(())
}

pub(super) fn active(gic: &View<'_>, access: &MmioAccess) -> u64 {
    gather(gic, access, |irq| irq.active)
}

pub(super) fn set_active(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    _: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(value) {
        if let Some(irq) = gic.irq_mut(line) {
            if !irq.active {
                irq.acknowledged = false;
            }
            irq.active = true;
            gic.note_active(line, true);
            gic.place(line);
        }
    }
    Ok(())
}

pub(super) fn clear_active(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for line in access.lines_in(value) {
        match gic.irq_mut(line) {
            Some(irq) if irq.active => irq.active = false,
            _ => continue,
        }
        gic.note_active(line, false);
        if let Some(vcpu) = gic.raise(line) {
            notify.kick(vcpu);
        }
    }
    Ok(())
}

pub(super) fn priority(gic: &View<'_>, access: &MmioAccess) -> u64 {
    access.lines().fold(0, |value, (n, line)| {
        let priority = gic.irq(line).map_or(0, |irq| irq.priority);
        value | (u64::from(priority) << ((n * 8) & 63))
    })
}

pub(super) fn set_priority(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for (n, line) in access.lines() {
        let priority = (value >> ((n * 8) & 63)) as u8 & PRIORITY_BITS;
        change(gic, line, notify, |irq| irq.priority = priority);
    }
    Ok(())
}

pub(super) fn config(gic: &View<'_>, access: &MmioAccess) -> u64 {
    access
        .lines()
        .filter(|&(_, line)| gic.irq(line).is_some_and(|irq| irq.edge))
        .fold(0, |value, (n, _)| value | (2 << ((n * 2) & 63)))
}

pub(super) fn set_config(
    gic: &mut View<'_>,
    access: &MmioAccess,
    value: u64,
    notify: &mut dyn Notify,
) -> Result<(), Error> {
    for (n, line) in access.lines() {
        let edge = (value >> ((n * 2) & 63)) & 2 != 0;
        change(gic, line, notify, |irq| irq.edge = edge);
    }
    Ok(())
}

/// Aff3 and the routing mode, in the upper word and bit 31, are not there.
pub(super) fn route(gic: &View<'_>, access: &MmioAccess) -> u64 {
    access.lines().fold(0, |_, (_, line)| {
        let route = gic.irq(line).map_or(0, |irq| irq.route);
        half(route.into(), access)
    })
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
        change(gic, line, notify, |irq| {
            irq.route = route;
            irq.target = target;
        });
    }
    Ok(())
}
