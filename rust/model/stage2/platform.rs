// SPDX-License-Identifier: GPL-2.0

//! What the tables need from the machine that they live on: memory, TLB maintenance, cache
//! maintenance.
//!
//! In the module these are a few instructions each; in the tests they are a fake machine that
//! checks the rules.

use super::level::{Granule, Level};
use crate::model::types::{HostPa, Ipa};
use core::ops::Range;

/// The physical address of a translation table: aligned to a page, below 2^48. An address only: it
/// gives no access to the table, and does not keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableAddr(HostPa);

impl TableAddr {
    /// Returns the address `pa`, or `None` if no table can be there.
    pub const fn new(granule: Granule, pa: HostPa) -> Option<Self> {
        if pa.is_aligned(granule.page_size()) && pa.raw() >> super::geometry::MAX_ADDRESS_BITS == 0
        {
            Some(Self(pa))
        } else {
            None
        }
    }

    /// Returns the address as a number.
    pub const fn pa(self) -> HostPa {
        self.0
    }

    /// Returns the address in the output field of a descriptor, which cannot hold anything else.
    pub(super) const fn from_output(pa: HostPa) -> Self {
        Self(pa)
    }
}

/// Where a descriptor is: the `index`th of `table`, which is a [`TableMemory::Linked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorAddr<T> {
    /// The table. For the root, the tables that lie side by side there are one.
    pub table: T,
    /// Which of the table's descriptors.
    pub index: u16,
}

impl<T: Copy> DescriptorAddr<T> {
    /// Returns the next descriptor of the same table, also where several tables are the root.
    pub(super) const fn following(self, granule: Granule) -> Option<Self> {
        let index = self.index.wrapping_add(1);
        if index & granule.entries().wrapping_sub(1) == 0 {
            return None;
        }
        Some(Self { index, ..self })
    }
}

/// The memory that holds the tables of one translation, and who owns which table.
///
/// A table belongs to whoever has its [`Table`](Self::Table), until [`link`](Self::link) gives it
/// to the descriptor that leads to it. From there [`unlink`](Self::unlink) moves it to an
/// [`Unlinked`](Self::Unlinked), and [`free`](Self::free) ends it. Linked tables are reached from
/// the root only, by references that borrow this: under a shared borrow they may be followed and
/// more tables linked; to unlink one takes an exclusive borrow, so nobody has a reference to it any
/// more. So no order of calls makes software use a table that is freed. That the table *walkers* do
/// not is up to whoever calls `free`.
///
/// Every access to a descriptor is one single-copy-atomic 64-bit access.
pub trait TableMemory {
    /// The size of pages and tables.
    const GRANULE: Granule;

    /// A table that its owner alone reaches: descriptors of zero.
    type Table;

    /// Tables that were unlinked, which CPUs may still be walking. They leak if this is dropped.
    type Unlinked: Default;

    /// A table that is linked, or the root.
    type Linked<'a>: Copy
    where
        Self: 'a;

    /// Returns the root.
    fn root(&self) -> Self::Linked<'_>;

    /// Reads a descriptor, and returns the table that it leads to, if it does
    /// ([`Format::next_table`](super::Format::next_table)).
    ///
    /// Acquire ordering: what was written to that table before it was linked is seen too.
    fn load<'a>(&'a self, at: DescriptorAddr<Self::Linked<'a>>) -> (u64, Option<Self::Linked<'a>>);

    /// Writes `new`, which leads to no table, if the descriptor is `old`, with acquire and release
    /// ordering.
    ///
    /// Errors: what was there instead.
    fn cmpxchg<'a>(
        &'a self,
        at: DescriptorAddr<Self::Linked<'a>>,
        old: u64,
        new: u64,
    ) -> Result<(), u64>;

    /// Writes a descriptor that leads to no table, in place of another such, with release ordering.
    fn store<'a>(&'a self, at: DescriptorAddr<Self::Linked<'a>>, new: u64);

    /// Makes the descriptor lead to `table` if it is `old`, which leads to no table, with acquire
    /// and release ordering.
    ///
    /// Errors: the table, if the descriptor is another one.
    fn link<'a>(
        &'a self,
        at: DescriptorAddr<Self::Linked<'a>>,
        old: u64,
        table: Self::Table,
    ) -> Result<(), Self::Table>;

    /// Does as [`Self::link`], but of the table's descriptors each becomes what `part` returns for
    /// its index, and leads to no table.
    ///
    /// Returns whether the descriptor was `old`; if not, the table is freed.
    fn link_parts<'a>(
        &'a self,
        at: DescriptorAddr<Self::Linked<'a>>,
        old: u64,
        table: Self::Table,
        part: impl FnMut(u16) -> u64,
    ) -> bool;

    /// Clears the descriptor at the end of `path`, the indices from the root on, and adds the table
    /// that it led to to `unlinked`. Does nothing if it leads to none. Tables that are linked in
    /// that table leak.
    fn unlink(&mut self, path: impl Iterator<Item = u16>, unlinked: &mut Self::Unlinked);

    /// Frees tables. No CPU walks them any more: they were unlinked before `flushed` was made.
    fn free(&self, unlinked: Self::Unlinked, flushed: Flushed);
}

