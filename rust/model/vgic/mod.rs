// SPDX-License-Identifier: GPL-2.0

//! The guest's GICv3: distributor, redistributors, and the list registers (IHI 0069).
//!
//! # The problem
//!
//! The guest talks to its CPU interface without us: acknowledging, ending and masking interrupts
//! works on the list registers (LRs) of the CPU that it runs on. Everything else is ours: the
//! guest's MMIO to distributor and redistributors, SGIs (their register traps), device lines, more
//! interrupts than LRs, and the movement of interrupts between this model and the LRs at each entry
//! ([`Gic::flush`]) and exit ([`Gic::sync`]).
//!
//! # How it is kept
//!
//! One [`Irq`] per interrupt, one [`Redist`] with a [`Bank`] per vCPU, and for each vCPU the work
//! set: the interrupts that it may have to be given, which are those that are active there, or
//! pending, enabled and routed there. Every change of an interrupt brings that set up to date at
//! once (`View::place`), so that an entry looks at those only, and costs nothing when there are
//! none. Groups, priorities and masks are looked at when the LRs are filled.
//!
//! The guest can make all SPIs pending or active for one vCPU. So that an entry is short even then,
//! there is a set of all SPIs of each priority, one of those in group 0, and one of those that are
//! active: what comes first is found by their words, and the rest is counted only. They are brought
//! up to date where an interrupt's priority, group or active state is written.
//!
//! The invariant: for an interrupt that is in no LR, `holder` is what [`Irq::wanted_by`](irq::Irq)
//! says, and the interrupt is in the work set of its holder and in no other. One in an LR stays
//! with its holder until that vCPU is synced; it is therefore never given to two vCPUs.
//!
//! # What is stale, and when
//!
//! Between flush and sync a vCPU is *resident*: the state of the interrupts in its LRs is known to
//! the hardware alone. Most operations do not mind: lines and SGIs add to the state here, and say
//! who has to be kicked. An access that reads or replaces the pending or active state fails with
//! [`Error::NeedSync`], and names the vCPUs that have to come out first. The caller must keep them
//! out until it has tried again, otherwise two vCPUs can chase each other for ever.
//!
//! This makes GICD_CTLR.RWP and GICR_CTLR.RWP simple: they are never set, because a write that
//! disables something is complete when it returns.
//!
//! # What differs from KVM
//!
//! Registers, reset values and what userspace sees are KVM's, with these exceptions. Group 0 has
//! its own enable in GICD_CTLR, as the architecture says. GICD_TYPER.No1N is set, because
//! IROUTER.Interrupt_Routing_Mode is not there (KVM ignores it without saying so). STATUSR is a
//! register. A disabled interrupt is gone when the write returns. A level without an audience costs
//! no maintenance interrupt (see `flush`). Deactivating an interrupt through DIR works on any vCPU
//! without asking all of them to exit.
//!
//! # LPIs
//!
//! They are messages, and are kept apart: see `lpi`. What translates a device's message to an LPI
//! is the ITS, `model::its`, which is not part of this: it sleeps, and this does not.
//!
//! # Locking
//!
//! A vCPU that sends an SGI to another, or takes one, or its timer's interrupt, or an LPI, has to
//! do with nobody else, and must not wait for others that do the same. So there is a lock for each
//! redistributor: [`Bank`], its SGIs, PPIs and LPIs. And there is one for all that the vCPUs share:
//! [`Shared`], the SPIs, and which of them each vCPU may have to be given.
//!
//! Who needs both takes the shared one first: an entry that gives the guest an SPI, and the exit
//! after it. Nobody ever has two banks: what concerns several vCPUs goes from one to the next, and
//! lets each lock go before it takes the next one or tells the vCPU. Which locks an operation has
//! is in its `View`.
//!
//! The work sets are told apart by the lock that they are under, and what an entry has to know of
//! both is in words that it reads without any ([`Gic::has_work`]). Who gives a vCPU something
//! writes there before the kick; the vCPU looks after it has said that it is on its way. So it sees
//! it, or is seen by the kick: `vm::vcpu_handle` has the proof. An entry that sees no SPI takes its
//! own lock only, and one that sees nothing takes none. What an exit has to lock is known from the
//! entry before it.
//!
//! Registers that are read for every interrupt, like GICD_CTLR, are atomic: see [`Gic::set_ctlr`]
//! for the order. An LPI is under the lock of its owner: see `lpi`.
//!
//! Methods do not sleep and are bounded, most of them by little; those that look at all vCPUs say
//! so. Locks may be taken where a device interrupt of the host raises a line, so with interrupts
//! off: [`Lock`] is the caller's.

