// SPDX-License-Identifier: Apache-2.0
//! The commands that reach a guest that runs: `loft ps`, `stop`, `reboot`, `pause`, `resume`, `console`, `exec`.

use crate::cli::{ExecArgs, MemoryArgs, NameArgs, PsArgs, StopArgs};
use crate::control::{Answer, Hub, Mailbox, Request, Stat, State, Status};
use crate::ending::{Ending, FAILED};
use crate::guests::{self, directory};
use crate::others::{self, Other};
use crate::output::{self, Refused};
use crate::session::{self, Hvc, Session, Wiring};
use crate::ssh::Ways;
use crate::{run, signals, stat};
use anyhow::{bail, Context, Result};
use loft_boot::size;
use loft_devices::serial::Uart;
use loft_devices::terminal::Raw;
use nix::errno::Errno;
use nix::sys::socket::{recv, MsgFlags};
use rustix::stdio;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

/// How long a launcher may take to answer what it answers at once.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest answer.
const MAX_ANSWER: usize = 1 << 20;

/// A line of `loft ps`.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    status: Status,
    /// Exits that left the guest, each second since it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    exits_per_second: Option<u64>,
}

impl Row {
    fn of_guest(name: &str, stream: &mut UnixStream) -> Result<Self> {
        let status = ask(stream, &Request::Status)?.status.context("its launcher does not say how it is")?;
        // While it restarts it has no counters.
        let stat = stat::take(name, stream, ANSWER_LIMIT).ok();
        Ok(Self { status, exits_per_second: stat.as_ref().and_then(exits_per_second) })
    }

    fn of_other(vm: &Other) -> Self {
        let status = Status {
            name: vm.stat.name.clone(),
            pid: vm.stat.pid,
            state: State::Foreign,
            vcpus: vm.vcpus,
            memory: vm.memory,
            balloon: 0,
            uptime: vm.stat.uptime_ms / 1000,
            command: Vec::new(),
            ssh: Ways::default(),
        };
        Self { status, exits_per_second: exits_per_second(&vm.stat) }
    }

    fn line(&self) -> String {
        let Status { name, pid, state, vcpus, memory, uptime, command, .. } = &self.status;
        let (memory, uptime, command) = (size::show(*memory), time(*uptime), command.join(" "));
        let exits = self.exits_per_second.map_or("-".to_owned(), |exits| exits.to_string());
        let text = format!("{name:<20} {pid:>7} {state:<10} {vcpus:>4} {memory:>8} {uptime:>8} {exits:>8}  {command}");
        text.trim_end().to_owned() + "\n"
    }
}

fn exits_per_second(stat: &Stat) -> Option<u64> {
    let of_vcpus = stat.counts.vcpus.iter().map(|vcpu| &vcpu.counters);
    let mut exits = of_vcpus.chain([&stat.counts.vm]).filter_map(|counters| counters.get("exits")).peekable();
    exits.peek()?;
    exits.sum::<u64>().checked_mul(1000)?.checked_div(stat.uptime_ms)
}

/// Lists the guests, and VMs of other programs.
pub fn ps(args: &PsArgs) -> Result<u8> {
    let mut rows = Vec::new();
    let mut code = 0;
    for (name, mut stream) in guests::all(&directory())? {
        match Row::of_guest(&name, &mut stream) {
            Ok(row) => rows.push(row),
            Err(error) => {
                output::message(&format!("loft: {name}: {error:#}"));
                code = FAILED;
            }
        }
    }
    let ours = rows.iter().map(|row| row.status.pid).collect();
    rows.extend(others::all(&ours).iter().map(Row::of_other));
    let text = if args.json {
        let rows: Result<Vec<_>, _> = rows.iter().map(serde_json::to_string).collect();
        rows?.into_iter().map(|row| row + "\n").collect()
    } else {
        let heading = format!(
            "{:<20} {:>7} {:<10} {:>4} {:>8} {:>8} {:>8}  COMMAND\n",
            "NAME", "PID", "STATE", "CPUS", "MEMORY", "UPTIME", "EXITS/s"
        );
        heading + &rows.iter().map(Row::line).collect::<String>()
    };
    output::write_all(stdio::stdout(), text.as_bytes())?;
    Ok(code)
}

/// Shows how long something has been.
pub fn time(seconds: u64) -> String {
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, m, s) => format!("{m}:{s:02}"),
        (0, h, m, s) => format!("{h}:{m:02}:{s:02}"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}

/// Switches guests off.
pub fn stop(args: &StopArgs) -> Result<u8> {
    // All are asked before the first is waited for.
    let asked: Vec<_> = args.names.iter().map(|name| (name, begin_to_stop(name, args.force))).collect();
    let mut code = 0;
    for (name, result) in asked {
        if let Err(error) = result.and_then(|stream| finish_stopping(stream, args)) {
            output::message(&format!("loft: {name}: {error:#}"));
            code = FAILED;
        }
    }
    Ok(code)
}

