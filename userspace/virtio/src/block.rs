// SPDX-License-Identifier: Apache-2.0
//! The block device (5.2): a raw image file, or a block device of the host, as the guest's disk.

mod disk;
mod iovec;
mod overlay;
mod request;
mod space;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustix::event::PollFlags;
use virtio_bindings::virtio_blk as blk;
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use vmm_sys_util::eventfd::EventFd;

pub use disk::BlockError;
pub use space::Space;

use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::ring::{Ring, RingError};
use crate::worker::{fd, wait, Worker};
use crate::{bit, read_bytes, Memory};
pub(crate) use disk::Disk;
use request::Server;

/// The unit in which virtio counts a disk (5.2.4), whatever the disk's own block size.
pub const SECTOR: u64 = 512;

/// The size of each queue.
const QUEUE_SIZE: u16 = 256;
/// The most queues of a disk.
pub const MAX_QUEUES: u16 = 8;
/// As many data segments as fit in the queue beside the header and the status.
const SEG_MAX: u32 = 254;
/// The host's page size as the disk's physical block: partitioning tools align to it. A power of two of logical blocks.
const PHYSICAL_BLOCK_EXP: u8 = 3;

/// How a disk is opened.
#[derive(Clone, Debug, Default)]
pub struct BlockOptions {
    /// The guest may not write, and several guests may use the file at once.
    pub read_only: bool,
    /// What the guest writes is thrown away when the device is dropped; several guests may use the file at once.
    pub snapshot: bool,
    /// How many queues it has, each of which is worked on by a thread of its own: 1 to
    /// [`MAX_QUEUES`]; more or fewer are as many.
    pub queues: u16,
    /// What the guest discards keeps its space.
    pub keep_space: bool,
    /// What the guest sees as the disk's serial number, cut to 20 bytes; the file's name if there is none.
    pub serial: Option<String>,
    /// Where writes wait while the host has no space for them; if there is no such place they fail.
    pub space: Option<Arc<Space>>,
}

impl BlockOptions {
    /// Whether the file itself is left as it is.
    fn keeps_file(&self) -> bool {
        self.read_only || self.snapshot
    }
}

/// A block device.
#[derive(Debug)]
pub struct Block {
    disk: Arc<Disk>,
    queue_sizes: Vec<u16>,
    workers: Vec<Worker>,
}

impl Block {
    /// Opens the image at `path` and locks it: until the device is dropped nobody else can open it for writing, and unless it
    /// stays as it is nobody else can open it at all, provided that they lock too, as QEMU does.
    pub fn open(path: &Path, options: &BlockOptions) -> Result<Self, BlockError> {
        Ok(Self::new(Disk::open(path, options)?, options))
    }

    /// The same with a file that is open already; `path` is what errors call it.
    pub fn from_file(file: File, path: &Path, options: &BlockOptions) -> Result<Self, BlockError> {
        Ok(Self::new(Disk::from_file(file, path, options)?, options))
    }

    fn new(disk: Disk, options: &BlockOptions) -> Self {
        let queues = options.queues.clamp(1, MAX_QUEUES);
        Self { disk: Arc::new(disk), queue_sizes: vec![QUEUE_SIZE; queues.into()], workers: Vec::new() }
    }

    /// The disk's size in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    /// Tells a write that waits for space whether the device is being reset.
    fn set_reset(&self, reset: bool) {
        if let Some(space) = self.disk.space() {
            space.set_reset(reset);
        }
    }

    fn config(&self) -> [u8; 60] {
        let mut config = [0u8; 60];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = config.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        // struct virtio_blk_config (5.2.4)
        put(0, &self.disk.sectors().to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        put(24, &[PHYSICAL_BLOCK_EXP]);
        put(26, &(1u16 << PHYSICAL_BLOCK_EXP).to_le_bytes()); // the smallest I/O that is not read-modify-write, in blocks
        put(34, &(self.queue_sizes.len() as u16).to_le_bytes());
        put(36, &request::MAX_DISCARD_SECTORS.to_le_bytes());
        put(40, &request::MAX_SEGMENTS.to_le_bytes());
        put(44, &(1u32 << PHYSICAL_BLOCK_EXP).to_le_bytes());
        put(48, &request::MAX_WRITE_ZEROES_SECTORS.to_le_bytes());
        put(52, &request::MAX_SEGMENTS.to_le_bytes());
        put(56, &[u8::from(!self.disk.keeps_space())]); // write-zeroes may unmap
        config
    }
}

impl Device for Block {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        let always = RING_FEATURES
            | bit(blk::VIRTIO_BLK_F_SEG_MAX)
            | bit(blk::VIRTIO_BLK_F_BLK_SIZE)
            | bit(blk::VIRTIO_BLK_F_TOPOLOGY)
            | bit(blk::VIRTIO_BLK_F_FLUSH);
        let several = if self.queue_sizes.len() > 1 { bit(blk::VIRTIO_BLK_F_MQ) } else { 0 };
        let space = if self.disk.is_read_only() {
            bit(blk::VIRTIO_BLK_F_RO)
        } else if self.disk.keeps_space() {
            bit(blk::VIRTIO_BLK_F_WRITE_ZEROES)
        } else {
            bit(blk::VIRTIO_BLK_F_DISCARD) | bit(blk::VIRTIO_BLK_F_WRITE_ZEROES)
        };
        always | several | space
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.config(), offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let first = activation.ring(0)?;
        self.set_reset(false);
        let Activation { mem, features, interrupt, rings } = activation;
        // A driver may leave the other queues alone.
        for mut ring in std::iter::once(first).chain(rings.into_iter().flatten()) {
            let server = Server::new(Arc::clone(&self.disk), features);
            let mem = mem.clone();
            let body = move |stop: &EventFd| run(stop, &mem, &mut ring, &server);
            self.workers.push(Worker::spawn("virtio-blk", interrupt.clone(), body)?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.set_reset(true);
        self.workers.clear();
    }
}

fn run(stop: &EventFd, mem: &Memory, ring: &mut Ring, server: &Server) -> Result<(), RingError> {
    loop {
        let [stopped, _kicked] = wait([(fd(stop), PollFlags::IN), (fd(ring.kick()), PollFlags::IN)])?;
        if stopped {
            return Ok(());
        }
        ring.serve(mem, |chain| server.handle(chain))?;
    }
}
