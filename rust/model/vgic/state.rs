// SPDX-License-Identifier: GPL-2.0

//! What there is of an interrupt controller, who locks which part of it, and what an operation sees
//! while it does.

use super::intid::{IntId, Line};
use super::irq::{Irq, IrqBlock};
use super::lpi::LpiStore;
use super::redist::{Bank, Redist, WorkSet};
use super::regs;
use crate::model::vcpus::VcpuId;
use crate::speculation;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};

/// A lock around a part of the controller.
pub trait Lock<T> {
    /// Takes the lock, until the value is dropped. It must be safe to take wherever the controller
    /// is used.
    fn lock(&self) -> impl DerefMut<Target = T>;
}

/// Where a controller's parts are kept.
pub trait GicStorage: Sized {
    /// What of each vCPU's redistributor is read without a lock.
    type Redists: Deref<Target = [Redist]>;
    /// The rest of one redistributor, under its lock.
    type Bank: Lock<Bank>;
    /// One for each vCPU.
    type Banks: Deref<Target = [Self::Bank]>;
    /// The shared interrupts.
    type Spis: DerefMut<Target = [IrqBlock]>;
    /// Which of them each vCPU may have to be given, and behind those which there are of each kind.
    type Works: DerefMut<Target = [WorkSet]>;
    /// All of the shared interrupts, under their lock.
    type Shared: Lock<Shared<Self>>;
    /// The LPIs.
    type Lpis: LpiStore;
}

/// The distributor's own registers, and what all vCPUs' redistributors have in common. All of it is
/// read without a lock, and written with that of the shared interrupts, if at all once there are
/// vCPUs in the guest; but for what says otherwise, and for what changes once only, when the first
/// ITS comes.
#[derive(Debug)]
pub(super) struct Dist {
    /// GICD_CTLR, as the guest reads it. Written with the lock of what all share, read without.
    pub(super) ctlr: AtomicU32,
    /// GICD_STATUSR.
    pub(super) status: AtomicU32,
    /// GICD_IIDR.Revision.
    pub(super) revision: AtomicU8,
    /// Every vCPU has the affinity that its index suggests.
    pub(super) usual_affinities: AtomicBool,
    /// There are LPIs, because there is an ITS.
    pub(super) lpis: AtomicBool,
    /// GICR_PROPBASER, one for all redistributors.
    pub(super) propbaser: AtomicU64,
    /// SGIs, PPIs and SPIs together.
    pub(super) nr_irqs: u32,
}

impl Dist {
    /// Returns GICD_CTLR.EnableGrp0 and EnableGrp1, in their places.
    #[inline]
    pub(super) fn enables(&self) -> u32 {
        self.ctlr.load(Relaxed) & regs::ENABLES
    }

    /// Sets them for the guest; returns what they were. RWP is set if that disables a group, until
    /// [`Dist::settle`]. The lock of what all share is held.
    pub(super) fn enable_groups(&self, enables: u32) -> u32 {
        let before = self.ctlr.load(Relaxed);
        let disables = before & regs::ENABLES & !enables != 0;
        let rwp = if disables {
            regs::RWP
        } else {
            before & regs::RWP
        };
        self.ctlr.store(enables | regs::ARE_DS | rwp, Relaxed);
        before & regs::ENABLES
    }

    /// Clears RWP, unless somebody has set other enables since. The lock of what all share is held.
    pub(super) fn settle(&self, enables: u32) {
        if self.enables() == enables {
            self.set_enables(enables);
        }
    }

    /// Sets them where no vCPU runs; RWP is zero.
    pub(super) fn set_enables(&self, enables: u32) {
        self.ctlr.store(enables | regs::ARE_DS, Relaxed);
    }

    /// Returns whether the distributor forwards interrupts of this group.
    #[inline]
    pub(super) fn forwards(&self, group1: bool) -> bool {
        forwards(self.enables(), group1)
    }

    pub(super) fn has_lpis(&self) -> bool {
        self.lpis.load(Relaxed)
    }
}

