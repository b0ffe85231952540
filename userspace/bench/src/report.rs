// SPDX-License-Identifier: Apache-2.0
//! Both hypervisors' figures side by side.

use anyhow::Result;
use serde::Serialize;

use crate::{
    bars::{Bar, Verdict},
    measured::{Figure, Measured, Outcome},
};

/// One operation.
pub struct Row {
    /// Its name.
    pub name: String,
    /// On loft.
    pub loft: Outcome,
    /// On KVM.
    pub kvm: Outcome,
    /// Where it stands for a sweep: which of that one's operations it is on loft.
    pub which: Option<String>,
}

impl Row {
    /// Its name, and what it stands for.
    pub fn title(&self) -> String {
        match &self.which {
            Some(which) => format!("{} ({which})", self.name),
            None => self.name.clone(),
        }
    }

    /// loft's median as a part of KVM's.
    pub fn ratio(&self) -> Option<f64> {
        match (&self.loft, &self.kvm) {
            (Outcome::Figure(loft), Outcome::Figure(kvm)) => Some(loft.median / kvm.median),
            _ => None,
        }
    }
}

/// All of them, in the order in which they were measured.
pub struct Report {
    /// The release of the kernel that both ran on.
    pub kernel: String,
    /// The operations.
    pub rows: Vec<Row>,
}

/// The file's form of a row.
#[derive(Serialize)]
struct Operation<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    which: Option<&'a str>,
    loft: Option<Figure>,
    kvm: Option<Figure>,
    ratio: Option<f64>,
}

/// The file's form of the report.
#[derive(Serialize)]
struct File<'a> {
    kernel: &'a str,
    unit: &'a str,
    operations: Vec<Operation<'a>>,
}

impl Report {
    /// Puts the two sides together. What only one of them has is a failure of the other.
    pub fn new(kernel: &str, loft: Measured, kvm: Measured) -> Self {
        let mut names: Vec<&str> = loft.names().collect();
        names.extend(kvm.names().filter(|name| loft.get(name).is_none()));
        let side = |measured: &Measured, name: &str| {
            measured.get(name).cloned().unwrap_or_else(|| Outcome::Failed("it printed no result".into()))
        };
        let rows = names
            .into_iter()
            .map(|name| Row {
                name: name.into(),
                loft: side(&loft, name),
                kvm: side(&kvm, name),
                which: loft.which(name).map(Into::into),
            })
            .collect();
        Self { kernel: kernel.into(), rows }
    }

    /// `bench.json`.
    pub fn json(&self) -> Result<String> {
        let figure = |outcome: &Outcome| match outcome {
            Outcome::Figure(figure) => Some(*figure),
            _ => None,
        };
        let operations = self
            .rows
            .iter()
            .map(|row| Operation {
                name: &row.name,
                which: row.which.as_deref(),
                loft: figure(&row.loft),
                kvm: figure(&row.kvm),
                ratio: row.ratio().map(|ratio| (ratio * 10_000.0).round() / 10_000.0),
            })
            .collect();
        let file = File { kernel: &self.kernel, unit: "instructions", operations };
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }

    /// A row's bar and whether it is met.
    pub fn bar(&self, row: &Row) -> (Bar, Verdict) {
        let bar = Bar::of(&row.name);
        let other = match bar {
            Bar::OfOwn(name, ..) => self.rows.iter().find(|row| row.name == name).map(|row| &row.loft),
            _ => Some(&row.kvm),
        };
        (bar, bar.verdict(Some(&row.loft), other))
    }

