// SPDX-License-Identifier: Apache-2.0
//! One port of a console device: bytes between a pair of rings and a pair of descriptors.
//!
//! Each port has a thread, so that one whose reader on the host is slow holds up nothing but itself. Nothing is read from the
//! host before the guest has a buffer for it, and nothing more from the guest while the host does not take what there is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::PollFlags;
use rustix::io::{read, write, Errno};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::chain::Chain;
use crate::ring::{Ring, RingError};
use crate::worker::{fd, is_ready, wait};
use crate::Memory;

/// The most bytes that are moved at once. A pipe that can be written to takes this many without blocking.
const CHUNK: usize = 4096;
/// How many chunks are moved before the thread looks whether it is to stop.
const BATCH: usize = 64;

/// The host's ends of a port. Files, pipes, sockets and terminals will do; they may be blocking.
#[derive(Debug, Default)]
pub struct PortIo {
    /// Read for the guest.
    pub input: Option<OwnedFd>,
    /// Written with what the guest sends; without it that is thrown away.
    pub output: Option<OwnedFd>,
}

/// A port, running or not.
#[derive(Debug)]
pub(crate) struct Port {
    io: PortIo,
    listening: AtomicBool,
    changed: EventFd,
    ended: AtomicBool,
    /// Signalled when `ended` has become true.
    pub news: EventFd,
}

impl Port {
    /// A port that the guest listens to from the start, or only when [`Self::listen`] says so.
    pub fn new(io: PortIo, listening: bool) -> io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC);
        Ok(Self {
            io,
            listening: AtomicBool::new(listening),
            changed: event()?,
            ended: AtomicBool::new(false),
            news: event()?,
        })
    }

    /// Whether somebody in the guest has the port open. Until then it is sent nothing: it would be lost.
    pub fn listen(&self, listening: bool) {
        self.listening.store(listening, Ordering::SeqCst);
        let _ = self.changed.write(1);
    }

    /// Whether all of the host's input has been delivered.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = self.news.write(1);
    }

    /// The input, if it is worth waiting for.
    fn input(&self) -> Option<BorrowedFd<'_>> {
        let wanted = self.listening.load(Ordering::SeqCst) && !self.has_ended();
        self.io.input.as_ref().filter(|_| wanted).map(AsFd::as_fd)
    }
}

/// A port's thread: works until `stop` is signalled.
pub(crate) fn run(stop: &EventFd, port: &Port, mem: &Memory, rx: Ring, tx: Ring) -> Result<(), RingError> {
    let chunk = Box::new([0; CHUNK]);
    let output = port.io.output.as_ref().map(AsFd::as_fd);
    let mut outgoing = Outgoing { mem, tx, output, chain: None, chunk, from: 0, to: 0 };
    let mut incoming = Incoming { mem, rx, starved: false };
    loop {
        // In the place of what is not to be waited for, something that is never ready.
        let never = (fd(stop), PollFlags::empty());
        let input = if incoming.starved { None } else { port.input() };
        let wanted_output = outgoing.output.filter(|_| outgoing.has_chunk());
        let tx = if outgoing.has_chunk() { never } else { (fd(outgoing.tx.kick()), PollFlags::IN) };
        let [stopped, _changed, buffers, sends, readable, writable] = wait([
            (fd(stop), PollFlags::IN),
            (fd(&port.changed), PollFlags::IN),
            (fd(incoming.rx.kick()), PollFlags::IN),
            tx,
            input.map_or(never, |input| (input, PollFlags::IN)),
            wanted_output.map_or(never, |output| (output, PollFlags::OUT)),
        ])?;
        if stopped {
            // What the guest has sent before it switched itself off is not lost, as far as it can go without waiting.
            return outgoing.send();
        }
        // Nonblocking: an error means that nothing has changed.
        let _ = port.changed.read();
        if buffers {
            incoming.rx.clear_kick();
            incoming.starved = false;
        }
        if sends || writable {
            outgoing.send()?;
        }
        if let Some(input) = input.filter(|_| readable) {
            incoming.receive(port, input)?;
        }
    }
}

