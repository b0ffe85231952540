// SPDX-License-Identifier: Apache-2.0
//! Launching a planned guest and seeing it through to its end.

use crate::cli::{ConsoleKind, NetArg, OnReboot, RunArgs};
use crate::console_log::ConsoleLog;
use crate::control::{self, Agents, Gate, Guest, Running};
use crate::detach::{self, Detached};
use crate::ending::Ending;
use crate::gdb::{Debugger, Listener, Place};
use crate::guests::{self, Claim};
use crate::output::{message, Output, Refused, Target};
use crate::passt::{self, Passt};
use crate::run::{self, plan, report, Plan};
use crate::sandbox::Kind;
use crate::session::{self, Hvc, Session, Wiring};
use crate::share::{self, Share, Virtiofsd};
use crate::ssh::{self, Ways};
use crate::{jail, sandbox, signals, vm, warnings};
use anyhow::{anyhow, bail, Context, Result};
use kvm_ioctls::Kvm;
use loft_agent::task::{PORT, SERVICE_PORTS};
use loft_devices::terminal::{self, Raw};
use loft_devices::watch::{Record, Watch};
use loft_virtio::{
    Balloon, BalloonHandle, Block, BlockOptions, Console, ConsoleHandle, ConsoleOptions, Device, Fs, FsError, Net,
    NetOptions, PortIo, Ports, Rng, Space, Vsock, MAX_QUEUES,
};
use nix::sys::signalfd::SignalFd;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::stdio;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines of the guest's log that are shown when a command's guest dies.
const LOG_LINES: usize = 40;

/// Runs the guest; returns loft's exit code. The process has `begun`.
pub fn main(args: &RunArgs, begun: Instant) -> Result<u8> {
    if args.jail.is_some() {
        jail::close_inherited()?;
    }
    let signals = signals::take_over()?;
    let mut detached = match args.detach.then(detach::start).transpose()? {
        Some(Err(code)) => return Ok(code),
        Some(Ok(detached)) => Some(detached),
        None => None,
    };
    if args.jail.is_some() && args.on_reboot == OnReboot::Restart {
        bail!("in a jail nothing can be opened for another boot; leave out --jail, or --on-reboot restart");
    }
    let release = || {
        if let Some(detached) = detached.take() {
            detached.leave();
        }
    };
    let jail = match args.jail.as_deref().map(|user| jail::prepare(user, args.name.as_deref(), release)).transpose()? {
        Some(Err(code)) => {
            args.gdb.iter().for_each(Place::clean_up);
            return Ok(code);
        }
        Some(Ok(jail)) => Some(jail),
        None => None,
    };
    warnings::show();
    if !args.no_sandbox {
        sandbox::prepare()?;
    }
    let kvm = vm::open(&args.device)?;
    let mut claim = claim(args)?;
    let mut gdb = args.gdb.as_ref().map(|place| Listener::new(&place.address)).transpose()?;
    if jail.is_some() {
        // They are cleaned up outside of the jail.
        claim.iter_mut().for_each(Claim::leave);
        gdb.iter_mut().for_each(Listener::leave);
    }
    let name = claim.as_ref().map_or_else(String::new, |claim| claim.name.clone());
    let words = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let ways = Ways { tcp: ssh::leads_to(args.nets.iter().flat_map(forwarded)), vsock: args.vsock };
    let guest = Guest::new(name, args.cpus, args.memory, words, ways).context("cannot make an eventfd")?;
    let guest = Arc::new(guest);
    let log = args.console_log.as_ref().map(|arg| ConsoleLog::open(arg).map(Arc::new)).transpose()?;
    let start_threads = || {
        if let Some(claim) = &claim {
            let listener = claim.listener.try_clone().context("cannot duplicate a socket")?;
            control::serve(listener, guest.clone()).context("cannot start a thread")?;
        }
        if let Some(log) = &log {
            log.start().context("cannot start a thread")?;
        }
        loft_virtio::worker::start_starter(sandbox::enter_device).context("cannot start a thread")
    };
    exit_on_panic();
    // Who is in a jail has no threads before.
    let go_in = jail.map(|jail| {
        move || {
            let queues = args.cpus.min(u32::from(MAX_QUEUES));
            let devices = args.disks.len() + args.nets.len();
            let threads = args.cpus.saturating_add((devices as u32).saturating_mul(queues));
            jail.enter(&guests::directory(), args.memory, threads)?;
            start_threads()
        }
    });
    let go_in = go_in.as_ref().map(|go_in| go_in as &dyn Fn() -> Result<()>);
    if go_in.is_none() {
        start_threads()?;
    }
    let command = !args.command.is_empty();
    let mut from = begun;
    let mut gdb = gdb.map(|listener| (Arc::new(listener), args.gdb.as_ref().is_some_and(|place| place.wait)));
    let run = loop {
        let extras = Extras { from, gdb: gdb.as_ref(), log: log.as_ref() };
        let run = boot(args, &kvm, &signals, &guest, extras, &mut detached, go_in)?;
        // A guest that is started again does not wait again.
        gdb = gdb.map(|(listener, _)| (listener, false));
        if run.ending != Ending::Reboot || args.on_reboot == OnReboot::Exit {
            break run;
        }
        from = Instant::now();
    };
    let Run { ending, status, record, setup, boot, exits } = run;
    let code = if command { ending.exit_code_with(status) } else { ending.exit_code() };
    if status.is_none() || matches!(ending, Ending::OutputLost(_)) {
        explain(&ending, command, args.verbose, &record);
    }
    if args.json {
        let facts = serde_json::json!({
            "runtime_ms": begun.elapsed().as_millis() as u64,
            "boot_ms": boot.as_ref().map(|boot| (boot.kernel + boot.init).as_millis() as u64),
            "setup_us": setup.as_micros() as u64,
            "kernel_us": boot.as_ref().map(|boot| boot.kernel.as_micros() as u64),
            "init_us": boot.as_ref().map(|boot| boot.init.as_micros() as u64),
            "exits": exits,
        });
        message(&report(&ending, code, status, facts));
    }
    Ok(code)
}