fn begin_to_stop(name: &str, force: bool) -> Result<UnixStream> {
    let mut stream = guests::find(&directory(), name)?;
    if let Err(error) = ask(&mut stream, &Request::Stop) {
        if !force {
            return Err(error.context("it cannot be asked to switch itself off; --force ends it"));
        }
        ask(&mut stream, &Request::End)?;
    }
    Ok(stream)
}

fn finish_stopping(mut stream: UnixStream, args: &StopArgs) -> Result<()> {
    if ends_within(&mut stream, args.timeout)? {
        return Ok(());
    }
    if !args.force {
        bail!("it is still not off after {} s; --force ends it", args.timeout);
    }
    // Where it ends at this moment there is no answer, and nothing is wrong.
    let asked = ask(&mut stream, &Request::End);
    if !ends_within(&mut stream, ANSWER_LIMIT.as_secs())? {
        asked?;
        bail!("its launcher does not end");
    }
    Ok(())
}

/// Whether the launcher at the other end ends in time.
fn ends_within(stream: &mut UnixStream, seconds: u64) -> Result<bool> {
    let deadline = Duration::from_secs(seconds).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(deadline)).context("cannot set a time limit")?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(true),
        Ok(_) => bail!("its launcher says something that nobody has asked for"),
        Err(e) => Err(e.into()),
    }
}

/// Restarts a guest.
pub fn reboot(args: &NameArgs) -> Result<u8> {
    simple(&args.name, &Request::Reboot)
}

/// Pauses a guest.
pub fn pause(args: &NameArgs) -> Result<u8> {
    simple(&args.name, &Request::Pause)
}

/// Lets a guest go on.
pub fn resume(args: &NameArgs) -> Result<u8> {
    simple(&args.name, &Request::Resume)
}

/// Has a guest make do with less memory.
pub fn memory(args: &MemoryArgs) -> Result<u8> {
    simple(&args.name, &Request::Memory { bytes: args.size })
}

fn simple(name: &str, request: &Request) -> Result<u8> {
    ask(&mut guests::find(&directory(), name)?, request)?;
    Ok(0)
}

/// Attaches to a guest's console.
pub fn console(args: &NameArgs) -> Result<u8> {
    let stream = begin(&args.name, &Request::Console)?;
    // A connection is the console's alone, so the size goes over another one.
    let name = args.name.clone();
    let resize = move |columns, rows| drop(simple(&name, &Request::Resize { columns, rows }));
    if let Some((columns, rows)) = session::window() {
        resize(columns, rows);
    }
    let output = stream.try_clone().context("cannot duplicate a socket")?;
    let hvc = Hvc { input: stream.into(), output: output.into(), resize: Box::new(resize) };
    let (ending, _) = attach(Some(hvc), None)?;
    Ok(match ending {
        // The guest has ended, or the user has left.
        None | Some(Ending::User) => 0,
        Some(other) => other.exit_code(),
    })
}

/// How the guest `name` is.
pub fn status(name: &str) -> Result<Status> {
    let answer = ask(&mut guests::find(&directory(), name)?, &Request::Status)?;
    answer.status.context("its launcher does not say how it is")
}

/// Runs a command in a guest.
pub fn exec(args: &ExecArgs) -> Result<u8> {
    let terminal = stdio::stdin().is_terminal() && stdio::stdout().is_terminal();
    let env = run::environment(&["TERM", "LANG", "COLORTERM"]);
    let env: BTreeMap<_, _> = env.into_iter().filter_map(|(k, v)| Some((k, String::from_utf8(v).ok()?))).collect();
    let terminal = terminal.then(|| session::window().unwrap_or((80, 24)));
    let stream = begin(&args.name, &Request::Exec { argv: args.command.clone(), env, terminal })?;
    match attach(None, Some(stream))? {
        (_, Some(status)) => Ok(status),
        (Some(ending), None) => Ok(ending.exit_code()),
        (None, None) => bail!("the guest has ended, or its launcher has, before the command had"),
    }
}

/// Sends a request that takes its connection over.
fn begin(name: &str, request: &Request) -> Result<UnixStream> {
    let mut stream = guests::find(&directory(), name)?;
    ask(&mut stream, request)?;
    stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
    Ok(stream)
}

/// A session with a guest of another launcher; how it ended, and the command's exit code.
fn attach(hvc: Option<Hvc>, agent: Option<UnixStream>) -> Result<(Option<Ending>, Option<u8>)> {
    let signals = signals::take_over()?;
    let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).context("cannot make an eventfd");
    let uart = Uart::new(event()?, Box::new(io::sink()));
    let (ended, refused) = (event()?, Refused::new().context("cannot make an eventfd")?);
    let (hub, mailbox) = (Hub::default(), Mailbox::new().context("cannot make an eventfd")?);
    let terminal = agent.is_none() || stdio::stdout().is_terminal();
    let keys = if terminal { Raw::enter().context("cannot use the terminal")? } else { None };
    let mut session = Session::new(Wiring {
        uart: &uart,
        hvc,
        agent,
        hide_uart: Default::default(),
        refused: &refused,
        ended: &ended,
        signals: &signals,
        keys: keys.is_some(),
        stdin: stdio::stdin(),
        stdout: stdio::stdout(),
        stderr: stdio::stderr(),
        counters: &|| "{}".to_owned(),
        paused: &|| false,
        hub: &hub,
        mailbox: &mailbox,
        log: None,
        attached: true,
    });
    let ending = session.run()?;
    drop(keys);
    Ok((session.lost.take().or(ending), session.status))
}

