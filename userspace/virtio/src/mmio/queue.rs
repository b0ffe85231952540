// SPDX-License-Identifier: Apache-2.0
//! One queue as its registers describe it, before it is believed.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use super::registers as reg;
use crate::Memory;

/// What a driver has written about one queue. The values are kept as they came and judged when the device starts.
#[derive(Debug)]
pub struct QueueSetup {
    max_size: u16,
    size: u32,
    /// Whether the driver has set QueueReady.
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

    /// The value of QueueNumMax.
    pub fn max_size(&self) -> u32 {
        u32::from(self.max_size)
    }

    /// A write to one of the queue's registers. While it is ready, only QueueReady can be written (4.2.2.2).
    pub fn write(&mut self, offset: u64, value: u32) {
        if offset == reg::QUEUE_READY {
            self.ready = value & 1 != 0;
            return;
        }
        if self.ready {
            return;
        }
        match offset {
            reg::QUEUE_NUM => self.size = value,
            reg::QUEUE_DESC_LOW => set_low(&mut self.descriptors, value),
            reg::QUEUE_DESC_HIGH => set_high(&mut self.descriptors, value),
            reg::QUEUE_DRIVER_LOW => set_low(&mut self.available, value),
            reg::QUEUE_DRIVER_HIGH => set_high(&mut self.available, value),
            reg::QUEUE_DEVICE_LOW => set_low(&mut self.used, value),
            reg::QUEUE_DEVICE_HIGH => set_high(&mut self.used, value),
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
