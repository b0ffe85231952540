// SPDX-License-Identifier: Apache-2.0
//! One request of a driver: a descriptor chain, checked as a whole before any of it is used.

use std::collections::VecDeque;

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemoryBackend, VolatileSlice};

use crate::ring::RingError;
use crate::Memory;

/// The most descriptors in one chain; Linux's limit for one vectored read or write (UIO_MAXIOV) is the same, and the specification's
/// (the queue's size, 2.7.5.3.1) is below it for every queue here.
pub const MAX_DESCRIPTORS: usize = 1024;

/// A descriptor chain whose buffers are all in guest memory.
#[derive(Debug)]
pub struct Chain<'m> {
    /// The index that names the chain in the used ring.
    pub head: u16,
    /// What the driver has written for the device.
    pub readable: Buffers<'m>,
    /// What the device may write.
    pub writable: Buffers<'m>,
}

impl<'m> Chain<'m> {
    /// Walks the chain and checks it: it ends, its buffers are memory, and nothing readable follows something writable (2.7.4.2).
    pub(crate) fn new(mem: &'m Memory, mut descriptors: DescriptorChain<&'m Memory>) -> Result<Self, RingError> {
        let head = descriptors.head_index();
        let mut chain = Chain { head, readable: Buffers::default(), writable: Buffers::default() };
        // The iterator ends early, without a word, on a bad index, a loop, a bad indirect table or more than 4 GiB: then the last
        // descriptor that it gave announces another one, or there was none at all.
        let mut ended = false;
        for count in 0.. {
            let Some(descriptor) = descriptors.next() else { break };
            if count == MAX_DESCRIPTORS {
                return Err(RingError::ChainTooLong);
            }
            ended = !descriptor.has_next();
            let side = if descriptor.is_write_only() {
                &mut chain.writable
            } else if chain.writable.slices.is_empty() {
                &mut chain.readable
            } else {
                return Err(RingError::ReadableAfterWritable);
            };
            for slice in mem.get_slices(descriptor.addr(), descriptor.len() as usize) {
                side.slices.push_back(slice.map_err(|_| RingError::NotMemory(descriptor.addr().0))?);
            }
        }
        if ended {
            Ok(chain)
        } else {
            Err(RingError::ChainBroken)
        }
    }
}

/// Guest memory, in pieces, taken from the front.
#[derive(Debug, Default)]
pub struct Buffers<'m> {
    slices: VecDeque<VolatileSlice<'m>>,
}

impl<'m> Buffers<'m> {
    /// How many bytes are left.
    pub fn len(&self) -> usize {
        // No overflow: a chain has at most 4 GiB, and `usize` has 64 bits.
        self.slices.iter().map(VolatileSlice::len).sum()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces that are left.
    pub fn slices(&self) -> impl Iterator<Item = &VolatileSlice<'m>> + Clone {
        self.slices.iter()
    }

    /// Takes the first `count` bytes, or nothing if there are fewer.
    pub fn take(&mut self, count: usize) -> Option<Buffers<'m>> {
        if count > self.len() {
            return None;
        }
        let mut taken = Buffers::default();
        let mut left = count;
        while left > 0 {
            let slice = self.slices.pop_front()?;
            let part = left.min(slice.len());
            let (front, back) = slice.split_at(part).ok()?;
            taken.slices.push_back(front);
            if !back.is_empty() {
                self.slices.push_front(back);
            }
            left -= part;
        }
        Some(taken)
    }

    /// Copies from guest memory into `to` and returns how many bytes there were.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(part) = self.next_part(rest.len()) else { break };
            done += part.copy_to(rest);
        }
        done
    }

    /// Copies `from` into guest memory and returns how many bytes there was room for.
    pub fn write(&mut self, from: &[u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let Some(part) = self.next_part(rest.len()) else { break };
            part.copy_from(rest);
            done += part.len();
        }
        done
    }

    /// Reads a whole array, or nothing if there are fewer bytes.
    pub fn read_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut array = [0; N];
        (self.read(&mut array) == N).then_some(array)
    }

    /// Takes a piece of 1 to `limit` bytes.
    fn next_part(&mut self, limit: usize) -> Option<VolatileSlice<'m>> {
        loop {
            let slice = self.slices.pop_front()?;
            if slice.is_empty() {
                continue;
            }
            let (front, back) = slice.split_at(limit.min(slice.len())).ok()?;
            if !back.is_empty() {
                self.slices.push_front(back);
            }
            return Some(front);
        }
    }
}
