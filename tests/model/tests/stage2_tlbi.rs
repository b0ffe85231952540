// SPDX-License-Identifier: GPL-2.0

//! The TLBI operands, taken apart again.

use loft_model::model::stage2::{Level, TlbFeatures, Tlbi, Tlbis, MAX_TLBIS};
use loft_model::model::types::Ipa;
use proptest::prelude::*;

/// First page, pages, and the level hint (0 is none), as DDI 0487 defines the operands.
fn decode(tlbi: Tlbi, stride: u64) -> (u64, u64, u64) {
    match tlbi {
        Tlbi::Ipa(operand) => {
            let ttl = (operand >> 44) & 0xf;
            assert!(
                ttl == 0 || ttl >> 2 == 1,
                "{operand:#x} is not for the 4 KiB granule"
            );
            assert_eq!(operand >> 48, 0);
            (operand & ((1 << 36) - 1), stride, ttl & 0b11)
        }
        Tlbi::Range(operand) => {
            assert_eq!(
                operand >> 46,
                0b01,
                "{operand:#x} is not for the 4 KiB granule"
            );
            let (scale, num, ttl) = (
                (operand >> 44) & 0b11,
                (operand >> 39) & 0x1f,
                (operand >> 37) & 0b11,
            );
            (operand & ((1 << 37) - 1), (num + 1) << (5 * scale + 1), ttl)
        }
    }
}

fn check(start: u64, pages: u64, leaf: Option<Level>, features: TlbFeatures) {
    let range = Ipa::new(start << 12)..Ipa::new((start + pages) << 12);
    let stride = leaf.unwrap_or(Level::L3).size() >> 12;
    let Some(tlbis) = Tlbis::new(range, leaf, features) else {
        let needed = if features.range {
            pages >> 21
        } else {
            pages / stride
        };
        assert!(needed >= MAX_TLBIS);
        return;
    };
    assert_eq!(tlbis.is_last_level(), leaf.is_some());
    let (mut at, mut count) = (start, 0);
    for tlbi in tlbis {
        let (first, covered, ttl) = decode(tlbi, stride);
        assert_eq!(first, at, "a hole or an overlap");
        match leaf {
            None => assert_eq!(ttl, 0, "a hint that may be wrong"),
            Some(level) => {
                let hinted = matches!(tlbi, Tlbi::Range(_)) || features.ttl;
                assert_eq!(ttl, if hinted { u64::from(level.number()) } else { 0 });
                assert_eq!(
                    first % stride,
                    0,
                    "UNPREDICTABLE: the hint needs an aligned start"
                );
            }
        }
        at += covered;
        count += 1;
    }
    assert_eq!(at, start + pages, "not the whole range, or more");
    let most = if features.range {
        MAX_TLBIS + 4
    } else {
        MAX_TLBIS
    };
    assert!(count <= most, "{count} instructions");
}

#[test]
fn one_page_is_one_instruction() {
    let features = TlbFeatures {
        range: true,
        ttl: true,
    };
    let mut tlbis = Tlbis::new(
        Ipa::new(0x5000)..Ipa::new(0x6000),
        Some(Level::L3),
        features,
    )
    .expect("a few");
    assert_eq!(tlbis.next(), Some(Tlbi::Ipa((0x7 << 44) | 5)));
    assert_eq!(tlbis.next(), None);
}

#[test]
fn known_ranges() {
    let all = |range, leaf, range_feature| {
        let features = TlbFeatures {
            range: range_feature,
            ttl: false,
        };
        Tlbis::new(range, leaf, features).map(|tlbis| tlbis.collect::<Vec<_>>())
    };
    // 2 MiB of pages: 8 units of 64.
    let range = Ipa::new(2 << 20)..Ipa::new(4 << 20);
    assert_eq!(
        all(range.clone(), None, true),
        Some(vec![Tlbi::Range((1 << 46) | (1 << 44) | (7 << 39) | 512)])
    );
    // Without ranges that is too much; as one block it is one.
    assert_eq!(all(range.clone(), None, false), None);
    assert_eq!(
        all(range, Some(Level::L2), false),
        Some(vec![Tlbi::Ipa(512)])
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn pages(start in 0u64..1 << 34, pages in prop_oneof![1u64..600, 1u64..1 << 33], range: bool, ttl: bool, hint: bool) {
        check(start, pages, hint.then_some(Level::L3), TlbFeatures { range, ttl });
    }

    #[test]
    fn blocks(start in 0u64..1 << 24, blocks in prop_oneof![1u64..600, 1u64..1 << 20], range: bool, ttl: bool) {
        check(start * 512, blocks * 512, Some(Level::L2), TlbFeatures { range, ttl });
    }

    #[test]
    fn large_blocks(start in 0u64..1 << 15, blocks in 1u64..1 << 12, range: bool, ttl: bool) {
        check(start << 18, blocks << 18, Some(Level::L1), TlbFeatures { range, ttl });
    }
}
