// SPDX-License-Identifier: Apache-2.0
//! The report of what it costs to boot a guest: loft's launcher on loft and on KVM, and QEMU on KVM.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::table::number;

/// What the report is made of.
#[derive(Args)]
pub struct Boots {
    /// What was measured
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The release of the kernel that all ran on, and booted
    #[arg(long)]
    kernel: String,
    /// Write the figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail where a bar is not met
    #[arg(long)]
    bars: bool,
}

/// One measurement, as tests/bench-boot/server.sh prints it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    vmm: String,
    device: String,
    what: String,
    /// Executed by all CPUs.
    instructions: u64,
    /// KiB of memory of the launcher, without its guest's.
    resident: u64,
}

/// What boots are made by: how a line names it, and how the table does.
const ROWS: [(&str, &str, &str); 5] = [
    ("loft", "/dev/loft", "loft's launcher on loft"),
    ("loft", "/dev/kvm", "loft's launcher on KVM"),
    ("qemu", "/dev/kvm", "QEMU on KVM"),
    ("own", "/dev/loft", "with loft's own initial RAM disk, on loft"),
    ("own", "/dev/kvm", "the same on KVM"),
];

/// The most of QEMU's instructions that the launcher's own may be, before the guest's first one.
const OWN_PART: f64 = 0.25;
/// The most of the whole. Nearly all of that is the guest's kernel, which is the same for all, so that no launcher gets far
/// below QEMU's.
const WHOLE_PART: f64 = 1.0;
/// The most resident memory in KiB.
const RESIDENT: u64 = 8 << 10;

/// A boot's figures, all of them medians.
#[derive(Serialize)]
struct Boot {
    name: &'static str,
    /// Instructions from exec to the guest's first one.
    vmm: u64,
    /// From there to the first program on the guest's disk.
    guest: u64,
    /// Both.
    whole: u64,
    /// KiB of the launcher at the end, without its guest's.
    resident: u64,
}

/// The file's form of the report.
#[derive(Serialize)]
struct Report {
    kernel: String,
    unit: &'static str,
    boots: Vec<Boot>,
}

/// Prints the table and writes the file. False where a bar is not met and that counts.
pub fn main(arguments: &Boots) -> Result<bool> {
    let mut text = String::new();
    for path in &arguments.files {
        text += &read(path)?;
    }
    let report = Report::new(&arguments.kernel, &text)?;
    let unmet = report.unmet();
    print!("{}", report.table());
    for bar in &unmet {
        println!("NOT MET: {bar}");
    }
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(unmet.is_empty() || !arguments.bars)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

impl Report {
    fn new(kernel: &str, text: &str) -> Result<Self> {
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Line>(line).with_context(|| format!("not understood: {line}")))
            .collect::<Result<Vec<_>>>()?;
        let boots = ROWS
            .into_iter()
            .map(|(vmm, device, name)| {
                let of = |what: &str, figure: fn(&Line) -> u64| {
                    let here = |line: &&Line| line.vmm == vmm && line.device == device && line.what == what;
                    median(lines.iter().filter(here).map(figure).collect())
                        .with_context(|| format!("{name}: '{what}' was not measured"))
                };
                let (vmm, whole) = (of("first", |line| line.instructions)?, of("up", |line| line.instructions)?);
                ensure!(vmm < whole, "{name}: the guest was up before its first instruction");
                Ok(Boot { name, vmm, guest: whole - vmm, whole, resident: of("up", |line| line.resident)? })
            })
            .collect::<Result<_>>()?;
        Ok(Self { kernel: kernel.into(), unit: "instructions", boots })
    }

    /// For a terminal.
    fn table(&self) -> String {
        let millions = |n: u64| number((n as f64 / 100_000.0).round() / 10.0);
        let width = ROWS.iter().map(|(.., name)| name.len()).max().unwrap_or(0);
        let mut text = format!(
            "Millions of instructions of all CPUs from exec to the first program on the disk. Linux {}.\n",
            self.kernel
        );
        let _ = writeln!(text, "{:width$}  {:>9}  {:>9}  {:>9}  {:>14}", "", "VMM", "guest", "whole", "resident, KiB");
        for boot in &self.boots {
            let _ = writeln!(
                text,
                "{:width$}  {:>9}  {:>9}  {:>9}  {:>14}",
                boot.name,
                millions(boot.vmm),
                millions(boot.guest),
                millions(boot.whole),
                number(boot.resident as f64)
            );
        }
        text
    }

    /// The bars that are not met.
    fn unmet(&self) -> Vec<String> {
        let [ours, _, qemu, own, _] = self.boots.as_slice() else { return Vec::new() };
        let part = |a: u64, b: u64| a as f64 / b as f64;
        let mut unmet = Vec::new();
        let mut bar = |what: &str, value: f64, most: f64| {
            if value > most {
                unmet.push(format!("{what} is {value:.2} of QEMU's, at most {most} is wanted"));
            }
        };
        bar("the launcher's own work", part(ours.vmm, qemu.vmm), OWN_PART);
        bar("the whole", part(ours.whole, qemu.whole), WHOLE_PART);
        for boot in [ours, own].into_iter().filter(|boot| boot.resident > RESIDENT) {
            unmet.push(format!("{}: {} KiB are resident, at most {RESIDENT} are wanted", boot.name, boot.resident));
        }
        unmet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(of: impl Fn(&str, &str) -> (u64, u64, u64)) -> String {
        let mut text = String::new();
        for (vmm, device, _) in ROWS {
            let (first, up, resident) = of(vmm, device);
            for (what, instructions) in [("first", first), ("first", first + 2), ("up", up), ("up", up + 5)] {
                text += &format!(
                    "{{\"vmm\":\"{vmm}\",\"device\":\"{device}\",\"what\":\"{what}\",\
                     \"instructions\":{instructions},\"resident\":{resident}}}\n"
                );
            }
        }
        text
    }

    #[test]
    fn bars_are_of_qemu() {
        let met = |vmm: &str, _: &str| if vmm == "qemu" { (400, 1000, 50_000) } else { (100, 1000, 8192) };
        let report = Report::new("7.2.0", &lines(met)).unwrap();
        assert_eq!((report.boots[2].vmm, report.boots[2].guest, report.boots[2].whole), (400, 600, 1000));
        assert_eq!(report.unmet(), [""; 0]);
        let not = |vmm: &str, _: &str| if vmm == "qemu" { (400, 1000, 50_000) } else { (101, 1001, 8193) };
        assert_eq!(Report::new("7.2.0", &lines(not)).unwrap().unmet().len(), 4);
        assert!(report.table().contains("QEMU on KVM"));
    }

    #[test]
    fn what_is_missing_is_an_error() {
        let text = lines(|_, _| (1, 2, 3)).replace("qemu", "other");
        assert!(Report::new("7.2.0", &text).err().unwrap().to_string().contains("QEMU on KVM: 'first'"));
    }
}
