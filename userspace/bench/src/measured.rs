// SPDX-License-Identifier: Apache-2.0
//! What the benchmarks print: KTAP, and a line of JSON for each operation.

use anyhow::{bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};

/// The ticks of the counter in a second where one tick is one instruction: `-icount shift=0` on QEMU's CPU `max`.
const TICK_IS_INSTRUCTION: u64 = 1_000_000_000;

/// One operation, as it is printed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    /// Of a sweep: which of its operations this is.
    #[serde(default)]
    which: String,
    /// In each round.
    operations: u64,
    /// Of the counter.
    frequency: u64,
    /// Of each round.
    ticks: Vec<u64>,
}

/// What one operation took, in instructions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The cheapest round.
    pub min: f64,
    /// The round in the middle. The host's own interrupts fall into some rounds: this is the figure that repeats.
    pub median: f64,
    /// The dearest round.
    pub max: f64,
}

impl Figure {
    fn new(mut ticks: Vec<u64>, operations: u64) -> Result<Self> {
        ensure!(operations > 0 && !ticks.is_empty(), "no operation was measured");
        ticks.sort_unstable();
        // Hundredths, for a reader's sake.
        let each = |ticks: u64| ((ticks as f64 / operations as f64) * 100.0).round() / 100.0;
        Ok(Self { min: each(ticks[0]), median: each(ticks[(ticks.len() - 1) / 2]), max: each(ticks[ticks.len() - 1]) })
    }
}

/// How an operation went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was measured.
    Figure(Figure),
    /// The hypervisor does not offer it; with the reason.
    Absent(String),
    /// The benchmark failed; with what it said.
    Failed(String),
}

/// All that one hypervisor's benchmarks printed, in their order.
#[derive(Default)]
pub struct Measured {
    outcomes: Vec<(String, Outcome)>,
    /// What the operations of sweeps are.
    which: Vec<(String, String)>,
}

impl Measured {
    /// Adds a program's output.
    pub fn add(&mut self, log: &str) -> Result<()> {
        let (mut planned, mut ended, mut said) = (None, 0, String::new());
        for line in log.lines() {
            if line.starts_with('{') {
                self.add_line(line)?;
            } else if let Some(plan) = line.strip_prefix("1..") {
                planned = Some(plan.parse::<usize>().with_context(|| format!("a plan was expected: {line}"))?);
            } else if let Some(note) = line.strip_prefix("# ") {
                said = note.trim_start_matches("skipped: ").into();
            } else if let Some(case) = line.strip_prefix("not ok ") {
                ended += 1;
                self.set(name_of(case)?, Outcome::Failed(std::mem::take(&mut said)));
            } else if let Some(case) = line.strip_prefix("ok ") {
                ended += 1;
                if let Some(case) = case.strip_suffix(" # SKIP") {
                    self.set(name_of(case)?, Outcome::Absent(std::mem::take(&mut said)));
                }
            }
        }
        let planned = planned.context("the program printed no plan")?;
        ensure!(ended == planned, "the program ended after {ended} of {planned} operations");
        Ok(())
    }

    fn add_line(&mut self, line: &str) -> Result<()> {
        let line: Line = serde_json::from_str(line).with_context(|| format!("a result was expected: {line}"))?;
        let name = &line.name;
        ensure!(
            line.frequency == TICK_IS_INSTRUCTION,
            "the counter ran at {} Hz: its ticks are no instructions; measure with scripts/server --icount --cpu max",
            line.frequency
        );
        if self.get(name).is_some() {
            bail!("there are two results for {name}");
        }
        let figure = Figure::new(line.ticks, line.operations).with_context(|| name.clone())?;
        if !line.which.is_empty() {
            self.which.push((line.name.clone(), line.which));
        }
        self.outcomes.push((line.name, Outcome::Figure(figure)));
        Ok(())
    }

