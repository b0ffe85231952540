// SPDX-License-Identifier: Apache-2.0
//! The conversation between the user and a running guest: keys in, output out, until something ends it.
//!
//! Everything is one poll loop. Input is read only when the last of it has been taken, so a guest that does not read
//! holds up whoever writes to the launcher, as a pipe would.

use crate::console_log::ConsoleLog;
use crate::control::{Hub, Mailbox, Message};
use crate::ending::Ending;
use crate::output::{self, Refused};
use crate::signals;
use anyhow::{Context, Result};
use loft_agent::protocol::{Decoder, Frame};
use loft_devices::serial::Uart;
use loft_devices::terminal::{Asked, EscapeFilter};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signalfd::SignalFd;
use rustix::stdio;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::EventFd;

/// How long a guest that runs may take to switch itself off after its command has ended.
const OFF_LIMIT: Duration = Duration::from_secs(20);
/// Bytes that may wait for the serial port.
const UART_BACKLOG: usize = 4096;
/// Bytes from outside that may wait for a guest that does not read. What is more is lost, as on a terminal.
const OUTSIDE_BACKLOG: usize = 64 << 10;
/// How often a full serial port is looked at, in milliseconds.
const UART_PAUSE_MS: u16 = 10;

/// The virtio console.
pub struct Hvc {
    /// What is written here the guest reads. Non-blocking.
    pub input: OwnedFd,
    /// What the guest prints. Non-blocking.
    pub output: OwnedFd,
    /// Tells the guest the size of the terminal.
    pub resize: Box<dyn Fn(u16, u16)>,
}

/// The other ends of a session.
pub struct Wiring<'a> {
    /// The serial port's input.
    pub uart: &'a Uart,
    /// The virtio console.
    pub hvc: Option<Hvc>,
    /// The agent in the guest. Non-blocking.
    pub agent: Option<UnixStream>,
    /// Set when the virtio console has taken over from the serial port.
    pub hide_uart: Arc<AtomicBool>,
    /// Whether standard output has refused what the serial port writes.
    pub refused: &'a Refused,
    /// Readable once the machine has ended.
    pub ended: &'a EventFd,
    /// Signals.
    pub signals: &'a SignalFd,
    /// Whether the user types on a terminal, so that the escape key counts.
    pub keys: bool,
    /// The launcher's own input and outputs.
    pub stdin: BorrowedFd<'a>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    /// The hypervisor's counters so far, as a line for the user.
    pub counters: &'a dyn Fn() -> String,
    /// Whether the guest's vCPUs are held, so that nothing can be expected of it.
    pub paused: &'a dyn Fn() -> bool,
    /// Everybody else who hears the console.
    pub hub: &'a Hub,
    /// What is asked from outside.
    pub mailbox: &'a Mailbox,
    /// The file that has the console as well.
    pub log: Option<&'a ConsoleLog>,
    /// What the session is about is another launcher's guest, at the other end of `hvc` or `agent`: it ends with the connection.
    pub attached: bool,
}

impl Wiring<'_> {
    /// What Ctrl-a h shows, on a terminal in raw mode.
    fn keys_help(&self) -> &'static [u8] {
        match (self.attached, self.agent.is_some()) {
            (false, _) => {
                b"\r\nloft: Ctrl-a x ends the guest at once, Ctrl-a Ctrl-a sends one Ctrl-a, Ctrl-a h shows this\r\n"
            }
            (true, true) => {
                b"\r\nloft: Ctrl-a x ends the command at once, Ctrl-a Ctrl-a sends one Ctrl-a, Ctrl-a h shows this\r\n"
            }
            (true, false) => {
                b"\r\nloft: Ctrl-a x leaves the console, Ctrl-a Ctrl-a sends one Ctrl-a, Ctrl-a h shows this\r\n"
            }
        }
    }
}

