// SPDX-License-Identifier: Apache-2.0
//! Exits taken apart: what lies between two instructions of the guest's in a log of all that was executed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    groups::Group,
    instructions::Kind,
    operations::OPERATIONS,
    symbols::Symbols,
    table::number,
    trace::{self, Code},
};

/// What the command line says.
#[derive(Args)]
pub struct Anatomy {
    /// The logs and the symbols (kallsyms) of loft
    #[arg(long)]
    loft: PathBuf,
    /// Those of KVM
    #[arg(long)]
    kvm: PathBuf,
    /// The symbols (nm) of the programs
    #[arg(long)]
    programs: PathBuf,
    /// What an instruction costs, by kind
    #[arg(long)]
    weights: PathBuf,
    /// Write the figures here
    #[arg(long)]
    json: PathBuf,
    /// Write a listing of each exit here, HYPERVISOR/OPERATION.txt
    #[arg(long)]
    listings: PathBuf,
}

/// Programs are linked to run here; the kernel is far above.
const PROGRAM_END: u64 = 0x5000_0000;
/// The guest's functions in a program; all others are the VMM's.
const GUEST: &[&str] = &["interrupt", "vectors", "touch", "send_all", "bench_sleep", "bench_gic_up"];
const GUEST_PREFIX: &str = "guest_";
/// The weight of what is no instruction: the way from EL1 to EL2.
const TRAP: &str = "trap";

/// A line of the file of weights.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Weight {
    kind: String,
    cycles: f64,
    source: String,
}

/// One exit.
#[derive(Debug, PartialEq, Serialize)]
struct Exit {
    instructions: usize,
    /// How many exits as long as this one there were among how many.
    seen: (usize, usize),
    groups: BTreeMap<&'static str, usize>,
    kinds: BTreeMap<&'static str, usize>,
    /// An estimate, by the weights.
    cycles: f64,
}

/// The file's form of an operation.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    loft: Option<Exit>,
    kvm: Option<Exit>,
}

/// The file.
#[derive(Serialize)]
struct Report {
    operations: Vec<Row>,
    weights: Vec<Weight>,
}

/// Whose an instruction is.
enum Owner<'a> {
    Guest,
    Vmm(&'a str, u64),
    Kernel(&'a str, u64),
}

/// All that is needed to tell whose.
struct Names<'a> {
    kernel: &'a Symbols,
    program: &'a Symbols,
}

impl Names<'_> {
    fn owner(&self, address: u64) -> Owner<'_> {
        if address < PROGRAM_END {
            return match self.program.find(address) {
                Some((symbol, _)) if symbol.name.starts_with(GUEST_PREFIX) || GUEST.contains(&symbol.name.as_str()) => {
                    Owner::Guest
                }
                Some((symbol, offset)) => Owner::Vmm(&symbol.name, offset),
                None => Owner::Vmm("?", 0),
            };
        }
        match self.kernel.find(address) {
            Some((symbol, offset)) => Owner::Kernel(&symbol.name, offset),
            // The C library may be elsewhere.
            None => Owner::Vmm("?", 0),
        }
    }
}

/// Everything.
pub fn main(arguments: &Anatomy) -> Result<()> {
    let text = fs::read_to_string(&arguments.weights).with_context(|| format!("{}", arguments.weights.display()))?;
    let weights: Vec<Weight> =
        serde_json::from_str(&text).with_context(|| format!("{} is not understood", arguments.weights.display()))?;
    check(&weights)?;
    let mut sides = [(&arguments.loft, "loft"), (&arguments.kvm, "kvm")].into_iter().map(|(logs, hypervisor)| {
        let listings = arguments.listings.join(hypervisor);
        fs::create_dir_all(&listings)?;
        exits(logs, &arguments.programs, &listings, &weights)
    });
    let (mut loft, mut kvm) =
        (sides.next().unwrap_or_else(|| Ok(HashMap::new()))?, sides.next().unwrap_or_else(|| Ok(HashMap::new()))?);
    let operations = OPERATIONS
        .iter()
        .map(|operation| Row {
            name: operation.name,
            loft: loft.remove(operation.name),
            kvm: kvm.remove(operation.name),
        })
        .collect();
    let report = Report { operations, weights };
    print!("{}", tables(&report));
    fs::write(&arguments.json, serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(())
}

/// There has to be a weight for everything, and nothing else.
fn check(weights: &[Weight]) -> Result<()> {
    for name in Kind::ALL.iter().map(|(_, name)| *name).chain([TRAP]) {
        ensure!(
            weights.iter().filter(|weight| weight.kind == name).count() == 1,
            "one weight for '{name}' is expected"
        );
    }
    ensure!(weights.len() == Kind::ALL.len() + 1, "there are weights for kinds that do not exist");
    Ok(())
}

/// One hypervisor's exits, of those operations that there is a log of.
fn exits(logs: &Path, programs: &Path, listings: &Path, weights: &[Weight]) -> Result<HashMap<&'static str, Exit>> {
    let read = |path: PathBuf| fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()));
    let kernel = Symbols::parse(&read(logs.join("kallsyms"))?)?;
    let mut code = Code::default();
    let mut exits = HashMap::new();
    for operation in OPERATIONS {
        let log = logs.join(format!("{}.log", operation.name));
        let Ok(file) = File::open(&log) else { continue };
        let program = Symbols::parse(&read(programs.join(operation.program))?)?;
        let names = Names { kernel: &kernel, program: &program };
        let executed = trace::read(BufReader::new(file), operation.cpu, &mut code)?;
        let Some((exit, seen)) = typical(&executed, |address| matches!(names.owner(address), Owner::Guest)) else {
            continue;
        };
        fs::write(listings.join(format!("{}.txt", operation.name)), listing(exit, &names, &code))?;
        exits.insert(operation.name, count(exit, seen, &names, &code, weights));
    }
    Ok(exits)
}