mod active;
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
mod state;
mod sync;
mod table;
mod user;

pub use config::GicConfig;
pub use cpuif::CpuIf;
pub use inject::SgiReg;
pub use intid::{IntId, Line};
pub use irq::IrqBlock;
pub use lpi::{Lpi, LpiConfig, LpiId, LpiStore, LpiWork, NotRaised};
pub use lrs::{hcr, lr, vmcr, LrFile, MAX_LRS};
pub use mmio::GicFrame;
pub use redist::{Bank, Redist, WorkSet};
pub use state::{GicStorage, Lock, Shared};
pub use sync::SyncReport;

use crate::model::sysreg::regs::GICR_PROPBASER;
use crate::model::timer::{TimerId, TimerSet};
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::speculation;
use core::ops::DerefMut;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};
use inject::SgiTargets;
use irq::{Irq, IrqBit};
use mmio::MmioAccess;
use redist::HwMap;
use state::{BankView, Dist, SharedView, View};
use table::GicRegister;

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
    NeedSync(StaleLists),
}

/// The vCPUs whose list registers hold what an access asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StaleLists {
    /// The vCPU that makes the access. It is not in the guest, so this costs a sync only.
    pub own: bool,
    /// Other vCPUs, which have to be made to exit.
    pub others: VcpuSet,
}

