// SPDX-License-Identifier: Apache-2.0
//! `--console-log`: the guest's console in a file, of limited size if that is wanted.
//!
//! A thread of its own writes the file, so that no thread which the guest keeps busy needs more
//! system calls for it. It opens nothing once the guest runs: at the limit what is in the file is
//! copied to the one with `.1` at its end, which is open since the start, and the file begins anew.

use crate::output::message;
use crate::sandbox::{self, Kind};
use anyhow::{bail, Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// The smallest limit, in bytes.
const LEAST: u64 = 4096;
/// Bytes that may wait for the file. Who has more waits.
const WAITING: usize = 1 << 20;

/// What `--console-log` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogArg {
    /// The file.
    pub path: PathBuf,
    /// The most bytes that it has.
    pub limit: Option<u64>,
}

impl FromStr for LogArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, limit) = match text.rsplit_once(",limit=") {
            Some((path, size)) => (path, Some(loft_boot::size::parse(size)?)),
            None => (text, None),
        };
        if path.is_empty() {
            return Err("the name of the file is missing; write FILE or FILE,limit=1M".into());
        }
        if limit.is_some_and(|limit| limit < LEAST) {
            return Err(format!("a limit is at least {}K", LEAST >> 10));
        }
        Ok(Self { path: path.into(), limit })
    }
}

/// Where the log goes.
struct Target {
    file: File,
    /// Bytes in the file.
    size: u64,
    /// The most of it, and the file that has what was before.
    limit: Option<(u64, File)>,
}

