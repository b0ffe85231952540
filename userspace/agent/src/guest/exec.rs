// SPDX-License-Identifier: Apache-2.0
//! Running the command: its terminal or pipes, the pumps between them and the port, its exit code.

use super::requests::{Request, Requests};
use super::{log, power, Result};
use crate::protocol::{receive, Frame};
use crate::task::Command as Task;
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::pty::{openpty, OpenptyResult};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{Gid, Pid, Uid};
use rustix::termios::Winsize;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{mpsc, Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long the launcher may take to take the exit code.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);
/// As a shell says it.
pub const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Where frames go, one at a time.
pub type Port = Arc<Mutex<File>>;

/// Runs `task` after `prepare`, reporting over `port`; returns when the launcher has its exit code,
/// and how the guest is to end. The guest's first process has `begun`. What the guest was asked for
/// before its command had ended comes before the command's exit code.
pub fn run(port: &File, task: &Task, begun: Instant, prepare: impl FnOnce() -> Result<()>) -> Result<Request> {
    let mut requests = Requests::listen()?;
    let duplicate = || port.try_clone().map_err(|e| format!("the port cannot be duplicated: {e}"));
    let out: Port = Arc::new(Mutex::new(duplicate()?));
    let input = duplicate()?;

    if let Err(error) = prepare() {
        return farewell(&out, &Frame::Failed(error), spawn_reader(input));
    }
    requests.make_pipe();
    send(&out, &Frame::Hello(begun.elapsed().as_micros() as u64));
    let running = match start(task) {
        Ok(running) => running,
        Err((code, error)) => {
            send(&out, &Frame::Error(error));
            return farewell(&out, &Frame::Exit(code), spawn_reader(input));
        }
    };
    let pid = running.pid;
    let (launcher, pumps) = connect(running, &out)?;
    let (goodbye, said) = mpsc::channel();
    std::thread::spawn(move || read_frames(input, launcher, &goodbye));

    let (code, request) = wait_for(pid, &mut requests);
    // What the command left running would keep its output open; a guest ends with its command.
    power::end_everything();
    for pump in pumps {
        let _ = pump.join();
    }
    match request {
        Some(request) => Ok(request),
        None => farewell(&out, &Frame::Exit(code), said),
    }
}

/// Starts the threads that send what the command prints.
pub fn connect(running: Running, out: &Port) -> Result<(Launcher, Vec<JoinHandle<()>>)> {
    let mut pumps = Vec::new();
    let mut wanted = Vec::new();
    for (source, wrap) in running.outputs {
        let (until, keep) = rustix::pipe::pipe().map_err(|e| format!("a pipe cannot be made: {e}"))?;
        wanted.push(keep);
        let out = out.clone();
        pumps.push(std::thread::spawn(move || pump(source, &until, &out, wrap)));
    }
    let mut wanted = wanted.into_iter();
    let (stdout, stderr) = (wanted.next(), wanted.next());
    Ok((Launcher { stdin: running.stdin, terminal: running.terminal, stdout, stderr }, pumps))
}

/// Sends the last frame and waits until the launcher has it: a guest that is off delivers nothing.
fn farewell(out: &Port, last: &Frame, said: mpsc::Receiver<()>) -> Result<Request> {
    send(out, last);
    let _ = said.recv_timeout(GOODBYE_LIMIT);
    Ok(Request::Off)
}

/// Where the launcher's input goes.
#[derive(Default)]
enum Input {
    #[default]
    None,
    Pipe(File),
    Terminal(File),
}

/// One of the command's outputs, with the frame that its bytes travel in.
type Output = (File, fn(Vec<u8>) -> Frame);

/// A command that runs.
pub struct Running {
    /// The leader of its process group.
    pub pid: Pid,
    stdin: Input,
    outputs: Vec<Output>,
    terminal: Option<File>,
}

/// The exit code that a shell would give, and the reason.
pub type NotStarted = (u8, String);
pub type Started = std::result::Result<Running, NotStarted>;

