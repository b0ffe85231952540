// SPDX-License-Identifier: GPL-2.0

//! Pages of the host's memory that hold stage-2 translation tables.
//!
//! C header: [`include/linux/gfp.h`](srctree/include/linux/gfp.h)
//!
//! No order of calls of what is safe here makes software use a table that is freed, or free it
//! twice: that is checked by ownership and borrows, as [`TableMemory`] says, and by looking at what
//! is written: only [`Tables::link`] and [`Tables::link_parts`] make a descriptor lead to a table,
//! and they take the table for it.
//!
//! # Examples
//!
//! ```
//! let mut tables = Tables::new(&geometry)?;
//! let table = Table::new()?;
//! // Under the lock of the VM's stage 2; nothing allocates.
//! tables.link(at, INVALID, table)?;
//! tables.unlink(path, &mut unlinked);
//! tables.free(unlinked, stale.flush(&tlb));
//! ```

use super::bug::warn_on_once;
use super::ffi;
use crate::model::stage2::{
    DescriptorAddr, Flushed, Format, Geometry, Granule, Level, TableAddr, TableMemory,
};
use crate::model::types::HostPa;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::prelude::*;

/// The granule of stage 2: its pages are those of the host.
pub(crate) const GRANULE: Granule = match kernel::page::PAGE_SHIFT {
    14 => Granule::K16,
    16 => Granule::K64,
    _ => Granule::K4,
};

/// Bytes in a page.
pub(crate) const PAGE_SIZE: u64 = GRANULE.page_size();

const _: () = assert!(PAGE_SIZE == kernel::page::PAGE_SIZE as u64);

/// Descriptors in a page.
const DESCRIPTORS: usize = GRANULE.entries() as usize;

/// Returns the kernel's address of a page.
///
/// # Safety
///
/// `page` is allocated and not highmem; arm64 has none.
pub(crate) unsafe fn address_of(page: *mut kernel::bindings::page) -> *mut u8 {
    // SAFETY: By the requirement the page is in the linear map.
    unsafe { ffi::loft_phys_to_virt(ffi::loft_page_to_phys(page)).cast() }
}

/// A block of pages for tables.
///
/// # Invariants
///
/// `addr` is that of `1 << order` contiguous pages, aligned to their size, that this owns. The
/// kernel accesses them as `AtomicU64`s only.
struct Pages {
    addr: TableAddr,
    order: u32,
}

impl Pages {
    /// Allocates `1 << order` zeroed pages, charged to the current process. May sleep. Errors:
    /// `ENOMEM`, also where the only memory left is beyond what stage 2 can address.
    fn new(order: u32) -> Result<Self> {
        let flags = kernel::bindings::GFP_KERNEL_ACCOUNT | kernel::bindings::__GFP_ZERO;
        // SAFETY: May sleep: called in process context without spin locks.
        let page = unsafe { kernel::bindings::alloc_pages_noprof(flags, order) };
        if page.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The page was just allocated.
        let pa = unsafe { ffi::loft_page_to_phys(page) };
        match TableAddr::new(GRANULE, HostPa::new(pa)) {
            // INVARIANT: Just allocated; the page allocator aligns blocks to their size.
            Some(addr) => Ok(Self { addr, order }),
            None => {
                // SAFETY: Allocated above with this order.
                unsafe { kernel::bindings::__free_pages(page, order) };
                Err(ENOMEM)
            }
        }
    }

    /// Leaves the pages to whoever has the address from now on.
    fn into_addr(self) -> TableAddr {
        ManuallyDrop::new(self).addr
    }

    /// Takes back one page that was left to `addr`.
    ///
    /// # Safety
    ///
    /// It is what `into_addr` returned for one page, which nobody else has taken back, and nobody
    /// uses.
    unsafe fn from_addr(addr: TableAddr) -> Self {
        // INVARIANT: By the requirement.
        Self { addr, order: 0 }
    }

    /// Returns the descriptors in the pages.
    fn descriptors(&self) -> &[AtomicU64] {
        // SAFETY: By the invariant these pages are allocated while `self` is, and accessed as
        // `AtomicU64`s only. The linear map has them contiguous.
        unsafe {
            let first = ffi::loft_phys_to_virt(self.addr.pa().raw()).cast::<AtomicU64>();
            core::slice::from_raw_parts(first, DESCRIPTORS << (self.order & 31))
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the invariant the pages were allocated with this order, and are this one's to
        // free.
        unsafe {
            let page = ffi::loft_virt_to_page(ffi::loft_phys_to_virt(self.addr.pa().raw()));
            kernel::bindings::__free_pages(page, self.order);
        }
    }
}

/// One page of zeroes, to become a table.
///
/// # Invariants
///
/// The block is one page, and all zero.
pub(crate) struct Table(Pages);

impl Table {
    /// Allocates a table, charged to the current process. May sleep. Errors: `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: It is zeroed.
        Ok(Self(Pages::new(0)?))
    }
}

