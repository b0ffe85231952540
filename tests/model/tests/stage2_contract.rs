// SPDX-License-Identifier: GPL-2.0

//! What callers of the stage-2 tables may rely on, one by one.

mod stage2_machine;

use loft_model::model::stage2::*;
use loft_model::model::types::{HostPa, Ipa};
use stage2_machine::{age, Machine};
use std::ops::Range;

const PAGE: u64 = 4096;
const BLOCK: u64 = 2 << 20;
const RAM: u64 = 1 << 30;
const FWB: Format = Format { fwb: true };

fn machine(ipa_bits: u32) -> Machine {
    Machine::new(
        Geometry::new(Granule::K4, ipa_bits, 44).expect("a good geometry"),
        FWB,
    )
}

fn page(ipa: u64) -> Mapping {
    Mapping {
        ipa: Ipa::new(ipa),
        pa: HostPa::new(ipa),
        level: Level::L3,
        perm: Perm::RWX,
        mem: MemType::Normal,
    }
}

fn block(ipa: u64) -> Mapping {
    Mapping {
        level: Level::L2,
        ..page(ipa)
    }
}

fn range(start: u64, size: u64) -> Range<Ipa> {
    Ipa::new(start)..Ipa::new(start + size)
}

/// 512 pages, in one table, and the first of the next.
fn with_pages() -> (Machine, Stage2<Machine>) {
    let machine = machine(40);
    let stage2 = machine.stage2();
    for n in 0..513 {
        assert_eq!(
            stage2.map(&mut machine.pool(8), &page(RAM + n * PAGE)),
            Ok(Mapped::New)
        );
    }
    machine.begin();
    (machine, stage2)
}

#[test]
fn bad_mappings_are_refused() {
    let machine = machine(34);
    let stage2 = machine.stage2();
    let refused = |want: Mapping, error| {
        assert_eq!(
            stage2.map(&mut machine.pool(8), &want),
            Err(error),
            "{want:?}"
        );
    };
    refused(
        Mapping {
            level: Level::L0,
            ..page(0)
        },
        MapError::BadLevel,
    );
    // 34 bits start at level 2.
    refused(
        Mapping {
            level: Level::L1,
            ..page(0)
        },
        MapError::BadLevel,
    );
    refused(
        Mapping {
            ipa: Ipa::new(RAM + 1),
            ..page(RAM)
        },
        MapError::Misaligned,
    );
    refused(
        Mapping {
            pa: HostPa::new(RAM + 0x800),
            ..page(RAM)
        },
        MapError::Misaligned,
    );
    refused(
        Mapping {
            ipa: Ipa::new(RAM + PAGE),
            ..block(RAM)
        },
        MapError::Misaligned,
    );
    refused(
        Mapping {
            pa: HostPa::new(RAM + PAGE),
            ..block(RAM)
        },
        MapError::Misaligned,
    );
    refused(page(1 << 34), MapError::IpaTooLarge);
    refused(page(u64::MAX - 4095), MapError::IpaTooLarge);
    refused(
        Mapping {
            pa: HostPa::new(1 << 44),
            ..page(RAM)
        },
        MapError::PaTooLarge,
    );
    refused(
        Mapping {
            pa: HostPa::new(u64::MAX - 4095),
            ..page(RAM)
        },
        MapError::PaTooLarge,
    );
    refused(
        Mapping {
            perm: Perm::NONE,
            ..page(RAM)
        },
        MapError::BadPerm,
    );
    refused(
        Mapping {
            mem: MemType::Device,
            ..page(RAM)
        },
        MapError::BadPerm,
    );
    refused(
        Mapping {
            mem: MemType::NormalNc,
            ..page(RAM)
        },
        MapError::BadPerm,
    );
    assert_eq!(machine.contents(), []);
    assert_eq!(machine.tables(), 0);
}

