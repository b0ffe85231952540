// SPDX-License-Identifier: GPL-2.0

//! The machine's memory and TLB, and the rules.

use super::bits::{self, Kind};
use super::Counts;
use loft_model::model::stage2::Geometry;
use std::collections::BTreeMap;
use std::ops::Range;

/// A leaf that is in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub base: u64,
    pub level: u8,
    pub pa: u64,
    pub perm: (bool, bool, bool),
    pub mem_attr: u64,
    pub young: bool,
}

pub struct TableState {
    words: Vec<u64>,
    place: Place,
}

/// Where a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not yet linked: nobody but its owner knows it.
    Private,
    /// Its descriptors are of this level and begin at this address.
    Linked(u8, u64),
    /// No longer linked, but CPUs may walk it.
    Unlinked,
}

/// A descriptor that is no longer what the tables say, but that the TLB still has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cached {
    level: u8,
    base: u64,
    descriptor: u64,
    /// The unlinked table that it is in, if it is: it can be cached anew as long as a table descriptor leads there.
    through: Option<u64>,
}

impl Cached {
    fn overlaps(&self, shift: u32, range: &Range<u64>) -> bool {
        self.base < range.end && range.start < self.base + bits::size(shift, self.level)
    }

    fn kind(&self, shift: u32) -> Kind {
        bits::kind(shift, self.level, self.descriptor)
    }
}

pub struct State {
    pub geometry: Geometry,
    pub fwb: bool,
    /// log2 of the bytes in a page.
    pub shift: u32,
    pub root: u64,
    pub tables: BTreeMap<u64, TableState>,
    pub counts: Counts,
    pub hardware_af: bool,
    /// Cleaned for data, to be executed, and unmapped without being cleaned yet, in this operation.
    pub prepared: Vec<Range<u64>>,
    pub executable: Vec<Range<u64>>,
    pub owed: Vec<Range<u64>>,
    cached: Vec<Cached>,
    next: u64,
    freed: Vec<u64>,
    dice: u64,
}

impl State {
    pub fn new(geometry: Geometry, fwb: bool) -> Self {
        let root = 0x4_0000_0000;
        let mut state = State {
            geometry,
            fwb,
            shift: geometry.granule().page_shift(),
            root,
            tables: BTreeMap::new(),
            counts: Counts::default(),
            hardware_af: false,
            prepared: Vec::new(),
            executable: Vec::new(),
            owed: Vec::new(),
            cached: Vec::new(),
            next: root + 0x10_0000,
            freed: Vec::new(),
            dice: 1,
        };
        let (level, shift) = (
            geometry.start_level().number(),
            geometry.granule().page_shift(),
        );
        let entries = 1 << (shift - 3);
        for n in 0..geometry.root_tables() as u64 {
            let place = Place::Linked(level, n * entries * bits::size(shift, level));
            state.tables.insert(
                root + (n << shift),
                TableState {
                    words: vec![0; entries as usize],
                    place,
                },
            );
        }
        state
    }

    pub fn allocate(&mut self) -> u64 {
        // A table that was freed comes back soon, as it does from a real allocator.
        let pa = self.freed.pop().unwrap_or_else(|| {
            self.next += 1 << self.shift;
            self.next
        });
        let table = TableState {
            words: vec![0; 1 << (self.shift - 3)],
            place: Place::Private,
        };
        assert!(
            self.tables.insert(pa, table).is_none(),
            "{pa:#x} was not free"
        );
        pa
    }

    pub fn put_back(&mut self, pa: u64) {
        let table = self
            .tables
            .remove(&pa)
            .expect("put back what was never taken");
        assert_eq!(
            table.place,
            Place::Private,
            "put back a table that was linked"
        );
        assert!(
            table.words.iter().all(|&word| word == 0),
            "put back a table that is not zeroed"
        );
        self.freed.push(pa);
    }

    pub fn free(&mut self, pa: u64) {
        let shift = self.shift;
        let table = self
            .tables
            .remove(&pa)
            .expect("freed twice, or never allocated");
        assert_eq!(
            table.place,
            Place::Unlinked,
            "freed table {pa:#x} while it is linked"
        );
        for cached in &self.cached {
            assert_ne!(
                cached.kind(shift),
                Kind::Table(pa),
                "freed a table that the TLB leads to: {cached:x?}"
            );
            assert_ne!(
                cached.through,
                Some(pa),
                "freed a table with cached leaves: {cached:x?}"
            );
        }
        self.freed.push(pa);
    }

    /// Whether only its owner knows the table.
    pub fn is_private(&self, pa: u64) -> bool {
        self.tables
            .get(&pa)
            .is_some_and(|table| table.place == Place::Private)
    }

    pub fn read(&self, pa: u64, index: usize) -> u64 {
        self.tables
            .get(&pa)
            .expect("read of a table that is free")
            .words[index]
    }

