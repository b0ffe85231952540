// SPDX-License-Identifier: GPL-2.0
//! The generic timer.

use loft_model::model::timer::{Frequency, Offset, PerTimer, Timer, TimerId};
use proptest::prelude::*;

const ENABLE: u64 = 1;
const IMASK: u64 = 2;
const ISTATUS: u64 = 4;

/// `value * multiply / divide`, rounded up and saturated, in 128 bits.
fn scaled(value: u64, multiply: u64, divide: u64) -> u64 {
    u64::try_from((u128::from(value) * u128::from(multiply)).div_ceil(u128::from(divide)))
        .unwrap_or(u64::MAX)
}

proptest! {
    #[test]
    fn ticks_and_nanoseconds(hz in 1u32.., value: u64, shift in 0u32..64) {
        let frequency = Frequency::new(hz).expect("not zero");
        let value = value >> shift;
        prop_assert_eq!(frequency.to_ns(value), scaled(value, 1_000_000_000, hz.into()));
        prop_assert_eq!(frequency.to_ticks(value), scaled(value, hz.into(), 1_000_000_000));
    }

    #[test]
    fn who_waits_that_long_is_not_early(hz in 1u32..=1_000_000_000, ticks in 0u64..1 << 40) {
        let frequency = Frequency::new(hz).expect("not zero");
        prop_assert!(frequency.to_ticks(frequency.to_ns(ticks)) >= ticks);
    }

    #[test]
    fn a_counter_shows_what_it_was_set_to(physical: u64, shown: u64, later: u64) {
        let offset = Offset::showing(physical, shown);
        prop_assert_eq!(offset.count(physical), shown);
        prop_assert_eq!(offset.count(physical.wrapping_add(later)), shown.wrapping_add(later));
        prop_assert_eq!(Offset::new(offset.ticks()), offset);
    }

    #[test]
    fn views_of_a_timer(ctl: u64, cval: u64, now: u64) {
        let timer = Timer::new(ctl, cval);
        let due = ctl & ENABLE != 0 && now >= cval;
        prop_assert_eq!(timer.ctl(), ctl & (ENABLE | IMASK));
        prop_assert_eq!(timer.read_ctl(now), timer.ctl() | if due { ISTATUS } else { 0 });
        prop_assert_eq!(timer.line(now), due && ctl & IMASK == 0);
        prop_assert_eq!(timer.cval(), cval);
        prop_assert_eq!(timer.read_tval(now), u64::from(cval as u32).wrapping_sub(now) & 0xffff_ffff);
        prop_assert_eq!((timer.is_enabled(), timer.is_masked()), (ctl & ENABLE != 0, ctl & IMASK != 0));
    }

    #[test]
    fn a_timer_without_the_offset_does_the_same(cval: u64, offset: u64, physical: u64, later: u64) {
        let timer = Timer::new(ENABLE, cval);
        let offset = Offset::new(offset);
        let same = Timer::new(ENABLE, timer.cval_for(offset, physical));
        // Until a counter wraps.
        let later = later.min(u64::MAX - 1 - physical).min(u64::MAX - offset.count(physical));
        for then in [0, later] {
            let physical = physical + then;
            prop_assert_eq!(same.line(physical), timer.line(offset.count(physical)));
        }
        if let Some(ticks) = timer.next_event(offset.count(physical)).filter(|&ticks| ticks <= later) {
            prop_assert_eq!(same.next_event(physical), Some(ticks));
        }
    }

    #[test]
    fn a_written_tval_is_read_back(now: u64, value: u64) {
        let mut timer = Timer::new(ENABLE, 0);
        timer.write_tval(value, now);
        prop_assert_eq!(timer.read_tval(now), value & 0xffff_ffff);
        let signed = i128::from(value as u32 as i32);
        prop_assert_eq!(i128::from(timer.cval()), (i128::from(now) + signed).rem_euclid(1 << 64));
    }

    #[test]
    fn the_line_rises_at_the_next_event_and_not_before(cval: u64, now: u64) {
        let timer = Timer::new(ENABLE, cval);
        let ticks = timer.next_event(now).expect("enabled and not masked");
        prop_assert_eq!(timer.line(now), ticks == 0);
        prop_assert!(timer.line(now + ticks));
        if let Some(before) = ticks.checked_sub(1) {
            prop_assert!(!timer.line(now + before));
        }
    }
}

#[test]
fn a_timer_that_is_off_or_masked_has_no_event() {
    assert_eq!(Timer::new(0, 10).next_event(0), None);
    assert_eq!(Timer::new(ENABLE | IMASK, 10).next_event(0), None);
    assert_eq!(Timer::new(ENABLE, 10).next_event(4), Some(6));
    assert_eq!(Timer::new(ENABLE, 10).next_event(11), Some(0));
    assert_eq!(Timer::default().read_ctl(u64::MAX), 0);
}

#[test]
fn a_write_to_ctl_cannot_set_the_status() {
    let mut timer = Timer::new(0, u64::MAX);
    timer.write_ctl(u64::MAX);
    assert_eq!(timer.read_ctl(0), ENABLE | IMASK);
    timer.write_cval(5);
    assert_eq!(timer.read_ctl(5), ENABLE | IMASK | ISTATUS);
}

#[test]
fn a_frequency_of_zero_is_none() {
    assert!(Frequency::new(0).is_none());
    assert_eq!(
        Frequency::new(62_500_000).map(Frequency::hz),
        Some(62_500_000)
    );
    assert_eq!(Frequency::new(1).expect("1 Hz").to_ns(u64::MAX), u64::MAX);
}

#[test]
fn each_timer_has_a_value_of_its_own() {
    let mut values = PerTimer::new(|timer| timer);
    for timer in TimerId::ALL {
        assert_eq!(values[timer], timer);
    }
    values[TimerId::Physical] = TimerId::Virtual;
    assert!(TimerId::ALL
        .iter()
        .all(|&timer| values[timer] == TimerId::Virtual));
}
