// SPDX-License-Identifier: GPL-2.0

//! A VM's interrupt controller: the model of it, its lock, and where the guest sees it.

use super::Vm;
use crate::arch::cpu;
use crate::host::machine;
use crate::host::sync::{RawGuard, RawSpinLock};
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::model::vgic::{Config, Error as GicError, Frame, Gic, IntId, Irq, Line, Notify, Redist};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};
use kernel::sync::{new_mutex, static_lock_class, Mutex, SetOnce};

/// The interrupts of the guest's timers (arm,armv8-timer binding).
pub(crate) const VIRTUAL_TIMER_PPI: u32 = 27;
pub(crate) const PHYSICAL_TIMER_PPI: u32 = 30;

pub(crate) type Model = Gic<KVVec<Redist>, KVVec<Irq>>;

/// Sizes of the frames in the guest's memory map, in bytes.
pub(crate) const DIST_SIZE: u64 = 0x1_0000;
pub(crate) const REDIST_SIZE: u64 = 0x2_0000;
/// No address has been set.
pub(crate) const UNSET: u64 = u64::MAX;
/// How many regions of redistributors a VM may have.
pub(crate) const MAX_REGIONS: usize = 16;

/// Contiguous redistributors: for `count` vCPUs from the first one that no earlier region has.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    pub(crate) base: u64,
    pub(crate) count: u32,
    /// The vCPU of its first redistributor.
    pub(crate) first: u32,
}

/// What is set before KVM_DEV_ARM_VGIC_CTRL_INIT.
pub(crate) struct Setup {
    pub(crate) created: bool,
    pub(crate) config: Config,
    pub(crate) regions: KVec<Region>,
    /// Set through KVM_VGIC_V3_ADDR_TYPE_REDIST: one region that grows with the vCPUs.
    pub(crate) legacy_region: bool,
}

/// The interrupt controller of one VM, which may have none.
#[pin_data]
pub(crate) struct VmGic {
    model: SetOnce<Pin<KBox<RawSpinLock<Model>>>>,
    #[pin]
    pub(crate) setup: Mutex<Setup>,
    dist: Atomic<u64>,
    /// The regions, fixed by initialisation, for the exits to look through without a lock.
    regions: SetOnce<KVec<Region>>,
}

