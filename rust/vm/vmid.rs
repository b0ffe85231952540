// SPDX-License-Identifier: GPL-2.0

//! VMIDs: the numbers by which the TLB tells guests apart.
//!
//! There are 256 or 65,536 of them. They are given out in turn, each VM keeps its own, and when
//! they are used up a new generation begins: every CPU leaves its guest (an interrupt), all guests'
//! TLB entries are dropped, and each VM gets a new number when it next runs.
//!
//! The rule that makes this right: after it has masked interrupts, a vCPU compares the number in
//! its CPU with the VM's, and its generation with the current one, and it runs no guest if they
//! differ. So once the interrupt that begins a generation has been taken on all CPUs, no CPU uses a
//! number of an older one. VMID 0 is the host's.
//!
//! Where KVM is on, it gives out numbers as well, from a pool of its own that nobody else can take
//! from, and begins generations of its own. It reserves VMID 0 and never gives that out
//! (`arch/arm64/kvm/vmid.c`). So there all of loft's VMs have that one, and nothing that the TLBs
//! hold under it can be a guest's of KVM's, whatever KVM does. Among loft's VMs a CPU forgets all
//! that it knows under VMID 0 when another VM comes ([`Vmid::comes_here`]). TLB maintenance that is
//! broadcast for one VM makes the others forget too much, which is right. What a VM that has gone
//! has left in a CPU is forgotten when the next VM comes there: nothing walks or uses it before,
//! since VTTBR_EL2 is of no VM between.

use crate::arch::{cpu, tlb};
use crate::host;
use crate::host::kvm;
use crate::host::preempt::PreemptDisabled;
use crate::host::sync::NEXT_VMID;
use core::sync::atomic::{
    fence, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

/// The current generation.
static GENERATION: AtomicU64 = AtomicU64::new(1);

const NUMBER_BITS: u32 = 16;

/// The [`Vmid::id`] that the next one gets. There are enough of them for ever.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The VMID of one VM.
pub(crate) struct Vmid {
    /// With its generation: `generation << 16 | number`; 0 before the first.
    value: AtomicU64,
    /// How often what CPUs know under it was flushed.
    flushes: AtomicU64,
    /// Tells it from all others, also from those that are gone; never 0.
    id: u64,
}

impl Vmid {
    pub(crate) fn new() -> Self {
        Self {
            value: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            id: NEXT_ID.fetch_add(1, Relaxed),
        }
    }

    /// Notes that the VM comes to this CPU. Returns whether the CPU has to forget first what it
    /// knows under the VM's number.
    pub(crate) fn comes_here(&self, preempt: PreemptDisabled<'_>) -> bool {
        kvm::is_on() && host::cpu::exchange_last_guest(self.id, preempt) != self.id
    }

    /// Notes that all CPUs are made to forget something that they know under it.
    pub(crate) fn note_flush(&self) {
        self.flushes.fetch_add(1, Relaxed);
    }

    /// Returns how often all CPUs were made to forget something that they know under it.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Relaxed)
    }

    /// Returns the VMID as it is now, with its generation.
    pub(crate) fn load(&self) -> u64 {
        self.value.load(Acquire)
    }

    /// Returns the number in a VMID, whatever its generation.
    pub(crate) const fn number(vmid: u64) -> u64 {
        vmid & ((1 << NUMBER_BITS) - 1)
    }

    /// Returns whether the VM may run under `vmid`, which is what a CPU has been given: it is the
    /// VM's own, and of the current generation. That the VM has one of the current generation is
    /// not enough, for another vCPU may have renewed it since the CPU was given this one. Only an
    /// answer given with interrupts off holds until they are on again.
    pub(crate) fn may_run_as(&self, vmid: u64) -> bool {
        self.value.load(Relaxed) == vmid && is_current(vmid)
    }

    /// Gets a number of the current generation. May sleep.
    pub(crate) fn renew(&self) {
        let mut next = NEXT_VMID.lock();
        if is_current(self.load()) {
            return; // another vCPU of this VM was quicker
        }
        if kvm::is_on() {
            *next = 0;
        } else if *next >= 1 << cpu::features().vmid_bits {
            // Ordered before the interrupts below, and so before the next look of any CPU that was
            // in a guest.
            GENERATION.store(GENERATION.load(Relaxed).wrapping_add(1), Release);
            host::cpu::interrupt_all();
            tlb::flush_all_guests();
            *next = 1;
        }
        let value = GENERATION.load(Relaxed) << NUMBER_BITS | *next;
        // Full barriers: who flushes the TLB for this VM either sees the new number, or changed the
        // tables before a walk under the new number can read them.
        fence(SeqCst);
        self.value.store(value, Release);
        fence(SeqCst);
        *next = next.wrapping_add(1);
    }
}

fn is_current(vmid: u64) -> bool {
    vmid >> NUMBER_BITS == GENERATION.load(Acquire)
}
