// SPDX-License-Identifier: GPL-2.0

//! A guest's memory: the slots that the VMM gave it, and the stage-2 tables that make them its own.
//!
//! The memory is the VMM's: a page is mapped when the guest first touches it, and unmapped when the host says that the
//! VMM's mapping is about to change (`MmuNotifier`). Nothing is pinned. A fault therefore works like this:
//!
//! 1. note the number of changes so far;
//! 2. find the slot and the host's page, which may sleep, and take no lock for it;
//! 3. take the lock for reading, and map the page only if nothing that concerns it has changed since 1, or is changing.
//!
//! A change takes the lock for writing, says that it is under way, and unmaps; so either it sees the mapping of step 3,
//! or step 3 sees the change. A slot that is deleted or moved is such a change too, and other changes go on meanwhile: it is
//! still listed until nothing of it is mapped any more.

use super::dirty::DirtyLog;
use super::slots::{MemSlot, Slots};
use super::vmid::Vmid;
use crate::arch::tlb::{self, Translation};
use crate::arch::{cpu, dsb_ishst};
use crate::host::errno::ehwpoison;
use crate::host::gup::HostPage;
use crate::host::mmu_notifier::MmuNotifier;
use crate::host::page;
use crate::host::preempt::PreemptDisabled;
use crate::host::rcu_arc::RcuArc;
use crate::host::rwlock::RwLock;
use crate::host::{memory_failure, mm};
use crate::model::stage2::{
    Age, Cache, Coherency, Format, Geometry, GeometryError, Level, MapError, Mapping, MemType,
    Memory, Perm, Slot as Entry, Stage2, Stale, Table, Tlb, PAGE_SIZE,
};
use crate::model::sysreg::regs::VTCR_EL2;
use crate::model::types::{HostPa, Ipa};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::{static_lock_class, Arc};

/// How many descriptors are looked at before the lock is let go for others.
const CHUNK: usize = 1024;
/// So many places that show the same of the host's memory are unmapped with one flush.
const BATCH: usize = 32;
/// How many words of a dirty log are looked at before the lock is let go for others.
const WORDS: usize = 64;

/// Between two parts of a long work that userspace asked for: lets others run. `EINTR`: nobody waits for the rest.
fn let_others_run() -> Result {
    crate::host::sched::cond_resched();
    match crate::host::sched::is_dying() {
        true => Err(EINTR),
        false => Ok(()),
    }
}

/// Whether cacheable memory that is no RAM (a coherent device's) can be a guest's: it has no address in the kernel by which it
/// could be cleaned or its instructions made visible, so neither may be needed. As in KVM.
pub(crate) fn has_cacheable_pfnmap() -> bool {
    cpu::features().fwb && cpu::features().dic
}

/// VTCR_EL2 for tables of this geometry.
fn vtcr(geometry: &Geometry) -> u64 {
    VTCR_EL2::RES1
        | VTCR_EL2::T0SZ.of(geometry.t0sz().into())
        | VTCR_EL2::SL0.of(geometry.sl0().into())
        | VTCR_EL2::PS.of(geometry.ps().into())
        | VTCR_EL2::TG0.of(VTCR_EL2::TG0_4K)
        | VTCR_EL2::SH0.of(VTCR_EL2::SH0_INNER)
        | VTCR_EL2::ORGN0.of(VTCR_EL2::ORGN0_WBWA)
        | VTCR_EL2::IRGN0.of(VTCR_EL2::IRGN0_WBWA)
        | VTCR_EL2::VS.of(if cpu::features().vmid_bits == 16 {
            VTCR_EL2::VS_16BIT
        } else {
            VTCR_EL2::VS_8BIT
        })
}

/// The machine under the stage-2 tables.
#[derive(Clone)]
pub(crate) struct Platform {
    vmid: Arc<Vmid>,
    root: Table,
    /// VTCR_EL2.
    vtcr: u64,
}

impl Platform {
    /// With this VMID.
    fn translation(&self, vmid: u64) -> Translation {
        use crate::model::sysreg::regs::VTTBR_EL2;
        Translation {
            vttbr: VTTBR_EL2::VMID.of(Vmid::number(vmid)) | self.root.pa().raw(),
            vtcr: self.vtcr,
        }
    }

