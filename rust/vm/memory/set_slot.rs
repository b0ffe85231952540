// SPDX-License-Identifier: GPL-2.0

//! KVM_SET_USER_MEMORY_REGION: adding, changing and deleting memory slots.

use super::dirty_log::DirtyLog;
use super::slots::{MemSlot, Slots};
use super::{has_cacheable_pfnmap, GuestMemory, CHUNK};
use crate::host::mm;
use crate::host::page::{GRANULE, PAGE_SIZE};
use crate::model::stage2::Level;
use kernel::prelude::*;
use kernel::sync::Arc;

impl GuestMemory {
    /// Adds, changes or (with size 0) deletes a slot. A log begins with no page in it, or, if
    /// `all_dirty`, with all of them. One caller at a time. May sleep.
    ///
    /// Errors: `EINVAL` if there is no such slot to delete, or it cannot be changed so, or its
    /// memory cannot be a guest's; `EFAULT` if the guest has no such addresses, `EEXIST` if another
    /// slot has them, `EINTR` if the process is being killed, `ENOMEM`.
    pub(crate) fn set_slot(&self, mut new: MemSlot, all_dirty: bool) -> Result {
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
            // A slot can be moved, and change its flags, but not its size, its memory or its being
            // read-only.
            if old.size != new.size || old.hva != new.hva || old.readonly != new.readonly {
                return Err(EINVAL);
            }
            if old.ipa == new.ipa && old.logs == new.logs {
                return Ok(());
            }
        }
        if slots.collide(&new) {
            return Err(EEXIST);
        }
        mm::check_memory(new.hva, new.size, new.logs, has_cacheable_pfnmap())?;
        if new.logs {
            new.log = match old.and_then(|old| old.log.clone()) {
                None => Some(Arc::new(
                    DirtyLog::new(new.size / PAGE_SIZE, all_dirty)?,
                    GFP_KERNEL_ACCOUNT,
                )?),
                log => log,
            };
        }
        let begins = |old: &MemSlot| old.ipa == new.ipa && new.logs && !old.logs;
        if !old.is_some_and(begins) {
            let ends = old.is_some_and(|old| old.ipa == new.ipa && old.logs && !new.logs);
            let unlogged = ends.then(|| new.clone());
            self.replace(&slots, old, Some(new))?;
            if let Some(slot) = unlogged {
                self.unmap_split(&slot);
            }
            return Ok(());
        }
        // What is writable has to be no more, unless it is in the log. Who has found the slot
        // without its log sees the change when it comes to map a page.
        let range = new.ipas();
        self.mmu.write().invalidate.begin(new.hvas());
        let replaced = self.replace(&slots, old, Some(new));
        if replaced.is_ok() && !all_dirty {
            self.write_protect(range);
        }
        self.mmu.write().invalidate.end();
        replaced
    }

    /// Puts `new` in the place of `old`; what the guest had mapped through `old` is gone when this
    /// returns.
    fn replace(&self, slots: &Slots, old: Option<&MemSlot>, new: Option<MemSlot>) -> Result {
        let moved = old.filter(|old| new.as_ref().is_none_or(|new| new.ipa != old.ipa));
        let list = slots.with(old, new)?;
        if let Some(old) = moved {
            self.retire(slots, old)?;
        }
        self.slots.set(list);
        Ok(())
    }

    /// Unmaps all of a slot that is to go. Until that is done the slot stays in the list, dying, so
    /// that who changes the host's memory meanwhile still unmaps what of it is mapped.
    fn retire(&self, slots: &Slots, old: &MemSlot) -> Result {
        let dying = MemSlot {
            dying: true,
            ..old.clone()
        };
        let list = slots.with(Some(old), Some(dying))?;
        // Whoever has found the slot before sees the change when it comes to map a page.
        self.mmu.write().invalidate.begin(old.hvas());
        self.slots.set(list);
        self.unmap(old.ipas(), true);
        self.mmu.write().invalidate.end();
        Ok(())
    }

    /// Unmaps those pages of a slot that a block could be in place of: a log was kept of them, and
    /// no longer is. The guest's next access to one brings the block. Most are writable, so that
    /// nothing else ever would.
    fn unmap_split(&self, slot: &MemSlot) {
        let all = slot.ipas();
        let mut at = all.start;
        // Found, and not unmapped yet.
        let mut pages = at..at;
        loop {
            let found = self.mmu.read().stage2.next_pages(at..all.end, CHUNK);
            at = match found {
                None => break,
                Some(Err(next)) => next,
                Some(Ok(table)) => {
                    let ipa = table.max(all.start).raw();
                    let address = slot.address(ipa);
                    match self.level(slot, ipa, address, mm::leaf_shift(&self.mm, address)) {
                        Level::L3 => table.wrapping_add(GRANULE.size(Level::L2)),
                        level => {
                            let block = table.align_down(GRANULE.size(level));
                            if block != pages.end {
                                self.unmap(core::mem::replace(&mut pages, block..block), true);
                            }
                            pages.end = block.wrapping_add(GRANULE.size(level));
                            pages.end
                        }
                    }
                }
            };
            crate::host::sched::cond_resched();
        }
        self.unmap(pages, true);
    }
}
