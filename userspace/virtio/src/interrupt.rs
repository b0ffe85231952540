// SPDX-License-Identifier: Apache-2.0
//! How a device reaches its driver: the interrupt line, InterruptStatus, ConfigGeneration and DEVICE_NEEDS_RESET.
//!
//! The line is edge triggered. A device first sets the reason in InterruptStatus and then signals; the guest's handler reads
//! the reason, acknowledges it and only then looks at the rings, so a reason that is acknowledged together with an older one is
//! still followed by a look at the rings, and the second edge at worst finds nothing to do.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

/// A handle to one device's interrupt. Clones are the same interrupt.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    line: EventFd,
    status: AtomicU32,
    generation: AtomicU32,
    needs_reset: AtomicBool,
    rings_unseen: AtomicBool,
}

impl Interrupt {
    /// An interrupt with no reason set.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            line: EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            rings_unseen: AtomicBool::new(false),
        })))
    }

    /// The eventfd that stands for the line: each write to it is one edge.
    pub fn line(&self) -> &EventFd {
        &self.0.line
    }

    /// Tells the driver that a buffer was used.
    pub fn used(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// Tells the driver that the configuration space has changed; call it after the change.
    pub fn config_changed(&self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// Tells the driver that the device can go on only after a reset (2.1.2).
    pub fn needs_reset(&self) {
        self.0.needs_reset.store(true, Ordering::SeqCst);
        self.config_changed();
    }

    /// Someone else (vhost) signals the line directly and cannot set InterruptStatus: from now on, until [`Self::clear`], it
    /// always says that a buffer may have been used. A driver's look at a ring with nothing in it costs it a few loads.
    pub(crate) fn signalled_elsewhere(&self) {
        self.0.rings_unseen.store(true, Ordering::SeqCst);
    }

    /// The value of InterruptStatus.
    pub fn status(&self) -> u32 {
        let always = if self.0.rings_unseen.load(Ordering::SeqCst) { VIRTIO_MMIO_INT_VRING } else { 0 };
        self.0.status.load(Ordering::SeqCst) | always
    }

    /// Whether the device waits for a reset.
    pub fn is_reset_needed(&self) -> bool {
        self.0.needs_reset.load(Ordering::SeqCst)
    }

    /// The value of ConfigGeneration.
    pub fn generation(&self) -> u32 {
        self.0.generation.load(Ordering::SeqCst)
    }

    pub(crate) fn acknowledge(&self, reasons: u32) {
        self.0.status.fetch_and(!reasons, Ordering::SeqCst);
    }

    /// Back to the state of a device that was just reset.
    pub(crate) fn clear(&self) {
        self.0.status.store(0, Ordering::SeqCst);
        self.0.needs_reset.store(false, Ordering::SeqCst);
        self.0.rings_unseen.store(false, Ordering::SeqCst);
    }

    fn raise(&self, reason: u32) {
        self.0.status.fetch_or(reason, Ordering::SeqCst);
        // The only error is a counter at its maximum: then an edge is pending anyway.
        let _ = self.0.line.write(1);
    }
}
