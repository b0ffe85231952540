// SPDX-License-Identifier: Apache-2.0
//! MSI-X (PCI Local Bus 3.0, 6.8.2): the table of messages, their masks and pending bits.
//!
//! Whoever has something to say signals an eventfd, without a look at this table: the device here,
//! or somebody else who serves its rings. A message that may be sent is connected: the hypervisor
//! takes the signal and delivers the message. One that is masked is not, so that the signal stays
//! in the eventfd; that is the pending bit. When it is connected again a signal that is there
//! already is delivered.

use std::io;

use rustix::event::PollFlags;
use vmm_sys_util::eventfd::EventFd;

use super::config::Switches;
use super::{put, value, PENDING};
use crate::transport::Front;
use crate::worker::{fd, is_ready};

/// Bytes of an entry of the table: address, data, control.
const ENTRY: u64 = 16;
/// The bit of an entry's control that masks it.
const MASKED: u32 = 1;

/// A message: what is written, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Message {
    /// The address, which is a register of an interrupt controller.
    pub address: u64,
    /// What is written there.
    pub data: u32,
}

/// The way of a function's messages to the guest.
pub trait Messages: Send + Sync {
    /// Has each signal of `event` send `message`, which is the function's message `vector`; also
    /// one that is there already.
    ///
    /// # Errors
    /// Those of the hypervisor.
    fn connect(&self, vector: usize, event: &EventFd, message: Message) -> io::Result<()>;

    /// Has signals of `event` stay in it from now on.
    ///
    /// # Errors
    /// Those of the hypervisor.
    fn disconnect(&self, vector: usize, event: &EventFd) -> io::Result<()>;
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    message: Message,
    masked: bool,
    connected: bool,
}

/// A function's messages.
pub struct MessageTable {
    entries: Vec<Entry>,
    switches: Switches,
    out: Box<dyn Messages>,
}

impl MessageTable {
    /// A table as after a reset: all is masked.
    pub fn new(count: usize, out: Box<dyn Messages>) -> Self {
        let entry = Entry { message: Message::default(), masked: true, connected: false };
        Self { entries: vec![entry; count], switches: Switches::default(), out }
    }

    /// Takes what the configuration says.
    pub fn switch(&mut self, switches: Switches, front: &Front) {
        if self.switches != switches {
            self.switches = switches;
            self.connect(front);
        }
    }

    /// A read of the table or the pending bits: 4 bytes, or 8, aligned; anything else reads as
    /// zero.
    pub fn read(&self, offset: u64, data: &mut [u8], front: &Front) {
        if !is_access(offset, data.len()) {
            return;
        }
        for (part, data) in data.chunks_mut(4).enumerate() {
            let offset = offset + 4 * part as u64;
            let word = match offset.checked_sub(PENDING) {
                Some(offset) => self.pending(offset as usize * 8, front),
                None => self.entries.get((offset / ENTRY) as usize).map_or(0, |entry| entry.read(offset % ENTRY)),
            };
            put(data, word.into());
        }
    }

    /// A write to the table.
    pub fn write(&mut self, offset: u64, data: &[u8], front: &Front) {
        if !is_access(offset, data.len()) {
            return;
        }
        for (part, data) in data.chunks(4).enumerate() {
            let offset = offset + 4 * part as u64;
            if let Some(entry) = self.entries.get_mut((offset / ENTRY) as usize).filter(|_| offset < PENDING) {
                entry.write(offset % ENTRY, value(data) as u32);
            }
        }
        self.connect(front);
    }

    /// Connects what may be sent, disconnects what may not.
    fn connect(&mut self, front: &Front) {
        let open = self.switches.on && !self.switches.mask_all;
        for ((vector, entry), event) in self.entries.iter_mut().enumerate().zip(front.interrupt().events()) {
            let wanted = open && !entry.masked;
            let done = match (entry.connected, wanted) {
                (false, true) => self.out.connect(vector, event, entry.message),
                (true, false) => self.out.disconnect(vector, event),
                _ => continue,
            };
            match done {
                Ok(()) => entry.connected = wanted,
                Err(error) => log::warn!("virtio device {}: message {vector}: {error}", front.device_type()),
            }
        }
    }

    /// The pending bits of 32 messages from `first` on.
    fn pending(&self, first: usize, front: &Front) -> u32 {
        let all = self.entries.iter().zip(front.interrupt().events()).skip(first).take(32);
        all.enumerate().fold(0, |bits, (bit, (entry, event))| {
            // A signal that is on its way to the hypervisor is pending as well, and soon is not.
            let waits = !entry.connected && is_ready(fd(event), PollFlags::IN).unwrap_or(false);
            bits | (u32::from(waits) << bit)
        })
    }
}

impl Entry {
    fn read(&self, offset: u64) -> u32 {
        match offset {
            0 => self.message.address as u32,
            4 => (self.message.address >> 32) as u32,
            8 => self.message.data,
            _ => u32::from(self.masked) * MASKED,
        }
    }

    /// What the message of a connected entry becomes takes effect when it has been masked: to
    /// change it before is not allowed (6.8.2.7).
    fn write(&mut self, offset: u64, word: u32) {
        let Message { address, data } = &mut self.message;
        match offset {
            0 => *address = (*address & !0xffff_ffff) | u64::from(word & !3),
            4 => *address = (*address & 0xffff_ffff) | (u64::from(word) << 32),
            8 => *data = word,
            _ => self.masked = word & MASKED != 0,
        }
    }
}

/// Whether there are accesses of `size` bytes at `offset` (6.8.2.7).
fn is_access(offset: u64, size: usize) -> bool {
    matches!(size, 4 | 8) && offset % size as u64 == 0
}
