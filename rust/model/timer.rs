// SPDX-License-Identifier: GPL-2.0
//! The generic timer (DDI 0487, D12.2): a counter seen through an offset, and a timer that compares
//! it.

use super::sysreg::regs::CNT_CTL;
use core::ops::{Index, IndexMut};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// How fast the counter runs.
///
/// # Invariants
///
/// Not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frequency(u32);

impl Frequency {
    /// Makes it from CNTFRQ_EL0, in Hz; `None` for zero, which firmware may have left there.
    pub const fn new(hz: u32) -> Option<Self> {
        if hz == 0 {
            None
        } else {
            // INVARIANT: not zero.
            Some(Self(hz))
        }
    }

    /// Returns the frequency in Hz.
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// Returns how long this many ticks take, in ns, rounded up so that whoever waits that long is
    /// not early. `u64::MAX` if it is longer than that (585 years).
    pub const fn to_ns(self, ticks: u64) -> u64 {
        scale(ticks, self.0 as u64, NS_PER_SECOND)
    }

    /// Returns how many ticks this many ns take, rounded up; `u64::MAX` if more.
    pub const fn to_ticks(self, ns: u64) -> u64 {
        scale(ns, NS_PER_SECOND, self.0 as u64)
    }
}

/// Returns `value * multiply / divide`, rounded up, saturating. Both factors are below 2^32 and not
/// zero, so that the product of a remainder and a factor fits; there is no 128-bit division in the
/// kernel.
const fn scale(value: u64, divide: u64, multiply: u64) -> u64 {
    let whole = (value / divide).saturating_mul(multiply);
    let part = (value % divide) * multiply;
    whole.saturating_add(part.div_ceil(divide))
}

/// What a counter shows: the physical counter minus an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offset(u64);

impl Offset {
    /// Makes the offset from CNTVOFF_EL2 or its like.
    pub const fn new(ticks: u64) -> Self {
        Self(ticks)
    }

    /// Returns the offset that makes the counter show `shown` when the physical counter is
    /// `physical`.
    pub const fn showing(physical: u64, shown: u64) -> Self {
        Self(physical.wrapping_sub(shown))
    }

    /// Returns the value for CNTVOFF_EL2 or its like.
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// Returns what the counter shows when the physical counter is `physical`.
    pub const fn count(self, physical: u64) -> u64 {
        physical.wrapping_sub(self.0)
    }
}

/// Which of a guest's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerId {
    /// CNTV_*.
    Virtual,
    /// CNTP_*.
    Physical,
}

impl TimerId {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Virtual, Self::Physical];
}

/// Holds one `T` for each of a guest's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PerTimer<T>([T; TimerId::ALL.len()]);

impl<T> PerTimer<T> {
    /// Makes the one for each timer.
    #[inline]
    pub fn new(make: impl FnMut(TimerId) -> T) -> Self {
        Self(TimerId::ALL.map(make))
    }
}

// By patterns, since an index could be out of bounds.
impl<T> Index<TimerId> for PerTimer<T> {
    type Output = T;

    #[inline]
    fn index(&self, timer: TimerId) -> &T {
        let [virtual_, physical] = &self.0;
        match timer {
            TimerId::Virtual => virtual_,
            TimerId::Physical => physical,
        }
    }
}

impl<T> IndexMut<TimerId> for PerTimer<T> {
    #[inline]
    fn index_mut(&mut self, timer: TimerId) -> &mut T {
        let [virtual_, physical] = &mut self.0;
        match timer {
            TimerId::Virtual => virtual_,
            TimerId::Physical => physical,
        }
    }
}

/// Some of a guest's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimerSet(u8);

impl TimerSet {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Makes a set of the virtual timer if `virtual_`, and the physical one if `physical`.
    pub const fn new(virtual_: bool, physical: bool) -> Self {
        Self(virtual_ as u8 | (physical as u8) << 1)
    }

    /// Makes a set of this timer alone.
    pub const fn only(timer: TimerId) -> Self {
        match timer {
            TimerId::Virtual => Self::new(true, false),
            TimerId::Physical => Self::new(false, true),
        }
    }

