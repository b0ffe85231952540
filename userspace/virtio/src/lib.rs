// SPDX-License-Identifier: Apache-2.0
//! Virtio devices for the launcher, behind one of two transports: virtio-mmio, or PCI.
//!
//! The references are sections of "Virtual I/O Device (VIRTIO) Version 1.2".
//!
//! A guest is not trusted. What it writes to registers, rings and descriptors is checked before it is used: a request that
//! makes no sense fails with the status that its device class has for that, a ring that makes no sense puts the device into
//! DEVICE_NEEDS_RESET (2.1.2). Nothing here panics, loops or allocates without a bound because of what a guest wrote.
//!
//! [`MmioTransport`] and [`PciTransport`] are the guest's view of one device; [`Device`] is what a
//! device implements. A device works on a thread of its own ([`worker`]) from the moment the driver
//! sets DRIVER_OK until it is reset.

pub mod balloon;
pub mod block;
pub mod chain;
pub mod console;
pub mod device;
pub mod fs;
pub mod interrupt;
pub mod mmio;
pub mod net;
pub mod pci;
mod port;
pub mod ports;
pub mod ring;
pub mod rng;
#[cfg(test)]
mod tests;
pub mod transport;
mod vhost;
pub mod vsock;
pub mod worker;

pub use balloon::{Balloon, BalloonHandle};
pub use block::{Block, BlockError, BlockOptions, Space, MAX_QUEUES};
pub use console::{Console, ConsoleHandle, ConsoleOptions};
pub use device::{ActivateError, Activation, Device};
pub use fs::{Fs, FsError};
pub use interrupt::Interrupt;
pub use mmio::MmioTransport;
pub use net::{Net, NetError, NetOptions};
pub use pci::{PciHost, PciTransport};
pub use port::PortIo;
pub use ports::Ports;
pub use rng::Rng;
pub use transport::Transport;
pub use vsock::{Vsock, VsockError};

/// The guest's memory. Cheap to clone: the regions are shared.
pub type Memory = vm_memory::GuestMemoryMmap<()>;

/// `1 << bit`, for the feature bits, which the bindings give as bit numbers.
pub(crate) const fn bit(number: u32) -> u64 {
    1u64 << number
}

/// Reads `data.len()` bytes at `offset` of a device's configuration space; what lies beyond its end reads as zero.
pub(crate) fn read_bytes(config: &[u8], offset: u64, data: &mut [u8]) {
    let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or(&[]);
    for (index, byte) in data.iter_mut().enumerate() {
        *byte = from.get(index).copied().unwrap_or(0);
    }
}
