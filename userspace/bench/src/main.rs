// SPDX-License-Identifier: Apache-2.0
//! The reports of the microbenchmarks in `tests/bench`.
//!
//! `report` reads what they printed on loft and on KVM, prints the table, writes it as JSON and as a picture, and says what
//! has become slower than the baseline and which bars are not met. `capture` and `anatomy` take single exits apart. `apps` is
//! the report of the application workloads in `tests/apps`, `boot` that of `tests/bench-boot`.
//! `explain` says where the instructions of an application workload are.

mod anatomy;
mod apps;
mod bars;
mod baseline;
mod boot;
mod capture;
mod explain;
mod groups;
mod instructions;
mod measured;
mod operations;
mod picture;
mod report;
mod symbols;
mod table;
mod trace;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, Parser};

use crate::{baseline::Baseline, measured::Measured, report::Report};

/// What the command line says.
#[derive(Parser)]
#[command(about)]
enum Command {
    /// The table of both hypervisors
    Report(Arguments),
    /// Have the emulator log the instructions of each kind of exit
    Capture(capture::Capture),
    /// Take the exits in such logs apart
    Anatomy(anatomy::Anatomy),
    /// The table of the application workloads
    Apps(apps::Apps),
    /// Where a workload's instructions are
    Explain(explain::Explain),
    /// The table of what booting costs
    Boot(boot::Boots),
}

/// What the report is made of.
#[derive(Args)]
struct Arguments {
    /// What the benchmarks printed on loft, in the order of the table
    #[arg(long, num_args = 1.., required = true, value_name = "LOG")]
    loft: Vec<PathBuf>,
    /// What they printed on KVM
    #[arg(long, num_args = 1.., required = true, value_name = "LOG")]
    kvm: Vec<PathBuf>,
    /// The release of the kernel that both ran on
    #[arg(long)]
    kernel: String,
    /// Write the figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the picture here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Fail where an operation is slower on loft than this file says
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the baseline instead of comparing with it
    #[arg(long, requires = "baseline")]
    update: bool,
    /// Fail where a bar is not met
    #[arg(long)]
    bars: bool,
    /// Only some of the benchmarks were run: the baseline may hold more
    #[arg(long, conflicts_with = "update")]
    some: bool,
}

fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Report(arguments) => compare(&arguments),
        Command::Capture(arguments) => capture::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Anatomy(arguments) => anatomy::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Apps(arguments) => apps::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Explain(arguments) => explain::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Boot(arguments) => Ok(if boot::main(&arguments)? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

fn compare(arguments: &Arguments) -> Result<ExitCode> {
    let report = Report::new(&arguments.kernel, read(&arguments.loft)?, read(&arguments.kvm)?);
    print!("{}", table::table(&report));
    if let Some(path) = &arguments.json {
        write(path, &report.json()?)?;
    }
    if let Some(path) = &arguments.svg {
        write(path, &picture::svg(&report))?;
    }

    let mut problems = report.failures();
    if let Some(path) = &arguments.baseline {
        if arguments.update {
            anyhow::ensure!(problems.is_empty(), "the baseline stays as it is: {}", problems.join("; "));
            write(path, &Baseline::of(&report).json()?)?;
        } else {
            let text = fs::read_to_string(path)
                .with_context(|| format!("{} cannot be read (make bench UPDATE=1 writes it)", path.display()))?;
            let baseline = Baseline::parse(&text).with_context(|| format!("{} is not understood", path.display()))?;
            let comparison = baseline.compare(&report, arguments.some);
            for note in comparison.notes {
                println!("note: {note}");
            }
            problems.extend(comparison.problems);
        }
    }
    if arguments.bars {
        problems.extend(report.unmet());
    }
    for problem in &problems {
        eprintln!("FAIL  {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All logs of one hypervisor.
fn read(logs: &[PathBuf]) -> Result<Measured> {
    let mut measured = Measured::default();
    for log in logs {
        let text = fs::read_to_string(log).with_context(|| format!("{} cannot be read", log.display()))?;
        measured.add(&text).with_context(|| format!("{} is not understood", log.display()))?;
    }
    Ok(measured)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
