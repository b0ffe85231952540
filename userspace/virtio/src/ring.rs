// SPDX-License-Identifier: Apache-2.0
//! A virtqueue as a device uses it: chains out, used buffers in, and the driver told when it wants to know.

use std::ops::ControlFlow;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use crate::chain::Chain;
use crate::interrupt::Interrupt;
use crate::Memory;

/// What a driver did to a ring that leaves the device no way on but a reset.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The queue's own rules were broken, or its rings cannot be accessed.
    #[error("{0}")]
    Queue(#[from] virtio_queue::Error),
    /// A chain loops, leaves its table, or has a bad indirect table.
    #[error("a descriptor chain does not end")]
    ChainBroken,
    /// A chain has more than [`crate::chain::MAX_DESCRIPTORS`] descriptors.
    #[error("a descriptor chain is too long")]
    ChainTooLong,
    /// A device-readable descriptor follows a device-writable one.
    #[error("a readable descriptor follows a writable one")]
    ReadableAfterWritable,
    /// A descriptor points to something that is not memory.
    #[error("a descriptor points to {0:#x}, which is not memory")]
    NotMemory(u64),
    /// A request without the parts that every request of its device has.
    #[error("a request is malformed: {0}")]
    Request(&'static str),
    /// The kernel's vhost worker gave the ring up.
    #[error("vhost found queue {0} unusable")]
    Vhost(usize),
    /// Another program that is to serve the ring did not take it.
    #[error("{0}")]
    Refused(#[from] crate::device::ActivateError),
    /// The host failed the device.
    #[error("{0}")]
    Host(#[from] std::io::Error),
}

/// One virtqueue in use.
#[derive(Debug)]
pub struct Ring {
    index: usize,
    queue: Queue,
    kick: EventFd,
    interrupt: Interrupt,
}

impl Ring {
    /// The device's queue `index`: `kick` is signalled by the driver; `queue` was found valid.
    pub(crate) fn new(index: usize, queue: Queue, kick: EventFd, interrupt: Interrupt) -> Self {
        Self { index, queue, kick, interrupt }
    }

    /// Which of the device's queues it is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// What the driver signals when it has made buffers available.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// How many chains the ring holds.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// The queue itself.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Takes back the driver's signal. Call it before looking at the ring.
    pub fn clear_kick(&self) {
        // Nonblocking: an error means that there was no signal.
        let _ = self.kick.read();
    }

    /// The next chain that the driver has made available.
    pub fn next<'m>(&mut self, mem: &'m Memory) -> Result<Option<Chain<'m>>, RingError> {
        self.queue.iter(mem)?.next().map(|descriptors| Chain::new(mem, descriptors)).transpose()
    }

    /// Asks the driver to signal its next buffer; true if there is one already, and so perhaps no signal.
    pub fn watch(&mut self, mem: &Memory) -> Result<bool, RingError> {
        Ok(self.queue.enable_notification(mem)?)
    }

    /// Gives a chain back with `written` bytes in it, and tells the driver if it wants to know.
    pub fn give_back(&mut self, mem: &Memory, head: u16, written: usize) -> Result<(), RingError> {
        self.put_used(mem, head, written)?;
        self.notify(mem)
    }

    /// Gives a chain back, for a later [`Self::notify`].
    pub fn put_used(&mut self, mem: &Memory, head: u16, written: usize) -> Result<(), RingError> {
        // A chain has at most 4 GiB; one of exactly that size is reported one byte short.
        Ok(self.queue.add_used(mem, head, u32::try_from(written).unwrap_or(u32::MAX))?)
    }

    /// Tells the driver about what was given back since the last time, if it wants to know.
    pub fn notify(&mut self, mem: &Memory) -> Result<(), RingError> {
        if self.queue.needs_notification(mem)? {
            self.interrupt.used(self.index);
        }
        Ok(())
    }

    /// A place in the available ring, for [`Self::rewind`].
    pub(crate) fn position(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Goes back to a place where [`Self::position`] was asked: the chains taken since, none of them given back, are available again.
    pub(crate) fn rewind(&mut self, position: u16) {
        self.queue.set_next_avail(position);
    }

    /// Calls `handle` with every available chain and gives it back with the number of bytes that `handle` has written.
    ///
    /// Returns with the driver's signal on, or, after as many chains as the ring has places, with the signal set by ourselves:
    /// a driver that never stops is served, but does not keep its device from being stopped. `handle` may break off; its chain
    /// was given back then, those behind it wait.
    pub fn serve<F>(&mut self, mem: &Memory, mut handle: F) -> Result<(), RingError>
    where
        F: FnMut(Chain<'_>) -> Result<ControlFlow<usize, usize>, RingError>,
    {
        self.clear_kick();
        self.queue.disable_notification(mem)?;
        for _ in 0..=self.queue.size() {
            let Some(chain) = self.next(mem)? else {
                if self.watch(mem)? {
                    continue;
                }
                return Ok(());
            };
            let head = chain.head;
            match handle(chain)? {
                ControlFlow::Continue(written) => self.give_back(mem, head, written)?,
                ControlFlow::Break(written) => {
                    self.give_back(mem, head, written)?;
                    break;
                }
            }
        }
        // An error means that the signal is set already.
        let _ = self.kick.write(1);
        Ok(())
    }
}
