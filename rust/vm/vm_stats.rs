// SPDX-License-Identifier: GPL-2.0

//! A VM's counters: its own, and the sums of its vCPUs'.

use super::gic::GicModel;
use super::memory::GuestMemory;
use super::vcpu_handle::VcpuHandle;
use super::vcpu_stats::{self, StatRow};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex, SetOnce};

/// A VM's own: how often what its CPUs know of its stage 2 was taken from them. Each request leads
/// to one such flush. And how often the lock of the interrupts that its vCPUs share was taken.
pub(crate) static ROWS: [StatRow; 3] = [
    StatRow::number(c"remote_tlb_flush"),
    StatRow::number(c"remote_tlb_flush_requests"),
    StatRow::number(c"gic_shared_locks"),
];

/// What has a VM's counters. It does not keep the VM: whoever shows them without one may hold it.
#[pin_data]
pub(crate) struct VmStats {
    memory: Arc<GuestMemory>,
    gic: SetOnce<Arc<GicModel>>,
    #[pin]
    vcpus: Mutex<Arc<KVec<Arc<VcpuHandle>>>>,
}

impl VmStats {
    /// Makes those of a VM without an interrupt controller.
    pub(super) fn new(
        memory: Arc<GuestMemory>,
        vcpus: Arc<KVec<Arc<VcpuHandle>>>,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                memory,
                gic: SetOnce::new(),
                vcpus <- new_mutex!(vcpus, "loft::VmStats::vcpus"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Notes that the VM's interrupt controller has been initialised.
    pub(super) fn note_gic(&self, gic: &Arc<GicModel>) {
        self.gic.populate(gic.clone());
    }

    /// Notes all the vCPUs that there are now.
    pub(super) fn note_vcpus(&self, vcpus: Arc<KVec<Arc<VcpuHandle>>>) {
        // Who is replaced is freed without the lock.
        let _old = core::mem::replace(&mut *self.vcpus.lock(), vcpus);
    }

    /// Returns the VM's own counters, in the order of [`ROWS`].
    pub(crate) fn values(&self) -> [u64; ROWS.len()] {
        let flushes = self.memory.flushes();
        let locks = self.gic.as_ref().map_or(0, |gic| gic.shared_locks());
        [flushes, flushes, locks]
    }

    /// Returns a counter's value as it is now.
    pub(crate) fn get(&self, counter: VmStat) -> u64 {
        match counter.place {
            Place::Vm(n) => self.values().get(n).copied().unwrap_or(0),
            Place::Vcpus(n) => {
                let vcpus = self.vcpus.lock().clone();
                let values = vcpus.iter().filter_map(|vcpu| vcpu.stats.values().nth(n));
                values.fold(0, u64::wrapping_add)
            }
        }
    }
}

/// A counter that a whole VM has one value of: its own, or the sum over its vCPUs.
#[derive(Clone, Copy)]
pub(crate) struct VmStat {
    pub(crate) name: &'static CStr,
    place: Place,
}

/// Where it stands in [`VmStats::values`], or in those of each vCPU.
#[derive(Clone, Copy)]
enum Place {
    Vm(usize),
    Vcpus(usize),
}

impl VmStat {
    /// Returns all of them. Histograms are none: their values come after all the others, so those
    /// stand where their rows do.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of_vm = ROWS.iter().enumerate().map(|(n, row)| Self {
            name: row.name,
            place: Place::Vm(n),
        });
        let rows = vcpu_stats::ROWS.iter().enumerate();
        let of_vcpus = rows
            .filter(|(_, row)| row.kind.values() == 1)
            .map(|(n, row)| Self {
                name: row.name,
                place: Place::Vcpus(n),
            });
        Iterator::chain(of_vm, of_vcpus)
    }
}