#[test]
fn level_0_maps_nothing() {
    let machine = machine(44);
    let stage2 = machine.stage2();
    assert_eq!(stage2.geometry().start_level(), Level::L0);
    let want = Mapping {
        level: Level::L0,
        ..page(0)
    };
    assert_eq!(
        stage2.map(&mut machine.pool(8), &want),
        Err(MapError::BadLevel)
    );
}

#[test]
fn the_last_page_and_the_last_output_are_good() {
    let machine = machine(34);
    let stage2 = machine.stage2();
    let last = page((1 << 34) - PAGE);
    assert_eq!(stage2.map(&mut machine.pool(8), &last), Ok(Mapped::New));
    let output = Mapping {
        pa: HostPa::new((1 << 44) - BLOCK),
        ..block(RAM)
    };
    assert_eq!(stage2.map(&mut machine.pool(8), &output), Ok(Mapped::New));
    let leaf = stage2.walk(Ipa::new(RAM + BLOCK - 1)).expect("mapped");
    assert_eq!(
        leaf.output(Granule::K4, Ipa::new(RAM + BLOCK - 1)),
        HostPa::new((1 << 44) - 1)
    );
}

#[test]
fn addresses_outside_are_not_mapped() {
    // With 35 bits, half of the root would be reached by larger addresses: they must not wrap around.
    let machine = machine(35);
    let mut stage2 = machine.stage2();
    assert_eq!(stage2.map(&mut machine.pool(8), &page(0)), Ok(Mapped::New));
    for outside in [1 << 35, 1 << 39, 1 << 48, 1 << 63] {
        let ipa = Ipa::new(outside);
        assert_eq!(stage2.walk(ipa), None);
        assert!(!stage2.make_young(ipa));
        assert_eq!(stage2.unmap(ipa..Ipa::new(u64::MAX), 100), None);
        assert_eq!(stage2.write_protect(ipa..Ipa::new(u64::MAX), 100), None);
    }
    assert_eq!(
        stage2.walk(Ipa::new(0)).map(|leaf| leaf.attributes.perm),
        Some(Perm::RWX)
    );
}

#[test]
fn no_table_is_where_a_descriptor_cannot_lead() {
    assert!(TableAddr::new(Granule::K4, HostPa::new(0x8000)).is_some());
    assert_eq!(TableAddr::new(Granule::K4, HostPa::new(0x8001)), None);
    assert_eq!(TableAddr::new(Granule::K4, HostPa::new(1 << 48)), None);
}

#[test]
fn an_empty_pool_is_an_error_and_nothing_is_lost() {
    let machine = machine(40);
    let stage2 = machine.stage2();
    assert_eq!(
        stage2.map(&mut machine.pool(0), &page(RAM)),
        Err(MapError::PoolEmpty)
    );
    assert_eq!(
        stage2.map(&mut machine.pool(1), &page(RAM)),
        Err(MapError::PoolEmpty)
    );
    // The first table is there by now.
    let mut pool = machine.pool(2);
    assert_eq!(stage2.map(&mut pool, &page(RAM)), Ok(Mapped::New));
    assert_eq!(pool.left, 1);
}

#[test]
fn a_spurious_fault_drops_this_cpus_old_entry() {
    let (machine, stage2) = with_pages();
    assert_eq!(
        stage2.map(&mut machine.pool(0), &page(RAM)),
        Ok(Mapped::Already)
    );
    let counts = machine.counts();
    assert_eq!((counts.flushes, counts.local_flushes), (0, 1));
}