impl control::Balloon for BalloonHandle {
    fn want(&self, bytes: u64) {
        Self::want(self, bytes);
    }

    fn actual(&self) -> u64 {
        Self::actual(self)
    }

    fn is_used(&self) -> bool {
        Self::is_used(self)
    }
}

/// The ports of this machine that lead to the guest's, which are the second of each pair.
fn forwarded(net: &NetArg) -> impl Iterator<Item = (SocketAddrV4, u16)> + '_ {
    let tcp = if let NetArg::User(net) = net { net.tcp.as_slice() } else { &[] };
    tcp.iter().map(|forward| (SocketAddrV4::new(forward.address, forward.host), forward.guest))
}

/// Takes the guest's name. One that nobody has to reach goes without where there is no place for
/// its socket.
fn claim(args: &RunArgs) -> Result<Option<Claim>> {
    match Claim::new(&guests::directory(), args.name.as_deref()) {
        Ok(claim) => Ok(Some(claim)),
        Err(error)
            if args.name.is_some() || args.detach || args.jail.is_some() || args.disks.iter().any(|disk| disk.stop) =>
        {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}

/// What takes the launcher into its jail when all is open, if it has one.
type GoIn<'a> = Option<&'a dyn Fn() -> Result<()>>;

/// How a guest ran from a boot to its end.
struct Run {
    ending: Ending,
    /// The command's exit code.
    status: Option<u8>,
    /// What its kernel printed.
    record: Record,
    /// How long it took until the vCPUs were started.
    setup: Duration,
    /// How long it then took until the command was.
    boot: Option<Boot>,
    /// How often it had to be left, by reason.
    exits: BTreeMap<String, u64>,
}

/// How long the parts of a boot took.
struct Boot {
    /// Until the guest's first process.
    kernel: Duration,
    /// From then until the command.
    init: Duration,
}

/// What a guest has beside itself, from its first boot to its end.
#[derive(Clone, Copy)]
struct Extras<'a> {
    /// Since when the launcher works on this boot.
    from: Instant,
    /// Where debuggers connect, and whether the guest waits for one.
    gdb: Option<&'a (Arc<Listener>, bool)>,
    /// The file that has its console.
    log: Option<&'a Arc<ConsoleLog>>,
}

/// Boots the guest and sees it through to its end, in a thread of its own: for another boot the
/// main thread stays out of the sandbox. In a jail, where there is no other boot, it is the main
/// thread itself.
fn boot(
    args: &RunArgs,
    kvm: &Kvm,
    signals: &SignalFd,
    guest: &Arc<Guest>,
    extras: Extras,
    detached: &mut Option<Detached>,
    go_in: GoIn,
) -> Result<Run> {
    if go_in.is_some() {
        return once(args, kvm, signals, guest, extras, detached, go_in);
    }
    std::thread::scope(|scope| {
        let session = std::thread::Builder::new()
            .name("session".into())
            .spawn_scoped(scope, || once(args, kvm, signals, guest, extras, detached, None))
            .context("cannot start a thread")?;
        if args.on_reboot == OnReboot::Exit {
            sandbox::enter(Kind::Main);
        }
        session.join().map_err(|_| anyhow!("the session panicked"))?
    })
}

/// Boots the guest and sees it through to its end.
fn once(
    args: &RunArgs,
    kvm: &Kvm,
    signals: &SignalFd,
    guest: &Arc<Guest>,
    extras: Extras,
    detached: &mut Option<Detached>,
    go_in: GoIn,
) -> Result<Run> {
    let (nets, network) = networks(args)?;
    // The program ends after the machine.
    let (mut passt, mut socket) = network.unzip();
    let Plan { kernel, initrd, cmdline, console, terminal, transport, nets, shares, own_init } = plan(args, nets)?;
    let command = !args.command.is_empty();

    let hidden = Arc::new(AtomicBool::new(false));
    let target = match (command, args.verbose) {
        (false, _) => Target::Stdout,
        (true, true) => Target::Stderr,
        (true, false) => Target::Nowhere,
    };
    let refused = Arc::new(Refused::new().context("cannot make an eventfd")?);
    let (serial, record) =
        Watch::new(Output::new(target, hidden.clone(), refused.clone(), guest.clone(), extras.log.cloned()));

    // The disks and cards, and those that a guest has in any case.
    vm::allow_files(args.cpus, args.disks.len() + nets.len() + shares.len() + 5)?;
    let gate = Arc::new(Gate::default());
    let mut devices = devices(args, &nets, &mut socket, &gate, &guest.name)?;
    let balloon: Option<Arc<dyn control::Balloon>> = args.balloon.then(|| {
        let (device, handle) = Balloon::new();
        devices.push(Box::new(device));
        Arc::new(handle) as _
    });
    // These programs end after the machine, too.
    let mut servers = Vec::new();
    for share in &shares {
        let (server, device) = serve(share)?;
        servers.push(server);
        devices.push(Box::new(device));
    }
    let (mut to_hvc, mut to_agent, mut agents) = (None, None, None);
    if !command && console == ConsoleKind::Hvc0 {
        let (ours, device) = hvc()?;
        to_hvc = Some(ours);
        devices.push(Box::new(device));
    }
    if own_init {
        let mut ports = Vec::new();
        if command {
            let ours = port(&mut ports, PORT)?;
            ours.set_nonblocking(true).context("cannot make a socket non-blocking")?;
            to_agent = Some(ours);
        }
        let [first, others @ ..] = SERVICE_PORTS;
        let first = port(&mut ports, first)?;
        let others = others.into_iter().map(|name| port(&mut ports, name)).collect::<Result<_>>()?;
        agents = Some(Arc::new(Agents::new(first, others)));
        devices.push(Box::new(Ports::new(ports).context("cannot make the virtio ports")?));
    }
    let mut machine = vm::Machine::new(
        kvm,
        vm::Setup {
            kernel,
            initrd,
            cmdline,
            memory: args.memory,
            huge: args.huge,
            shared: !shares.is_empty(),
            vcpus: args.cpus,
            devices,
            transport,
            serial_output: Box::new(serial),
            gate,
        },
    )?;

    for server in &mut servers {
        let end = machine.ender()?;
        server.listen(move |why| end(Ending::Failed(why)))?;
    }

    if !command && console == ConsoleKind::Hvc0 && !args.verbose && stdio::stderr().is_terminal() && detached.is_none()
    {
        message("loft: the guest boots; -v shows its kernel's messages, Ctrl-a x ends it, Ctrl-a h helps");
    }
    let keys = if !command || terminal { Raw::enter().context("cannot use the terminal")? } else { None };
    go_in.map_or(Ok(()), |go_in| go_in())?;
    passt.as_mut().map_or(Ok(()), Passt::listen)?;
    let started = Instant::now();
    let debugger = extras.gdb.map(|(listener, wait)| Debugger::start(&machine, listener, *wait, guest)).transpose()?;
    machine.start()?;
    let gpio = machine.gpio.clone();
    let (gate, counters) = (machine.gate.clone(), machine.counters.clone());
    guest.set_running(Some(Running { gate, agents, balloon, counters, gpio }));
    if let Some(detached) = detached.take() {
        detached.ready(&guest.name)?;
    }
    let (uart, ended) = (machine.uart.clone(), machine.ended.try_clone().context("cannot duplicate an eventfd")?);
    let (counters, gate) = (machine.counters.clone(), machine.gate.clone());
    let show_counters = || serde_json::json!({ "exits": counters.read() }).to_string();
    let paused = || gate.is_closed();
    let mut session = Session::new(Wiring {
        uart: &uart,
        hvc: to_hvc,
        agent: to_agent,
        hide_uart: hidden,
        refused: &refused,
        ended: &ended,
        signals,
        keys: keys.is_some(),
        stdin: stdio::stdin(),
        stdout: stdio::stdout(),
        stderr: stdio::stderr(),
        counters: &show_counters,
        paused: &paused,
        hub: &guest.hub,
        mailbox: &guest.mailbox,
        log: extras.log.map(Arc::as_ref),
        attached: false,
    });
    sandbox::enter(Kind::Session);
    let result = session.run();
    guest.set_running(None);
    let exits = machine.stop();
    drop(debugger);
    session.drain();
    drop(keys);

    let ending = match (session.lost.take(), session.failure.take(), result?) {
        (Some(ending), ..) => ending,
        (None, Some(reason), _) => Ending::Failed(reason),
        (None, None, Some(ending)) => ending,
        (None, None, None) => told_apart(machine.ending(), &record),
    };
    let boot = session.hello.map(|(at, init)| {
        let whole = at.duration_since(started);
        // What the guest says is believed as far as it can be.
        let init = init.min(whole);
        Boot { kernel: whole - init, init }
    });
    let status = session.status;
    Ok(Run { ending, status, record, setup: started.duration_since(extras.from), boot, exits })
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

/// Decides on the guest's network cards, and starts the program behind that of the kind `user`. One
/// that nobody has asked for, and that cannot be had, the guest does without.
fn networks(args: &RunArgs) -> Result<(Vec<NetArg>, Option<passt::Started>)> {
    let nets = run::nets(&args.nets, passt::is_installed())?;
    let user = nets.iter().find_map(|net| if let NetArg::User(user) = net { Some(user) } else { None });
    let Some(user) = user else { return Ok((nets, None)) };
    match Passt::start(user) {
        Ok(started) => Ok((nets, Some(started))),
        Err(error) if user.implied => {
            message(&format!("loft: the guest has no network: {error:#}"));
            Ok((Vec::new(), None))
        }
        Err(error) => Err(error),
    }
}

fn devices(
    args: &RunArgs,
    nets: &[NetArg],
    socket: &mut Option<UnixStream>,
    gate: &Arc<Gate>,
    name: &str,
) -> Result<Vec<Box<dyn Device>>> {
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    // Of a disk, and pairs of them of a card: one for each vCPU, as far as there can be as many.
    let queues = u16::try_from(args.cpus).unwrap_or(u16::MAX);
    for (n, disk) in args.disks.iter().enumerate() {
        let serial = disk.serial.clone().unwrap_or_else(|| format!("loft-{n}"));
        let space = disk.stop.then(|| space(gate, name));
        let options = BlockOptions {
            read_only: disk.read_only,
            snapshot: disk.snapshot,
            queues,
            keep_space: disk.keep_space,
            serial: Some(serial),
            space,
        };
        devices.push(Box::new(Block::open(&disk.path, &options)?));
    }
    for net in nets {
        devices.push(Box::new(match net {
            NetArg::None => continue,
            NetArg::Tap(tap) => Net::open(&tap.name, &NetOptions { mac: tap.mac, vhost: true, pairs: queues })?,
            NetArg::User(user) => {
                let socket = socket.take().context("a network has not been started")?;
                let mac = Some(passt::mac(user));
                Net::over(socket, passt::PROGRAM, &NetOptions { mac, ..NetOptions::default() })?
            }
        }));
    }
    devices.push(Box::new(Rng::new()));
    if let Some(cid) = args.vsock {
        devices.push(Box::new(Vsock::open(cid)?));
    }
    Ok(devices)
}

/// Starts the program that serves `share` and waits until it answers.
fn serve(share: &Share) -> Result<(Virtiofsd, Fs)> {
    let (mut server, socket) = Virtiofsd::start(share)?;
    match Fs::over(socket, &share.tag) {
        Ok(device) => Ok((server, device)),
        Err(FsError::Vhost(_)) => Err(server.complaint()),
        Err(error) => Err(error).context(share::PROGRAM),
    }
}

/// Has the guest `name` wait behind `gate` while the host has no space for what it writes to a
/// disk.
fn space(gate: &Arc<Gate>, name: &str) -> Arc<Space> {
    let (name, theirs) = (name.to_owned(), Arc::downgrade(gate));
    let space = Arc::new(Space::new(move |disk, error| {
        // A guest that ends, or is paused already, is not paused now.
        if theirs.upgrade().is_some_and(|gate| gate.begin_to_close()) {
            message(&format!("loft: {disk}: {error}; the guest is paused: make room, then loft resume {name}\r"));
        }
    }));
    let theirs = space.clone();
    gate.on_open(move || theirs.retry());
    space
}

/// The launcher's end of the virtio console, and the device.
fn hvc() -> Result<(Hvc, Console)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe");
    let ((device_in, ours_in), (ours_out, device_out)) = (pipe()?, pipe()?);
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

/// Adds the port `name`; the launcher's end of it.
fn port(ports: &mut Vec<(String, PortIo)>, name: &str) -> Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
    let output = OwnedFd::from(theirs.try_clone().context("cannot duplicate a socket")?);
    ports.push((name.to_owned(), PortIo { input: Some(theirs.into()), output: Some(output) }));
    Ok(ours)
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
