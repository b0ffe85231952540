// SPDX-License-Identifier: Apache-2.0
//! The guest's first process.
//!
//! It never returns: it becomes the root file system's own init, or switches the guest off. A second process stays and
//! does what the launcher asks for while the guest runs. What goes wrong is printed
//! to the kernel's log, which the launcher shows, and sent to the launcher if the port is there.

mod exec;
mod modules;
mod mounts;
mod network;
mod port;
mod power;
mod requests;
mod service;

use crate::task::{Action, Root, Task, DIRECTORY, FILE, PORT};
use requests::Request;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// An error's text; the launcher prints it as it is.
type Result<T> = std::result::Result<T, String>;

/// Whether this process is a guest's first one with a task from the launcher.
pub fn is_first_process() -> bool {
    std::process::id() == 1 && task_file().exists()
}

fn task_file() -> PathBuf {
    Path::new("/").join(DIRECTORY).join(FILE)
}

/// Does the task.
pub fn main() -> ! {
    let begun = Instant::now();
    let result: Result<Request> = (|| {
        mounts::kernel_file_systems("/")?;
        let text = std::fs::read(task_file()).map_err(|e| format!("the task cannot be read: {e}"))?;
        let task: Task = serde_json::from_slice(&text).map_err(|e| format!("the task is not understood: {e}"))?;
        modules::load(&task.modules)?;
        match &task.action {
            Action::Init { console, env } => become_init(&task, console, env),
            Action::Command(command) => {
                let port = port::open(PORT)?;
                exec::run(&port, command, begun, || {
                    prepare_root(&task)?;
                    set_name();
                    network::loopback();
                    task.network.as_ref().map_or(Ok(()), network::set_up)?;
                    service::start();
                    Ok(())
                })
            }
        }
    })();
    power::down(result.unwrap_or_else(|error| {
        log(&error);
        Request::Off
    }))
}

fn prepare_root(task: &Task) -> Result<()> {
    if let Some(root) = &task.root {
        mounts::switch_root(root)?;
    }
    // What is in /tmp can be the command's directory.
    mounts::user_file_systems(!matches!(task.root, Some(Root::Host { .. })));
    mounts::shares(&task.shares)
}

/// Gives the guest the name that its root file system has for it. One that has a name has it from the kernel's parameters.
fn set_name() {
    if nix::unistd::gethostname().is_ok_and(|name| name != "(none)") {
        return;
    }
    let file = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = file.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#')).unwrap_or("guest");
    if let Err(e) = nix::unistd::sethostname(name) {
        log(&format!("the guest cannot be named {name}: {e}"));
    }
}

fn become_init(task: &Task, console: &str, env: &[(String, Vec<u8>)]) -> Result<Request> {
    prepare_root(task)?;
    service::start();
    exec::use_console(console);
    let candidates = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];
    for path in candidates {
        if Path::new(path).exists() {
            let error = exec::replace(OsStr::from_bytes(path.as_bytes()), env);
            log(&format!("{path} cannot be executed: {error}"));
        }
    }
    Err(format!("the root file system has no init: none of {} is there", candidates.join(", ")))
}

/// Prints to the kernel's log: that reaches a console if there is one.
fn log(text: &str) {
    if let Ok(mut kmsg) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // <2> is KERN_CRIT: shown although the kernel is told to be quiet.
        let _ = kmsg.write_all(format!("<2>loft: {text}\n").as_bytes());
    }
}
