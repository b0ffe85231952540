// SPDX-License-Identifier: Apache-2.0
//! The console (5.3): one terminal, the guest's hvc0.
//!
//! Named ports for other purposes are a device of their own, [`crate::Ports`]. One device could be both, but then the
//! terminal's size would have to be a control message, whose two fields Linux had in the wrong order for many years; the same
//! two fields of the configuration space mean the same in every guest.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;

use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::interrupt::Interrupt;
use crate::port::{self, Port, PortIo};
use crate::worker::Worker;
use crate::{bit, read_bytes};

/// Feature bits of the console (5.3.3); the bindings have none for this device.
pub(crate) const F_SIZE: u32 = 0;
pub(crate) const F_MULTIPORT: u32 = 1;

/// Receive, transmit.
const QUEUE_SIZES: [u16; 2] = [64, 64];

/// How a console is made.
#[derive(Debug, Default)]
pub struct ConsoleOptions {
    /// The host's ends of the terminal.
    pub io: PortIo,
    /// Columns and rows, where there is a terminal that has them.
    pub size: Option<(u16, u16)>,
}

/// A console.
#[derive(Debug)]
pub struct Console {
    port: Arc<Port>,
    screen: Arc<Mutex<Screen>>,
    sized: bool,
    worker: Option<Worker>,
}

/// Tells a console, wherever it is, that the terminal's size has changed.
#[derive(Clone, Debug)]
pub struct ConsoleHandle(Arc<Mutex<Screen>>);

#[derive(Debug, Default)]
struct Screen {
    size: (u16, u16),
    /// Set while the device is running.
    interrupt: Option<Interrupt>,
}

impl Console {
    /// A console, and the handle to it.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new(options: ConsoleOptions) -> io::Result<(Self, ConsoleHandle)> {
        let size = options.size.unwrap_or_default();
        let screen = Arc::new(Mutex::new(Screen { size, interrupt: None }));
        let port = Arc::new(Port::new(options.io, true)?);
        let sized = options.size.is_some();
        Ok((Self { port, screen: Arc::clone(&screen), sized, worker: None }, ConsoleHandle(screen)))
    }
}

impl ConsoleHandle {
    /// The terminal now has this many columns and rows.
    pub fn resize(&self, columns: u16, rows: u16) {
        let mut screen = locked(&self.0);
        if screen.size != (columns, rows) {
            screen.size = (columns, rows);
            if let Some(interrupt) = &screen.interrupt {
                interrupt.config_changed();
            }
        }
    }
}

impl Device for Console {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn features(&self) -> u64 {
        RING_FEATURES | if self.sized { bit(F_SIZE) } else { 0 }
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        // struct virtio_console_config (5.3.4); the number of ports is not offered.
        let (columns, rows) = locked(&self.screen).size;
        let [a, b] = columns.to_le_bytes();
        let [c, d] = rows.to_le_bytes();
        read_bytes(&[a, b, c, d], offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let [rx, tx] = [activation.ring(0)?, activation.ring(1)?];
        let Activation { mem, interrupt, .. } = activation;
        if self.sized {
            locked(&self.screen).interrupt = Some(interrupt.clone());
        }
        let port = Arc::clone(&self.port);
        self.worker =
            Some(Worker::spawn("virtio-console", interrupt, move |stop| port::run(stop, &port, &mem, rx, tx))?);
        Ok(())
    }

    fn reset(&mut self) {
        locked(&self.screen).interrupt = None;
        self.worker = None;
    }
}

fn locked(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    // Two numbers and a handle: there is no state of it that a panic could leave broken.
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}