impl VmGic {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            model: SetOnce::new(),
            setup <- new_mutex!(
                Setup { created: false, config: Config::default(), regions: KVec::new(), legacy_region: false },
                "loft::VmGic::setup"
            ),
            dist: Atomic::new(UNSET),
            regions: SetOnce::new(),
        })
    }

    /// The model, locked; `None` until it is initialised.
    pub(crate) fn lock(&self) -> Option<RawGuard<'_, Model>> {
        self.model.as_ref().map(|model| model.lock())
    }

    /// Whether there is an initialised controller.
    pub(crate) fn is_ready(&self) -> bool {
        self.model.as_ref().is_some()
    }

    /// Whether KVM_CREATE_DEVICE has made one, initialised or not.
    pub(crate) fn is_created(&self) -> bool {
        self.setup.lock().created
    }

    /// The distributor's address; [`UNSET`] before there is one.
    pub(crate) fn dist(&self) -> u64 {
        self.dist.load(Acquire)
    }

    pub(crate) fn set_dist(&self, base: u64) {
        self.dist.store(base, Release);
    }

    /// Builds the model for the vCPUs that there are. `config` lock held by the caller keeps their number.
    pub(crate) fn init(&self, vm: &Vm) -> Result {
        let setup = self.setup.lock();
        if self.is_ready() {
            return Ok(());
        }
        let mut redists = KVVec::new();
        let mut vcpus: usize = 0;
        let mut pushed: Result = Ok(());
        vm.for_each_vcpu(|vcpu| {
            let redist = Redist::new(affinity_bits(vcpu.affinity), vcpu.number as u16);
            pushed = pushed.and(redists.push(redist, GFP_KERNEL_ACCOUNT).map_err(Into::into));
            vcpus += 1;
        });
        pushed?;
        let mut spis = KVVec::new();
        for _ in 0..setup.config.nr_spis() {
            spis.push(Irq::default(), GFP_KERNEL_ACCOUNT)?;
        }
        let mut model = Gic::new(&setup.config, redists, spis).map_err(|_| EINVAL)?;
        let phys = machine::timer_intid() as u16;
        for index in 0..vcpus {
            let (Some(vcpu), Some(ppi)) = (VcpuId::new(index), IntId::new(VIRTUAL_TIMER_PPI)) else { continue };
            model.map_hw(vcpu, Some((ppi, phys))).map_err(|_| EINVAL)?;
        }
        let mut regions = KVec::new();
        for region in &setup.regions {
            // The old interface gives a base only: the region is as long as there are vCPUs.
            let count = if setup.legacy_region { vcpus as u32 } else { region.count };
            regions.push(Region { count, ..*region }, GFP_KERNEL_ACCOUNT)?;
            if !setup.legacy_region {
                let last = region.first.saturating_add(region.count).saturating_sub(1) as usize;
                if let Some(last) = VcpuId::new(last.min(vcpus.saturating_sub(1))) {
                    model.set_last(last, true);
                }
            }
        }
        if setup.legacy_region {
            if let Some(last) = VcpuId::new(vcpus.saturating_sub(1)) {
                model.set_last(last, true);
            }
        }
        self.regions.populate(regions);
        let model = KBox::pin_init(
            RawSpinLock::new(model, c"loft::Vm::gic", static_lock_class!()),
            GFP_KERNEL_ACCOUNT,
        )?;
        self.model.populate(model);
        Ok(())
    }

    /// Which frame, and where in it, an access at `ipa` is.
    pub(crate) fn frame(&self, ipa: u64) -> Option<(Frame, u32)> {
        let regions = self.regions.as_ref()?;
        let dist = self.dist.load(Relaxed);
        let offset = ipa.wrapping_sub(dist);
        if dist != UNSET && offset < DIST_SIZE {
            return Some((Frame::Dist, offset as u32));
        }
        regions.iter().find_map(|region| {
            let offset = ipa.wrapping_sub(region.base);
            let index = u32::try_from(offset / REDIST_SIZE).ok()?;
            if index >= region.count {
                return None;
            }
            let vcpu = VcpuId::new(region.first.checked_add(index)? as usize)?;
            Some((Frame::Redist(vcpu), (offset % REDIST_SIZE) as u32))
        })
    }
}

/// Aff2, Aff1 and Aff0 of an MPIDR_EL1, as the GIC wants them.
fn affinity_bits(mpidr: u64) -> u32 {
    (mpidr & 0xff_ffff) as u32
}

impl Vm {
    /// Sets the level of an interrupt line, or for an edge interrupt raises it; as KVM_IRQ_LINE.
    pub(crate) fn set_irq_level(&self, line: Line, high: bool) -> Result {
        let kick = {
            let mut gic = self.gic.lock().ok_or(ENXIO)?;
            gic.set_level(line, high).map_err(gic_errno)?
        };
        if let Some(vcpu) = kick {
            self.kick(vcpu);
        }
        Ok(())
    }

    /// One edge on a line, as an MSI or an irqfd makes it.
    pub(crate) fn pulse_irq(&self, line: Line) -> Result {
        let kick = {
            let mut gic = self.gic.lock().ok_or(ENXIO)?;
            gic.pulse(line).map_err(gic_errno)?
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

    /// Runs `body` while these vCPUs are out of the guest and their list registers are in the model.
    pub(crate) fn with_guests_out(&self, vcpus: &VcpuSet, body: impl FnOnce()) {
        for vcpu in vcpus.iter().filter_map(|id| self.vcpu(id)) {
            vcpu.hold();
        }
        // Each leaves as soon as an interrupt has reached it, and does not come back.
        while vcpus.iter().any(|id| self.gic.lock().is_some_and(|model| model.is_resident(id))) {
            crate::host::cpu::cond_resched();
        }
        body();
        for vcpu in vcpus.iter().filter_map(|id| self.vcpu(id)) {
            vcpu.release();
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
}

/// The errno that KVM gives for it.
pub(crate) fn gic_errno(error: GicError) -> Error {
    match error {
        GicError::Invalid | GicError::NoVcpu | GicError::BadAccess => EINVAL,
        GicError::Busy | GicError::NeedSync(_) => EBUSY,
        GicError::NoRegister => ENXIO,
    }
}

/// The list registers that this machine has.
pub(crate) fn list_registers() -> usize {
    cpu::features().list_registers
}
