// SPDX-License-Identifier: Apache-2.0
//! The control queues (5.3.6.2): which ports there are, what they are called, which ends of them are open.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use vmm_sys_util::eventfd::EventFd;

use super::Named;
use crate::chain::Chain;
use crate::ring::{Ring, RingError};
use crate::worker::{fd, wait_for};
use crate::Memory;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// The most messages that wait for the driver to make buffers available; a driver that asks for more does so on purpose.
const MAX_WAITING: usize = 256;

/// The control queues at work.
pub struct Control {
    ports: Arc<[Named]>,
    mem: Memory,
    rx: Ring,
    tx: Ring,
    waiting: VecDeque<Vec<u8>>,
    /// For each port, whether the driver knows it and takes it to be open here.
    open: Vec<bool>,
}

impl Control {
    pub fn new(ports: Arc<[Named]>, mem: Memory, rx: Ring, tx: Ring) -> Self {
        let open = vec![false; ports.len()];
        Self { ports, mem, rx, tx, waiting: VecDeque::new(), open }
    }

    /// Works until `stop` is signalled.
    pub fn run(&mut self, stop: &EventFd) -> Result<(), RingError> {
        loop {
            let news = self.ports.iter().map(|named| &named.port.news);
            let events = [stop, self.rx.kick(), self.tx.kick()].into_iter().chain(news);
            let mut polled: Vec<_> = events.map(|event| PollFd::from_borrowed_fd(fd(event), PollFlags::IN)).collect();
            wait_for(&mut polled)?;
            if polled.first().is_some_and(|stop| !stop.revents().is_empty()) {
                return Ok(());
            }
            self.rx.clear_kick();
            self.listen()?;
            self.tell_ends()?;
            self.deliver()?;
        }
    }

    /// Reads what the driver says.
    fn listen(&mut self) -> Result<(), RingError> {
        let Self { ports, mem, tx, waiting, open, .. } = self;
        tx.serve(mem, |mut chain| {
            // struct virtio_console_control: id, event, value. Anything shorter says nothing.
            if let Some([a, b, c, d, e, f, g, h]) = chain.readable.read_array() {
                let id = u32::from_le_bytes([a, b, c, d]);
                let [event, value] = [u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h])];
                answer(ports, waiting, open, id, event, value)?;
            }
            Ok(ControlFlow::Continue(0))
        })
    }

    /// Tells the driver of the ports that have come to their end here.
    fn tell_ends(&mut self) -> Result<(), RingError> {
        for (index, (named, open)) in self.ports.iter().zip(&mut self.open).enumerate() {
            // Nonblocking: an error means no news.
            let _ = named.port.news.read();
            if *open && named.port.has_ended() {
                *open = false;
                send(&mut self.waiting, index, PORT_OPEN, 0, &[])?;
            }
        }
        Ok(())
    }

    /// Hands over the messages that wait, as far as the driver has buffers.
    fn deliver(&mut self) -> Result<(), RingError> {
        // Each turn hands one over, or finds none to hand over to.
        for _ in 0..=2 * MAX_WAITING {
            let Some(message) = self.waiting.front() else { return Ok(()) };
            match self.rx.next(&self.mem)? {
                Some(Chain { head, mut writable, .. }) => {
                    let written = writable.write(message);
                    self.waiting.pop_front();
                    self.rx.give_back(&self.mem, head, written)?;
                }
                None if self.rx.watch(&self.mem)? => {}
                None => return Ok(()),
            }
        }
        let _ = self.rx.kick().write(1);
        Ok(())
    }
}

/// Does what one message of the driver asks for.
fn answer(
    ports: &[Named],
    waiting: &mut VecDeque<Vec<u8>>,
    open: &mut [bool],
    id: u32,
    event: u16,
    value: u16,
) -> Result<(), RingError> {
    if event == DEVICE_READY {
        for index in 0..ports.len() {
            send(waiting, index, PORT_ADD, 1, &[])?;
        }
        return Ok(());
    }
    // Ports are counted from 1; one that does not exist is no reason to fail those that do.
    let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
    let Some((index, named, open)) = index.and_then(|index| Some((index, ports.get(index)?, open.get_mut(index)?)))
    else {
        return Ok(());
    };
    match event {
        PORT_READY if value == 1 => {
            send(waiting, index, PORT_NAME, 1, named.name.as_bytes())?;
            if !named.port.has_ended() {
                *open = true;
                send(waiting, index, PORT_OPEN, 1, &[])?;
            }
        }
        PORT_OPEN => named.port.listen(value != 0),
        _ => {}
    }
    Ok(())
}

/// Puts a message about the port at `index` behind those that wait.
fn send(waiting: &mut VecDeque<Vec<u8>>, index: usize, event: u16, value: u16, rest: &[u8]) -> Result<(), RingError> {
    if waiting.len() >= MAX_WAITING {
        return Err(RingError::Request("the driver asks and does not take the answers"));
    }
    let mut message = Vec::with_capacity(8 + rest.len());
    message.extend_from_slice(&(index as u32 + 1).to_le_bytes());
    message.extend_from_slice(&event.to_le_bytes());
    message.extend_from_slice(&value.to_le_bytes());
    message.extend_from_slice(rest);
    waiting.push_back(message);
    Ok(())
}