/// The exit whose length is the most frequent one, and how frequent it is among all. The others hold an interrupt of the
/// host's, or are of another kind.
fn typical(executed: &[u64], is_guest: impl Fn(u64) -> bool) -> Option<(&[u64], (usize, usize))> {
    let mut exits: Vec<&[u64]> = executed.split(|address| is_guest(*address)).collect();
    // Before the guest's first and after its last instruction only a part was logged.
    if exits.len() < 3 {
        return None;
    }
    exits.pop();
    exits.remove(0);
    exits.retain(|exit| !exit.is_empty());
    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    for exit in &exits {
        *lengths.entry(exit.len()).or_default() += 1;
    }
    let (length, seen) = lengths.into_iter().max_by_key(|(_, seen)| *seen)?;
    let exit = exits.iter().find(|exit| exit.len() == length)?;
    Some((exit, (seen, exits.len())))
}

fn count(exit: &[u64], seen: (usize, usize), names: &Names<'_>, code: &Code, weights: &[Weight]) -> Exit {
    let mut groups: BTreeMap<&'static str, usize> = Group::ALL.iter().map(|(_, name)| (*name, 0)).collect();
    let mut kinds: BTreeMap<&'static str, usize> = Kind::ALL.iter().map(|(_, name)| (*name, 0)).collect();
    for address in exit {
        let group = match names.owner(*address) {
            Owner::Kernel(function, _) => Group::of(function),
            _ => Group::Syscall,
        };
        let kind = code.text(*address).map_or(Kind::Plain, Kind::of);
        for (known, name) in Group::ALL {
            *groups.entry(name).or_default() += usize::from(*known == group);
        }
        for (known, name) in Kind::ALL {
            *kinds.entry(name).or_default() += usize::from(*known == kind);
        }
    }
    let weight = |kind: &str| weights.iter().find(|weight| weight.kind == kind).map_or(0.0, |weight| weight.cycles);
    let cycles = kinds.iter().map(|(kind, number)| weight(kind) * *number as f64).sum::<f64>() + weight(TRAP);
    Exit { instructions: exit.len(), seen, groups, kinds, cycles: cycles.round() }
}

fn listing(exit: &[u64], names: &Names<'_>, code: &Code) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for address in exit {
        let (function, offset, group) = match names.owner(*address) {
            Owner::Kernel(function, offset) => (function, offset, Group::of(function)),
            Owner::Vmm(function, offset) => (function, offset, Group::Syscall),
            Owner::Guest => ("?", 0, Group::Other),
        };
        if last != function {
            let group = Group::ALL.iter().find(|(known, _)| *known == group).map_or("", |(_, name)| name);
            let _ = writeln!(text, "{function}  ({group})");
            last = function.into();
        }
        let _ = writeln!(text, "    +{offset:#06x}  {}", code.text(*address).unwrap_or("?"));
    }
    text
}

