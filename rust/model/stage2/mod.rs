// SPDX-License-Identifier: GPL-2.0

//! Stage-2 translation tables: what a guest takes for physical memory, and where it really is.
//!
//! Section names below are those of the Arm ARM, DDI 0487.
//!
//! # The problem
//!
//! The tables are read by three kinds of readers at once: vCPU threads that handle faults, the
//! host's memory management that takes pages away, and the table walkers of all CPUs, which take no
//! lock, read whenever they like (speculatively too), and keep what they have read in TLBs until
//! told otherwise. Software must never let the second kind believe that a page is free while the
//! third still reaches it, and must never put a descriptor where a TLB may hold another one for the
//! same address: two entries for one address are a TLB conflict, and the CPU may then use either,
//! or a mixture, for memory that belongs to someone else.
//!
//! # Locks
//!
//! One reader-writer lock per VM, which is Rust's own rule for references: methods that take
//! `&self` run under the shared lock, those that take `&mut self` under the exclusive one.
//!
//! - Shared: faults ([`map`](Stage2::map), [`make_young`](Stage2::make_young)), ageing, looking.
//!   vCPUs that fault at once, at boot all the time, do not wait for each other.
//! - Exclusive: what takes something away ([`unmap`](Stage2::unmap),
//!   [`write_protect`](Stage2::write_protect)), the tables that become empty included.
//!
//! So **under the shared lock no table is freed or unlinked**. A table that was reached once may be
//! used until the lock is dropped; there is no reference count and no RCU. The compiler checks
//! that: see [`TableMemory`], which owns the tables.
//!
//! # The life of a descriptor
//!
//! ```text
//!                    cmpxchg                        cmpxchg
//!   empty ---------------------------> table         ,----.  permissions added, access flag
//!     |                                  ^           |    v
//!     | cmpxchg               store      |   store    `- leaf
//!     +------------> LOCKED -------------+------------> |
//!                      ^    only the locker may go on   |
//!                      `---------------------------------'
//!                            cmpxchg, then TLB flush
//! ```
//!
//! and under the exclusive lock any of them back to empty, then a TLB flush, then whatever was
//! there is free.
//!
//! - Every step under the shared lock starts with a cmpxchg from the value that the decision was
//!   made on. Who loses looks again. So of two vCPUs that need the same table one links it, and the
//!   other uses it.
//! - `LOCKED` is an invalid descriptor: walkers fault on it, which brings their vCPU here, where it
//!   is told [`MapError::Busy`] and tries again by running the guest. The locker holds the shared
//!   lock all the while, with preemption off, does a bounded amount of work, and never gives up
//!   halfway: what can fail (taking a table from the pool) is done before. So under the exclusive
//!   lock nothing is locked.
//! - A leaf that is already there and allows what is wanted is a success: another vCPU was quicker,
//!   or a CPU's TLB was old.
//!
//! # Break-before-make
//!
//! "Using break-before-make when updating translation table entries" (D8.16.1 in issue K.a) asks
//! for an invalid descriptor, a TLB invalidation and a DSB in between when a valid one changes its
//! output address, its memory type or cacheability, its size (block to table, table to block), or
//! its shareability. That is:
//!
//! | change | where | how |
//! |---|---|---|
//! | block to table | `map` | `LOCKED`, flush of the block, store |
//! | other output or type | `map` | `LOCKED`, flush of the leaf, store |
//! | table to block | `unmap`, `map` | exclusive: empty, flush of all below; then shared |
//! | unmap | `unmap` | exclusive: empty, flush |
//!
//! What it does not ask it for is done in place: permissions and the access flag. Adding a
//! permission is a cmpxchg; CPUs that have the old entry fault once, find that there is nothing to
//! do, and drop the entry, each its own ([`Tlb::flush_local`]). That is why `map` does so even
//! where it changes nothing: unlike one that would fault for translation or access flag, an entry
//! that faults for permissions may be cached, and would fault for ever. Taking a permission away is
//! a cmpxchg and a flush of all CPUs, before the lock's holder relies on it.
//!
//! FEAT_BBM would allow block to table in place at level 2 of the feature. It is not relied on: the
//! sequences above are right on every CPU, and splits are not frequent enough to deserve a second
//! path that no emulator tests.
//!
//! # The access flag
//!
//! Cleared by [`age`](Stage2::age), set by a fault or, with VTCR_EL2.HA, by the CPU. That makes the
//! CPU a writer too, so whatever must not lose its update is a cmpxchg under the exclusive lock as
//! well. Unmapping may lose it. VTCR_EL2.HD, the hardware's dirty state, must stay clear: it writes
//! permissions, which here only software does.
//!
//! # Ordering
//!
//! - A table's zeroes, or the parts of a split block, are written before the descriptor that links
//!   it, a release; a reader that follows it does so through an acquire. A walker's second access
//!   depends on the address from its first.
//! - A new valid descriptor needs [`Tlb::publish`] (DSB ISHST): the walkers need not see it before
//!   ("Ordering and observation of translation table walks"). That it comes after the store and not
//!   before means at worst one more fault.
//! - Removal: store, DSB, TLBI, DSB, all in [`Tlb::flush`], and only then is memory given back. The
//!   last DSB also waits for accesses that are under way by the old translation.
//! - Tables that were unlinked are flushed with the form that drops table descriptors as well,
//!   without a level hint, and freed after it; see [`Stale`].
//!
//! # One flush per call
//!
//! A stage-2 TLBI cannot name entries that combine both stages ("Invalidation of TLB entries from
//! stage 2 translations"): each sequence ends in dropping all of the guest's stage-1 entries. So
//! the number of sequences is what counts, and each call makes one, over the hull of what it
//! changed; two without FEAT_S2FWB, where the host's caches must be cleaned between making the
//! leaves invalid and forgetting where they led. Tables that were unlinked wait for the flush
//! ([`TableMemory::Unlinked`]). Calls are bounded, and say where to go on.
//!
//! # Rejected
//!
//! - A reference count per table, as KVM has: a second atomic operation per fault, on a line all
//!   vCPUs share. Tables are searched when something in them was unmapped; the search nearly always
//!   ends at its first look.
//! - RCU and freeing tables under the shared lock: faster unmaps in parallel with faults, for much
//!   more to prove.
//! - Splitting blocks on unmap: needs memory in a notifier that may not sleep. The block goes, and
//!   faults in again.
//! - Replacing a table by a block under the shared lock: the subtree may be in use by other vCPUs.
//!   It is the caller's choice.
//! - The Contiguous bit: changing one of 16 entries means break-before-make for all 16.
//! - Recursion over levels: the kernel's stack is small, and four levels are a loop.
//!
//! # Not known
//!
//! No Arm silicon was there to try. Whether dropping one address is enough to forget an empty
//! table's descriptor ([`Stale`]) is read from the TLBI's description ("from any level of the
//! translation table walk") and from the practice of Linux, whose page tables are freed on the same
//! terms.