impl StaleLists {
    /// Adds the vCPU that has `irq` in a list register, if there is one. `by` makes the access;
    /// none: userspace.
    fn add(&mut self, by: Option<VcpuId>, irq: Option<Irq<&IrqBlock>>) {
        if let Some(irq) = irq.filter(|irq| irq.lr().is_some()) {
            self.add_vcpu(by, irq.holder());
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

/// What an operation has to tell the rest of the VM. Called with locks held, so it must not come
/// back here; except for the kicks of [`Gic::sgi`].
pub trait Notify {
    /// Makes this vCPU leave the guest, or wakes it up: it has something new to take. The vCPU that
    /// runs the operation may be named too.
    fn kick(&mut self, vcpu: VcpuId);

    /// Notes that the guest has deactivated a level-sensitive SPI. In time only for those that are
    /// watched ([`Gic::watch`]).
    fn deactivated(&mut self, spi: IntId) {
        let _ = spi;
    }

    /// Notes that something has to be done with the guest's tables, before the access that asked
    /// for it is complete.
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

/// A GICv3.
pub struct Gic<S: GicStorage> {
    dist: Dist,
    redists: S::Redists,
    banks: S::Banks,
    shared: S::Shared,
    lpis: S::Lpis,
}

impl<S: GicStorage> Gic<S> {
    /// Makes the interrupt controller of a VM whose vCPUs all exist, in their order: a [`Redist`]
    /// and a [`Bank`] for each, and as many shared interrupts as `config` says; `lpis` is empty.
    ///
    /// Errors: [`Error::Invalid`] if the numbers do not fit.
    pub fn new(
        config: &GicConfig,
        redists: S::Redists,
        banks: S::Banks,
        shared: S::Shared,
        lpis: S::Lpis,
    ) -> Result<Self, Error> {
        let fits = {
            let shared = shared.lock();
            shared.spis.len() == config.spi_blocks()
                && shared.works.len() == redists.len().saturating_add(WorkSet::KINDS)
        };
        if !fits || redists.len() > VcpuId::LIMIT || banks.len() != redists.len() {
            return Err(Error::Invalid);
        }
        let usual = inject::affinities_are_usual(&redists);
        Ok(Self {
            dist: Dist {
                ctlr: AtomicU32::new(regs::ARE_DS),
                status: AtomicU32::new(0),
                revision: AtomicU8::new(config.revision()),
                usual_affinities: AtomicBool::new(usual),
                lpis: AtomicBool::new(false),
                propbaser: AtomicU64::new(0),
                nr_irqs: config.nr_irqs(),
            },
            redists,
            banks,
            shared,
            lpis,
        })
    }

    #[inline(always)]
    fn view<'a>(
        &'a self,
        bank: Option<BankView<'a>>,
        shared: Option<&'a mut Shared<S>>,
    ) -> View<'a> {
        View {
            dist: &self.dist,
            redists: &self.redists,
            bank,
            shared: shared.map(|shared| SharedView {
                spis: &mut shared.spis,
                works: &mut shared.works,
            }),
            lpis: &self.lpis,
        }
    }

    fn vcpus(&self) -> impl Iterator<Item = VcpuId> {
        (0..self.redists.len()).map_while(VcpuId::new)
    }

    fn redist(&self, vcpu: VcpuId) -> Option<&Redist> {
        self.redists.get(vcpu.index())
    }

    #[inline(always)]
    fn lock_shared(&self) -> impl DerefMut<Target = Shared<S>> + '_ {
        let mut shared = self.shared.lock();
        shared.taken = shared.taken.wrapping_add(1);
        shared
    }

    /// Calls `body` with the lock of one redistributor; `None` if there is none.
    #[inline(always)]
    fn with_bank<T>(&self, vcpu: VcpuId, body: impl FnOnce(&mut View<'_>) -> T) -> Option<T> {
        let mut state = self.banks.get(vcpu.index())?.lock();
        let bank = BankView {
            vcpu,
            state: &mut state,
        };
        Some(body(&mut self.view(Some(bank), None)))
    }

    /// Calls `body` with the lock of the shared interrupts.
    #[inline(always)]
    fn with_shared<T>(&self, body: impl FnOnce(&mut View<'_>) -> T) -> T {
        let mut shared = self.lock_shared();
        body(&mut self.view(None, Some(&mut shared)))
    }

    /// Calls `body` with the locks of the shared interrupts and of one redistributor; `None` if
    /// there is none.
    #[inline(always)]
    fn with_both<T>(&self, vcpu: VcpuId, body: impl FnOnce(&mut View<'_>) -> T) -> Option<T> {
        let mut shared = self.lock_shared();
        let mut state = self.banks.get(vcpu.index())?.lock();
        let bank = BankView {
            vcpu,
            state: &mut state,
        };
        Some(body(&mut self.view(Some(bank), Some(&mut shared))))
    }

    /// Calls `body` with the lock that an interrupt is under; `None` if there is no such vCPU.
    #[inline(always)]
    fn with_line<T>(&self, line: Line, body: impl FnOnce(&mut View<'_>) -> T) -> Option<T> {
        match line.bank() {
            Some(vcpu) => self.with_bank(vcpu, body),
            None => Some(self.with_shared(body)),
        }
    }

    /// Returns how often the lock of the shared interrupts has been taken.
    pub fn shared_locks(&self) -> u64 {
        self.shared.lock().taken
    }

    /// Changes a vCPU's affinity (Aff2, Aff1, Aff0 in bits 23:0). SPIs that were routed by the old
    /// one stay with it.
    pub fn set_affinity(&self, vcpu: VcpuId, affinity: u32) {
        let _shared = self.lock_shared();
        if let Some(redist) = self.redist(vcpu) {
            redist.set_affinity(affinity);
        }
        let usual = inject::affinities_are_usual(&self.redists);
        self.dist.usual_affinities.store(usual, Relaxed);
    }

    /// Returns the vCPU with this affinity (Aff2, Aff1, Aff0 in bits 23:0), if there is one.
    pub fn by_affinity(&self, affinity: u32) -> Option<VcpuId> {
        inject::by_affinity(&self.dist, &self.redists, affinity)
    }

    /// Sets whether this vCPU's redistributor is the last one of its region, or of several that lie
    /// side by side.
    pub fn set_last(&self, vcpu: VcpuId, last: bool) {
        if let Some(redist) = self.redist(vcpu) {
            redist.set_last(last);
        }
    }

    /// Links the PPI of one of a vCPU's timers to a physical PPI, or to none. It takes effect at
    /// entries that say that the physical one is active.
    ///
    /// Errors: [`Error::Invalid`] unless it is a PPI.
    pub fn link_timer(
        &self,
        vcpu: VcpuId,
        timer: TimerId,
        link: Option<(IntId, u16)>,
    ) -> Result<(), Error> {
        if link.is_some_and(|(id, _)| !id.is_ppi()) {
            return Err(Error::Invalid);
        }
        let bank = self.banks.get(vcpu.index()).ok_or(Error::NoVcpu)?;
        if let Some(slot) = bank.lock().timers.get_mut(timer as usize) {
            *slot = link.map(|(id, physical)| HwMap { id, physical });
        }
        Ok(())
    }

    /// Raises or lowers a device's line, and returns the vCPU to be kicked. For an interrupt that
    /// the guest has configured as edge-triggered, each call with `high` is one edge, and lowering
    /// means nothing.
    ///
    /// Errors: [`Error::Invalid`] for an SGI, and for an interrupt that does not exist.
    pub fn set_level(&self, line: Line, high: bool) -> Result<Option<VcpuId>, Error> {
        self.with_line(line, |view| view.set_level(line, high))
            .unwrap_or(Err(Error::Invalid))
    }

    /// Raises and lowers a device's line: one interrupt if it is edge-triggered. Returns the vCPU
    /// to be kicked.
    ///
    /// Errors: as [`Gic::set_level`].
    pub fn pulse(&self, line: Line) -> Result<Option<VcpuId>, Error> {
        let pulse = |view: &mut View<'_>| {
            let kick = view.set_level(line, true)?;
            view.set_level(line, false)?;
            Ok(kick)
        };
        self.with_line(line, pulse).unwrap_or(Err(Error::Invalid))
    }

    /// Notes whether somebody waits for [`Notify::deactivated`] of this interrupt. Also returns the
    /// vCPU to be kicked, which would otherwise not exit in time for one that it is handling now.
    ///
    /// Errors: [`Error::Invalid`] for an interrupt that does not exist.
    pub fn watch(&self, line: Line, watched: bool) -> Result<Option<VcpuId>, Error> {
        let watch = |view: &mut View<'_>| {
            let mut irq = view.irq_mut(line)?;
            irq.set(IrqBit::Watched, watched);
            let blind = irq.lr().is_some_and(|lr| !lr.eoi);
            Some(irq.holder().filter(|_| watched && blind))
        };
        self.with_line(line, watch).flatten().ok_or(Error::Invalid)
    }

    /// Raises SGIs for the guest: `value` was written to `reg` by `from`. Each vCPU that it is for
    /// is told after its lock is let go, and before the next one's is taken.
    #[inline]
    pub fn sgi(&self, from: VcpuId, reg: SgiReg, value: u64, notify: &mut impl Notify) {
        let sgi = SgiTargets::decode(value);
        let Some(id) = sgi.id() else { return };
        sgi.for_each(from, &self.dist, &self.redists, |target| {
            let n = target.index();
            let redist = speculation::get(&self.redists, n);
            let (Some(redist), Some(bank)) = (redist, speculation::get(&self.banks, n)) else {
                return;
            };
            let kick = bank.lock().raise_sgi(&self.dist, redist, id, reg);
            if kick {
                notify.kick(target);
            }
        });
    }

    /// Returns for how many vCPUs at most [`Gic::sgi`] raises one for this value: as long as that
    /// takes.
    #[inline]
    pub fn most_targets(&self, value: u64) -> usize {
        if SgiTargets::decode(value).all_others {
            self.redists.len()
        } else {
            SgiTargets::LISTED
        }
    }

    /// Returns whether flush may find something for this vCPU; takes no lock. If not, that stays so
    /// for as long as it is not kicked; meanwhile [`LrFile::flush_nothing`] does what flush would,
    /// and needs no sync.
    #[inline]
    pub fn has_work(&self, vcpu: VcpuId) -> bool {
        self.redist(vcpu).is_some_and(Redist::has_work)
    }

    /// Fills the list registers for an entry of `vcpu` to the guest, and makes it resident.
    /// `active`: the timers whose physical interrupt, see [`Gic::link_timer`], is active on this
    /// CPU.
    ///
    /// `file.vmcr` should be what the guest has: an older value delays what depends on it until the
    /// next exit. Does nothing if the vCPU is resident.
    pub fn flush(&self, vcpu: VcpuId, file: &mut LrFile, active: TimerSet) {
        // What comes after this look is told with a kick.
        let spis = self.redist(vcpu).is_some_and(Redist::has_spis);
        let flush = |view: &mut View<'_>| view.flush(vcpu, file, active);
        if spis {
            self.with_both(vcpu, flush);
        } else {
            self.with_bank(vcpu, flush);
        }
    }

    /// Takes back what the guest has done since the last flush, from `file` as read from the
    /// hardware: list registers 0 to `count`, `vmcr`, and `hcr` if [`LrFile::needs_hcr`]. The vCPU
    /// is no longer resident.
    ///
    /// The vCPU itself is kicked only for what it is not certain to see at its next flush, that is,
    /// never.
    pub fn sync(&self, vcpu: VcpuId, file: &mut LrFile, notify: &mut impl Notify) -> SyncReport {
        let spis = file.has_spis;
        let sync = |view: &mut View<'_>| view.sync(vcpu, file, notify);
        let report = if spis {
            self.with_both(vcpu, sync)
        } else {
            self.with_bank(vcpu, sync)
        };
        report.unwrap_or_default()
    }

    /// Handles the guest's write of `value` to ICC_DIR_EL1, which traps. `vmcr` is what the guest
    /// has at this moment: with EOImode 0 the write means nothing.
    ///
    /// Errors: [`Error::NeedSync`].
    pub fn deactivate(
        &self,
        by: VcpuId,
        value: u64,
        vmcr: u64,
        notify: &mut impl Notify,
    ) -> Result<(), Error> {
        // Without EOImode 1 a write to DIR does nothing; so does one of an INTID that does not
        // exist.
        if vmcr & vmcr::VEOIM == 0 {
            return Ok(());
        }
        let Some(id) = u32::try_from(value & 0xff_ffff).ok().and_then(IntId::new) else {
            return Ok(());
        };
        let line = Line::seen_by(by, id);
        self.with_line(line, |view| view.deactivate(by, line, notify))
            .unwrap_or(Ok(()))
    }

    /// Returns whether `vcpu`, which is synced, has an interrupt that would wake it from WFI: its
    /// group is enabled by the distributor and by the CPU interface, and its priority is above the
    /// mask.
    pub fn has_pending(&self, vcpu: VcpuId, vmcr: u64) -> bool {
        let Some(redist) = self.redist(vcpu).filter(|redist| redist.has_work()) else {
            return false;
        };
        let has = |view: &mut View<'_>| view.has_pending(vcpu, vmcr);
        let pending = if redist.has_spis() {
            self.with_both(vcpu, has)
        } else {
            self.with_bank(vcpu, has)
        };
        pending.unwrap_or(false)
    }

    /// Returns whether an interrupt is active; as of the last sync if it is in a list register.
    pub fn is_active(&self, line: Line) -> bool {
        self.with_line(line, |view| view.irq(line).is_some_and(|irq| irq.active()))
            .unwrap_or(false)
    }

    /// Returns whether `vcpu` is between flush and sync.
    pub fn is_resident(&self, vcpu: VcpuId) -> bool {
        self.banks
            .get(vcpu.index())
            .is_some_and(|bank| bank.lock().resident)
    }

    /// Returns GICD_CTLR, as the guest reads it; takes no lock. Guests do nothing as often as to
    /// wait for its RWP to be clear.
    #[inline]
    pub fn ctlr(&self) -> u32 {
        self.dist.ctlr.load(Relaxed)
    }

    /// Returns whether a write of `value` to GICD_CTLR by the guest changes nothing; takes no lock.
    #[inline]
    pub fn keeps_ctlr(&self, value: u64) -> bool {
        // With RWP set somebody else's write is not complete: nor would this one be.
        value as u32 & regs::ENABLES | regs::ARE_DS == self.ctlr()
    }

    /// Handles the guest's write to GICD_CTLR. Enabling a group kicks those who were waiting for
    /// it. Disabling one is complete when RWP reads as zero: so what is in list registers has to
    /// come back first.
    ///
    /// It concerns everybody, but nobody's lock is held for longer than a look. Whoever has raised
    /// something, or filled list registers, by the old value has let its lock go before that look,
    /// which then finds it; and who takes it later has the new value. Trying again when it failed
    /// does no harm: what was filled since is by the new value. Until then RWP is set, so that no
    /// write of the same value by another vCPU passes for complete.
    ///
    /// As long as there are vCPUs: not for where that matters.
    #[cold]
    fn set_ctlr(&self, by: VcpuId, value: u64, notify: &mut impl Notify) -> Result<(), Error> {
        let enables = value as u32 & regs::ENABLES;
        let before = {
            let _shared = self.lock_shared();
            self.dist.enable_groups(enables)
        };
        let enabled = enables & !before != 0;
        let mut stale = StaleLists::default();
        for (vcpu, bank) in self.vcpus().zip(self.banks.iter()) {
            let forwarded = bank.lock().forwarded;
            if forwarded & !enables != 0 {
                stale.add_vcpu(Some(by), Some(vcpu));
            }
            if enabled && self.has_work(vcpu) {
                notify.kick(vcpu);
            }
        }
        stale.check()?;
        let _shared = self.lock_shared();
        self.dist.settle(enables);
        Ok(())
    }

    /// Calls `body` with what a write to a register is about. Of a redistributor's registers, all
    /// of them share one.
    #[inline(always)]
    fn with_written<T>(
        &self,
        access: &MmioAccess,
        body: impl FnOnce(Option<BankView<'_>>, Option<&mut Shared<S>>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let bank = match access.bank {
            None => None,
            Some(vcpu) => {
                let bank = self.banks.get(vcpu.index()).ok_or(Error::NoVcpu)?;
                Some((vcpu, bank))
            }
        };
        let both = access.offset & !7 == GICR_PROPBASER::OFFSET;
        let mut shared = (bank.is_none() || both).then(|| self.lock_shared());
        let mut bank = bank.map(|(vcpu, bank)| (vcpu, bank.lock()));
        let bank = bank
            .as_mut()
            .map(|(vcpu, state)| BankView { vcpu: *vcpu, state });
        body(bank, shared.as_deref_mut())
    }

    /// Reads as [`Gic::mmio_read`] with an offset in the frame and a size that is a power of 2,
    /// where nothing has to be synced for it, or returns `None`. The bits beyond the size may be
    /// anything.
    #[inline(always)]
    pub fn mmio_look(&self, frame: GicFrame, offset: u32, size: u8) -> Option<u64> {
        match frame.locate(offset, size) {
            Some(register) => self.look(frame, register, register.read, offset),
            None => Some(0),
        }
    }

    /// Handles a read by the guest of `size` bytes at `offset` in `frame`. Registers that do not
    /// exist read as zero, and so do sizes and alignments that a register does not have.
    ///
    /// Errors: [`Error::BadAccess`], [`Error::NoVcpu`], [`Error::NeedSync`].
    pub fn mmio_read(
        &self,
        by: VcpuId,
        frame: GicFrame,
        offset: u32,
        size: u8,
    ) -> Result<u64, Error> {
        match self.register(Some(by), frame, offset, size)? {
            None => Ok(0),
            Some((register, access)) => self.read(frame, register, register.read, access),
        }
    }

    /// Handles a write by the guest, as [`Gic::mmio_read`]. A write to what does not exist is
    /// ignored. One to GICD_CTLR takes as long as there are vCPUs.
    ///
    /// Errors: as [`Gic::mmio_read`]. It has to be tried again then: of a write to GICD_CTLR the
    /// vCPUs that it waits for are all that is missing, of others nothing is done.
    #[inline(always)]
    pub fn mmio_write(
        &self,
        by: VcpuId,
        frame: GicFrame,
        offset: u32,
        size: u8,
        value: u64,
        notify: &mut impl Notify,
    ) -> Result<(), Error> {
        if frame.is_ctlr(offset, size) {
            return self.set_ctlr(by, value, notify);
        }
        let Some((register, access)) = self.register(Some(by), frame, offset, size)? else {
            return Ok(());
        };
        let Some(write) = register.write else {
            return Ok(());
        };
        self.write(register, write, &access, value, value, notify)
    }

    /// Returns whether userspace can save a register of `frame` (KVM_HAS_DEVICE_ATTR; no: ENXIO).
    pub fn user_has(&self, frame: GicFrame, offset: u32) -> bool {
        matches!(self.register(None, frame, offset, 4), Ok(Some(_)))
    }

    /// Saves 32 bits of a register for userspace. All vCPUs are stopped.
    ///
    /// Errors: [`Error::NoVcpu`], [`Error::NeedSync`] for vCPUs that are stopped but not yet
    /// synced.
    pub fn user_read(&self, frame: GicFrame, offset: u32) -> Result<u32, Error> {
        let Some((register, access)) = self.register(None, frame, offset, 4)? else {
            return Ok(0);
        };
        let read = register.user_read.unwrap_or(register.read);
        Ok(self.read(frame, register, read, access)? as u32)
    }

    /// Restores 32 bits of a register for userspace. All vCPUs are stopped: who is to be kicked
    /// need not be.
    ///
    /// Errors: as [`Gic::user_read`], and [`Error::Invalid`] or [`Error::Busy`] for a value that
    /// the register cannot take.
    pub fn user_write(
        &self,
        frame: GicFrame,
        offset: u32,
        value: u32,
        notify: &mut impl Notify,
    ) -> Result<(), Error> {
        let Some((register, access)) = self.register(None, frame, offset, 4)? else {
            return Ok(());
        };
        let value = value.into();
        match (register.user_write, register.write) {
            // What it restores may be zeroes: all bits are looked at, and none is compared.
            (Some(write), _) => {
                let plain = GicRegister {
                    change: None,
                    ..*register
                };
                self.write(&plain, write, &access, u64::MAX, value, notify)
            }
            (None, Some(write)) => self.write(register, write, &access, value, value, notify),
            (None, None) => Ok(()),
        }
    }

    /// Saves for userspace the levels of 32 lines from `first` on, the private ones being those of
    /// `vcpu`. Zero for SGIs, for interrupts that do not exist, and for edge-triggered ones.
    ///
    /// Errors: [`Error::Invalid`] unless `first` is a multiple of 32.
    pub fn level_info(&self, vcpu: VcpuId, first: u32) -> Result<u32, Error> {
        self.with_both(vcpu, |view| view.level_info(vcpu, first))
            .unwrap_or(Ok(0))
    }

    /// Restores for userspace the levels of 32 lines, whatever the interrupts' configuration, which
    /// may be restored later.
    ///
    /// Errors: as [`Gic::level_info`].
    pub fn set_level_info(&self, vcpu: VcpuId, first: u32, levels: u32) -> Result<(), Error> {
        self.with_both(vcpu, |view| view.set_level_info(vcpu, first, levels))
            .unwrap_or(Ok(()))
    }

    /// Resets everything, except the levels of the lines, which are the devices'. No vCPU is
    /// resident, before or after.
    pub fn reset(&self) {
        self.with_shared(|view| {
            view.dist.set_enables(0);
            view.dist.status.store(0, Relaxed);
            view.reset_spis();
        });
        for vcpu in self.vcpus() {
            self.with_bank(vcpu, |view| view.reset_bank(vcpu, Bank::reset));
        }
    }

    /// Resets the private interrupts of one vCPU, except the levels of the lines. The vCPU is not
    /// resident. Not for KVM_ARM_VCPU_INIT and not for PSCI: neither of them resets a
    /// redistributor.
    pub fn reset_vcpu(&self, vcpu: VcpuId) {
        self.with_bank(vcpu, |view| view.reset_bank(vcpu, Bank::reset_private));
    }
}
