// SPDX-License-Identifier: GPL-2.0

//! A VM's interrupt controller: the model of it, its lock, and where the guest sees it.

mod layout;

use super::lpi::LpiBlocks;
use super::Vm;
use crate::host::sync::{RawGuard, RawSpinLock};
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::model::vgic::{
    Config, Error as GicError, Gic, IntId, Irq, Line, LpiId, LpiWork, NotRaised, Notify, Redist,
};
use crate::vcpu::shared::Shared;
use core::sync::atomic::AtomicU32;
use kernel::prelude::*;
use kernel::sync::{new_mutex, static_lock_class, Arc, Mutex, SetOnce};
use layout::Layout;

pub(crate) use layout::{check_range, Map, Region};

pub(crate) type Model = Gic<KVVec<Redist>, KVVec<Irq>, LpiBlocks, Arc<AtomicU32>>;

/// What userspace sets up.
pub(crate) struct Setup {
    /// KVM_CREATE_DEVICE has been called.
    pub(crate) created: bool,
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    /// There is an ITS, and so there are LPIs.
    lpis: bool,
    /// KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ: the maintenance interrupt of the guest's own guests, which it has not.
    pub(crate) maintenance: u32,
}

/// The interrupt controller of one VM, which may have none.
#[pin_data]
pub(crate) struct VmGic {
    model: SetOnce<Arc<RawSpinLock<Model>>>,
    /// What the guest reads in GICD_CTLR.
    ctlr: SetOnce<Arc<AtomicU32>>,
    #[pin]
    pub(crate) setup: Mutex<Setup>,
    /// Fixed when the first vCPU runs, for the exits to look through without a lock.
    map: SetOnce<Arc<Map>>,
}