/// Returns whether with these of GICD_CTLR's enables the distributor forwards interrupts of this
/// group.
#[inline]
pub(super) fn forwards(enables: u32, group1: bool) -> bool {
    enables & if group1 { 2 } else { 1 } != 0
}

/// What the lock of the shared interrupts is around.
pub struct Shared<S: GicStorage> {
    pub(super) spis: S::Spis,
    pub(super) works: S::Works,
    /// How often the lock has been taken.
    pub(super) taken: u64,
}

impl<S: GicStorage> Shared<S> {
    /// Makes the shared interrupts out of reset; `spis` are each [`IrqBlock::default`], and
    /// `works`, one for each vCPU and [`WorkSet::KINDS`] more, empty.
    pub fn new(mut spis: S::Spis, mut works: S::Works) -> Self {
        SharedView {
            spis: &mut spis,
            works: &mut works,
        }
        .reset();
        Self {
            spis,
            works,
            taken: 0,
        }
    }
}

/// A property by which shared interrupts are found without a look at each; there is a set for all
/// that have it.
#[derive(Clone, Copy)]
pub(super) enum IrqProperty {
    /// Active, as of the last sync if in a list register.
    Active,
    /// In group 0.
    Group0,
    /// Of this priority; the bits that are not implemented are ignored.
    Priority(u8),
}

impl IrqProperty {
    /// Returns where its set is, counted from the end: the work sets have the places from the
    /// beginning.
    const fn back_index(self) -> usize {
        match self {
            Self::Active => 1,
            Self::Group0 => 2,
            Self::Priority(priority) => 3 + (priority >> 3) as usize,
        }
    }
}

const _: () = assert!(IrqProperty::Priority(u8::MAX).back_index() == WorkSet::KINDS);

/// One vCPU's redistributor, locked.
pub(super) struct BankView<'a> {
    pub(super) vcpu: VcpuId,
    pub(super) state: &'a mut Bank,
}

/// The shared interrupts, locked.
pub(super) struct SharedView<'a> {
    pub(super) spis: &'a mut [IrqBlock],
    pub(super) works: &'a mut [WorkSet],
}

impl SharedView<'_> {
    fn kind(&self, kind: IrqProperty) -> Option<&WorkSet> {
        let at = self.works.len().wrapping_sub(kind.back_index());
        self.works.get(at)
    }

    /// Returns the shared interrupts in a set, with their priorities: the more urgent ones come
    /// first, and among them the lower INTIDs.
    pub(super) fn by_priority<'a>(
        &'a self,
        set: &'a WorkSet,
    ) -> impl Iterator<Item = (u8, IntId)> + 'a {
        let levels = (0..=u8::MAX).step_by(8).filter_map(|priority| {
            let level = self.kind(IrqProperty::Priority(priority))?;
            Some((priority, level))
        });
        levels.flat_map(|(priority, level)| set.common(level).map(move |id| (priority, id)))
    }

    /// Notes whether a shared interrupt is of a kind.
    fn note(&mut self, kind: IrqProperty, id: IntId, is: bool) {
        let at = self.works.len().wrapping_sub(kind.back_index());
        match self.works.get_mut(at) {
            Some(set) if is => set.insert(id),
            Some(set) => set.remove(id),
            None => (),
        }
    }

    /// Resets the shared interrupts.
    fn reset(&mut self) {
        self.works.fill(WorkSet::default());
        for id in (IntId::PRIVATE..).map_while(IntId::new) {
            let Some(block) = self.spis.get_mut(spi_block(id)) else {
                return;
            };
            let mut spi = block.irq_mut(id);
            spi.reset(IrqBlock::SPI, VcpuId::FIRST);
            let (priority, group1) = (spi.priority(), spi.group1());
            self.note(IrqProperty::Priority(priority), id, true);
            self.note(IrqProperty::Group0, id, !group1);
        }
    }
}

/// The shared interrupts that one vCPU may have to be given.
pub(super) struct SpiWork<'a> {
    shared: &'a SharedView<'a>,
    work: &'a WorkSet,
}

