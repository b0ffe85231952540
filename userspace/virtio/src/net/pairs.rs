// SPDX-License-Identifier: Apache-2.0
//! The pairs of queues of a card at work, one for receiving and one for transmitting each, and the
//! control queue, by which a driver says how many of them it uses (5.1.6.5).
//!
//! A card starts with one pair. A pair that is not used is at rest: nobody looks at its rings, and
//! the host gives it no packets.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use ::vhost::net::VhostNet;
use ::vhost::vhost_kern::net::Net as Backend;
use ::vhost::VhostBackend;
use rustix::event::{PollFd, PollFlags};
use virtio_bindings::virtio_net as net;
use vmm_sys_util::eventfd::EventFd;

use super::cable::Cable;
use super::pump::Pump;
use super::tap::Wire;
use crate::chain::Buffers;
use crate::device::ActivateError;
use crate::interrupt::Interrupt;
use crate::ring::{Ring, RingError};
use crate::vhost::{prepare, LateMemory};
use crate::worker::{fd, wait_for, Worker};
use crate::Memory;

/// The class of the commands about pairs (5.1.6.5.5), and the one that there is.
const CLASS: u8 = net::VIRTIO_NET_CTRL_MQ as u8;
const PAIRS_SET: u8 = net::VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET as u8;
const OK: u8 = net::VIRTIO_NET_OK as u8;
const ERROR: u8 = net::VIRTIO_NET_ERR as u8;

/// The host's vhost-net, for one pair.
pub struct Vhost {
    backend: Backend<LateMemory>,
    mem: LateMemory,
    features: u64,
}

impl Vhost {
    /// Opens it, if the host has it.
    pub fn open() -> Option<Self> {
        let mem = LateMemory::default();
        let backend = Backend::new(mem.clone()).ok()?;
        let features = backend.get_features().ok()?;
        Some(Self { backend, mem, features })
    }

    /// What it can do.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Tells it of the memory and the rings. Returns what it signals when it gives one up.
    pub fn prepare(
        &self,
        features: u64,
        mem: &Memory,
        interrupt: &Interrupt,
        rings: &[Ring; 2],
    ) -> Result<Vec<EventFd>, ActivateError> {
        self.mem.set(mem);
        prepare(&self.backend, features, mem, interrupt, rings)
    }

    fn stop(&self) {
        for index in 0..2 {
            // It waits until the kernel's worker has let go of the ring. An error means that it
            // never had it.
            let _ = self.backend.set_backend(index, None);
        }
    }
}

/// A pair of queues.
pub struct Pair {
    server: Server,
    /// The tap's queue, where it is attached only as long as the pair is used.
    wire: Option<Arc<dyn Wire>>,
}

/// Who moves a pair's packets.
enum Server {
    /// A thread here, which is there while the pair is used.
    Pump { pump: Arc<Mutex<Pump>>, interrupt: Interrupt, worker: Option<Worker> },
    /// The host's kernel.
    Vhost { vhost: Arc<Vhost>, wire: Arc<dyn Wire>, rings: [Ring; 2] },
}

impl Pair {
    /// A pair that a thread here serves.
    pub fn pumped(cable: Cable, mem: &Memory, features: u64, rings: [Ring; 2], interrupt: &Interrupt) -> Self {
        let [rx, tx] = rings;
        let pump = Arc::new(Mutex::new(Pump::new(cable, mem.clone(), features, rx, tx)));
        Self { server: Server::Pump { pump, interrupt: interrupt.clone(), worker: None }, wire: None }
    }

    /// A pair that `vhost` serves, which was prepared for `rings`.
    pub fn with_vhost(vhost: Arc<Vhost>, wire: Arc<dyn Wire>, rings: [Ring; 2]) -> Self {
        Self { server: Server::Vhost { vhost, wire, rings }, wire: None }
    }

    /// The same with `wire` attached only as long as the pair is used.
    pub fn attached_while_used(self, wire: Arc<dyn Wire>) -> Self {
        Self { wire: Some(wire), ..self }
    }

    fn start(&mut self) -> Result<(), ActivateError> {
        self.wire.as_ref().map_or(Ok(()), |wire| wire.attach(true))?;
        let started = self.server.start();
        if started.is_err() {
            self.stop();
        }
        started
    }

