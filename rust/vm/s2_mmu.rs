// SPDX-License-Identifier: GPL-2.0

//! One stage-2 translation of a VM: its tables, its VMID, and how CPUs are made to use and to
//! forget them.

use super::vmid::Vmid;
use crate::arch::tlb::{self, GuestTranslation};
use crate::arch::{cache, cpu, dsb_ishst};
use crate::host::page::{Tables, GRANULE};
use crate::host::preempt::PreemptDisabled;
use crate::model::stage2::{
    Coherency, DescriptorAddr, Flushed, Format, Geometry, Granule, Level, Stage2, TableMemory, Tlb,
};
use crate::model::types::{HostPa, Ipa};
use core::ops::{Deref, DerefMut, Range};
use kernel::prelude::*;
use kernel::sync::Arc;

/// How many descriptors one step of freeing all tables looks at.
const CHUNK: usize = 1024;

/// What a CPU is given to translate by one set of tables. Needs no lock.
#[derive(Clone)]
pub(crate) struct Regime {
    vmid: Arc<Vmid>,
    /// Under no VMID yet.
    translation: GuestTranslation,
}

impl Regime {
    /// Returns the VMID of now, with its generation, and the translation under it.
    pub(crate) fn current(&self) -> (u64, GuestTranslation) {
        let vmid = self.vmid.load();
        (vmid, self.translation.with_vmid(Vmid::number(vmid)))
    }

    /// Returns the translation that a TLB flush after a change of the tables has to be about. The
    /// VMID is read after the change is visible: whoever gets another VMID later walks the tables
    /// as they are now.
    fn for_flush(&self) -> GuestTranslation {
        dsb_ishst();
        self.current().1
    }

    /// Returns whether a vCPU may run under this VMID. Only an answer given with interrupts off
    /// holds until they are on again.
    pub(crate) fn may_run_as(&self, vmid: u64) -> bool {
        self.vmid.may_run_as(vmid)
    }

    /// Notes that a vCPU comes to this CPU. Returns whether the CPU may know other VMs'
    /// translations under its VMID, which it has to forget first.
    pub(crate) fn comes_here(&self, preempt: PreemptDisabled<'_>) -> bool {
        self.vmid.comes_here(preempt)
    }

    /// Sees that there is a VMID of the current generation. May sleep.
    pub(crate) fn renew_vmid(&self) {
        self.vmid.renew();
    }

    /// Returns how often all CPUs were made to forget translations of these tables.
    pub(crate) fn flushes(&self) -> u64 {
        self.vmid.flushes()
    }
}

/// The machine under the tables: their memory, the TLBs and the caches.
pub(crate) struct Stage2Platform {
    tables: Tables,
    regime: Regime,
}

impl TableMemory for Stage2Platform {
    const GRANULE: Granule = Tables::GRANULE;

    type Table = <Tables as TableMemory>::Table;
    type Unlinked = <Tables as TableMemory>::Unlinked;
    type Linked<'a> = <Tables as TableMemory>::Linked<'a>;

    #[inline]
    fn root(&self) -> Self::Linked<'_> {
        self.tables.root()
    }
    #[inline]
    fn load<'a>(&'a self, at: DescriptorAddr<Self::Linked<'a>>) -> (u64, Option<Self::Linked<'a>>) {
        self.tables.load(at)
    }
    #[inline]
    fn cmpxchg<'a>(
        &'a self,
        at: DescriptorAddr<Self::Linked<'a>>,
        old: u64,
        new: u64,
    ) -> core::result::Result<(), u64> {
        self.tables.cmpxchg(at, old, new)
    }
    #[inline]
    fn store<'a>(&'a self, at: DescriptorAddr<Self::Linked<'a>>, new: u64) {
        self.tables.store(at, new);
    }
    fn link<'a>(
        &'a self,
        at: DescriptorAddr<Self::Linked<'a>>,
        old: u64,
        table: Self::Table,
    ) -> core::result::Result<(), Self::Table> {
        self.tables.link(at, old, table)
    }
    fn link_parts<'a>(
        &'a self,
        at: DescriptorAddr<Self::Linked<'a>>,
        old: u64,
        table: Self::Table,
        part: impl FnMut(u16) -> u64,
    ) -> bool {
        self.tables.link_parts(at, old, table, part)
    }
    fn unlink(&mut self, path: impl Iterator<Item = u16>, unlinked: &mut Self::Unlinked) {
        self.tables.unlink(path, unlinked);
    }
    fn free(&self, unlinked: Self::Unlinked, flushed: Flushed) {
        self.tables.free(unlinked, flushed);
    }
}

/// From here on, one invalidation of everything is quicker than one for each granule.
const FLUSH_ALL_FROM: u64 = 512;

impl Tlb for Stage2Platform {
    fn publish(&self) {
        dsb_ishst();
    }
    fn flush(&self, stale: Range<Ipa>, leaf: Option<Level>) {
        self.regime.vmid.note_flush();
        let shift = GRANULE.shift(leaf.unwrap_or(Level::L3));
        let count = stale.end.raw().wrapping_sub(stale.start.raw()) >> shift;
        if count >= FLUSH_ALL_FROM {
            tlb::flush_all(self.regime.for_flush());
        } else {
            tlb::flush_ipas(
                self.regime.for_flush(),
                stale.start.raw(),
                count.max(1),
                shift,
            );
        }
    }
    fn flush_local(&self, ipa: Ipa, level: Level) {
        // Broadcast is more than is asked for, and right.
        tlb::flush_ipas(
            self.regime.for_flush(),
            ipa.align_down(GRANULE.size(level)).raw(),
            1,
            GRANULE.shift(level),
        );
    }
}

impl Coherency for Stage2Platform {
    fn before_data(&self, pa: HostPa, size: u64) {
        if !cpu::features().fwb {
            cache::clean_invalidate_to_poc(pa, size);
        }
    }
    fn before_exec(&self, pa: HostPa, size: u64) {
        if !cpu::features().dic {
            cache::sync_instructions(pa, size);
        }
    }
    fn after_data(&self, pa: HostPa, size: u64) {
        cache::clean_invalidate_to_poc(pa, size);
    }
}
/// The tables of one translation. They are empty, and given back, when this is dropped.
pub(crate) struct S2Mmu {
    stage2: Stage2<Stage2Platform>,
}

impl S2Mmu {
    /// Returns an empty translation. May sleep. Errors: `ENOMEM`.
    pub(crate) fn new(geometry: Geometry) -> Result<Self> {
        let vmid = Arc::new(Vmid::new(), GFP_KERNEL_ACCOUNT)?;
        let tables = Tables::new(&geometry)?;
        let regime = Regime {
            vmid,
            translation: GuestTranslation::new(&tables, &geometry),
        };
        let format = Format {
            fwb: cpu::features().fwb,
        };
        let platform = Stage2Platform { tables, regime };
        Ok(Self {
            stage2: Stage2::new(platform, geometry, format),
        })
    }

    /// Returns what CPUs need to translate by these tables.
    pub(crate) fn regime(&self) -> &Regime {
        &self.stage2.platform().regime
    }
}

impl Deref for S2Mmu {
    type Target = Stage2<Stage2Platform>;

    fn deref(&self) -> &Self::Target {
        &self.stage2
    }
}

impl DerefMut for S2Mmu {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.stage2
    }
}

impl Drop for S2Mmu {
    fn drop(&mut self) {
        // The root goes with the platform. What is linked below would leak.
        let end = self.stage2.geometry().end();
        let mut next = Some(Ipa::new(0));
        while let Some(at) = next {
            next = self.stage2.unmap(at..end, CHUNK);
        }
    }
}