    /// As it is now, read after the tables were changed: whoever gets another VMID later walks them as they are.
    fn current(&self) -> Translation {
        dsb_ishst();
        self.translation(self.vmid.load())
    }
}

impl Memory for Platform {
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

impl Tlb for Platform {
    fn publish(&self) {
        dsb_ishst();
    }
    fn flush(&self, stale: Range<Ipa>, leaf: Option<Level>) {
        self.vmid.note_flush();
        let shift = leaf.map_or(Level::L3.shift(), Level::shift);
        let count = stale.end.raw().wrapping_sub(stale.start.raw()) >> shift;
        if count >= FLUSH_ALL_FROM {
            tlb::flush_all(self.current());
        } else {
            tlb::flush_ipas(self.current(), stale.start.raw(), count.max(1), shift);
        }
    }
    fn flush_local(&self, ipa: Ipa, level: Level) {
        // Broadcast is more than is asked for, and right.
        tlb::flush_ipas(
            self.current(),
            ipa.align_down(level.size()).raw(),
            1,
            level.shift(),
        );
    }
}

impl Coherency for Platform {
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

/// What of the host's memory is changing, or has.
struct Changes {
    /// How many have ended.
    count: u64,
    /// How many are under way.
    under_way: u32,
    /// What those are about, together.
    range: Range<u64>,
}

impl Changes {
    fn begin(&mut self, range: Range<u64>) {
        self.range = if self.under_way == 0 {
            range
        } else {
            self.range.start.min(range.start)..self.range.end.max(range.end)
        };
        self.under_way = self.under_way.wrapping_add(1);
    }

    fn end(&mut self) {
        self.count = self.count.wrapping_add(1);
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether what was found out about `addresses` after `count` changes may be wrong by now.
    fn concern(&self, addresses: &Range<u64>, count: u64) -> bool {
        let overlap = addresses.start < self.range.end && self.range.start < addresses.end;
        self.count != count || (self.under_way != 0 && overlap)
    }
}

struct Tables {
    stage2: Stage2<Platform>,
    changes: Changes,
}

impl Drop for Tables {
    fn drop(&mut self) {
        let geometry = *self.stage2.geometry();
        let mut next = Some(Ipa::new(0));
        while let Some(at) = next {
            next = self.stage2.unmap(at..geometry.end(), CHUNK);
        }
        page::free_tables(self.stage2.root(), geometry.root_size());
    }
}

/// The guest's memory.
#[pin_data]
pub(crate) struct GuestMemory {
    #[pin]
    tables: RwLock<Tables>,
    #[pin]
    slots: RcuArc<Slots>,
    platform: Platform,
    geometry: Geometry,
    /// The guest has had memory that is no counted page of RAM, such as a device's: it may be able to have an access fail as it
    /// likes.
    has_uncounted: AtomicBool,
    /// How many more pages its memory errors may take out of use.
    reports: AtomicU32,
}

/// The most pages that the memory errors of one VM take out of use.
const MAX_REPORTS: u32 = 16;

/// How a fault was served.
pub(crate) enum Fault {
    /// The guest may try again.
    Resolved,
    /// The address is not the guest's memory, or is read-only memory that was written, or a device's that was executed.
    Device,
}

/// Tables that a vCPU keeps ready, so that none has to be allocated under a lock.
pub(crate) struct TableCache(KVec<Table>);

impl TableCache {
    /// More than one fault can use: a path of tables, and one to split a block into.
    const ENOUGH: usize = 6;

