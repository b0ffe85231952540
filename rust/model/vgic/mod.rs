// SPDX-License-Identifier: GPL-2.0

//! The guest's GICv3: distributor, redistributors, and the list registers (IHI 0069).
//!
//! # The problem
//!
//! The guest talks to its CPU interface without us: acknowledging, ending and masking interrupts works on the list
//! registers (LRs) of the CPU that it runs on. Everything else is ours: the guest's MMIO to distributor and
//! redistributors, SGIs (their register traps), device lines, more interrupts than LRs, and the movement of interrupts
//! between this model and the LRs at each entry ([`Gic::flush`]) and exit ([`Gic::sync`]).
//!
//! # How it is kept
//!
//! One [`Irq`] per interrupt, one [`Redist`] per vCPU, and in each redistributor the set of interrupts that its vCPU may
//! have to be given: those that are active there, or pending, enabled and routed there. Every change of an interrupt
//! brings that set up to date at once (`View::place`), so that an entry looks at those only, and costs nothing when there
//! are none. Groups, priorities and masks are looked at when the LRs are filled.
//!
//! The invariant: for an interrupt that is in no LR, `holder` is what [`Irq::wanted_by`](irq::Irq) says, and the interrupt is
//! in the work set of its holder and in no other. One in an LR stays with its holder until that vCPU is synced; it is
//! therefore never given to two vCPUs.
//!
//! # What is stale, and when
//!
//! Between flush and sync a vCPU is *resident*: the state of the interrupts in its LRs is known to the hardware alone.
//! Most operations do not mind: lines and SGIs add to the state here, and say who has to be kicked. An access that reads
//! or replaces the pending or active state fails with [`Error::NeedSync`], and names the vCPUs that have to come out first.
//! The caller must keep them out until it has tried again, otherwise two vCPUs can chase each other for ever.
//!
//! This makes GICD_CTLR.RWP and GICR_CTLR.RWP simple: they are never set, because a write that disables something is
//! complete when it returns.
//!
//! # What differs from KVM
//!
//! Registers, reset values and what userspace sees are KVM's, with these exceptions. Group 0 has its own enable in
//! GICD_CTLR, as the architecture says. GICD_TYPER.No1N is set, because IROUTER.Interrupt_Routing_Mode is not there (KVM
//! ignores it without saying so). STATUSR is a register. A disabled interrupt is gone when the write returns. A level
//! without an audience costs no maintenance interrupt (see `flush`). Deactivating an interrupt through DIR works on any
//! vCPU without asking all of them to exit.
//!
//! # LPIs
//!
//! They are messages, and are kept apart: see `lpi`. What translates a device's message to an LPI is the ITS, `model::its`,
//! which is not part of this: it sleeps, and this does not.
//!
//! # Locking
//!
//! None here: every method takes `&mut self`, does not sleep, and is bounded. The caller has one lock per VM, taken with
//! interrupts off, because a device interrupt of the host may raise a line.

mod config;
mod cpuif;
mod flush;
mod inject;
mod intid;
mod irq;
mod lpi;
mod lrs;
mod mmio;
mod redist;
mod regs;
mod sync;
mod table;
mod user;

pub use config::Config;
pub use cpuif::CpuIf;
pub use inject::SgiReg;
pub use intid::{IntId, Line};
pub use irq::Irq;
pub use lpi::{Lpi, LpiConfig, LpiId, LpiStore, LpiWork, NotRaised};
pub use lrs::{hcr, lr, vmcr, LrFile, MAX_LRS};
pub use mmio::Frame;
pub use redist::Redist;
pub use sync::SyncReport;

use crate::model::timer::{TimerId, TimerSet};
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::speculation;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use redist::HwMap;

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A value or an interrupt that cannot be: EINVAL.
    Invalid,
    /// There is no such vCPU: EINVAL.
    NoVcpu,
    /// Too late, or too early: EBUSY.
    Busy,
    /// There is no such register: ENXIO.
    NoRegister,
    /// Not an access to this frame at all.
    BadAccess,
    /// First these vCPUs have to leave the guest and be synced; then the same call again.
    NeedSync(Stale),
}

