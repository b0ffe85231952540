// SPDX-License-Identifier: Apache-2.0
//! The report of the application workloads: natively, on KVM and on loft.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    picture::{Bar, Chart, Scale},
    table::number,
};

/// What the report is made of.
#[derive(Args)]
pub struct Apps {
    /// What the workloads took natively
    #[arg(long, value_name = "FILE")]
    native: PathBuf,
    /// What they took on KVM
    #[arg(long, value_name = "FILE")]
    kvm: PathBuf,
    /// What they took on loft
    #[arg(long, value_name = "FILE")]
    loft: PathBuf,
    /// The release of the kernel that all ran on
    #[arg(long)]
    kernel: String,
    /// Write the figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the picture here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Fail where a bar is not met
    #[arg(long)]
    bars: bool,
}

/// The most that a workload may cost on loft, as a part of what it costs natively: those that hardly leave the guest, and those
/// that wait for each other and for the network. None may cost more than on KVM.
const BARS: [(&str, f64); 14] = [
    ("hackbench", 1.05),
    ("fork", 1.05),
    ("exec", 1.05),
    ("switch", 1.05),
    ("wake", 1.2),
    ("pipe", 1.2),
    ("kernbench", 1.05),
    ("netperf_rr", 1.8),
    ("netperf_stream", 1.8),
    ("netperf_maerts", 1.8),
    ("memcached", 1.4),
    ("apache", 1.15),
    ("mariadb", 1.05),
    ("fio", 1.05),
];
/// The most of KVM's that loft's may be, as the geometric mean of all workloads.
const MEAN: f64 = 0.85;

/// Counters by name.
type Counters = BTreeMap<String, u64>;

/// One workload, as the driver prints it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub name: String,
    work: String,
    pub rounds: Vec<Round>,
    /// How many of them the figure is of, the last ones: they agree, or are all.
    agree: usize,
    /// The hypervisor's counters before the first round.
    before: Counters,
    /// And after the last one.
    after: Counters,
}

/// What one round took.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// Executed by all CPUs.
    pub instructions: u64,
    /// Ticks of the clock; it also goes on where all CPUs are idle.
    elapsed: u64,
}

/// What a workload took on one side.
#[derive(Serialize)]
struct Figure {
    /// Instructions of the cheapest round.
    min: u64,
    /// Of the one in the middle.
    median: u64,
    /// Of the dearest.
    max: u64,
    /// The median of the time.
    elapsed: u64,
    /// How often the guest was left in a round, by reason.
    exits: Counters,
}

impl Figure {
    fn new(line: &Line) -> Result<Self> {
        let used = line.rounds.len().checked_sub(line.agree).and_then(|first| line.rounds.get(first..));
        let used =
            used.filter(|rounds| !rounds.is_empty()).with_context(|| format!("{}: there is no round", line.name))?;
        let sorted = |value: fn(&Round) -> u64| {
            let mut values: Vec<u64> = used.iter().map(value).collect();
            values.sort_unstable();
            values
        };
        let (instructions, elapsed) = (sorted(|round| round.instructions), sorted(|round| round.elapsed));
        let middle = (used.len() - 1) / 2;
        let exits = line
            .after
            .iter()
            .map(|(name, after)| {
                let counted = after.saturating_sub(line.before.get(name).copied().unwrap_or(0));
                (name.clone(), counted / line.rounds.len() as u64)
            })
            .collect();
        Ok(Self {
            min: instructions[0],
            median: instructions[middle],
            max: instructions[instructions.len() - 1],
            elapsed: elapsed[middle],
            exits,
        })
    }

    /// Its counters that tell why guests were left, the most frequent first.
    fn reasons(&self) -> Vec<(&str, u64)> {
        // These count something else, or are sums.
        let other = |name: &str| name == "exits" || name.starts_with("halt_") || name == "blocking";
        let mut reasons: Vec<(&str, u64)> = self
            .exits
            .iter()
            .filter(|(name, n)| **n > 0 && !other(name))
            .map(|(name, n)| (name.as_str(), *n))
            .collect();
        reasons.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
        reasons
    }
}

/// A workload on all sides.
#[derive(Serialize)]
struct Workload {
    name: String,
    work: String,
    native: Figure,
    kvm: Figure,
    loft: Figure,
    /// KVM's instructions as a part of the native ones.
    kvm_overhead: f64,
    /// loft's.
    loft_overhead: f64,
    /// loft's as a part of KVM's.
    ratio: f64,
}

