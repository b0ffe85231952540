// SPDX-License-Identifier: GPL-2.0

//! Which pages of a memory slot have been written: what live migration asks for.
//!
//! A page's bit is set, under the lock that page faults take for reading, when the page becomes
//! writable to the guest; it is taken, under the same lock taken for writing, together with the
//! permission. So a page is writable only if its bit is set. The host's own writes to the guest's
//! memory set it after the write.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kernel::prelude::*;

/// A bit for each page of a slot.
pub(crate) struct DirtyLog(KVVec<AtomicU64>);

impl DirtyLog {
    /// Makes the log of a slot of so many pages, none of them written, or `all` as if they were.
    /// May sleep. `EINTR`: the process is being killed.
    pub(super) fn new(pages: u64, all: bool) -> Result<Self> {
        let words = usize::try_from(pages.div_ceil(64))?;
        let mut log = KVVec::with_capacity(words, GFP_KERNEL_ACCOUNT)?;
        for n in 0..words as u64 {
            let there = match pages.saturating_sub(n * 64) {
                _ if !all => 0,
                rest @ 0..64 => (1 << rest) - 1,
                _ => u64::MAX,
            };
            log.push_within_capacity(AtomicU64::new(there))?;
            if n % 4096 == 0 {
                crate::host::sched::cond_resched();
                if crate::host::sched::is_dying() {
                    return Err(EINTR);
                }
            }
        }
        Ok(Self(log))
    }

    /// Returns how many words there are.
    pub(super) fn words(&self) -> usize {
        self.0.len()
    }

    /// Notes that a page, counted from the slot's start, has been written or may be from now on.
    pub(super) fn note(&self, page: u64) {
        self.put_back((page / 64) as usize, 1 << (page % 64));
    }

    /// Returns the bits of a word.
    pub(super) fn bits(&self, word: usize) -> u64 {
        self.0.get(word).map_or(0, |bits| bits.load(Relaxed))
    }

    /// Takes those bits of a word that are in `mask`; they are clear from now on.
    pub(super) fn take(&self, word: usize, mask: u64) -> u64 {
        match self.0.get(word) {
            // Most of them are, and writing takes the cache line from all others.
            Some(bits) if bits.load(Relaxed) & mask != 0 => bits.fetch_and(!mask, Relaxed) & mask,
            _ => 0,
        }
    }

    /// Sets bits of a word.
    pub(super) fn put_back(&self, word: usize, bits: u64) {
        if let Some(word) = self.0.get(word) {
            word.fetch_or(bits, Relaxed);
        }
    }
}
