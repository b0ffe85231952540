// SPDX-License-Identifier: Apache-2.0
//! The part of a transport that is set up under a lock: features, queues, device status (2.1, 3.1).

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::EventFd;

use super::queue::QueueSetup;
use crate::device::{ActivateError, Activation, Device};
use crate::interrupt::Interrupt;
use crate::ring::Ring;
use crate::{bit, Memory};

/// The registers that each transport has, wherever it has them. Each is up to 32 bits wide; those
/// from [`Register::QueueMaxSize`] on are of the queue that is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// Which half of the features is read.
    DeviceFeaturesSel,
    /// That half.
    DeviceFeatures,
    /// Which half of the features is written.
    DriverFeaturesSel,
    /// That half.
    DriverFeatures,
    /// Which queue is selected.
    QueueSel,
    /// How many descriptors it can have; 0 if there is no such queue.
    QueueMaxSize,
    /// How many it has.
    QueueSize,
    /// Whether the driver has made it ready.
    QueueReady,
    /// Where its descriptors are.
    DescriptorsLow,
    /// The upper half of that.
    DescriptorsHigh,
    /// Where its available ring is.
    AvailableLow,
    /// The upper half of that.
    AvailableHigh,
    /// Where its used ring is.
    UsedLow,
    /// The upper half of that.
    UsedHigh,
}

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

    pub fn read(&self, register: Register) -> u32 {
        match register {
            Register::DeviceFeaturesSel => self.device_features_sel,
            Register::DeviceFeatures => half(self.device.features(), self.device_features_sel),
            Register::DriverFeaturesSel => self.driver_features_sel,
            Register::DriverFeatures => half(self.driver_features, self.driver_features_sel),
            Register::QueueSel => self.queue_sel,
            _ => self.queue().map_or(0, |queue| queue.read(register)),
        }
    }

    pub fn write(&mut self, register: Register, value: u32) {
        match register {
            Register::DeviceFeaturesSel => self.device_features_sel = value,
            Register::DriverFeaturesSel => self.driver_features_sel = value,
            Register::DriverFeatures => self.write_features(value),
            Register::QueueSel => self.queue_sel = value,
            _ => self.write_queue(register, value),
        }
    }

    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    pub fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.device.write_config(offset, data);
    }

    /// The value of the device status, without DEVICE_NEEDS_RESET.
    pub fn status(&self) -> u32 {
        self.status
    }

    /// Whether the driver has set DRIVER_OK.
    pub fn is_running(&self) -> bool {
        self.status & VIRTIO_CONFIG_S_DRIVER_OK != 0
    }

    /// The index of the queue that is selected, if there is one.
    pub fn selected(&self) -> Option<usize> {
        usize::try_from(self.queue_sel).ok().filter(|index| *index < self.queues.len())
    }

    /// A write of anything but 0 to the device status. The driver only ever adds bits (2.1.1).
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

    fn write_queue(&mut self, register: Register, value: u32) {
        let running = self.is_running();
        let index = usize::try_from(self.queue_sel).ok();
        let Some(queue) = index.and_then(|index| self.queues.get_mut(index)) else { return };
        if !running {
            queue.write(register, value);
        } else if register == Register::QueueReady && value & 1 == 0 && queue.ready {
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
                Some(Ring::new(index, queue, kick.try_clone()?, interrupt.clone()))
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
