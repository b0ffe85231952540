// SPDX-License-Identifier: GPL-2.0

//! What the tables need from the machine that they live on: memory, TLB maintenance, cache maintenance.
//!
//! In the module these are a few instructions each; in the tests they are a fake machine that checks the rules.

use super::level::{Level, ENTRIES, PAGE_SIZE};
use crate::model::types::{HostPa, Ipa};
use core::ops::Range;

/// The physical address of a translation table: 512 descriptors, 4 KiB aligned, below 2^48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(HostPa);

impl Table {
    /// The table at `pa`; `None` if no table can be there.
    pub const fn new(pa: HostPa) -> Option<Self> {
        if pa.is_aligned(PAGE_SIZE) && pa.raw() >> super::geometry::MAX_ADDRESS_BITS == 0 {
            Some(Self(pa))
        } else {
            None
        }
    }

    /// Where it is.
    pub const fn pa(self) -> HostPa {
        self.0
    }

    /// The `n`th of the tables that lie side by side from here.
    pub(super) const fn nth(self, n: u64) -> Self {
        Self(self.0.wrapping_add(n.wrapping_mul(PAGE_SIZE)))
    }

    /// From the output field of a descriptor, which cannot hold anything else.
    pub(super) const fn from_output(pa: HostPa) -> Self {
        Self(pa)
    }
}

/// Where a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    table: Table,
    index: u16,
}

impl Slot {
    /// Descriptor `index`, modulo 512, of `table`.
    pub const fn new(table: Table, index: u16) -> Self {
        Self {
            table,
            index: index & (ENTRIES - 1),
        }
    }

    /// The table.
    pub const fn table(self) -> Table {
        self.table
    }

    /// Which of the table's descriptors, below 512.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The descriptor's physical address, 8-byte aligned.
    pub const fn pa(self) -> HostPa {
        self.table.pa().wrapping_add((self.index as u64) << 3)
    }

    /// The descriptor after this one in the same table.
    pub(super) const fn following(self) -> Option<Self> {
        if self.index < ENTRIES - 1 {
            Some(Self {
                table: self.table,
                index: self.index.wrapping_add(1),
            })
        } else {
            None
        }
    }
}

/// The memory that holds the tables. Every access is one single-copy-atomic 64-bit access.
pub trait Memory {
    /// Reads a descriptor, with acquire ordering: what was written to the table that it points at is seen too.
    fn load(&self, slot: Slot) -> u64;

    /// Writes `new` if the descriptor is `old`, with acquire and release ordering; `Err` has what was there instead.
    fn cmpxchg(&self, slot: Slot, old: u64, new: u64) -> Result<(), u64>;

    /// Writes a descriptor, with release ordering.
    fn store(&self, slot: Slot, new: u64);

    /// Gives back a table that [`Cache::take`] gave. No CPU can reach it any more; its contents are arbitrary.
    fn free(&self, table: Table);
}

/// Tables that were allocated before the lock was taken: under the lock nothing allocates.
pub trait Cache {
    /// A table of 512 zeroes, or `None` if there is none left.
    fn take(&mut self) -> Option<Table>;

    /// Gives back a table that was taken and is still zeroed. There is room: it came from here.
    fn put(&mut self, table: Table);
}

/// TLB maintenance for the VMID of these tables.
pub trait Tlb {
    /// Makes descriptors that became valid visible to the table walkers of all CPUs: `DSB ISHST`.
    ///
    /// Without it, a walk may still see the invalid descriptor and the guest faults once more for nothing.
    fn publish(&self);

    /// Forgets, on all CPUs, every cached copy of a descriptor that translates an address in `stale`, the table
    /// descriptors on the way to it included, and returns when no CPU uses them any more.
    ///
    /// `stale` is page aligned and not empty. With `leaf`, only block or page descriptors of that level have changed, in
    /// all of `stale`, which is then aligned to that level: the TTL hint may say so, and TLBI IPAS2LE1IS is enough.
    /// Without it there must be no hint, and it must be the form that also drops table descriptors, TLBI IPAS2E1IS.
    ///
    /// The sequence (DDI 0487, "Invalidation of TLB entries from stage 2 translations"), with VTTBR_EL2 of this VMID:
    ///
    /// 1. `DSB ISHST`: the descriptors' new values are visible to all walkers;
    /// 2. `TLBI IPAS2E1IS` or `RIPAS2E1IS` over the range;
    /// 3. `DSB ISH`: else a walk could refill a combined entry from the old stage 2 after step 4;
    /// 4. `TLBI VMALLE1IS`: combined stage 1 and 2 entries are found by VA only, and the VA is not known;
    /// 5. `DSB ISH`, `ISB`.
    ///
    /// `TLBI VMALLS12E1IS` in place of 2 to 4 is always right, and quicker than very many single ones.
    fn flush(&self, stale: Range<Ipa>, leaf: Option<Level>);

    /// The same for the one leaf of `level` at `ipa`, on this CPU only: TLBI IPAS2E1, VMALLE1, with non-shareable DSBs.
    ///
    /// For permissions that were added. Another CPU that still has the old entry faults, comes to
    /// [`map`](super::Stage2::map), and forgets it then.
    fn flush_local(&self, ipa: Ipa, level: Level);
}

/// Cache maintenance for the memory that a guest is given. All of it does nothing where the CPU does not need it.
pub trait Coherency {
    /// A guest is about to be able to reach `size` bytes from `pa` through a new Normal cacheable mapping.
    ///
    /// Without FEAT_S2FWB a guest whose MMU is off, or who maps it non-cacheable, goes past the caches: clean and
    /// invalidate to the point of coherency.
    fn before_data(&self, pa: HostPa, size: u64);

    /// A guest is about to be able to execute from these bytes.
    ///
    /// Without CTR_EL0.DIC, invalidate the instruction caches; without IDC, clean the data caches to the point of
    /// unification first. A VIPT instruction cache needs `IC IALLUIS`: the guest's virtual address is not known.
    fn before_exec(&self, pa: HostPa, size: u64);

    /// No CPU can reach these bytes through these tables any more; they were mapped Normal cacheable.
    ///
    /// Called only where [`Format::fwb`](super::Format) is off. What the guest wrote past the caches must not be hidden by a
    /// line that the host's caches fetched before: clean and invalidate to the point of coherency.
    fn after_data(&self, pa: HostPa, size: u64);
}

/// All of it.
pub trait Platform: Memory + Tlb + Coherency {}

impl<T: Memory + Tlb + Coherency> Platform for T {}