/// From the host to the guest.
struct Incoming<'m> {
    mem: &'m Memory,
    rx: Ring,
    /// The guest has no buffer, and will signal when it has.
    starved: bool,
}

impl Incoming<'_> {
    /// Moves one chunk from an input that is known to be readable.
    fn receive(&mut self, port: &Port, input: BorrowedFd<'_>) -> Result<(), RingError> {
        let position = self.rx.position();
        let Some(mut chain) = self.rx.next(self.mem)? else {
            self.starved = !self.rx.watch(self.mem)?;
            return Ok(());
        };
        let mut chunk = [0; CHUNK];
        let room = chain.writable.len().min(CHUNK);
        let Some(chunk) = chunk.get_mut(..room).filter(|chunk| !chunk.is_empty()) else {
            return self.rx.give_back(self.mem, chain.head, 0);
        };
        match read(input, &mut *chunk) {
            Ok(length) if length > 0 => {
                let written = chain.writable.write(chunk.get(..length).unwrap_or(&[]));
                self.rx.give_back(self.mem, chain.head, written)
            }
            Err(Errno::INTR | Errno::AGAIN) => {
                self.rx.rewind(position);
                Ok(())
            }
            // The end, or as good as that: a terminal that was hung up, a connection that was reset.
            _ => {
                self.rx.rewind(position);
                port.end();
                Ok(())
            }
        }
    }
}

/// From the guest to the host.
struct Outgoing<'m> {
    mem: &'m Memory,
    tx: Ring,
    /// Nothing once there is no reader any more.
    output: Option<BorrowedFd<'m>>,
    /// The chain that chunks are taken from.
    chain: Option<Chain<'m>>,
    chunk: Box<[u8; CHUNK]>,
    from: usize,
    to: usize,
}

impl Outgoing<'_> {
    /// Whether there is something that the output has not taken yet.
    fn has_chunk(&self) -> bool {
        self.from < self.to
    }

    /// Sends what there is, as long as the output takes it without waiting.
    fn send(&mut self) -> Result<(), RingError> {
        for _ in 0..BATCH {
            if !self.has_chunk() && !self.refill()? {
                return Ok(());
            }
            let Some(output) = self.output else {
                self.from = self.to;
                continue;
            };
            // For one chunk at a time: it may be a blocking descriptor.
            if !is_ready(output, PollFlags::OUT)? {
                return Ok(());
            }
            match write(output, self.chunk.get(self.from..self.to).unwrap_or(&[])) {
                Ok(length) => self.from += length,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => {
                    if error != Errno::PIPE {
                        log::warn!("virtio-console: the output is lost from here on: {error}");
                    }
                    self.output = None;
                }
            }
        }
        // There may be more, and the guest owes no signal for it.
        let _ = self.tx.kick().write(1);
        Ok(())
    }

    /// Gets the next chunk from the guest. False if there is none, and the guest will signal, or has.
    fn refill(&mut self) -> Result<bool, RingError> {
        self.tx.clear_kick();
        for _ in 0..=self.tx.size() {
            if let Some(chain) = &mut self.chain {
                let length = chain.readable.read(self.chunk.as_mut_slice());
                (self.from, self.to) = (0, length);
                // At once, and not when the host has taken the chunk too: Linux's console spins until it gets its buffer back.
                if chain.readable.is_empty() {
                    let head = chain.head;
                    self.chain = None;
                    self.tx.give_back(self.mem, head, 0)?;
                }
                if length > 0 {
                    return Ok(true);
                }
            }
            self.chain = self.tx.next(self.mem)?;
            if self.chain.is_none() && !self.tx.watch(self.mem)? {
                return Ok(false);
            }
        }
        let _ = self.tx.kick().write(1);
        Ok(false)
    }
}
