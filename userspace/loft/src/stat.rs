// SPDX-License-Identifier: Apache-2.0
//! `loft stat`: what the hypervisor has counted of guests, and the times of their vCPUs' threads.
//!
//! The launcher reads the counters, which it alone has open. What Linux accounts of its threads it
//! cannot look up in its sandbox, but everybody else can: that is done here.

use crate::cli::StatArgs;
use crate::client::{ask_within, time, ANSWER_LIMIT};
use crate::control::{Request, Stat};
use crate::ending::FAILED;
use crate::guests::{self, directory};
use crate::{others, output};
use anyhow::{Context, Result};
use rustix::stdio;
use serde_json::{json, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The most vCPUs that have columns of their own.
const MAX_COLUMNS: usize = 8;
/// Milliseconds in the unit of /proc/PID/stat: USER_HZ is 100.
pub const TICK_MS: u64 = 10;

/// The times of a vCPU's thread, beside its counters. In the guest:
pub const GUEST_TIME: &str = "guest_time_ms";
/// in user mode and the guest,
pub const USER_TIME: &str = "user_time_ms";
/// in the kernel,
const SYSTEM_TIME: &str = "system_time_ms";
/// and ready without a CPU.
pub const STEAL_TIME: &str = "steal_time_ms";

/// Shows the counters of a guest or of all.
pub fn main(args: &StatArgs) -> Result<u8> {
    let mut code = 0;
    let guests = match &args.name {
        Some(name) => vec![(name.clone(), guests::find(&directory(), name)?)],
        None => guests::all(&directory())?,
    };
    let mut stats = Vec::new();
    for (name, mut stream) in guests {
        match take(&name, &mut stream, ANSWER_LIMIT) {
            Ok(stat) => stats.push(stat),
            Err(error) => {
                output::message(&format!("loft: {name}: {error:#}"));
                code = FAILED;
            }
        }
    }
    if args.name.is_none() {
        let ours = stats.iter().map(|stat| stat.pid).collect();
        stats.extend(others::all(&ours).into_iter().map(|vm| vm.stat));
    }
    let text = match (args.json, &args.name) {
        (false, _) => stats.iter().map(text).collect::<Vec<_>>().join("\n"),
        (true, None) => format!("{}\n", stats.iter().map(document).collect::<Value>()),
        (true, Some(_)) => stats.first().map_or(String::new(), |stat| format!("{}\n", document(stat))),
    };
    output::write_all(stdio::stdout(), text.as_bytes())?;
    Ok(code)
}

/// Asks the launcher of the guest `name` for its counters, and adds the times of the vCPUs' threads
/// to them.
///
/// A guest may have taken its launcher over. So nothing that it answers is shown but numbers, under
/// names that cannot be a terminal's commands.
pub fn take(name: &str, stream: &mut UnixStream, limit: Duration) -> Result<Stat> {
    let answer = ask_within(stream, &Request::Stat, limit)?;
    let mut stat = answer.stat.context("its launcher does not tell its counters")?;
    stat.name = name.to_owned();
    stat.counts.vm.retain(|name, _| is_counter(name));
    for vcpu in &mut stat.counts.vcpus {
        vcpu.counters.retain(|name, _| is_counter(name));
    }
    for (id, vcpu) in stat.counts.vcpus.iter_mut().enumerate() {
        let thread = format!("/proc/{}/task/{}", stat.pid, vcpu.thread);
        let read = |file: &str| std::fs::read_to_string(format!("{thread}/{file}")).unwrap_or_default();
        vcpu.counters.extend(times(id, &read("stat"), &read("schedstat")));
    }
    Ok(stat)
}

/// Whether that may be a counter's name.
fn is_counter(name: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=64).contains(&name.len()) && name.chars().all(known)
}

/// The times of the thread of vCPU `id` by its files `stat` (proc_pid_stat(5)) and `schedstat`
/// (Documentation/scheduler/sched-stats.rst). None where it is another thread: processes have other
/// numbers in the launcher's namespace.
fn times(id: usize, stat: &str, schedstat: &str) -> BTreeMap<String, u64> {
    let Some((_, fields)) = stat.split_once(&format!(" (vcpu-{id}) ")) else { return BTreeMap::new() };
    let mut times = cpu_times(fields);
    // Time on a CPU and without one, in nanoseconds. A kernel that does not account them says 0.
    let mut ns = schedstat.split_whitespace().map_while(|field| field.parse::<u64>().ok());
    if let (Some(1..), Some(delay)) = (ns.next(), ns.next()) {
        times.insert(STEAL_TIME.to_owned(), delay / 1_000_000);
    }
    times
}

/// The times on a CPU of a thread or of a process, by what follows the name in its file `stat`.
pub fn cpu_times(fields: &str) -> BTreeMap<String, u64> {
    // The first one there is the third of the file.
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let time = |(number, name): (usize, &str)| {
        let ticks: u64 = fields.get(number - 3)?.parse().ok()?;
        Some((name.to_owned(), ticks.saturating_mul(TICK_MS)))
    };
    [(14, USER_TIME), (15, SYSTEM_TIME), (43, GUEST_TIME)].into_iter().filter_map(time).collect()
}

