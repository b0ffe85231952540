// SPDX-License-Identifier: Apache-2.0
//! Handing rings to somebody else, who then serves the guest without the launcher: the host
//! kernel's vhost workers, or another program (vhost-user).

use std::io::{self, ErrorKind};
use std::sync::{Arc, OnceLock};

use ::vhost::{Error, VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use rustix::event::{PollFd, PollFlags};
use virtio_queue::QueueT;
use vm_memory::{Address, GuestAddress, GuestAddressSpace, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::device::ActivateError;
use crate::interrupt::Interrupt;
use crate::ring::{Ring, RingError};
use crate::worker::{fd, wait_for};
use crate::Memory;

/// The guest's memory for a vhost handle that is opened before there is one: no memory until it is set.
#[derive(Clone, Debug, Default)]
pub struct LateMemory(Arc<OnceLock<Arc<Memory>>>);

impl LateMemory {
    /// Only the first call has an effect: a guest's memory does not change.
    pub fn set(&self, mem: &Memory) {
        self.0.get_or_init(|| Arc::new(mem.clone()));
    }
}

impl GuestAddressSpace for LateMemory {
    type M = Memory;
    type T = Arc<Memory>;

    fn memory(&self) -> Self::T {
        self.0.get().cloned().unwrap_or_default()
    }
}

/// Tells the kernel about the memory and the rings; it is not started. The first time this process
/// becomes the owner, not when the device is made: the kernel's worker has the user and the
/// namespaces of the thread that asks for it, and a launcher may have become somebody else before
/// its guest runs.
///
/// Returns what the kernel signals when it gives a ring up, for each of them.
pub fn prepare<B: VhostBackend>(
    backend: &B,
    features: u64,
    mem: &Memory,
    interrupt: &Interrupt,
    rings: &[Ring],
) -> Result<Vec<EventFd>, ActivateError> {
    match backend.set_owner() {
        // It is the owner from the last time.
        Err(Error::IoctlError(error)) if error.kind() == ErrorKind::ResourceBusy => {}
        other => other?,
    }
    // Bits of the device class mean other things to vhost (VHOST_F_LOG_ALL, ...) and were never among its features.
    backend.set_features(features & backend.get_features()?)?;
    let regions: Vec<_> = mem
        .iter()
        .map(|region| {
            Ok(VhostUserMemoryRegionInfo {
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: mem.get_host_address(region.start_addr()).map_err(|_| Error::InvalidGuestMemory)?
                    as u64,
                mmap_offset: 0,
                mmap_handle: -1,
            })
        })
        .collect::<Result<_, Error>>()?;
    backend.set_mem_table(&regions)?;
    let failures = failures(rings.len())?;
    hand_over(backend, mem, interrupt, rings, &failures)?;
    Ok(failures)
}

/// Makes an eventfd for each of `count` rings, by which whoever has it says that it is unusable.
pub fn failures(count: usize) -> io::Result<Vec<EventFd>> {
    (0..count).map(|_| EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)).collect()
}

/// Gives `rings` to a backend that knows the memory, each with its element of `failures`.
pub fn hand_over<B: VhostBackend>(
    backend: &B,
    mem: &Memory,
    interrupt: &Interrupt,
    rings: &[Ring],
    failures: &[EventFd],
) -> Result<(), ActivateError> {
    interrupt.signalled_elsewhere();
    for (index, (ring, failure)) in rings.iter().zip(failures).enumerate() {
        set_ring(backend, index, ring, mem)?;
        match interrupt.of_ring(ring.index()) {
            Some(event) => backend.set_vring_call(index, event)?,
            // The driver wants to hear nothing of this queue.
            None => backend.set_vring_call(index, &EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)?)?,
        }
        backend.set_vring_kick(index, ring.kick())?;
        backend.set_vring_err(index, failure)?;
    }
    Ok(())
}

fn set_ring<B: VhostBackend>(backend: &B, index: usize, ring: &Ring, mem: &Memory) -> Result<(), ActivateError> {
    let queue = ring.queue();
    let size = u64::from(queue.size());
    // The kernel is given each part's address in this process and takes it to be contiguous, so a part that begins in one region of
    // guest memory and ends in another must not reach it: between the two is memory of the launcher.
    let parts =
        [(queue.desc_table(), 16 * size), (queue.avail_ring(), 6 + 2 * size), (queue.used_ring(), 6 + 8 * size)];
    for (start, length) in parts {
        mem.get_slice(GuestAddress(start), length as usize).map_err(|_| ActivateError::QueueInvalid(index))?;
    }
    backend.set_vring_num(index, queue.size())?;
    backend.set_vring_base(index, 0)?;
    backend.set_vring_addr(
        index,
        &VringConfigData {
            queue_max_size: queue.max_size(),
            queue_size: queue.size(),
            flags: 0,
            desc_table_addr: queue.desc_table(),
            used_ring_addr: queue.used_ring(),
            avail_ring_addr: queue.avail_ring(),
            log_addr: None,
        },
    )?;
    Ok(())
}

/// Waits for `stop`, or for a ring that is given up.
pub fn watch(stop: &EventFd, failures: &[EventFd]) -> Result<(), RingError> {
    let all = || std::iter::once(stop).chain(failures);
    let mut polled: Vec<_> = all().map(|event| PollFd::from_borrowed_fd(fd(event), PollFlags::IN)).collect();
    wait_for(&mut polled)?;
    match polled.iter().position(|fd| !fd.revents().is_empty()) {
        Some(index) if index > 0 => Err(RingError::Vhost(index - 1)),
        _ => Ok(()),
    }
}