/// A session.
pub struct Session<'a> {
    wiring: Wiring<'a>,
    /// Whether there is a command, and so an agent in the guest to talk to, or there was.
    to_agent: bool,
    escape: EscapeFilter,
    decoder: Decoder,
    /// Bytes on their way to the virtio console or the agent.
    pending: Vec<u8>,
    hvc_spoke: bool,
    stdin_open: bool,
    stdout_open: bool,
    stderr_open: bool,
    /// How the run ends because of an output that takes no more. With a command, that it is incomplete.
    pub lost: Option<Ending>,
    /// The command's exit code.
    pub status: Option<u8>,
    /// Why the guest could not be made ready for the command.
    pub failure: Option<String>,
    /// When the command was started, and how long the guest's first process took until then.
    pub hello: Option<(Instant, Duration)>,
    deadline: Option<Instant>,
}

/// The command's outputs, and the launcher's own.
#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Ended,
    Stdin,
    Stdout,
    Stderr,
    Refused,
    Mailbox,
    HvcOutput,
    HvcInput,
    Agent,
}

impl<'a> Session<'a> {
    /// A session over `wiring`.
    pub fn new(wiring: Wiring<'a>) -> Self {
        Self {
            to_agent: wiring.agent.is_some(),
            escape: EscapeFilter::default(),
            decoder: Decoder::default(),
            pending: Vec::new(),
            hvc_spoke: wiring.attached,
            wiring,
            stdin_open: true,
            stdout_open: true,
            stderr_open: true,
            lost: None,
            status: None,
            failure: None,
            hello: None,
            deadline: None,
        }
    }

    /// Runs until something ends it. `None` if the machine has ended: it knows why.
    pub fn run(&mut self) -> Result<Option<Ending>> {
        loop {
            let ready = self.wait()?;
            for source in ready {
                match source {
                    Source::Signals => {
                        while let Some(event) = signals::next(self.wiring.signals) {
                            match event {
                                signals::Event::Resized => self.resized(),
                                signals::Event::Counters => {
                                    let line = (self.wiring.counters)() + "\n";
                                    drop(output::write_all(self.wiring.stderr, line.as_bytes()));
                                }
                                signals::Event::End(number) => return Ok(Some(Ending::Signal(number))),
                            }
                        }
                    }
                    Source::Ended => return Ok(None),
                    Source::Stdin => {
                        if self.read_stdin() {
                            return Ok(Some(Ending::User));
                        }
                    }
                    Source::Stdout => self.lose(Stream::Stdout, &io::ErrorKind::BrokenPipe.into()),
                    Source::Stderr => self.lose(Stream::Stderr, &io::ErrorKind::BrokenPipe.into()),
                    Source::Refused => {
                        let refused = self.wiring.refused;
                        let _ = refused.event.read();
                        if let Some(error) = refused.why() {
                            self.lose(Stream::Stdout, error);
                        }
                    }
                    Source::Mailbox => {
                        for message in self.wiring.mailbox.take() {
                            match message {
                                Message::Input(bytes) => self.typed_outside(bytes),
                                Message::Resize(columns, rows) => self.resize(columns, rows),
                                Message::End => return Ok(Some(Ending::User)),
                            }
                        }
                    }
                    Source::HvcOutput => self.read_hvc(),
                    Source::HvcInput => self.flush(),
                    Source::Agent => {
                        self.flush();
                        self.read_agent()?;
                    }
                }
            }
            if self.wiring.attached && self.wiring.agent.is_none() && self.wiring.hvc.is_none() {
                return Ok(None);
            }
            // Nothing but its output tells what a guest without a command does.
            if !self.to_agent && self.lost.is_some() {
                return Ok(self.lost.clone());
            }
            // What a paused guest has not written yet it writes when it goes on.
            if self.deadline.is_some() && (self.wiring.paused)() {
                self.deadline = Some(Instant::now() + OFF_LIMIT);
            }
            // A guest that cannot switch itself off has still done what it was for.
            if self.deadline.is_some_and(|d| Instant::now() > d) {
                return Ok(Some(Ending::PowerOff));
            }
        }
    }

    /// Takes what is still on its way out, once the machine has stopped.
    pub fn drain(&mut self) {
        self.read_hvc();
        let _ = self.read_agent();
    }

