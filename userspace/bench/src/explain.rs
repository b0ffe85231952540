// SPDX-License-Identifier: Apache-2.0
//! Where a workload's instructions are, on loft and on KVM: whose, in which function, and for which
//! exit.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure, Context, Result};
use clap::Args;

use crate::{apps, symbols::Symbols, table::number};

/// What the command line says.
#[derive(Args)]
pub struct Explain {
    /// What was measured on loft: FILE.jsonl, FILE.profile, FILE.host.symbols, FILE.guest.symbols
    #[arg(long, value_name = "FILE")]
    loft: PathBuf,
    /// The same of KVM
    #[arg(long, value_name = "FILE")]
    kvm: PathBuf,
    /// How many functions are shown, and exits
    #[arg(long, default_value_t = 25)]
    most: usize,
}

/// Who executes, in the order of the table: as tests/apps/explain.c calls it, and as the reader
/// does.
const MODES: [(&str, &str); 4] = [
    ("host-kernel", "host kernel"),
    ("host-user", "host user"),
    ("guest-kernel", "guest kernel"),
    ("guest-user", "guest user"),
];
/// What the host does for no exit.
const NONE: &str = "(none)";
/// How much the profile may differ from the meter: blocks count whole there, and the meter's own
/// end counts here.
const TOLERANCE: f64 = 0.01;

/// The dearest functions of an exit that are shown.
const FUNCTIONS_OF_EXIT: usize = 5;

/// Instructions by name.
type Counts = BTreeMap<String, f64>;

/// One round on one side.
#[derive(Debug, Default)]
struct Profile {
    name: String,
    rounds: usize,
    /// By mode.
    modes: [f64; 4],
    /// By function, for each mode.
    functions: [Counts; 4],
    /// How often the guest was left, by reason.
    times: Counts,
    /// What the host executed for that, kernel and programs.
    host: Counts,
    /// And in which functions.
    inside: BTreeMap<String, Counts>,
}

/// Prints the tables.
pub fn main(arguments: &Explain) -> Result<()> {
    let (loft, kvm) = (Profile::read(&arguments.loft)?, Profile::read(&arguments.kvm)?);
    print!("{}", table(&loft, &kvm, arguments.most));
    Ok(())
}

/// Why the guest was left, from the vector's offset, the syndrome (ESR_EL2 without what does not
/// matter) and the detail.
fn reason(vector: u64, syndrome: u64, detail: u64) -> String {
    match vector {
        0x480 | 0x680 => return "interrupt".into(),
        0x500 | 0x700 => return "FIQ".into(),
        0x580 | 0x780 => return "SError".into(),
        0x400 | 0x600 => {}
        _ => return "others".into(),
    }
    let abort = |what: &str, access: &str| match detail {
        0 => format!("{what} abort, status {:#04x}", syndrome & 0x3f),
        _ => format!("device {detail:#x} {access}"),
    };
    match syndrome >> 26 {
        0x01 => ["WFI", "WFE", "WFIT", "WFET"][syndrome as usize & 3].into(),
        0x07 => "floating point trapped".into(),
        0x16 => format!("HVC {detail:#x}"),
        0x17 => format!("SMC {detail:#x}"),
        0x18 => {
            let field = |shift: u64, mask: u64| syndrome >> shift & mask;
            let (op0, op1, crn) = (field(20, 3), field(14, 7), field(10, 15));
            let name = match (op0, op1, crn, field(1, 15), field(17, 7)) {
                (3, 0, 12, 11, 5) => "ICC_SGI1R_EL1".into(),
                (3, 0, 12, 11, 1) => "ICC_DIR_EL1".into(),
                (3, 3, 14, 2, 1) => "CNTP_CTL_EL0".into(),
                (3, 3, 14, 2, 2) => "CNTP_CVAL_EL0".into(),
                (2, 0, 1, 0, 4) => "OSLAR_EL1".into(),
                (op0, op1, crn, crm, op2) => format!("S{op0}_{op1}_C{crn}_C{crm}_{op2}"),
            };
            format!("{name} {}", if syndrome & 1 == 1 { "read" } else { "written" })
        }
        0x19 => "SVE trapped".into(),
        0x20 => abort("instruction", "executed"),
        0x24 => abort("data", if syndrome >> 6 & 1 == 1 { "written" } else { "read" }),
        class => format!("exception class {class:#04x}"),
    }
}

