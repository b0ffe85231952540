// SPDX-License-Identifier: Apache-2.0
//! VMs that other programs than loft's launcher have made on /dev/loft: QEMU's, kvmtool's.
//!
//! /proc says which descriptors are VMs, and what each is (docs/TRACING.md). A user sees those of the own processes, root all.
//! A launcher of loft's lets root alone look at it: so root sees other users' guests here, too.

use crate::control::{Counts, Stat};
use crate::stat::{self, TICK_MS};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What /proc/PID/fd says of a VM of loft's.
const VM: &str = "anon_inode:loft-vm";

/// A VM of another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Bytes of guest memory.
    pub memory: u64,
    /// Its name, its process, and what was counted. The name is the program's in brackets, which no guest's can be; with the
    /// descriptor where the process has other VMs. It has been for as long as its process.
    pub stat: Stat,
}

/// Finds those that this user may see, but for those of the processes `ours`.
pub fn all(ours: &BTreeSet<u32>) -> Vec<Other> {
    all_in(Path::new("/proc"), ours)
}

fn all_in(proc: &Path, ours: &BTreeSet<u32>) -> Vec<Other> {
    let uptime = read(&proc.join("uptime"));
    let seconds: f64 = uptime.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
    let now = (seconds * 1000.0) as u64;
    // A VM may have descriptors in several processes.
    let mut seen = BTreeSet::new();
    let pids: BTreeSet<u32> = numbers(proc).filter(|pid| !ours.contains(pid)).collect();
    pids.iter().flat_map(|pid| of_process(&proc.join(pid.to_string()), *pid, now, &mut seen)).collect()
}

/// The VMs of a process whose files are in `place`, `now` milliseconds after the machine's start.
fn of_process(place: &Path, pid: u32, now: u64, seen: &mut BTreeSet<u64>) -> Vec<Other> {
    let is_vm = |fd: &u32| fs::read_link(place.join(format!("fd/{fd}"))).is_ok_and(|what| what == Path::new(VM));
    let fds: BTreeSet<u32> = numbers(&place.join("fd")).filter(is_vm).collect();
    let infos = fds.iter().map(|fd| (*fd, read(&place.join(format!("fdinfo/{fd}")))));
    let vms: Vec<_> = infos.filter_map(|(fd, info)| Some((fd, Info::parse(&info)?))).collect();
    let vms: Vec<_> = vms.into_iter().filter(|(_, info)| seen.insert(info.number)).collect();
    if vms.is_empty() {
        return Vec::new();
    }
    let (program, fields) = (program(&read(&place.join("comm"))), read(&place.join("stat")));
    // The name may have anything in it.
    let fields = fields.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let alone = vms.len() == 1;
    let other = |(fd, info): (u32, Info)| {
        let name = if alone { format!("[{program}]") } else { format!("[{program}:{fd}]") };
        let mut counters = info.counters;
        // All of the process: of several VMs nobody knows whose they are.
        if alone {
            counters.extend(stat::cpu_times(fields));
        }
        let uptime_ms = now.saturating_sub(started_ms(fields).unwrap_or(now));
        let counts = Counts { vm: counters, vcpus: Vec::new() };
        Other { vcpus: info.vcpus, memory: info.memory, stat: Stat { name, pid, uptime_ms, counts } }
    };
    vms.into_iter().map(other).collect()
}

/// What fdinfo says of a VM.
struct Info {
    number: u64,
    vcpus: u32,
    memory: u64,
    counters: BTreeMap<String, u64>,
}

impl Info {
    fn parse(text: &str) -> Option<Self> {
        let lines: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once(":\t")).collect();
        let kib: u64 = lines.get("memory")?.strip_suffix(" kB")?.parse().ok()?;
        // The first lines are those that each file has.
        let ours = text.lines().filter_map(|line| line.split_once(":\t")).skip_while(|(name, _)| *name != "vm");
        let counter = |(name, value): (&str, &str)| Some((name.to_owned(), value.parse().ok()?));
        let counters = ours.filter(|(name, _)| !["vm", "vcpus", "ipa_bits"].contains(name)).filter_map(counter);
        Some(Self {
            number: lines.get("vm")?.parse().ok()?,
            vcpus: lines.get("vcpus")?.parse().ok()?,
            memory: kib.checked_mul(1024)?,
            counters: counters.collect(),
        })
    }
}

