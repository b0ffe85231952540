// SPDX-License-Identifier: Apache-2.0
//! One block request (5.2.6): header, data, status.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use virtio_bindings::virtio_blk as blk;

use super::disk::{Disk, ID_BYTES};
use super::SECTOR;
use crate::bit;
use crate::chain::{Buffers, Chain};
use crate::ring::RingError;

/// The most segments in one discard or write-zeroes request.
pub const MAX_SEGMENTS: u32 = 32;
/// The most sectors in one discarded segment: 1 GiB.
pub const MAX_DISCARD_SECTORS: u32 = 1 << 21;
/// The most sectors in one zeroed segment: 32 MiB, since the host may have to write them.
pub const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 16;

/// The length of a segment's description: sector, number of sectors, flags.
const SEGMENT_BYTES: usize = 16;

/// What the guest is told when a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The request is wrong, or the host could not do it.
    Io,
    /// The device does not know such requests.
    Unsupported,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::Unsupported {
            Failure::Unsupported
        } else {
            Failure::Io
        }
    }
}

/// A disk and what was negotiated about it.
#[derive(Debug)]
pub struct Server {
    disk: Arc<Disk>,
    features: u64,
}

impl Server {
    pub fn new(disk: Arc<Disk>, features: u64) -> Self {
        Self { disk, features }
    }

    /// Does what the request says. Returns how many bytes were written for the driver, the status among them.
    ///
    /// # Errors
    /// When there is no header, or no place for the status: then the driver cannot even be told.
    pub fn handle(&self, chain: Chain<'_>) -> Result<ControlFlow<usize, usize>, RingError> {
        let Chain { mut readable, writable: mut status, .. } = chain;
        let header: [u8; 16] = readable.read_array().ok_or(RingError::Request("no header"))?;
        let data_length = status.len().checked_sub(1).ok_or(RingError::Request("no place for the status"))?;
        let writable = status.take(data_length).ok_or(RingError::Request("no place for the status"))?;
        let [kind, sector] = [u64_at(&header, 0) & 0xffff_ffff, u64_at(&header, 8)];
        let (code, written) = match self.execute(kind as u32, sector, readable, writable) {
            Ok(written) => (blk::VIRTIO_BLK_S_OK, written),
            Err(Failure::Io) => (blk::VIRTIO_BLK_S_IOERR, 0),
            Err(Failure::Unsupported) => (blk::VIRTIO_BLK_S_UNSUPP, 0),
        };
        status.write(&[code as u8]);
        // The used length counts from the chain's first writable byte, and the status comes after all of the data: a failed
        // read has defined no byte before it (2.7.8.2), so it reports none but the status.
        Ok(ControlFlow::Continue(written + 1))
    }

    fn execute(&self, kind: u32, sector: u64, readable: Buffers<'_>, writable: Buffers<'_>) -> Result<usize, Failure> {
        match kind {
            blk::VIRTIO_BLK_T_IN => self.read(sector, &writable),
            blk::VIRTIO_BLK_T_OUT => self.write(sector, &readable),
            blk::VIRTIO_BLK_T_FLUSH => self.flush(),
            blk::VIRTIO_BLK_T_GET_ID => self.id(writable),
            blk::VIRTIO_BLK_T_DISCARD if self.has(blk::VIRTIO_BLK_F_DISCARD) => self.discard(readable),
            blk::VIRTIO_BLK_T_WRITE_ZEROES if self.has(blk::VIRTIO_BLK_F_WRITE_ZEROES) => self.write_zeroes(readable),
            _ => Err(Failure::Unsupported),
        }
    }

    fn read(&self, sector: u64, data: &Buffers<'_>) -> Result<usize, Failure> {
        let offset = self.offset(sector, data)?;
        self.disk.read(offset, data.slices())?;
        Ok(data.len())
    }

    fn write(&self, sector: u64, data: &Buffers<'_>) -> Result<usize, Failure> {
        let offset = self.offset(sector, data)?;
        self.writable()?;
        self.disk.write(offset, data.slices())?;
        if !self.has(blk::VIRTIO_BLK_F_FLUSH) {
            // A driver that does not flush relies on every write being stable (5.2.6.2).
            self.disk.flush()?;
        }
        Ok(0)
    }

    fn flush(&self) -> Result<usize, Failure> {
        self.disk.flush()?;
        Ok(0)
    }

    fn id(&self, mut writable: Buffers<'_>) -> Result<usize, Failure> {
        if writable.len() < ID_BYTES {
            return Err(Failure::Io);
        }
        Ok(writable.write(self.disk.id()))
    }

    fn discard(&self, readable: Buffers<'_>) -> Result<usize, Failure> {
        for segment in self.segments(readable, MAX_DISCARD_SECTORS, 0)? {
            self.disk.punch(segment.offset, segment.length)?;
        }
        Ok(0)
    }

    fn write_zeroes(&self, readable: Buffers<'_>) -> Result<usize, Failure> {
        let unmap = blk::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
        for segment in self.segments(readable, MAX_WRITE_ZEROES_SECTORS, unmap)? {
            self.disk.zero(segment.offset, segment.length, segment.flags & unmap == 0)?;
        }
        if !self.has(blk::VIRTIO_BLK_F_FLUSH) {
            self.disk.flush()?;
        }
        Ok(0)
    }

    /// All segments of a discard or write-zeroes request, checked before anything is done to the first of them.
    fn segments(&self, mut data: Buffers<'_>, max_sectors: u32, known_flags: u32) -> Result<Vec<Segment>, Failure> {
        self.writable()?;
        let length = data.len();
        if length == 0 || length % SEGMENT_BYTES != 0 || length / SEGMENT_BYTES > MAX_SEGMENTS as usize {
            return Err(Failure::Io);
        }
        let mut segments = Vec::with_capacity(length / SEGMENT_BYTES);
        while let Some(bytes) = data.read_array::<SEGMENT_BYTES>() {
            let [sector, rest] = [u64_at(&bytes, 0), u64_at(&bytes, 8)];
            let [sectors, flags] = [rest as u32, (rest >> 32) as u32];
            if flags & !known_flags != 0 {
                return Err(Failure::Unsupported);
            }
            if sectors > max_sectors {
                return Err(Failure::Io);
            }
            let length = u64::from(sectors) * SECTOR;
            let offset = self.disk.offset(sector, length).ok_or(Failure::Io)?;
            segments.push(Segment { offset, length, flags });
        }
        Ok(segments)
    }

    /// Where the data of a read or write is on the disk. Whole sectors only (5.2.6.1).
    fn offset(&self, sector: u64, data: &Buffers<'_>) -> Result<u64, Failure> {
        let length = data.len() as u64;
        if length % SECTOR != 0 {
            return Err(Failure::Io);
        }
        self.disk.offset(sector, length).ok_or(Failure::Io)
    }

    fn writable(&self) -> Result<(), Failure> {
        if self.disk.is_read_only() {
            return Err(Failure::Io);
        }
        Ok(())
    }

    fn has(&self, feature: u32) -> bool {
        self.features & bit(feature) != 0
    }
}

/// A range of the disk, in bytes.
struct Segment {
    offset: u64,
    length: u64,
    flags: u32,
}

/// A little-endian number in a request; zero beyond its end.
fn u64_at(bytes: &[u8; 16], at: usize) -> u64 {
    bytes.iter().skip(at).take(8).rev().fold(0, |value, &byte| (value << 8) | u64::from(byte))
}
