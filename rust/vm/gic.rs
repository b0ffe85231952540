// SPDX-License-Identifier: GPL-2.0

//! A VM's interrupt controller: the model of it, its locks, and where the guest sees it.

mod layout;
mod lpi_blocks;

use super::vcpu_handle::VcpuHandle;
use crate::host::raw_spinlock::RawSpinLock;
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::model::vgic::{
    Bank, Error as GicError, Gic, GicConfig, GicStorage, IntId, IrqBlock, Lock, LpiWork, Notify,
    Redist, Shared as SharedIrqs, WorkSet,
};
use core::ops::DerefMut;
use kernel::prelude::*;
use kernel::sync::{new_mutex, static_lock_class, Arc, Mutex, SetOnce};
use layout::Layout;
use lpi_blocks::LpiBlocks;

pub(crate) use layout::{check_range, FrameMap, Region};

/// A part of the model under its lock, which stays where it is. The locks are taken with interrupts
/// off: a device's interrupt of the host may raise a line, and so may a fast exit.
pub(crate) struct Locked<T>(Pin<KBox<RawSpinLock<T>>>);

impl<T: Unpin> Lock<T> for Locked<T> {
    #[inline]
    fn lock(&self) -> impl DerefMut<Target = T> {
        self.0.lock()
    }
}

/// Where the module keeps interrupt controllers.
pub(crate) struct Memory;

impl GicStorage for Memory {
    type Redists = KVVec<Redist>;
    type Bank = Locked<Bank>;
    type Banks = KVVec<Locked<Bank>>;
    type Spis = KVVec<IrqBlock>;
    type Works = KVVec<WorkSet>;
    type Shared = Locked<SharedIrqs<Self>>;
    type Lpis = LpiBlocks;
}

pub(crate) type GicModel = Gic<Memory>;

/// What userspace sets up.
pub(crate) struct Setup {
    /// KVM_CREATE_DEVICE has been called.
    pub(crate) created: bool,
    pub(crate) config: GicConfig,
    pub(crate) layout: Layout,
    /// There is an ITS, and so there are LPIs.
    lpis: bool,
    /// KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ: the maintenance interrupt of the guest's own guests, which
    /// it has not.
    pub(crate) maintenance: u32,
}

/// The interrupt controller of one VM, which may have none.
#[pin_data]
pub(crate) struct VmGic {
    model: SetOnce<Arc<GicModel>>,
    /// The VM's vCPUs, in their order: there will be no more once there is a model.
    pub(super) vcpus: SetOnce<Arc<KVec<Arc<VcpuHandle>>>>,
    #[pin]
    pub(crate) setup: Mutex<Setup>,
    /// Held while a block of LPIs is made.
    #[pin]
    pub(crate) making_lpis: Mutex<()>,
    /// Fixed when the first vCPU runs, for the exits to look through without a lock.
    map: SetOnce<Arc<FrameMap>>,
}

