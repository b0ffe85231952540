// SPDX-License-Identifier: GPL-2.0

//! A guest's memory: the slots that the VMM gave it, and the stage-2 tables that translate to them.
//!
//! The memory is the VMM's: a page is mapped when the guest first touches it, and unmapped when the
//! host says that the VMM's mapping is about to change
//! ([`MmuNotifier`](crate::host::mmu_notifier::MmuNotifier)). Nothing is pinned. How a fault and
//! such a change see each other is in [`crate::model::invalidate`]; the fault itself is in `fault`,
//! the change in `notifier`. Deleting or moving a slot (`set_slot`) is such a change too, and other
//! changes go on meanwhile: the slot is still listed until nothing of it is mapped any more.

mod dirty;
mod dirty_log;
mod fault;
mod notifier;
mod set_slot;
mod slots;
mod table_pool;

pub(crate) use fault::Fault;
pub(crate) use slots::MemSlot;
pub(crate) use table_pool::VcpuTablePool;

use super::s2_mmu::{Regime, S2Mmu};
use crate::arch::cpu;
use crate::arch::tlb::{self, GuestTranslation};
use crate::host::mm;
use crate::host::page::GRANULE;
use crate::host::preempt::PreemptDisabled;
use crate::host::rcu_arc::RcuArc;
use crate::host::rwlock::RwLock;
use crate::model::invalidate::InvalidateState;
use crate::model::stage2::{Geometry, GeometryError};
use crate::model::types::Ipa;
use core::ops::Range;
use kernel::mm::Mm;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::atomic::Atomic;
use kernel::sync::{static_lock_class, Arc};
use slots::Slots;

/// How many descriptors are looked at before the lock is let go for others.
const CHUNK: usize = 1024;

/// Lets others run, between two parts of a long work that userspace asked for. `EINTR`: nobody
/// waits for the rest.
fn let_others_run() -> Result {
    crate::host::sched::cond_resched();
    match crate::host::sched::is_dying() {
        true => Err(EINTR),
        false => Ok(()),
    }
}

/// Returns whether cacheable memory that is no RAM (a coherent device's) can be a guest's: it has
/// no address in the kernel by which it could be cleaned or its instructions made visible, so
/// neither may be needed. As in KVM.
pub(crate) fn has_cacheable_pfnmap() -> bool {
    cpu::features().fwb && cpu::features().dic
}

/// The stage-2 tables of a VM, and what of the host's memory is being taken from them.
struct Mmu {
    stage2: S2Mmu,
    invalidate: InvalidateState,
}

/// The memory of a VM.
#[pin_data]
pub(crate) struct GuestMemory {
    #[pin]
    mmu: RwLock<Mmu>,
    #[pin]
    slots: RcuArc<Slots>,
    /// What CPUs need to translate by the tables in `mmu`, for those who do not hold its lock.
    regime: Regime,
    geometry: Geometry,
    /// The VMM's address space.
    mm: ARef<Mm>,
    /// The guest has had memory that is no counted page of RAM, such as a device's: it may be able
    /// to have an access fail as it likes.
    has_uncounted: Atomic<bool>,
    /// How many more pages its memory errors may take out of use.
    reports: Atomic<u32>,
}

/// The most pages that the memory errors of one VM take out of use.
const MAX_REPORTS: u32 = 16;

impl GuestMemory {
    /// Returns the memory of a VM with an IPA space of `ipa_bits` bits and no slots, whose VMM is
    /// the current process.
    ///
    /// Errors: `EINVAL` if the CPU has no such IPA space, `ENOMEM`.
    pub(crate) fn new(ipa_bits: u32) -> Result<Arc<Self>> {
        let geometry = Geometry::new(GRANULE, ipa_bits, cpu::features().pa_bits).map_err(
            |error| match error {
                GeometryError::TooSmall | GeometryError::TooLarge | GeometryError::BadPaBits => {
                    EINVAL
                }
            },
        )?;
        let stage2 = S2Mmu::new(geometry)?;
        let regime = stage2.regime().clone();
        let mm = mm::current()?;
        Arc::pin_init(
            try_pin_init!(Self {
                mmu <- RwLock::new(
                    Mmu { stage2, invalidate: InvalidateState::new() },
                    c"loft::GuestMemory::mmu",
                    static_lock_class!()
                ),
                slots <- RcuArc::new(Slots::new()),
                regime,
                geometry,
                mm,
                has_uncounted: Atomic::new(false),
                reports: Atomic::new(MAX_REPORTS),
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns whether the current thread runs in the VMM's address space.
    pub(crate) fn is_mine(&self) -> bool {
        mm::is_current(&self.mm)
    }

    /// Returns the VMID that the VM has now, with its generation, and the translation under it.
    pub(crate) fn translation(&self) -> (u64, GuestTranslation) {
        self.regime.current()
    }

    /// Returns whether the guest may run under this VMID. Only an answer given with interrupts off
    /// holds until they are on again.
    pub(crate) fn may_run_as(&self, vmid: u64) -> bool {
        self.regime.may_run_as(vmid)
    }

    /// Notes that a vCPU comes to this CPU. Returns whether the CPU may know other VMs'
    /// translations under its VMID, which it has to forget first.
    pub(crate) fn comes_here(&self, preempt: PreemptDisabled<'_>) -> bool {
        self.regime.comes_here(preempt)
    }

    /// Sees that the guest has a VMID of the current generation. May sleep.
    pub(crate) fn renew_vmid(&self) {
        self.regime.renew_vmid();
    }

    /// Returns how often all CPUs were made to forget translations of the guest's.
    pub(crate) fn flushes(&self) -> u64 {
        self.regime.flushes()
    }

    /// Returns the first address that the guest does not have.
    pub(crate) fn end(&self) -> u64 {
        self.geometry.end().raw()
    }

    /// Returns where the VMM has the guest's memory at `ipa`, if there is any, and the guest may
    /// write it where that is wanted.
    pub(crate) fn address(&self, ipa: u64, write: bool) -> Option<usize> {
        let slots = self.slots();
        let slot = slots.find(ipa).filter(|slot| !write || !slot.readonly)?;
        Some(slot.hva.wrapping_add(ipa.wrapping_sub(slot.ipa)) as usize)
    }

    /// Returns whether `ipa` is a device's for the guest: there is no memory, or memory that is
    /// only to be read and `write`.
    pub(crate) fn is_device(&self, preempt: PreemptDisabled<'_>, ipa: u64, write: bool) -> bool {
        self.slots.read_sched(preempt, |slots| {
            slots.find(ipa).is_none_or(|slot| write && slot.readonly)
        })
    }

    /// Returns the slots as they are now.
    pub(crate) fn slots(&self) -> Arc<Slots> {
        self.slots.get()
    }

    /// Makes a guest that starts with its caches off see what the VMM has written through its own.
    pub(crate) fn make_coherent(&self) {
        if !cpu::features().fwb {
            // A page is cleaned when it is mapped (and when it is unmapped).
            self.unmap_all();
        } else if !cpu::features().dic {
            tlb::flush_instructions();
        }
    }

    /// Takes all pages away from the guest, which gets them back as it touches them.
    pub(crate) fn unmap_all(&self) {
        self.unmap(Ipa::new(0)..self.geometry.end(), true);
    }

    fn unmap(&self, range: Range<Ipa>, may_sleep: bool) {
        let mut at = range.start;
        loop {
            let next = self.mmu.write().stage2.unmap(at..range.end, CHUNK);
            match next {
                Some(next) => at = next,
                None => return,
            }
            if may_sleep {
                crate::host::sched::cond_resched();
            }
        }
    }
}