impl Profile {
    /// From the files that begin with `path`.
    fn read(path: &Path) -> Result<Self> {
        let read = |extension: &str| {
            let file = format!("{}.{extension}", path.display());
            fs::read_to_string(&file).with_context(|| format!("{file} cannot be read"))
        };
        let symbols = |of: &str| Symbols::parse(&read(&format!("{of}.symbols"))?).with_context(|| format!("{of}'s"));
        let measured = apps::parse("it", &read("jsonl")?)?;
        let [line] = measured.as_slice() else { bail!("{}: one workload was expected", path.display()) };
        let metered: u64 = line.rounds.iter().map(|round| round.instructions).sum();
        let profile =
            Self::new(&line.name, line.rounds.len(), &read("profile")?, &symbols("host")?, &symbols("guest")?)?;
        let (all, metered) = (profile.all(), metered as f64 / line.rounds.len() as f64);
        ensure!(
            (all - metered).abs() <= metered * TOLERANCE,
            "{}: {} instructions are explained, {} were measured",
            path.display(),
            number(all),
            number(metered)
        );
        Ok(profile)
    }

    /// From the lines that tests/apps/explain.c describes, of so many rounds.
    fn new(name: &str, rounds: usize, text: &str, host: &Symbols, guest: &Symbols) -> Result<Self> {
        ensure!(rounds > 0, "there is no round");
        let mut profile = Self { name: name.into(), rounds, ..Self::default() };
        let mut reasons: HashMap<String, String> = HashMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let hexadecimal = |word: &str| u64::from_str_radix(word, 16).with_context(|| format!("in '{line}'"));
            let share = |word: &str| -> Result<f64> {
                Ok(word.parse::<u64>().with_context(|| format!("in '{line}'"))? as f64 / rounds as f64)
            };
            match words.as_slice() {
                ["exit", "0", ..] => drop(reasons.insert("0".into(), NONE.into())),
                ["exit", id, vector, syndrome, detail, times] => {
                    let reason = reason(hexadecimal(vector)?, hexadecimal(syndrome)?, hexadecimal(detail)?);
                    *profile.times.entry(reason.clone()).or_default() += share(times)?;
                    reasons.insert((*id).into(), reason);
                }
                ["code", mode, address, id, instructions] => {
                    let mode = MODES.iter().position(|(name, _)| name == mode).with_context(|| line.to_string())?;
                    let (address, instructions) = (hexadecimal(address)?, share(instructions)?);
                    let symbols = if mode < 2 { host } else { guest };
                    let function = match symbols.find(address) {
                        Some((symbol, _)) => match &symbol.module {
                            // These say themselves whose they are.
                            Some(module) if !symbol.name.trim_start_matches('<').starts_with(module.as_str()) => {
                                format!("{} [{module}]", symbol.name)
                            }
                            _ => symbol.name.clone(),
                        },
                        None => format!("({})", MODES[mode].1),
                    };
                    profile.modes[mode] += instructions;
                    *profile.functions[mode].entry(function.clone()).or_default() += instructions;
                    if mode < 2 {
                        let reason = reasons.get(*id).with_context(|| format!("no such exit: {line}"))?;
                        *profile.host.entry(reason.clone()).or_default() += instructions;
                        *profile.inside.entry(reason.clone()).or_default().entry(function).or_default() += instructions;
                    }
                }
                _ => bail!("not understood: {line}"),
            }
        }
        Ok(profile)
    }

    fn all(&self) -> f64 {
        self.modes.iter().sum()
    }
}

/// The names that either has, the dearest on either side first.
fn dearest<'a>(loft: &'a Counts, kvm: &'a Counts) -> Vec<(&'a str, f64, f64)> {
    let mut both: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (name, n) in loft {
        both.entry(name).or_default().0 = *n;
    }
    for (name, n) in kvm {
        both.entry(name).or_default().1 = *n;
    }
    let mut rows: Vec<_> = both.into_iter().map(|(name, (loft, kvm))| (name, loft, kvm)).collect();
    rows.sort_by(|a, b| b.1.max(b.2).total_cmp(&a.1.max(a.2)));
    rows
}

