// SPDX-License-Identifier: Apache-2.0
//! The frames between launcher and guest.
//!
//! A frame is a kind (1 byte), the length of its content (4 bytes, little-endian, at most [`MAX_CONTENT`]) and the
//! content. A side that meets a frame it does not know gives up: both sides are the same binary.

use std::io::{self, Read, Write};

/// The most bytes that a frame's content may have.
pub const MAX_CONTENT: usize = 64 << 10;
const HEADER: usize = 5;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Guest: the command is about to start, so many microseconds after the guest's first process.
    Hello(u64),
    /// Launcher: bytes for the command's input.
    Stdin(Vec<u8>),
    /// Launcher: there is no more input.
    StdinEnd,
    /// Launcher: the terminal has this many columns and rows.
    Resize(u16, u16),
    /// Guest: bytes that the command printed to its output, or to its terminal.
    Stdout(Vec<u8>),
    /// Guest: bytes that the command printed to its error output.
    Stderr(Vec<u8>),
    /// Guest: the command has ended; this is its exit code. Nothing follows.
    Exit(u8),
    /// Launcher: the exit code or the failure has arrived, the guest may switch itself off.
    Goodbye,
    /// Guest: the command could not be run, and why. Its exit code follows.
    Error(String),
    /// Guest: it could not be made ready for the command, and why. Nothing follows.
    Failed(String),
    /// Launcher: nobody reads the command's output any more.
    StdoutGone,
    /// Launcher: nobody reads the command's error output any more.
    StderrGone,
    /// Launcher: run this command, a [`crate::task::Command`] in JSON.
    Run(Vec<u8>),
    /// Launcher, on the first service port: end a command, if it still runs: the service port with this index, and the how many-th
    /// [`Frame::Run`] on that it was.
    Kill(u8, u32),
    /// Launcher, on the first service port: switch the guest off.
    PowerOff,
    /// Launcher, on the first service port: restart the guest.
    Reboot,
}

/// What arrived is no frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a frame: kind {kind}, {length} bytes")]
pub struct BadFrame {
    kind: u8,
    length: usize,
}

impl Frame {
    /// The frame's bytes. Contents longer than [`MAX_CONTENT`] must be cut by the caller.
    pub fn encode(&self) -> Vec<u8> {
        let (size, which, took);
        let (kind, content): (u8, &[u8]) = match self {
            Self::Hello(micros) => {
                took = micros.to_le_bytes();
                (1, &took)
            }
            Self::Stdin(bytes) => (2, bytes),
            Self::StdinEnd => (3, &[]),
            Self::Resize(columns, rows) => {
                let (c, r) = (columns.to_le_bytes(), rows.to_le_bytes());
                size = [c[0], c[1], r[0], r[1]];
                (4, &size)
            }
            Self::Stdout(bytes) => (5, bytes),
            Self::Stderr(bytes) => (6, bytes),
            Self::Exit(code) => (7, std::slice::from_ref(code)),
            Self::Goodbye => (8, &[]),
            Self::Error(text) => (9, text.as_bytes()),
            Self::Failed(text) => (10, text.as_bytes()),
            Self::StdoutGone => (11, &[]),
            Self::StderrGone => (12, &[]),
            Self::Run(bytes) => (13, bytes),
            Self::Kill(port, run) => {
                let [r0, r1, r2, r3] = run.to_le_bytes();
                which = [*port, r0, r1, r2, r3];
                (14, &which)
            }
            Self::PowerOff => (15, &[]),
            Self::Reboot => (16, &[]),
        };
        debug_assert!(content.len() <= MAX_CONTENT);
        let mut bytes = Vec::with_capacity(HEADER + content.len());
        bytes.push(kind);
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    fn decode(kind: u8, content: &[u8]) -> Result<Self, BadFrame> {
        Ok(match (kind, content) {
            (1, &[t0, t1, t2, t3, t4, t5, t6, t7]) => Self::Hello(u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7])),
            (2, bytes) => Self::Stdin(bytes.to_vec()),
            (3, []) => Self::StdinEnd,
            (4, &[c0, c1, r0, r1]) => Self::Resize(u16::from_le_bytes([c0, c1]), u16::from_le_bytes([r0, r1])),
            (5, bytes) => Self::Stdout(bytes.to_vec()),
            (6, bytes) => Self::Stderr(bytes.to_vec()),
            (7, &[code]) => Self::Exit(code),
            (8, []) => Self::Goodbye,
            (9, bytes) => Self::Error(String::from_utf8_lossy(bytes).into_owned()),
            (10, bytes) => Self::Failed(String::from_utf8_lossy(bytes).into_owned()),
            (11, []) => Self::StdoutGone,
            (12, []) => Self::StderrGone,
            (13, bytes) => Self::Run(bytes.to_vec()),
            (14, &[port, r0, r1, r2, r3]) => Self::Kill(port, u32::from_le_bytes([r0, r1, r2, r3])),
            (15, []) => Self::PowerOff,
            (16, []) => Self::Reboot,
            _ => return Err(BadFrame { kind, length: content.len() }),
        })
    }

    /// Writes the frame in one piece.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.encode())
    }
}

/// Puts frames together from however the bytes arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Takes bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if all of it has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BadFrame> {
        let &[kind, l0, l1, l2, l3, ref rest @ ..] = self.bytes.as_slice() else { return Ok(None) };
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_CONTENT {
            return Err(BadFrame { kind, length });
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(kind, content)?;
        self.bytes.drain(..HEADER + length);
        Ok(Some(frame))
    }
}

/// Reads frames until the other side closes; each goes to `handle`, which says whether to go on.
pub fn receive(from: &mut impl Read, mut handle: impl FnMut(Frame) -> bool) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            if !handle(frame) {
                return Ok(());
            }
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => decoder.push(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Frame> {
        vec![
            Frame::Hello(1 << 40),
            Frame::Stdin(b"in\0put".to_vec()),
            Frame::StdinEnd,
            Frame::Resize(300, 25),
            Frame::Stdout(vec![7; MAX_CONTENT]),
            Frame::Stderr(vec![]),
            Frame::Exit(255),
            Frame::Goodbye,
            Frame::Error("no such file".into()),
            Frame::Failed("no disk".into()),
            Frame::StdoutGone,
            Frame::StderrGone,
            Frame::Run(b"{}".to_vec()),
            Frame::Kill(3, 70_000),
            Frame::PowerOff,
            Frame::Reboot,
        ]
    }

    #[test]
    fn frames_survive_any_cut() {
        let bytes: Vec<u8> = all().iter().flat_map(Frame::encode).collect();
        for step in [1, 3, 4, 5, 4096, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for part in bytes.chunks(step) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            assert!(got == all(), "in steps of {step}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in
            [&[0u8, 0, 0, 0, 0][..], &[7, 0, 0, 0, 0], &[1, 1, 0, 0, 0, 9], &[5, 1, 0, 1, 0], &[200, 0, 0, 0, 0]]
        {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert!(decoder.next_frame().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn receive_stops_when_told() {
        let bytes: Vec<u8> = all().iter().flat_map(Frame::encode).collect();
        let mut count = 0;
        receive(&mut &bytes[..], |frame| {
            count += 1;
            frame != Frame::StdinEnd
        })
        .unwrap();
        assert_eq!(count, 3);
        count = 0;
        receive(&mut &bytes[..], |_| {
            count += 1;
            true
        })
        .unwrap();
        assert_eq!(count, all().len());
    }
}
