// SPDX-License-Identifier: Apache-2.0
//! Launching a planned guest and seeing it through to its end.

use crate::cli::{ConsoleKind, RunArgs};
use crate::ending::Ending;
use crate::output::{message, Output, Refused, Target};
use crate::run::{plan, report, Plan};
use crate::session::{self, Hvc, Session, Wiring};
use crate::{signals, vm, warnings};
use anyhow::{Context, Result};
use loft_agent::task::PORT;
use loft_devices::terminal::{self, Raw};
use loft_devices::watch::{Record, Watch};
use loft_virtio::{
    Block, BlockOptions, Console, ConsoleHandle, ConsoleOptions, Device, Net, NetOptions, PortIo, Ports, Rng, Vsock,
};
use rustix::stdio;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Instant;

/// Lines of the guest's log that are shown when a command's guest dies.
const LOG_LINES: usize = 40;

/// Runs the guest; returns loft's exit code.
pub fn main(args: &RunArgs) -> Result<u8> {
    let signals = signals::take_over()?;
    warnings::show();
    let kvm = vm::open(&args.device)?;
    let Plan { kernel, initrd, cmdline, console, terminal } = plan(args)?;
    let command = !args.command.is_empty();

    let hidden = Arc::new(AtomicBool::new(false));
    let target = match (command, args.verbose) {
        (false, _) => Target::Stdout,
        (true, true) => Target::Stderr,
        (true, false) => Target::Nowhere,
    };
    let refused = Arc::new(Refused::new().context("cannot make an eventfd")?);
    let (serial, record) = Watch::new(Output::new(target, hidden.clone(), refused.clone()));

    // The disks and cards, and those that a guest has in any case.
    vm::allow_files(args.cpus, args.disks.len() + args.nets.len() + 3)?;
    let mut devices = devices(args)?;
    let (mut to_hvc, mut to_agent) = (None, None);
    if command {
        let (ours, device) = agent()?;
        to_agent = Some(ours);
        devices.push(Box::new(device));
    } else if console == ConsoleKind::Hvc0 {
        let (ours, device) = hvc()?;
        to_hvc = Some(ours);
        devices.push(Box::new(device));
    }
    let mut machine = vm::Machine::new(
        &kvm,
        vm::Setup {
            kernel,
            initrd,
            cmdline,
            memory: args.memory,
            vcpus: args.cpus,
            devices,
            serial_output: Box::new(serial),
        },
    )?;

    exit_on_panic();
    if !command && console == ConsoleKind::Hvc0 && !args.verbose && stdio::stderr().is_terminal() {
        message("loft: the guest boots; -v shows its kernel's messages, Ctrl-a x ends it, Ctrl-a h helps");
    }
    let keys = if !command || terminal { Raw::enter().context("cannot use the terminal")? } else { None };
    let started = Instant::now();
    machine.start()?;
    let (uart, ended) = (machine.uart.clone(), machine.ended.try_clone().context("cannot duplicate an eventfd")?);
    let counters = machine.counters.clone();
    let show_counters = || serde_json::json!({ "exits": counters.read() }).to_string();
    let mut session = Session::new(Wiring {
        uart: &uart,
        hvc: to_hvc,
        agent: to_agent,
        hide_uart: hidden,
        refused: &refused,
        ended: &ended,
        signals: &signals,
        keys: keys.is_some(),
        stdin: stdio::stdin(),
        stdout: stdio::stdout(),
        stderr: stdio::stderr(),
        counters: &show_counters,
    });
    let result = session.run();
    let runtime = started.elapsed();
    let exits = machine.stop();
    session.drain();
    drop(keys);

    let ending = match (session.lost.take(), session.failure.take(), result?) {
        (Some(ending), ..) => ending,
        (None, Some(reason), _) => Ending::Failed(reason),
        (None, None, Some(ending)) => ending,
        (None, None, None) => told_apart(machine.ending(), &record),
    };
    let status = session.status;
    let code = if command { ending.exit_code_with(status) } else { ending.exit_code() };
    if status.is_none() || matches!(ending, Ending::OutputLost(_)) {
        explain(&ending, command, args.verbose, &record);
    }
    if args.json {
        let facts = serde_json::json!({
            "runtime_ms": runtime.as_millis() as u64,
            "boot_ms": session.hello.map(|at| at.duration_since(started).as_millis() as u64),
            "exits": exits,
        });
        message(&report(&ending, code, status, facts));
    }
    Ok(code)
}

