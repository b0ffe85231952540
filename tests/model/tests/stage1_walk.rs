// SPDX-License-Identifier: GPL-2.0
//! The walk of a guest's own tables: which descriptors are read, at which levels.

use loft_model::model::stage1::Walk;
use proptest::prelude::*;

const TG0: [(u32, u64); 3] = [(12, 0), (14, 2), (16, 1)];
const TG1: [(u32, u64); 3] = [(12, 2), (14, 1), (16, 3)];

/// TCR_EL1 with these granules and sizes.
fn tcr(lower: (u64, u64), upper: (u64, u64)) -> u64 {
    lower.1 << 14 | lower.0 | upper.1 << 30 | upper.0 << 16
}

/// The levels and addresses of a walk on which each table is found at the next of `tables`.
fn path(walk: Option<Walk>, tables: &[u64]) -> Vec<(i8, u64)> {
    let mut read = Vec::new();
    let mut next = walk;
    let mut tables = tables.iter();
    while let Some(step) = next {
        read.push((step.level(), step.descriptor().raw()));
        next = tables.next().and_then(|table| step.next(table | 3));
    }
    read
}

#[test]
fn four_levels_of_4_kib() {
    let va = 5 << 39 | 6 << 30 | 7 << 21 | 8 << 12 | 0x123;
    let walk = Walk::new(tcr((16, 0), (16, 2)), [0xaa << 48 | 0x4000_0001, 0], va);
    assert_eq!(
        path(
            walk,
            &[0x5000_0000, 0xffff_0000_6000_0000, 0x7000_0000, 0x8000_0000]
        ),
        [
            (0, 0x4000_0028),
            (1, 0x5000_0030),
            (2, 0x6000_0038),
            (3, 0x7000_0040)
        ],
        "ASID, CnP and attributes are no address; the last level leads to no table"
    );
}

/// With FEAT_LPA2: a level more for 52 bits with 4 KiB, and addresses of 52 bits.
#[test]
fn five_levels_of_4_kib() {
    const DS: u64 = 1 << 59;
    let va = 9 << 48 | 5 << 39 | 6 << 30 | 7 << 21 | 8 << 12 | 0x123;
    let ttbr = 0x4000_0000 | 0b1010 << 2 | 1;
    // 51:50 are in 9:8.
    let far = 2 << 8 | 1 << 49 | 0x5000_0000;
    let walk = Walk::new(tcr((12, 0), (12, 2)) | DS, [ttbr, 0], va);
    assert_eq!(
        path(walk, &[far, 0x6000_0000, 0x7000_0000, 0x8000_0000, 0]),
        [
            (-1, 0xa << 48 | 0x4000_0048),
            (0, 0xa << 48 | 0x5000_0028),
            (1, 0x6000_0030),
            (2, 0x7000_0038),
            (3, 0x8000_0040)
        ]
    );
    // Without it the same bits are attributes, and there are four levels.
    let walk = Walk::new(tcr((16, 0), (16, 2)), [0x4000_0000, 0], va).expect("a walk");
    let next = walk.next(3 << 8 | 0x5000_0003).expect("a table");
    assert_eq!(next.descriptor().raw(), 0x5000_0030);
    // 16 KiB: four levels; a block of level 2 ends it.
    let walk = Walk::new(tcr((12, 2), (12, 1)) | DS, [0x4000_0000, 0], 0x123_4567).expect("a walk");
    assert_eq!(walk.level(), 0);
    let block = walk.next(3).and_then(|walk| walk.next(3)).expect("a walk");
    assert_eq!(block.level(), 2);
    let end = block.end(1 << 8 | 0x4000_0001).expect("a block");
    assert_eq!(end.raw(), 1 << 50 | 0x4123_4567);
}

/// With FEAT_LPA: addresses of 52 bits with 64 KiB, where TCR_EL1.IPS says so.
#[test]
fn wide_addresses_with_64_kib() {
    const IPS_52: u64 = 6 << 32;
    let start = |ips| Walk::new(tcr((12, 1), (12, 3)) | ips, [0x4000_0000 | 3 << 2, 0], 0);
    let wide = start(IPS_52).expect("a walk");
    assert_eq!(wide.descriptor().raw(), 3 << 48 | 0x4000_0000);
    let next = wide.next(0xf_5000_0000 | 0xa << 12 | 3).expect("a table");
    assert_eq!(next.descriptor().raw(), 0xa << 48 | 0xf_5000_0000);
    let narrow = start(5 << 32).expect("a walk");
    assert_eq!(narrow.descriptor().raw(), 0x4000_0000);
}

