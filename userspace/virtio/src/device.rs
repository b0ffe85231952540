// SPDX-License-Identifier: Apache-2.0
//! What a virtio device is to its transport.

use virtio_bindings::{virtio_config, virtio_ring};

use crate::interrupt::Interrupt;
use crate::ring::Ring;
use crate::{bit, Memory};

/// What every device here offers: virtio 1, indirect descriptors, event indices.
pub const RING_FEATURES: u64 = bit(virtio_config::VIRTIO_F_VERSION_1)
    | bit(virtio_ring::VIRTIO_RING_F_INDIRECT_DESC)
    | bit(virtio_ring::VIRTIO_RING_F_EVENT_IDX);

/// Everything that a device is given when its driver has set DRIVER_OK.
#[derive(Debug)]
pub struct Activation {
    /// The guest's memory.
    pub mem: Memory,
    /// The features that were negotiated.
    pub features: u64,
    /// The way to the driver.
    pub interrupt: Interrupt,
    /// The device's queues in order; `None` where the driver has not made one ready.
    pub rings: Vec<Option<Ring>>,
}

impl Activation {
    /// Takes a ring that the device cannot do without.
    pub(crate) fn ring(&mut self, index: usize) -> Result<Ring, ActivateError> {
        self.rings.get_mut(index).and_then(Option::take).ok_or(ActivateError::QueueNotReady(index))
    }
}

/// Why a device could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The driver left out a queue that the device cannot do without.
    #[error("the driver did not set up queue {0}")]
    QueueNotReady(usize),
    /// The driver's description of a queue is not one.
    #[error("the driver set up queue {0} wrongly: bad size, alignment or address")]
    QueueInvalid(usize),
    /// The host refused something.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The host's kernel refused to take over the rings.
    #[error("vhost: {0}")]
    Vhost(#[from] ::vhost::Error),
}

/// A virtio device behind a transport.
///
/// The transport calls all of these under one lock. `activate` is called once between two `reset`s.
pub trait Device: Send {
    /// The device type (section 5), such as 2 for a block device.
    fn device_type(&self) -> u32;

    /// The features that are offered, [`RING_FEATURES`] among them.
    fn features(&self) -> u64;

    /// The largest size of each queue: powers of two, at most 32768.
    fn queue_sizes(&self) -> &[u16];

    /// Reads the configuration space. What does not exist reads as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes the configuration space. Most devices have nothing that can be written.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// Starts to work on the rings, on threads of the device's own.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// Stops all work. When this returns, the device touches neither rings nor guest memory. Also after a failed `activate`.
    fn reset(&mut self);
}