fn document(stat: &Stat) -> Value {
    let Stat { name, pid, uptime_ms, counts } = stat;
    let vcpus: Vec<_> = counts.vcpus.iter().map(|vcpu| &vcpu.counters).collect();
    json!({ "name": name, "pid": pid, "uptime_ms": uptime_ms, "vm": counts.vm, "vcpus": vcpus })
}

/// A table: the sum of each counter, and what it is on each vCPU.
fn text(stat: &Stat) -> String {
    let Stat { name, pid, uptime_ms, counts } = stat;
    let vcpus = if counts.vcpus.len() > MAX_COLUMNS { &[] } else { counts.vcpus.as_slice() };
    let headings = ["COUNTER".to_owned(), "SUM".to_owned()];
    let mut rows: Vec<Vec<_>> =
        vec![headings.into_iter().chain((0..vcpus.len()).map(|id| format!("vcpu-{id}"))).collect()];
    let names: BTreeSet<_> = counts.vcpus.iter().flat_map(|vcpu| vcpu.counters.keys()).collect();
    for name in names {
        let each = counts.vcpus.iter().filter_map(|vcpu| vcpu.counters.get(name));
        let sum = each.fold(0_u64, |sum, n| sum.saturating_add(*n));
        let each = vcpus.iter().map(|vcpu| vcpu.counters.get(name).map_or("-".to_owned(), u64::to_string));
        rows.push([name.clone(), sum.to_string()].into_iter().chain(each).collect());
    }
    // What only the VM as a whole has.
    rows.extend(counts.vm.iter().map(|(name, n)| vec![name.clone(), n.to_string()]));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..2 + vcpus.len()).map(width).collect();
    let mut text = format!("{name}: process {pid}, up {}\n", time(uptime_ms / 1000));
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::control::{Counts, VcpuCounts};

    fn counters(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    /// A guest with these counters of its vCPUs.
    pub fn guest(name: &str, uptime_ms: u64, vcpus: &[&[(&str, u64)]]) -> Stat {
        let of_vcpu = |(id, list): (usize, &&[_])| VcpuCounts { thread: 100 + id as u32, counters: counters(list) };
        let vcpus = vcpus.iter().enumerate().map(of_vcpu).collect();
        let counts = Counts { vm: counters(&[("remote_tlb_flush", 3)]), vcpus };
        Stat { name: name.into(), pid: 42, uptime_ms, counts }
    }

    const TWO: [&[(&str, u64)]; 2] = [&[("exits", 41), (GUEST_TIME, 10)], &[("exits", 1000)]];

    #[test]
    fn a_table_has_sums_and_vcpus() {
        let expected = "\
web: process 42, up 1:01
COUNTER            SUM  vcpu-0  vcpu-1
exits             1041      41    1000
guest_time_ms       10      10       -
remote_tlb_flush     3
";
        assert_eq!(text(&guest("web", 61_999, &TWO)), expected);
    }

    #[test]
    fn of_many_vcpus_there_is_the_sum() {
        let vcpus: [&[(&str, u64)]; 9] = [&[("exits", 2)]; 9];
        let table = |n: usize| text(&guest("big", 0, &vcpus[..n]));
        assert!(table(8).contains("SUM  vcpu-0") && table(8).contains("exits              16       2"));
        assert!(table(9).contains("exits              18\n") && !table(9).contains("vcpu"));
    }

    #[test]
    fn a_counter_is_called_nothing_else() {
        assert!(is_counter("halt_poll_success_ns") && is_counter("a1"));
        assert!(["", "\u{1b}[2J", "a b", "Exits"].iter().all(|name| !is_counter(name)) && !is_counter(&"a".repeat(65)));
    }

    #[test]
    fn a_document_has_all() {
        let expected =
            r#"{"name":"web","pid":42,"uptime_ms":5,"vcpus":[{"exits":41,"guest_time_ms":10},{"exits":1000}],"#;
        let expected = expected.to_owned() + r#""vm":{"remote_tlb_flush":3}}"#;
        assert_eq!(document(&guest("web", 5, &TWO)).to_string(), expected);
    }

    /// As Linux prints it, the name too, which may be anything.
    fn line(name: &str) -> String {
        let fields: Vec<_> = (4..53).map(|field| field.to_string()).collect();
        format!("100 ({name}) S {}\n", fields.join(" "))
    }

    #[test]
    fn times_are_those_of_the_vcpus_thread() {
        let all = counters(&[(USER_TIME, 140), (SYSTEM_TIME, 150), (GUEST_TIME, 430), (STEAL_TIME, 2)]);
        assert_eq!(times(1, &line("vcpu-1"), "7000000 2999999 5\n"), all);
        for other in ["vcpu-10", "vcpu-2", "a) (b"] {
            assert!(times(1, &line(other), "7000000 2999999 5\n").is_empty(), "{other}");
        }
        assert!(times(1, "", "").is_empty());
        for none in ["", "0 0 0\n", "x"] {
            assert_eq!(times(1, &line("vcpu-1"), none).get(STEAL_TIME), None, "{none}");
        }
    }
}