/// A program's name, of which nothing is left that a terminal would obey.
fn program(comm: &str) -> String {
    comm.trim_end_matches('\n').chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// When a process was started, after the machine was: the 22nd field of its file `stat`, of which the first here is the third.
fn started_ms(fields: &str) -> Option<u64> {
    fields.split_whitespace().nth(22 - 3)?.parse::<u64>().ok()?.checked_mul(TICK_MS)
}

/// What is in a directory under a number: processes, or descriptors.
fn numbers(directory: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A file's text; none where it is gone, or closed to this user.
fn read(path: &Path) -> String {
    fs::read(path).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("loft-others-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("uptime"), "100.57 350.11\n").unwrap();
        path
    }

    /// A process that was started 40 s after the machine, with descriptors: what each is, and its lines.
    fn process(proc: &Path, pid: u32, comm: &str, fds: &[(u32, &str, &str)]) {
        let place = proc.join(pid.to_string());
        fs::create_dir_all(place.join("fd")).unwrap();
        fs::create_dir(place.join("fdinfo")).unwrap();
        let fields: Vec<_> = (4..53).map(|n| if n == 22 { "4000".to_owned() } else { n.to_string() }).collect();
        fs::write(place.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(place.join("stat"), format!("{pid} ({comm}) S {}\n", fields.join(" "))).unwrap();
        for (fd, what, info) in fds {
            symlink(what, place.join(format!("fd/{fd}"))).unwrap();
            let usual = "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t1030\n";
            fs::write(place.join(format!("fdinfo/{fd}")), format!("{usual}{info}")).unwrap();
        }
    }

    fn lines(number: u32) -> String {
        format!("vm:\t{number}\nvcpus:\t2\nmemory:\t524288 kB\nipa_bits:\t40\nirqchip:\tGICv3\nexits:\t1200\nexits_all:\t5000\n")
    }

    fn found(proc: &Path, ours: &[u32]) -> Vec<(u32, String)> {
        let vms = all_in(proc, &ours.iter().copied().collect());
        vms.into_iter().map(|vm| (vm.stat.pid, vm.stat.name)).collect()
    }

    #[test]
    fn a_vm_of_another_program() {
        let proc = place("one");
        process(&proc, 7, "sh", &[(0, "/dev/null", "")]);
        process(
            &proc,
            42,
            "qemu-system-aar",
            &[(3, "/dev/loft", ""), (9, VM, &lines(5)), (10, "anon_inode:loft-vcpu", "vm:\t5\n")],
        );
        // KVM's says nothing of itself. A process that has gone has no descriptors.
        process(&proc, 50, "qemu-system-aar", &[(9, "anon_inode:kvm-vm", "")]);
        fs::create_dir(proc.join("51")).unwrap();
        let vms = all_in(&proc, &BTreeSet::new());
        let [vm] = vms.as_slice() else { panic!("{vms:?}") };
        assert_eq!((vm.vcpus, vm.memory), (2, 512 << 20));
        assert_eq!((vm.stat.name.as_str(), vm.stat.pid, vm.stat.uptime_ms), ("[qemu-system-aar]", 42, 60_570));
        let expected = [
            ("exits", 1200),
            ("exits_all", 5000),
            ("guest_time_ms", 430),
            ("system_time_ms", 150),
            ("user_time_ms", 140),
        ];
        assert_eq!(vm.stat.counts.vm, expected.map(|(name, n)| (name.to_owned(), n)).into());
        assert!(vm.stat.counts.vcpus.is_empty());
    }

    #[test]
    fn the_launchers_are_left_out() {
        let proc = place("ours");
        process(&proc, 42, "loft", &[(9, VM, &lines(1))]);
        process(&proc, 43, "loft", &[(9, VM, &lines(2))]);
        assert_eq!(found(&proc, &[42]), [(43, "[loft]".to_owned())]);
    }

    #[test]
    fn several_vms_and_several_descriptors() {
        let proc = place("several");
        process(&proc, 100, "b", &[(9, VM, &lines(1))]);
        process(&proc, 42, "a", &[(9, VM, &lines(1)), (10, VM, &lines(1)), (11, VM, &lines(2))]);
        assert_eq!(found(&proc, &[]), [(42, "[a:9]".to_owned()), (42, "[a:11]".to_owned())]);
        // Whose the time is nobody knows.
        assert_eq!(all_in(&proc, &BTreeSet::new())[0].stat.counts.vm.len(), 2);
    }

    #[test]
    fn a_name_is_no_command_for_a_terminal() {
        let proc = place("name");
        process(&proc, 42, "a) \u{1b}[2J", &[(9, VM, &lines(1))]);
        assert_eq!(found(&proc, &[]), [(42, "[a)??[2J]".to_owned())]);
        assert_eq!(all_in(&proc, &BTreeSet::new())[0].stat.uptime_ms, 60_570);
    }
}