mod age;
mod attributes;
mod bbm;
mod descriptor;
mod geometry;
mod level;
mod map;
mod platform;
mod protect;
mod stale;
mod unmap;
mod visit;
mod walk;

pub use age::{Age, Aged};
pub use attributes::{Attributes, Leaf, MemType, Perm};
pub use descriptor::Format;
pub use geometry::{Geometry, GeometryError, MAX_ADDRESS_BITS, MIN_IPA_BITS};
pub use level::{Granule, Level};
pub use map::{MapError, Mapped, Mapping};
pub use platform::{
    Coherency, DescriptorAddr, Flushed, Platform, TableAddr, TableMemory, TablePool, Tlb,
};
pub use stale::Stale;

/// The stage-2 translation of one VM.
///
/// Lives in a reader-writer lock: what takes `&self` runs under the shared lock, by several vCPUs
/// at once; what takes `&mut self` runs alone.
///
/// # Invariants
///
/// Under the exclusive lock no descriptor is locked, and outside of one call none is dead. Which
/// table is linked where is [`TableMemory`]'s to keep.
pub struct Stage2<P> {
    platform: P,
    geometry: Geometry,
    format: Format,
}

impl<P: Platform> Stage2<P> {
    /// Returns the translation by the tables of `platform`, which are those of an empty one: a root
    /// of zeroes.
    pub fn new(platform: P, geometry: Geometry, format: Format) -> Self {
        debug_assert!(geometry.granule() == P::GRANULE, "another size of page");
        Self {
            platform,
            geometry,
            format,
        }
    }

    /// Returns the shape of the translation.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns the machine that the tables live on.
    pub fn platform(&self) -> &P {
        &self.platform
    }
}