    fn stop(&mut self) {
        self.server.stop();
        if let Some(Err(error)) = self.wire.as_ref().map(|wire| wire.attach(false)) {
            log::warn!("virtio-net: a queue of the tap interface cannot be detached: {error}");
        }
    }
}

impl Server {
    fn start(&mut self) -> Result<(), ActivateError> {
        match self {
            Self::Pump { pump, interrupt, worker } => {
                let pump = pump.clone();
                let body = move |stop: &EventFd| pump.lock().unwrap_or_else(PoisonError::into_inner).run(stop);
                *worker = Some(Worker::spawn("virtio-net", interrupt.clone(), body)?);
            }
            Self::Vhost { vhost, wire, rings } => {
                for (index, ring) in rings.iter().enumerate() {
                    vhost.backend.set_backend(index, Some(wire.file()))?;
                    // What the driver has signalled before has found nobody.
                    let _ = ring.kick().write(1);
                }
            }
        }
        Ok(())
    }

    /// Also what was started in part.
    fn stop(&mut self) {
        match self {
            Self::Pump { worker, .. } => *worker = None,
            Self::Vhost { vhost, .. } => vhost.stop(),
        }
    }
}

/// All pairs. When this is dropped nobody uses their rings any more.
pub struct Pairs {
    all: Vec<Pair>,
    /// How many of them are used, from the first on.
    used: usize,
}

impl Pairs {
    /// Uses the first.
    pub fn start(all: Vec<Pair>) -> Result<Self, ActivateError> {
        let mut pairs = Self { all, used: 0 };
        pairs.grow(1)?;
        Ok(pairs)
    }

    /// Sees to it, until `stop`, that the driver gets what it asks for by the queue `control`; of
    /// pairs, if it has accepted that there are `several`. `failures` are signalled by vhost, one
    /// for each queue in order.
    pub fn watch(
        &mut self,
        stop: &EventFd,
        failures: &[EventFd],
        mut control: Option<Ring>,
        several: bool,
        mem: &Memory,
    ) -> Result<(), RingError> {
        loop {
            let events = std::iter::once(stop).chain(failures).chain(control.as_ref().map(Ring::kick));
            let mut polled: Vec<_> = events.map(|event| PollFd::from_borrowed_fd(fd(event), PollFlags::IN)).collect();
            wait_for(&mut polled)?;
            match (polled.iter().position(|fd| !fd.revents().is_empty()), &mut control) {
                (Some(index), _) if (1..=failures.len()).contains(&index) => return Err(RingError::Vhost(index - 1)),
                (Some(index), Some(ring)) if index > 0 => ring.serve(mem, |mut chain| {
                    let answer =
                        if chain.writable.is_empty() { ERROR } else { self.obey(&mut chain.readable, several) };
                    // One at a time: in between it is asked to stop.
                    Ok(ControlFlow::Break(chain.writable.write(&[answer])))
                })?,
                _ => return Ok(()),
            }
        }
    }

    /// Does what a command asks for. Returns what is to be answered.
    fn obey(&mut self, command: &mut Buffers<'_>, several: bool) -> u8 {
        let count = match (command.read_array(), command.is_empty()) {
            (Some([CLASS, PAIRS_SET, low, high]), true) if several => usize::from(u16::from_le_bytes([low, high])),
            _ => return ERROR,
        };
        if !(1..=self.all.len()).contains(&count) {
            return ERROR;
        }
        let before = self.used;
        if let Err(error) = self.grow(count) {
            log::warn!("virtio-net: there cannot be {count} pairs of queues: {error}");
            self.shrink(before);
            return ERROR;
        }
        self.shrink(count);
        OK
    }

    fn grow(&mut self, count: usize) -> Result<(), ActivateError> {
        for pair in self.all.iter_mut().take(count).skip(self.used) {
            pair.start()?;
            self.used += 1;
        }
        Ok(())
    }

    fn shrink(&mut self, count: usize) {
        // The last one first, as the tap's queues are attached in order.
        for pair in self.all.iter_mut().take(self.used).skip(count).rev() {
            pair.stop();
        }
        self.used = self.used.min(count);
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        self.shrink(0);
    }
}
