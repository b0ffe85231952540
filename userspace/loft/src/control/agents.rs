// SPDX-License-Identifier: Apache-2.0
//! The launcher's ends of the ports at which a guest takes commands.

use loft_agent::protocol::{receive, Decoder, Frame};
use loft_agent::task;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard};

/// A guest's service ports.
pub struct Agents {
    /// The first, for what concerns the guest or another port.
    first: Mutex<UnixStream>,
    /// Those that run no command.
    free: Mutex<Vec<Port>>,
}

/// A port for commands.
struct Port {
    index: u8,
    stream: UnixStream,
    /// How many commands there have been.
    run: u32,
}

impl Agents {
    /// Takes the launcher's ends, in the order of [`task::SERVICE_PORTS`].
    pub fn new(first: UnixStream, others: Vec<UnixStream>) -> Self {
        let ports = (1..).zip(others).map(|(index, stream)| Port { index, stream, run: 0 });
        Self { first: first.into(), free: Mutex::new(ports.collect()) }
    }

    /// Asks the guest to switch itself off.
    pub fn stop(&self) -> io::Result<()> {
        self.say(&Frame::PowerOff)
    }

    /// Asks the guest to restart.
    pub fn reboot(&self) -> io::Result<()> {
        self.say(&Frame::Reboot)
    }

    fn say(&self, frame: &Frame) -> io::Result<()> {
        frame.send(&mut *locked(&self.first))
    }

    /// Runs `command` for `client`, to whom `begun` has been told first. `early` has arrived from there already.
    pub fn run(
        &self,
        command: &task::Command,
        client: &UnixStream,
        early: &[u8],
        begun: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), Busy> {
        let mut port = locked(&self.free).pop().ok_or(Busy)?;
        // What fails fails because one side has gone away: the client sees it, or does not care. Where it is the guest there is
        // nothing more that the port can be used for.
        if port.run(self, command, client, early, begun).is_ok() {
            locked(&self.free).push(port);
        }
        Ok(())
    }
}

/// As many commands run as can.
#[derive(Debug)]
pub struct Busy;

impl Port {
    /// Runs `command` for `client` to its end; an error if that cannot be known.
    fn run(
        &mut self,
        agents: &Agents,
        command: &task::Command,
        client: &UnixStream,
        early: &[u8],
        begun: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let json = serde_json::to_vec(command)?;
        let (mut input, mut to_guest) = (client.try_clone()?, self.stream.try_clone()?);
        self.run = self.run.wrapping_add(1);
        let kill = Frame::Kill(self.index, self.run);
        Frame::Run(json).send(&mut self.stream)?;
        let told = begun();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if told.is_ok() {
                    let mut from = early.chain(&mut input);
                    let _ = receive(&mut from, |frame| {
                        let for_a_command = matches!(
                            frame,
                            Frame::Stdin(_)
                                | Frame::StdinEnd
                                | Frame::Resize(..)
                                | Frame::StdoutGone
                                | Frame::StderrGone
                        );
                        !for_a_command || frame.send(&mut to_guest).is_ok()
                    });
                }
                // Over another port: this one may be full of what the command does not read.
                let _ = agents.say(&kill);
                let _ = Frame::StdoutGone.send(&mut to_guest);
                let _ = Frame::StderrGone.send(&mut to_guest);
            });
            let result = pass(&self.stream, client);
            // This ends the thread, even where the client stays.
            let _ = client.shutdown(Shutdown::Read);
            result
        })
    }
}

/// Passes frames on until the command has ended, also when the client has gone away.
fn pass(mut from: &UnixStream, mut to: &UnixStream) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 16 << 10];
    let mut open = true;
    loop {
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            open = open && to.write_all(&frame.encode()).is_ok();
            if matches!(frame, Frame::Exit(_)) {
                return Ok(());
            }
        }
        match from.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => decoder.push(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