/// A table that is linked, and its level.
///
/// # Invariants
///
/// The descriptors are those of a whole table, or of the root, which walks find at this level.
#[derive(Clone, Copy)]
pub(crate) struct Linked<'a> {
    descriptors: &'a [AtomicU64],
    level: Level,
}

impl<'a> Linked<'a> {
    /// Returns a descriptor, if the table is so large.
    #[inline]
    fn descriptor(self, index: u16) -> Option<&'a AtomicU64> {
        self.descriptors.get(usize::from(index))
    }

    /// Returns whether a descriptor of this table may become `new` without a table for it.
    #[inline]
    fn admits(self, new: u64) -> bool {
        !warn_on_once!(Format::next_table(self.level, new).is_some())
    }
}

/// Tables that were unlinked, and that nobody but a table walker reaches. They leak unless
/// [`Tables::free`] gets them.
///
/// # Invariants
///
/// Each was the [`Table`] of a descriptor, and is this one's since; in the first descriptor of each
/// is the address of the one before it, or zero. A walker that comes there finds bit 0 clear: it is
/// invalid.
#[derive(Default)]
pub(crate) struct Unlinked(Option<TableAddr>);

/// The tables of one translation, by their root.
///
/// # Invariants
///
/// - The root's descriptors are those of level `start`.
/// - A descriptor below the root that leads to a table ([`Format::next_table`]) owns that page,
///   which was a [`Table`]. It was written by `link` or `link_parts`, for all other writes refuse
///   such values, and the CPU sets access flags only.
/// - What is reached from the root is unlinked only by an exclusive borrow.
/// - `linear` is how far the linear map is from the physical addresses; all of it is equally far.
pub(crate) struct Tables {
    root: Pages,
    start: Level,
    linear: usize,
}

impl Tables {
    /// Allocates a root of zeroes for tables of this geometry. May sleep. Errors: `ENOMEM`.
    ///
    /// When this is dropped the root is freed; what is linked in it then leaks.
    pub(crate) fn new(geometry: &Geometry) -> Result<Self> {
        let pages = geometry.root_size() / PAGE_SIZE;
        let root = Pages::new(pages.next_power_of_two().trailing_zeros())?;
        let pa = root.addr.pa();
        // INVARIANT: Nothing is linked.
        Ok(Self {
            root,
            start: geometry.start_level(),
            linear: linear(pa).wrapping_sub(pa.raw() as usize),
        })
    }

    /// Returns `count` descriptors from the start of a table on.
    ///
    /// # Safety
    ///
    /// So many are allocated there, for `'a`, and are accessed as `AtomicU64`s only.
    #[inline]
    unsafe fn descriptors<'a>(&self, addr: TableAddr, count: usize) -> &'a [AtomicU64] {
        let address = self.linear.wrapping_add(addr.pa().raw() as usize);
        // SAFETY: By the invariant the table is there, and by the requirement so are its
        // descriptors. The address is page aligned.
        unsafe { core::slice::from_raw_parts(address as *const AtomicU64, count) }
    }

    /// Returns the root's address.
    pub(crate) fn root_addr(&self) -> TableAddr {
        self.root.addr
    }
}

/// Gives one page, whose descriptors lead nowhere at its level, to the descriptor at `at` if that
/// is `old`, which leads nowhere.
///
/// Errors: the page, unchanged.
fn install(at: DescriptorAddr<Linked<'_>>, old: u64, page: Pages) -> Result<(), Pages> {
    let new = Format::table(page.addr);
    if at.table.level.next().is_none() || !at.table.admits(old) {
        return Err(page);
    }
    let Some(descriptor) = at.table.descriptor(at.index) else {
        return Err(page);
    };
    match descriptor.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            // INVARIANT: The page is the descriptor's from now on.
            page.into_addr();
            Ok(())
        }
        Err(_) => Err(page),
    }
}

impl TableMemory for Tables {
    const GRANULE: Granule = GRANULE;

    type Table = Table;
    type Unlinked = Unlinked;
    type Linked<'a> = Linked<'a>;

