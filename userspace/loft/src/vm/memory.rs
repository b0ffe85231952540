// SPDX-License-Identifier: Apache-2.0
//! The guest's RAM: one anonymous mapping, given to the hypervisor as one slot.

use anyhow::{Context, Result};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use loft_boot::{layout, size};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Maps `bytes` of RAM and makes them the guest's.
pub fn create(vm: &VmFd, bytes: u64) -> Result<GuestMemoryMmap<()>> {
    let length = usize::try_from(bytes).context("the guest's memory does not fit this machine's address space")?;
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(layout::RAM_BASE), length)])
        .with_context(|| format!("cannot map {} of memory for the guest", size::show(bytes)))?;
    for (slot, region) in memory.iter().enumerate() {
        let host = region.get_host_address(vm_memory::MemoryRegionAddress(0)).context("RAM has no host address")?;
        advise_huge(host, length);
        let region = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: host as u64,
        };
        // SAFETY: 1. the range is a mapping that `memory` owns; 2. `memory` is kept by the machine for as long as the
        // VM exists; 3. the guest's accesses to it are what it is for.
        unsafe { vm.set_user_memory_region(region) }
            .with_context(|| format!("the hypervisor refused {} of guest memory", size::show(bytes)))?;
    }
    Ok(memory)
}

/// Asks for huge pages: fewer stage-2 faults and shorter walks. It is only a wish.
fn advise_huge(address: *mut u8, length: usize) {
    // SAFETY: the range is one mapping, and MADV_HUGEPAGE changes nothing that a program can see.
    unsafe { libc::madvise(address.cast(), length, libc::MADV_HUGEPAGE) };
}
