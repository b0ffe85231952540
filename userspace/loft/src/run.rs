// SPDX-License-Identifier: Apache-2.0
//! `loft run`: from the command line to a machine, and from its ending to an exit code.

use crate::cli::{ConsoleKind, RunArgs};
use crate::{cmdline, disks, ending::Ending, guest, memory};
use anyhow::{bail, Context, Result};
use loft_agent::task::{Action, Command};
use loft_boot::image::Kernel;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;

/// What boots, decided before any device exists.
pub struct Plan {
    pub kernel: Kernel,
    pub initrd: Vec<Vec<u8>>,
    pub cmdline: String,
    pub console: ConsoleKind,
    /// The command has a terminal.
    pub terminal: bool,
}

/// Checks what the user gave and decides what boots.
pub fn plan(args: &RunArgs) -> Result<Plan> {
    memory::check(args.memory, &std::fs::read_to_string("/proc/meminfo").unwrap_or_default())?;
    let kernel = Kernel::open(&args.kernel)?;
    let found = args.disks.iter().map(disks::check).collect::<Result<Vec<_>>>()?;
    let initrd = match &args.initrd {
        Some(path) => Some(
            std::fs::read(path).with_context(|| format!("the initial RAM disk {} cannot be read", path.display()))?,
        ),
        None => None,
    };

    let command = !args.command.is_empty();
    let append = args.append.join(" ");
    let manages_itself = ["root=", "rdinit="].iter().any(|p| append.split_whitespace().any(|w| w.starts_with(p)));
    let own_init = command || (initrd.is_none() && !args.disks.is_empty() && !manages_itself);
    if !own_init && args.modules.is_some() {
        bail!(
            "--modules is of no use here: the initial RAM disk given with -i brings its own modules; \
             leave one of the two out, or give a command"
        );
    }
    let console = args.console.unwrap_or(if own_init { ConsoleKind::Hvc0 } else { ConsoleKind::Serial });
    let terminal = command && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();

    let mut parts = Vec::new();
    if own_init {
        let root = match (args.disks.first(), found.first()) {
            (Some(arg), Some(found)) => match disks::root(arg, found) {
                Ok(root) => Some(root),
                // What -i gave can be the root as well.
                Err(_) if initrd.is_some() => None,
                Err(error) => return Err(error),
            },
            _ if initrd.is_some() => None,
            _ => bail!("there is nothing to run the command in: give a disk with -d, or an initial RAM disk with -i"),
        };
        let modules = guest::find_modules(args.modules.as_deref(), &kernel, &args.kernel)?;
        let drivers = guest::drivers(!args.disks.is_empty(), !args.nets.is_empty(), args.vsock.is_some());
        parts.push(guest::archive(modules.as_ref(), &drivers, root, action(args, console, terminal))?);
    }
    parts.extend(initrd);
    let first = guest::first_process();
    let cmdline = cmdline::build(cmdline::Wish {
        console,
        command,
        verbose: args.verbose,
        rdinit: own_init.then_some(first.as_str()),
        append: &append,
    });
    Ok(Plan { kernel, initrd: parts, cmdline, console, terminal })
}

fn action(args: &RunArgs, console: ConsoleKind, terminal: bool) -> Action {
    if args.command.is_empty() {
        let console = match console {
            ConsoleKind::Hvc0 => "/dev/hvc0",
            ConsoleKind::Serial => "/dev/ttyS0",
        };
        return Action::Init { console: console.into() };
    }
    let env = ["TERM", "LANG", "COLORTERM"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?.as_bytes().to_vec())))
        .collect();
    Action::Command(Command {
        argv: args.command.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env,
        terminal: if terminal { Some(crate::session::window().unwrap_or((80, 24))) } else { None },
    })
}

/// The result for `--json`.
pub fn report(ending: &Ending, code: u8, status: Option<u8>, facts: serde_json::Value) -> String {
    let mut report = serde_json::json!({
        "ending": ending.name(),
        "detail": ending.detail(),
        "exit_code": code,
        "command_exit_code": status,
    });
    if let (Some(report), serde_json::Value::Object(facts)) = (report.as_object_mut(), facts) {
        report.extend(facts);
    }
    report.to_string()
}

#[cfg(not(target_arch = "aarch64"))]
pub fn main(args: &RunArgs) -> Result<u8> {
    let _ = plan(args)?;
    bail!("guests can be run on arm64 machines only")
}

#[cfg(target_arch = "aarch64")]
pub use crate::launch::main;