/// The vCPUs whose list registers hold what an access asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// The vCPU that makes the access. It is not in the guest, so this costs a sync only.
    pub own: bool,
    /// Other vCPUs, which have to be made to exit.
    pub others: VcpuSet,
}

impl Stale {
    /// Adds the vCPU that has `irq` in a list register, if there is one. `by` makes the access; none: userspace.
    fn add(&mut self, by: Option<VcpuId>, irq: Option<&Irq>) {
        if let Some(irq) = irq.filter(|irq| irq.lr.is_some()) {
            self.add_vcpu(by, irq.holder);
        }
    }

    fn add_vcpu(&mut self, by: Option<VcpuId>, vcpu: Option<VcpuId>) {
        match vcpu {
            Some(vcpu) if Some(vcpu) == by => self.own = true,
            Some(vcpu) => self.others.insert(vcpu),
            None => (),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.own || !self.others.is_empty() {
            Err(Error::NeedSync(*self))
        } else {
            Ok(())
        }
    }
}

/// What an operation has to tell the rest of the VM. Called under the caller's lock, so it must not come back here.
pub trait Notify {
    /// This vCPU has something new to take: make it leave the guest, or wake it up. The vCPU that runs the operation
    /// may be named too.
    fn kick(&mut self, vcpu: VcpuId);

    /// The guest has deactivated a level-sensitive SPI. In time only for those that are watched ([`Gic::watch`]).
    fn deactivated(&mut self, spi: IntId) {
        let _ = spi;
    }

    /// Something has to be done with the guest's tables, before the access that asked for it is complete.
    fn lpis(&mut self, work: LpiWork) {
        let _ = work;
    }
}

impl Notify for VcpuSet {
    /// Collects the vCPUs to be kicked.
    fn kick(&mut self, vcpu: VcpuId) {
        self.insert(vcpu);
    }
}

/// The distributor's own state.
#[derive(Debug)]
struct Dist {
    /// GICD_CTLR.EnableGrp0 and EnableGrp1, in their places.
    enables: u32,
    /// GICD_STATUSR.
    status: u32,
    /// GICD_IIDR.Revision.
    revision: u8,
    /// Every vCPU has the affinity that its index suggests.
    usual_affinities: bool,
    /// There are LPIs, because there is an ITS.
    lpis: bool,
    /// GICR_PROPBASER, one for all redistributors.
    propbaser: u64,
}

impl Dist {
    /// Whether the distributor forwards interrupts of this group.
    fn forwards(&self, group1: bool) -> bool {
        self.enables & if group1 { 2 } else { 1 } != 0
    }
}

/// A GICv3. `R`, `S` and `L` are where the redistributors, the shared interrupts and the LPIs are stored. `C` leads to what a
/// guest reads in GICD_CTLR, of which others may have a look without the lock: guests do nothing as often as to wait for its
/// RWP to be clear.
#[derive(Debug)]
pub struct Gic<R, S, L, C> {
    dist: Dist,
    ctlr: C,
    redists: R,
    spis: S,
    lpis: L,
}

/// All of it, without the storage's types.
struct View<'a> {
    dist: &'a mut Dist,
    ctlr: &'a AtomicU32,
    redists: &'a mut [Redist],
    spis: &'a mut [Irq],
    lpis: &'a mut dyn LpiStore,
}

