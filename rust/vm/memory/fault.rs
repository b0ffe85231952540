// SPDX-License-Identifier: GPL-2.0

//! Serving a guest's stage-2 faults.

use super::slots::MemSlot;
use super::{has_cacheable_pfnmap, GuestMemory, VcpuTablePool};
use crate::arch::cpu;
use crate::host::bug::warn_on_once;
use crate::host::errno::ehwpoison;
use crate::host::gup::HostPage;
use crate::host::memory_failure;
use crate::host::mm;
use crate::host::page::{GRANULE, PAGE_SIZE};
use crate::model::stage2::{Level, MapError, Mapping, MemType, Perm};
use crate::model::types::{HostPa, Ipa};
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;

/// How a fault was served.
pub(crate) enum Fault {
    /// The guest may try again.
    Resolved,
    /// The address is not the guest's memory, or is read-only memory that was written, or a
    /// device's that was executed.
    Device,
}

impl GuestMemory {
    /// Serves the guest's fault at `ipa`. May sleep.
    ///
    /// Errors: `EFAULT` if the VMM's memory is not there; others are the host's.
    pub(crate) fn fault(
        &self,
        pool: &mut VcpuTablePool,
        ipa: u64,
        write: bool,
        exec: bool,
    ) -> Result<Fault> {
        pool.fill(self.geometry.tables_per_map())?;
        // First of all: whatever is looked at from here on is at least as new as this.
        let seq = self.mmu.read().invalidate.seq();
        let slots = self.slots();
        let Some(slot) = slots.find(ipa) else {
            return Ok(Fault::Device);
        };
        if write && slot.readonly {
            return Ok(Fault::Device);
        }
        let address = slot.address(ipa) & !(PAGE_SIZE - 1);
        let host_page = match HostPage::get(address, write, has_cacheable_pfnmap()) {
            Ok(page) => page,
            Err(error) if error == ehwpoison() => {
                // The VMM gets the signal that its own access would have brought, and tells the
                // guest as it likes.
                memory_failure::report_poison(address);
                return Ok(Fault::Resolved);
            }
            Err(error) => return Err(error),
        };
        if exec && host_page.mem() != MemType::Normal {
            return Ok(Fault::Device);
        }
        // Where writes are logged a page at a time, that is also all that may become writable, and
        // only when it is written.
        let logs = slot.log.is_some();
        // Without counted pages it is only known of this one that the kernel has an address to
        // clean it by.
        let alone = host_page.mem() == MemType::Normal
            && !host_page.is_counted()
            && !has_cacheable_pfnmap();
        let level = match logs || alone {
            true => Level::L3,
            false => self.level(slot, ipa, address, mm::leaf_shift(&self.mm, address)),
        };
        let want = Mapping {
            ipa: Ipa::new(ipa).align_down(GRANULE.size(level)),
            pa: host_page.pa().align_down(GRANULE.size(level)),
            level,
            perm: Perm::new(
                true,
                host_page.writable() && !slot.readonly && (write || !logs),
                host_page.mem() == MemType::Normal && (exec || cpu::features().dic),
            ),
            mem: host_page.mem(),
        };
        if !host_page.is_counted() {
            self.has_uncounted.store(true, Relaxed);
        }
        // Whoever finds the page mapped has seen the store, by this lock.
        let mmu = self.mmu.read();
        let start = address & !(GRANULE.size(level) - 1);
        let range = start..start.saturating_add(GRANULE.size(level));
        if mmu.invalidate.must_retry(&range, seq) {
            return Ok(Fault::Resolved); // the guest faults again, and then sees what has changed
        }
        match mmu.stage2.map(pool, &want) {
            Ok(_) => {
                if want.perm.w {
                    host_page.set_dirty();
                    slot.note_dirty(ipa);
                }
                Ok(Fault::Resolved)
            }
            Err(MapError::TableInTheWay) => {
                // Pages from before the host made a block of them, or from a vCPU that had found
                // the slot while it was still logged. They go; the guest faults again, and then
                // gets the block.
                drop(mmu);
                self.unmap(want.ipa..want.ipa.wrapping_add(GRANULE.size(level)), true);
                Ok(Fault::Resolved)
            }
            Err(MapError::PoolEmpty | MapError::Busy) => Ok(Fault::Resolved),
            Err(MapError::IpaTooLarge) => Ok(Fault::Device),
            Err(MapError::PaTooLarge) => Err(EFAULT),
            Err(MapError::Misaligned | MapError::BadLevel | MapError::BadPerm) => {
                // `want` was made for `level`, which this translation has.
                warn_on_once!(true);
                Err(EFAULT)
            }
        }
    }

    /// Serves an access flag fault: the page is in use again. `false`: it has gone, and needs
    /// [`GuestMemory::fault`].
    pub(crate) fn make_young(&self, ipa: u64) -> bool {
        self.mmu.read().stage2.make_young(Ipa::new(ipa))
    }

    /// Returns the largest leaf that can map `ipa`, of a slot, where the host maps its `address`
    /// with one of `1 << shift` bytes.
    pub(super) fn level(&self, slot: &MemSlot, ipa: u64, address: u64, shift: u32) -> Level {
        let fits = |level: Level| {
            let size = GRANULE.size(level);
            let start = ipa & !(size - 1);
            let host_start = address & !(size - 1);
            GRANULE.maps(level)
                && level >= self.geometry.start_level()
                && start >= slot.ipa
                && start.checked_add(size).is_some_and(|end| end <= slot.end())
                && start.wrapping_sub(slot.ipa) == host_start.wrapping_sub(slot.hva)
        };
        [Level::L1, Level::L2]
            .into_iter()
            .find(|&level| shift >= GRANULE.shift(level) && fits(level))
            .unwrap_or(Level::L3)
    }

    /// Returns the page of RAM at `ipa` that an error of the guest's may take out of use, if there
    /// is one.
    ///
    /// The guest chooses `ipa` (its tables may have changed since the access that failed), but not
    /// the errors, so that it cannot do more than to name other pages of its own: those that it may
    /// write. A guest that has had a device's memory may make as many accesses fail as it likes,
    /// and is not believed.
    pub(crate) fn broken_page(&self, ipa: Ipa) -> Option<HostPa> {
        let mmu = self.mmu.read();
        if self.has_uncounted.load(Relaxed) {
            return None;
        }
        let leaf = mmu.stage2.walk(ipa)?;
        let attributes = leaf.attributes;
        if !attributes.perm.w || attributes.mem != MemType::Normal {
            return None;
        }
        self.take_report().then(|| leaf.output(GRANULE, ipa))
    }

    /// Takes one of the reports that the guest has left, if there is one.
    fn take_report(&self) -> bool {
        let mut left = self.reports.load(Relaxed);
        while let Some(fewer) = left.checked_sub(1) {
            match self.reports.cmpxchg(left, fewer, Relaxed) {
                Ok(_) => return true,
                // Another vCPU of the guest has taken one: at most as many times as there were.
                Err(now) => left = now,
            }
        }
        false
    }
}
