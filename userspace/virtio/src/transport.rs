// SPDX-License-Identifier: Apache-2.0
//! What both transports have in common: a device, the registers by which it is set up, its kicks
//! and its interrupt. Where the registers are is each transport's own.
//!
//! Set-up is done under a lock, which is also what makes the calls of [`Device`] exclusive.

mod queue;
mod state;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_NEEDS_RESET;
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::device::Device;
use crate::interrupt::{Interrupt, Source};
use crate::Memory;
pub(crate) use state::Register;
use state::State;

/// A device behind the guest's view of it.
pub trait Transport: Send + Sync {
    /// Resets the device as its driver does with a status of 0: its thread has ended when this
    /// returns.
    fn reset(&self);
}

/// One device with its registers, by name. Any thread may access them.
pub(crate) struct Front {
    kicks: Vec<EventFd>,
    interrupt: Interrupt,
    state: Mutex<State>,
}

impl Front {
    /// Puts registers before `device`. `mem` is all the memory that the device may touch.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new(device: Box<dyn Device>, mem: Memory, interrupt: Interrupt) -> io::Result<Self> {
        let make = |_: &u16| EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC);
        let kicks = device.queue_sizes().iter().map(make).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { kicks, interrupt, state: Mutex::new(State::new(device, mem)) })
    }

    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The device type (section 5).
    pub fn device_type(&self) -> u32 {
        self.state().device().device_type()
    }

    /// Tells the device that its driver has made buffers available in a queue; takes no lock.
    pub fn kick(&self, queue: usize) {
        if let Some(kick) = self.kicks.get(queue) {
            // The only error is a counter at its maximum: then it is signalled already.
            let _ = kick.write(1);
        }
    }

    pub fn read(&self, register: Register) -> u32 {
        self.state().read(register)
    }

    pub fn write(&self, register: Register, value: u32) {
        self.state().write(register, value);
    }

    /// The value of the device status (2.1).
    pub fn status(&self) -> u32 {
        let broken = if self.interrupt.is_reset_needed() { VIRTIO_CONFIG_S_NEEDS_RESET } else { 0 };
        self.state().status() | broken
    }

    /// A driver's write to the device status: 0 is a reset.
    pub fn write_status(&self, value: u32) {
        if value == 0 {
            self.reset();
        } else {
            self.state().write_status(value, &self.interrupt, &self.kicks);
        }
    }

    /// Reads the device's configuration; what lies beyond its end reads as zero.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.state().device().read_config(offset, data);
    }

    pub fn write_config(&self, offset: u64, data: &[u8]) {
        self.state().write_config(offset, data);
    }

    /// The index of the queue that is selected, if there is one.
    pub fn selected(&self) -> Option<usize> {
        self.state().selected()
    }

    /// Has `source`, or the queue that is selected, send the message `vector`. Who serves a ring
    /// knows its message from when the device starts on, so a running device keeps them.
    pub fn set_vector(&self, source: Option<Source>, vector: u16) {
        let state = self.state();
        if let Some(source) = source.or(state.selected().map(Source::Queue)).filter(|_| !state.is_running()) {
            self.interrupt.set_vector(source, vector);
        }
    }

    /// Resets the device as its driver does with a status of 0: its thread has ended when this
    /// returns.
    pub fn reset(&self) {
        let mut state = self.state();
        state.reset();
        // Only now, when nobody signals any more. A kick that is left over costs the next driver's
        // device one look at its rings.
        self.interrupt.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked with the lock held leaves values behind, not broken invariants.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.reset();
    }
}