    #[inline]
    fn root(&self) -> Linked<'_> {
        // SAFETY: The root is allocated while `self` is, and its pages are contiguous.
        let descriptors =
            unsafe { self.descriptors(self.root.addr, DESCRIPTORS << (self.root.order & 31)) };
        // INVARIANT: By that of `Tables`.
        Linked {
            descriptors,
            level: self.start,
        }
    }

    #[inline]
    fn load<'a>(&'a self, at: DescriptorAddr<Linked<'a>>) -> (u64, Option<Linked<'a>>) {
        let Some(descriptor) = at.table.descriptor(at.index) else {
            return (0, None);
        };
        let raw = descriptor.load(Ordering::Acquire);
        let next = Format::next_table(at.table.level, raw);
        let next = next.zip(at.table.level.next()).map(|(addr, level)| {
            // SAFETY: By the invariant of `Tables` the page is a table's, and not freed while
            // `self` is borrowed.
            let descriptors = unsafe { self.descriptors(addr, DESCRIPTORS) };
            // INVARIANT: Walks find it one level below.
            Linked { descriptors, level }
        });
        (raw, next)
    }

    #[inline]
    fn cmpxchg<'a>(
        &'a self,
        at: DescriptorAddr<Linked<'a>>,
        old: u64,
        new: u64,
    ) -> Result<(), u64> {
        match at.table.descriptor(at.index) {
            Some(descriptor) if at.table.admits(new) => descriptor
                .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
                .map(|_| ()),
            _ => Err(0),
        }
    }

    #[inline]
    fn store<'a>(&'a self, at: DescriptorAddr<Linked<'a>>, new: u64) {
        if let (Some(descriptor), true) = (at.table.descriptor(at.index), at.table.admits(new)) {
            descriptor.store(new, Ordering::Release);
        }
    }

    fn link<'a>(
        &'a self,
        at: DescriptorAddr<Linked<'a>>,
        old: u64,
        table: Table,
    ) -> Result<(), Table> {
        // INVARIANT: It is zero: it leads nowhere, and still is if it comes back.
        install(at, old, table.0).map_err(Table)
    }

    fn link_parts<'a>(
        &'a self,
        at: DescriptorAddr<Linked<'a>>,
        old: u64,
        table: Table,
        mut part: impl FnMut(u16) -> u64,
    ) -> bool {
        let Some(level) = at.table.level.next() else {
            return false;
        };
        // No longer a `Table`: it is not zero.
        let pages = table.0;
        let parts = Linked {
            descriptors: pages.descriptors(),
            level,
        };
        for (index, place) in (0..).zip(parts.descriptors) {
            let part = part(index);
            if parts.admits(part) {
                place.store(part, Ordering::Relaxed);
            }
        }
        // What is in it leads nowhere at its level.
        install(at, old, pages).is_ok()
    }

    fn unlink(&mut self, path: impl Iterator<Item = u16>, unlinked: &mut Unlinked) {
        let (mut table, mut end) = (Some(self.root()), None);
        for index in path {
            let Some(above) = table else {
                return;
            };
            table = self
                .load(DescriptorAddr {
                    table: above,
                    index,
                })
                .1;
            end = above
                .descriptor(index)
                .zip(table)
                .map(|(descriptor, table)| (above, descriptor, table));
        }
        let Some((above, descriptor, table)) = end else {
            return;
        };
        let [first, ..] = table.descriptors else {
            return;
        };
        let Some(addr) = Format::next_table(above.level, descriptor.load(Ordering::Relaxed)) else {
            return;
        };
        let older = unlinked.0.map_or(0, |older| older.pa().raw());
        // INVARIANT: The page is no longer the descriptor's but `unlinked`'s. Nobody has a
        // reference to it: the borrow is exclusive.
        descriptor.store(0, Ordering::Release);
        first.store(older, Ordering::Release);
        unlinked.0 = Some(addr);
    }

    fn free(&self, unlinked: Unlinked, _flushed: Flushed) {
        let mut next = unlinked.0;
        while let Some(addr) = next {
            // SAFETY: By the invariant of `Unlinked` the page was left to a descriptor, and is this
            // one's now.
            let pages = unsafe { Pages::from_addr(addr) };
            let older = pages
                .descriptors()
                .first()
                .map_or(0, |first| first.load(Ordering::Relaxed));
            next = match older {
                0 => None,
                older => TableAddr::new(GRANULE, HostPa::new(older)),
            };
        }
    }
}

/// Returns where the kernel's linear map has a physical address. Nothing need be mapped there: it
/// has RAM only.
pub(crate) fn linear(pa: HostPa) -> usize {
    // SAFETY: Arithmetic.
    unsafe { ffi::loft_phys_to_virt(pa.raw()) as usize }
}