    /// Returns a bit for each timer, in the order of [`TimerId`].
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns the set with these [`TimerSet::bits`]; others are ignored.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 3)
    }

    /// Returns whether no timer is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether this timer is in it.
    pub const fn contains(self, timer: TimerId) -> bool {
        self.0 & Self::only(timer).0 != 0
    }

    /// Returns the timers in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the timers in this one that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the timers in just one of the two.
    pub const fn changed(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// Returns the timers in it, one after the other.
    pub fn iter(self) -> impl Iterator<Item = TimerId> {
        TimerId::ALL
            .into_iter()
            .filter(move |&timer| self.contains(timer))
    }
}

/// A timer's registers. `now`, below, is what the timer's own counter shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timer {
    /// CTL, without ISTATUS.
    ctl: u64,
    /// CVAL.
    cval: u64,
}

impl Timer {
    /// Makes the timer from CTL and CVAL.
    pub const fn new(ctl: u64, cval: u64) -> Self {
        let mut timer = Self { ctl: 0, cval };
        timer.write_ctl(ctl);
        timer
    }

    /// Returns whether ENABLE is set.
    pub const fn is_enabled(&self) -> bool {
        CNT_CTL::ENABLE.is_set(self.ctl)
    }

    /// Returns whether IMASK is set.
    pub const fn is_masked(&self) -> bool {
        CNT_CTL::IMASK.is_set(self.ctl)
    }

    /// Returns whether the time has come: an unsigned comparison, so that a CVAL near 2^64 is never
    /// reached.
    pub const fn is_due(&self, now: u64) -> bool {
        self.is_enabled() && now >= self.cval
    }

    /// Returns whether the timer's interrupt line is up.
    pub const fn line(&self, now: u64) -> bool {
        self.is_due(now) && !self.is_masked()
    }

    /// Returns what a read of CTL gives.
    pub const fn read_ctl(&self, now: u64) -> u64 {
        self.ctl | CNT_CTL::ISTATUS.of(self.is_due(now) as u64)
    }

    /// Returns CTL as it is saved: without ISTATUS.
    pub const fn ctl(&self) -> u64 {
        self.ctl
    }

    /// Takes a write to CTL; ISTATUS is read-only, the other bits are RES0.
    pub const fn write_ctl(&mut self, value: u64) {
        self.ctl = value & (CNT_CTL::ENABLE.mask() | CNT_CTL::IMASK.mask());
    }

    /// Returns CVAL.
    pub const fn cval(&self) -> u64 {
        self.cval
    }

    /// Takes a write to CVAL.
    pub const fn write_cval(&mut self, value: u64) {
        self.cval = value;
    }

    /// Returns the CVAL with which a timer that compares the machine's counter, now at `physical`,
    /// does as this one does, whose counter has this offset. Not simply their sum: where that
    /// wraps, a time that has come would never come, or one that never comes be there. It holds
    /// until either counter wraps.
    pub const fn cval_for(&self, offset: Offset, physical: u64) -> u64 {
        match self.cval.checked_sub(offset.count(physical)) {
            Some(ticks) => physical.saturating_add(ticks),
            None => 0,
        }
    }

    /// Returns what a read of TVAL gives: the ticks left, as a signed 32-bit number in the low
    /// half.
    pub const fn read_tval(&self, now: u64) -> u64 {
        self.cval.wrapping_sub(now) & 0xffff_ffff
    }

    /// Takes a write to TVAL: the low half is a signed number of ticks from now.
    pub const fn write_tval(&mut self, value: u64, now: u64) {
        self.cval = now.wrapping_add(value as u32 as i32 as i64 as u64);
    }

    /// Returns in how many ticks the line will rise by itself: `Some(0)` if it is up, `None` if it
    /// will not.
    pub const fn next_event(&self, now: u64) -> Option<u64> {
        if self.is_enabled() && !self.is_masked() {
            Some(self.cval.saturating_sub(now))
        } else {
            None
        }
    }
}
