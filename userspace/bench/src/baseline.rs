// SPDX-License-Identifier: Apache-2.0
//! The figures that loft had, kept with the sources: what has become slower shows.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{measured::Outcome, report::Report};

/// So much slower is noise at most; more is a change.
const TOLERANCE: f64 = 0.03;

/// loft's medians.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The release of the kernel they were measured on.
    kernel: String,
    /// In instructions; null for what loft did not offer.
    operations: BTreeMap<String, Option<f64>>,
}

/// What a comparison finds.
#[derive(Default)]
pub struct Comparison {
    /// Each of them fails.
    pub problems: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl Baseline {
    /// The baseline that the report is.
    pub fn of(report: &Report) -> Self {
        let median = |outcome: &Outcome| match outcome {
            Outcome::Figure(figure) => Some(figure.median),
            _ => None,
        };
        Self {
            kernel: report.kernel.clone(),
            operations: report.rows.iter().map(|row| (row.name.clone(), median(&row.loft))).collect(),
        }
    }

    /// From the file.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(serde_json::from_str(text)?)
    }

    /// As the file.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Compares; with `some`, operations may be missing. On another series of kernels nothing but news is found: the host's
    /// kernel takes part in most operations.
    pub fn compare(&self, report: &Report, some: bool) -> Comparison {
        let mut found = self.compare_figures(report, some);
        if series(&self.kernel) != series(&report.kernel) {
            found.notes.append(&mut found.problems);
        }
        if self.kernel != report.kernel {
            found.notes.push(format!(
                "the baseline is from Linux {}, this is {}: where the host's kernel takes part, figures may differ",
                self.kernel, report.kernel
            ));
        }
        found
    }

    fn compare_figures(&self, report: &Report, some: bool) -> Comparison {
        let mut found = Comparison::default();
        for row in &report.rows {
            let now = match &row.loft {
                Outcome::Figure(figure) => Some(figure),
                Outcome::Absent(_) => None,
                // Reported as such.
                Outcome::Failed(_) => continue,
            };
            let name = &row.name;
            match (self.operations.get(name), now) {
                (None, _) | (Some(None), Some(_)) => {
                    found.notes.push(format!("{name} is not in the baseline yet; make bench UPDATE=1 takes it in"))
                }
                (Some(Some(_)), None) => {
                    found.problems.push(format!("{name} is in the baseline, but loft no longer offers it"))
                }
                (Some(None), None) => {}
                (Some(&Some(then)), Some(now)) => {
                    let median = now.median;
                    let change = median / then - 1.0;
                    // An operation that has the scheduler in it has another median in every boot, but then some rounds that
                    // are as cheap as ever. Where all rounds cost the same this is the median as well.
                    if now.min > then * (1.0 + TOLERANCE) {
                        found.problems.push(format!(
                            "{name} has become {:.1} % slower: {median} instructions, {then} in the baseline. If that is meant to \
                             be, run make bench UPDATE=1 and commit the baseline with the reason",
                            change * 100.0
                        ));
                    } else if median < then * (1.0 - TOLERANCE) {
                        found.notes.push(format!(
                            "{name} has become {:.1} % faster; make bench UPDATE=1 holds it to that",
                            change * -100.0
                        ));
                    }
                }
            }
        }
        if !some {
            for name in self.operations.keys() {
                if report.rows.iter().all(|row| row.name != *name) {
                    found.problems.push(format!("{name} is in the baseline, but is no longer measured"));
                }
            }
        }
        found
    }
}

/// The 7.2 of 7.2.12+deb13-arm64.
fn series(kernel: &str) -> Vec<&str> {
    kernel.split('.').take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    fn compare(then: Option<f64>, now: Option<f64>) -> (usize, usize) {
        let found = Baseline::of(&report(&[("a", then, None)])).compare(&report(&[("a", now, None)]), false);
        (found.problems.len(), found.notes.len())
    }

    #[test]
    fn slower_is_a_problem_and_faster_is_news() {
        assert_eq!(compare(Some(100.0), Some(100.0)), (0, 0));
        // The cheapest round of these is one below the median.
        assert_eq!(compare(Some(100.0), Some(104.0)), (0, 0));
        assert_eq!(compare(Some(100.0), Some(104.1)), (1, 0));
        assert_eq!(compare(Some(100.0), Some(97.0)), (0, 0));
        assert_eq!(compare(Some(100.0), Some(96.0)), (0, 1));
    }

    #[test]
    fn what_comes_and_goes() {
        assert_eq!(compare(None, None), (0, 0));
        assert_eq!(compare(None, Some(5.0)), (0, 1));
        assert_eq!(compare(Some(5.0), None), (1, 0));
        let two = Baseline::of(&report(&[("a", Some(1.0), None), ("b", Some(1.0), None)]));
        let one = report(&[("a", Some(1.0), None)]);
        assert_eq!(two.compare(&one, false).problems.len(), 1);
        assert_eq!(two.compare(&one, true).problems.len(), 0);
        let new = report(&[("a", Some(1.0), None), ("b", Some(1.0), None), ("c", Some(1.0), None)]);
        assert_eq!(two.compare(&new, false).notes.len(), 1);
    }

    #[test]
    fn another_kernel_is_said_and_another_series_is_not_held_to_it() {
        let baseline = Baseline::of(&report(&[("a", Some(100.0), None)]));
        let mut slower = report(&[("a", Some(200.0), None)]);
        slower.kernel = "7.2.99".into();
        let found = baseline.compare(&slower, false);
        assert_eq!(found.problems.len(), 1);
        assert!(found.notes[0].contains("7.2.99"));
        slower.kernel = "7.3.1".into();
        let found = baseline.compare(&slower, false);
        assert!(found.problems.is_empty());
        assert!(found.notes[0].contains("a has become 100.0 % slower"), "{:?}", found.notes);
        assert!(found.notes[1].contains("7.3.1"));
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let written = Baseline::of(&report(&[("a", Some(107.04), None), ("b", None, None)]));
        let read = Baseline::parse(&written.json().unwrap()).unwrap();
        assert_eq!(read.operations, written.operations);
        assert_eq!(read.kernel, "7.2.0");
        assert!(Baseline::parse("{}").is_err());
    }
}
