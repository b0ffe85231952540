// SPDX-License-Identifier: Apache-2.0
//! The virtio-mmio transport, version 2 (4.2): a page of registers through which a driver finds and sets up one device.
//!
//! What a driver does most, QueueNotify and the interrupt registers, takes no lock. Everything else is set-up and is done
//! under one, which is also what makes the calls of [`Device`] exclusive.

mod queue;
mod registers;
mod state;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::device::Device;
use crate::interrupt::Interrupt;
use crate::Memory;
use registers as reg;
use state::State;

/// One device's registers. Any thread may access them.
pub struct MmioTransport {
    kicks: Vec<EventFd>,
    interrupt: Interrupt,
    state: Mutex<State>,
}

impl MmioTransport {
    /// How many bytes of the guest's physical address space the registers take.
    pub const SIZE: u64 = 0x200;
    /// The offset of QueueNotify: a 4-byte write of a queue's index there is that queue's kick.
    pub const NOTIFY: u64 = reg::QUEUE_NOTIFY;

    /// Puts `device` behind a transport. `mem` is all the memory that the device may touch.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new(device: Box<dyn Device>, mem: Memory) -> io::Result<Self> {
        let interrupt = Interrupt::new()?;
        let kicks = device
            .queue_sizes()
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC))
            .collect::<io::Result<Vec<_>>>()?;
        let state = Mutex::new(State::new(device, mem));
        Ok(Self { kicks, interrupt, state })
    }

    /// The interrupt line: each write to it is one edge.
    pub fn irq(&self) -> &EventFd {
        self.interrupt.line()
    }

    /// One eventfd for each queue: signalling it is the same as writing the queue's index to QueueNotify.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    /// A guest's read of `data.len()` bytes. Reserved registers and accesses of a size that the register does not have read as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            return self.state().read_config(offset, data);
        }
        // Registers are 32 bits wide and nothing else (4.2.2.2).
        let Ok(data) = <&mut [u8; 4]>::try_from(data) else { return };
        let value = match offset {
            reg::INTERRUPT_STATUS => self.interrupt.status(),
            reg::CONFIG_GENERATION => self.interrupt.generation(),
            _ => self.state().read(offset, &self.interrupt),
        };
        *data = value.to_le_bytes();
    }

    /// A guest's write. Writes to reserved or read-only registers, and of a wrong size, are ignored.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            return self.state().write_config(offset, data);
        }
        let Ok(data) = <[u8; 4]>::try_from(data) else { return };
        let value = u32::from_le_bytes(data);
        match offset {
            reg::QUEUE_NOTIFY => {
                if let Some(kick) = usize::try_from(value).ok().and_then(|index| self.kicks.get(index)) {
                    // The only error is a counter at its maximum: then it is signalled already.
                    let _ = kick.write(1);
                }
            }
            reg::INTERRUPT_ACK => self.interrupt.acknowledge(value),
            reg::STATUS if value == 0 => self.reset(),
            reg::STATUS => self.state().write_status(value, &self.interrupt, &self.kicks),
            _ => self.state().write(offset, value),
        }
    }

    /// Resets the device as its driver does with a status of 0: its thread has ended when this returns.
    pub fn reset(&self) {
        let mut state = self.state();
        state.reset();
        // Only now, when nobody signals any more. A kick that is left over costs the next driver's device one look at its rings.
        self.interrupt.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked with the lock held leaves values behind, not broken invariants.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MmioTransport {
    fn drop(&mut self) {
        self.reset();
    }
}