    /// A message for each benchmark that failed.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in &self.rows {
            for (side, outcome) in [("loft", &row.loft), ("KVM", &row.kvm)] {
                if let Outcome::Failed(why) = outcome {
                    failures.push(format!("{} could not be measured on {side}: {why}", row.name));
                }
            }
        }
        failures
    }

    /// A message for each bar that is not met.
    pub fn unmet(&self) -> Vec<String> {
        self.rows
            .iter()
            .filter_map(|row| {
                let (bar, verdict) = self.bar(row);
                match verdict {
                    Verdict::Met => None,
                    Verdict::Missed(times) => Some(format!("{}: {times:.2} times its bar ({bar})", row.title())),
                    Verdict::Unknown => Some(format!("{}: its bar ({bar}) cannot be met without figures", row.name)),
                }
            })
            .collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A report of operations with loft's and KVM's medians; no figure is absent.
    pub fn report(operations: &[(&str, Option<f64>, Option<f64>)]) -> Report {
        let side = |median: Option<f64>| match median {
            Some(median) => Outcome::Figure(Figure { min: median - 1.0, median, max: median * 2.0 }),
            None => Outcome::Absent("not there".into()),
        };
        let rows = operations
            .iter()
            .map(|(name, loft, kvm)| Row { name: (*name).into(), loft: side(*loft), kvm: side(*kvm), which: None })
            .collect();
        Report { kernel: "7.2.0".into(), rows }
    }

    #[test]
    fn both_sides_are_joined_by_name() {
        let log = |name: &str, ticks| {
            let mut measured = Measured::default();
            let line = format!(
                "1..1\n{{\"name\":\"{name}\",\"operations\":1,\"frequency\":1000000000,\"ticks\":[{ticks}]}}\nok 1 x\n"
            );
            measured.add(&line).unwrap();
            measured
        };
        let joined = Report::new("7.2.0", log("a", 50), log("a", 200));
        assert_eq!(joined.rows.len(), 1);
        assert_eq!(joined.rows[0].ratio(), Some(0.25));
        assert!(joined.failures().is_empty());

        let apart = Report::new("7.2.0", log("a", 50), log("b", 200));
        assert_eq!(apart.rows.len(), 2);
        let failures = apart.failures();
        assert!(failures[0].starts_with("a could not be measured on KVM"), "{failures:?}");
        assert!(failures[1].starts_with("b could not be measured on loft"), "{failures:?}");
    }

    #[test]
    fn the_file_has_what_its_readers_expect() {
        let json = report(&[("a", Some(107.0), Some(1605.0)), ("b", None, Some(5.0))]).json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let operations = value["operations"].as_array().unwrap();
        assert_eq!(operations[0]["name"], "a");
        assert_eq!(operations[0]["loft"]["median"], 107.0);
        assert_eq!(operations[0]["kvm"]["max"], 3210.0);
        assert_eq!(operations[0]["ratio"], 0.0667);
        assert!(operations[1]["loft"].is_null() && operations[1]["ratio"].is_null());
        assert_eq!(operations[1]["kvm"]["min"], 4.0);
    }

    #[test]
    fn unmet_bars_are_named() {
        let unmet = report(&[
            ("hypercall", Some(99.0), Some(1605.0)),
            ("eoi", Some(3.0), Some(3.0)),
            ("write_after_protect", None, Some(3.0)),
        ])
        .unmet();
        assert_eq!(unmet.len(), 2);
        assert!(unmet[0].contains("hypercall: 1.10 times"), "{unmet:?}");
        assert!(unmet[1].contains("write_after_protect"), "{unmet:?}");
    }

    #[test]
    fn a_bar_may_be_another_operation() {
        let unmet = |last: f64| {
            let rows = [("sgi_all_2", 1000.0), ("sgi_all_16", 300.0), ("sgi_all_64", last)];
            report(&rows.map(|(name, loft)| (name, Some(loft), Some(9000.0)))).unmet()
        };
        assert!(unmet(300.0).is_empty());
        let grown = unmet(330.0);
        assert_eq!(grown.len(), 1);
        assert!(grown[0].contains("sgi_all_64: 1.10 times its bar (not above sgi_all_16)"), "{grown:?}");
        // Without that operation nothing is met.
        assert_eq!(report(&[("sgi_all_64", Some(1.0), Some(2.0))]).unmet().len(), 1);
    }
}
