// SPDX-License-Identifier: Apache-2.0
//! What the packets of a card go through on the host.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::PollFlags;

use super::tap::HEADER_BYTES;

/// Room for the largest packet: the header, Ethernet's with two VLAN tags, and 64 KiB.
pub const PACKET_BYTES: usize = HEADER_BYTES + 22 + 65536;
/// A frame's length, in front of it.
const LENGTH_BYTES: usize = 4;

/// The host's end. Neither kind blocks.
#[derive(Debug)]
pub enum Cable {
    /// A tap: each read and each write is a packet with its header.
    Tap(File),
    /// A connection to a program that is the network.
    Stream(Stream),
}

/// A stream of frames without the header, each after its length (4 bytes, big-endian): what
/// passt(1) and QEMU's stream sockets speak. Clones are the same stream: what has come or gone in
/// part stays with it when a driver lets go of the card.
#[derive(Clone, Debug)]
pub struct Stream {
    socket: Arc<UnixStream>,
    /// Who is at the other end.
    program: &'static str,
    buffers: Arc<Mutex<Buffers>>,
}

#[derive(Debug)]
struct Buffers {
    incoming: Vec<u8>,
    /// The part of `incoming` that has come and was not taken yet.
    from: usize,
    to: usize,
    /// What the socket has not taken yet: the rest of one frame.
    outgoing: Vec<u8>,
    /// Whether the user has been told that the other end is gone.
    told: bool,
}

impl Cable {
    /// The descriptor to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tap(file) => file.as_fd(),
            Self::Stream(stream) => stream.socket.as_fd(),
        }
    }

    /// What to wait for on it, beside errors. A packet is not to be had without `wanted`.
    pub fn interest(&self, wanted: bool) -> PollFlags {
        let mut flags = if wanted { PollFlags::IN } else { PollFlags::empty() };
        flags.set(PollFlags::OUT, self.is_congested());
        flags
    }

    /// Whether a packet is still on its way, so that no other can be sent.
    pub fn is_congested(&self) -> bool {
        match self {
            Self::Tap(_) => false,
            Self::Stream(stream) => !stream.buffers().outgoing.is_empty(),
        }
    }

    /// Whether a packet can be received without the descriptor being readable.
    pub fn has_packet(&self) -> bool {
        match self {
            Self::Tap(_) => false,
            Self::Stream(stream) => stream.buffers().frame().is_some(),
        }
    }

    /// Receives a packet with its header into `packet`, which has room for the largest.
    pub fn receive(&mut self, packet: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tap(file) => file.read(packet),
            Self::Stream(stream) => stream.buffers().receive(&stream.socket, packet),
        }
    }

    /// Sends a packet with its header, if the cable is not congested. One that a tap does not take
    /// (its header makes no sense, it is down, its queue is full) is lost, as on any wire.
    pub fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Tap(file) => loop {
                match file.write(packet) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return Err(error),
                    _ => return Ok(()),
                }
            },
            Self::Stream(stream) => {
                let frame = packet.get(HEADER_BYTES..).unwrap_or_default();
                let mut buffers = stream.buffers();
                if buffers.outgoing.is_empty() {
                    // A packet has less than 4 GiB.
                    buffers.outgoing.extend((frame.len() as u32).to_be_bytes());
                    buffers.outgoing.extend(frame);
                }
                buffers.flush(&stream.socket)
            }
        }
    }

    /// Tells whether `error` means that the program at the other end has ended. The user is told so
    /// once.
    pub fn has_ended(&self, error: &io::Error) -> bool {
        use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self {
            Self::Stream(stream) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {
                if !std::mem::replace(&mut stream.buffers().told, true) {
                    log::warn!("{} has ended; the guest has no network any more", stream.program);
                }
                true
            }
            _ => false,
        }
    }

    /// Sends more of the packet that is on its way.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tap(_) => Ok(()),
            Self::Stream(stream) => stream.buffers().flush(&stream.socket),
        }
    }
}

impl Stream {
    /// Over `socket`, to `program`.
    pub fn new(socket: UnixStream, program: &'static str) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let incoming = vec![0; 2 * (LENGTH_BYTES + PACKET_BYTES)];
        let buffers = Buffers { incoming, from: 0, to: 0, outgoing: Vec::new(), told: false };
        Ok(Self { socket: Arc::new(socket), program, buffers: Arc::new(buffers.into()) })
    }

    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffers {
    /// The first frame, if all of it is here; one that is too long for a packet has length 0.
    fn frame(&self) -> Option<&[u8]> {
        let here = self.incoming.get(self.from..self.to)?;
        let (length, rest) = here.split_first_chunk::<LENGTH_BYTES>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > PACKET_BYTES - HEADER_BYTES {
            return Some(&[]);
        }
        rest.get(..length)
    }

    fn receive(&mut self, mut socket: &UnixStream, packet: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = self.frame() {
                let length = frame.len();
                let (Some((header, room)), false) = (packet.split_at_mut_checked(HEADER_BYTES), length == 0) else {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the network sent what is no frame"));
                };
                header.fill(0);
                room.get_mut(..length).ok_or(ErrorKind::InvalidInput)?.copy_from_slice(frame);
                self.from += LENGTH_BYTES + length;
                return Ok(HEADER_BYTES + length);
            }
            // There is always room for a whole frame.
            self.incoming.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            match socket.read(self.incoming.get_mut(self.to..).unwrap_or_default())? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => self.to += length,
            }
        }
    }

    fn flush(&mut self, mut socket: &UnixStream) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match socket.write(&self.outgoing) {
                Ok(length) => drop(self.outgoing.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    self.outgoing.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