impl SpiWork<'_> {
    /// Returns those that are active.
    pub(super) fn active(&self) -> WorkSet {
        let active = self.shared.kind(IrqProperty::Active);
        active.map_or(WorkSet::default(), |active| self.work.part(active, true))
    }

    /// Calls `each` for the first `most` of those that are not active and in one of these groups,
    /// told as in GICD_CTLR; the more urgent ones come first, and among them the lower INTIDs.
    /// Returns how many there are. For a vCPU that is not resident: what is here and not active is
    /// pending.
    #[cold]
    pub(super) fn first_pending(
        &self,
        groups: u32,
        most: usize,
        mut each: impl FnMut(u8, IntId),
    ) -> usize {
        let (Some(active), Some(group0)) = (
            self.shared.kind(IrqProperty::Active),
            self.shared.kind(IrqProperty::Group0),
        ) else {
            return 0;
        };
        let mut found = self.work.part(active, false);
        match (forwards(groups, false), forwards(groups, true)) {
            (true, true) => (),
            (false, false) => return 0,
            (only, _) => found = found.part(group0, only),
        }
        for (priority, id) in self.shared.by_priority(&found).take(most) {
            each(priority, id);
        }
        found.len()
    }
}

/// What one operation sees: what needs no lock, and what it has locked, without the storage's
/// types. An interrupt that it has not locked is not there for it.
pub(super) struct View<'a> {
    pub(super) dist: &'a Dist,
    pub(super) redists: &'a [Redist],
    pub(super) bank: Option<BankView<'a>>,
    pub(super) shared: Option<SharedView<'a>>,
    pub(super) lpis: &'a dyn LpiStore,
}

