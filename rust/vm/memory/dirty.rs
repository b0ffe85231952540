// SPDX-License-Identifier: GPL-2.0

//! Reading and clearing the dirty logs of slots.

use super::dirty_log::DirtyLog;
use super::slots::MemSlot;
use super::{let_others_run, GuestMemory, CHUNK};
use crate::host::page::PAGE_SIZE;
use crate::model::stage2::Stale;
use crate::model::types::Ipa;
use core::ops::Range;
use kernel::prelude::*;

/// How many words of a log are looked at before the lock is let go for others.
const WORDS: usize = 64;

impl GuestMemory {
    /// Serves KVM_GET_DIRTY_LOG: gives `write` the words of a slot's log, in their order and a few
    /// at a time, and clears them unless `keep` says not to. What has been written since is in the
    /// next one. One caller at a time.
    ///
    /// Errors: `ENOENT` if the slot has no log, `EINTR` if the process is being killed, else what
    /// `write` returns; what it was given then is dirty still.
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

    /// Serves KVM_CLEAR_DIRTY_LOG: clears those of `pages` of a slot, from the page `first` on,
    /// that have a bit in what `read` gives, a few words at a time. One caller at a time. What has
    /// been written since is in the log.
    ///
    /// Errors: `ENOENT` if the slot has no log, `EINVAL` if the pages are not the slot's or do not
    /// fill words, `EINTR` if the process is being killed, else what `read` returns; nothing is
    /// cleared then.
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

    /// Takes the bits of `words` out of a log, from its word `first` on, and from the guest the
    /// permission to write those pages. Leaves in `words` what was there to take.
    fn take_dirty(&self, slot: &MemSlot, log: &DirtyLog, first: usize, words: &mut [u64]) {
        let mut stale = Stale::new();
        let mut mmu = self.mmu.write();
        for (n, word) in (first..).zip(words) {
            *word = log.take(n, *word);
            let base = Ipa::new(slot.ipa).wrapping_add(n as u64 * 64 * PAGE_SIZE);
            mmu.stage2.write_protect_mask(base, *word, &mut stale);
        }
        mmu.stage2.flush(stale);
    }

    /// Notes that the host itself has written to the guest's page at `ipa`.
    pub(crate) fn note_dirty(&self, ipa: u64) {
        if let Some(slot) = self.slots().find(ipa) {
            slot.note_dirty(ipa);
        }
    }

    /// Takes from the guest the permission to write to `range`. May sleep.
    pub(super) fn write_protect(&self, range: Range<Ipa>) {
        let mut at = range.start;
        loop {
            let next = self.mmu.write().stage2.write_protect(at..range.end, CHUNK);
            match next {
                Some(next) => at = next,
                None => return,
            }
            crate::host::sched::cond_resched();
        }
    }
}