#[test]
fn where_a_walk_begins() {
    // Granule, TxSZ: the level, and where the first descriptor of the last address of the lower half is.
    for (granule, size, level, place) in [
        (0, 16, 0, 0x1ff),
        (0, 24, 0, 1),
        (0, 25, 1, 0x1ff),
        (0, 33, 1, 1),
        (0, 34, 2, 0x1ff),
        (0, 39, 2, 0xf),
        (2, 16, 0, 1),
        (2, 17, 1, 0x7ff),
        (2, 28, 2, 0x7ff),
        (1, 12, 1, 0x3ff),
        (1, 16, 1, 0x3f),
        (1, 22, 2, 0x1fff),
    ] {
        let va = u64::MAX >> size;
        let walk = Walk::new(tcr((size, granule), (0, 0)), [0x4_0000_0000, 0], va).unwrap();
        assert_eq!(
            (walk.level(), walk.descriptor().raw()),
            (level, 0x4_0000_0000 | place << 3),
            "granule {granule}, T0SZ {size}"
        );
    }
}

#[test]
fn halves() {
    let tcr = tcr((25, 0), (16, 2));
    let at =
        |tcr, va| Walk::new(tcr, [0x1000, 0x2000], va).map(|w| (w.level(), w.descriptor().raw()));
    assert_eq!(at(tcr, 0), Some((1, 0x1000)));
    assert_eq!(at(tcr, u64::MAX << 48), Some((0, 0x2000)));
    // A tag above bit 55 decides nothing.
    assert_eq!(at(tcr, 0xff << 56), Some((1, 0x1000)));
    assert_eq!(at(tcr, 0x00ff << 48), Some((0, 0x2000)));
    // EPD0, EPD1.
    assert_eq!(at(tcr | 1 << 7, 0), None);
    assert_eq!(at(tcr | 1 << 23, 0), Some((1, 0x1000)));
    assert_eq!(at(tcr | 1 << 23, u64::MAX), None);
}

#[test]
fn blocks_pages_and_nothing_end_it() {
    let walk = Walk::new(tcr((25, 0), (0, 0)), [0x1000, 0], 0).unwrap();
    assert_eq!([0, 1, 2].map(|word| walk.next(word)), [None; 3]);
    let last = walk.next(3).and_then(|walk| walk.next(3)).unwrap();
    assert_eq!((last.level(), last.next(3)), (3, None));
}

#[test]
fn where_an_address_leads() {
    let va = 6 << 30 | 7 << 21 | 8 << 12 | 0x123;
    let first = Walk::new(tcr((25, 0), (0, 0)), [0x1000, 0], va).unwrap();
    let at = |walk: Walk, word| walk.end(word).map(|ipa| ipa.raw());
    // A block of 1 GiB, one of 2 MiB, a page; attributes are no address, and a table leads elsewhere.
    assert_eq!(
        at(first, 3 << 30 | 0x401),
        Some(3 << 30 | 7 << 21 | 8 << 12 | 0x123)
    );
    assert_eq!([0, 2, 3 << 30 | 3].map(|word| at(first, word)), [None; 3]);
    let second = first.next(0x2003).unwrap();
    assert_eq!(
        at(second, 0xff << 52 | 9 << 21 | 0x401),
        Some(9 << 21 | 8 << 12 | 0x123)
    );
    let third = second.next(0x3003).unwrap();
    assert_eq!(at(third, 0x7_7777_7403), Some(0x7_7777_7123));
    assert_eq!(at(third, 0x7_7777_7401), None);
    // A page of 64 KiB.
    let large = Walk::new(tcr((34, 1), (0, 0)), [0x10000, 0], 0x1_2345).unwrap();
    assert_eq!(
        (large.level(), at(large.next(3).unwrap(), 0x7_8888_0403)),
        (2, Some(0x7_8888_2345))
    );
}

proptest! {
    /// Whatever the registers hold, a walk ends, at level 3 at the latest.
    #[test]
    fn any_walk_ends(tcr: u64, lower: u64, upper: u64, va: u64, tables: [u64; 6]) {
        let read = path(Walk::new(tcr, [lower, upper], va), &tables);
        prop_assert!(read.len() <= 5);
        for pair in read.windows(2) {
            prop_assert_eq!(pair[0].0 + 1, pair[1].0);
        }
        if let Some(last) = read.last() {
            prop_assert_eq!(last.0, 3);
        }
    }

    /// The place in each table is that part of the address which the level translates.
    #[test]
    fn each_level_has_its_part_of_the_address(n in 0usize..3, size in 16u64..40, upper: bool, va: u64) {
        let (granule, tg) = if upper { TG1[n] } else { TG0[n] };
        let top = 64 - size;
        let va = va & ((1 << top) - 1);
        let (tcr, address) = if upper {
            (tcr((0, 0), (size, tg)), va | u64::MAX << top)
        } else {
            (tcr((size, tg), (0, 0)), va)
        };
        let read = path(Walk::new(tcr, [0x7_0000_0000; 2], address), &[0x7_0000_0000; 5]);
        let mut whole = 0;
        for (level, descriptor) in read {
            let shift = granule + (granule - 3) * (3 - level) as u32;
            whole |= (descriptor - 0x7_0000_0000) >> 3 << shift;
        }
        prop_assert_eq!(whole, va >> granule << granule);
    }
}
