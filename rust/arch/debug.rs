// SPDX-License-Identifier: GPL-2.0

//! The guest's breakpoints, watchpoints and software step; or those of a debugger outside of it.
//!
//! The guest's accesses to the debug registers trap, so memory has what it wrote. They are put into
//! the CPU around those runs of the guest in which they can have an effect, and the host's own,
//! which its debuggers may be using, are put back after each. DDI 0487, chapter D2.

use super::el1::El1Context;
use crate::model::sysreg::regs::{ID_AA64DFR0_EL1, MDSCR_EL1, OSLSR_EL1};
use crate::model::sysreg::{Encoding, Reg};
use core::array::from_fn;

/// What makes debug exceptions possible at all, without which no other debug register does
/// anything.
const ENABLES: u64 = MDSCR_EL1::SS.mask() | MDSCR_EL1::KDE.mask() | MDSCR_EL1::MDE.mask();

/// Returns the value of MDSCR_EL1 to run the guest with, if it wants any debug exceptions: it has
/// enabled them, and its OS lock is open.
pub(super) fn wanted(saved: &El1Context) -> Option<u64> {
    let mdscr = saved.get(Reg::MDSCR_EL1);
    (mdscr & ENABLES != 0 && !OSLSR_EL1::OSLK.is_set(saved.get(Reg::OSLSR_EL1)))
        .then_some(mdscr & ENABLES)
}

/// Calls `$each!(number, value register, control register)` for 16 pairs from the two first ones of
/// the context on.
macro_rules! pairs {
    ($each:ident, $value:ident, $control:ident) => {
        $each!(0, $value, $control);
        $each!(1, $value, $control);
        $each!(2, $value, $control);
        $each!(3, $value, $control);
        $each!(4, $value, $control);
        $each!(5, $value, $control);
        $each!(6, $value, $control);
        $each!(7, $value, $control);
        $each!(8, $value, $control);
        $each!(9, $value, $control);
        $each!(10, $value, $control);
        $each!(11, $value, $control);
        $each!(12, $value, $control);
        $each!(13, $value, $control);
        $each!(14, $value, $control);
        $each!(15, $value, $control);
    };
}

/// DBGBVR<n>_EL1, DBGBCR<n>_EL1, DBGWVR<n>_EL1 and DBGWCR<n>_EL1 differ in CRm, which is n, and
/// op2, which is this.
const BVR: u8 = 4;
const BCR: u8 = 5;
const WVR: u8 = 6;
const WCR: u8 = 7;

const fn encoding(n: u8, op2: u8) -> Encoding {
    Encoding::new(2, 0, 0, n, op2)
}

/// Breakpoints and watchpoints: DBGBVR<n>_EL1 and DBGBCR<n>_EL1, DBGWVR<n>_EL1 and DBGWCR<n>_EL1,
/// by their number.
#[derive(Clone, Copy)]
pub(crate) struct Points {
    pub(crate) breakpoints: [[u64; 2]; 16],
    pub(crate) watchpoints: [[u64; 2]; 16],
}

impl Points {
    const NONE: Self = Self {
        breakpoints: [[0; 2]; 16],
        watchpoints: [[0; 2]; 16],
    };

    /// Returns the guest's own breakpoints and watchpoints.
    pub(super) fn of_guest(saved: &El1Context) -> Self {
        let pairs = |value, control| from_fn(|n| [saved.nth(value, n), saved.nth(control, n)]);
        Self {
            breakpoints: pairs(Reg::DBGBVR0_EL1, Reg::DBGBCR0_EL1),
            watchpoints: pairs(Reg::DBGWVR0_EL1, Reg::DBGWCR0_EL1),
        }
    }
}

/// What a debugger outside of the guest has in the debug registers, in the place of the guest's
/// own.
pub(crate) struct External {
    pub(crate) points: Points,
    /// They are on.
    pub(crate) stops: bool,
    /// The guest runs one instruction at a time, if its PSTATE.SS says so too.
    pub(crate) steps: bool,
}