    fn wait(&self) -> Result<Vec<Source>> {
        let w = &self.wiring;
        let mut watched: Vec<(Source, BorrowedFd, PollFlags)> = vec![
            (Source::Signals, w.signals.as_fd(), PollFlags::POLLIN),
            (Source::Ended, borrow(w.ended), PollFlags::POLLIN),
            (Source::Refused, borrow(&w.refused.event), PollFlags::POLLIN),
            (Source::Mailbox, borrow(&w.mailbox.event), PollFlags::POLLIN),
        ];
        // That nobody reads them any more is said without being asked for.
        if self.stdout_open {
            watched.push((Source::Stdout, w.stdout, PollFlags::empty()));
        }
        if self.stderr_open && self.to_agent {
            watched.push((Source::Stderr, w.stderr, PollFlags::empty()));
        }
        let throttled = !self.to_agent && !self.hvc_spoke && w.uart.backlog() > UART_BACKLOG;
        if self.stdin_open && self.pending.is_empty() && !throttled {
            watched.push((Source::Stdin, w.stdin, PollFlags::POLLIN));
        }
        if let Some(hvc) = &w.hvc {
            watched.push((Source::HvcOutput, hvc.output.as_fd(), PollFlags::POLLIN));
            if !self.to_agent && !self.pending.is_empty() {
                watched.push((Source::HvcInput, hvc.input.as_fd(), PollFlags::POLLOUT));
            }
        }
        if let Some(agent) = &w.agent {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !self.pending.is_empty());
            watched.push((Source::Agent, agent.as_fd(), flags));
        }
        let mut fds: Vec<PollFd> = watched.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        let timeout = match (throttled, self.deadline) {
            (true, _) => PollTimeout::from(UART_PAUSE_MS),
            (false, Some(_)) => PollTimeout::from(200u16),
            (false, None) => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("poll failed"),
        }
        let ready = |fd: &PollFd| fd.revents().is_some_and(|r| !r.is_empty());
        Ok(watched.iter().zip(&fds).filter(|(_, fd)| ready(fd)).map(|((source, ..), _)| *source).collect())
    }

    /// True when the user asked to end.
    fn read_stdin(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let bytes = match nix::unistd::read(self.wiring.stdin, &mut buffer) {
            Ok(0) => {
                self.stdin_open = false;
                if self.to_agent {
                    self.pending.extend(Frame::StdinEnd.encode());
                    self.flush();
                }
                return false;
            }
            Ok(n) => &buffer[..n],
            Err(Errno::EINTR | Errno::EAGAIN) => return false,
            Err(_) => {
                self.stdin_open = false;
                return false;
            }
        };
        let mut input = Vec::with_capacity(bytes.len() + 1);
        if self.wiring.keys {
            match self.escape.filter(bytes, &mut input) {
                Asked::Nothing => {}
                Asked::Help => drop(output::write_all(self.wiring.stderr, self.wiring.keys_help())),
                Asked::End => return true,
            }
        } else {
            input.extend_from_slice(bytes);
        }
        self.give(input);
        false
    }

    /// What somebody types who is attached to the console.
    fn typed_outside(&mut self, bytes: Vec<u8>) {
        // A command's input has come to its end.
        if self.to_agent && !self.stdin_open {
            return;
        }
        if self.pending.len() + self.wiring.uart.backlog() < OUTSIDE_BACKLOG {
            self.give(bytes);
        }
    }

    /// Gives `input` to whoever reads it in the guest.
    fn give(&mut self, input: Vec<u8>) {
        if input.is_empty() {
        } else if self.to_agent {
            self.pending.extend(Frame::Stdin(input).encode());
            self.flush();
        } else if self.hvc_spoke {
            self.pending.extend(input);
            self.flush();
        } else {
            self.wiring.uart.push(&input);
        }
    }

    /// Hands over as much of what is pending as is taken.
    fn flush(&mut self) {
        let fd = match (&self.wiring.agent, &self.wiring.hvc) {
            (Some(agent), _) => agent.as_fd(),
            (None, Some(hvc)) => hvc.input.as_fd(),
            (None, None) => return,
        };
        while !self.pending.is_empty() {
            match nix::unistd::write(fd, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // The device is gone, so nobody will take it.
                Err(_) => self.pending.clear(),
            }
        }
    }

    fn read_hvc(&mut self) {
        let mut buffer = [0; 16 << 10];
        while let Some(hvc) = &self.wiring.hvc {
            match nix::unistd::read(&hvc.output, &mut buffer) {
                Ok(0) => self.wiring.hvc = None,
                Ok(n) => {
                    if !self.to_agent {
                        self.hvc_spoke = true;
                        self.wiring.hide_uart.store(true, Ordering::Relaxed);
                        if let Some(log) = self.wiring.log {
                            log.push(&buffer[..n]);
                        }
                        self.print(Stream::Stdout, &buffer[..n]);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => self.wiring.hvc = None,
            }
        }
    }

    fn read_agent(&mut self) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            let Some(agent) = &self.wiring.agent else { return Ok(()) };
            match nix::unistd::read(agent, &mut buffer) {
                Ok(0) => self.wiring.agent = None,
                Ok(n) => {
                    self.decoder.push(&buffer[..n]);
                    while let Some(frame) =
                        self.decoder.next_frame().context("what came from the guest's agent is not understood")?
                    {
                        self.handle(frame);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(_) => self.wiring.agent = None,
            }
        }
    }

    fn handle(&mut self, frame: Frame) {
        match frame {
            Frame::Hello(micros) => self.hello = Some((Instant::now(), Duration::from_micros(micros))),
            Frame::Stdout(bytes) => self.print(Stream::Stdout, &bytes),
            Frame::Stderr(bytes) => self.print(Stream::Stderr, &bytes),
            Frame::Error(text) => drop(output::write_all(self.wiring.stderr, format!("loft: {text}\r\n").as_bytes())),
            Frame::Exit(code) => {
                self.status = Some(code);
                self.say_goodbye();
            }
            Frame::Failed(text) => {
                self.failure = Some(text);
                self.say_goodbye();
            }
            _ => {}
        }
    }

    fn print(&mut self, stream: Stream, bytes: &[u8]) {
        self.wiring.hub.push(bytes);
        let (fd, open) = match stream {
            Stream::Stdout => (self.wiring.stdout, self.stdout_open),
            Stream::Stderr => (self.wiring.stderr, self.stderr_open),
        };
        if open {
            if let Err(error) = output::write_all(fd, bytes) {
                self.lose(stream, &error);
            }
        }
    }

    /// Takes note that `stream` takes no more. The command's own output is closed for it: it ends, or goes on, as it does at
    /// the end of a pipe on one machine.
    fn lose(&mut self, stream: Stream, error: &io::Error) {
        let (open, name, frame) = match stream {
            Stream::Stdout => (&mut self.stdout_open, "output", Frame::StdoutGone),
            Stream::Stderr => (&mut self.stderr_open, "error", Frame::StderrGone),
        };
        if !std::mem::take(open) {
            return;
        }
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        if !closed {
            self.lost = Some(Ending::OutputLost(format!("standard {name} cannot be written: {error}")));
        } else if !self.to_agent {
            self.lost = Some(Ending::Signal(libc::SIGPIPE));
        }
        if self.to_agent {
            self.pending.extend(frame.encode());
            self.flush();
        }
    }

    fn say_goodbye(&mut self) {
        self.stdin_open = false;
        self.deadline = Some(Instant::now() + OFF_LIMIT);
        self.pending.extend(Frame::Goodbye.encode());
        self.flush();
    }

    fn resized(&mut self) {
        if let Some((columns, rows)) = window() {
            self.resize(columns, rows);
        }
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        if self.to_agent {
            self.pending.extend(Frame::Resize(columns, rows).encode());
            self.flush();
        }
        if let Some(hvc) = &self.wiring.hvc {
            (hvc.resize)(columns, rows);
        }
    }
}

/// Columns and rows of the user's terminal.
pub fn window() -> Option<(u16, u16)> {
    let size =
        rustix::termios::tcgetwinsize(stdio::stdout()).or_else(|_| rustix::termios::tcgetwinsize(stdio::stdin()));
    size.ok().filter(|s| s.ws_col > 0 && s.ws_row > 0).map(|s| (s.ws_col, s.ws_row))
}

fn borrow(fd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor stays open as long as the EventFd that the result borrows.
    unsafe { BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(fd)) }
}

#[cfg(test)]
mod tests;
