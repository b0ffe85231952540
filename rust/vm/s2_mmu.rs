// SPDX-License-Identifier: GPL-2.0

//! One stage-2 translation of a VM: its tables, its VMID, and how CPUs are made to use and to forget them.

use super::vmid::Vmid;
use crate::arch::tlb::{self, Translation};
use crate::arch::{cpu, dsb_ishst};
use crate::host::page;
use crate::model::stage2::{
    Coherency, Format, Geometry, Level, Memory, Slot as Entry, Stage2, Table, Tlb, PAGE_SIZE,
};
use crate::model::types::{HostPa, Ipa};
use core::ops::{Deref, DerefMut, Range};
use kernel::prelude::*;
use kernel::sync::Arc;

/// How many descriptors one step of freeing all tables looks at.
const CHUNK: usize = 1024;

/// What a CPU is given to translate by one set of tables, and the platform that the tables live on. Needs no lock.
#[derive(Clone)]
pub(crate) struct Regime {
    vmid: Arc<Vmid>,
    /// Under no VMID yet.
    translation: Translation,
}

impl Regime {
    /// Returns the VMID of now, with its generation, and the translation under it.
    pub(crate) fn current(&self) -> (u64, Translation) {
        let vmid = self.vmid.load();
        (vmid, self.translation.with_vmid(Vmid::number(vmid)))
    }

    /// Returns the translation that a TLB flush after a change of the tables has to be about. The VMID is read after the
    /// change is visible: whoever gets another VMID later walks the tables as they are now.
    fn for_flush(&self) -> Translation {
        dsb_ishst();
        self.current().1
    }

    /// Returns whether a vCPU may run under this VMID. Only an answer given with interrupts off holds until they are on again.
    pub(crate) fn may_run_as(&self, vmid: u64) -> bool {
        self.vmid.may_run_as(vmid)
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

impl Memory for Regime {
    fn load(&self, entry: Entry) -> u64 {
        page::load(entry)
    }
    fn cmpxchg(&self, entry: Entry, old: u64, new: u64) -> Result<(), u64> {
        page::cmpxchg(entry, old, new)
    }
    fn store(&self, entry: Entry, new: u64) {
        page::store(entry, new);
    }
    fn free(&self, table: Table) {
        page::free_tables(table, PAGE_SIZE);
    }
}

/// From here on, one invalidation of everything is quicker than one for each granule.
const FLUSH_ALL_FROM: u64 = 512;

impl Tlb for Regime {
    fn publish(&self) {
        dsb_ishst();
    }
    fn flush(&self, stale: Range<Ipa>, leaf: Option<Level>) {
        self.vmid.note_flush();
        let shift = leaf.map_or(Level::L3.shift(), Level::shift);
        let count = stale.end.raw().wrapping_sub(stale.start.raw()) >> shift;
        if count >= FLUSH_ALL_FROM {
            tlb::flush_all(self.for_flush());
        } else {
            tlb::flush_ipas(self.for_flush(), stale.start.raw(), count.max(1), shift);
        }
    }
    fn flush_local(&self, ipa: Ipa, level: Level) {
        // Broadcast is more than is asked for, and right.
        tlb::flush_ipas(
            self.for_flush(),
            ipa.align_down(level.size()).raw(),
            1,
            level.shift(),
        );
    }
}

impl Coherency for Regime {
    fn before_data(&self, pa: HostPa, size: u64) {
        if !cpu::features().fwb {
            page::clean_to_poc(pa, size);
        }
    }
    fn before_exec(&self, pa: HostPa, size: u64) {
        if !cpu::features().dic {
            page::sync_instructions(pa, size);
        }
    }
    fn after_data(&self, pa: HostPa, size: u64) {
        page::clean_to_poc(pa, size);
    }
}
/// The tables of one translation. They are empty, and given back, when this is dropped.
pub(crate) struct S2Mmu {
    stage2: Stage2<Regime>,
}

impl S2Mmu {
    /// Returns an empty translation. May sleep. Errors: `ENOMEM`.
    pub(crate) fn new(geometry: Geometry) -> Result<Self> {
        let vmid = Arc::new(Vmid::new(), GFP_KERNEL_ACCOUNT)?;
        let root = page::alloc_tables(geometry.root_size())?;
        let regime = Regime {
            vmid,
            translation: Translation::new(root, &geometry),
        };
        let format = Format {
            fwb: cpu::features().fwb,
        };
        match Stage2::new(regime, geometry, root, format) {
            Some(stage2) => Ok(Self { stage2 }),
            None => {
                page::free_tables(root, geometry.root_size());
                Err(ENOMEM)
            }
        }
    }

    /// Returns what CPUs need to translate by these tables.
    pub(crate) fn regime(&self) -> &Regime {
        self.stage2.platform()
    }
}

impl Deref for S2Mmu {
    type Target = Stage2<Regime>;

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
        let geometry = *self.stage2.geometry();
        let mut next = Some(Ipa::new(0));
        while let Some(at) = next {
            next = self.stage2.unmap(at..geometry.end(), CHUNK);
        }
        page::free_tables(self.stage2.root(), geometry.root_size());
    }
}