/// Proves that all CPUs have forgotten what a [`Stale`](super::Stale) was told of: no walk is in
/// the tables that were unlinked for it, and none will be.
pub struct Flushed(pub(super) ());

/// Tables that were allocated before the lock was taken: under the lock nothing allocates.
pub trait TablePool<T> {
    /// Takes a table, if there is one left.
    fn take(&mut self) -> Option<T>;

    /// Puts back a table that was taken. There is room: it came from here.
    fn put(&mut self, table: T);
}

/// TLB maintenance for the VMID of these tables.
pub trait Tlb {
    /// Makes descriptors that became valid visible to the table walkers of all CPUs: `DSB ISHST`.
    ///
    /// Without it, a walk may still see the invalid descriptor and the guest faults once more for
    /// nothing.
    fn publish(&self);

    /// Forgets, on all CPUs, every cached copy of a descriptor that translates an address in
    /// `stale`, the table descriptors on the way to it included, and returns when no CPU uses them
    /// any more.
    ///
    /// `stale` is page aligned and not empty. With `leaf`, only block or page descriptors of that
    /// level have changed, in all of `stale`, which is then aligned to that level: the TTL hint may
    /// say so, and TLBI IPAS2LE1IS is enough. Without it there must be no hint, and it must be the
    /// form that also drops table descriptors, TLBI IPAS2E1IS.
    ///
    /// The sequence (DDI 0487, "Invalidation of TLB entries from stage 2 translations"), with
    /// VTTBR_EL2 of this VMID:
    ///
    /// 1. `DSB ISHST`: the descriptors' new values are visible to all walkers;
    /// 2. `TLBI IPAS2E1IS` or `RIPAS2E1IS` over the range;
    /// 3. `DSB ISH`: else a walk could refill a combined entry from the old stage 2 after step 4;
    /// 4. `TLBI VMALLE1IS`: combined stage 1 and 2 entries are found by VA only, and the VA is not
    ///    known;
    /// 5. `DSB ISH`, `ISB`.
    ///
    /// `TLBI VMALLS12E1IS` in place of 2 to 4 is always right, and quicker than very many single
    /// ones.
    fn flush(&self, stale: Range<Ipa>, leaf: Option<Level>);

    /// Does as [`Self::flush`] for the one leaf of `level` at `ipa`, on this CPU only: TLBI
    /// IPAS2E1, VMALLE1, with non-shareable DSBs.
    ///
    /// For permissions that were added. Another CPU that still has the old entry faults, comes to
    /// [`map`](super::Stage2::map), and forgets it then.
    fn flush_local(&self, ipa: Ipa, level: Level);
}

/// Cache maintenance for the memory that a guest is given. All of it does nothing where the CPU
/// does not need it.
pub trait Coherency {
    /// Prepares `size` bytes from `pa` that a guest is about to be able to reach through a new
    /// Normal cacheable mapping.
    ///
    /// Without FEAT_S2FWB a guest whose MMU is off, or who maps it non-cacheable, goes past the
    /// caches: clean and invalidate to the point of coherency.
    fn before_data(&self, pa: HostPa, size: u64);

    /// Prepares these bytes, which a guest is about to be able to execute from.
    ///
    /// Without CTR_EL0.DIC, invalidate the instruction caches; without IDC, clean the data caches
    /// to the point of unification first. A VIPT instruction cache needs `IC IALLUIS`: the guest's
    /// virtual address is not known.
    fn before_exec(&self, pa: HostPa, size: u64);

    /// Takes care of these bytes, which no CPU can reach through these tables any more; they were
    /// mapped Normal cacheable.
    ///
    /// Called only where [`Format::fwb`](super::Format) is off. What the guest wrote past the
    /// caches must not be hidden by a line that the host's caches fetched before: clean and
    /// invalidate to the point of coherency.
    fn after_data(&self, pa: HostPa, size: u64);
}

/// All of it.
pub trait Platform: TableMemory + Tlb + Coherency {}

impl<T: TableMemory + Tlb + Coherency> Platform for T {}
