// SPDX-License-Identifier: Apache-2.0
//! Programs that serve a guest's devices: passt, virtiofsd.

use crate::sandbox::{self, Kind};
use anyhow::{anyhow, Context, Result};
use landlock::RulesetCreated;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::SigSet;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one may take to end when its connection has.
const END_LIMIT: Duration = Duration::from_secs(1);
/// The longest of a program's complaints.
const MOST_WORDS: usize = 4096;

/// A program at work, until it is dropped.
pub struct Program {
    child: Child,
    name: &'static str,
    words: Option<ChildStderr>,
}

impl Program {
    /// Starts `command`, which is called `name`, with `open` left open in it and within `bounds`.
    ///
    /// # Errors
    /// If it cannot be started; `missing` tells what to do where it is not installed.
    pub fn start(
        name: &'static str,
        mut command: Command,
        open: OwnedFd,
        mut bounds: Option<RulesetCreated>,
        missing: &str,
    ) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        // What loft takes as a signalfd is blocked here.
        // SAFETY: between fork and exec the closure makes system calls that are async-signal-safe,
        // and allocates nothing but where one fails.
        unsafe {
            command.pre_exec(move || {
                SigSet::empty().thread_set_mask()?;
                rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty())?;
                // What an older kernel cannot keep it from was given up when they were made.
                bounds.take().map_or(Ok(()), |bounds| bounds.restrict_self().map(drop).map_err(io::Error::other))
            })
        };
        let mut child = command.spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => anyhow!("{missing}"),
            _ => anyhow!("{name} cannot be started: {e}"),
        })?;
        let words = child.stderr.take();
        // With the command goes this process's copy of what is left open.
        Ok(Self { child, name, words })
    }

    /// Why it has ended, in its own words.
    pub fn complaint(&mut self) -> anyhow::Error {
        match self.words.take().map(last_words).unwrap_or_default().as_str() {
            "" => anyhow!("{} has ended at once", self.name),
            words => anyhow!("{} has ended: {words}", self.name),
        }
    }

    /// Warns from now on of what it complains of; calls `ended` when it has ended.
    pub fn listen(&mut self, ended: impl FnOnce() + Send + 'static) -> Result<()> {
        let (name, words) = (self.name, self.words.take().context("nobody hears the program")?);
        let body = move || {
            pass_on(name, words);
            ended();
        };
        std::thread::Builder::new().name(name.into()).spawn(body).context("cannot start a thread")?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        match self.child.kill() {
            // It is another user's than a jail's. It ends with its connection, and is waited for by
            // whoever inherits it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            // It may have ended with its connection.
            _ => drop(self.child.wait()),
        }
    }
}

/// Reads what a program that ends has said.
fn last_words(mut from: impl Read + AsFd) -> String {
    let deadline = Instant::now() + END_LIMIT;
    let (mut words, mut buffer) = (Vec::new(), [0; 1024]);
    while words.len() < MOST_WORDS {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(1..) => {}
            _ => break,
        }
        match from.read(&mut buffer) {
            Ok(n @ 1..) => words.extend(&buffer[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&words).trim().to_owned()
}

/// Warns of what the program complains of while it works.
fn pass_on(name: &str, mut from: impl Read) {
    sandbox::enter(Kind::Device);
    let mut buffer = [0; MOST_WORDS];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let words = String::from_utf8_lossy(&buffer[..n]);
        log::warn!("{name}: {}", words.trim().replace('\n', "\r\n"));
    }
}