/// A reset after a panic is a crash: Linux has no other way to say it.
fn told_apart(ending: Option<Ending>, record: &Record) -> Ending {
    match ending {
        Some(Ending::Reboot) if record.panicked() => Ending::Crash("the guest's kernel panicked".into()),
        Some(ending) => ending,
        None => Ending::Failed("the machine ended without a reason".into()),
    }
}

fn explain(ending: &Ending, command: bool, verbose: bool, record: &Record) {
    let text = match ending {
        Ending::PowerOff if command => "the guest switched itself off before the command had ended".to_owned(),
        Ending::Reboot => "the guest rebooted".to_owned(),
        Ending::Crash(text) | Ending::Failed(text) => text.clone(),
        Ending::OutputLost(text) => return message(&format!("loft: {text}")),
        Ending::PowerOff | Ending::User | Ending::Signal(_) => return,
    };
    if command && !verbose {
        let tail = record.tail();
        let log = String::from_utf8_lossy(&tail);
        let lines: Vec<&str> = log.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
            message(line.trim_end());
        }
    }
    message(&format!("\nloft: {text}"));
}

fn devices(args: &RunArgs) -> Result<Vec<Box<dyn Device>>> {
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    for (n, disk) in args.disks.iter().enumerate() {
        let options = BlockOptions { read_only: disk.read_only, serial: Some(format!("loft-{n}")) };
        devices.push(Box::new(Block::open(&disk.path, &options)?));
    }
    for net in &args.nets {
        devices.push(Box::new(Net::open(&net.tap, &NetOptions { mac: net.mac, vhost: true })?));
    }
    devices.push(Box::new(Rng::new()));
    if let Some(cid) = args.vsock {
        devices.push(Box::new(Vsock::open(cid)?));
    }
    Ok(devices)
}

/// The launcher's end of the virtio console, and the device.
fn hvc() -> Result<(Hvc, Console)> {
    let (device_in, ours_in) = rustix::pipe::pipe().context("cannot make a pipe")?;
    let (ours_out, device_out) = rustix::pipe::pipe().context("cannot make a pipe")?;
    for fd in [&ours_in, &ours_out] {
        rustix::io::ioctl_fionbio(fd, true).context("cannot make a pipe non-blocking")?;
    }
    let (console, handle) = Console::new(ConsoleOptions {
        io: PortIo { input: Some(device_in), output: Some(device_out) },
        size: session::window(),
    })
    .context("cannot make the virtio console")?;
    Ok((Hvc { input: ours_in, output: ours_out, resize: resizer(handle) }, console))
}

/// The launcher's end of the port to the agent in the guest, and the device.
fn agent() -> Result<(UnixStream, Ports)> {
    let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
    ours.set_nonblocking(true).context("cannot make a socket non-blocking")?;
    let output = OwnedFd::from(theirs.try_clone().context("cannot duplicate a socket")?);
    let io = PortIo { input: Some(theirs.into()), output: Some(output) };
    let ports = Ports::new(vec![(PORT.to_owned(), io)]).context("cannot make the virtio port")?;
    Ok((ours, ports))
}

fn resizer(handle: ConsoleHandle) -> Box<dyn Fn(u16, u16)> {
    Box::new(move |columns, rows| handle.resize(columns, rows))
}

/// A panic in any thread leaves a usable terminal and ends the program: half a machine is no machine.
fn exit_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        terminal::restore();
        default(info);
        std::process::exit(crate::ending::FAILED.into());
    }));
}