/// Starts the command, in a process group of its own.
pub fn start(task: &Task) -> Started {
    let (program, arguments) = task.argv.split_first().ok_or((NOT_FOUND, "the command is empty".to_owned()))?;
    let program = OsStr::from_bytes(program);
    let mut command = Command::new(program);
    command.args(arguments.iter().map(|a| OsStr::from_bytes(a)));
    let home = Path::new(if Path::new("/root").is_dir() { "/root" } else { "/" });
    let directory = task.directory.as_ref().map_or(home, |path| Path::new(OsStr::from_bytes(path)));
    if !directory.is_dir() {
        return Err((CANNOT_EXECUTE, format!("the guest has no directory {}", directory.display())));
    }
    command.env_clear().env("PATH", PATH).env("HOME", home).env("USER", "root").current_dir(directory);
    // std searches the child's PATH.
    for (name, value) in &task.env {
        command.env(name, OsStr::from_bytes(value));
    }
    // What `Requests` listens to may be blocked here, and a command that inherited that could not be ended by SIGTERM.
    // SAFETY: One system call between fork and exec, which allocates nothing.
    unsafe { command.pre_exec(|| Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)) };
    if let Some(user) = task.user.clone() {
        let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
        // SAFETY: System calls between fork and exec, which allocate nothing; what they use was
        // made before.
        unsafe { command.pre_exec(move || become_user(user.uid.into(), user.gid.into(), &groups)) };
    }
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => {
            (NOT_FOUND, format!("{}: command not found in the guest", program.to_string_lossy()))
        }
        _ => (CANNOT_EXECUTE, format!("{} cannot be executed in the guest: {e}", program.to_string_lossy())),
    };
    match task.terminal {
        Some(size) => start_on_terminal(&mut command, size, failed),
        None => start_on_pipes(&mut command, failed),
    }
}

/// Makes the process `uid`'s. Its standard files are as well, so that it can open them again, as
/// /dev/stderr.
fn become_user(uid: Uid, gid: Gid, groups: &[Gid]) -> io::Result<()> {
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        nix::unistd::fchown(fd, Some(uid), None)?;
    }
    nix::unistd::setgroups(groups)?;
    nix::unistd::setresgid(gid, gid, gid)?;
    Ok(nix::unistd::setresuid(uid, uid, uid)?)
}

fn start_on_pipes(command: &mut Command, failed: impl Fn(io::Error) -> NotStarted) -> Started {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child: Child = command.spawn().map_err(failed)?;
    let file = |fd: OwnedFd| File::from(fd);
    let mut outputs: Vec<Output> = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        outputs.push((file(stdout.into()), Frame::Stdout));
    }
    if let Some(stderr) = child.stderr.take() {
        outputs.push((file(stderr.into()), Frame::Stderr));
    }
    let stdin = child.stdin.take().map_or(Input::None, |s| Input::Pipe(file(s.into())));
    Ok(Running { pid: pid_of(&child), stdin, outputs, terminal: None })
}

fn start_on_terminal(command: &mut Command, size: (u16, u16), failed: impl Fn(io::Error) -> NotStarted) -> Started {
    let no_terminal = |e: io::Error| (CANNOT_EXECUTE, format!("no terminal can be made in the guest: {e}"));
    let OpenptyResult { master, slave } = openpty(None, None).map_err(|e| no_terminal(e.into()))?;
    rustix::termios::tcsetwinsize(&master, window(size)).map_err(|e| no_terminal(e.into()))?;
    let duplicate = |fd: &OwnedFd| fd.try_clone().map_err(no_terminal);
    command.stdin(duplicate(&slave)?).stdout(duplicate(&slave)?).stderr(duplicate(&slave)?);
    // SAFETY: between fork and exec the closure makes two system calls, both async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            // Standard input is the terminal: make it the controlling one.
            Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
        })
    };
    let child = command.spawn().map_err(failed)?;
    // The command's ends must be closed here, or the terminal never hangs up.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(slave);
    let master = File::from(master);
    let duplicate = || master.try_clone().map_err(no_terminal);
    Ok(Running {
        pid: pid_of(&child),
        stdin: Input::Terminal(duplicate()?),
        outputs: vec![(duplicate()?, Frame::Stdout)],
        terminal: Some(master),
    })
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn window((columns, rows): (u16, u16)) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Waits for `pid`, and as the first process for every orphan that ends before it; or for a request, which may be the last
/// that `pid` has done.
fn wait_for(pid: Pid, requests: &mut Requests) -> (u8, Option<Request>) {
    loop {
        // The signal of a process that ends later than this wakes the wait below.
        let mut request = requests.next();
        let ended = ended(pid);
        if ended.is_some() {
            request = request.or_else(|| requests.next());
        }
        if request.is_some() {
            power::ask_everything_to_end();
        }
        if request.is_some() || ended.is_some() {
            return (ended.unwrap_or_default(), request);
        }
        requests.wait();
    }
}

/// The exit code of `pid`, if it has ended; those that ended before it are taken note of.
fn ended(pid: Pid) -> Option<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(ended, code)) if ended == pid => return Some(code as u8),
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => {
                return Some(128u8.wrapping_add(signal as u8))
            }
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => {
                log(&format!("the command cannot be waited for: {e}"));
                return Some(CANNOT_EXECUTE);
            }
        }
    }
}