impl VmGic {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            model: SetOnce::new(),
            ctlr: SetOnce::new(),
            setup <- new_mutex!(
                Setup {
                    created: false,
                    config: Config::default(),
                    layout: Layout::new(),
                    lpis: false,
                    maintenance: 0,
                },
                "loft::VmGic::setup"
            ),
            map: SetOnce::new(),
        })
    }

    /// The model, locked; `None` until it is initialised.
    pub(crate) fn lock(&self) -> Option<RawGuard<'_, Model>> {
        self.model.as_ref().map(|model| model.lock())
    }

    /// The model, once it is initialised: it stays.
    pub(crate) fn model(&self) -> Option<Arc<RawSpinLock<Model>>> {
        self.model.as_ref().cloned()
    }

    /// What the guest reads in GICD_CTLR, to be read without a lock.
    pub(crate) fn ctlr(&self) -> Option<Arc<AtomicU32>> {
        self.ctlr.as_ref().cloned()
    }

    /// Whether there is an initialised controller.
    pub(crate) fn is_ready(&self) -> bool {
        self.model.as_ref().is_some()
    }

    /// Whether KVM_CREATE_DEVICE has made one, initialised or not.
    pub(crate) fn is_created(&self) -> bool {
        self.setup.lock().created
    }

    /// KVM_CREATE_DEVICE. The caller holds `config`; `EEXIST` if there is one.
    pub(crate) fn create(&self) -> Result {
        let mut setup = self.setup.lock();
        if setup.created {
            return Err(EEXIST);
        }
        setup.created = true;
        Ok(())
    }

    /// Whether another vCPU can be made; the caller holds `config`. `EBUSY`: not any more. `EINVAL`: its redistributor would
    /// be where it cannot be.
    pub(crate) fn admit(&self, vm: &Vm) -> Result {
        if self.is_ready() {
            return Err(EBUSY);
        }
        self.setup
            .lock()
            .layout
            .admit(vm.vcpu_count() as u32, vm.memory.end())
    }

    /// Builds the model for the vCPUs that there are; the caller holds `config`, which keeps their number. Nothing if that
    /// has been done.
    pub(crate) fn init(&self, vm: &Vm) -> Result {
        let setup = self.setup.lock();
        if self.is_ready() {
            return Ok(());
        }
        let mut redists = KVVec::new();
        let mut pushed: Result = Ok(());
        vm.for_each_vcpu(|vcpu| {
            let redist = Redist::new(affinity_bits(vcpu.affinity()), vcpu.number as u16);
            pushed = pushed.and(redists.push(redist, GFP_KERNEL_ACCOUNT).map_err(Into::into));
        });
        pushed?;
        let mut spis = KVVec::new();
        for _ in 0..setup.config.nr_spis() {
            spis.push(Irq::default(), GFP_KERNEL_ACCOUNT)?;
        }
        let lpis = if setup.lpis {
            LpiBlocks::new()?
        } else {
            LpiBlocks::default()
        };
        let ctlr = Arc::new(AtomicU32::new(0), GFP_KERNEL_ACCOUNT)?;
        let mut model =
            Gic::new(&setup.config, redists, spis, lpis, ctlr.clone()).map_err(gic_errno)?;
        if setup.lpis {
            model.add_lpis();
        }
        let model = Arc::pin_init(
            RawSpinLock::new(model, c"loft::Vm::gic", static_lock_class!()),
            GFP_KERNEL_ACCOUNT,
        )?;
        self.ctlr.populate(ctlr);
        self.model.populate(model);
        self.note_last(vm, &setup);
        Ok(())
    }

    /// There are LPIs from now on.
    pub(crate) fn add_lpis(&self) -> Result {
        let mut setup = self.setup.lock();
        if setup.lpis {
            return Ok(());
        }
        if self.is_ready() {
            let blocks = LpiBlocks::new()?;
            if let Some(mut model) = self.lock() {
                // What was there had no room for any, and so owns no memory.
                *model.lpi_store() = blocks;
                model.add_lpis();
            }
        }
        setup.lpis = true;
        Ok(())
    }

    /// Tells the redistributors which of them are the last ones of their regions, if there are any yet.
    pub(crate) fn note_last(&self, vm: &Vm, setup: &Setup) {
        let vcpus = vm.vcpu_count();
        let last = setup.layout.last(vcpus as u32);
        let Some(mut model) = self.lock() else { return };
        for vcpu in (0..vcpus).map_while(VcpuId::new) {
            model.set_last(vcpu, last.contains(vcpu));
        }
    }

    /// Fixes where the guest sees the controller, if there is one; the caller holds `config`, and the first vCPU is about to
    /// run.
    ///
    /// Errors: those of [`Layout::map`], and `EBUSY` if it has not been initialised.
    pub(crate) fn map(&self, vm: &Vm) -> Result {
        let setup = self.setup.lock();
        if !setup.created || self.map.as_ref().is_some() {
            return Ok(());
        }
        let map = setup.layout.map(vm.vcpu_count() as u32, vm.memory.end())?;
        if !self.is_ready() {
            return Err(EBUSY);
        }
        self.map.populate(Arc::new(map, GFP_KERNEL_ACCOUNT)?);
        Ok(())
    }

    /// Where the guest sees the controller, once the first vCPU runs: it stays.
    pub(crate) fn map_of_frames(&self) -> Option<Arc<Map>> {
        self.map.as_ref().cloned()
    }
}

/// Aff2, Aff1 and Aff0 of an MPIDR_EL1, as the GIC wants them.
fn affinity_bits(mpidr: u64) -> u32 {
    (mpidr & 0xff_ffff) as u32
}

impl Vm {
    /// Sets the level of an interrupt line, or for an edge interrupt raises it; as KVM_IRQ_LINE. `EBUSY` if the controller is
    /// not initialised, `EINVAL` for an interrupt that it has not.
    pub(crate) fn set_irq_level(&self, line: Line, high: bool) -> Result {
        let kick = {
            let mut gic = self.gic.lock().ok_or(EBUSY)?;
            gic.set_level(line, high).map_err(gic_errno)?
        };
        if let Some(vcpu) = kick {
            self.kick(vcpu);
        }
        Ok(())
    }

