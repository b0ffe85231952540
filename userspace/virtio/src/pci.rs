// SPDX-License-Identifier: Apache-2.0
//! The PCI transport (4.1): a function of PCI with a configuration space, registers in one BAR and
//! the messages by which it interrupts (MSI-X) in another. A driver is interrupted by a message of
//! each queue's own, so there is nothing to ask and nothing to acknowledge.
//!
//! Each BAR is where the launcher has put it, and stays there: a driver may ask how large one is,
//! but not move it. There are no interrupt lines: whoever does not use MSI-X has to look at the
//! rings, or at the ISR status.
//!
//! A kick by its eventfd takes no lock. Of the locks here a configuration space's comes first.

mod common;
mod config;
mod host;
mod msix;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::device::Device;
use crate::interrupt::Interrupt;
use crate::transport::{Front, Transport};
use crate::Memory;
use config::ConfigSpace;
pub use host::{PciHost, MAX_FUNCTIONS};
use msix::MessageTable;
pub use msix::{Message, Messages};

/// The parts of the BAR with the registers, each in a page of its own.
mod part {
    /// The common configuration (4.1.4.3), and how many bytes it has.
    pub const COMMON: u64 = 0x0000;
    pub const COMMON_SIZE: u64 = 56;
    /// The ISR status (4.1.4.5).
    pub const ISR: u64 = 0x1000;
    /// The device's configuration.
    pub const DEVICE: u64 = 0x2000;
    /// The kicks.
    pub const NOTIFY: u64 = 0x3000;
    /// Bytes of each.
    pub const SIZE: u64 = 0x1000;
}

/// Bytes between the kicks of two queues.
const NOTIFY_STRIDE: u64 = 4;
/// Bytes of each BAR.
pub const BAR_SIZE: u64 = 4 * part::SIZE;
/// Where the pending bits are in the BAR of the messages, whose table is at its begin.
const PENDING: u64 = 0x2000;
/// The most messages whose table fits there, 16 bytes for each (PCI Local Bus 3.0, 6.8.2).
const MAX_MESSAGES: usize = PENDING as usize / 16;

/// The BARs that a function has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// Has the registers: BAR 0, which is 64 bits wide.
    Registers,
    /// Has the messages: BAR 2, which is 64 bits wide.
    Messages,
}

impl Bar {
    /// The index by which a configuration space calls it.
    const fn index(self) -> u8 {
        match self {
            Self::Registers => 0,
            Self::Messages => 2,
        }
    }

    fn at(index: u8) -> Option<Self> {
        [Self::Registers, Self::Messages].into_iter().find(|bar| bar.index() == index)
    }
}

/// Where a function is, as the launcher has decided.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The address of [`Bar::Registers`].
    pub registers: u64,
    /// The address of [`Bar::Messages`].
    pub messages: u64,
    /// Whether its slot has other functions.
    pub shared: bool,
}

/// One device as a function of PCI. Any thread may access it.
pub struct PciTransport {
    front: Front,
    config: Mutex<ConfigSpace>,
    messages: Mutex<MessageTable>,
}

impl PciTransport {
    /// Puts `device` behind a function at `place`. `mem` is all the memory that the device may
    /// touch, `out` the way of its messages.
    ///
    /// # Errors
    /// When the process has no descriptors left, or the device more queues than there can be
    /// messages.
    pub fn new(device: Box<dyn Device>, mem: Memory, place: Place, out: Box<dyn Messages>) -> io::Result<Self> {
        let queues = device.queue_sizes().len();
        if queues >= MAX_MESSAGES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the device has too many queues"));
        }
        let front = Front::new(device, mem, Interrupt::messages(queues)?)?;
        let config = ConfigSpace::new(front.device_type(), queues + 1, place);
        Ok(Self { front, config: Mutex::new(config), messages: Mutex::new(MessageTable::new(queues + 1, out)) })
    }

    /// How many messages a device with so many queues has.
    pub const fn message_count(queues: usize) -> usize {
        queues + 1
    }

    /// One eventfd for each queue: signalling it is the same as a write to [`Self::notify`].
    pub fn kicks(&self) -> &[EventFd] {
        self.front.kicks()
    }

    /// Where in [`Bar::Registers`] a driver kicks a queue, with a write of 2 bytes.
    pub const fn notify(queue: usize) -> u64 {
        part::NOTIFY + NOTIFY_STRIDE * queue as u64
    }

    /// A guest's read of the configuration space, of any size. What does not exist reads as zero.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        let window = {
            let config = self.config();
            config.read(offset, data);
            config.window(offset, data.len())
        };
        // The window into a BAR (4.1.4.9), for who cannot reach the BAR itself.
        if let Some((bar, at)) = window {
            self.read_bar(bar, at, data);
        }
    }

    /// A guest's write to the configuration space. What cannot be written is ignored.
    pub fn write_config(&self, offset: u64, data: &[u8]) {
        let window = {
            let mut config = self.config();
            config.write(offset, data);
            // Under the lock, so that what was written last is in force.
            self.messages().switch(config.switches(), &self.front);
            config.window(offset, data.len())
        };
        if let Some((bar, at)) = window {
            self.write_bar(bar, at, data);
        }
    }

    /// A guest's read where `bar` is. It reads as ones while the function is to answer no accesses
    /// to memory.
    pub fn read_memory(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        if self.config().decodes_memory() {
            self.read_bar(bar, offset, data);
        } else {
            data.fill(0xff);
        }
    }

    /// A guest's write where `bar` is.
    pub fn write_memory(&self, bar: Bar, offset: u64, data: &[u8]) {
        if self.config().decodes_memory() {
            self.write_bar(bar, offset, data);
        }
    }

    fn read_bar(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match (bar, offset) {
            (Bar::Messages, ..BAR_SIZE) => self.messages().read(offset, data, &self.front),
            (Bar::Registers, ..part::ISR) => common::read(&self.front, offset, data),
            (Bar::Registers, part::ISR) => {
                if let [status] = data {
                    *status = self.front.interrupt().take_status() as u8;
                }
            }
            (Bar::Registers, part::DEVICE..part::NOTIFY) => self.front.read_config(offset - part::DEVICE, data),
            _ => {}
        }
    }

    fn write_bar(&self, bar: Bar, offset: u64, data: &[u8]) {
        match (bar, offset) {
            (Bar::Messages, ..BAR_SIZE) => self.messages().write(offset, data, &self.front),
            (Bar::Registers, ..part::ISR) => common::write(&self.front, offset, data),
            (Bar::Registers, part::DEVICE..part::NOTIFY) => self.front.write_config(offset - part::DEVICE, data),
            // Which queue is told by the place; what is written there tells the same.
            (Bar::Registers, part::NOTIFY..BAR_SIZE) => {
                self.front.kick(((offset - part::NOTIFY) / NOTIFY_STRIDE) as usize)
            }
            _ => {}
        }
    }

    fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        // A thread that panicked with the lock held leaves values behind, not broken invariants.
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn messages(&self) -> MutexGuard<'_, MessageTable> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for PciTransport {
    fn reset(&self) {
        self.front.reset();
    }
}

/// The value of up to 8 bytes, little-endian.
fn value(data: &[u8]) -> u64 {
    data.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// Puts a value of up to 8 bytes, little-endian; what has no room is cut off.
fn put(data: &mut [u8], value: u64) {
    for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
        *to = from;
    }
}
