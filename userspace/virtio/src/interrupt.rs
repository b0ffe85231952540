// SPDX-License-Identifier: Apache-2.0
//! How a device reaches its driver: by an interrupt line and InterruptStatus, or by messages;
//! ConfigGeneration and DEVICE_NEEDS_RESET.
//!
//! The line is edge triggered. A device first sets the reason in InterruptStatus and then signals; the guest's handler reads
//! the reason, acknowledges it and only then looks at the rings, so a reason that is acknowledged together with an older one is
//! still followed by a look at the rings, and the second edge at worst finds nothing to do.
//!
//! A message says by itself what it is about: there is nothing to read and nothing to acknowledge.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::Arc;

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

/// VIRTIO_MSI_NO_VECTOR (4.1.5.1.2): no message.
pub(crate) const NO_VECTOR: u16 = 0xffff;

/// A handle to one device's interrupt. Clones are the same interrupt.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The line, or the first message.
    first: EventFd,
    /// The other messages.
    more: Vec<EventFd>,
    /// Which message who sends; none where there is a line.
    vectors: Option<Vectors>,
    status: AtomicU32,
    generation: AtomicU32,
    needs_reset: AtomicBool,
    rings_unseen: AtomicBool,
}

/// Which messages a driver has chosen.
#[derive(Debug)]
struct Vectors {
    config: AtomicU16,
    queues: Vec<AtomicU16>,
}

/// What a driver is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The configuration has changed.
    Config,
    /// Buffers of this queue were used.
    Queue(usize),
}

impl Source {
    /// As InterruptStatus, and the ISR status of 4.1.4.5, have it.
    fn reason(self) -> u32 {
        match self {
            Self::Config => VIRTIO_MMIO_INT_CONFIG,
            Self::Queue(_) => VIRTIO_MMIO_INT_VRING,
        }
    }
}

impl Vectors {
    fn of(&self, source: Source) -> Option<&AtomicU16> {
        match source {
            Source::Config => Some(&self.config),
            Source::Queue(index) => self.queues.get(index),
        }
    }
}

impl Interrupt {
    /// An interrupt line, with no reason set.
    pub fn new() -> io::Result<Self> {
        Self::make(Vec::new(), None)
    }

    /// One message more than there are `queues`: so each of them can have its own, and the
    /// configuration, too.
    pub(crate) fn messages(queues: usize) -> io::Result<Self> {
        let more = (0..queues).map(|_| event()).collect::<io::Result<_>>()?;
        let none = || AtomicU16::new(NO_VECTOR);
        Self::make(more, Some(Vectors { config: none(), queues: (0..queues).map(|_| none()).collect() }))
    }

    fn make(more: Vec<EventFd>, vectors: Option<Vectors>) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            first: event()?,
            more,
            vectors,
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            rings_unseen: AtomicBool::new(false),
        })))
    }

    /// The eventfd that stands for the line: each write to it is one edge.
    pub fn line(&self) -> &EventFd {
        &self.0.first
    }

    /// The eventfds that stand for messages.
    pub(crate) fn events(&self) -> impl Iterator<Item = &EventFd> {
        std::iter::once(&self.0.first).chain(&self.0.more)
    }

    /// Tells the driver that a buffer of this queue was used.
    pub fn used(&self, queue: usize) {
        self.raise(Source::Queue(queue));
    }

    /// Tells the driver that the configuration space has changed; call it after the change.
    pub fn config_changed(&self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.raise(Source::Config);
    }

    /// Tells the driver that the device can go on only after a reset (2.1.2).
    pub fn needs_reset(&self) {
        self.0.needs_reset.store(true, Ordering::SeqCst);
        self.config_changed();
    }

    /// Someone else (vhost) signals [`Self::of_ring`] directly and cannot set InterruptStatus: from
    /// now on, until [`Self::clear`], it always says that a buffer may have been used. A driver's
    /// look at a ring with nothing in it costs it a few loads.
    pub(crate) fn signalled_elsewhere(&self) {
        self.0.rings_unseen.store(true, Ordering::SeqCst);
    }

    /// What is to be signalled when a buffer of this queue was used; nothing if its driver does not
    /// want to hear of it.
    pub(crate) fn of_ring(&self, queue: usize) -> Option<&EventFd> {
        self.event(Source::Queue(queue))
    }

    /// Has `source` send the message `vector`; none if there is no such message.
    pub(crate) fn set_vector(&self, source: Source, vector: u16) {
        let count = self.0.more.len() + 1;
        let vector = if usize::from(vector) < count { vector } else { NO_VECTOR };
        if let Some(place) = self.0.vectors.as_ref().and_then(|vectors| vectors.of(source)) {
            place.store(vector, Ordering::SeqCst);
        }
    }

    /// The message that `source` sends.
    pub(crate) fn vector(&self, source: Source) -> u16 {
        let place = self.0.vectors.as_ref().and_then(|vectors| vectors.of(source));
        place.map_or(NO_VECTOR, |vector| vector.load(Ordering::SeqCst))
    }

    /// The value of InterruptStatus.
    pub fn status(&self) -> u32 {
        let always = if self.0.rings_unseen.load(Ordering::SeqCst) { VIRTIO_MMIO_INT_VRING } else { 0 };
        self.0.status.load(Ordering::SeqCst) | always
    }

    /// The ISR status, which reading clears (4.1.4.5). What a message says is not in it.
    pub(crate) fn take_status(&self) -> u32 {
        self.0.status.swap(0, Ordering::SeqCst)
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
        if let Some(vectors) = &self.0.vectors {
            std::iter::once(&vectors.config).chain(&vectors.queues).for_each(|v| v.store(NO_VECTOR, Ordering::SeqCst));
        }
    }

    fn event(&self, source: Source) -> Option<&EventFd> {
        if self.0.vectors.is_none() {
            return Some(&self.0.first);
        }
        match self.vector(source) {
            0 => Some(&self.0.first),
            vector => self.0.more.get(usize::from(vector) - 1),
        }
    }

    fn raise(&self, source: Source) {
        let event = self.event(source);
        if self.0.vectors.is_none() || event.is_none() {
            self.0.status.fetch_or(source.reason(), Ordering::SeqCst);
        }
        // The only error is a counter at its maximum: then an edge is pending anyway.
        let _ = event.map(|event| event.write(1));
    }
}

fn event() -> io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)
}