impl Target {
    /// Opens the files; what is in the log already stays.
    fn open(arg: &LogArg) -> Result<Self> {
        let open = |path: &Path| {
            // To be copied it has to be read.
            OpenOptions::new().read(arg.limit.is_some()).append(true).create(true).open(path)
        };
        let show = arg.path.display();
        let file = open(&arg.path).with_context(|| format!("--console-log: cannot open {show}"))?;
        let facts = file.metadata().with_context(|| format!("--console-log: cannot look at {show}"))?;
        if arg.limit.is_some() && !facts.is_file() {
            bail!("--console-log: {show} is no file, and has no limit");
        }
        let limit = match arg.limit {
            Some(limit) => {
                let mut before = arg.path.clone().into_os_string();
                before.push(".1");
                let show = Path::new(&before).display();
                Some((limit, open(before.as_ref()).with_context(|| format!("--console-log: cannot open {show}"))?))
            }
            None => None,
        };
        Ok(Self { size: if facts.is_file() { facts.len() } else { 0 }, file, limit })
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut here = bytes.len();
            if let Some((limit, _)) = self.limit {
                if self.size >= limit {
                    self.begin_anew()?;
                }
                here = here.min((limit - self.size) as usize);
            }
            self.file.write_all(&bytes[..here])?;
            self.size += here as u64;
            bytes = &bytes[here..];
        }
        Ok(())
    }

    /// Makes what is in the file what was before.
    fn begin_anew(&mut self) -> io::Result<()> {
        let Some((_, before)) = &mut self.limit else { return Ok(()) };
        before.set_len(0)?;
        let (mut at, mut buffer) = (0, [0; 16 << 10]);
        loop {
            match self.file.read_at(&mut buffer, at) {
                Ok(0) => break,
                Ok(n) => {
                    before.write_all(&buffer[..n])?;
                    at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.file.set_len(0)?;
        self.size = 0;
        Ok(())
    }
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Nothing more comes, or nobody writes it any more.
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Queue> {
        locked(&self.queue)
    }

    fn push(&self, bytes: &[u8]) {
        let full = |queue: &mut Queue| queue.bytes.len() >= WAITING && !queue.closed;
        let mut queue = self.changed.wait_while(self.locked(), full).unwrap_or_else(|e| e.into_inner());
        if !queue.closed {
            queue.bytes.extend(bytes);
            self.changed.notify_all();
        }
    }

    /// What has come since; nothing when nothing more comes.
    fn take(&self) -> Vec<u8> {
        let empty = |queue: &mut Queue| queue.bytes.is_empty() && !queue.closed;
        let mut queue = self.changed.wait_while(self.locked(), empty).unwrap_or_else(|e| e.into_inner());
        self.changed.notify_all();
        std::mem::take(&mut queue.bytes)
    }

    fn close(&self) {
        self.locked().closed = true;
        self.changed.notify_all();
    }
}

/// The log. When it is dropped all of it is in the file.
pub struct ConsoleLog {
    shared: Arc<Shared>,
    /// What is to be written, until the thread has it; its name.
    target: Mutex<Option<(Target, String)>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ConsoleLog {
    /// Opens the file. Nothing is written before [`ConsoleLog::start`].
    pub fn open(arg: &LogArg) -> Result<Self> {
        let target = (Target::open(arg)?, arg.path.display().to_string());
        Ok(Self { shared: Arc::default(), target: Mutex::new(Some(target)), thread: Mutex::default() })
    }

    /// Starts the thread that writes it. It is one of the launcher's own, in the sandbox.
    pub fn start(&self) -> io::Result<()> {
        let Some((mut target, name)) = locked(&self.target).take() else { return Ok(()) };
        let shared = self.shared.clone();
        let write = move || {
            sandbox::enter(Kind::Log);
            loop {
                let bytes = shared.take();
                if bytes.is_empty() {
                    return;
                }
                if let Err(error) = target.write(&bytes) {
                    message(&format!("loft: the console is not written to {name} any more: {error}\r"));
                    return shared.close();
                }
            }
        };
        *locked(&self.thread) = Some(std::thread::Builder::new().name("log".into()).spawn(write)?);
        Ok(())
    }

    /// Writes `bytes` to the file, in a while.
    pub fn push(&self, bytes: &[u8]) {
        self.shared.push(bytes);
    }
}

impl Drop for ConsoleLog {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = locked(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log in a file of its own, with what is written to it one after the other; the file, and
    /// the one before.
    fn written(name: &str, limit: &str, pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
        let path = std::env::temp_dir().join(format!("loft-log-{}-{name}", std::process::id()));
        let arg: LogArg = format!("{}{limit}", path.display()).parse().unwrap();
        for piece in pieces {
            let log = ConsoleLog::open(&arg).unwrap();
            log.start().unwrap();
            piece.chunks(1000).for_each(|part| log.push(part));
        }
        let before = PathBuf::from(format!("{}.1", path.display()));
        let found = (std::fs::read(&path).unwrap(), std::fs::read(&before).unwrap_or_default());
        std::fs::remove_file(&path).unwrap();
        let _ = std::fs::remove_file(before);
        found
    }

    #[test]
    fn arguments() {
        let of = |text: &str| text.parse::<LogArg>();
        assert_eq!(of("a,b.log"), Ok(LogArg { path: "a,b.log".into(), limit: None }));
        assert_eq!(of("/x,limit=64K"), Ok(LogArg { path: "/x".into(), limit: Some(64 << 10) }));
        for text in ["", ",limit=1M", "x,limit=", "x,limit=1", "x,limit=2K"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn without_a_limit_all_stays() {
        let long = vec![b'x'; 3 * WAITING];
        let (now, before) = written("all", "", &[b"first", &long]);
        assert!(now.len() == long.len() + 5 && now.starts_with(b"firstx") && before.is_empty());
    }

    #[test]
    fn at_the_limit_the_file_begins_anew() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let (now, before) =
            written("anew", ",limit=8K", &[&text[..5_000], &text[5_000..10_000], &text[10_000..20_000]]);
        assert_eq!((before.len(), now.len()), (8192, 20_000 - 2 * 8192));
        assert!([before, now].concat() == text[8192..20_000]);
        let (now, before) = written("exact", ",limit=4K", &[&text[..4096]]);
        assert!(now == text[..4096] && before.is_empty());
    }

    #[test]
    fn what_cannot_be_written_is_said_at_once() {
        let start = |text: &str| ConsoleLog::open(&text.parse().unwrap()).err().unwrap().to_string();
        assert!(start("/dev/null/log").contains("cannot open /dev/null/log"));
        assert!(start("/dev/null,limit=1M").contains("is no file"));
    }

    #[test]
    fn a_full_disk_stops_nobody() {
        let log = ConsoleLog::open(&"/dev/full".parse().unwrap()).unwrap();
        log.start().unwrap();
        for _ in 0..4 {
            log.push(&vec![b'x'; WAITING]);
        }
    }
}
