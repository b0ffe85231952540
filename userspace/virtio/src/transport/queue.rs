// SPDX-License-Identifier: Apache-2.0
//! One queue as its registers describe it, before it is believed.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use super::state::Register;
use crate::Memory;

/// What a driver has written about one queue. The values are kept as they came and judged when the device starts.
#[derive(Debug)]
pub struct QueueSetup {
    max_size: u16,
    size: u32,
    /// Whether the driver has made it ready.
    pub ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

impl QueueSetup {
    /// A queue that nothing was written about.
    pub fn new(max_size: u16) -> Self {
        Self { max_size, size: u32::from(max_size), ready: false, descriptors: 0, available: 0, used: 0 }
    }

    /// The value of one of the queue's registers; 0 of any other.
    pub fn read(&self, register: Register) -> u32 {
        match register {
            Register::QueueMaxSize => u32::from(self.max_size),
            Register::QueueSize => self.size,
            Register::QueueReady => u32::from(self.ready),
            Register::DescriptorsLow => self.descriptors as u32,
            Register::DescriptorsHigh => (self.descriptors >> 32) as u32,
            Register::AvailableLow => self.available as u32,
            Register::AvailableHigh => (self.available >> 32) as u32,
            Register::UsedLow => self.used as u32,
            Register::UsedHigh => (self.used >> 32) as u32,
            _ => 0,
        }
    }

    /// A write to one of the queue's registers. While it is ready, only whether it is can be
    /// written (4.2.2.2).
    pub fn write(&mut self, register: Register, value: u32) {
        if register == Register::QueueReady {
            self.ready = value & 1 != 0;
            return;
        }
        if self.ready {
            return;
        }
        match register {
            Register::QueueSize => self.size = value,
            Register::DescriptorsLow => set_low(&mut self.descriptors, value),
            Register::DescriptorsHigh => set_high(&mut self.descriptors, value),
            Register::AvailableLow => set_low(&mut self.available, value),
            Register::AvailableHigh => set_high(&mut self.available, value),
            Register::UsedLow => set_low(&mut self.used, value),
            Register::UsedHigh => set_high(&mut self.used, value),
            _ => {}
        }
    }

    /// The queue, if its size is a power of two that is not too large, and its three parts are aligned and in memory.
    pub fn build(&self, mem: &Memory, event_idx: bool) -> Option<Queue> {
        let mut queue = Queue::new(self.max_size).ok()?;
        queue.try_set_size(u16::try_from(self.size).ok()?).ok()?;
        queue.try_set_desc_table_address(GuestAddress(self.descriptors)).ok()?;
        queue.try_set_avail_ring_address(GuestAddress(self.available)).ok()?;
        queue.try_set_used_ring_address(GuestAddress(self.used)).ok()?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        queue.is_valid(mem).then_some(queue)
    }
}

fn set_low(address: &mut u64, value: u32) {
    *address = (*address & !0xffff_ffff) | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = (*address & 0xffff_ffff) | (u64::from(value) << 32);
}