impl External {
    /// Returns the value of MDSCR_EL1 to run the guest with. KDE is for exceptions from the level
    /// that they are taken to, which is EL2 (MDCR_EL2.TDE).
    pub(super) fn mdscr(&self) -> u64 {
        MDSCR_EL1::SS.of(self.steps.into()) | MDSCR_EL1::MDE.of(self.stops.into())
    }
}

/// What the host had in the debug registers.
pub(super) struct HostDebug {
    mdscr: u64,
    points: Points,
}

/// Returns how many breakpoints and watchpoints this CPU has.
pub(crate) fn counts() -> (u64, u64) {
    let dfr0 = read_sysreg!(ID_AA64DFR0_EL1);
    (
        ID_AA64DFR0_EL1::BRPs.get(dfr0) + 1,
        ID_AA64DFR0_EL1::WRPs.get(dfr0) + 1,
    )
}

/// Puts `points` into the CPU, and this MDSCR_EL1.
pub(super) fn load(points: &Points, mdscr: u64) -> HostDebug {
    let mut host = HostDebug {
        mdscr: read_sysreg!(MDSCR_EL1),
        points: Points::NONE,
    };
    let (breakpoints, watchpoints) = counts();
    // Nothing of the host's is on while they change.
    write_sysreg!(MDSCR_EL1, 0);
    macro_rules! breakpoint {
        ($n:literal, $value:ident, $control:ident) => {
            if $n < breakpoints {
                host.points.breakpoints[$n] = [read_sysreg!(@ encoding($n, $value), 0u8), read_sysreg!(@ encoding($n, $control), 0u8)];
                write_sysreg!(@ encoding($n, $value), 0u8, points.breakpoints[$n][0]);
                write_sysreg!(@ encoding($n, $control), 0u8, points.breakpoints[$n][1]);
            }
        };
    }
    pairs!(breakpoint, BVR, BCR);
    macro_rules! watchpoint {
        ($n:literal, $value:ident, $control:ident) => {
            if $n < watchpoints {
                host.points.watchpoints[$n] = [read_sysreg!(@ encoding($n, $value), 0u8), read_sysreg!(@ encoding($n, $control), 0u8)];
                write_sysreg!(@ encoding($n, $value), 0u8, points.watchpoints[$n][0]);
                write_sysreg!(@ encoding($n, $control), 0u8, points.watchpoints[$n][1]);
            }
        };
    }
    pairs!(watchpoint, WVR, WCR);
    // Effective for the guest after the ERET. At EL2 they cannot match: what enables exceptions
    // from there is MDCR_EL2.TDE with KDE, which is set without that only, and PSTATE.D masks them
    // until the host's are back.
    write_sysreg!(MDSCR_EL1, mdscr);
    host
}

/// Puts the host's back.
pub(super) fn put(host: &HostDebug) {
    let (breakpoints, watchpoints) = counts();
    write_sysreg!(MDSCR_EL1, 0);
    macro_rules! breakpoint {
        ($n:literal, $value:ident, $control:ident) => {
            if $n < breakpoints {
                write_sysreg!(@ encoding($n, $value), 0u8, host.points.breakpoints[$n][0]);
                write_sysreg!(@ encoding($n, $control), 0u8, host.points.breakpoints[$n][1]);
            }
        };
    }
    pairs!(breakpoint, BVR, BCR);
    macro_rules! watchpoint {
        ($n:literal, $value:ident, $control:ident) => {
            if $n < watchpoints {
                write_sysreg!(@ encoding($n, $value), 0u8, host.points.watchpoints[$n][0]);
                write_sysreg!(@ encoding($n, $control), 0u8, host.points.watchpoints[$n][1]);
            }
        };
    }
    pairs!(watchpoint, WVR, WCR);
    super::isb();
    write_sysreg!(MDSCR_EL1, host.mdscr);
}
