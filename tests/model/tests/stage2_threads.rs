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

    fn word(&self, slot: Slot) -> &AtomicU64 {
        let index = (slot.pa().raw() - BASE) / 8;
        assert!(
            self.used[index as usize / 512].load(Ordering::Relaxed),
            "{:?} is in no table",
            slot
        );
        &self.words[index as usize]
    }

    fn number(table: Table) -> usize {
        ((table.pa().raw() - BASE) / 4096) as usize
    }

    fn take(&self) -> Table {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed) % TABLES;
            if !self.used[n].swap(true, Ordering::AcqRel) {
                for word in &self.words[n * 512..][..512] {
                    word.store(0, Ordering::Relaxed);
                }
                return Table::new(HostPa::new(BASE + n as u64 * 4096)).expect("aligned");
            }
        }
    }

    fn in_use(&self) -> usize {
        self.used
            .iter()
            .filter(|used| used.load(Ordering::Relaxed))
            .count()
    }
}

impl Memory for &Arena {
    fn load(&self, slot: Slot) -> u64 {
        self.word(slot).load(Ordering::Acquire)
    }

    fn cmpxchg(&self, slot: Slot, old: u64, new: u64) -> Result<(), u64> {
        self.word(slot)
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    fn store(&self, slot: Slot, new: u64) {
        self.word(slot).store(new, Ordering::Release);
    }

    fn free(&self, table: Table) {
        assert!(
            self.used[Arena::number(table)].swap(false, Ordering::AcqRel),
            "freed twice"
        );
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

impl Cache for Fresh<'_> {
    fn take(&mut self) -> Option<Table> {
        Some(self.0.take())
    }

    fn put(&mut self, table: Table) {
        (&self.0).free(table);
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
    let ipa = (dice.below(3) * level.size() * 512 + dice.below(24) * 4096) & !(level.size() - 1);
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
                assert_eq!(leaf.output(want.ipa), want.pa);
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
    let geometry = Geometry::new(40, 48).expect("a good geometry");
    // The two root tables lie side by side at the start.
    let root = arena.take();
    arena.take();
    let stage2 = Stage2::new(&arena, geometry, root, Format { fwb: true }).expect("aligned");
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
                        let _ =
                            stage2
                                .read()
                                .expect("no thread has failed")
                                .age(range, Age::Clear, 50);
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