impl View<'_> {
    /// The vCPU of a line is one that there is, whoever has named it: what it is named by is looked up in the same way. The
    /// number may be anything.
    fn irq(&self, line: Line) -> Option<&Irq> {
        let index = line.id().index();
        match line.bank() {
            Some(vcpu) => speculation::entry(&self.redists.get(vcpu.index())?.private, index),
            None => speculation::get(self.spis, index.wrapping_sub(IntId::PRIVATE as usize)),
        }
    }

    fn irq_mut(&mut self, line: Line) -> Option<&mut Irq> {
        let index = line.id().index();
        match line.bank() {
            Some(vcpu) => {
                speculation::entry_mut(&mut self.redists.get_mut(vcpu.index())?.private, index)
            }
            None => speculation::get_mut(self.spis, index.wrapping_sub(IntId::PRIVATE as usize)),
        }
    }

    /// SGIs, PPIs and SPIs together.
    fn nr_irqs(&self) -> u32 {
        (self.spis.len() as u32).saturating_add(IntId::PRIVATE)
    }

    /// GICD_CTLR.EnableGrp0 and EnableGrp1.
    fn enable_groups(&mut self, enables: u32) {
        self.dist.enables = enables;
        self.ctlr.store(enables | regs::ARE_DS, Ordering::Relaxed);
    }

    fn reset(&mut self) {
        self.enable_groups(0);
        self.dist.status = 0;
        for spi in self.spis.iter_mut() {
            spi.reset(Irq {
                target: Some(VcpuId::FIRST),
                ..Irq::default()
            });
        }
        for (vcpu, redist) in (0..).map_while(VcpuId::new).zip(self.redists.iter_mut()) {
            redist.reset(vcpu);
        }
    }

    fn reset_vcpu(&mut self, vcpu: VcpuId) {
        let Some(redist) = self.redists.get_mut(vcpu.index()) else {
            return;
        };
        for id in (0..IntId::PRIVATE).filter_map(IntId::new) {
            redist.work.remove(id);
        }
        redist.reset_private(vcpu);
    }
}

