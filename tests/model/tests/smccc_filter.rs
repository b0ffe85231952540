// SPDX-License-Identifier: GPL-2.0

//! Which firmware calls the VMM answers or denies (KVM_ARM_VM_SMCCC_FILTER).

use loft_model::model::smccc::filter::{self, Filter, FilterError, FunctionRange, Ranges};
use proptest::collection::vec;
use proptest::prelude::*;

/// Room for so many ranges.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Store {
    ranges: Vec<FunctionRange>,
    room: usize,
}

impl Store {
    fn room(room: usize) -> Self {
        let ranges = Vec::new();
        Self { ranges, room }
    }
}

impl core::ops::Deref for Store {
    type Target = [FunctionRange];

    fn deref(&self) -> &[FunctionRange] {
        &self.ranges
    }
}

impl Ranges for Store {
    fn put(&mut self, place: usize, range: FunctionRange) -> bool {
        let room = self.ranges.len() < self.room;
        if room {
            self.ranges.insert(place, range);
        }
        room
    }
}

#[test]
fn filters() {
    use filter::FilterAction::{Deny, Forward, Handle};
    let mut filter = Filter::new(Store::room(usize::MAX));
    assert!(filter.is_empty());
    assert_eq!(filter.action(0x8400_0000), Handle);
    assert_eq!(
        filter.insert(0x8400_0000, 0, Deny),
        Err(FilterError::Invalid)
    );
    assert_eq!(filter.insert(u32::MAX, 2, Deny), Err(FilterError::Invalid));
    // The architecture's calls.
    for first in [
        0x8000_0000,
        0x8000_8000,
        0x8000_ffff,
        0xc000_0000,
        0xc000_ffff,
    ] {
        assert_eq!(
            filter.insert(first, 1, Deny),
            Err(FilterError::Exists),
            "{first:#x}"
        );
    }
    assert_eq!(
        filter.insert(0x7fff_ffff, 2, Deny),
        Err(FilterError::Exists)
    );
    assert!(filter.is_empty());
    assert_eq!(filter.insert(0x8400_0000, 4, Deny), Ok(()));
    assert_eq!(filter.insert(0x8400_0004, 1, Forward), Ok(()));
    assert_eq!(filter.insert(u32::MAX, 1, Forward), Ok(()));
    for (first, count) in [
        (0x8400_0003, 1),
        (0x83ff_ffff, 2),
        (0x8400_0004, 7),
        (0x83ff_0000, 0x2_0000),
    ] {
        assert_eq!(
            filter.insert(first, count, Handle),
            Err(FilterError::Exists),
            "{first:#x}"
        );
    }
    let actions = [
        0x83ff_ffff,
        0x8400_0000,
        0x8400_0003,
        0x8400_0004,
        0x8400_0005,
        u32::MAX,
    ]
    .map(|f| filter.action(f));
    assert_eq!(actions, [Handle, Deny, Deny, Forward, Handle, Forward]);
    assert!(!filter.is_empty());
    assert_eq!(
        (filter::FilterAction::new(2), filter::FilterAction::new(3)),
        (Some(Forward), None)
    );
}

#[test]
fn a_filter_has_as_many_ranges_as_there_is_memory_for() {
    use filter::FilterAction::{Deny, Handle};
    let mut filter = Filter::new(Store::room(3));
    for first in [10, 30, 20] {
        assert_eq!(filter.insert(first, 1, Deny), Ok(()));
    }
    let full = filter.clone();
    assert_eq!(filter.insert(15, 1, Deny), Err(FilterError::NoMemory));
    assert_eq!(filter, full);
    assert_eq!(
        [10, 15, 20, 30].map(|f| filter.action(f)),
        [Deny, Handle, Deny, Deny]
    );
}

proptest! {
    /// In any order, with any overlaps: each function has the action of the first range that took it.
    #[test]
    fn a_filter_is_a_map(ranges in vec((0u32..400, 0u32..12, 0u8..3), 0..200)) {
        let mut filter = Filter::new(Store::room(usize::MAX));
        let mut map = [None; 500];
        for (first, count, action) in ranges {
            let action = filter::FilterAction::new(action).unwrap();
            let taken = &mut map[first as usize..(first + count) as usize];
            let answer = if count == 0 {
                Err(FilterError::Invalid)
            } else if taken.iter().any(Option::is_some) {
                Err(FilterError::Exists)
            } else {
                taken.fill(Some(action));
                Ok(())
            };
            prop_assert_eq!(filter.insert(first, count, action), answer);
        }
        for (function, action) in (0..).zip(map) {
            prop_assert_eq!(filter.action(function), action.unwrap_or(filter::FilterAction::Handle));
        }
    }
}
