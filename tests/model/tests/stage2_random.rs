// SPDX-License-Identifier: GPL-2.0

//! Random operations on the stage-2 tables, against a map that knows nothing of tables. The machine watches the rules.

mod stage2_machine;

use loft_model::model::stage2::*;
use loft_model::model::types::{HostPa, Ipa};
use proptest::collection::vec;
use proptest::prelude::*;
use stage2_machine::{age, Found, MachineOf};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Debug)]
enum Op {
    Map {
        ipa: u64,
        level: Level,
        perm: Perm,
        mem: MemType,
        variant: u64,
        tables: usize,
    },
    UnmapEach {
        ranges: Vec<Range<u64>>,
        limit: usize,
    },
    Unmap {
        range: Range<u64>,
        limit: usize,
    },
    Protect {
        range: Range<u64>,
        limit: usize,
    },
    ProtectMask {
        base: u64,
        mask: u64,
    },
    Age {
        range: Range<u64>,
        what: Age,
        limit: usize,
    },
    Young {
        ipa: u64,
    },
}

/// What should be mapped: by first address.
struct Model {
    granule: Granule,
    blocks: BTreeMap<u64, Block>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    level: Level,
    pa: u64,
    perm: Perm,
    mem: MemType,
    young: bool,
}

/// Few places, so that the operations meet: some around boundaries of tables of all levels, the last at the very end.
fn place(geometry: &Geometry) -> impl Strategy<Value = u64> {
    let (g, end) = (geometry.granule(), geometry.end().raw());
    let (page, entries) = (g.page_size(), i64::from(g.entries()));
    let [l0, l1, l2] = [Level::L0, Level::L1, Level::L2].map(|level| g.size(level));
    let hubs = [0, l2, l1, l1 + l2, 3 * l1, l0, end.saturating_sub(l1), end]
        .into_iter()
        .filter(move |&hub| hub <= end)
        .collect::<Vec<_>>();
    let near = prop_oneof![
        -3i64..4,
        entries - 4..entries + 4,
        Just(-entries),
        Just(2 * entries)
    ];
    (proptest::sample::select(hubs), near).prop_map(move |(hub, pages)| {
        hub.saturating_add_signed(pages * page as i64)
            .min(end - page)
    })
}

fn level(geometry: &Geometry) -> impl Strategy<Value = Level> {
    if geometry.start_level() == Level::L3 {
        Just(Level::L3).boxed()
    } else if geometry.start_level() == Level::L2 || !geometry.granule().maps(Level::L1) {
        prop_oneof![6 => Just(Level::L3), 3 => Just(Level::L2)].boxed()
    } else {
        prop_oneof![6 => Just(Level::L3), 3 => Just(Level::L2), 1 => Just(Level::L1)].boxed()
    }
}

fn perm() -> impl Strategy<Value = Perm> {
    proptest::sample::select(vec![Perm::R, Perm::RW, Perm::RX, Perm::RWX])
}

fn mem() -> impl Strategy<Value = MemType> {
    prop_oneof![8 => Just(MemType::Normal), 1 => Just(MemType::Device), 1 => Just(MemType::NormalNc)]
}

fn range(geometry: &Geometry) -> impl Strategy<Value = Range<u64>> {
    let end = geometry.end().raw();
    let g = geometry.granule();
    let [l1, l2, page] = [Level::L1, Level::L2, Level::L3].map(|level| g.size(level));
    let sizes = vec![
        1,
        page,
        page + 1,
        3 * page,
        l2,
        l2 + page,
        2 * l2 + l2 / 2,
        l1,
        3 * l1,
        u64::MAX,
    ];
    (place(geometry), proptest::sample::select(sizes), 0..2u64).prop_map(
        move |(start, size, odd)| start + odd..(start + odd).saturating_add(size).min(end + page),
    )
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(3), 1usize..600, Just(100_000)]
}