/// For a terminal.
fn table(loft: &Profile, kvm: &Profile, most: usize) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{}", line.to_string().trim_end());
    };
    let whole = |n: f64| number(n.round());
    line(format_args!("{}: instructions of a round, of {} on loft and {} on KVM.", loft.name, loft.rounds, kvm.rounds));
    let [a, b, c] = ["loft", "KVM", "loft - KVM"];
    line(format_args!("{:50} {a:>13} {b:>13} {c:>13}", ""));
    let difference =
        |a: f64, b: f64| format!("{}{}", if a.round() < b.round() { "-" } else { "+" }, whole((a - b).abs()));
    let row = |name: &str, loft: f64, kvm: f64| {
        format!("{name:50} {:>13} {:>13} {:>13}", whole(loft), whole(kvm), difference(loft, kvm))
    };
    for (i, (_, name)) in MODES.iter().enumerate() {
        line(format_args!("{}", row(name, loft.modes[i], kvm.modes[i])));
    }
    line(format_args!("{}", row("all", loft.all(), kvm.all())));

    line(format_args!(
        "\nExits, with what the host executes for each until the guest goes on; {NONE} is what it does for no exit."
    ));
    line(format_args!(
        "{:34} {:>8} {:>12} {:>8} {:>8} {:>12} {:>8} {c:>13}",
        "", "loft", "instructions", "each", "KVM", "instructions", "each"
    ));
    for (name, l, k) in dearest(&loft.host, &kvm.host).into_iter().take(most) {
        let side = |profile: &Profile, all: f64| match profile.times.get(name) {
            Some(times) => format!("{:>8} {:>12} {:>8}", number(*times), whole(all), whole(all / times.max(1e-9))),
            None => format!("{:>8} {:>12} {:>8}", "", whole(all), ""),
        };
        line(format_args!("{name:34} {} {} {:>13}", side(loft, l), side(kvm, k), difference(l, k)));
    }
    for (side, profile) in [("loft", loft), ("KVM", kvm)] {
        line(format_args!("\nThe dearest functions of the dearest exits on {side}:"));
        let nothing = Counts::new();
        for (name, ..) in dearest(&profile.host, &nothing).into_iter().take(most.min(8)) {
            let functions: Vec<String> = dearest(&profile.inside[name], &nothing)
                .into_iter()
                .take(FUNCTIONS_OF_EXIT)
                .map(|(function, n, _)| format!("{function} {}", whole(n)))
                .collect();
            line(format_args!("{name:34} {}", functions.join(", ")));
        }
    }
    // A program has no symbols.
    for i in [0, 2] {
        line(format_args!("\n{:50} {a:>13} {b:>13} {c:>13}", format!("The {}'s functions", MODES[i].1)));
        for (name, l, k) in dearest(&loft.functions[i], &kvm.functions[i]).into_iter().take(most) {
            line(format_args!("{}", row(name, l, k)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "ffff800080010000 T schedule\nffff80007a000000 t _RNvNtCs1234_4loft4vcpu4exit\t[loft]\n\
                        ffff80007b000000 t handle_tx\t[vhost_net]\n";
    const GUEST: &str = "ffff800080010000 T clear_page\n";

    fn profile(text: &str) -> Result<Profile> {
        Profile::new("fork", 2, text, &Symbols::parse(HOST)?, &Symbols::parse(GUEST)?)
    }

    #[test]
    fn what_is_executed_is_somebodys() {
        let loft = profile(
            "exit 0 0 0 0 0\nexit 1 400 4000000 0 4\ncode host-kernel ffff800080010010 0 1000\n\
             code host-kernel ffff80007a000004 1 600\ncode host-user 0 1 200\ncode guest-kernel ffff800080010010 0 3000\n\
             code host-kernel ffff80007b000004 0 20\ncode guest-user 0 0 40\n",
        )
        .unwrap();
        assert_eq!((loft.modes, loft.all()), ([810.0, 100.0, 1500.0, 20.0], 2430.0));
        assert_eq!((loft.times["WFI"], loft.host["WFI"], loft.host[NONE]), (2.0, 400.0, 510.0));
        assert_eq!((loft.functions[0]["loft::vcpu::exit"], loft.functions[2]["clear_page"]), (300.0, 1500.0));
        assert_eq!(loft.inside[NONE]["handle_tx [vhost_net]"], 10.0);
        let text = table(&loft, &profile("exit 0 0 0 0 0\ncode host-kernel ffff800080010010 0 200\n").unwrap(), 9);
        let row = |name: &str| -> Vec<&str> {
            let line = text.lines().find(|line| line.starts_with(name));
            line.unwrap().split_whitespace().collect()
        };
        assert_eq!(row("host kernel"), ["host", "kernel", "810", "100", "+710"]);
        assert_eq!(row("WFI"), ["WFI", "2", "400", "200", "0", "+400"]);
    }

    #[test]
    fn reasons() {
        let sysreg = 0x18 << 26 | 3 << 20 | 5 << 17 | 12 << 10 | 11 << 1;
        assert_eq!(reason(0x400, sysreg, 0), "ICC_SGI1R_EL1 written");
        assert_eq!(reason(0x400, 0x18 << 26 | 3 << 20 | 1, 0), "S3_0_C0_C0_0 read");
        assert_eq!(reason(0x400, 0x24 << 26 | 1 << 6, 0xa00_0064), "device 0xa000064 written");
        assert_eq!(reason(0x400, 0x24 << 26 | 7, 0), "data abort, status 0x07");
        assert_eq!((reason(0x480, 0, 0), reason(0, 0, 0)), ("interrupt".into(), "others".into()));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(profile("code host-kernel 0 7 1\n").is_err());
        assert!(profile("code nobody 0 0 1\n").is_err());
        assert!(profile("nonsense\n").is_err());
    }
}
