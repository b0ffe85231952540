// SPDX-License-Identifier: Apache-2.0
//! What the launcher asks of a guest that runs: commands, and to switch it off.
//!
//! A process of its own, which stays when the first process becomes the root file system's init.

use super::exec::{self, Launcher};
use super::{log, port, requests};
use crate::protocol::{receive, Frame};
use crate::task::{Command, SERVICE_PORTS};
use nix::errno::Errno;
use nix::sys::signal::{killpg, SigSet, Signal};
use nix::sys::wait::{waitid, waitpid, Id, WaitPidFlag, WaitStatus};
use nix::unistd::{fork, setsid, ForkResult, Pid};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a port runs.
#[derive(Default)]
struct Current {
    /// How many commands there have been, with this one.
    run: u32,
    /// The process. It is not waited for as long as it is here, so that the number is nobody else's.
    pid: Option<Pid>,
}

type Commands = Arc<[Mutex<Current>; SERVICE_PORTS.len()]>;

/// Starts the process. To be called before this one has threads, with the root file system in place. A guest whose launcher
/// offers no ports goes without.
pub fn start() {
    // SAFETY: this process has no other thread, so the child may do whatever its parent may.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => {}
        Ok(ForkResult::Child) => serve(),
        Err(e) => log(&format!("the service cannot be started: {e}")),
    }
}

fn serve() -> ! {
    // What init does with its own session, terminal and signals is none of the service's business.
    let _ = setsid();
    let _ = SigSet::empty().thread_set_mask();
    exec::use_console("/dev/null");
    let commands = Commands::default();
    let mut threads = Vec::new();
    for (index, name) in SERVICE_PORTS.iter().enumerate() {
        let commands = commands.clone();
        match port::open(name) {
            Ok(port) => threads.push(std::thread::spawn(move || serve_port(port, index, &commands))),
            Err(e) => log(&e),
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
    std::process::exit(0)
}

fn serve_port(mut input: File, index: usize, commands: &Commands) {
    let out = match input.try_clone() {
        Ok(file) => Arc::new(Mutex::new(file)),
        Err(e) => return log(&format!("a port cannot be duplicated: {e}")),
    };
    let mut launcher = Launcher::default();
    let result = receive(&mut input, |frame| {
        match frame {
            Frame::Run(json) => launcher = run(&json, &out, index, commands),
            Frame::Kill(port, run) => {
                if let Some(current) = commands.get(usize::from(port)).map(locked) {
                    // Another command may have taken the place of the one that is meant.
                    if let Some(pid) = current.pid.filter(|_| current.run == run) {
                        let _ = killpg(pid, Signal::SIGKILL);
                    }
                }
            }
            Frame::PowerOff => requests::ask(requests::Request::Off),
            Frame::Reboot => requests::ask(requests::Request::Reboot),
            other => launcher.handle(other),
        }
        true
    });
    if let Err(e) = result {
        log(&format!("the launcher's port fails: {e}"));
    }
}

/// Runs a command; a thread sends how it ended.
fn run(json: &[u8], out: &exec::Port, index: usize, commands: &Commands) -> Launcher {
    let mut current = locked(&commands[index]);
    current.run = current.run.wrapping_add(1);
    drop(current);
    let started = serde_json::from_slice::<Command>(json)
        .map_err(|e| (exec::CANNOT_EXECUTE, format!("the command is not understood: {e}")))
        .and_then(|command| exec::start(&command))
        .and_then(|command| {
            let pid = command.pid;
            exec::connect(command, out).map(|(launcher, pumps)| (pid, launcher, pumps)).map_err(|e| {
                let _ = killpg(pid, Signal::SIGKILL);
                (exec::CANNOT_EXECUTE, e)
            })
        });
    let (pid, launcher, pumps) = match started {
        Ok(started) => started,
        Err((code, text)) => {
            exec::send(out, &Frame::Error(text));
            exec::send(out, &Frame::Exit(code));
            return Launcher::default();
        }
    };
    locked(&commands[index]).pid = Some(pid);
    let (out, commands) = (out.clone(), commands.clone());
    std::thread::spawn(move || {
        // As with ssh, a command has ended when its outputs are closed as well.
        for pump in pumps {
            let _ = pump.join();
        }
        exec::send(&out, &Frame::Exit(wait_for(pid, &commands[index])));
    });
    launcher
}

/// Waits for `pid`, the process of `command`; its exit code, as a shell says it.
fn wait_for(pid: Pid, command: &Mutex<Current>) -> u8 {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(pid), flags) == Err(Errno::EINTR) {}
    locked(command).pid = None;
    match waitpid(pid, None) {
        Ok(WaitStatus::Exited(_, code)) => code as u8,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128u8.wrapping_add(signal as u8),
        _ => exec::CANNOT_EXECUTE,
    }
}

fn locked(command: &Mutex<Current>) -> MutexGuard<'_, Current> {
    command.lock().unwrap_or_else(|e| e.into_inner())
}
