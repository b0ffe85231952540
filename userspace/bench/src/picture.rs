// SPDX-License-Identifier: Apache-2.0
//! The reports as pictures: a pair of bars for each operation or workload.

use std::fmt::Write;

use crate::{measured::Outcome, report::Report, table::number};

const WIDTH: f64 = 900.0;
/// Where the bars begin and how far they may go: names are left of them, figures right.
const LEFT: f64 = 190.0;
const RIGHT: f64 = WIDTH - 80.0;
const TOP: f64 = 64.0;
const ROW: f64 = 30.0;
const BAR: f64 = 11.0;
const LOFT: &str = "#d1602b";
const KVM: &str = "#6f8096";

/// How long a bar is.
pub enum Scale {
    /// From 1 to a power of ten.
    Logarithmic { decades: i32 },
    /// From 0 to so much.
    Linear { end: f64 },
}

impl Scale {
    /// The logarithmic one that goes up to the greatest of these.
    fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        Self::Logarithmic { decades: values.fold(10.0, f64::max).log10().ceil() as i32 }
    }

    fn x(&self, value: f64) -> f64 {
        let part = match self {
            Self::Logarithmic { decades } => value.max(1.0).log10() / f64::from(*decades),
            Self::Linear { end } => value / end,
        };
        LEFT + part * (RIGHT - LEFT)
    }

    /// Where lines are drawn.
    fn marks(&self) -> Vec<f64> {
        match self {
            Self::Logarithmic { decades } => (0..=*decades).map(|decade| 10f64.powi(decade)).collect(),
            Self::Linear { end } => (0..=4).map(|quarter| end * f64::from(quarter) / 4.0).collect(),
        }
    }
}

/// One bar, or why there is none.
pub enum Bar {
    /// Its value, and what is written behind it.
    Value(f64, String),
    /// What is written instead.
    None(&'static str),
}

/// Pairs of bars, loft's and KVM's.
pub struct Chart {
    /// For who cannot see it.
    pub title: &'static str,
    /// On top.
    pub heading: &'static str,
    /// Below that.
    pub note: String,
    /// The scale.
    pub scale: Scale,
    /// The pairs, loft's first.
    pub rows: Vec<(String, [Bar; 2])>,
}

/// The picture of a report.
pub fn svg(report: &Report) -> String {
    let bar = |outcome: &Outcome| match outcome {
        Outcome::Figure(figure) => Bar::Value(figure.median, number(figure.median)),
        Outcome::Absent(_) => Bar::None("absent"),
        Outcome::Failed(_) => Bar::None("failed"),
    };
    let medians = report.rows.iter().flat_map(|row| [&row.loft, &row.kvm]).filter_map(|outcome| match outcome {
        Outcome::Figure(figure) => Some(figure.median),
        _ => None,
    });
    Chart {
        title: "What an operation costs on loft and on KVM",
        heading: "Instructions per operation",
        note: format!("median, logarithmic scale, less is better; Linux {}", report.kernel),
        scale: Scale::logarithmic(medians),
        rows: report.rows.iter().map(|row| (row.name.clone(), [bar(&row.loft), bar(&row.kvm)])).collect(),
    }
    .svg()
}

impl Chart {
    /// The whole picture.
    pub fn svg(&self) -> String {
        let scale = &self.scale;
        let bottom = TOP + ROW * self.rows.len() as f64;
        let height = bottom + 34.0;
        let mut svg = String::new();
        let mut add = |line: std::fmt::Arguments<'_>| {
            let _ = writeln!(svg, "{line}");
        };
        add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">"
        ));
        add(format_args!("<title>{}</title>", self.title));
        // Pages may be dark.
        add(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"));
        add(format_args!(
            "<text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\
             <text x=\"12\" y=\"43\" fill=\"#666\">{}</text>",
            self.heading,
            escape(&self.note)
        ));
        for (i, (name, colour)) in [("loft", LOFT), ("KVM", KVM)].into_iter().enumerate() {
            let x = RIGHT - 90.0 + 70.0 * i as f64;
            add(format_args!(
                "<rect x=\"{x}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"24\">{name}</text>",
                x + 17.0
            ));
        }
        for value in scale.marks() {
            let x = scale.x(value);
            add(format_args!(
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
                bottom + 18.0,
                number(value)
            ));
        }
        for (i, (name, [loft, kvm])) in self.rows.iter().enumerate() {
            let y = TOP + ROW * i as f64 + (ROW - 2.0 * BAR) / 2.0;
            add(format_args!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + BAR + 4.0,
                escape(name)
            ));
            for (bar, colour, y) in [(loft, LOFT, y), (kvm, KVM, y + BAR)] {
                let (end, label) = match bar {
                    Bar::Value(value, label) => (scale.x(*value), label.as_str()),
                    Bar::None(why) => (LEFT, *why),
                };
                add(format_args!(
                    "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{label}</text>",
                    end - LEFT,
                    BAR - 1.0,
                    end + 4.0,
                    y + BAR - 2.0
                ));
            }
        }
        add(format_args!("</svg>"));
        svg
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    /// The widths of the bars of one colour.
    fn widths(svg: &str, colour: &str) -> Vec<f64> {
        svg.lines()
            .filter(|line| line.starts_with("<rect x=\"190\"") && line.contains(colour))
            .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn a_bar_is_as_long_as_its_logarithm() {
        let svg =
            svg(&report(&[("a", Some(10.0), Some(1000.0)), ("b", Some(100.0), Some(10000.0)), ("c", None, Some(1.0))]));
        let unit = (RIGHT - LEFT) / 4.0;
        let near = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.1);
        assert!(near(&widths(&svg, LOFT), &[unit, 2.0 * unit, 0.0]), "{svg}");
        assert!(near(&widths(&svg, KVM), &[3.0 * unit, 4.0 * unit, 0.0]), "{svg}");
        assert!(svg.contains(">absent</text>") && svg.contains(">10,000</text>"), "{svg}");
    }

    #[test]
    fn names_do_not_break_it() {
        assert!(svg(&report(&[("a<b&c", Some(1.0), None)])).contains("a&lt;b&amp;c"));
    }
}
