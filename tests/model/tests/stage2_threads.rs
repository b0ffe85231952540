// SPDX-License-Identifier: GPL-2.0

//! The stage-2 tables in real memory, under a real lock, with real threads: faults, ageing and unmapping at once.

use loft_model::model::stage2::*;
use loft_model::model::types::{HostPa, Ipa};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::RwLock;
use std::thread;

const TABLES: usize = 4096;
const BASE: u64 = 0x8000_0000;

/// Memory for tables; each is given out at most once at a time.
struct Arena {
    words: Vec<AtomicU64>,
    used: Vec<AtomicBool>,
    next: AtomicUsize,
}

impl Arena {
    fn new() -> Self {
        Self {
            words: (0..TABLES * 512).map(|_| AtomicU64::new(0)).collect(),
            used: (0..TABLES).map(|_| AtomicBool::new(false)).collect(),
            next: AtomicUsize::new(0),
        }
    }

    fn word(&self, at: DescriptorAddr<Linked>) -> &AtomicU64 {
        let index = at.table.number * 512 + usize::from(at.index);
        assert!(
            self.used[index / 512].load(Ordering::Relaxed),
            "{at:?} is in no table"
        );
        &self.words[index]
    }

    fn take(&self) -> Owned {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed) % TABLES;
            if !self.used[n].swap(true, Ordering::AcqRel) {
                for word in &self.words[n * 512..][..512] {
                    word.store(0, Ordering::Relaxed);
                }
                return Owned(n);
            }
        }
    }

    fn give_back(&self, table: Owned) {
        assert!(
            self.used[table.0].swap(false, Ordering::AcqRel),
            "freed twice"
        );
    }

    fn in_use(&self) -> usize {
        self.used
            .iter()
            .filter(|used| used.load(Ordering::Relaxed))
            .count()
    }
}

/// The number of a table that its holder owns.
#[derive(Debug)]
struct Owned(usize);

impl Owned {
    fn descriptor(&self) -> u64 {
        let pa = HostPa::new(BASE + self.0 as u64 * 4096);
        Format::table(TableAddr::new(Granule::K4, pa).expect("aligned"))
    }
}

/// The number of a table that is linked, and its level. The root's tables lie side by side at the start.
#[derive(Clone, Copy, Debug)]
struct Linked {
    number: usize,
    level: Level,
}

impl Linked {
    fn next(self, descriptor: u64) -> Option<Linked> {
        let addr = Format::next_table(self.level, descriptor)?;
        Some(Linked {
            number: ((addr.pa().raw() - BASE) / 4096) as usize,
            level: self.level.next()?,
        })
    }
}

const ROOT: Linked = Linked {
    number: 0,
    level: Level::L1,
};

impl TableMemory for &Arena {
    const GRANULE: Granule = Granule::K4;

    type Table = Owned;
    type Unlinked = Vec<Owned>;
    type Linked<'a>
        = Linked
    where
        Self: 'a;

    fn root(&self) -> Linked {
        ROOT
    }

    fn load(&self, at: DescriptorAddr<Linked>) -> (u64, Option<Linked>) {
        let raw = self.word(at).load(Ordering::Acquire);
        (raw, at.table.next(raw))
    }

    fn cmpxchg(&self, at: DescriptorAddr<Linked>, old: u64, new: u64) -> Result<(), u64> {
        self.word(at)
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    fn store(&self, at: DescriptorAddr<Linked>, new: u64) {
        self.word(at).store(new, Ordering::Release);
    }

    fn link(&self, at: DescriptorAddr<Linked>, old: u64, table: Owned) -> Result<(), Owned> {
        self.cmpxchg(at, old, table.descriptor()).map_err(|_| table)
    }

    fn link_parts(
        &self,
        at: DescriptorAddr<Linked>,
        old: u64,
        table: Owned,
        mut part: impl FnMut(u16) -> u64,
    ) -> bool {
        for (index, word) in (0..).zip(&self.words[table.0 * 512..][..512]) {
            word.store(part(index), Ordering::Relaxed);
        }
        self.link(at, old, table).is_ok()
    }

    fn unlink(&mut self, path: impl Iterator<Item = u16>, unlinked: &mut Vec<Owned>) {
        let (mut table, mut end) = (Some(ROOT), None);
        for index in path {
            let at = DescriptorAddr {
                table: table.expect("the path leads through tables"),
                index,
            };
            table = self.load(at).1;
            end = Some(at);
        }
        self.store(end.expect("a path"), 0);
        unlinked.push(Owned(table.expect("the path leads to a table").number));
    }

    fn free(&self, unlinked: Vec<Owned>, _flushed: Flushed) {
        for table in unlinked {
            self.give_back(table);
        }
    }
}

impl Tlb for &Arena {
    fn publish(&self) {}
    fn flush(&self, _: Range<Ipa>, _: Option<Level>) {}
    fn flush_local(&self, _: Ipa, _: Level) {}
}

impl Coherency for &Arena {
    fn before_data(&self, _: HostPa, _: u64) {}
    fn before_exec(&self, _: HostPa, _: u64) {}
    fn after_data(&self, _: HostPa, _: u64) {}
}

struct Fresh<'a>(&'a Arena);

