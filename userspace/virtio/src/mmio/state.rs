// SPDX-License-Identifier: Apache-2.0
//! The part of the transport that is set up under a lock: features, queues, device status (2.1, 3.1).

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::EventFd;

use super::queue::QueueSetup;
use super::registers as reg;
use crate::device::{ActivateError, Activation, Device};
use crate::interrupt::Interrupt;
use crate::ring::Ring;
use crate::{bit, Memory};

/// Everything behind the registers, but for the interrupt and the kicks.
pub struct State {
    device: Box<dyn Device>,
    mem: Memory,
    queues: Vec<QueueSetup>,
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
}

impl State {
    pub fn new(device: Box<dyn Device>, mem: Memory) -> Self {
        let queues = device.queue_sizes().iter().map(|&size| QueueSetup::new(size)).collect();
        Self {
            device,
            mem,
            queues,
            status: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
        }
    }

    pub fn read(&self, offset: u64, interrupt: &Interrupt) -> u32 {
        match offset {
            reg::MAGIC_VALUE => reg::MAGIC,
            reg::VERSION => reg::LAYOUT_VERSION,
            reg::DEVICE_ID => self.device.device_type(),
            reg::VENDOR_ID => reg::VENDOR,
            reg::DEVICE_FEATURES => half(self.device.features(), self.device_features_sel),
            reg::QUEUE_NUM_MAX => self.queue().map_or(0, QueueSetup::max_size),
            reg::QUEUE_READY => self.queue().map_or(0, |queue| u32::from(queue.ready)),
            reg::STATUS => {
                let broken = if interrupt.is_reset_needed() { VIRTIO_CONFIG_S_NEEDS_RESET } else { 0 };
                self.status | broken
            }
            // No device has shared memory: its length is -1 (4.2.2), whichever region is selected.
            reg::SHM_LEN_LOW | reg::SHM_LEN_HIGH | reg::SHM_BASE_LOW | reg::SHM_BASE_HIGH => u32::MAX,
            _ => 0,
        }
    }

    pub fn write(&mut self, offset: u64, value: u32) {
        match offset {
            reg::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            reg::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            reg::DRIVER_FEATURES => self.write_features(value),
            reg::QUEUE_SEL => self.queue_sel = value,
            _ => self.write_queue(offset, value),
        }
    }

    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    pub fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.device.write_config(offset, data);
    }

    /// A write of anything but 0 to Status. The driver only ever adds bits (2.1.1).
    pub fn write_status(&mut self, value: u32, interrupt: &Interrupt, kicks: &[EventFd]) {
        let added = value & !self.status & !VIRTIO_CONFIG_S_NEEDS_RESET;
        // FEATURES_OK stays clear where the features cannot be had: the driver reads it back (3.1.1).
        let refused = if self.features_acceptable() { 0 } else { VIRTIO_CONFIG_S_FEATURES_OK };
        self.status |= added & !refused & !VIRTIO_CONFIG_S_DRIVER_OK;
        if added & VIRTIO_CONFIG_S_DRIVER_OK != 0 && self.status & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            self.status |= VIRTIO_CONFIG_S_DRIVER_OK;
            if let Err(error) = self.activate(interrupt, kicks) {
                log::warn!("virtio device {}: {error}; the device waits for a reset", self.device.device_type());
                self.device.reset();
                interrupt.needs_reset();
            }
        }
    }

    pub fn reset(&mut self) {
        self.device.reset();
        self.queues = self.device.queue_sizes().iter().map(|&size| QueueSetup::new(size)).collect();
        self.status = 0;
        self.device_features_sel = 0;
        self.driver_features_sel = 0;
        self.driver_features = 0;
        self.queue_sel = 0;
    }

    fn write_features(&mut self, value: u32) {
        if self.status & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            return;
        }
        let value = u64::from(value);
        match self.driver_features_sel {
            0 => self.driver_features = (self.driver_features & !0xffff_ffff) | value,
            1 => self.driver_features = (self.driver_features & 0xffff_ffff) | (value << 32),
            _ => {}
        }
    }

    fn features_acceptable(&self) -> bool {
        self.driver_features & !self.device.features() == 0 && self.driver_features & bit(VIRTIO_F_VERSION_1) != 0
    }

    fn write_queue(&mut self, offset: u64, value: u32) {
        let running = self.status & VIRTIO_CONFIG_S_DRIVER_OK != 0;
        let index = usize::try_from(self.queue_sel).ok();
        let Some(queue) = index.and_then(|index| self.queues.get_mut(index)) else { return };
        if !running {
            queue.write(offset, value);
        } else if offset == reg::QUEUE_READY && value & 1 == 0 && queue.ready {
            // A driver may take a queue away from a running device and relies on it being left alone from then on (4.2.3.2). Drivers
            // reset the device instead, so the whole of it is stopped here.
            queue.ready = false;
            self.device.reset();
        }
    }

    fn activate(&mut self, interrupt: &Interrupt, kicks: &[EventFd]) -> Result<(), ActivateError> {
        let event_idx = self.driver_features & bit(VIRTIO_RING_F_EVENT_IDX) != 0;
        let mut rings = Vec::with_capacity(self.queues.len());
        for (index, (setup, kick)) in self.queues.iter().zip(kicks).enumerate() {
            rings.push(if setup.ready {
                let queue = setup.build(&self.mem, event_idx).ok_or(ActivateError::QueueInvalid(index))?;
                Some(Ring::new(queue, kick.try_clone()?, interrupt.clone()))
            } else {
                None
            });
        }
        let features = self.driver_features;
        self.device.activate(Activation { mem: self.mem.clone(), features, interrupt: interrupt.clone(), rings })
    }

    fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }
}

fn half(features: u64, selector: u32) -> u32 {
    match selector {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}
