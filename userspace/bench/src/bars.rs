// SPDX-License-Identifier: Apache-2.0
//! What loft has promised itself for each operation.

use crate::{
    measured::{Figure, Outcome},
    table::number,
};

/// A bar for loft's median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// So many instructions, the guest's own included.
    AtMost(f64),
    /// Such a part of what KVM takes.
    OfKvm(u32, u32),
    /// Such a part of what another operation takes on loft.
    OfOwn(&'static str, u32, u32),
    /// The guest does it without an exit.
    NoExit,
}

/// An exit that only saves the registers and calls a function takes more than this.
const CHEAPEST_EXIT: f64 = 40.0;

/// Every operation that is not in here has to be no dearer than on KVM.
const BARS: &[(&str, Bar)] = &[
    ("hypercall", Bar::AtMost(90.0)),
    // Whatever is answered and does nothing else.
    ("smccc_dearest", Bar::AtMost(130.0)),
    ("gic_read_dearest", Bar::AtMost(250.0)),
    ("gic_write_dearest", Bar::AtMost(400.0)),
    ("sysreg_read_dearest", Bar::AtMost(150.0)),
    ("sysreg_write_dearest", Bar::AtMost(150.0)),
    ("idreg_read", Bar::AtMost(120.0)),
    ("gicd_read", Bar::AtMost(180.0)),
    ("mmio_user", Bar::AtMost(2_500.0)),
    ("sgi_send", Bar::AtMost(400.0)),
    ("sgi_deliver", Bar::OfKvm(1, 3)),
    ("sgi_waiting", Bar::OfKvm(1, 2)),
    // For each target: there may be more of them.
    ("sgi_all_16", Bar::OfOwn("sgi_all_2", 1, 1)),
    ("sgi_all_64", Bar::OfOwn("sgi_all_16", 1, 1)),
    // Two pairs of vCPUs do not wait for each other.
    ("sgi_pairs", Bar::OfOwn("sgi_pair", 11, 10)),
    ("timer_set", Bar::AtMost(150.0)),
    ("eoi", Bar::NoExit),
    ("ioeventfd_kick", Bar::OfKvm(1, 3)),
    ("irqfd_deliver", Bar::OfKvm(2, 3)),
    ("stage2_fault_4k", Bar::OfKvm(2, 3)),
    ("vm_switch", Bar::OfKvm(1, 2)),
    ("run_immediate_exit", Bar::OfKvm(1, 2)),
    // Most of it are the files in debugfs, of which both make one for each counter.
    ("vm_create_destroy", Bar::OfKvm(1, 3)),
    // 20 us, where an instruction takes a nanosecond.
    ("host_wakeup", Bar::AtMost(20_000.0)),
    // The host's interrupts are off meanwhile.
    ("spis_all", Bar::AtMost(20_000.0)),
    ("spis_active", Bar::AtMost(20_000.0)),
    ("spis_mixed", Bar::AtMost(20_000.0)),
];

/// Whether a bar is met.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is.
    Met,
    /// It is not; loft takes so many times what it may.
    Missed(f64),
    /// Nobody can say, which is not met: a side has no figure.
    Unknown,
}

impl Bar {
    /// The bar of the operation `name`.
    pub fn of(name: &str) -> Self {
        BARS.iter().find(|(known, _)| *known == name).map_or(Self::OfKvm(1, 1), |(_, bar)| *bar)
    }

    /// What loft may take, where that is known; `other`: what the bar compares it with.
    fn limit(self, other: Option<Figure>) -> Option<f64> {
        match self {
            Self::AtMost(limit) => Some(limit),
            Self::OfKvm(part, whole) | Self::OfOwn(_, part, whole) => {
                other.map(|other| other.median * f64::from(part) / f64::from(whole))
            }
            Self::NoExit => Some(CHEAPEST_EXIT),
        }
    }

    /// Whether it is met by what loft takes; `other`: what KVM takes, or loft for the operation that
    /// [`Bar::OfOwn`] names.
    pub fn verdict(self, loft: Option<&Outcome>, other: Option<&Outcome>) -> Verdict {
        let figure = |outcome: Option<&Outcome>| match outcome {
            Some(Outcome::Figure(figure)) => Some(*figure),
            _ => None,
        };
        match (figure(loft), self.limit(figure(other))) {
            (Some(loft), Some(limit)) if loft.median <= limit => Verdict::Met,
            (Some(loft), Some(limit)) => Verdict::Missed(loft.median / limit),
            _ => Verdict::Unknown,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {}", number(*limit)),
            Self::OfKvm(1, 1) => write!(f, "not above KVM"),
            Self::OfKvm(part, whole) => write!(f, "{part}/{whole} of KVM"),
            Self::OfOwn(name, 1, 1) => write!(f, "not above {name}"),
            Self::OfOwn(name, part, whole) => write!(f, "{part}/{whole} of {name}"),
            Self::NoExit => write!(f, "no exit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(median: f64) -> Outcome {
        Outcome::Figure(Figure { min: 1.0, median, max: 1e6 })
    }

    #[test]
    fn the_median_is_held_to_the_bar() {
        let kvm = took(300.0);
        for (bar, loft, met) in [
            (Bar::AtMost(90.0), 90.0, true),
            (Bar::AtMost(90.0), 90.5, false),
            (Bar::OfKvm(1, 3), 100.0, true),
            (Bar::OfKvm(1, 3), 101.0, false),
            (Bar::OfKvm(1, 1), 300.0, true),
            (Bar::OfKvm(1, 1), 300.5, false),
            (Bar::OfOwn("another", 11, 10), 330.0, true),
            (Bar::OfOwn("another", 11, 10), 331.0, false),
            (Bar::NoExit, 21.0, true),
            (Bar::NoExit, 46.0, false),
        ] {
            assert_eq!(bar.verdict(Some(&took(loft)), Some(&kvm)) == Verdict::Met, met, "{bar} {loft}");
        }
        assert_eq!(Bar::AtMost(90.0).verdict(Some(&took(180.0)), None), Verdict::Missed(2.0));
    }

    #[test]
    fn without_a_figure_no_bar_is_met() {
        let absent = Outcome::Absent("ENOTTY".into());
        assert_eq!(Bar::of("hypercall").verdict(Some(&absent), Some(&took(1.0))), Verdict::Unknown);
        assert_eq!(Bar::of("hypercall").verdict(None, Some(&took(1.0))), Verdict::Unknown);
        assert_eq!(Bar::of("sgi_deliver").verdict(Some(&took(1.0)), Some(&absent)), Verdict::Unknown);
    }

    #[test]
    fn the_others_are_held_to_kvm() {
        assert_eq!(Bar::of("vcpu_create"), Bar::OfKvm(1, 1));
        assert_eq!(Bar::of("hypercall").to_string(), "at most 90");
        assert_eq!(Bar::of("sgi_deliver").to_string(), "1/3 of KVM");
    }
}
