// SPDX-License-Identifier: GPL-2.0

//! VMIDs: the numbers by which the TLB tells guests apart.
//!
//! There are 256 or 65,536 of them. They are given out in turn, each VM keeps its own, and when they are used up a new
//! generation begins: every CPU leaves its guest (an interrupt), all guests' TLB entries are dropped, and each VM gets a
//! new number when it next runs.
//!
//! The rule that makes this right: a vCPU compares its VM's generation with the current one after it has masked
//! interrupts, and it runs no guest if they differ. So once the interrupt that begins a generation has been taken on all
//! CPUs, no CPU uses a number of an older one. VMID 0 is the host's.

use crate::arch::{cpu, tlb};
use crate::host;
use crate::host::sync::NEXT_VMID;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};

/// The current generation.
static GENERATION: Atomic<u64> = Atomic::new(1);

const NUMBER_BITS: u32 = 16;

/// The VMID of one VM, with its generation: `generation << 16 | number`; 0 before the first.
pub(crate) struct Vmid(Atomic<u64>);

impl Vmid {
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// The number, whatever its generation.
    pub(crate) fn number(&self) -> u64 {
        self.0.load(Acquire) & ((1 << NUMBER_BITS) - 1)
    }

    /// Whether the number may be used. Only an answer given with interrupts off holds until they are on again.
    pub(crate) fn is_current(&self) -> bool {
        self.0.load(Relaxed) >> NUMBER_BITS == GENERATION.load(Acquire)
    }

    /// Gets a number of the current generation. May sleep.
    pub(crate) fn renew(&self) {
        let mut next = NEXT_VMID.lock();
        if self.is_current() {
            return; // another vCPU of this VM was quicker
        }
        if *next >= 1 << cpu::features().vmid_bits {
            // Ordered before the interrupts below, and so before the next look of any CPU that was in a guest.
            GENERATION.store(GENERATION.load(Relaxed).wrapping_add(1), Release);
            host::cpu::interrupt_all();
            tlb::flush_all_guests();
            *next = 1;
        }
        let value = GENERATION.load(Relaxed) << NUMBER_BITS | *next;
        // A full barrier: who flushes the TLB for this VM either sees the new number, or changed the tables before a
        // walk under the new number can read them.
        self.0.xchg(value, Full);
        *next = next.wrapping_add(1);
    }
}
