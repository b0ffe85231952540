// SPDX-License-Identifier: Apache-2.0
//! Signals as something to poll.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What ends a program when a user or the system asks.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Takes over the signals that end programs, that say that the terminal has a new size, and that ask for counters. To be called before any
/// thread starts, because threads inherit what is blocked.
pub fn take_over() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    ENDING.iter().for_each(|s| set.add(*s));
    set.add(Signal::SIGWINCH);
    set.add(Signal::SIGUSR1);
    set.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("cannot make a signalfd")
}

/// What has come in.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The terminal has a new size.
    Resized,
    /// Somebody wants to see the counters.
    Counters,
    /// The program is to end.
    End(i32),
}

/// The next signal, if there is one.
pub fn next(signals: &SignalFd) -> Option<Event> {
    let info = signals.read_signal().ok()??;
    let number = info.ssi_signo as i32;
    Some(match Signal::try_from(number) {
        Ok(Signal::SIGWINCH) => Event::Resized,
        Ok(Signal::SIGUSR1) => Event::Counters,
        _ => Event::End(number),
    })
}