/// Copies `source` to the port until its end, or until the other end of `until` is closed. A terminal whose last process is
/// gone ends with EIO.
fn pump(mut source: File, until: &OwnedFd, out: &Port, wrap: fn(Vec<u8>) -> Frame) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN), PollFd::new(until.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::NONE) {
            // The source is closed with this function's end: the command's next write fails, as in any pipe.
            Ok(_) if fds[1].any().unwrap_or(true) => return,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        }
        match source.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => send(out, &wrap(buffer[..n].to_vec())),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Sends `frame`.
pub fn send(out: &Port, frame: &Frame) {
    let mut port = out.lock().unwrap_or_else(|e| e.into_inner());
    if let Err(e) = frame.send(&mut *port) {
        log(&format!("the launcher cannot be reached: {e}"));
    }
}

/// What the launcher's frames are about.
#[derive(Default)]
pub struct Launcher {
    stdin: Input,
    terminal: Option<File>,
    /// As long as these are open, the launcher wants what the command prints.
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Launcher {
    /// Does what `frame` says to the command.
    pub fn handle(&mut self, frame: Frame) {
        match frame {
            Frame::Stdin(bytes) => {
                let written = match &mut self.stdin {
                    Input::None => Ok(()),
                    Input::Pipe(file) | Input::Terminal(file) => file.write_all(&bytes),
                };
                // The command does not read any more: the rest has nowhere to go.
                if written.is_err() {
                    self.stdin = Input::None;
                }
            }
            Frame::StdinEnd => {
                // A terminal has no end: Ctrl-d says it.
                if let Input::Terminal(file) = &mut self.stdin {
                    let _ = file.write_all(&[4]);
                }
                self.stdin = Input::None;
            }
            Frame::Resize(columns, rows) => {
                if let Some(terminal) = &self.terminal {
                    let _ = rustix::termios::tcsetwinsize(terminal, window((columns, rows)));
                }
            }
            Frame::StdoutGone => {
                self.stdout = None;
                // With the last of its ends a terminal is hung up.
                if self.terminal.take().is_some() {
                    self.stdin = Input::None;
                }
            }
            Frame::StderrGone => self.stderr = None,
            _ => {}
        }
    }
}

/// Waits for the launcher's last frame where there is no command.
fn spawn_reader(input: File) -> mpsc::Receiver<()> {
    let (goodbye, said) = mpsc::channel();
    std::thread::spawn(move || read_frames(input, Launcher::default(), &goodbye));
    said
}

/// Handles what the launcher sends.
fn read_frames(mut input: File, mut launcher: Launcher, goodbye: &mpsc::Sender<()>) {
    let result = receive(&mut input, |frame| {
        if frame == Frame::Goodbye {
            let _ = goodbye.send(());
        }
        launcher.handle(frame);
        true
    });
    if let Err(e) = result {
        log(&format!("the launcher's port fails: {e}"));
    }
}

/// Makes `console` this process's standard input, output and error.
pub fn use_console(console: &str) {
    match std::fs::OpenOptions::new().read(true).write(true).open(console) {
        Ok(file) => {
            let all =
                [nix::unistd::dup2_stdin(&file), nix::unistd::dup2_stdout(&file), nix::unistd::dup2_stderr(&file)];
            if let Some(e) = all.into_iter().find_map(|r| r.err()) {
                log(&format!("{console} cannot be made the console: {e}"));
            }
        }
        Err(e) => log(&format!("{console} cannot be opened: {e}")),
    }
}

/// Replaces this process by `program` with `env` beside its own environment; returns only if that fails.
pub fn replace(program: &OsStr, env: &[(String, Vec<u8>)]) -> io::Error {
    // Rust ignores SIGPIPE, and what is ignored stays so in the next program.
    // SAFETY: the default action is no handler, so nothing of this program can be called.
    let _ = unsafe { nix::sys::signal::signal(nix::sys::signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
    let Ok(path) = CString::new(program.as_bytes()) else { return io::ErrorKind::InvalidInput.into() };
    let mut environment = vec![format!("PATH={PATH}").into_bytes(), b"HOME=/".to_vec()];
    environment.extend(env.iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat()));
    if env.iter().all(|(name, _)| name != "TERM") {
        environment.push(b"TERM=linux".to_vec());
    }
    let environment: Vec<CString> = environment.into_iter().filter_map(|v| CString::new(v).ok()).collect();
    match nix::unistd::execve(&path, &[path.as_c_str()], &environment) {
        Ok(never) => match never {},
        Err(e) => e.into(),
    }
}