fn op(geometry: &Geometry) -> impl Strategy<Value = Op> {
    let (g, granule) = (geometry, geometry.granule());
    let age = proptest::sample::select(vec![Age::Test, Age::Clear, Age::ClearAndFlush]);
    prop_oneof![
        12 => (place(g), level(g), perm(), mem(), 0..3u64, prop_oneof![4 => Just(8), 1 => 0usize..3]).prop_map(
            move |(ipa, level, perm, mem, variant, tables)| Op::Map {
                ipa: ipa & !(granule.size(level) - 1),
                level,
                perm: Perm { x: perm.x && mem == MemType::Normal, ..perm },
                mem,
                variant: variant / 2,
                tables
            }
        ),
        2 => (prop::collection::vec(range(g), 0..4), limit())
            .prop_map(|(ranges, limit)| Op::UnmapEach { ranges, limit }),
        4 => (range(g), limit()).prop_map(|(range, limit)| Op::Unmap { range, limit }),
        2 => (range(g), limit()).prop_map(|(range, limit)| Op::Protect { range, limit }),
        1 => (place(g), any::<u64>(), any::<u64>()).prop_map(|(base, a, b)| Op::ProtectMask { base, mask: a & b }),
        2 => (range(g), age, limit()).prop_map(|(range, what, limit)| Op::Age { range, what, limit }),
        1 => place(g).prop_map(|ipa| Op::Young { ipa }),
    ]
}

/// Where the host has the memory for `ipa`: two possible places, each contiguous and of no other
/// `ipa`. Flipping bit 38 leads from no `place` to another, and blocks are smaller than that.
fn output(ipa: u64, variant: u64) -> u64 {
    ipa ^ (variant << 38)
}

/// Panics if the host's memory at `pa` is mapped at an address that is not its own: the machine
/// takes what is unmapped for out of reach.
fn assert_no_alias(model: &Model, ipa: u64, pa: u64, level: Level) {
    let size = model.granule.size(level);
    for (&base, block) in &model.blocks {
        let meets = block.pa < pa + size && pa < block.pa + model.granule.size(block.level);
        assert!(
            !meets || ipa.wrapping_sub(pa) == base.wrapping_sub(block.pa),
            "{pa:#x} would be at {ipa:#x}, and {:#x} is at {base:#x}",
            block.pa
        );
    }
}

fn covering(model: &Model, ipa: u64) -> Option<(u64, Block)> {
    let (&base, &block) = model.blocks.range(..=ipa).next_back()?;
    (ipa < base + model.granule.size(block.level)).then_some((base, block))
}

/// The blocks that touch `range`.
fn touching(model: &Model, range: &Range<u64>) -> Vec<u64> {
    if range.start >= range.end {
        return Vec::new();
    }
    let first = covering(model, range.start).map_or(range.start, |(base, _)| base);
    model
        .blocks
        .range(first..range.end)
        .map(|(&base, _)| base)
        .collect()
}

/// Replaces a block by its parts, or removes it.
fn split(model: &mut Model, base: u64, keep: bool) {
    let Some(block) = model.blocks.remove(&base) else {
        return;
    };
    let level = block.level.next().expect("a page was split");
    if keep {
        for n in 0..u64::from(model.granule.entries()) {
            let offset = n * model.granule.size(level);
            model.blocks.insert(
                base + offset,
                Block {
                    level,
                    pa: block.pa + offset,
                    ..block
                },
            );
        }
    }
}

/// What `map` should do, when there are tables enough.
fn model_map(model: &mut Model, ipa: u64, want: Block) -> Mapped {
    loop {
        let Some((base, block)) = covering(model, ipa) else {
            model.blocks.insert(ipa, want);
            return Mapped::New;
        };
        let same = block.pa + (ipa - base) == want.pa && block.mem == want.mem;
        if same && (block.level == want.level || block.perm.contains(want.perm)) {
            let perm = block.perm.union(want.perm);
            model.blocks.insert(
                base,
                Block {
                    perm,
                    young: true,
                    ..block
                },
            );
            return if perm == block.perm {
                Mapped::Already
            } else {
                Mapped::Relaxed
            };
        }
        if block.level == want.level {
            model.blocks.insert(base, want);
            return Mapped::Replaced;
        }
        split(model, base, same);
    }
}

fn compare<const SHIFT: u32>(machine: &MachineOf<SHIFT>, model: &Model, fwb: bool) {
    let expected: Vec<Found> = model
        .blocks
        .iter()
        .map(|(&base, block)| Found {
            base,
            level: block.level.number(),
            pa: block.pa,
            perm: (block.perm.r, block.perm.w, block.perm.x),
            mem_attr: match block.mem {
                MemType::Normal if fwb => 0b0110,
                MemType::Normal => 0b1111,
                MemType::NormalNc => 0b0101,
                MemType::Device => 0b0001,
            },
            young: block.young,
        })
        .collect();
    let contents = machine.contents();
    if contents != expected {
        let wrong = contents.iter().find(|found| !expected.contains(found));
        let missing = expected.iter().find(|found| !contents.contains(found));
        panic!("wrong: {wrong:x?}, missing: {missing:x?}");
    }
}

