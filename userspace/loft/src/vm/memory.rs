// SPDX-License-Identifier: Apache-2.0
//! The guest's RAM: one mapping, given to the hypervisor as one slot.
//!
//! It is of huge pages where the host has some at hand: that saves stage-2 faults, and walks are
//! shorter. Of two ways the host has (Documentation/admin-guide/mm): transparent ones, which come
//! and go by themselves, are the default, and cost nothing where there are none. Those that were set
//! aside (hugetlb) are always there, but none of them is given back while the guest runs.

use anyhow::{anyhow, bail, Context, Result};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use loft_boot::{layout, size};
use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};
use std::arch::asm;
use std::fs::File;
use vm_memory::{
    Address, Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion,
};

/// Bytes of a huge page that is set aside, for which [`map_huge`] asks.
const HUGE: u64 = 2 << 20;
/// MAP_HUGE_2MB (linux/mman.h).
const MAP_HUGE_2MB: libc::c_int = 21 << 26;

/// Maps `bytes` of RAM, in huge pages that were set aside if `huge`, and makes them the guest's.
/// Else they are a file's if they are `shared` with other programs.
pub fn create(vm: &VmFd, bytes: u64, huge: bool, shared: bool) -> Result<GuestMemoryMmap<()>> {
    let length = usize::try_from(bytes).context("the guest's memory does not fit this machine's address space")?;
    let memory = if huge {
        map_huge(bytes)?
    } else {
        let file = shared.then(|| file(bytes)).transpose()?;
        GuestMemoryMmap::from_ranges_with_files(&[(GuestAddress(layout::RAM_BASE), length, file)])
            .with_context(|| format!("cannot map {} of memory for the guest", size::show(bytes)))?
    };
    for (slot, region) in memory.iter().enumerate() {
        let host = region.get_host_address(vm_memory::MemoryRegionAddress(0)).context("RAM has no host address")?;
        if !huge {
            advise_huge(host, length);
        }
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

/// Where the number of huge pages of 2 MiB is set (Documentation/admin-guide/mm/hugetlbpage.rst).
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Maps `bytes` of RAM in huge pages of 2 MiB, all of which are the guest's from now on.
fn map_huge(bytes: u64) -> Result<GuestMemoryMmap<()>> {
    if bytes % HUGE != 0 {
        bail!("{} of memory is not a whole number of huge pages; give a multiple of 2M with -m", size::show(bytes));
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | MAP_HUGE_2MB;
    let region =
        MmapRegion::build(None, bytes as usize, libc::PROT_READ | libc::PROT_WRITE, flags).map_err(|error| {
            anyhow!(
                "this machine has not {} huge pages of 2 MiB to spare for {} of memory ({error}); as root set so many \
                 more aside by {HUGE_PAGES}, or leave out --huge",
                bytes / HUGE,
                size::show(bytes)
            )
        })?;
    let region = GuestRegionMmap::new(region, GuestAddress(layout::RAM_BASE)).context("RAM has no address")?;
    GuestMemoryMmap::from_regions(vec![region]).context("RAM is no memory")
}

/// Makes a file without a name, in memory. Nobody who is given it can change its size: what is cut
/// off under a mapping is a SIGBUS for who reads there.
fn file(bytes: u64) -> Result<FileOffset> {
    let make = || -> std::io::Result<File> {
        let file = File::from(memfd_create(c"guest", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
        file.set_len(bytes)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
        Ok(file)
    };
    Ok(FileOffset::new(make().context("cannot make memory that can be shared")?, 0))
}

/// Asks for huge pages: fewer stage-2 faults and shorter walks. It is only a wish.
fn advise_huge(address: *mut u8, length: usize) {
    // SAFETY: the range is one mapping, and MADV_HUGEPAGE changes nothing that a program can see.
    unsafe { libc::madvise(address.cast(), length, libc::MADV_HUGEPAGE) };
}

/// Writes `bytes` to guest memory at `address`, so that CPUs fetch them as instructions.
pub fn write_code(memory: &GuestMemoryMmap<()>, address: u64, bytes: &[u8]) -> Result<()> {
    let at = GuestAddress(address);
    memory.write_slice(bytes, at).context("there is no memory of the guest's there")?;
    if let Ok(slice) = memory.get_slice(at, bytes.len()) {
        publish(slice.ptr_guard().as_ptr() as u64, bytes.len() as u64);
    }
    Ok(())
}

/// The smallest line of a cache that there may be, in bytes.
const LINE: u64 = 16;

/// Makes what was written to `length` bytes at `start` what all CPUs fetch from there (Arm ARM,
/// B2.7.4).
fn publish(start: u64, length: u64) {
    let lines = || (start & !(LINE - 1)..start + length).step_by(LINE as usize);
    for line in lines() {
        // SAFETY: the line is in a mapping that the caller has just written to, and cleaning it
        // changes nothing that a program can see.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for line in lines() {
        // SAFETY: as above; what is invalidated is fetched again.
        unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}
