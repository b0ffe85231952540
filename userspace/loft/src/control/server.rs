// SPDX-License-Identifier: Apache-2.0
//! The launcher's side of the socket.

use super::{Agents, Answer, Counts, Gate, Hub, Mailbox, Message, Request, Stat, State, Status};
use crate::sandbox::{self, Kind};
use crate::ssh::Ways;
use anyhow::{anyhow, bail, Context, Result};
use loft_agent::task;
use loft_boot::{layout, size};
use loft_devices::gpio::Pl061;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// The longest request.
const MAX_REQUEST: u64 = 64 << 10;

/// The way to a guest's memory balloon.
pub trait Balloon: Send + Sync {
    /// Asks the guest for so many bytes.
    fn want(&self, bytes: u64);
    /// How many it says that it has given.
    fn actual(&self) -> u64;
    /// Whether it has a driver that runs.
    fn is_used(&self) -> bool;
}

/// The way to what the hypervisor counts.
pub trait Counted: Send + Sync {
    /// Reads the counters so far.
    fn counts(&self) -> Counts;
}

/// What can be asked of a guest for as long as it has its vCPUs.
#[derive(Clone)]
pub struct Running {
    /// Where they can be held.
    pub gate: Arc<Gate>,
    /// The way to its agent; a guest that was not started by loft's own first process has none.
    pub agents: Option<Arc<Agents>>,
    /// Its balloon, if it has one.
    pub balloon: Option<Arc<dyn Balloon>>,
    /// Its counters.
    pub counters: Arc<dyn Counted>,
    /// The power button is at this.
    pub gpio: Arc<Pl061>,
}

/// A guest, from before its first boot to its end.
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// The command that it is for.
    pub command: Vec<String>,
    /// The ways to its SSH server.
    pub ssh: Ways,
    /// When it was started.
    pub started: Instant,
    /// Who listens to its console.
    pub hub: Hub,
    /// The way to its session.
    pub mailbox: Mailbox,
    running: Mutex<Option<Running>>,
}

impl Guest {
    /// A guest that does not run yet.
    pub fn new(name: String, vcpus: u32, memory: u64, command: Vec<String>, ssh: Ways) -> io::Result<Self> {
        let (hub, mailbox) = (Hub::default(), Mailbox::new()?);
        let started = Instant::now();
        Ok(Self { name, vcpus, memory, command, ssh, started, hub, mailbox, running: Mutex::default() })
    }

    /// Takes note of what runs now.
    pub fn set_running(&self, running: Option<Running>) {
        *self.locked() = running;
    }

