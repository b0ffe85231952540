// SPDX-License-Identifier: Apache-2.0
//! Listening in on what the guest's kernel prints, so that a crash is told from a reboot.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What Linux prints first when it dies (kernel/panic.c).
const PANIC: &[u8] = b"Kernel panic - not syncing";
/// Bytes of output that are kept.
const KEEP: usize = 64 << 10;

#[derive(Default)]
struct Shared {
    panicked: AtomicBool,
    tail: Mutex<VecDeque<u8>>,
}

/// The reading side of a [`Watch`].
#[derive(Clone, Default)]
pub struct Record(Arc<Shared>);

impl Record {
    /// Whether the kernel has said that it panicked.
    pub fn panicked(&self) -> bool {
        self.0.panicked.load(Ordering::Relaxed)
    }

    /// The last output, at most 64 KiB.
    pub fn tail(&self) -> Vec<u8> {
        let tail = self.0.tail.lock().unwrap_or_else(|e| e.into_inner());
        tail.iter().copied().collect()
    }
}

/// A writer that passes everything on, keeps the end of it, and looks for a panic.
pub struct Watch<W> {
    out: W,
    record: Record,
    /// Bytes of [`PANIC`] that the last ones written match.
    matched: usize,
}

impl<W: Write> Watch<W> {
    /// Passes on to `out`.
    pub fn new(out: W) -> (Self, Record) {
        let record = Record::default();
        (Self { out, record: record.clone(), matched: 0 }, record)
    }
}

impl<W: Write> Write for Watch<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        for byte in buf {
            // "K" is nowhere in the text but at its start, so a mismatch begins again with this byte at most.
            self.matched = if *byte == PANIC[self.matched] { self.matched + 1 } else { usize::from(*byte == PANIC[0]) };
            if self.matched == PANIC.len() {
                self.record.0.panicked.store(true, Ordering::Relaxed);
                self.matched = 0;
            }
        }
        let mut tail = self.record.0.tail.lock().unwrap_or_else(|e| e.into_inner());
        tail.extend(buf);
        let excess = tail.len().saturating_sub(KEEP);
        drop(tail.drain(..excess));
        drop(tail);
        self.out.write_all(buf)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_seen_however_it_is_cut() {
        for step in [1, 2, 7, 100] {
            let (mut watch, record) = Watch::new(Vec::new());
            let text = b"[ 1.0] KKernel panic - Kernel panic - not syncing: Attempted to kill init!";
            for part in text.chunks(step) {
                assert!(!record.panicked() || watch.out.len() > 40);
                watch.write_all(part).unwrap();
            }
            assert!(record.panicked(), "in steps of {step}");
            assert_eq!(watch.out, text);
        }
    }

    #[test]
    fn a_letter_too_many_before_it_hides_nothing() {
        let (mut watch, record) = Watch::new(Vec::new());
        watch.write_all(b"KKernel panic - not syncing").unwrap();
        assert!(record.panicked());
    }

    #[test]
    fn nothing_else_is_a_panic() {
        let (mut watch, record) = Watch::new(Vec::new());
        watch.write_all(b"Kernel panic - not yet; kernel panic - not syncing").unwrap();
        assert!(!record.panicked());
    }

    #[test]
    fn the_end_is_kept() {
        let (mut watch, record) = Watch::new(io::sink());
        for i in 0..KEEP as u32 {
            watch.write_all(&i.to_le_bytes()).unwrap();
        }
        let tail = record.tail();
        assert_eq!(tail.len(), KEEP);
        assert_eq!(tail[KEEP - 4..], (KEEP as u32 - 1).to_le_bytes());
    }
}