/// Sends `request` and returns the answer; an answer that it was not done is an error.
fn ask(stream: &mut UnixStream, request: &Request) -> Result<Answer> {
    ask_within(stream, request, ANSWER_LIMIT)
}

/// The same where the launcher may take as long as `limit`.
pub fn ask_within(stream: &mut UnixStream, request: &Request, limit: Duration) -> Result<Answer> {
    stream.set_read_timeout(Some(limit)).context("cannot set a time limit")?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).context("its launcher cannot be reached")?;
    let answer = read_line(stream, Instant::now() + limit).context("its launcher does not answer")?;
    let answer: Answer = serde_json::from_slice(&answer).context("its launcher's answer is not understood")?;
    match answer {
        Answer { ok: true, .. } => Ok(answer),
        Answer { error, .. } => bail!("{}", error.unwrap_or_else(|| "it was refused".into())),
    }
}

/// Reads a line, and nothing of what follows it, which belongs to somebody else. What has not come
/// at `deadline`, or within the stream's time limit, is not waited for.
fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let (mut line, mut piece) = (Vec::new(), [0; 4096]);
    while line.last() != Some(&b'\n') {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let there = match recv(stream.as_raw_fd(), &mut piece, MsgFlags::MSG_PEEK) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => piece.get(..n).unwrap_or_default(),
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
        };
        let end = there.iter().position(|byte| *byte == b'\n').map_or(there.len(), |at| at + 1);
        let begun = line.len();
        line.resize(begun + end, 0);
        stream.read_exact(line.get_mut(begun..).unwrap_or_default())?;
        if line.len() > MAX_ANSWER {
            return Err(io::Error::other("a line has no end"));
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::tests::guest;

    #[test]
    fn times() {
        assert_eq!(time(59), "0:59");
        assert_eq!(time(3600), "1:00:00");
        assert_eq!(time(90_000), "1d 1h");
    }

    #[test]
    fn a_line_is_read_and_what_follows_is_not() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let long = "x".repeat(5000) + "\n";
        theirs.write_all(format!("{long}\nrest").as_bytes()).unwrap();
        assert_eq!(read_line(&mut ours, Instant::now() + ANSWER_LIMIT).unwrap(), long.as_bytes());
        assert_eq!(read_line(&mut ours, Instant::now() + ANSWER_LIMIT).unwrap(), b"\n");
        let mut rest = [0; 4];
        ours.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest");
        theirs.write_all(b"cut").unwrap();
        drop(theirs);
        assert_eq!(
            read_line(&mut ours, Instant::now() + ANSWER_LIMIT).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn an_answer_that_never_ends_is_not_waited_for() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{").unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        let writer = std::thread::spawn(move || {
            while theirs.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(read_line(&mut ours, deadline).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(ours);
        writer.join().unwrap();
    }

    #[test]
    fn a_guest_is_a_line() {
        let status = Status {
            name: "web".into(),
            pid: 42,
            state: State::Paused,
            vcpus: 2,
            memory: 512 << 20,
            balloon: 0,
            uptime: 61,
            command: vec![],
            ssh: Ways::default(),
        };
        let text = |exits_per_second| Row { status: status.clone(), exits_per_second }.line();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&text(Some(17)))[..4], ["web", "42", "paused", "2"]);
        assert!(text(Some(17)).ends_with(" 1:01       17\n") && text(None).ends_with(" 1:01        -\n"));
    }

    #[test]
    fn so_is_another_programs_vm() {
        let mut stat = guest("[qemu]", 61_000, &[]);
        stat.counts.vm.insert("exits".into(), 6100);
        let row = Row::of_other(&Other { vcpus: 2, memory: 512 << 20, stat });
        let words = row.line().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words, ["[qemu]", "42", "foreign", "2", "512", "MiB", "1:01", "100"]);
        let expected =
            r#"{"name":"[qemu]","pid":42,"state":"foreign","vcpus":2,"memory":536870912,"balloon":0,"uptime":61,"#;
        let expected = expected.to_owned() + r#""command":[],"exits_per_second":100}"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), expected);
    }

    #[test]
    fn exits_are_those_of_all_vcpus() {
        assert_eq!(exits_per_second(&guest("a", 2000, &[&[("exits", 10)], &[("exits", 30)]])), Some(20));
        assert_eq!(exits_per_second(&guest("a", 2000, &[&[]])), None);
        assert_eq!(exits_per_second(&guest("a", 0, &[&[("exits", 10)]])), None);
    }
}