    /// A message arrived for this LPI; whether that raised it, or it was pending.
    pub(crate) fn raise_lpi(&self, lpi: LpiId) -> core::result::Result<(), NotRaised> {
        let kick = match self.gic.lock() {
            Some(mut gic) => gic.raise_lpi(lpi)?,
            None => return Err(NotRaised::Unmapped),
        };
        if let Some(vcpu) = kick {
            self.kick(vcpu);
        }
        Ok(())
    }

    /// Makes a vCPU look at its interrupts.
    pub(crate) fn kick(&self, vcpu: VcpuId) {
        if let Some(vcpu) = self.vcpu(vcpu) {
            vcpu.interrupt();
        }
    }

    /// Tries something again and again, with those vCPUs out of the guest that it has asked for (all of them, or two that
    /// take an interrupt from one another could keep it from ending). The caller's own vCPU is not in the guest.
    pub(crate) fn with_guests_out<R>(&self, mut attempt: impl FnMut() -> Result<R, VcpuSet>) -> R {
        let mut out = VcpuSet::EMPTY;
        loop {
            match attempt() {
                Ok(done) => {
                    self.each(&out, Shared::release);
                    return done;
                }
                Err(more) => {
                    for vcpu in more.iter().filter_map(|id| self.vcpu(id)) {
                        if !out.contains(vcpu.id) {
                            vcpu.hold();
                            out.insert(vcpu.id);
                        }
                    }
                }
            }
            // Each leaves as soon as an interrupt has reached it, and does not come back. One that was on its way in when it
            // was held may not have its list registers yet: it is not out until it says so.
            self.each(&out, |vcpu| {
                while !vcpu.is_outside()
                    || self
                        .gic
                        .lock()
                        .is_some_and(|model| model.is_resident(vcpu.id))
                {
                    crate::host::cpu::cond_resched();
                }
            });
        }
    }

    fn each(&self, vcpus: &VcpuSet, mut each: impl FnMut(&Shared)) {
        for vcpu in vcpus.iter().filter_map(|id| self.vcpu(id)) {
            each(&vcpu);
        }
    }

    /// The same for several.
    pub(crate) fn kick_all(&self, vcpus: &VcpuSet) {
        for vcpu in vcpus.iter() {
            self.kick(vcpu);
        }
    }
}

/// What an operation on the model asks for, to be done without its lock.
#[derive(Default)]
pub(crate) struct After {
    pub(crate) kicks: VcpuSet,
    /// Level-sensitive SPIs that the guest has deactivated, for irqfds with a resampler.
    pub(crate) deactivated: [u64; 16],
    pub(crate) any_deactivated: bool,
    /// What is to be done with the guest's tables of LPIs.
    pub(crate) lpis: Option<LpiWork>,
}

impl After {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.kicks.is_empty() && !self.any_deactivated && self.lpis.is_none()
    }
}

impl Notify for After {
    fn kick(&mut self, vcpu: VcpuId) {
        self.kicks.insert(vcpu);
    }
    fn deactivated(&mut self, spi: IntId) {
        if let Some(word) = self.deactivated.get_mut(spi.index() / 64) {
            *word |= 1 << (spi.index() % 64);
            self.any_deactivated = true;
        }
    }
    fn lpis(&mut self, work: LpiWork) {
        self.lpis = Some(work);
    }
}

/// The errno that KVM gives for it.
pub(crate) fn gic_errno(error: GicError) -> Error {
    match error {
        GicError::Invalid | GicError::NoVcpu | GicError::BadAccess => EINVAL,
        GicError::Busy | GicError::NeedSync(_) => EBUSY,
        GicError::NoRegister => ENXIO,
    }
}
