// SPDX-License-Identifier: Apache-2.0
//! loft: boots an arm64 Linux guest on /dev/loft, or on /dev/kvm.

// Elsewhere only the tests and the checks of what was given run: the parts that drive a machine have no caller.
#![cfg_attr(not(target_arch = "aarch64"), allow(dead_code, unused_imports))]

mod cli;
mod client;
mod cmdline;
mod config;
mod console_log;
mod control;
mod detach;
mod disks;
mod doctor;
mod ending;
mod gdb;
mod guest;
mod guests;
mod initrd;
mod jail;
#[cfg(target_arch = "aarch64")]
mod launch;
mod memory;
mod node;
mod others;
mod output;
mod passt;
mod program;
mod run;
mod sandbox;
mod session;
mod share;
mod signals;
mod ssh;
mod stat;
mod statsfd;
mod top;
#[cfg(target_arch = "aarch64")]
mod vm;
mod warnings;
mod with;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let begun = Instant::now();
    // In a guest this same program is the first process.
    if loft_agent::guest::is_first_process() {
        loft_agent::guest::main();
    }
    let result = command_line().and_then(|matches| execute(matches, begun));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            loft_devices::terminal::restore();
            // Whoever closes a pipe early has had enough: nothing to complain about.
            if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
                return ExitCode::from(ending::OUTPUT_CLOSED);
            }
            output::message(&format!("loft: {error:#}"));
            ExitCode::from(ending::FAILED)
        }
    }
}

/// What the command line asks for, with what is in the file of --config.
fn command_line() -> anyhow::Result<clap::ArgMatches> {
    Ok(cli::Cli::command().get_matches_from(config::expand(std::env::args_os().collect())?))
}

fn execute(matches: clap::ArgMatches, begun: Instant) -> anyhow::Result<u8> {
    match cli::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command {
        cli::Command::Run(args) if args.print_config => {
            let run = matches.subcommand_matches("run").context("there is no `loft run`")?;
            output::write_all(rustix::stdio::stdout(), config::print(run)?.as_bytes())?;
            Ok(0)
        }
        cli::Command::Run(args) => run::main(&args, begun),
        cli::Command::Doctor(args) => doctor::main(&args),
        cli::Command::With(args) => with::main(&args),
        cli::Command::Ps(args) => client::ps(&args),
        cli::Command::Stat(args) => stat::main(&args),
        cli::Command::Top(args) => top::main(&args),
        cli::Command::Stop(args) => client::stop(&args),
        cli::Command::Reboot(args) => client::reboot(&args),
        cli::Command::Pause(args) => client::pause(&args),
        cli::Command::Resume(args) => client::resume(&args),
        cli::Command::Memory(args) => client::memory(&args),
        cli::Command::Console(args) => client::console(&args),
        cli::Command::Exec(args) => client::exec(&args),
        cli::Command::Ssh(args) => ssh::main(&args),
        cli::Command::VsockConnect(args) => ssh::connect_vsock(&args),
        cli::Command::Man(args) => manual(args.command.as_deref()),
        cli::Command::Completions(args) => completions(args.shell),
    }
}

fn manual(name: Option<&str>) -> anyhow::Result<u8> {
    let mut page = Vec::new();
    if !man::write(cli::Cli::command(), name, &mut page)? {
        anyhow::bail!("there is no command {}; `loft help` lists them", name.unwrap_or_default());
    }
    output::write_all(rustix::stdio::stdout(), &page)?;
    Ok(0)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::Cli::command(), "loft", &mut script);
    output::write_all(rustix::stdio::stdout(), &script)?;
    Ok(0)
}

mod man;
