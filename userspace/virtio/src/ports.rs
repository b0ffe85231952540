// SPDX-License-Identifier: Apache-2.0
//! Named ports (5.3, VIRTIO_CONSOLE_F_MULTIPORT): byte streams between programs here and in the guest, which finds each under
//! `/dev/virtio-ports/NAME`.
//!
//! Port 0, which a driver without multiport would take for a console, exists but is never announced: the named ports are 1, 2,
//! and so on in the order in which they were given.

mod control;

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;

use crate::console::F_MULTIPORT;
use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::port::{self, Port, PortIo};
use crate::worker::Worker;
use crate::{bit, read_bytes};

/// The size of a port's queues.
const PORT_QUEUE: u16 = 64;
/// The size of the control queues.
const CONTROL_QUEUE: u16 = 32;
/// Where the control queues are (5.3.2): receive, transmit. Before them port 0's two, after them the other ports'.
const CONTROL_RX: usize = 2;
const CONTROL_TX: usize = 3;

/// The most ports, and the longest name.
const MAX_PORTS: usize = 30;
const MAX_NAME: usize = 64;

/// A device with named ports.
#[derive(Debug)]
pub struct Ports {
    ports: Arc<[Named]>,
    queue_sizes: Vec<u16>,
    workers: Vec<Worker>,
}

/// A port and what it is called.
#[derive(Debug)]
struct Named {
    name: String,
    port: Port,
}

impl Ports {
    /// A device with these ports. The guest sees a port close when its input has come to an end, after it was given all of it;
    /// Linux then lets nobody write to the port any more, so keep the input open as long as there are answers to come.
    ///
    /// # Errors
    /// `InvalidInput` for more than 30 ports, or a name that is empty or longer than 64 bytes; what the system says when the
    /// process has no descriptors left.
    pub fn new(ports: Vec<(String, PortIo)>) -> io::Result<Self> {
        if ports.len() > MAX_PORTS || ports.iter().any(|(name, _)| name.is_empty() || name.len() > MAX_NAME) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many virtio ports, or a bad name of one"));
        }
        let ports = ports
            .into_iter()
            .map(|(name, io)| Ok(Named { name, port: Port::new(io, false)? }))
            .collect::<io::Result<Vec<_>>>()?;
        let mut queue_sizes = vec![PORT_QUEUE, PORT_QUEUE, CONTROL_QUEUE, CONTROL_QUEUE];
        queue_sizes.resize(4 + 2 * ports.len(), PORT_QUEUE);
        Ok(Self { ports: ports.into(), queue_sizes, workers: Vec::new() })
    }
}

impl Device for Ports {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn features(&self) -> u64 {
        RING_FEATURES | bit(F_MULTIPORT)
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        // struct virtio_console_config (5.3.4): columns, rows (not offered), max_nr_ports with port 0.
        let [a, b, c, d] = (self.ports.len() as u32 + 1).to_le_bytes();
        read_bytes(&[0, 0, 0, 0, a, b, c, d], offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        if activation.features & bit(F_MULTIPORT) == 0 {
            // Such a driver sees port 0 only, and that has nothing to say.
            return Ok(());
        }
        for index in 0..self.ports.len() {
            let [rx, tx] = [activation.ring(4 + 2 * index)?, activation.ring(5 + 2 * index)?];
            let (ports, mem) = (Arc::clone(&self.ports), activation.mem.clone());
            self.workers.push(Worker::spawn("virtio-port", activation.interrupt.clone(), move |stop| {
                ports.get(index).map_or(Ok(()), |named| port::run(stop, &named.port, &mem, rx, tx))
            })?);
        }
        let [rx, tx] = [activation.ring(CONTROL_RX)?, activation.ring(CONTROL_TX)?];
        let mut control = control::Control::new(Arc::clone(&self.ports), activation.mem, rx, tx);
        self.workers.push(Worker::spawn("virtio-ports", activation.interrupt, move |stop| control.run(stop))?);
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
        for named in self.ports.iter() {
            named.port.listen(false);
        }
    }
}