    pub fn write(&mut self, pa: u64, index: usize, new: u64) {
        let shift = self.shift;
        let table = self
            .tables
            .get_mut(&pa)
            .expect("write to a table that is free");
        let old = std::mem::replace(&mut table.words[index], new);
        match table.place {
            Place::Private => {}
            Place::Unlinked => {
                assert_eq!(new & 1, 0, "made a descriptor valid in an unlinked table")
            }
            Place::Linked(level, base) => {
                let base = base + index as u64 * bits::size(shift, level);
                self.changed(level, base, old, new);
            }
        }
    }

    /// A descriptor that walks can reach has changed.
    fn changed(&mut self, level: u8, base: u64, old: u64, new: u64) {
        let shift = self.shift;
        let span = base..base + bits::size(shift, level);
        match (bits::kind(shift, level, old), bits::kind(shift, level, new)) {
            (Kind::Invalid, Kind::Invalid) => {}
            (Kind::Leaf(_), Kind::Leaf(_)) => {
                assert!(
                    bits::is_update(old, new),
                    "{old:#x} became {new:#x} without break-before-make"
                );
                self.check_exec(level, old, new);
                self.cache(level, base, old, None);
            }
            (Kind::Invalid, Kind::Leaf(pa)) => {
                self.check_make(&span, new);
                assert_eq!(pa % bits::size(shift, level), 0);
                if bits::is_ram(new, self.fwb) {
                    let need = pa..pa + bits::size(shift, level);
                    assert!(
                        self.prepared.contains(&need),
                        "{need:x?} was not made coherent"
                    );
                }
                self.check_exec(level, 1 << 54, new);
            }
            (Kind::Invalid, Kind::Table(table)) => {
                self.check_make(&span, new);
                self.link(table, level + 1, base);
            }
            (Kind::Leaf(pa), Kind::Invalid) => {
                self.cache(level, base, old, None);
                if bits::is_ram(old, self.fwb) && !self.fwb {
                    self.owed.push(pa..pa + bits::size(shift, level));
                }
            }
            (Kind::Table(table), Kind::Invalid) => {
                self.cache(level, base, old, None);
                self.unlink(table);
            }
            (old_kind, new_kind) => {
                panic!("{old_kind:x?} became {new_kind:x?} without break-before-make at level {level}, {base:#x}")
            }
        }
    }

    fn check_make(&self, span: &Range<u64>, new: u64) {
        let shift = self.shift;
        if let Some(cached) = self
            .cached
            .iter()
            .find(|cached| cached.overlaps(shift, span))
        {
            panic!("made {new:#x} at {span:x?} while the TLB has {cached:x?}");
        }
    }

    fn check_exec(&self, level: u8, old: u64, new: u64) {
        let shift = self.shift;
        if bits::perm(new).2 && !bits::perm(old).2 {
            let Kind::Leaf(pa) = bits::kind(shift, level, new) else {
                return;
            };
            let need = pa..pa + bits::size(shift, level);
            assert!(
                self.executable.contains(&need),
                "{need:x?} was not prepared for execution"
            );
        }
    }

    fn cache(&mut self, level: u8, base: u64, descriptor: u64, through: Option<u64>) {
        let shift = self.shift;
        let cached = Cached {
            level,
            base,
            descriptor,
            through,
        };
        // A leaf whose access flag is clear is never cached.
        let old = matches!(cached.kind(shift), Kind::Leaf(_)) && descriptor & bits::AF == 0;
        if !old && !self.cached.contains(&cached) {
            self.cached.push(cached);
        }
    }

    fn link(&mut self, pa: u64, level: u8, base: u64) {
        let shift = self.shift;
        let table = self
            .tables
            .get_mut(&pa)
            .expect("linked a table that is free");
        assert_eq!(table.place, Place::Private, "linked a table twice");
        table.place = Place::Linked(level, base);
        for word in table.words.clone() {
            assert!(
                !matches!(bits::kind(shift, level, word), Kind::Table(_)),
                "linked a table with tables below"
            );
        }
    }

    /// Everything below `pa` stays as the TLB may have seen it.
    fn unlink(&mut self, pa: u64) {
        let shift = self.shift;
        let table = self
            .tables
            .get_mut(&pa)
            .expect("unlinked a table that is free");
        let Place::Linked(level, base) = table.place else {
            panic!("unlinked a table twice");
        };
        table.place = Place::Unlinked;
        for (index, word) in table.words.clone().into_iter().enumerate() {
            let base = base + index as u64 * bits::size(shift, level);
            match bits::kind(shift, level, word) {
                Kind::Invalid => {}
                Kind::Leaf(_) => self.cache(level, base, word, Some(pa)),
                Kind::Table(below) => {
                    self.cache(level, base, word, Some(pa));
                    self.unlink(below);
                }
            }
        }
    }

