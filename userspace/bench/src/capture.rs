// SPDX-License-Identifier: Apache-2.0
//! Has the emulator log what it executes while a benchmark runs: `scripts/bench-anatomy` has booted a server with two sockets, one
//! QEMU's monitor (QMP), the other a line to `tests/bench/watch.sh` on the server.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use serde_json::{json, Value};

use crate::operations::OPERATIONS;

/// What the command line says.
#[derive(Args)]
pub struct Capture {
    /// The socket of QEMU's monitor
    #[arg(long)]
    monitor: PathBuf,
    /// The socket of the port to the server
    #[arg(long)]
    control: PathBuf,
    /// Where the logs go, OPERATION.log
    #[arg(long)]
    to: PathBuf,
}

/// A log that is larger than this holds many exits of any kind.
const ENOUGH: u64 = 24 << 20;
/// It is taken at several times: at one of them a CPU may do nothing but wait for a lock, because its holder's turn is over.
const TIMES: u64 = 4;
const BETWEEN: Duration = Duration::from_millis(200);
/// How long a log may take, and how long the operation runs before.
const PATIENCE: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_millis(1500);

/// A socket with lines in both directions.
struct Lines {
    from: BufReader<UnixStream>,
    to: UnixStream,
}

impl Lines {
    fn connect(path: &Path) -> Result<Self> {
        let started = Instant::now();
        let to = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(100)),
                Err(error) => return Err(error).with_context(|| format!("{} cannot be reached", path.display())),
            }
        };
        to.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self { from: BufReader::new(to.try_clone()?), to })
    }

    fn read(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.from.read_line(&mut line)? > 0, "the server went away");
        Ok(line.trim().into())
    }

    fn write(&mut self, line: &str) -> Result<()> {
        writeln!(self.to, "{line}").context("the server went away")
    }
}

/// QEMU's monitor.
struct Monitor(Lines);

impl Monitor {
    fn connect(path: &Path) -> Result<Self> {
        let mut monitor = Self(Lines::connect(path)?);
        monitor.0.read()?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.0.write(&json!({ "execute": command, "arguments": arguments }).to_string())?;
        loop {
            let mut answer: Value = serde_json::from_str(&self.0.read()?)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU's monitor says to {command}: {error}");
            }
            // Events come in between.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// A command of the monitor for people, for which there is no other.
    fn human(&mut self, command: &str) -> Result<()> {
        let said = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        let said = said.as_str().unwrap_or_default().trim();
        ensure!(said.is_empty(), "QEMU's monitor says to {command}: {said}");
        Ok(())
    }

    /// Logs every instruction of the emulated CPUs until there is enough.
    fn log(&mut self, to: &Path) -> Result<()> {
        self.human(&format!("logfile {}", to.display()))?;
        let started = Instant::now();
        for time in 1..=TIMES {
            self.execute("stop", json!({}))?;
            // One instruction a block, so that each gets a line, with its text when it is first met.
            self.human("one-insn-per-tb on")?;
            self.human("log in_asm,exec,nochain")?;
            self.execute("cont", json!({}))?;
            while std::fs::metadata(to).map_or(0, |data| data.len()) < ENOUGH / TIMES * time
                && started.elapsed() < PATIENCE
            {
                thread::sleep(Duration::from_millis(20));
            }
            self.execute("stop", json!({}))?;
            self.human("log none")?;
            self.human("one-insn-per-tb off")?;
            self.execute("cont", json!({}))?;
            thread::sleep(BETWEEN);
        }
        Ok(())
    }
}

/// Logs every operation in turn.
pub fn main(arguments: &Capture) -> Result<()> {
    let mut control = Lines::connect(&arguments.control)?;
    let mut monitor = Monitor::connect(&arguments.monitor)?;
    for operation in OPERATIONS {
        control.write(&format!("{} {}", operation.program, operation.case))?;
        // The first answer comes when the server is up.
        while control.read()? != "started" {}
        thread::sleep(WARM_UP);
        let log = arguments.to.join(format!("{}.log", operation.name));
        monitor.log(&log)?;
        control.write("next")?;
        let state = control.read()?;
        if state != "running" {
            // The analysis finds no exit then.
            eprintln!("{}: {}", operation.name, state.trim_start_matches("# "));
            std::fs::remove_file(&log)?;
        }
    }
    control.write("end")?;
    // Whoever hangs up first takes unread lines with him.
    while control.read().is_ok() {}
    Ok(())
}