/// Both tables, and where the weights are from.
fn tables(report: &Report) -> String {
    let mut text = String::new();
    let groups: Vec<&str> = Group::ALL.iter().map(|(_, name)| *name).collect();
    let kinds: Vec<&str> = Kind::ALL.iter().map(|(_, name)| *name).collect();
    let mut table =
        |title: &str, columns: &[&'static str], of: &dyn Fn(&Exit) -> &BTreeMap<&'static str, usize>, last: bool| {
            let head = columns.iter().map(|name| format!("{name:>8}")).collect::<Vec<_>>().concat();
            let _ = writeln!(
                text,
                "{title}\n{:20}{:>5}{:>8}{head}{}",
                "exit",
                "",
                "all",
                if last { "  cycles (estimate)" } else { "" }
            );
            for row in &report.operations {
                for (hypervisor, exit) in [("loft", &row.loft), ("KVM", &row.kvm)] {
                    let Some(exit) = exit else {
                        let _ = writeln!(text, "{:20}{hypervisor:>5}{:>8}", row.name, "none");
                        continue;
                    };
                    let cells = columns
                        .iter()
                        .map(|name| match of(exit).get(name) {
                            None | Some(0) => format!("{:>8}", "."),
                            Some(count) => format!("{count:>8}"),
                        })
                        .collect::<Vec<_>>()
                        .concat();
                    let cycles = if last { format!("{:>10}", number(exit.cycles)) } else { String::new() };
                    let _ = writeln!(text, "{:20}{hypervisor:>5}{:>8}{cells}{cycles}", row.name, exit.instructions);
                }
            }
        };
    table("Whose instructions an exit is made of:", &groups, &|exit| &exit.groups, false);
    table("\nWhich instructions:", &kinds, &|exit| &exit.kinds, true);
    let _ = writeln!(
        text,
        "\nInstructions are not cycles: no cache, no TLB, no other CPU, no speculation is in this. The estimate weighs each kind:"
    );
    for weight in &report.weights {
        let _ = writeln!(text, "{:>8} {:>6}  {}", weight.kind, weight.cycles, weight.source);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(text: &str) -> Vec<Weight> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_most_frequent_exit_is_the_typical_one() {
        // 1 is the guest; the parts at the ends do not count, nor does the guest's own progress.
        let executed = [9, 9, 1, 2, 3, 1, 1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8, 1, 9];
        let (exit, seen) = typical(&executed, |address| address == 1).unwrap();
        assert_eq!(exit, [2, 3]);
        assert_eq!(seen, (2, 3));
        assert!(typical(&[9, 1, 9], |address| address == 1).is_none());
        assert!(typical(&[1, 1, 1], |address| address == 1).is_none());
        assert!(typical(&[], |address| address == 1).is_none());
    }

    #[test]
    fn everything_is_counted_once() {
        let kernel =
            Symbols::parse("ffff800000000100 t __guest_exit\nffff800000000200 t kvm_vgic_sync_hwstate").unwrap();
        let program = Symbols::parse("40001000 t guest_hypercall\n40002000 t main").unwrap();
        let names = Names { kernel: &kernel, program: &program };
        let mut code = Code::default();
        let log = "0xffff800000000100: 00000000 mrs x0, esr_el2\n0xffff800000000200: 00000000 isb\n0x40002000: 00000000 ldr x0, [x1]\n";
        trace::read(log.as_bytes(), 0, &mut code).unwrap();
        let known = weights(include_str!("../../../tests/bench-weights.json"));
        let exit = count(&[0xffff800000000100, 0xffff800000000200, 0x40002000], (1, 1), &names, &code, &known);
        assert_eq!(exit.instructions, 3);
        assert_eq!(exit.groups.values().sum::<usize>(), 3);
        assert_eq!(exit.kinds.values().sum::<usize>(), 3);
        assert_eq!((exit.groups["vector"], exit.groups["gic"], exit.groups["syscall"]), (1, 1, 1));
        assert_eq!((exit.kinds["mrs"], exit.kinds["isb"], exit.kinds["load"]), (1, 1, 1));
        // 9 + 11 + 0.5 + 72
        assert_eq!(exit.cycles, 93.0);
        assert!(matches!(names.owner(0x40001004), Owner::Guest));
        let listing = listing(&[0xffff800000000104], &names, &code);
        assert_eq!(listing, "__guest_exit  (vector)\n    +0x0004  ?\n");
    }

    #[test]
    fn the_weights_are_complete() {
        let mut known = weights(include_str!("../../../tests/bench-weights.json"));
        check(&known).unwrap();
        known.pop();
        assert!(check(&known).is_err());
        known.push(Weight { kind: "nop".into(), cycles: 1.0, source: String::new() });
        assert!(check(&known).is_err());
    }
}
