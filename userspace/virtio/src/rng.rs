// SPDX-License-Identifier: Apache-2.0
//! The entropy device (5.4): the host's random numbers for the guest.

use std::ops::ControlFlow;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::rand::{getrandom, GetRandomFlags};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use vmm_sys_util::eventfd::EventFd;

use crate::chain::Chain;
use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::ring::{Ring, RingError};
use crate::worker::{fd, wait, Worker};
use crate::Memory;

/// The most bytes that one request gets. A device may fill less than the whole buffer (5.4.6.1).
pub const MAX_BYTES: usize = 4096;

const QUEUE_SIZES: [u16; 1] = [64];

/// An entropy device.
#[derive(Debug, Default)]
pub struct Rng {
    worker: Option<Worker>,
}

impl Rng {
    /// A device that is not running yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Device for Rng {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let mut ring = activation.ring(0)?;
        let mem = activation.mem;
        self.worker = Some(Worker::spawn("virtio-rng", activation.interrupt, move |stop| run(stop, &mem, &mut ring))?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

fn run(stop: &EventFd, mem: &Memory, ring: &mut Ring) -> Result<(), RingError> {
    loop {
        let [stopped, _kicked] = wait([(fd(stop), PollFlags::IN), (fd(ring.kick()), PollFlags::IN)])?;
        if stopped {
            return Ok(());
        }
        ring.serve(mem, |chain| Ok(ControlFlow::Continue(fill(chain)?)))?;
    }
}

fn fill(mut chain: Chain<'_>) -> Result<usize, RingError> {
    let mut random = [0u8; MAX_BYTES];
    let wanted = chain.writable.len().min(MAX_BYTES);
    let mut filled = 0;
    while let Some(rest) = random.get_mut(filled..wanted).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(RingError::Host(error.into())),
        }
    }
    Ok(chain.writable.write(random.get(..filled).unwrap_or(&[])))
}
