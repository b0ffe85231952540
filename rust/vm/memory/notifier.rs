// SPDX-License-Identifier: GPL-2.0

//! What the host's memory management asks of a guest's memory.

use super::slots::Slots;
use super::{GuestMemory, CHUNK};
use crate::host::mmu_notifier::MmuNotifier;
use crate::host::trace;
use crate::model::stage2::{Age, Stale};
use crate::model::types::Ipa;
use core::ops::Range;

/// So many places that show the same of the host's memory are unmapped with one flush.
const BATCH: usize = 32;

impl MmuNotifier for GuestMemory {
    fn invalidate_range_start(&self, range: Range<u64>, may_sleep: bool) {
        if trace::is_on() {
            trace::kvm_unmap_hva_range(range.start, range.end);
        }
        self.mmu.write().invalidate.begin(range.clone());
        if may_sleep {
            self.unmap_host(&self.slots(), range, true);
        } else {
            // The last one to let go of the list frees it, which may sleep.
            self.slots
                .read(|slots| self.unmap_host(slots, range, false));
        }
    }

    fn invalidate_range_end(&self, _range: Range<u64>) {
        self.mmu.write().invalidate.end();
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

impl GuestMemory {
    /// Ages the guest's pages in the host's `range`, and returns whether they were used since they
    /// were last aged. Called by the host with a lock of its page tables: nothing here may sleep.
    /// So the list of slots is read in place, since the last one to let go of it frees it, and the
    /// CPUs forget all at once.
    fn age_all(&self, range: Range<u64>, what: Age) -> bool {
        if trace::is_on() {
            match what {
                Age::Test => trace::kvm_test_age_hva(range.start),
                Age::Clear | Age::ClearAndFlush => trace::kvm_age_hva(range.start, range.end),
            }
        }
        self.slots.read(|slots| {
            let mut young = false;
            let mut stale = Stale::new();
            for range in slots.ipas(range) {
                let mut next = Some(range.start);
                while let Some(at) = next {
                    let mmu = self.mmu.read();
                    let rest = at..range.end;
                    let aged = mmu.stage2.age(rest, what, CHUNK, &mut stale);
                    young |= aged.young;
                    next = aged.next;
                }
                if young && what == Age::Test {
                    break;
                }
            }
            if !stale.is_empty() {
                self.mmu.read().stage2.flush(stale);
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
                let done = self.mmu.write().stage2.unmap_each(batch, CHUNK);
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