/// The file's form of the report.
#[derive(Serialize)]
struct Report {
    kernel: String,
    unit: &'static str,
    workloads: Vec<Workload>,
}

/// Prints the table and writes the files.
pub fn main(arguments: &Apps) -> Result<()> {
    let read = |path: &Path| -> Result<String> {
        fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let report =
        Report::new(&arguments.kernel, &read(&arguments.native)?, &read(&arguments.kvm)?, &read(&arguments.loft)?)?;
    print!("{}", report.table());
    let write = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    if let Some(path) = &arguments.json {
        write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    if let Some(path) = &arguments.svg {
        write(path, &report.chart().svg())?;
    }
    let missed = report.missed();
    for bar in &missed {
        println!("bar not met: {bar}");
    }
    ensure!(!arguments.bars || missed.is_empty(), "{} bars are not met", missed.len());
    Ok(())
}

/// What the driver printed on one side.
pub fn parse(side: &str, text: &str) -> Result<Vec<Line>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not understood, of {side}: {line}")))
        .collect()
}

impl Report {
    /// Puts the sides together: each must have all workloads.
    fn new(kernel: &str, native: &str, kvm: &str, loft: &str) -> Result<Self> {
        let (kvm, loft) = (parse("KVM", kvm)?, parse("loft", loft)?);
        let find = |lines: &[Line], side: &str, name: &str| -> Result<Figure> {
            let line = lines.iter().find(|line| line.name == name);
            Figure::new(line.with_context(|| format!("{name} was not measured on {side}"))?)
        };
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        let mut workloads = Vec::new();
        for line in parse("the native run", native)? {
            let figure = Figure::new(&line)?;
            let (kvm, loft) = (find(&kvm, "KVM", &line.name)?, find(&loft, "loft", &line.name)?);
            let part = |of: &Figure, whole: &Figure| rounded(of.median as f64 / whole.median as f64);
            workloads.push(Workload {
                kvm_overhead: part(&kvm, &figure),
                loft_overhead: part(&loft, &figure),
                ratio: part(&loft, &kvm),
                name: line.name,
                work: line.work,
                native: figure,
                kvm,
                loft,
            });
        }
        ensure!(!workloads.is_empty(), "nothing was measured");
        Ok(Self { kernel: kernel.into(), unit: "instructions", workloads })
    }

    /// loft's as a part of KVM's: the geometric mean.
    fn mean(&self) -> f64 {
        let logarithms: f64 = self.workloads.iter().map(|w| (w.loft.median as f64 / w.kvm.median as f64).ln()).sum();
        (logarithms / self.workloads.len() as f64).exp()
    }

    /// What is dearer than it may be.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for w in &self.workloads {
            if w.ratio > 1.0 {
                missed.push(format!("{}: {:.3} of KVM's, at most 1", w.name, w.ratio));
            }
            if let Some((_, bar)) = BARS.iter().find(|(name, bar)| *name == w.name && w.loft_overhead > *bar) {
                missed.push(format!("{}: {:.3} of the native work's, at most {bar}", w.name, w.loft_overhead));
            }
        }
        // Of a few workloads it would say nothing.
        if self.workloads.len() == BARS.len() && self.mean() > MEAN {
            missed.push(format!("geometric mean: {:.3} of KVM's, at most {MEAN}", self.mean()));
        }
        missed
    }

    /// For a terminal.
    fn table(&self) -> String {
        let width = self.workloads.iter().map(|w| w.name.len()).max().unwrap_or(0).max("workload".len());
        let millions = |n: u64| number((n as f64 / 100_000.0).round() / 10.0);
        // How far the rounds are from each other.
        let spread = |f: &Figure| {
            let half = 50.0 * (f.max - f.min) as f64 / f.median.max(1) as f64;
            format!("{:>8} ±{:>4.1}%", millions(f.median), half)
        };
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "{}", line.to_string().trim_end());
        };
        line(format_args!(
            "Millions of instructions until the work is done, of all CPUs; median of the rounds that agree, or of all. Linux {}.",
            self.kernel
        ));
        line(format_args!(
            "{:width$}  {:>15}  {:>15}  {:>15}  {:>10}  {:>11}  {:>8}",
            "workload", "native", "KVM", "loft", "KVM/native", "loft/native", "loft/KVM"
        ));
        for w in &self.workloads {
            line(format_args!(
                "{:width$}  {}  {}  {}  {:>10.3}  {:>11.3}  {:>8.3}",
                w.name,
                spread(&w.native),
                spread(&w.kvm),
                spread(&w.loft),
                w.kvm_overhead,
                w.loft_overhead,
                w.ratio
            ));
        }
        line(format_args!("loft/KVM as geometric mean: {:.3}", self.mean()));
        line(format_args!("Exits of a round, by the hypervisor's own counters:"));
        for w in &self.workloads {
            for (side, figure) in [("KVM", &w.kvm), ("loft", &w.loft)] {
                let all = figure.exits.get("exits").map_or("?".into(), |n| number(*n as f64));
                let reasons: Vec<String> =
                    figure.reasons().iter().map(|(name, n)| format!("{name} {}", number(*n as f64))).collect();
                line(format_args!("{:width$}  {side:4}  {all:>9}  {}", w.name, reasons.join(", ")));
            }
        }
        for w in &self.workloads {
            line(format_args!("{:width$}  {}", w.name, w.work));
        }
        text
    }

    fn chart(&self) -> Chart {
        let most = self.workloads.iter().flat_map(|w| [w.kvm_overhead, w.loft_overhead]).fold(1.0, f64::max);
        let bar = |value: f64| Bar::Value(value, format!("{value:.2}"));
        Chart {
            title: "What application workloads cost on loft and on KVM",
            heading: "Instructions until the work is done, compared with the same work without a hypervisor",
            note: format!("1 is native, less is better; Linux {}", self.kernel),
            scale: Scale::Linear { end: most.ceil() },
            rows: self
                .workloads
                .iter()
                .map(|w| (w.name.clone(), [bar(w.loft_overhead), bar(w.kvm_overhead)]))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, rounds: &[u64], exits: u64) -> String {
        let rounds: Vec<String> =
            rounds.iter().map(|n| format!("{{\"instructions\":{n},\"elapsed\":{}}}", n + 1)).collect();
        format!(
            "{{\"name\":\"{name}\",\"work\":\"w\",\"rounds\":[{}],\"agree\":{},\"before\":{{\"exits\":10,\"wfi\":1}},\"after\":{{\"exits\":{},\"wfi\":1}}}}\n",
            rounds.join(","),
            rounds.len().min(3),
            10 + exits
        )
    }

    #[test]
    fn the_sides_are_compared() {
        let report = Report::new(
            "7.2.0",
            &line("a", &[900, 100, 300, 200], 0),
            &line("a", &[400], 40),
            &line("a", &[500, 300, 301], 30),
        )
        .unwrap();
        let a = &report.workloads[0];
        assert_eq!((a.native.min, a.native.median, a.native.max, a.native.elapsed), (100, 200, 300, 201));
        assert_eq!((a.kvm_overhead, a.loft_overhead, a.ratio), (2.0, 1.505, 0.753));
        assert_eq!((a.kvm.exits["exits"], a.loft.exits["exits"]), (40, 10));
        assert!(a.loft.reasons().is_empty());
        assert!(report.table().contains("0.753"));
        assert!(report.chart().svg().contains("1.50"));
        assert!(report.missed().is_empty());
    }

    #[test]
    fn bars() {
        let report =
            Report::new("7.2.0", &line("fork", &[100], 0), &line("fork", &[105], 0), &line("fork", &[106], 0)).unwrap();
        assert_eq!(
            report.missed(),
            ["fork: 1.010 of KVM's, at most 1".to_string(), "fork: 1.060 of the native work's, at most 1.05".into()]
        );
        let all = |median: u64| -> String { BARS.iter().map(|(name, _)| line(name, &[median], 0)).collect() };
        assert!(Report::new("7.2.0", &all(100), &all(120), &all(102)).unwrap().missed().is_empty());
        let report = Report::new("7.2.0", &all(100), &all(110), &all(102)).unwrap();
        assert_eq!(report.missed(), ["geometric mean: 0.927 of KVM's, at most 0.85"]);
    }

    #[test]
    fn rounds_that_are_not_there_are_an_error() {
        let broken = line("a", &[1, 2], 0).replace("\"agree\":2", "\"agree\":3");
        assert!(Report::new("7.2.0", &broken, &broken, &broken).is_err());
    }

    #[test]
    fn what_is_missing_is_an_error() {
        let missing = Report::new("7.2.0", &line("a", &[1], 0), &line("a", &[1], 0), &line("b", &[1], 0));
        assert!(missing.err().unwrap().to_string().contains("a was not measured on loft"));
    }
}
