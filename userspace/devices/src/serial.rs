// SPDX-License-Identifier: Apache-2.0
//! The 16550 serial port: the guest's first console, which every arm64 kernel has a driver for.

use crate::bus::MmioDevice;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Mutex;
use vm_superio::{serial::NoEvents, Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

/// An interrupt line that is an eventfd.
struct Line(EventFd);

impl Trigger for Line {
    type E = std::io::Error;

    fn trigger(&self) -> std::io::Result<()> {
        self.0.write(1)
    }
}

type Output = Box<dyn Write + Send>;

struct Inner {
    port: Serial<Line, NoEvents, Output>,
    /// What did not fit into the port's FIFO yet.
    backlog: VecDeque<u8>,
}

/// A 16550A whose output goes to a writer and whose input is pushed in.
pub struct Uart(Mutex<Inner>);

impl Uart {
    /// A port that signals `interrupt` and writes to `output`.
    pub fn new(interrupt: EventFd, output: Output) -> Self {
        Self(Mutex::new(Inner { port: Serial::new(Line(interrupt), output), backlog: VecDeque::new() }))
    }

    /// Hands `bytes` to the guest as if they had arrived on the line.
    pub fn push(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.backlog.extend(bytes);
        inner.refill();
    }

    /// Bytes that the guest has not taken yet and that do not fit into the port's FIFO.
    pub fn backlog(&self) -> usize {
        self.lock().backlog.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Inner {
    fn refill(&mut self) {
        while !self.backlog.is_empty() {
            let (front, _) = self.backlog.as_slices();
            match self.port.enqueue_raw_bytes(front) {
                // In loopback mode nothing is taken.
                Ok(0) | Err(_) => return,
                Ok(taken) => drop(self.backlog.drain(..taken)),
            }
        }
    }
}

impl MmioDevice for Uart {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut inner = self.lock();
        if let (Ok(register), Some(byte)) = (u8::try_from(offset), data.first_mut()) {
            *byte = inner.port.read(register);
        }
        if offset == 0 {
            inner.refill();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(register), Some(byte)) = (u8::try_from(offset), data.first()) {
            // A closed output must not stop the guest: the byte is lost, as on a line that nobody listens to.
            let _ = self.lock().port.write(register, *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn register(uart: &Uart, offset: u64) -> u8 {
        let mut byte = [0];
        uart.read(offset, &mut byte);
        byte[0]
    }

    #[test]
    fn output_arrives() {
        let sink = Sink::default();
        let uart = Uart::new(EventFd::new(0).unwrap(), Box::new(sink.clone()));
        for byte in b"hello" {
            uart.write(0, &[*byte]);
        }
        assert_eq!(*sink.0.lock().unwrap(), b"hello");
        assert_eq!(register(&uart, 5) & 0x60, 0x60, "the transmitter is empty again");
    }

    #[test]
    fn a_closed_output_does_not_stop_the_guest() {
        let uart = Uart::new(EventFd::new(0).unwrap(), Box::new(Closed));
        uart.write(0, b"x");
        assert_eq!(register(&uart, 5) & 0x60, 0x60);
    }

    #[test]
    fn input_longer_than_the_fifo_arrives_whole_and_interrupts() {
        let irq = EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap();
        let uart = Uart::new(irq.try_clone().unwrap(), Box::new(Sink::default()));
        uart.write(1, &[1]); // IER: received data
        let input: Vec<u8> = (0..=255).collect();
        uart.push(&input);
        assert!(irq.read().is_ok());
        let mut got = Vec::new();
        while register(&uart, 5) & 1 != 0 {
            got.push(register(&uart, 0));
        }
        assert_eq!(got, input);
    }
}
