// SPDX-License-Identifier: Apache-2.0
//! The report for a terminal.

use std::fmt::Write;

use crate::{bars::Verdict, measured::Outcome, report::Report};

/// A number of instructions: 1,605, or 21.4 where a fraction tells something.
pub fn number(value: f64) -> String {
    if value < 100.0 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map(Into::into).unwrap_or(text);
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Min, median and max in columns, or why there are none.
fn columns(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Figure(f) => format!("{:>9} {:>9} {:>11}", number(f.min), number(f.median), number(f.max)),
        Outcome::Absent(_) => format!("{:>9} {:>9} {:>11}", "", "absent", ""),
        Outcome::Failed(_) => format!("{:>9} {:>9} {:>11}", "", "FAILED", ""),
    }
}

/// The whole table.
pub fn table(report: &Report) -> String {
    let width = report.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("operation".len());
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        let line = line.to_string();
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(format_args!("Instructions per operation, the guest's own included. Linux {}.", report.kernel));
    line(format_args!("{:width$}  {:>31}  {:>31}", "", "loft", "KVM"));
    line(format_args!(
        "{:width$}  {:>9} {:>9} {:>11}  {:>9} {:>9} {:>11}  {:>8}  bar",
        "operation", "min", "median", "max", "min", "median", "max", "loft/KVM"
    ));
    for row in &report.rows {
        let ratio = row.ratio().map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
        let (bar, verdict) = report.bar(row);
        let verdict = match verdict {
            Verdict::Met => "met".into(),
            Verdict::Missed(times) => format!("NOT MET, {times:.2} times that"),
            Verdict::Unknown => "NOT MET, no figure".into(),
        };
        line(format_args!(
            "{:width$}  {}  {}  {ratio:>8}  {bar}: {verdict}",
            row.name,
            columns(&row.loft),
            columns(&row.kvm)
        ));
    }
    for row in &report.rows {
        for (side, outcome) in [("loft", &row.loft), ("KVM", &row.kvm)] {
            if let Outcome::Absent(why) = outcome {
                line(format_args!("absent on {side}: {} ({why})", row.name));
            }
        }
    }
    for row in &report.rows {
        if let Some(which) = &row.which {
            line(format_args!("on loft {} is {which}", row.name));
        }
    }
    let unmet = report.unmet().len();
    line(format_args!("{} of {} bars are met.", report.rows.len() - unmet, report.rows.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn numbers_are_easy_to_read() {
        for (value, text) in [
            (3.0, "3"),
            (21.44, "21.4"),
            (99.96, "100"),
            (107.04, "107"),
            (1605.04, "1,605"),
            (12345678.0, "12,345,678"),
            (100000.0, "100,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_row_says_all_there_is() {
        let text = table(&report(&[("hypercall", Some(107.0), Some(1605.0)), ("dirty", None, Some(9.0))]));
        let rows: Vec<&str> = text.lines().collect();
        let words: Vec<&str> = rows[3].split_whitespace().collect();
        assert_eq!(words[..8], ["hypercall", "106", "107", "214", "1,604", "1,605", "3,210", "0.067"]);
        assert!(rows[3].ends_with("at most 90: NOT MET, 1.19 times that"), "{text}");
        assert!(rows[4].contains("absent") && rows[4].ends_with("not above KVM: NOT MET, no figure"), "{text}");
        assert!(text.contains("absent on loft: dirty (not there)"), "{text}");
        assert!(text.ends_with("0 of 2 bars are met.\n"), "{text}");
    }
}
