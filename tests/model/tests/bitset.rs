// SPDX-License-Identifier: GPL-2.0

//! Sets of small numbers, beside the standard library's.

use loft_model::model::bitset::BitSet;
use loft_model::model::vgic::IntId;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

type Set = BitSet<IntId, 16>;

/// Members, and whether each goes in or comes out. Few words, so that they become empty again.
fn changes() -> impl Strategy<Value = Vec<(u32, bool)>> {
    vec(
        (
            prop_oneof![0..4u32, 60..68u32, 1016..1020u32],
            any::<bool>(),
        ),
        0..40,
    )
}

fn both(changes: Vec<(u32, bool)>) -> (Set, BTreeSet<IntId>) {
    let (mut set, mut model) = (Set::EMPTY, BTreeSet::new());
    for (number, goes_in) in changes {
        let member = IntId::new(number).unwrap();
        if goes_in {
            set.insert(member);
            model.insert(member);
        } else {
            set.remove(member);
            model.remove(&member);
        }
    }
    (set, model)
}

proptest! {
    #[test]
    fn a_set_has_what_was_put_in_and_not_taken_out(changes in changes()) {
        let (set, model) = both(changes);
        prop_assert!(set.iter().eq(model.iter().copied()));
        prop_assert_eq!(set.len(), model.len());
        prop_assert_eq!(set.is_empty(), model.is_empty());
        let words: BTreeSet<_> = model.iter().map(|member| member.index() / 64).collect();
        prop_assert_eq!(set.is_spread(), words.len() > 1);
        for number in 0..=IntId::MAX {
            let member = IntId::new(number).unwrap();
            prop_assert_eq!(set.contains(member), model.contains(&member));
        }
    }

    #[test]
    fn two_sets_have_members_in_common(one in changes(), other in changes()) {
        let ((one, model), (other, other_model)) = (both(one), both(other));
        let common: Vec<_> = model.intersection(&other_model).copied().collect();
        let rest: Vec<_> = model.difference(&other_model).copied().collect();
        prop_assert!(one.common(&other).eq(common.iter().copied()));
        for (within, expected) in [(true, common), (false, rest)] {
            let part = one.part(&other, within);
            prop_assert!(part.iter().eq(expected.iter().copied()));
            prop_assert_eq!(part.is_empty(), expected.is_empty());
        }
    }
}
