// SPDX-License-Identifier: Apache-2.0
//! The virtio-mmio transport, version 2 (4.2): a page of registers through which a driver finds and sets up one device.
//!
//! What a driver does most, QueueNotify and the interrupt registers, takes no lock.

mod registers;

use std::io;

use vmm_sys_util::eventfd::EventFd;

use crate::device::Device;
use crate::interrupt::Interrupt;
use crate::transport::{Front, Register, Transport};
use crate::Memory;
use registers as reg;

/// One device's registers. Any thread may access them.
pub struct MmioTransport(Front);

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
        Ok(Self(Front::new(device, mem, Interrupt::new()?)?))
    }

    /// The interrupt line: each write to it is one edge.
    pub fn irq(&self) -> &EventFd {
        self.0.interrupt().line()
    }

    /// One eventfd for each queue: signalling it is the same as writing the queue's index to QueueNotify.
    pub fn kicks(&self) -> &[EventFd] {
        self.0.kicks()
    }

    /// A guest's read of `data.len()` bytes. Reserved registers and accesses of a size that the register does not have read as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            return self.0.read_config(offset, data);
        }
        // Registers are 32 bits wide and nothing else (4.2.2.2).
        let Ok(data) = <&mut [u8; 4]>::try_from(data) else { return };
        let value = match offset {
            reg::MAGIC_VALUE => reg::MAGIC,
            reg::VERSION => reg::LAYOUT_VERSION,
            reg::DEVICE_ID => self.0.device_type(),
            reg::VENDOR_ID => reg::VENDOR,
            reg::DEVICE_FEATURES => self.0.read(Register::DeviceFeatures),
            reg::QUEUE_NUM_MAX => self.0.read(Register::QueueMaxSize),
            reg::QUEUE_READY => self.0.read(Register::QueueReady),
            reg::INTERRUPT_STATUS => self.0.interrupt().status(),
            reg::STATUS => self.0.status(),
            // No device has shared memory: its length is -1 (4.2.2), whichever region is selected.
            reg::SHM_LEN_LOW | reg::SHM_LEN_HIGH | reg::SHM_BASE_LOW | reg::SHM_BASE_HIGH => u32::MAX,
            reg::CONFIG_GENERATION => self.0.interrupt().generation(),
            _ => 0,
        };
        *data = value.to_le_bytes();
    }

    /// A guest's write. Writes to reserved or read-only registers, and of a wrong size, are ignored.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            return self.0.write_config(offset, data);
        }
        let Ok(data) = <[u8; 4]>::try_from(data) else { return };
        let value = u32::from_le_bytes(data);
        match offset {
            reg::QUEUE_NOTIFY => {
                if let Ok(queue) = usize::try_from(value) {
                    self.0.kick(queue);
                }
            }
            reg::INTERRUPT_ACK => self.0.interrupt().acknowledge(value),
            reg::STATUS => self.0.write_status(value),
            _ => {
                if let Some(register) = reg::writable(offset) {
                    self.0.write(register, value);
                }
            }
        }
    }

    /// Resets the device as its driver does with a status of 0: its thread has ended when this returns.
    pub fn reset(&self) {
        self.0.reset();
    }
}

impl Transport for MmioTransport {
    fn reset(&self) {
        self.0.reset();
    }
}