impl TablePool<Owned> for Fresh<'_> {
    fn take(&mut self) -> Option<Owned> {
        Some(self.0.take())
    }

    fn put(&mut self, table: Owned) {
        self.0.give_back(table);
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

/// Where the host has it.
fn output(ipa: u64) -> u64 {
    ipa | (1 << 44)
}

fn fault(stage2: &RwLock<Stage2<&Arena>>, arena: &Arena, dice: &mut Dice) {
    let level = if dice.below(8) == 0 {
        Level::L2
    } else {
        Level::L3
    };
    let ipa = (dice.below(3) * Granule::K4.size(level) * 512 + dice.below(24) * 4096)
        & !(Granule::K4.size(level) - 1);
    let perm = Perm::new(true, dice.below(2) == 0, dice.below(2) == 0);
    let want = Mapping {
        ipa: Ipa::new(ipa),
        pa: HostPa::new(output(ipa)),
        level,
        perm,
        mem: MemType::Normal,
    };
    let stage2 = stage2.read().expect("no thread has failed");
    match stage2.map(&mut Fresh(arena), &want) {
        Ok(mapped) => {
            assert_ne!(mapped, Mapped::Replaced, "every page has one place");
            // Another vCPU may just be splitting the block that it is in.
            if let Some(leaf) = stage2.walk(want.ipa) {
                assert_eq!(leaf.output(Granule::K4, want.ipa), want.pa);
                assert!(leaf.attributes.perm.contains(perm));
            }
        }
        Err(MapError::Busy | MapError::TableInTheWay) => {}
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn faults_ageing_and_unmapping_at_once() {
    let arena = Arena::new();
    let geometry = Geometry::new(Granule::K4, 40, 48).expect("a good geometry");
    // The two root tables lie side by side at the start.
    assert_eq!((arena.take().0, arena.take().0), (0, 1));
    let stage2 = Stage2::new(&arena, geometry, Format { fwb: true });
    let stage2 = RwLock::new(stage2);
    let (rounds, everything) = (30_000, Ipa::new(0)..geometry.end());
    thread::scope(|scope| {
        for vcpu in 0..3 {
            let (stage2, arena) = (&stage2, &arena);
            scope.spawn(move || {
                let mut dice = Dice(vcpu);
                for _ in 0..rounds {
                    fault(stage2, arena, &mut dice);
                }
            });
        }
        scope.spawn(|| {
            let mut dice = Dice(99);
            for _ in 0..rounds / 10 {
                let start = (dice.below(3) << 30) | (dice.below(24) << 12);
                let range = Ipa::new(start)..Ipa::new(start + (dice.below(600) << 12));
                match dice.below(4) {
                    0 => {
                        let _ = stage2.read().expect("no thread has failed").age(
                            range,
                            Age::Clear,
                            50,
                            &mut Stale::new(),
                        );
                    }
                    1 => {
                        let _ = stage2
                            .write()
                            .expect("no thread has failed")
                            .write_protect(range, 50);
                    }
                    _ => {
                        let _ = stage2
                            .write()
                            .expect("no thread has failed")
                            .unmap(range, 50);
                    }
                }
            }
        });
    });
    let mut stage2 = stage2.into_inner().expect("no thread has failed");
    let mapped = (0..3 << 18)
        .filter(|page| stage2.walk(Ipa::new(page << 12)).is_some())
        .count();
    assert!(mapped > 0);
    assert_eq!(stage2.unmap(everything, usize::MAX), None);
    assert_eq!(arena.in_use(), geometry.root_tables(), "tables leak");
}