#[test]
fn limits_are_kept() {
    let pages = |n: u64| Some(Ipa::new(RAM + n * PAGE));
    let all = range(RAM, 513 * PAGE);
    let (machine, mut stage2) = with_pages();
    let aged = age(&stage2, all.clone(), Age::Clear, 10);
    assert_eq!((aged.young, aged.next), (true, pages(10)));
    // None of the first ten is young any more.
    let aged = age(&stage2, all.clone(), Age::Test, 10);
    assert_eq!((aged.young, aged.next), (false, pages(10)));
    // The eleventh is, and that is the answer.
    let aged = age(&stage2, all.clone(), Age::Test, 20);
    assert_eq!((aged.young, aged.next), (true, None));
    assert_eq!(stage2.write_protect(all, 10), pages(10));
    let some = range(RAM, 511 * PAGE);
    assert_eq!(stage2.unmap(some.clone(), 10), pages(10));
    assert_eq!(stage2.unmap(some, 0), pages(1));
    assert_eq!(machine.contents().len(), 503);
    // The whole table goes at a stroke, and then there is one page left.
    assert_eq!(stage2.unmap(range(RAM, BLOCK + PAGE), 1), pages(512));
    assert_eq!(machine.contents().len(), 1);
}

#[test]
fn a_whole_table_is_unmapped_without_looking_at_its_pages() {
    let (machine, mut stage2) = with_pages();
    assert_eq!(stage2.unmap(range(RAM, BLOCK), 100), None);
    let counts = machine.counts();
    assert!(counts.loads < 10, "{counts:?}");
    assert_eq!((counts.flushes, counts.flushed_bytes), (1, BLOCK));
    assert_eq!(machine.tables(), 2);
}

#[test]
fn one_page_is_one_flush_of_one_page() {
    let (machine, mut stage2) = with_pages();
    assert_eq!(stage2.unmap(range(RAM + 7 * PAGE, 1), 100), None);
    let counts = machine.counts();
    assert_eq!((counts.flushes, counts.flushed_bytes), (1, PAGE));
    assert!(counts.loads < 10, "{counts:?}");
    // What is not mapped is not flushed.
    assert_eq!(stage2.unmap(range(RAM + 7 * PAGE, 1), 100), None);
    assert_eq!(machine.counts().flushes, 1);
}

#[test]
fn dirty_logging_and_back() {
    let machine = machine(40);
    let mut stage2 = machine.stage2();
    assert_eq!(
        stage2.map(&mut machine.pool(8), &block(RAM)),
        Ok(Mapped::New)
    );
    machine.begin();
    // On: the block is read-only, in one flush.
    assert_eq!(stage2.write_protect(range(RAM, BLOCK), 100), None);
    assert_eq!(machine.counts().flushes, 1);
    // A write to one page: the block is split, the page is writable, the others are still mapped.
    assert_eq!(
        stage2.map(&mut machine.pool(1), &page(RAM + 5 * PAGE)),
        Ok(Mapped::Relaxed)
    );
    let writable = machine.contents().iter().filter(|leaf| leaf.perm.1).count();
    assert_eq!((machine.contents().len(), writable), (512, 1));
    // The page is collected, and protected again.
    let mut stale = Stale::new();
    stage2.write_protect_mask(Ipa::new(RAM), 1 << 5, &mut stale);
    assert!(!stale.is_empty());
    stage2.flush(stale);
    machine.at_rest(false);
    // Off: the next fault wants the block, finds a table, and has that unmapped first.
    machine.begin();
    let everything = range(0, 1 << 40);
    assert_eq!(
        stage2.next_pages(everything.clone(), 2),
        Some(Ok(Ipa::new(RAM)))
    );
    assert_eq!(
        stage2.map(&mut machine.pool(8), &block(RAM)),
        Err(MapError::TableInTheWay)
    );
    assert_eq!(stage2.unmap(range(RAM, BLOCK), 100), None);
    assert_eq!(machine.counts().flushes, 1);
    assert_eq!(
        stage2.map(&mut machine.pool(2), &block(RAM)),
        Ok(Mapped::New)
    );
    machine.at_rest(false);
    assert_eq!((machine.contents().len(), machine.tables()), (1, 1));
    assert_eq!(stage2.next_pages(everything, 10_000), None);
}