struct Run<const SHIFT: u32> {
    machine: MachineOf<SHIFT>,
    stage2: Stage2<MachineOf<SHIFT>>,
    model: Model,
    hardware_af: bool,
}

impl<const SHIFT: u32> Run<SHIFT> {
    fn new(geometry: Geometry, fwb: bool, hardware_af: bool) -> Self {
        let machine = MachineOf::new(geometry, Format { fwb });
        if hardware_af {
            machine.set_hardware_access_flag();
        }
        let stage2 = machine.stage2();
        Run {
            machine,
            stage2,
            model: Model {
                granule: geometry.granule(),
                blocks: BTreeMap::new(),
            },
            hardware_af,
        }
    }

    fn apply(&mut self, op: &Op) {
        self.machine.begin();
        if self.hardware_af {
            // What the CPU has made young meanwhile is young.
            for found in self.machine.contents() {
                let block = self
                    .model
                    .blocks
                    .get_mut(&found.base)
                    .expect("compared before");
                block.young |= found.young;
            }
        }
        match op.clone() {
            Op::Map {
                ipa,
                level,
                perm,
                mem,
                variant,
                tables,
            } => self.map(ipa, level, perm, mem, variant, tables),
            Op::UnmapEach { ranges, limit } => self.unmap_each(&ranges, limit),
            Op::Unmap { range, limit } => self.unmap(range, limit),
            Op::Protect { range, limit } => self.protect(range, limit),
            Op::ProtectMask { base, mask } => self.protect_mask(base, mask),
            Op::Age { range, what, limit } => self.age(range, what, limit),
            Op::Young { ipa } => {
                let there = covering(&self.model, ipa);
                assert_eq!(self.stage2.make_young(Ipa::new(ipa)), there.is_some());
                if let Some((base, block)) = there {
                    self.model.blocks.insert(
                        base,
                        Block {
                            young: true,
                            ..block
                        },
                    );
                }
                assert_eq!(self.machine.counts().flushes, 0);
            }
        }
        self.machine.at_rest(matches!(op, Op::Unmap { .. }));
        if self.hardware_af {
            for found in self.machine.contents() {
                if let Some(block) = self.model.blocks.get_mut(&found.base) {
                    assert!(
                        found.young || !block.young || matches!(op, Op::Age { .. }),
                        "lost {found:x?}"
                    );
                    block.young = found.young;
                }
            }
        }
        compare(&self.machine, &self.model, self.fwb());
    }

    fn size(&self, level: Level) -> u64 {
        self.model.granule.size(level)
    }

    fn fwb(&self) -> bool {
        self.machine.fwb()
    }