impl View<'_> {
    /// Returns this vCPU's redistributor, if it is locked.
    pub(super) fn bank(&self, vcpu: VcpuId) -> Option<&Bank> {
        let bank = self.bank.as_ref().filter(|bank| bank.vcpu == vcpu)?;
        Some(bank.state)
    }

    pub(super) fn bank_mut(&mut self, vcpu: VcpuId) -> Option<&mut Bank> {
        let bank = self.bank.as_mut().filter(|bank| bank.vcpu == vcpu)?;
        Some(bank.state)
    }

    /// Returns an interrupt, if it is locked. The vCPU of a line is one that there is, whoever has
    /// named it: what it is named by is looked up in the same way. The number may be anything.
    pub(super) fn irq(&self, line: Line) -> Option<Irq<&IrqBlock>> {
        let id = line.id();
        let block = match line.bank() {
            Some(vcpu) => &self.bank(vcpu)?.private,
            None => self.shared_block(id)?,
        };
        Some(block.irq(id))
    }

    pub(super) fn irq_mut(&mut self, line: Line) -> Option<Irq<&mut IrqBlock>> {
        let id = line.id();
        let block = match line.bank() {
            Some(vcpu) => &mut self.bank_mut(vcpu)?.private,
            None => speculation::get_mut(self.shared.as_mut()?.spis, spi_block(id))?,
        };
        Some(block.irq_mut(id))
    }

    /// Returns the block that a shared interrupt is in, if they are locked.
    pub(super) fn shared_block(&self, id: IntId) -> Option<&IrqBlock> {
        speculation::get(self.shared.as_ref()?.spis, spi_block(id))
    }

    /// Calls `each` for the private interrupts that this vCPU, whose redistributor is locked, may
    /// have to be given.
    pub(super) fn each_private(&self, vcpu: VcpuId, mut each: impl FnMut(IntId, Irq<&IrqBlock>)) {
        let (Some(bank), Some(redist)) = (self.bank(vcpu), self.redists.get(vcpu.index())) else {
            return;
        };
        for id in redist.private_work() {
            each(id, bank.private.irq(id));
        }
    }

    /// Returns the shared interrupts that this vCPU may have to be given, if they are locked and
    /// there are any.
    pub(super) fn spi_work(&self, vcpu: VcpuId) -> Option<SpiWork<'_>> {
        let redist = self.redists.get(vcpu.index())?;
        let shared = self.shared.as_ref().filter(|_| redist.has_spis())?;
        let work = shared.works.get(vcpu.index())?;
        Some(SpiWork { shared, work })
    }

    /// Calls `each` for the interrupts that this vCPU, whose redistributor is locked, may have to
    /// be given; the shared ones if they are locked, too. Returns whether these are all: if there
    /// are too many shared ones to look at each, it has left them to [`View::spi_work`].
    pub(super) fn each_work(
        &self,
        vcpu: VcpuId,
        mut each: impl FnMut(IntId, Irq<&IrqBlock>),
    ) -> bool {
        let (Some(bank), Some(redist)) = (self.bank(vcpu), self.redists.get(vcpu.index())) else {
            return true;
        };
        for id in redist.private_work() {
            each(id, bank.private.irq(id));
        }
        let Some(shared) = self.shared.as_ref().filter(|_| redist.has_spis()) else {
            return true;
        };
        let Some(work) = shared.works.get(vcpu.index()) else {
            return true;
        };
        if work.is_crowd() {
            return false;
        }
        for id in work.iter() {
            if let Some(block) = shared.spis.get(spi_block(id)) {
                each(id, block.irq(id));
            }
        }
        true
    }

    /// Returns whether any shared interrupt is active, if they are locked.
    pub(super) fn any_spi_is_active(&self) -> bool {
        let shared = self.shared.as_ref();
        let active = shared.and_then(|shared| shared.kind(IrqProperty::Active));
        active.is_some_and(|active| !active.is_empty())
    }

    /// Notes that an interrupt has become active, or is so no longer.
    #[inline(never)]
    pub(super) fn note_active(&mut self, line: Line, active: bool) {
        if let Some(shared) = self.shared.as_mut().filter(|_| line.bank().is_none()) {
            shared.note(IrqProperty::Active, line.id(), active);
        }
    }

    /// Notes the group of an interrupt, and its priority, which was `before`.
    #[inline(never)]
    pub(super) fn note_order(&mut self, line: Line, before: u8, priority: u8, group1: bool) {
        let Some(shared) = self.shared.as_mut().filter(|_| line.bank().is_none()) else {
            return;
        };
        shared.note(IrqProperty::Priority(before), line.id(), false);
        shared.note(IrqProperty::Priority(priority), line.id(), true);
        shared.note(IrqProperty::Group0, line.id(), !group1);
    }

    /// Puts a shared interrupt into a vCPU's work set, or takes it out.
    pub(super) fn set_work(&mut self, vcpu: VcpuId, id: IntId, wanted: bool) {
        let work = self
            .shared
            .as_mut()
            .and_then(|shared| shared.works.get_mut(vcpu.index()));
        let (Some(work), Some(redist)) = (work, self.redists.get(vcpu.index())) else {
            return;
        };
        if wanted {
            work.insert(id);
        } else {
            work.remove(id);
        }
        redist.note_spis(!work.is_empty());
    }
}

impl View<'_> {
    /// Resets the shared interrupts, if they are locked.
    pub(super) fn reset_spis(&mut self) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        shared.reset();
        for redist in self.redists {
            redist.note_spis(false);
        }
    }

    /// Resets what is private to a vCPU.
    pub(super) fn reset_bank(&mut self, vcpu: VcpuId, reset: impl FnOnce(&mut Bank, VcpuId)) {
        if let Some(bank) = self.bank_mut(vcpu) {
            reset(bank, vcpu);
        }
        if let Some(redist) = self.redists.get(vcpu.index()) {
            redist.forget_private();
        }
    }
}

/// Returns the number of the block that a shared interrupt is in. None has this number for a
/// private one.
#[inline(always)]
fn spi_block(id: IntId) -> usize {
    const { assert!(IntId::PRIVATE as usize == IrqBlock::LEN) };
    (id.index() / IrqBlock::LEN).wrapping_sub(1)
}
