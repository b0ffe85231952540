// SPDX-License-Identifier: GPL-2.0

//! What there is of an interrupt controller, who locks which part of it, and what an operation sees while it does.

use super::intid::{IntId, Line};
use super::irq::Irq;
use super::lpi::LpiStore;
use super::redist::{Bank, Redist, WorkSet};
use super::regs;
use crate::model::vcpus::VcpuId;
use crate::speculation;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};

/// A lock around a part of the controller.
pub trait Lock<T> {
    /// Takes it, until the value is dropped. It must be safe to take wherever the controller is used.
    fn lock(&self) -> impl DerefMut<Target = T>;
}

/// Where a controller's parts are kept.
pub trait Storage: Sized {
    /// What of each vCPU's redistributor is read without a lock.
    type Redists: Deref<Target = [Redist]>;
    /// The rest of one redistributor, under its lock.
    type Bank: Lock<Bank>;
    /// One for each vCPU.
    type Banks: Deref<Target = [Self::Bank]>;
    /// The shared interrupts.
    type Spis: DerefMut<Target = [Irq]>;
    /// Which of them each vCPU may have to be given.
    type Works: DerefMut<Target = [WorkSet]>;
    /// All of the shared interrupts, under their lock.
    type Shared: Lock<Shared<Self>>;
    /// The LPIs.
    type Lpis: LpiStore;
}

/// The distributor's own registers, and what all vCPUs' redistributors have in common. All of it is read without a lock, and
/// written with that of the shared interrupts, if at all once there are vCPUs in the guest; but for what says otherwise, and for
/// what changes once only, when the first ITS comes.
#[derive(Debug)]
pub(super) struct Dist {
    /// GICD_CTLR, as the guest reads it. Written without a lock, too: see [`super::Gic::set_ctlr`].
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
    /// GICD_CTLR.EnableGrp0 and EnableGrp1, in their places.
    #[inline]
    pub(super) fn enables(&self) -> u32 {
        self.ctlr.load(Relaxed) & regs::ENABLES
    }

    /// Sets them; returns what they were.
    pub(super) fn enable_groups(&self, enables: u32) -> u32 {
        self.ctlr.swap(enables | regs::ARE_DS, Relaxed) & regs::ENABLES
    }

    /// Whether the distributor forwards interrupts of this group.
    #[inline]
    pub(super) fn forwards(&self, group1: bool) -> bool {
        forwards(self.enables(), group1)
    }

    pub(super) fn has_lpis(&self) -> bool {
        self.lpis.load(Relaxed)
    }
}

/// Whether with these of GICD_CTLR's enables the distributor forwards interrupts of this group.
#[inline]
pub(super) fn forwards(enables: u32, group1: bool) -> bool {
    enables & if group1 { 2 } else { 1 } != 0
}

/// What the lock of the shared interrupts is around.
pub struct Shared<S: Storage> {
    pub(super) spis: S::Spis,
    pub(super) works: S::Works,
    /// How often the lock has been taken.
    pub(super) taken: u64,
}

impl<S: Storage> Shared<S> {
    /// The shared interrupts out of reset; `spis` are each [`Irq::default`], and `works`, one for each vCPU, empty.
    pub fn new(mut spis: S::Spis, works: S::Works) -> Self {
        for spi in spis.iter_mut() {
            spi.reset(Irq::spi());
        }
        Self {
            spis,
            works,
            taken: 0,
        }
    }
}

/// One vCPU's redistributor, locked.
pub(super) struct BankView<'a> {
    pub(super) vcpu: VcpuId,
    pub(super) state: &'a mut Bank,
}

/// The shared interrupts, locked.
pub(super) struct SharedView<'a> {
    pub(super) spis: &'a mut [Irq],
    pub(super) works: &'a mut [WorkSet],
}

/// What one operation sees: what needs no lock, and what it has locked, without the storage's types. An interrupt that it has
/// not locked is not there for it.
pub(super) struct View<'a> {
    pub(super) dist: &'a Dist,
    pub(super) redists: &'a [Redist],
    pub(super) bank: Option<BankView<'a>>,
    pub(super) shared: Option<SharedView<'a>>,
    pub(super) lpis: &'a dyn LpiStore,
}

impl View<'_> {
    /// This vCPU's redistributor, if it is locked.
    pub(super) fn bank(&self, vcpu: VcpuId) -> Option<&Bank> {
        let bank = self.bank.as_ref().filter(|bank| bank.vcpu == vcpu)?;
        Some(bank.state)
    }

    pub(super) fn bank_mut(&mut self, vcpu: VcpuId) -> Option<&mut Bank> {
        let bank = self.bank.as_mut().filter(|bank| bank.vcpu == vcpu)?;
        Some(bank.state)
    }

    /// The vCPU of a line is one that there is, whoever has named it: what it is named by is looked up in the same way. The
    /// number may be anything.
    pub(super) fn irq(&self, line: Line) -> Option<&Irq> {
        match line.bank() {
            Some(vcpu) => speculation::entry(&self.bank(vcpu)?.private, line.id().index()),
            None => speculation::get(self.shared.as_ref()?.spis, spi_index(line.id())),
        }
    }

    pub(super) fn irq_mut(&mut self, line: Line) -> Option<&mut Irq> {
        let id = line.id();
        match line.bank() {
            Some(vcpu) => speculation::entry_mut(&mut self.bank_mut(vcpu)?.private, id.index()),
            None => speculation::get_mut(self.shared.as_mut()?.spis, spi_index(id)),
        }
    }

    /// Calls `each` for the interrupts that this vCPU, whose redistributor is locked, may have to be given; the shared ones if
    /// they are locked, too.
    pub(super) fn each_work(&self, vcpu: VcpuId, mut each: impl FnMut(IntId, &Irq)) {
        let (Some(bank), Some(redist)) = (self.bank(vcpu), self.redists.get(vcpu.index())) else {
            return;
        };
        for id in redist.private_work() {
            if let Some(irq) = bank.private.get(id.index()) {
                each(id, irq);
            }
        }
        let Some(shared) = self.shared.as_ref().filter(|_| redist.has_spis()) else {
            return;
        };
        let Some(work) = shared.works.get(vcpu.index()) else {
            return;
        };
        for id in work.iter() {
            if let Some(irq) = shared.spis.get(spi_index(id)) {
                each(id, irq);
            }
        }
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
    /// The shared interrupts out of reset.
    pub(super) fn reset_spis(&mut self) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        for spi in shared.spis.iter_mut() {
            spi.reset(Irq::spi());
        }
        for (work, redist) in shared.works.iter_mut().zip(self.redists) {
            *work = WorkSet::default();
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

/// Where a shared interrupt is among them.
fn spi_index(id: IntId) -> usize {
    id.index().wrapping_sub(IntId::PRIVATE as usize)
}