    /// Empty: a vCPU that has no fault needs none.
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    fn fill(&mut self) -> Result {
        if self.0.capacity() == 0 {
            self.0.reserve(Self::ENOUGH, GFP_KERNEL_ACCOUNT)?;
        }
        while self.0.len() < Self::ENOUGH {
            self.0
                .push(page::alloc_tables(PAGE_SIZE)?, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }
}

impl Cache for TableCache {
    fn take(&mut self) -> Option<Table> {
        self.0.pop()
    }
    fn put(&mut self, table: Table) {
        // There is room: it came from here.
        if self.0.push_within_capacity(table).is_err() {
            page::free_tables(table, PAGE_SIZE);
        }
    }
}

impl Drop for TableCache {
    fn drop(&mut self) {
        while let Some(table) = self.0.pop() {
            page::free_tables(table, PAGE_SIZE);
        }
    }
}

impl GuestMemory {
    pub(crate) fn new(ipa_bits: u32) -> Result<Arc<Self>> {
        let geometry =
            Geometry::new(ipa_bits, cpu::features().pa_bits).map_err(|error| match error {
                GeometryError::TooSmall | GeometryError::TooLarge | GeometryError::BadPaBits => {
                    EINVAL
                }
            })?;
        let vmid = Arc::new(Vmid::new(), GFP_KERNEL_ACCOUNT)?;
        let root = page::alloc_tables(geometry.root_size())?;
        let platform = Platform {
            vmid,
            root,
            vtcr: vtcr(&geometry),
        };
        let format = Format {
            fwb: cpu::features().fwb,
        };
        let Some(stage2) = Stage2::new(platform.clone(), geometry, root, format) else {
            page::free_tables(root, geometry.root_size());
            return Err(ENOMEM);
        };
        let changes = Changes {
            count: 0,
            under_way: 0,
            range: 0..0,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                tables <- RwLock::new(Tables { stage2, changes }, c"loft::Stage2::mmu", static_lock_class!()),
                slots <- RcuArc::new(Slots::new()),
                platform,
                geometry,
                has_uncounted: AtomicBool::new(false),
                reports: AtomicU32::new(MAX_REPORTS),
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The VMID that this guest has now, with its generation, and the translation under it.
    pub(crate) fn translation(&self) -> (u64, Translation) {
        let vmid = self.platform.vmid.load();
        (vmid, self.platform.translation(vmid))
    }

    /// Whether the guest may run under this VMID. Only an answer given with interrupts off holds until they are on again.
    pub(crate) fn may_run_as(&self, vmid: u64) -> bool {
        self.platform.vmid.may_run_as(vmid)
    }

    /// Sees that the guest has a VMID of the current generation. May sleep.
    pub(crate) fn renew_vmid(&self) {
        self.platform.vmid.renew();
    }

    /// How often all CPUs were made to forget translations of the guest's.
    pub(crate) fn flushes(&self) -> u64 {
        self.platform.vmid.flushes()
    }

    /// The first address that the guest does not have.
    pub(crate) fn end(&self) -> u64 {
        self.geometry.end().raw()
    }

    /// Where the VMM has the guest's memory at `ipa`, if there is any, and the guest may write it where that is wanted.
    pub(crate) fn address(&self, ipa: u64, write: bool) -> Option<usize> {
        let slots = self.slots();
        let slot = slots.find(ipa).filter(|slot| !write || !slot.readonly())?;
        Some(slot.hva.wrapping_add(ipa.wrapping_sub(slot.ipa)) as usize)
    }

    /// Whether `ipa` is a device's for the guest: there is no memory, or memory that is only to be read and `write`.
    pub(crate) fn is_device(&self, preempt: PreemptDisabled<'_>, ipa: u64, write: bool) -> bool {
        self.slots.read_sched(preempt, |slots| {
            slots.find(ipa).is_none_or(|slot| write && slot.readonly())
        })
    }

    /// The slots as they are now.
    pub(crate) fn slots(&self) -> Arc<Slots> {
        self.slots.get()
    }

    /// Adds, changes or (with size 0) deletes a slot, as KVM_SET_USER_MEMORY_REGION. A log begins with no page in it, or with
    /// `all_dirty`. `leaf_shift` says how the host maps an address. One caller at a time.
    pub(crate) fn set_slot(
        &self,
        mut new: MemSlot,
        all_dirty: bool,
        leaf_shift: impl Fn(u64) -> u32,
    ) -> Result {
        use crate::host::ffi::KVM_MEM_READONLY;
        let slots = self.slots();
        let old = slots.by_id(new.id);
        if new.size == 0 {
            let old = old.ok_or(EINVAL)?;
            return self.replace(&slots, Some(old), None);
        }
        if new
            .ipa
            .checked_add(new.size)
            .is_none_or(|end| end > self.end())
        {
            return Err(EFAULT);
        }
        if let Some(old) = old {
            // A slot can be moved, and change its flags, but not its size, its memory or its being read-only.
            if old.size != new.size
                || old.hva != new.hva
                || (old.flags ^ new.flags) & KVM_MEM_READONLY != 0
            {
                return Err(EINVAL);
            }
            if old.ipa == new.ipa && old.flags == new.flags {
                return Ok(());
            }
        }
        if slots.collide(&new) {
            return Err(EEXIST);
        }
        mm::check_memory(new.hva, new.size, new.logs(), has_cacheable_pfnmap())?;
        if new.logs() {
            new.log = match old.and_then(|old| old.log.clone()) {
                None => Some(Arc::new(
                    DirtyLog::new(new.size / PAGE_SIZE, all_dirty)?,
                    GFP_KERNEL_ACCOUNT,
                )?),
                log => log,
            };
        }
        let begins = |old: &MemSlot| old.ipa == new.ipa && new.logs() && !old.logs();
        if !old.is_some_and(begins) {
            let ends = old.is_some_and(|old| old.ipa == new.ipa && old.logs() && !new.logs());
            let unlogged = ends.then(|| new.clone());
            self.replace(&slots, old, Some(new))?;
            if let Some(slot) = unlogged {
                self.unmap_split(&slot, leaf_shift);
            }
            return Ok(());
        }
        // What is writable has to be no more, unless it is in the log. Who has found the slot without its log sees the change
        // when it comes to map a page.
        let range = new.ipas();
        self.tables.write().changes.begin(new.hvas());
        let replaced = self.replace(&slots, old, Some(new));
        if replaced.is_ok() && !all_dirty {
            self.write_protect(range);
        }
        self.tables.write().changes.end();
        replaced
    }

    fn write_protect(&self, range: Range<Ipa>) {
        let mut at = range.start;
        loop {
            let next = self
                .tables
                .write()
                .stage2
                .write_protect(at..range.end, CHUNK);
            match next {
                Some(next) => at = next,
                None => return,
            }
            crate::host::sched::cond_resched();
        }
    }

    /// KVM_GET_DIRTY_LOG: gives `write` the words of a slot's log, in their order and a few at a time, and clears them unless
    /// `keep` says not to. What has been written since is in the next one. One caller at a time.
    ///
    /// Errors: `ENOENT` if the slot has no log, `EINTR` if the process is being killed, else what `write` returns; what it
    /// was given then is dirty still.
    pub(crate) fn read_dirty(
        &self,
        id: u32,
        keep: bool,
        mut write: impl FnMut(&[u64]) -> Result,
    ) -> Result {
        let slots = self.slots();
        let (slot, log) = slots.logged(id)?;
        for first in (0..log.words()).step_by(WORDS) {
            let mut words = [u64::MAX; WORDS];
            let count = log.words().wrapping_sub(first).min(WORDS);
            let words = words.get_mut(..count).unwrap_or(&mut []);
            if keep {
                for (n, word) in (first..).zip(words.iter_mut()) {
                    *word = log.bits(n);
                }
                write(words)?;
            } else {
                self.take_dirty(slot, log, first, words);
                let written = write(words);
                if written.is_err() {
                    for (n, word) in (first..).zip(words) {
                        log.put_back(n, *word);
                    }
                    return written;
                }
            }
            let_others_run()?;
        }
        Ok(())
    }

    /// KVM_CLEAR_DIRTY_LOG: clears those of `pages` of a slot, from the page `first` on, that have a bit in what `read` gives, a
    /// few words at a time. One caller at a time. What has been written since is in the log.
    ///
    /// Errors: `ENOENT` if the slot has no log, `EINVAL` if the pages are not the slot's or do not fill words, `EINTR` if the
    /// process is being killed, else what `read` returns; nothing is cleared then.
    pub(crate) fn clear_dirty(
        &self,
        id: u32,
        first: u64,
        pages: u64,
        mut read: impl FnMut(&mut [u64]) -> Result,
    ) -> Result {
        let slots = self.slots();
        let (slot, log) = slots.logged(id)?;
        let rest = (slot.size / PAGE_SIZE).checked_sub(first).ok_or(EINVAL)?;
        if first % 64 != 0 || pages > rest || (pages < rest && pages % 64 != 0) {
            return Err(EINVAL);
        }
        // All of it first, so that a bad address clears nothing.
        let mut masks = KVVec::from_elem(0, pages.div_ceil(64) as usize, GFP_KERNEL_ACCOUNT)?;
        for words in masks.chunks_mut(WORDS) {
            read(words)?;
            let_others_run()?;
        }
        let firsts = (first as usize / 64..).step_by(WORDS);
        for (first, words) in firsts.zip(masks.chunks_mut(WORDS)) {
            self.take_dirty(slot, log, first, words);
            let_others_run()?;
        }
        Ok(())
    }

    /// Takes the bits of `words` out of a log, from its word `first` on, and from the guest the permission to write those pages.
    /// Leaves in `words` what was there to take.
    fn take_dirty(&self, slot: &MemSlot, log: &DirtyLog, first: usize, words: &mut [u64]) {
        let mut stale = Stale::new();
        let mut tables = self.tables.write();
        for (n, word) in (first..).zip(words) {
            *word = log.take(n, *word);
            let base = Ipa::new(slot.ipa).wrapping_add(n as u64 * 64 * PAGE_SIZE);
            tables.stage2.write_protect_mask(base, *word, &mut stale);
        }
        tables.stage2.flush(stale);
    }

    /// The host itself has written to the guest's page at `ipa`.
    pub(crate) fn note_dirty(&self, ipa: u64) {
        if let Some(slot) = self.slots().find(ipa) {
            slot.note_dirty(ipa);
        }
    }

    /// Puts `new` in the place of `old`; what the guest had mapped through `old` is gone when this returns.
    fn replace(&self, slots: &Slots, old: Option<&MemSlot>, new: Option<MemSlot>) -> Result {
        let moved = old.filter(|old| new.as_ref().is_none_or(|new| new.ipa != old.ipa));
        let list = slots.with(old, new)?;
        if let Some(old) = moved {
            self.retire(slots, old)?;
        }
        self.slots.set(list);
        Ok(())
    }

    /// Unmaps all of a slot that is to go. Until that is done the slot stays in the list, dying, so that who changes the
    /// host's memory meanwhile still unmaps what of it is mapped.
    fn retire(&self, slots: &Slots, old: &MemSlot) -> Result {
        let dying = MemSlot {
            dying: true,
            ..old.clone()
        };
        let list = slots.with(Some(old), Some(dying))?;
        // Whoever has found the slot before sees the change when it comes to map a page.
        self.tables.write().changes.begin(old.hvas());
        self.slots.set(list);
        self.unmap(old.ipas(), true);
        self.tables.write().changes.end();
        Ok(())
    }

    /// Unmaps those pages of a slot that a block could be in place of: a log was kept of them, and no longer is. The guest's next
    /// access to one brings the block. Most are writable, so that nothing else ever would.
    fn unmap_split(&self, slot: &MemSlot, leaf_shift: impl Fn(u64) -> u32) {
        let all = slot.ipas();
        let mut at = all.start;
        // Found, and not unmapped yet.
        let mut pages = at..at;
        loop {
            let found = self.tables.read().stage2.next_pages(at..all.end, CHUNK);
            at = match found {
                None => break,
                Some(Err(next)) => next,
                Some(Ok(table)) => {
                    let ipa = table.max(all.start).raw();
                    let address = slot.address(ipa);
                    match self.level(slot, ipa, address, leaf_shift(address)) {
                        Level::L3 => table.wrapping_add(Level::L2.size()),
                        level => {
                            let block = table.align_down(level.size());
                            if block != pages.end {
                                self.unmap(core::mem::replace(&mut pages, block..block), true);
                            }
                            pages.end = block.wrapping_add(level.size());
                            pages.end
                        }
                    }
                }
            };
            crate::host::sched::cond_resched();
        }
        self.unmap(pages, true);
    }

    /// The largest leaf that can map `ipa`, of a slot, where the host maps its `address` with one of `1 << shift` bytes.
    fn level(&self, slot: &MemSlot, ipa: u64, address: u64, shift: u32) -> Level {
        let fits = |level: Level| {
            let size = level.size();
            let start = ipa & !(size - 1);
            let host_start = address & !(size - 1);
            level >= self.geometry.start_level()
                && start >= slot.ipa
                && start.checked_add(size).is_some_and(|end| end <= slot.end())
                && start.wrapping_sub(slot.ipa) == host_start.wrapping_sub(slot.hva)
        };
        [Level::L1, Level::L2]
            .into_iter()
            .find(|&level| shift >= level.shift() && fits(level))
            .unwrap_or(Level::L3)
    }

    /// A guest that starts with its caches off sees what the VMM has written through its own.
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
            let next = self.tables.write().stage2.unmap(at..range.end, CHUNK);
            match next {
                Some(next) => at = next,
                None => return,
            }
            if may_sleep {
                crate::host::sched::cond_resched();
            }
        }
    }

    /// Serves the guest's fault at `ipa`. `leaf_shift` says how the host maps an address. `EFAULT`: the VMM's memory is not
    /// there; other errors are the host's.
    pub(crate) fn fault(
        &self,
        cache: &mut TableCache,
        ipa: u64,
        write: bool,
        exec: bool,
        leaf_shift: impl Fn(u64) -> u32,
    ) -> Result<Fault> {
        cache.fill()?;
        // First of all: whatever is looked at from here on is at least as new as this count.
        let count = self.tables.read().changes.count;
        let slots = self.slots();
        let Some(slot) = slots.find(ipa) else {
            return Ok(Fault::Device);
        };
        if write && slot.readonly() {
            return Ok(Fault::Device);
        }
        let address = slot.address(ipa) & !(PAGE_SIZE - 1);
        let host_page = match HostPage::get(address, write, has_cacheable_pfnmap()) {
            Ok(page) => page,
            Err(error) if error == ehwpoison() => {
                // The VMM gets the signal that its own access would have brought, and tells the guest as it likes.
                memory_failure::report_poison(address);
                return Ok(Fault::Resolved);
            }
            Err(error) => return Err(error),
        };
        if exec && host_page.mem() != MemType::Normal {
            return Ok(Fault::Device);
        }
        // Where writes are logged a page at a time, that is also all that may become writable, and only when it is written.
        let logs = slot.log.is_some();
        // Without counted pages it is only known of this one that the kernel has an address to clean it by.
        let alone = host_page.mem() == MemType::Normal
            && !host_page.is_counted()
            && !has_cacheable_pfnmap();
        let level = match logs || alone {
            true => Level::L3,
            false => self.level(slot, ipa, address, leaf_shift(address)),
        };
        let want = Mapping {
            ipa: Ipa::new(ipa).align_down(level.size()),
            pa: host_page.pa().align_down(level.size()),
            level,
            perm: Perm::new(
                true,
                host_page.writable() && !slot.readonly() && (write || !logs),
                host_page.mem() == MemType::Normal && (exec || cpu::features().dic),
            ),
            mem: host_page.mem(),
        };
        if !host_page.is_counted() {
            self.has_uncounted.store(true, Ordering::Relaxed);
        }
        // Whoever finds the page mapped has seen the store, by this lock.
        let tables = self.tables.read();
        let start = address & !(level.size() - 1);
        if tables
            .changes
            .concern(&(start..start.saturating_add(level.size())), count)
        {
            return Ok(Fault::Resolved); // the guest faults again, and then sees what has changed
        }
        match tables.stage2.map(cache, &want) {
            Ok(_) => {
                if want.perm.w {
                    host_page.set_dirty();
                    slot.note_dirty(ipa);
                }
                Ok(Fault::Resolved)
            }
            Err(MapError::TableInTheWay) => {
                // Pages from before the host made a block of them, or from a vCPU that had found the slot while it was still
                // logged. They go; the guest faults again, and then gets the block.
                drop(tables);
                self.unmap(want.ipa..want.ipa.wrapping_add(level.size()), true);
                Ok(Fault::Resolved)
            }
            Err(MapError::CacheEmpty | MapError::Busy) => Ok(Fault::Resolved),
            Err(MapError::IpaTooLarge) => Ok(Fault::Device),
            Err(_) => Err(EFAULT),
        }
    }

    /// Serves an access flag fault: the page is in use again. `false`: it has gone, and needs [`GuestMemory::fault`].
    pub(crate) fn make_young(&self, ipa: u64) -> bool {
        self.tables.read().stage2.make_young(Ipa::new(ipa))
    }

    /// The page of RAM at `ipa` that an error of the guest's may take out of use.
    ///
    /// The guest chooses `ipa` (its tables may have changed since the access that failed), but not the errors, so that it
    /// cannot do more than to name other pages of its own: those that it may write. A guest that has had a device's memory
    /// may make as many accesses fail as it likes, and is not believed.
    pub(crate) fn broken_page(&self, ipa: Ipa) -> Option<HostPa> {
        let tables = self.tables.read();
        if self.has_uncounted.load(Ordering::Relaxed) {
            return None;
        }
        let leaf = tables.stage2.walk(ipa)?;
        let attributes = leaf.attributes;
        if !attributes.perm.w || attributes.mem != MemType::Normal {
            return None;
        }
        let fewer = |left: u32| left.checked_sub(1);
        self.reports
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer)
            .ok()?;
        Some(leaf.output(ipa))
    }

    /// Called by the host with a lock of its page tables: nothing here may sleep. So the list of slots is read in place, since
    /// the last one to let go of it frees it, and the CPUs forget all at once.
    fn age_all(&self, range: Range<u64>, what: Age) -> bool {
        self.slots.read(|slots| {
            let mut young = false;
            let mut stale = Stale::new();
            for range in slots.ipas(range) {
                let mut next = Some(range.start);
                while let Some(at) = next {
                    let tables = self.tables.read();
                    let rest = at..range.end;
                    let aged = tables.stage2.age_into(rest, what, CHUNK, &mut stale);
                    young |= aged.young;
                    next = aged.next;
                }
                if young && what == Age::Test {
                    break;
                }
            }
            if !stale.is_empty() {
                self.tables.read().stage2.flush(stale);
            }
            young
        })
    }

    /// Unmaps what the guest has of the host's `range`.
    fn unmap_host(&self, slots: &Slots, range: Range<u64>, may_sleep: bool) {
        let mut places = slots.ipas(range);
        loop {
            let mut batch = [const { Ipa::new(0)..Ipa::new(0) }; BATCH];
            let mut count = 0;
            for (one, place) in batch.iter_mut().zip(&mut places) {
                *one = place;
                count += 1;
            }
            let batch = batch.get_mut(..count).unwrap_or(&mut []);
            if batch.is_empty() {
                return;
            }
            loop {
                let done = self.tables.write().stage2.unmap_each(batch, CHUNK);
                if may_sleep {
                    crate::host::sched::cond_resched();
                }
                if done {
                    break;
                }
            }
        }
    }
}

impl MmuNotifier for GuestMemory {
    fn invalidate_range_start(&self, range: Range<u64>, may_sleep: bool) {
        self.tables.write().changes.begin(range.clone());
        if may_sleep {
            self.unmap_host(&self.slots(), range, true);
        } else {
            // The last one to let go of the list frees it, which may sleep.
            self.slots
                .read(|slots| self.unmap_host(slots, range, false));
        }
    }

    fn invalidate_range_end(&self, _range: Range<u64>) {
        self.tables.write().changes.end();
    }

    fn clear_young(&self, range: Range<u64>, flush: bool) -> bool {
        self.age_all(
            range,
            if flush {
                Age::ClearAndFlush
            } else {
                Age::Clear
            },
        )
    }

    fn test_young(&self, range: Range<u64>) -> bool {
        self.age_all(range, Age::Test)
    }

    fn release(&self) {
        self.unmap_all();
    }
}
