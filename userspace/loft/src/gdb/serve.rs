// SPDX-License-Identifier: Apache-2.0
//! The debugger's thread: one connection at a time, from the guest's start to its end.

use super::target::Guest;
use super::Listener;
use crate::control::{self, Held, Message};
use crate::output::{self, message};
use crate::sandbox::{self, Kind};
use crate::vm::Machine;
use anyhow::{Context, Result};
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, MultiThreadStopReason};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

/// A machine's debugger, until it is dropped. To be dropped when the machine has stopped.
pub struct Debugger {
    end: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Debugger {
    /// Serves `machine`, which has not been started yet, at `listener`; with `wait` none of its
    /// vCPUs runs before a debugger lets it.
    pub fn start(machine: &Machine, listener: &Arc<Listener>, wait: bool, guest: &Arc<control::Guest>) -> Result<Self> {
        let target = machine.debugged()?;
        if wait {
            machine.gate.set_held(Held::All);
        }
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).context("cannot make an eventfd");
        let end = event()?;
        let mut server = Server {
            end: end.try_clone().context("cannot duplicate an eventfd")?,
            listener: listener.clone(),
            target,
            guest: guest.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("gdb".into())
            .spawn(move || {
                sandbox::enter(Kind::Gdb);
                server.run();
            })
            .context("cannot start a thread")?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        let _ = self.end.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection. What is written is sent when it is complete.
struct Link {
    fd: OwnedFd,
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Link {
    /// Reads what there is. Fails at the end of the connection.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match nix::unistd::read(&self.fd, &mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.input.extend(&buffer[..n]);
                Ok(())
            }
            Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl Connection for Link {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.output.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        output::write_all(self.fd.as_fd(), &std::mem::take(&mut self.output))
    }
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The machine has ended.
    End,
    /// The debugger, or one that wants to connect.
    Debugger,
    /// A vCPU has left the guest for the debugger.
    Hit,
}

struct Server {
    end: EventFd,
    listener: Arc<Listener>,
    target: Guest,
    guest: Arc<control::Guest>,
}

impl Server {
    fn run(&mut self) {
        loop {
            let event = self.wait(self.listener.as_fd(), false);
            if matches!(event, Ok(Event::End) | Err(_)) {
                return;
            }
            let Ok(fd) = self.listener.accept() else { continue };
            match self.debug(fd) {
                Ok(Some(DisconnectReason::Kill)) => self.guest.mailbox.send(Message::End),
                Ok(_) => {}
                // Who just goes away has seen enough.
                Err(error) => message(&format!("loft: the debugger is let go: {error:#}\r")),
            }
            if let Err(error) = self.target.leave() {
                message(&format!("loft: a debugger could not be undone: {error:#}\r"));
            }
        }
    }

    /// Serves one debugger; why it went, `None` where it did not say.
    fn debug(&mut self, fd: OwnedFd) -> Result<Option<DisconnectReason>> {
        self.target.interrupt()?;
        let link = Link { fd, input: VecDeque::new(), output: Vec::new() };
        let stub = GdbStub::new(link);
        let mut state = stub.run_state_machine(&mut self.target).map_err(told)?;
        loop {
            state = match state {
                GdbStubStateMachine::Idle(mut stub) => match stub.borrow_conn().input.pop_front() {
                    Some(byte) => stub.incoming_data(&mut self.target, byte).map_err(told)?,
                    None => {
                        let event = self.wait(stub.borrow_conn().fd.as_fd(), false)?;
                        if event == Event::End || stub.borrow_conn().fill().is_err() {
                            return Ok(None);
                        }
                        stub.into()
                    }
                },
                GdbStubStateMachine::Running(mut stub) => match stub.borrow_conn().input.pop_front() {
                    Some(byte) => stub.incoming_data(&mut self.target, byte).map_err(told)?,
                    None => match self.wait(stub.borrow_conn().fd.as_fd(), true)? {
                        Event::End => {
                            let ended = MultiThreadStopReason::Exited(0);
                            stub.report_stop(&mut self.target, ended).map_err(told)?
                        }
                        Event::Hit => match self.target.look()? {
                            Some(reason) => stub.report_stop(&mut self.target, reason).map_err(told)?,
                            None => stub.into(),
                        },
                        Event::Debugger if stub.borrow_conn().fill().is_err() => return Ok(None),
                        Event::Debugger => stub.into(),
                    },
                },
                GdbStubStateMachine::CtrlCInterrupt(stub) => {
                    let reason = self.target.interrupt()?;
                    stub.interrupt_handled(&mut self.target, Some(reason)).map_err(told)?
                }
                GdbStubStateMachine::Disconnected(stub) => return Ok(Some(stub.get_reason())),
            };
        }
    }

    /// Waits for what matters: with `running` also for the vCPUs.
    fn wait(&self, debugger: BorrowedFd, running: bool) -> Result<Event> {
        let mut events = vec![(Event::End, borrow(&self.end)), (Event::Debugger, debugger)];
        if running {
            events.push((Event::Hit, borrow(&self.target.hits.event)));
        }
        loop {
            let mut fds: Vec<PollFd> = events.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e).context("poll failed"),
            }
            let ready = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
            if let Some(((event, _), _)) = events.iter().zip(&fds).find(|(_, fd)| ready(fd)) {
                return Ok(*event);
            }
        }
    }
}

fn told(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

fn borrow(fd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor stays open as long as the EventFd that the result borrows.
    unsafe { BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(fd)) }
}