    /// A case's end replaces what it may have printed before it failed.
    fn set(&mut self, name: &str, outcome: Outcome) {
        match self.outcomes.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = outcome,
            None => self.outcomes.push((name.into(), outcome)),
        }
    }

    /// What became of the operation `name`.
    pub fn get(&self, name: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|(known, _)| known == name).map(|(_, outcome)| outcome)
    }

    /// Which of its sweep's operations `name` is, if it is of a sweep.
    pub fn which(&self, name: &str) -> Option<&str> {
        self.which.iter().find(|(known, _)| known == name).map(|(_, which)| which.as_str())
    }

    /// The operations' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.outcomes.iter().map(|(name, _)| name.as_str())
    }
}

/// The name in `NUMBER NAME`.
fn name_of(case: &str) -> Result<&str> {
    let (_, name) = case.split_once(' ').with_context(|| format!("a case was expected: {case}"))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(log: &str) -> Result<Measured> {
        let mut measured = Measured::default();
        measured.add(log)?;
        Ok(measured)
    }

    #[test]
    fn a_program_that_went_well() {
        let m = measured(
            "TAP version 13\n1..2\n\
             {\"name\":\"a\",\"operations\":10,\"frequency\":1000000000,\"ticks\":[30,1000,20,40]}\n\
             ok 1 a\n# skipped: KVM_GET_DIRTY_LOG: ENOTTY\nok 2 b # SKIP\n# Totals: pass:1\n",
        )
        .unwrap();
        assert_eq!(m.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(m.get("a"), Some(&Outcome::Figure(Figure { min: 2.0, median: 3.0, max: 100.0 })));
        assert_eq!(m.get("b"), Some(&Outcome::Absent("KVM_GET_DIRTY_LOG: ENOTTY".into())));
        assert_eq!(m.get("c"), None);
    }

    #[test]
    fn one_case_with_two_operations() {
        let m = measured(
            "1..1\n{\"name\":\"send\",\"operations\":1,\"frequency\":1000000000,\"ticks\":[3]}\n\
             {\"name\":\"deliver\",\"operations\":3,\"frequency\":1000000000,\"ticks\":[5]}\nok 1 deliver\n",
        )
        .unwrap();
        assert_eq!(m.names().collect::<Vec<_>>(), ["send", "deliver"]);
        assert_eq!(m.get("deliver"), Some(&Outcome::Figure(Figure { min: 1.67, median: 1.67, max: 1.67 })));
    }

    #[test]
    fn one_operation_of_a_sweep() {
        let m = measured(
            "1..1\n{\"name\":\"a\",\"which\":\"0x84\",\"operations\":1,\"frequency\":1000000000,\"ticks\":[3]}\n\
             {\"name\":\"b\",\"which\":\"\",\"operations\":1,\"frequency\":1000000000,\"ticks\":[3]}\nok 1 a\n",
        )
        .unwrap();
        assert_eq!((m.which("a"), m.which("b")), (Some("0x84"), None));
    }

    #[test]
    fn a_failure_is_not_a_figure() {
        let m = measured(
            "1..1\n{\"name\":\"a\",\"operations\":1,\"frequency\":1000000000,\"ticks\":[3]}\n\
             # exits.c:7: KVM_RUN: EFAULT\nnot ok 1 a\n",
        )
        .unwrap();
        assert_eq!(m.get("a"), Some(&Outcome::Failed("exits.c:7: KVM_RUN: EFAULT".into())));
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        for (log, message) in [
            ("", "no plan"),
            ("1..2\nok 1 a\n", "after 1 of 2"),
            ("1..x\n", "a plan was expected"),
            ("1..1\n{\"name\":\n", "a result was expected"),
            ("1..1\n{\"name\":\"a\",\"operations\":1,\"frequency\":62500000,\"ticks\":[1]}\n", "--icount"),
            ("1..1\n{\"name\":\"a\",\"operations\":0,\"frequency\":1000000000,\"ticks\":[1]}\n", "a"),
            ("1..1\n{\"name\":\"a\",\"operations\":1,\"frequency\":1000000000,\"ticks\":[]}\n", "a"),
        ] {
            let Err(error) = measured(log) else { panic!("taken: {log}") };
            assert!(format!("{error:#}").contains(message), "{error:#}");
        }
        let twice = "{\"name\":\"a\",\"operations\":1,\"frequency\":1000000000,\"ticks\":[1]}\n".repeat(2);
        assert!(measured(&format!("1..1\n{twice}ok 1 a\n")).is_err());
    }
}