    fn locked(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn running(&self) -> Result<Running> {
        self.locked().clone().ok_or_else(|| anyhow!("the guest is being restarted"))
    }

    fn agents(&self) -> Result<Arc<Agents>> {
        self.running()?.agents.ok_or_else(|| {
            anyhow!("there is no agent in this guest: it was not started from a disk or for a command by loft itself")
        })
    }

    /// Has the guest keep `bytes` of its memory.
    fn set_memory(&self, bytes: u64) -> Result<()> {
        let (least, most) = (layout::MIN_MEMORY, self.memory);
        if !(least..=most).contains(&bytes) {
            bail!("this guest can be left {} to {}", size::show(least), size::show(most));
        }
        let balloon = self.running()?.balloon.context("this guest has no balloon: run it with --balloon")?;
        if !balloon.is_used() {
            bail!("the guest has no driver for its balloon, or not yet (virtio_balloon)");
        }
        balloon.want(most - bytes);
        Ok(())
    }

    fn status(&self) -> Status {
        let running = self.running();
        let balloon = running.as_ref().ok().and_then(|running| running.balloon.as_ref());
        let balloon = balloon.map_or(0, |balloon| balloon.actual());
        let state = match running {
            Err(_) => State::Restarting,
            Ok(running) if running.gate.is_closed() => State::Paused,
            Ok(_) => State::Running,
        };
        Status {
            name: self.name.clone(),
            pid: std::process::id(),
            state,
            vcpus: self.vcpus,
            memory: self.memory,
            balloon,
            uptime: self.started.elapsed().as_secs(),
            command: self.command.clone(),
            ssh: self.ssh.clone(),
        }
    }

    fn stat(&self) -> Result<Stat> {
        let counts = self.running()?.counters.counts();
        let uptime_ms = self.started.elapsed().as_millis() as u64;
        Ok(Stat { name: self.name.clone(), pid: std::process::id(), uptime_ms, counts })
    }

    /// Does what can be answered at once.
    fn answer(&self, request: &Request) -> Result<Answer> {
        match request {
            Request::Status => return Ok(Answer { status: Some(self.status()), ..Answer::done() }),
            Request::Stat => return Ok(Answer { stat: Some(self.stat()?), ..Answer::done() }),
            Request::Stop => match self.running()? {
                Running { agents: Some(agents), .. } => agents.stop().context("the guest cannot be reached")?,
                Running { gpio, .. } => gpio.press_button(),
            },
            Request::Reboot => self.agents()?.reboot().context("the guest cannot be reached")?,
            Request::End => self.mailbox.send(Message::End),
            Request::Pause => {
                let gate = self.running()?.gate;
                if !gate.close() {
                    gate.open();
                    bail!("a vCPU cannot be stopped: it waits for whoever reads loft's output");
                }
            }
            Request::Resume => {
                let gate = self.running()?.gate;
                gate.open();
                // It may be closed again: the host still has no space.
                if gate.is_held() {
                    bail!("a debugger has stopped the guest; it goes on when that lets it");
                }
            }
            Request::Memory { bytes } => self.set_memory(*bytes)?,
            Request::Resize { columns, rows } => self.mailbox.send(Message::Resize(*columns, *rows)),
            Request::Console | Request::Exec { .. } => {}
        }
        Ok(Answer::done())
    }
}

/// Serves `guest` at `listener`, in threads, until the program ends.
pub fn serve(listener: UnixListener, guest: Arc<Guest>) -> io::Result<()> {
    std::thread::Builder::new().name("control".into()).spawn(move || {
        sandbox::enter(Kind::Control);
        for client in listener.incoming().flatten() {
            let guest = guest.clone();
            // Without a thread the connection is closed: the client says so.
            let _ = std::thread::Builder::new().name("control".into()).spawn(move || {
                // An error is the client's going away.
                let _ = converse(&client, &guest);
            });
        }
    })?;
    Ok(())
}

/// Answers requests until one takes the connection over.
fn converse(client: &UnixStream, guest: &Guest) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    loop {
        let mut line = Vec::new();
        if (&mut reader).take(MAX_REQUEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let result = serde_json::from_slice(&line).map_err(|e| anyhow!("this is no request: {e}"));
        match result {
            Ok(Request::Console) => return console(client, reader.buffer(), guest),
            Ok(Request::Exec { argv, env, terminal }) => {
                let command = task::Command {
                    argv: argv.into_iter().map(String::into_bytes).collect(),
                    env: env.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
                    terminal,
                    user: None,
                    directory: None,
                };
                let early = reader.buffer().to_vec();
                let result = guest.agents().and_then(|agents| {
                    agents
                        .run(&command, client, &early, || say(client, Ok(Answer::done())))
                        .map_err(|_| anyhow!("as many commands run in this guest as can; wait for one of them"))
                });
                return result.or_else(|error| say(client, Err(error)));
            }
            Ok(request) => say(client, guest.answer(&request))?,
            Err(error) => {
                say(client, Err(error))?;
                // What follows may be the rest of it.
                return Ok(());
            }
        }
    }
}

fn say(mut client: &UnixStream, result: Result<Answer>) -> io::Result<()> {
    let answer = result.unwrap_or_else(|error| Answer { error: Some(format!("{error:#}")), ..Answer::default() });
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    client.write_all(&line)
}

/// Gives the console to `client`, until that goes away.
fn console(client: &UnixStream, early: &[u8], guest: &Guest) -> io::Result<()> {
    say(client, Ok(Answer::done()))?;
    let (listener, recent) = guest.hub.attach();
    let (mut from, mut to) = (client, client);
    std::thread::scope(|scope| {
        let id = listener.id();
        scope.spawn(move || {
            let mut from = early.chain(&mut from);
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                guest.mailbox.send(Message::Input(buffer[..n].to_vec()));
            }
            guest.hub.detach(id);
        });
        let mut result = to.write_all(&recent);
        while result.is_ok() {
            let Ok(piece) = listener.output.recv() else { break };
            result = to.write_all(&piece);
        }
        // Ends the thread.
        let _ = client.shutdown(Shutdown::Both);
        result
    })
}