impl VmGic {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            model: SetOnce::new(),
            vcpus: SetOnce::new(),
            setup <- new_mutex!(
                Setup {
                    created: false,
                    config: GicConfig::default(),
                    layout: Layout::new(),
                    lpis: false,
                    maintenance: 0,
                },
                "loft::VmGic::setup"
            ),
            making_lpis <- new_mutex!((), "loft::VmGic::making_lpis"),
            map: SetOnce::new(),
        })
    }

    /// Returns the model; `None` until it is initialised. It stays.
    #[inline]
    pub(crate) fn model(&self) -> Option<&Arc<GicModel>> {
        self.model.as_ref()
    }

    /// Returns whether the vCPU may have interrupts in its list registers that the model does not
    /// know the state of.
    pub(crate) fn is_resident(&self, vcpu: VcpuId) -> bool {
        self.model().is_some_and(|model| model.is_resident(vcpu))
    }

    /// Returns whether there is an initialised controller.
    pub(crate) fn is_ready(&self) -> bool {
        self.model.as_ref().is_some()
    }

    /// Returns whether KVM_CREATE_DEVICE has made one, initialised or not.
    pub(crate) fn is_created(&self) -> bool {
        self.setup.lock().created
    }

    /// Serves KVM_CREATE_DEVICE. The caller holds `config`; `EEXIST` if there is one.
    pub(crate) fn create(&self) -> Result {
        let mut setup = self.setup.lock();
        if setup.created {
            return Err(EEXIST);
        }
        setup.created = true;
        Ok(())
    }

    /// Checks that another vCPU can be made, after `vcpus`, in a VM whose addresses end at `limit`;
    /// the caller holds `config`. `EBUSY`: not any more. `EINVAL`: its redistributor would be where
    /// it cannot be.
    pub(crate) fn admit(&self, vcpus: usize, limit: u64) -> Result {
        if self.is_ready() {
            return Err(EBUSY);
        }
        self.setup.lock().layout.admit(vcpus as u32, limit)
    }

    /// Builds the model for `vcpus`, all that there are; the caller holds `config`, which keeps
    /// their number. Nothing if that has been done.
    pub(crate) fn init(&self, vcpus: Arc<KVec<Arc<VcpuHandle>>>) -> Result {
        let setup = self.setup.lock();
        if self.is_ready() {
            return Ok(());
        }
        let (mut redists, mut banks) = (KVVec::new(), KVVec::new());
        let mut works = KVVec::new();
        for vcpu in vcpus.iter() {
            let redist = Redist::new(affinity_bits(vcpu.affinity()), vcpu.number as u16);
            redists.push(redist, GFP_KERNEL_ACCOUNT)?;
            let bank = KBox::pin_init(
                RawSpinLock::new(Bank::new(vcpu.id), c"loft::Gic::bank", static_lock_class!()),
                GFP_KERNEL_ACCOUNT,
            )?;
            banks.push(Locked(bank), GFP_KERNEL_ACCOUNT)?;
        }
        for _ in 0..vcpus.len().saturating_add(WorkSet::KINDS) {
            works.push(WorkSet::default(), GFP_KERNEL_ACCOUNT)?;
        }
        let mut spis = KVVec::new();
        for _ in 0..setup.config.spi_blocks() {
            spis.push(IrqBlock::default(), GFP_KERNEL_ACCOUNT)?;
        }
        let shared = KBox::pin_init(
            RawSpinLock::new(
                SharedIrqs::new(spis, works),
                c"loft::Gic::shared",
                static_lock_class!(),
            ),
            GFP_KERNEL_ACCOUNT,
        )?;
        let lpis = LpiBlocks::default();
        let model = GicModel::new(&setup.config, redists, banks, Locked(shared), lpis);
        let model = model.map_err(gic_errno)?;
        if setup.lpis {
            model.lpi_store().make_room()?;
            model.add_lpis();
        }
        let model = Arc::new(model, GFP_KERNEL_ACCOUNT)?;
        let count = vcpus.len();
        self.vcpus.populate(vcpus);
        self.model.populate(model);
        self.note_last(count, &setup);
        Ok(())
    }

    /// Gives the controller LPIs from now on.
    pub(crate) fn add_lpis(&self) -> Result {
        let mut setup = self.setup.lock();
        if setup.lpis {
            return Ok(());
        }
        if let Some(model) = self.model() {
            model.lpi_store().make_room()?;
            model.add_lpis();
        }
        setup.lpis = true;
        Ok(())
    }

    /// Tells the redistributors which of them are the last ones of their regions, if there are any
    /// yet.
    pub(crate) fn note_last(&self, vcpus: usize, setup: &Setup) {
        let last = setup.layout.last(vcpus as u32);
        let Some(model) = self.model() else { return };
        for vcpu in (0..vcpus).map_while(VcpuId::new) {
            model.set_last(vcpu, last.contains(vcpu));
        }
    }

    /// Fixes where the guest sees the controller, if there is one, below `limit`; the caller holds
    /// `config`, and the first of the `vcpus` is about to run.
    ///
    /// Errors: those of [`Layout::map`], and `EBUSY` if it has not been initialised.
    pub(crate) fn map(&self, vcpus: usize, limit: u64) -> Result {
        let setup = self.setup.lock();
        if !setup.created || self.map.as_ref().is_some() {
            return Ok(());
        }
        let map = setup.layout.map(vcpus as u32, limit)?;
        if !self.is_ready() {
            return Err(EBUSY);
        }
        self.map.populate(Arc::new(map, GFP_KERNEL_ACCOUNT)?);
        Ok(())
    }

    /// Returns where the guest sees the controller, once the first vCPU runs: it stays.
    pub(crate) fn map_of_frames(&self) -> Option<Arc<FrameMap>> {
        self.map.as_ref().cloned()
    }
}

/// Returns Aff2, Aff1 and Aff0 of an MPIDR_EL1, as the GIC wants them.
fn affinity_bits(mpidr: u64) -> u32 {
    (mpidr & 0xff_ffff) as u32
}

/// What an operation on the model asks for, to be done without any of its locks.
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
    /// Returns whether there is nothing to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.kicks.is_empty() && !self.any_deactivated && self.lpis.is_none()
    }

    /// Returns whether vCPUs are to be told of interrupts, and nothing else is to be done.
    pub(crate) fn is_only_kicks(&self) -> bool {
        !self.kicks.is_empty() && !self.any_deactivated && self.lpis.is_none()
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

/// Returns the errno that KVM gives for an error of the model.
pub(crate) fn gic_errno(error: GicError) -> Error {
    match error {
        GicError::Invalid | GicError::NoVcpu | GicError::BadAccess => EINVAL,
        GicError::Busy | GicError::NeedSync(_) => EBUSY,
        GicError::NoRegister => ENXIO,
    }
}