    pub fn flush(&mut self, range: Range<u64>, leaf: Option<u8>) {
        let shift = self.shift;
        let unit = leaf.map_or(1 << shift, |level| bits::size(shift, level));
        assert!(range.start < range.end, "empty flush {range:x?}");
        assert!(
            range.start % unit == 0 && range.end % unit == 0,
            "{range:x?} is not in units of {unit:#x}"
        );
        assert!(range.end <= self.geometry.end().raw());
        self.counts.flushes += 1;
        self.counts.flushed_bytes += range.end - range.start;
        let gone = |cached: &Cached| {
            cached.overlaps(shift, &range)
                && match (cached.kind(shift), leaf) {
                    (_, None) => true,
                    (Kind::Leaf(_), Some(level)) => cached.level == level,
                    // The last-level form leaves table descriptors alone.
                    (_, Some(_)) => false,
                }
        };
        let kept: Vec<u64> = self
            .cached
            .iter()
            .filter(|cached| !gone(cached))
            .filter_map(|cached| match cached.kind(shift) {
                Kind::Table(pa) => Some(pa),
                _ => None,
            })
            .collect();
        self.cached
            .retain(|cached| !gone(cached) || cached.through.is_some_and(|pa| kept.contains(&pa)));
    }

    pub fn after_data(&mut self, range: Range<u64>) {
        let shift = self.shift;
        assert!(!self.fwb, "cleaned for nothing");
        for cached in &self.cached {
            if let Kind::Leaf(pa) = cached.kind(shift) {
                let reachable =
                    pa < range.end && range.start < pa + bits::size(shift, cached.level);
                assert!(
                    !reachable,
                    "cleaned {range:x?} while the TLB has {cached:x?}"
                );
            }
        }
        let owed = self.owed.iter().position(|owed| *owed == range);
        self.owed
            .remove(owed.unwrap_or_else(|| panic!("cleaned {range:x?}, which was not unmapped")));
    }

    /// Now and then the CPU sets the access flag of a leaf in the tables.
    pub fn maybe_set_access_flag(&mut self, pa: u64, index: usize) {
        let shift = self.shift;
        if !self.hardware_af {
            return;
        }
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let Some(table) = self.tables.get_mut(&pa) else {
            return;
        };
        if let (0, Place::Linked(level, _)) = (self.dice % 2, table.place) {
            if let Kind::Leaf(_) = bits::kind(shift, level, table.words[index]) {
                table.words[index] |= bits::AF;
            }
        }
    }

    /// The descriptor that ends the lookup of `ipa`: its level, base and value.
    fn lookup(&self, ipa: u64) -> (u8, u64, u64) {
        let shift = self.shift;
        let mut level = self.geometry.start_level().number();
        let mut pa = self.root + ((ipa / bits::size(shift, level)) >> (shift - 3) << shift);
        loop {
            let index = ipa / bits::size(shift, level) % (1 << (shift - 3));
            let word = self.read(pa, index as usize);
            match bits::kind(shift, level, word) {
                Kind::Table(below) => (level, pa) = (level + 1, below),
                _ => return (level, ipa & !(bits::size(shift, level) - 1), word),
            }
        }
    }

    pub fn has_table(&self, ipa: u64, level: u8) -> bool {
        self.lookup(ipa).0 > level
    }

    pub fn contents(&self) -> Vec<Found> {
        let shift = self.shift;
        let mut found = Vec::new();
        for table in self.tables.values() {
            let Place::Linked(level, base) = table.place else {
                continue;
            };
            for (index, &word) in table.words.iter().enumerate() {
                if let Kind::Leaf(pa) = bits::kind(shift, level, word) {
                    found.push(Found {
                        base: base + index as u64 * bits::size(shift, level),
                        level,
                        pa,
                        perm: bits::perm(word),
                        mem_attr: bits::mem_attr(word),
                        young: word & bits::AF != 0,
                    });
                }
            }
        }
        found.sort_by_key(|leaf| leaf.base);
        found
    }

    pub fn at_rest(&mut self, after_unmap: bool) {
        let shift = self.shift;
        let mut linked = Vec::new();
        for (pa, table) in &self.tables {
            let Place::Linked(level, _) = table.place else {
                panic!("table {pa:#x} leaks: {:?}", table.place);
            };
            for &word in &table.words {
                match bits::kind(shift, level, word) {
                    Kind::Invalid => assert_eq!(word, 0, "a marker was left behind"),
                    Kind::Table(below) => linked.push(below),
                    Kind::Leaf(_) => {}
                }
            }
        }
        linked.sort_unstable();
        linked.dedup();
        assert_eq!(
            linked.len() + self.geometry.root_tables(),
            self.tables.len(),
            "a table is not linked once"
        );
        for cached in &self.cached {
            let (_, base, live) = self.lookup(cached.base);
            let harmless =
                base == cached.base && live & 1 != 0 && bits::allows(live, cached.descriptor);
            assert!(
                harmless,
                "the TLB still has {cached:x?}, the tables say {live:#x}"
            );
        }
        if after_unmap {
            assert!(self.owed.is_empty(), "never cleaned: {:x?}", self.owed);
        }
    }
}