    fn map(
        &mut self,
        ipa: u64,
        level: Level,
        perm: Perm,
        mem: MemType,
        variant: u64,
        tables: usize,
    ) {
        let want = Mapping {
            ipa: Ipa::new(ipa),
            pa: HostPa::new(output(ipa, variant)),
            level,
            perm,
            mem,
        };
        assert_no_alias(&self.model, ipa, want.pa.raw(), level);
        let mut pool = self.machine.pool(tables);
        let result = self.stage2.map(&mut pool, &want);
        let used = tables - pool.left;
        let flushes = self.machine.counts().flushes;
        match result {
            Ok(mapped) => {
                let block = Block {
                    level,
                    pa: want.pa.raw(),
                    perm,
                    mem,
                    young: true,
                };
                assert_eq!(model_map(&mut self.model, ipa, block), mapped);
                assert!(used <= self.stage2.geometry().tables_per_map());
                // One for the block or page that was there, and one for each part of it that was split.
                assert!(flushes <= used + usize::from(mapped == Mapped::Replaced));
                assert!(mapped != Mapped::Already || flushes == used);
                let local = self.machine.counts().local_flushes;
                assert_eq!(
                    local,
                    usize::from(matches!(mapped, Mapped::Already | Mapped::Relaxed))
                );
                let leaf = self.stage2.walk(want.ipa).expect("just mapped");
                assert_eq!(leaf.output(self.model.granule, want.ipa), want.pa);
                assert!(leaf.attributes.perm.contains(perm) && leaf.attributes.young);
            }
            Err(MapError::PoolEmpty) => {
                assert_eq!(pool.left, 0);
                assert!(tables < self.stage2.geometry().tables_per_map());
                // The tables that there were are put to use, and stay for the next attempt.
                self.follow_splits(ipa, want);
            }
            Err(MapError::TableInTheWay) => assert!(self.machine.has_table(ipa, level)),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Splits in the model the blocks that a map that ran out of tables has split.
    fn follow_splits(&mut self, ipa: u64, want: Mapping) {
        while let Some((base, block)) = covering(&self.model, ipa) {
            if !self.machine.has_table(ipa, block.level) {
                break;
            }
            let same = block.pa + (ipa - base) == want.pa.raw() && block.mem == want.mem;
            split(&mut self.model, base, same);
        }
    }

    fn unmap(&mut self, range: Range<u64>, limit: usize) {
        let next = self
            .stage2
            .unmap(Ipa::new(range.start)..Ipa::new(range.end), limit);
        let done = self.done(&range, next);
        let gone = touching(&self.model, &done);
        let counts = self.machine.counts();
        assert!(
            counts.flushes <= if self.fwb() { 1 } else { 2 },
            "{counts:?}"
        );
        if let (Some(&first), Some(last)) = (gone.first(), gone.last()) {
            assert_ne!(counts.flushes, 0);
            let hull = (
                done.start.min(first)
                    ..done
                        .end
                        .max(last + self.size(self.model.blocks[last].level)),
                self.size(Level::L2),
            );
            assert!(
                counts.flushed_bytes <= 2 * (hull.0.end - hull.0.start + hull.1),
                "{counts:?} for {hull:x?}"
            );
        }
        for base in gone {
            self.model.blocks.remove(&base);
        }
        // About `limit` descriptors, a search for neighbours in each table, and the way down to each.
        if next.is_some() && limit > 1 {
            assert!(
                counts.loads <= 4 * limit + 8 * usize::from(self.model.granule.entries()),
                "{counts:?} for {limit}"
            );
        }
    }

    /// Ranges may lie over each other, and need not be in order.
    fn unmap_each(&mut self, ranges: &[Range<u64>], limit: usize) {
        let mut left: Vec<_> = ranges
            .iter()
            .map(|range| Ipa::new(range.start)..Ipa::new(range.end))
            .collect();
        let through = self.stage2.unmap_each(&mut left, limit);
        assert_eq!(through, left.iter().all(|range| range.is_empty()));
        let most = if self.fwb() { 1 } else { 2 };
        assert!(self.machine.counts().flushes <= most);
        for (range, left) in ranges.iter().zip(left) {
            let start = range.start & !(self.size(Level::L3) - 1);
            for base in touching(&self.model, &(start..left.start.raw())) {
                self.model.blocks.remove(&base);
            }
        }
    }

    /// The part of `range` that a call has done, given where it says to go on.
    fn done(&self, range: &Range<u64>, next: Option<Ipa>) -> Range<u64> {
        let page = self.size(Level::L3);
        let end = (range.end.saturating_add(page - 1) & !(page - 1))
            .min(self.stage2.geometry().end().raw());
        let start = range.start & !(self.size(Level::L3) - 1);
        match next {
            None => start..end,
            Some(next) => {
                assert!(
                    next.raw() > start && next.raw() < end,
                    "{next} is no progress in {range:x?}"
                );
                start..next.raw()
            }
        }
    }

    fn protect(&mut self, range: Range<u64>, limit: usize) {
        let next = self
            .stage2
            .write_protect(Ipa::new(range.start)..Ipa::new(range.end), limit);
        let mut writable = 0;
        for base in touching(&self.model, &self.done(&range, next)) {
            let block = self.model.blocks.get_mut(&base).expect("just found");
            writable += usize::from(block.perm.w);
            block.perm.w = false;
        }
        assert_eq!(self.machine.counts().flushes, usize::from(writable > 0));
    }

    fn protect_mask(&mut self, base: u64, mask: u64) {
        let mut stale = Stale::new();
        self.stage2
            .write_protect_mask(Ipa::new(base), mask, &mut stale);
        assert_eq!(self.machine.counts().flushes, 0);
        let mut writable = 0;
        for bit in (0..64).filter(|bit| (mask >> bit) & 1 != 0) {
            if let Some((base, block)) = covering(&self.model, base + bit * self.size(Level::L3)) {
                writable += usize::from(block.perm.w);
                self.model.blocks.get_mut(&base).expect("just found").perm.w = false;
            }
        }
        assert_eq!(stale.is_empty(), writable == 0);
        self.stage2.flush(stale);
        assert_eq!(self.machine.counts().flushes, usize::from(writable > 0));
    }

    fn age(&mut self, range: Range<u64>, what: Age, limit: usize) {
        let ipas = Ipa::new(range.start)..Ipa::new(range.end);
        let aged = age(&self.stage2, ipas, what, limit);
        let done = self.done(&range, aged.next);
        let mut young = false;
        for base in touching(&self.model, &done) {
            let block = self.model.blocks.get_mut(&base).expect("just found");
            young |= block.young;
            block.young &= what == Age::Test;
        }
        if !self.hardware_af {
            assert_eq!(aged.young, young);
            assert_eq!(
                self.machine.counts().flushes,
                usize::from(young && what == Age::ClearAndFlush)
            );
        }
    }

    /// Unmaps everything, in pieces: all tables must be gone then.
    fn destroy(mut self) {
        let end = self.stage2.geometry().end();
        let mut from = Ipa::new(0);
        self.machine.begin();
        while let Some(next) = self.stage2.unmap(from..end, 700) {
            assert!(next > from);
            from = next;
        }
        self.machine.at_rest(true);
        assert_eq!(self.machine.contents(), []);
        assert_eq!(self.machine.tables(), 0, "tables leak");
    }
}

fn geometry<const SHIFT: u32>(ipa_bits: u32) -> Geometry {
    let granule = <MachineOf<SHIFT> as TableMemory>::GRANULE;
    Geometry::new(granule, ipa_bits, 48).expect("a good geometry")
}

fn run<const SHIFT: u32>(ipa_bits: u32, fwb: bool, hardware_af: bool, ops: &[Op]) {
    let mut run = Run::<SHIFT>::new(geometry::<SHIFT>(ipa_bits), fwb, hardware_af);
    for op in ops {
        run.apply(op);
    }
    run.destroy();
}

fn ops<const SHIFT: u32>(ipa_bits: u32) -> impl Strategy<Value = Vec<Op>> {
    vec(op(&geometry::<SHIFT>(ipa_bits)), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn start_at_level_1_fwb(ops in ops::<12>(40)) {
        run::<12>(40, true, false, &ops);
    }

    #[test]
    fn start_at_level_1_without_fwb(ops in ops::<12>(40)) {
        run::<12>(40, false, false, &ops);
    }

    #[test]
    fn start_at_level_2(ops in ops::<12>(33), fwb: bool) {
        run::<12>(33, fwb, false, &ops);
    }

    #[test]
    fn start_at_level_0(ops in ops::<12>(48), fwb: bool) {
        run::<12>(48, fwb, false, &ops);
    }

    #[test]
    fn hardware_sets_access_flags(ops in ops::<12>(40), fwb: bool) {
        run::<12>(40, fwb, true, &ops);
    }
}

// Larger pages: the tables have more descriptors, and every look at all of them takes longer.
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn pages_of_16_kib_start_at_level_2(ops in ops::<14>(40), fwb: bool) {
        run::<14>(40, fwb, false, &ops);
    }

    #[test]
    fn pages_of_16_kib_start_at_level_1(ops in ops::<14>(48), fwb: bool) {
        run::<14>(48, fwb, true, &ops);
    }

    #[test]
    fn pages_of_64_kib_start_at_level_3(ops in ops::<16>(32), fwb: bool) {
        run::<16>(32, fwb, false, &ops);
    }

    #[test]
    fn pages_of_64_kib_start_at_level_2(ops in ops::<16>(40), fwb: bool) {
        run::<16>(40, fwb, false, &ops);
    }

    #[test]
    fn pages_of_64_kib_have_as_many_tables_as_an_index_reaches(ops in ops::<16>(45), fwb: bool) {
        run::<16>(45, fwb, false, &ops);
    }

    #[test]
    fn pages_of_64_kib_start_a_level_earlier_where_it_does_not(ops in ops::<16>(46), fwb: bool) {
        run::<16>(46, fwb, false, &ops);
    }

    #[test]
    fn pages_of_64_kib_start_at_level_1(ops in ops::<16>(48), fwb: bool) {
        run::<16>(48, fwb, true, &ops);
    }
}
