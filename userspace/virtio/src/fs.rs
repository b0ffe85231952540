// SPDX-License-Identifier: Apache-2.0
//! The file system device (5.11), served by another program by vhost-user: a directory of this
//! machine that the guest mounts.
//!
//! The program shares the guest's memory, which therefore has to be a file. It is told nothing of
//! where that is in this process: an address of the guest stands for itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ::vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use ::vhost::vhost_user::{Frontend, VhostUserFrontend};
use ::vhost::{Error, VhostBackend, VhostUserMemoryRegionInfo};
use rustix::event::{PollFd, PollFlags};
use virtio_bindings::virtio_ids::VIRTIO_ID_FS;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::interrupt::Interrupt;
use crate::ring::{Ring, RingError};
use crate::vhost::{failures, hand_over};
use crate::worker::{fd, wait_for, Worker};
use crate::{read_bytes, Memory};

/// Requests that overtake others, and one queue of the others (5.11.2).
const QUEUE_SIZES: [u16; 2] = [256, 256];
/// Queues of ordinary requests, as the configuration space tells their number.
const REQUEST_QUEUES: u32 = 1;
/// The most bytes of a tag (5.11.4).
pub const MAX_TAG: usize = 36;
/// How long the program may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no file system device.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The tag is empty or too long.
    #[error("a tag has 1 to {MAX_TAG} bytes")]
    BadTag,
    /// The program cannot be talked to.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// The program does not answer as it should.
    #[error("{0}")]
    Vhost(#[from] Error),
    /// The program cannot do what is needed.
    #[error("it lacks a feature: {0}")]
    Lacks(&'static str),
}

/// A file system device.
pub struct Fs {
    /// The tag, padded with zeroes, and the number of request queues (5.11.4).
    config: [u8; MAX_TAG + 4],
    frontend: Frontend,
    /// The same connection, to see its end.
    socket: UnixStream,
    features: u64,
    worker: Option<Worker>,
}

impl Fs {
    /// Uses the program at the other end of `socket` and waits until it answers. The guest mounts
    /// it by `tag`.
    pub fn over(socket: UnixStream, tag: &str) -> Result<Self, FsError> {
        let mut config = [0; MAX_TAG + 4];
        let room = config.get_mut(..tag.len()).filter(|room| (1..=MAX_TAG).contains(&room.len()));
        room.ok_or(FsError::BadTag)?.copy_from_slice(tag.as_bytes());
        config[MAX_TAG..].copy_from_slice(&REQUEST_QUEUES.to_le_bytes());

        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut frontend = Frontend::from_stream(socket.try_clone()?, QUEUE_SIZES.len() as u64);
        frontend.set_owner()?;
        let features = frontend.get_features()?;
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            return Err(FsError::Lacks("VHOST_USER_F_PROTOCOL_FEATURES"));
        }
        // Each request gets an answer, so that a refusal is no silence.
        let ack = VhostUserProtocolFeatures::REPLY_ACK;
        if !frontend.get_protocol_features()?.contains(ack) {
            return Err(FsError::Lacks("VHOST_USER_PROTOCOL_F_REPLY_ACK"));
        }
        frontend.set_protocol_features(ack)?;
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        Ok(Self { config, frontend, socket, features, worker: None })
    }
}

impl Device for Fs {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_FS
    }

    fn features(&self) -> u64 {
        RING_FEATURES & self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config, offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let rings: [Ring; 2] = [activation.ring(0)?, activation.ring(1)?];
        let Activation { mem, features, interrupt, .. } = activation;
        let failures = failures(rings.len())?;
        let mut server = Server { frontend: self.frontend.clone(), socket: self.socket.try_clone()? };
        let line = interrupt.clone();
        // The calls that this takes a vCPU's thread has not got.
        let body = move |stop: &EventFd| server.serve(stop, features, &mem, &line, &rings, &failures);
        self.worker = Some(Worker::spawn("virtio-fs", interrupt, body)?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

/// The program, as the device's thread uses it.
struct Server {
    frontend: Frontend,
    socket: UnixStream,
}

impl Server {
    /// Has the program serve the rings until `stop`.
    fn serve(
        &mut self,
        stop: &EventFd,
        features: u64,
        mem: &Memory,
        interrupt: &Interrupt,
        rings: &[Ring],
        failures: &[EventFd],
    ) -> Result<(), RingError> {
        let result = match self.start(features, mem, interrupt, rings, failures) {
            Ok(()) => self.watch(stop, failures),
            Err(error) => Err(error.into()),
        };
        for index in 0..rings.len() {
            // It lets go of the ring before it answers. An error means that it never had it, or has
            // ended.
            let _ = self.frontend.get_vring_base(index);
        }
        result
    }

    fn start(
        &mut self,
        features: u64,
        mem: &Memory,
        interrupt: &Interrupt,
        rings: &[Ring],
        failures: &[EventFd],
    ) -> Result<(), ActivateError> {
        self.frontend.set_features(features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())?;
        self.frontend.set_mem_table(&regions(mem)?)?;
        hand_over(&self.frontend, mem, interrupt, rings, failures)?;
        for index in 0..rings.len() {
            self.frontend.set_vring_enable(index, true)?;
        }
        Ok(())
    }

    /// Waits for `stop`, or for a ring that the program finds unusable. Of the program's own end
    /// its owner tells.
    fn watch(&self, stop: &EventFd, failures: &[EventFd]) -> Result<(), RingError> {
        let others = [fd(stop), self.socket.as_fd()];
        let all = others.into_iter().chain(failures.iter().map(fd));
        let mut polled: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        wait_for(&mut polled)?;
        match polled.iter().position(|fd| !fd.revents().is_empty()) {
            Some(index) if index >= others.len() => Err(RingError::Vhost(index - others.len())),
            _ => Ok(()),
        }
    }
}

/// Describes the memory to the program.
fn regions(mem: &Memory) -> Result<Vec<VhostUserMemoryRegionInfo>, Error> {
    let describe = |region: &<Memory as GuestMemoryBackend>::R| {
        let file = region.file_offset().ok_or(Error::InvalidGuestMemory)?;
        let start = region.start_addr().raw_value();
        Ok(VhostUserMemoryRegionInfo {
            guest_phys_addr: start,
            memory_size: region.len(),
            userspace_addr: start,
            mmap_offset: file.start(),
            mmap_handle: file.file().as_raw_fd(),
        })
    };
    mem.iter().map(describe).collect()
}