impl<R, S, L, C> Gic<R, S, L, C>
where
    C: Deref<Target = AtomicU32>,
    R: DerefMut<Target = [Redist]>,
    S: DerefMut<Target = [Irq]>,
    L: LpiStore,
{
    /// The interrupt controller of a VM whose vCPUs all exist: one redistributor for each, in their order, and as many
    /// shared interrupts as `config` says, each [`Irq::default`]; `lpis` is empty.
    ///
    /// Errors: [`Error::Invalid`] if the numbers do not fit.
    pub fn new(config: &Config, redists: R, spis: S, lpis: L, ctlr: C) -> Result<Self, Error> {
        if redists.len() > VcpuId::LIMIT || spis.len() != config.nr_spis() {
            return Err(Error::Invalid);
        }
        let mut gic = Self {
            dist: Dist {
                enables: 0,
                status: 0,
                revision: config.revision(),
                usual_affinities: false,
                lpis: false,
                propbaser: 0,
            },
            ctlr,
            redists,
            spis,
            lpis,
        };
        let mut view = gic.view();
        for redist in view.redists.iter_mut() {
            redist.lpis.pendbaser = regs::TABLE_AT_RESET;
        }
        view.reset();
        view.note_affinities();
        Ok(gic)
    }

    fn view(&mut self) -> View<'_> {
        View {
            dist: &mut self.dist,
            ctlr: &self.ctlr,
            redists: &mut self.redists,
            spis: &mut self.spis,
            lpis: &mut self.lpis,
        }
    }

    /// From now on there are LPIs. The first call only counts.
    pub fn add_lpis(&mut self) {
        if !self.dist.lpis {
            self.dist.lpis = true;
            self.dist.propbaser = regs::TABLE_AT_RESET;
        }
    }

    /// Where the LPIs are stored.
    pub fn lpi_store(&mut self) -> &mut L {
        &mut self.lpis
    }

    /// The addresses of the guest's LPI configuration table, and of this vCPU's pending table, if it has LPIs enabled.
    pub fn lpi_tables(&self, vcpu: VcpuId) -> (u64, Option<u64>) {
        let pending = self.redists.get(vcpu.index()).map(|redist| &redist.lpis);
        let pending = pending
            .filter(|lpis| lpis.enabled)
            .map(|lpis| lpis.pendbaser & regs::PENDBASER_ADDRESS);
        (self.dist.propbaser & regs::PROPBASER_ADDRESS, pending)
    }

    /// The first INTID that GICR_PROPBASER.IDbits leaves no room for.
    pub fn lpi_limit(&self) -> u32 {
        1 << ((self.dist.propbaser & 0x1f) as u32 + 1).min(LpiId::BITS)
    }

    /// One more event stands for this LPI, which goes to `target` if no event did before; whether that is so. Then it is
    /// neither pending nor enabled yet.
    ///
    /// Errors: [`Error::Invalid`] if its block is not there.
    pub fn map_lpi(&mut self, id: LpiId, target: Option<VcpuId>) -> Result<bool, Error> {
        self.view().map_lpi(id, target)
    }

    /// One event less stands for this LPI.
    ///
    /// Errors: [`Error::NeedSync`], as those that follow.
    pub fn unmap_lpi(&mut self, id: LpiId) -> Result<(), Error> {
        self.view().unmap_lpi(id)
    }

    /// This LPI goes to another vCPU; the one to be kicked.
    pub fn route_lpi(
        &mut self,
        id: LpiId,
        target: Option<VcpuId>,
    ) -> Result<Option<VcpuId>, Error> {
        self.view().route_lpi(id, target)
    }

    /// What the guest's table says of this LPI; the vCPU to be kicked.
    pub fn configure_lpi(&mut self, id: LpiId, config: LpiConfig) -> Result<Option<VcpuId>, Error> {
        self.view().configure_lpi(id, config)
    }

    /// This LPI is pending, or no longer; the vCPU to be kicked.
    pub fn set_lpi_pending(&mut self, id: LpiId, pending: bool) -> Result<Option<VcpuId>, Error> {
        self.view().set_lpi_pending(id, pending)
    }

    /// A message arrived for this LPI; the vCPU to be kicked.
    pub fn raise_lpi(&mut self, id: LpiId) -> Result<Option<VcpuId>, NotRaised> {
        self.view().raise_lpi(id)
    }

    /// Which LPIs of a block are mapped, bit n being LPI n of it: all of them, or those that go to one vCPU.
    pub fn lpis_of_block(&mut self, block: usize, of: Option<VcpuId>) -> u128 {
        self.view().lpis_of_block(block, of)
    }

    /// Where an LPI goes and whether it is pending; `None` if it is not mapped or goes to nobody.
    pub fn lpi_state(&mut self, id: LpiId) -> Result<Option<(VcpuId, bool)>, Error> {
        self.view().lpi_state(id)
    }

    /// Changes a vCPU's affinity (Aff2, Aff1, Aff0 in bits 23:0). SPIs that were routed by the old one stay with it.
    pub fn set_affinity(&mut self, vcpu: VcpuId, affinity: u32) {
        if let Some(redist) = self.redists.get_mut(vcpu.index()) {
            redist.affinity = affinity & 0xff_ffff;
        }
        self.view().note_affinities();
    }

    /// The vCPU with this affinity (Aff2, Aff1, Aff0 in bits 23:0).
    pub fn by_affinity(&mut self, affinity: u32) -> Option<VcpuId> {
        self.view().by_affinity(affinity)
    }

    /// Whether this vCPU's redistributor is the last one of its region, or of several that lie side by side.
    pub fn set_last(&mut self, vcpu: VcpuId, last: bool) {
        if let Some(redist) = self.redists.get_mut(vcpu.index()) {
            redist.last = last;
        }
    }

    /// Links the PPI of one of a vCPU's timers to a physical PPI, or to none. It takes effect at entries that say that the
    /// physical one is active.
    ///
    /// Errors: [`Error::Invalid`] unless it is a PPI.
    pub fn link_timer(
        &mut self,
        vcpu: VcpuId,
        timer: TimerId,
        link: Option<(IntId, u16)>,
    ) -> Result<(), Error> {
        if link.is_some_and(|(id, _)| !id.is_ppi()) {
            return Err(Error::Invalid);
        }
        let redist = self.redists.get_mut(vcpu.index()).ok_or(Error::NoVcpu)?;
        if let Some(slot) = redist.timers.get_mut(timer as usize) {
            *slot = link.map(|(id, physical)| HwMap { id, physical });
        }
        Ok(())
    }

    /// A device raises or lowers its line; the vCPU to be kicked. For an interrupt that the guest has configured as
    /// edge-triggered, each call with `high` is one edge, and lowering means nothing.
    ///
    /// Errors: [`Error::Invalid`] for an SGI, and for an interrupt that does not exist.
    pub fn set_level(&mut self, line: Line, high: bool) -> Result<Option<VcpuId>, Error> {
        self.view().set_level(line, high)
    }

    /// A device raises and lowers its line: one interrupt if it is edge-triggered.
    ///
    /// Errors: as [`Gic::set_level`].
    pub fn pulse(&mut self, line: Line) -> Result<Option<VcpuId>, Error> {
        let kick = self.set_level(line, true)?;
        self.set_level(line, false)?;
        Ok(kick)
    }

    /// Whether somebody waits for [`Notify::deactivated`] of this interrupt. Also gives the vCPU to be kicked, which
    /// would otherwise not exit in time for one that it is handling now.
    ///
    /// Errors: [`Error::Invalid`] for an interrupt that does not exist.
    pub fn watch(&mut self, line: Line, watched: bool) -> Result<Option<VcpuId>, Error> {
        let mut view = self.view();
        let irq = view.irq_mut(line).ok_or(Error::Invalid)?;
        irq.watched = watched;
        let blind = irq.lr.is_some_and(|lr| !lr.eoi);
        Ok(irq.holder.filter(|_| watched && blind))
    }

    /// The guest raises SGIs: `value` was written to `reg` by `from`.
    pub fn sgi(&mut self, from: VcpuId, reg: SgiReg, value: u64, notify: &mut impl Notify) {
        self.view().sgi(from, reg, value, notify);
    }

    /// Whether flush may find something for this vCPU. If not, that stays so for as long as it is not kicked and nothing happens
    /// here but flushes and syncs; meanwhile [`LrFile::flush_nothing`] does what flush would, and needs no sync.
    pub fn has_work(&self, vcpu: VcpuId) -> bool {
        self.redists.get(vcpu.index()).is_some_and(Redist::has_work)
    }

    /// Fills the list registers for an entry of `vcpu` to the guest, and makes it resident. `active`: the timers whose
    /// physical interrupt, see [`Gic::link_timer`], is active on this CPU.
    ///
    /// `file.vmcr` should be what the guest has: an older value delays what depends on it until the next exit. Does
    /// nothing if the vCPU is resident. Nothing to do costs a few loads.
    pub fn flush(&mut self, vcpu: VcpuId, file: &mut LrFile, active: TimerSet) {
        self.view().flush(vcpu, file, active);
    }

    /// Takes back what the guest has done since the last flush, from `file` as read from the hardware: list registers 0
    /// to `count`, `vmcr`, and `hcr` if [`LrFile::needs_hcr`]. The vCPU is no longer resident.
    ///
    /// The vCPU itself is kicked only for what it is not certain to see at its next flush, that is, never.
    pub fn sync(
        &mut self,
        vcpu: VcpuId,
        file: &mut LrFile,
        notify: &mut impl Notify,
    ) -> SyncReport {
        self.view().sync(vcpu, file, notify)
    }

    /// The guest wrote `value` to ICC_DIR_EL1, which traps. `vmcr` is what the guest has at this moment: with EOImode 0
    /// the write means nothing.
    ///
    /// Errors: [`Error::NeedSync`].
    pub fn deactivate(
        &mut self,
        by: VcpuId,
        value: u64,
        vmcr: u64,
        notify: &mut impl Notify,
    ) -> Result<(), Error> {
        self.view().deactivate(by, value, vmcr, notify)
    }

    /// Whether `vcpu`, which is synced, has an interrupt that would wake it from WFI: its group is enabled by the
    /// distributor and by the CPU interface, and its priority is above the mask.
    pub fn has_pending(&mut self, vcpu: VcpuId, vmcr: u64) -> bool {
        self.view().has_pending(vcpu, vmcr)
    }

    /// Whether an interrupt is active; as of the last sync if it is in a list register.
    pub fn is_active(&mut self, line: Line) -> bool {
        self.view().irq(line).is_some_and(|irq| irq.active)
    }

    /// Whether `vcpu` is between flush and sync.
    pub fn is_resident(&self, vcpu: VcpuId) -> bool {
        self.redists
            .get(vcpu.index())
            .is_some_and(|redist| redist.resident)
    }

    /// A read by the guest of `size` bytes at `offset` in `frame`. Registers that do not exist read as zero, and so do
    /// sizes and alignments that a register does not have.
    ///
    /// Errors: [`Error::BadAccess`], [`Error::NoVcpu`], [`Error::NeedSync`].
    pub fn mmio_read(
        &mut self,
        by: VcpuId,
        frame: Frame,
        offset: u32,
        size: u8,
    ) -> Result<u64, Error> {
        self.view().mmio_read(by, frame, offset, size)
    }

    /// A write by the guest, as [`Gic::mmio_read`]. A write to what does not exist is ignored.
    ///
    /// Errors: as [`Gic::mmio_read`]; nothing was done then.
    pub fn mmio_write(
        &mut self,
        by: VcpuId,
        frame: Frame,
        offset: u32,
        size: u8,
        value: u64,
        notify: &mut impl Notify,
    ) -> Result<(), Error> {
        self.view()
            .mmio_write(by, frame, offset, size, value, notify)
    }

    /// Whether userspace can save a register of `frame` (KVM_HAS_DEVICE_ATTR; no: ENXIO).
    pub fn user_has(&mut self, frame: Frame, offset: u32) -> bool {
        self.view().user_has(frame, offset)
    }

    /// Userspace saves 32 bits of a register. All vCPUs are stopped.
    ///
    /// Errors: [`Error::NoVcpu`], [`Error::NeedSync`] for vCPUs that are stopped but not yet synced.
    pub fn user_read(&mut self, frame: Frame, offset: u32) -> Result<u32, Error> {
        self.view().user_read(frame, offset)
    }

    /// Userspace restores 32 bits of a register. All vCPUs are stopped: who is to be kicked need not be.
    ///
    /// Errors: as [`Gic::user_read`], and [`Error::Invalid`] or [`Error::Busy`] for a value that the register cannot take.
    pub fn user_write(
        &mut self,
        frame: Frame,
        offset: u32,
        value: u32,
        notify: &mut impl Notify,
    ) -> Result<(), Error> {
        self.view().user_write(frame, offset, value, notify)
    }

    /// Userspace saves the levels of 32 lines from `first` on, the private ones being those of `vcpu`. Zero for SGIs, for
    /// interrupts that do not exist, and for edge-triggered ones.
    ///
    /// Errors: [`Error::Invalid`] unless `first` is a multiple of 32.
    pub fn level_info(&mut self, vcpu: VcpuId, first: u32) -> Result<u32, Error> {
        self.view().level_info(vcpu, first)
    }

    /// Userspace restores the levels of 32 lines, whatever the interrupts' configuration, which may be restored later.
    ///
    /// Errors: as [`Gic::level_info`].
    pub fn set_level_info(&mut self, vcpu: VcpuId, first: u32, levels: u32) -> Result<(), Error> {
        self.view().set_level_info(vcpu, first, levels)
    }

    /// Everything out of reset, except the levels of the lines, which are the devices'. No vCPU is resident, before or
    /// after.
    pub fn reset(&mut self) {
        self.view().reset();
    }

    /// The private interrupts of one vCPU out of reset, except the levels of the lines. The vCPU is not resident. Not for
    /// KVM_ARM_VCPU_INIT and not for PSCI: neither of them resets a redistributor.
    pub fn reset_vcpu(&mut self, vcpu: VcpuId) {
        self.view().reset_vcpu(vcpu);
    }
}
