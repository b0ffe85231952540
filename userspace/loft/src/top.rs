// SPDX-License-Identifier: Apache-2.0
//! `loft top`: what guests do, again and again.

use crate::cli::TopArgs;
use crate::control::{Stat, VcpuCounts};
use crate::guests::{self, directory};
use crate::signals::{self, Event};
use crate::stat::{self, GUEST_TIME, STEAL_TIME, USER_TIME};
use crate::{others, output, session};
use anyhow::{Context, Result};
use loft_devices::terminal::Raw;
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signalfd::SignalFd;
use rustix::stdio;
use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a launcher may take to answer: it is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Ctrl-c where the terminal does not make a signal of it.
const CTRL_C: u8 = 3;

/// All exits of a kind, those that were answered without leaving the guest too.
const KINDS: [&str; 6] =
    ["hvc_exit_stat", "sysreg_exit_stat", "wfe_exit_stat", "wfi_exit_stat", "abort_exit_stat", "irq_exit_stat"];
/// A heading, and how what is below it is made of what has grown.
type Column = (&'static str, fn(&Growth) -> Option<f64>);
/// What is shown.
const COLUMNS: [Column; 7] = [
    ("GUEST%", |growth| growth.share(if growth.accounted { GUEST_TIME } else { USER_TIME })),
    ("EXITS/s", |growth| growth.rate("exits")),
    ("FAST/s", Growth::fast),
    ("IRQS/s", |growth| growth.rate("irq_exit_stat")),
    ("FAULTS/s", |growth| growth.rate("stage2_faults")),
    ("WAITS/s", |growth| growth.rate("halt_wakeup")),
    ("STEAL%", |growth| growth.share(STEAL_TIME)),
];
/// The values of a line, as far as there are any.
type Values = [Option<f64>; COLUMNS.len()];

/// How far the counters of a vCPU or a VM have gone in a time.
struct Growth {
    ms: u64,
    by: BTreeMap<String, u64>,
    /// Whether Linux accounts the time in the guest by itself.
    accounted: bool,
}

impl Growth {
    /// None where the two are not of the same run.
    fn between(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, ms: u64) -> Option<Self> {
        if ms == 0 {
            return None;
        }
        let mut by = BTreeMap::new();
        for (name, n) in after {
            if let Some(past) = before.get(name) {
                by.insert(name.clone(), n.checked_sub(*past)?);
            }
        }
        Some(Self { ms, by, accounted: after.get(GUEST_TIME).is_some_and(|time| *time > 0) })
    }

    /// None where the two are not of the same run of a vCPU.
    fn of_vcpu(before: &VcpuCounts, after: &VcpuCounts, ms: u64) -> Option<Self> {
        (before.thread == after.thread).then(|| Self::between(&before.counters, &after.counters, ms)).flatten()
    }

    /// How often a second.
    fn rate(&self, name: &str) -> Option<f64> {
        self.by.get(name).map(|n| self.each_second(*n))
    }

    fn each_second(&self, n: u64) -> f64 {
        n as f64 * 1000.0 / self.ms as f64
    }

    /// How much of the time, in percent.
    fn share(&self, name: &str) -> Option<f64> {
        self.by.get(name).map(|ms| *ms as f64 * 100.0 / self.ms as f64)
    }

    /// Exits that did not leave the guest.
    fn fast(&self) -> Option<f64> {
        let left = self.by.get("exits")?;
        let kinds = || KINDS.iter().filter_map(|kind| self.by.get(*kind)).sum();
        let all: u64 = self.by.get("exits_all").copied().unwrap_or_else(kinds);
        Some(self.each_second(all.saturating_sub(*left)))
    }

    fn values(&self) -> Values {
        COLUMNS.map(|(_, value)| value(self))
    }
}

/// What the guests said when they were asked.
#[derive(Default)]
struct Round {
    stats: Vec<Stat>,
    /// What is to be said of those that did not tell.
    notes: Vec<String>,
}

/// Asks all guests, and looks at the VMs of other programs. One that has ended meanwhile is none.
fn ask_all() -> Result<Round> {
    let mut round = Round::default();
    for (name, mut stream) in guests::all(&directory())? {
        match stat::take(&name, &mut stream, ANSWER_LIMIT) {
            Ok(stat) => round.stats.push(stat),
            Err(error) if is_end(&error) => {}
            Err(error) => round.notes.push(format!("{name}: {error:#}")),
        }
    }
    let ours = round.stats.iter().map(|stat| stat.pid).collect();
    round.stats.extend(others::all(&ours).into_iter().map(|vm| vm.stat));
    Ok(round)
}

fn is_end(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

/// The lines of a picture: what has been done between two rounds.
fn picture(before: &[Stat], round: &Round) -> Vec<String> {
    let stats = &round.stats;
    let width = stats.iter().map(|stat| stat.name.len()).max().unwrap_or(0).max(10);
    let headings = COLUMNS.map(|(heading, _)| format!(" {heading:>8}")).concat();
    let mut lines = vec![format!("{:<width$}{headings}", "NAME")];
    for stat in stats {
        let past = before.iter().find(|past| past.name == stat.name && past.pid == stat.pid);
        let ms = past.map_or(0, |past| stat.uptime_ms.saturating_sub(past.uptime_ms));
        let vcpus: Vec<Values> = stat
            .counts
            .vcpus
            .iter()
            .enumerate()
            .map(|(id, vcpu)| {
                let past = past.and_then(|past| past.counts.vcpus.get(id));
                past.and_then(|past| Growth::of_vcpu(past, vcpu, ms)).map_or([None; COLUMNS.len()], |g| g.values())
            })
            .collect();
        // Another program's VM has all in one; of the guests' own counters none is shown.
        let whole = past.and_then(|past| Growth::between(&past.counts.vm, &stat.counts.vm, ms)).map(|g| g.values());
        lines.push(line(&stat.name, width, &sum(vcpus.iter().chain(&whole))));
        lines.extend(vcpus.iter().enumerate().map(|(id, values)| line(&format!("  vcpu-{id}"), width, values)));
    }
    lines.extend_from_slice(&round.notes);
    if lines.len() == 1 {
        lines.push("no guest runs".to_owned());
    }
    lines
}

/// Of those that have a value.
fn sum<'a>(all: impl Iterator<Item = &'a Values>) -> Values {
    let mut sum = [None; COLUMNS.len()];
    for values in all {
        for (sum, value) in sum.iter_mut().zip(values) {
            if let Some(value) = value {
                *sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
    }
    sum
}

fn line(name: &str, width: usize, values: &Values) -> String {
    let cells = COLUMNS.iter().zip(values).map(|((heading, _), value)| match value {
        Some(share) if heading.ends_with('%') => format!(" {share:>8.1}"),
        Some(rate) => format!(" {rate:>8.0}"),
        None => format!(" {:>8}", "-"),
    });
    format!("{name:<width$}{}", cells.collect::<String>())
}

/// The terminal while pictures replace one another there; its destructor gives it back.
struct Screen {
    /// Whether keys come in one by one.
    keys: Option<Raw>,
}

impl Screen {
    fn enter() -> Result<Self> {
        let keys = Raw::enter().context("cannot use the terminal")?;
        let screen = Self { keys };
        // The alternate screen, without a cursor.
        output::write_all(stdio::stdout(), b"\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = output::write_all(stdio::stdout(), b"\x1b[?25h\x1b[?1049l");
    }
}

/// What puts `lines` onto a terminal of this size. None is full: the cursor would be on its last
/// character, and not behind it.
fn drawn(lines: &[String], columns: u16, rows: u16) -> String {
    let lines = lines.iter().take(rows.into());
    let width = usize::from(columns.saturating_sub(1));
    let lines: Vec<String> = lines.map(|line| line.chars().take(width).collect()).collect();
    format!("\x1b[H{}\x1b[J", lines.join("\x1b[K\r\n"))
}

fn show(lines: &[String], screen: bool) -> Result<()> {
    let text = if screen {
        let (columns, rows) = session::window().unwrap_or((80, 24));
        drawn(lines, columns, rows)
    } else {
        lines.join("\n") + "\n"
    };
    Ok(output::write_all(stdio::stdout(), text.as_bytes())?)
}

/// What a wait ended with.
#[derive(Debug, PartialEq)]
enum Woken {
    /// The time has come.
    Due,
    /// The terminal has another size.
    Resized,
    /// The user has seen enough, with this exit code.
    End(u8),
}

/// Waits until it is `due`, or something else happens.
fn wait(due: Instant, signals: &SignalFd, keys: bool) -> Result<Woken> {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Woken::Due);
        }
        // Rounded up, as what is less than a millisecond would be none.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let stdin = stdio::stdin();
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if keys {
            fds.push(PollFd::new(stdin, PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            result => result.context("cannot wait")?,
        };
        let typed = fds.get(1).is_some_and(|fd| fd.any().unwrap_or(true));
        match signals::next(signals) {
            Some(Event::Resized) => return Ok(Woken::Resized),
            Some(Event::End(libc::SIGINT)) => return Ok(Woken::End(0)),
            Some(Event::End(number)) => return Ok(Woken::End(128 + number as u8)),
            Some(Event::Counters) | None => {}
        }
        let mut buffer = [0; 64];
        if typed {
            let n = nix::unistd::read(stdin, &mut buffer).unwrap_or(0);
            // A terminal that has gone away wants no more, either.
            if n == 0 || buffer[..n].iter().any(|key| matches!(*key, b'q' | b'Q' | CTRL_C)) {
                return Ok(Woken::End(0));
            }
        }
    }
}

/// Shows what the guests do.
pub fn main(args: &TopArgs) -> Result<u8> {
    let signals = signals::take_over()?;
    let screen = if stdio::stdout().is_terminal() { Some(Screen::enter()?) } else { None };
    let keys = screen.as_ref().is_some_and(|screen| screen.keys.is_some());
    let mut before = ask_all()?;
    let mut lines = picture(&[], &before);
    if screen.is_some() {
        show(&lines, true)?;
    }
    let (mut due, mut shown) = (Instant::now(), 0);
    loop {
        // What was late does not make the next one early.
        due = (due + args.delay).max(Instant::now());
        loop {
            match wait(due, &signals, keys)? {
                Woken::Due => break,
                Woken::Resized if screen.is_some() => show(&lines, true)?,
                Woken::Resized => {}
                Woken::End(code) => return Ok(code),
            }
        }
        let round = ask_all()?;
        lines = picture(&before.stats, &round);
        show(&lines, screen.is_some())?;
        before = round;
        shown += 1;
        if args.count.is_some_and(|count| shown >= count) {
            return Ok(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::tests::guest;
    use nix::sys::signal::{raise, Signal};

    const PAST: &[(&str, u64)] = &[
        ("exits", 100),
        ("hvc_exit_stat", 10),
        ("irq_exit_stat", 1000),
        ("stage2_faults", 7),
        ("halt_wakeup", 5),
        (GUEST_TIME, 1000),
        (USER_TIME, 5000),
        (STEAL_TIME, 20),
    ];
    /// Two seconds later.
    const NOW: &[(&str, u64)] = &[
        ("exits", 300),
        ("hvc_exit_stat", 110),
        ("irq_exit_stat", 2000),
        ("stage2_faults", 7),
        ("halt_wakeup", 6),
        (GUEST_TIME, 2500),
        (USER_TIME, 5000),
        (STEAL_TIME, 30),
    ];

    fn lines(before: &[Stat], stats: Vec<Stat>) -> Vec<String> {
        picture(before, &Round { stats, notes: Vec::new() })
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let expected = "\
NAME         GUEST%  EXITS/s   FAST/s   IRQS/s FAULTS/s  WAITS/s   STEAL%
web            75.0      100      450      500        0        0      0.5
  vcpu-0       75.0      100      450      500        0        0      0.5
  vcpu-1          -        -        -        -        -        -        -";
        let got = lines(&[guest("web", 5000, &[PAST])], vec![guest("web", 7000, &[NOW, NOW])]);
        assert_eq!(got.join("\n"), expected);
    }

    #[test]
    fn a_guest_has_the_sum_of_its_vcpus() {
        let got = lines(&[guest("web", 0, &[PAST, PAST])], vec![guest("web", 1000, &[NOW, NOW])]);
        assert!(got[1].starts_with("web           300.0      400 "), "{}", got[1]);
    }

    #[test]
    fn another_programs_vm_is_a_line() {
        let [before, after] = [(5000, PAST), (7000, NOW)].map(|(ms, counters)| {
            let mut stat = guest("[qemu]", ms, &[counters]);
            stat.counts.vm = stat.counts.vcpus.remove(0).counters;
            stat
        });
        let got = lines(&[before], vec![after]);
        assert_eq!(got[1..], ["[qemu]         75.0      100      450      500        0        0      0.5"]);
    }

    fn values(past: &[(&str, u64)], now: &[(&str, u64)]) -> Option<Values> {
        let [past, now] = [past, now].map(|list| guest("a", 0, &[list]).counts.vcpus.remove(0));
        Some(Growth::of_vcpu(&past, &now, 1000)?.values())
    }

    #[test]
    fn what_is_not_counted_is_left_out() {
        let some = values(&[("exits", 5), (USER_TIME, 100)], &[("exits", 7), (USER_TIME, 200)]);
        // Where Linux does not account guests their time is the user's; nothing is fast on KVM.
        assert_eq!(some, Some([Some(10.0), Some(2.0), Some(0.0), None, None, None, None]));
        assert_eq!(values(&[], &[]), Some([None; COLUMNS.len()]));
    }

    #[test]
    fn fast_exits_are_those_that_did_not_leave() {
        let fast = |past: &[(&str, u64)], now: &[(&str, u64)]| values(past, now).unwrap()[2];
        let past = [("exits", 0), ("exits_all", 0), ("hvc_exit_stat", 0), ("wfi_exit_stat", 0)];
        let now = [("exits", 4), ("hvc_exit_stat", 5), ("wfi_exit_stat", 6)];
        assert_eq!(fast(&past, &now), Some(7.0));
        assert_eq!(fast(&past, &[now.as_slice(), &[("exits_all", 20)]].concat()), Some(16.0));
        assert_eq!(fast(&past, &[("exits", 9), ("hvc_exit_stat", 5)]), Some(0.0));
    }

    #[test]
    fn a_guest_that_was_restarted_begins_anew() {
        assert_eq!(values(NOW, PAST), None);
        let past = [guest("web", 5000, &[PAST])];
        let is_new = |now: Stat| assert!(lines(&past, vec![now])[1].ends_with(" -"));
        // Another process, an earlier time, the same time, another thread.
        is_new(Stat { pid: 43, ..guest("web", 7000, &[NOW]) });
        is_new(guest("web", 4000, &[NOW]));
        is_new(guest("web", 5000, &[NOW]));
        let mut rebooted = guest("web", 7000, &[NOW]);
        rebooted.counts.vcpus[0].thread += 1;
        is_new(rebooted);
    }

    #[test]
    fn guests_come_and_go() {
        let [a, b] = ["a", "b"].map(|name| guest(name, 0, &[PAST]));
        let got = lines(&[a], vec![Stat { uptime_ms: 9, ..b }]);
        assert!(got.len() == 3 && got[1].ends_with(" -"), "{got:?}");
        let notes = vec!["b: it is not known".to_owned()];
        assert_eq!(picture(&[], &Round { stats: Vec::new(), notes })[1], "b: it is not known");
        assert_eq!(lines(&[], Vec::new())[1], "no guest runs");
        let error = |kind: ErrorKind| Err::<(), _>(std::io::Error::from(kind)).context("no answer").unwrap_err();
        assert!(is_end(&error(ErrorKind::UnexpectedEof)) && is_end(&error(ErrorKind::ConnectionReset)));
        assert!(!is_end(&error(ErrorKind::WouldBlock)) && !is_end(&anyhow::anyhow!("it is paused")));
    }

    #[test]
    fn a_picture_fits_the_terminal() {
        let lines = ["a".to_owned(), "b".repeat(99), "c".to_owned()];
        assert_eq!(drawn(&lines, 4, 2), "\x1b[Ha\x1b[K\r\nbbb\x1b[J");
    }

    #[test]
    fn a_wait_ends_in_time_or_by_a_signal() {
        std::thread::spawn(|| {
            let signals = signals::take_over().unwrap();
            let soon = || Instant::now() + Duration::from_millis(5);
            assert_eq!(wait(soon(), &signals, false).unwrap(), Woken::Due);
            for (signal, woken) in [(Signal::SIGWINCH, Woken::Resized), (Signal::SIGINT, Woken::End(0))] {
                raise(signal).unwrap();
                assert_eq!(wait(soon() + Duration::from_secs(60), &signals, false).unwrap(), woken);
            }
        })
        .join()
        .unwrap();
    }
}