#[test]
fn pages_are_found_however_far_apart() {
    let (machine, stage2) = with_pages();
    let all = range(0, 1 << 40);
    // Two looks end before the table, the third finds it: the unmapped parts before it are gigabytes.
    assert_eq!(stage2.next_pages(all.clone(), 1), Some(Err(Ipa::new(RAM))));
    assert_eq!(
        stage2.next_pages(range(RAM + 5 * PAGE, BLOCK), 1),
        Some(Ok(Ipa::new(RAM)))
    );
    let second = Ipa::new(RAM + BLOCK);
    assert_eq!(stage2.next_pages(second..all.end, 1), Some(Ok(second)));
    // 510 more in this gigabyte, and then 1022 empty ones of a gigabyte each.
    let behind = Ipa::new(RAM + 2 * BLOCK);
    assert_eq!(
        stage2.next_pages(behind..all.end, 510 + 1022),
        Some(Err(all.end))
    );
    assert_eq!(stage2.next_pages(behind..all.end, 510 + 1023), None);
    assert!(machine.counts().loads < 10_000);
}

/// One host page in a hundred places, each in a table of its own: one flush for all.
#[test]
fn aliases_share_a_flush() {
    const PLACES: u64 = 100;
    for fwb in [true, false] {
        let geometry = Geometry::new(Granule::K4, 40, 44).expect("a good geometry");
        let machine = Machine::new(geometry, Format { fwb });
        let mut stage2 = machine.stage2();
        let place = |n: u64| range(RAM + n * BLOCK, PAGE);
        for n in 0..PLACES {
            let one = Mapping {
                ipa: place(n).start,
                ..page(RAM)
            };
            assert_eq!(stage2.map(&mut machine.pool(8), &one), Ok(Mapped::New));
        }
        machine.begin();
        let mut stale = Stale::new();
        for n in 0..PLACES {
            let aged = stage2.age(place(n), Age::ClearAndFlush, 100, &mut stale);
            assert_eq!((aged.young, aged.next), (true, None));
        }
        assert_eq!(machine.counts().flushes, 0);
        stage2.flush(stale);
        assert_eq!(machine.counts().flushes, 1);

        machine.begin();
        let mut places: Vec<_> = (0..PLACES).map(place).collect();
        // Not all at once: the work of a call is bounded.
        assert!(!stage2.unmap_each(&mut places, 30));
        let left = places.iter().filter(|place| !place.is_empty()).count();
        assert!(left < PLACES as usize && left >= PLACES as usize - 30);
        assert_eq!(machine.contents().len(), left);
        assert!(stage2.unmap_each(&mut places, 1000));
        machine.at_rest(true);
        assert_eq!((machine.contents().len(), machine.tables()), (0, 0));
        let most = if fwb { 2 } else { 4 };
        assert_eq!(machine.counts().flushes, most);
    }
}

#[test]
fn next_pages_finds_tables_of_pages_and_says_where_to_go_on() {
    let machine = machine(40);
    let mut stage2 = machine.stage2();
    let end = stage2.geometry().end();
    assert_eq!(stage2.next_pages(Ipa::new(0)..end, usize::MAX), None);
    for mapping in [block(RAM), page(RAM + 3 * BLOCK + PAGE)] {
        assert_eq!(stage2.map(&mut machine.pool(8), &mapping), Ok(Mapped::New));
    }
    let table = Ipa::new(RAM + 3 * BLOCK);
    assert_eq!(
        stage2.next_pages(Ipa::new(0)..end, usize::MAX),
        Some(Ok(table))
    );
    // From within it is found by its first address; before it the range is over.
    let within = range(RAM + 3 * BLOCK + 7 * PAGE, PAGE);
    assert_eq!(stage2.next_pages(within, 1), Some(Ok(table)));
    assert_eq!(stage2.next_pages(range(RAM, 3 * BLOCK), 100), None);
    // One look: at the block.
    let next = Ipa::new(RAM + BLOCK);
    assert_eq!(stage2.next_pages(range(RAM, 9 * BLOCK), 1), Some(Err(next)));
    assert_eq!(stage2.unmap(range(RAM, 9 * BLOCK), 10_000), None);
    assert_eq!(stage2.next_pages(Ipa::new(0)..end, usize::MAX), None);
}
