// SPDX-License-Identifier: Apache-2.0
//! Moving packets between the host's end and the rings, where vhost-net does not.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;

use rustix::event::PollFlags;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use vmm_sys_util::eventfd::EventFd;

use super::cable::{Cable, PACKET_BYTES};
use super::tap::HEADER_BYTES;
use crate::ring::{Ring, RingError};
use crate::worker::{fd, wait};
use crate::{bit, Memory};

/// Where `num_buffers` is in the header (5.1.6.1).
const NUM_BUFFERS: usize = 10;
/// How many packets are received before other things get their turn.
const RECEIVE_BATCH: usize = 64;

/// A network card at work.
pub struct Pump {
    cable: Cable,
    mem: Memory,
    merge: bool,
    rx: Ring,
    tx: Ring,
    packet: Vec<u8>,
    /// How long the packet is that waits for receive buffers; 0 if none does.
    held: usize,
}

impl Pump {
    pub fn new(cable: Cable, mem: Memory, features: u64, rx: Ring, tx: Ring) -> Self {
        let merge = features & bit(VIRTIO_NET_F_MRG_RXBUF) != 0;
        Self { cable, mem, merge, rx, tx, packet: vec![0; PACKET_BYTES], held: 0 }
    }

    /// Works until `stop` is signalled. What the guest sends when there is no network any more is
    /// lost, as on any wire.
    pub fn run(&mut self, stop: &EventFd) -> Result<(), RingError> {
        match self.run_connected(stop) {
            Err(RingError::Host(error)) if self.cable.has_ended(&error) => {}
            result => return result,
        }
        loop {
            self.tx.serve(&self.mem, |_| Ok(ControlFlow::Continue(0)))?;
            let [stopped, _] = wait([(fd(stop), PollFlags::IN), (fd(self.tx.kick()), PollFlags::IN)])?;
            if stopped {
                return Ok(());
            }
        }
    }

    fn run_connected(&mut self, stop: &EventFd) -> Result<(), RingError> {
        let mut outgoing = vec![0; PACKET_BYTES];
        loop {
            // While a packet is held the cable is only asked whether it is still there: then it is
            // never ready but for errors.
            let interest = self.cable.interest(self.held == 0);
            let sending = if self.cable.is_congested() { PollFlags::empty() } else { PollFlags::IN };
            let [stopped, buffers, sends, packets] = wait([
                (fd(stop), PollFlags::IN),
                (fd(self.rx.kick()), PollFlags::IN),
                (fd(self.tx.kick()), sending),
                (self.cable.fd(), interest),
            ])?;
            if stopped {
                return Ok(());
            }
            if packets && interest.is_empty() {
                let what = "the other end of the network is gone";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, what).into());
            }
            if packets {
                self.cable.flush()?;
            }
            if sends {
                self.send(&mut outgoing)?;
            }
            if buffers {
                self.rx.clear_kick();
            }
            if buffers || packets {
                self.receive()?;
            }
        }
    }

    fn send(&mut self, outgoing: &mut [u8]) -> Result<(), RingError> {
        let cable = &mut self.cable;
        self.tx.serve(&self.mem, |mut chain| {
            let length = chain.readable.read(outgoing);
            // What does not fit is no packet, nor is a header with nothing behind it.
            if length > HEADER_BYTES && chain.readable.is_empty() {
                match cable.send(outgoing.get(..length).unwrap_or(&[])) {
                    // Its descriptor says so, too, which is looked at next.
                    Err(error) if cable.has_ended(&error) => {}
                    result => result?,
                }
            }
            Ok(if cable.is_congested() { ControlFlow::Break(0) } else { ControlFlow::Continue(0) })
        })
    }

    fn receive(&mut self) -> Result<(), RingError> {
        for _ in 0..RECEIVE_BATCH {
            if self.held == 0 {
                self.held = match self.cable.receive(&mut self.packet) {
                    Ok(length) => length,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                    Err(error) => return Err(error.into()),
                };
            }
            if self.place()? {
                self.held = 0;
            } else if !self.rx.watch(&self.mem)? {
                return self.rx.notify(&self.mem);
            }
        }
        if self.held > 0 || self.cable.has_packet() {
            // The driver has made buffers available since we last looked, and has perhaps not
            // signalled, or the descriptor will not be readable for what is here already: look
            // again.
            let _ = self.rx.kick().write(1);
        }
        self.rx.notify(&self.mem)
    }

    /// Puts the packet into receive buffers. False if there are not enough of them yet.
    fn place(&mut self) -> Result<bool, RingError> {
        let packet = self.packet.get_mut(..self.held).unwrap_or_default();
        let start = self.rx.position();
        let mut chains = Vec::new();
        let mut room = 0usize;
        while room < packet.len() {
            if chains.len() >= usize::from(self.rx.size()) {
                return Err(RingError::Request("all receive buffers together hold less than a packet"));
            }
            let Some(chain) = self.rx.next(&self.mem)? else {
                self.rx.rewind(start);
                return Ok(false);
            };
            room = room.saturating_add(chain.writable.len());
            chains.push(chain);
            if !self.merge && room < packet.len() {
                // One chain must do, and this one does not: the packet is lost, the chain is for the next one.
                self.rx.rewind(start);
                return Ok(true);
            }
        }
        if let Some(field) = packet.get_mut(NUM_BUFFERS..HEADER_BYTES) {
            field.copy_from_slice(&u16::try_from(chains.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
        let mut rest: &[u8] = packet;
        for mut chain in chains {
            let written = chain.writable.write(rest);
            rest = rest.get(written..).unwrap_or(&[]);
            self.rx.put_used(&self.mem, chain.head, written)?;
        }
        Ok(true)
    }
}
