// SPDX-License-Identifier: GPL-2.0

//! A machine for the stage-2 tables to live on, with the meanest TLB that the architecture allows: it has cached every
//! descriptor that was ever valid, table descriptors included, and forgets only what it is told to.
//!
//! So what a real CPU may or may not still know is here always still known, and a rule that is broken is seen at once:
//!
//! - a descriptor goes from valid to valid only where no break-before-make is needed, and becomes valid only when nothing
//!   that was there before is cached any more;
//! - a table is freed once, when it is linked nowhere and no table descriptor that leads to it is cached;
//! - when an operation has returned, no translation is cached that the tables do not give as well ([`Machine::at_rest`]).
//!
//! It has its own idea of the descriptor's bits, so that the two check each other.

// Every test program uses its own part of this.
#![allow(dead_code, unreachable_pub)]

mod bits;
pub mod gate;
mod state;

pub use state::Found;

use loft_model::model::stage2::*;
use loft_model::model::types::{HostPa, Ipa};
use state::State;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// A machine with pages of `1 << SHIFT` bytes; clones are the same machine.
#[derive(Clone)]
pub struct MachineOf<const SHIFT: u32>(Arc<Shared>);

/// One with pages of 4 KiB.
pub type Machine = MachineOf<12>;

struct Shared {
    state: Mutex<State>,
    gate: Option<Arc<gate::Gate>>,
}

/// How often maintenance was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub flushes: usize,
    pub local_flushes: usize,
    pub loads: usize,
    pub flushed_bytes: u64,
}

impl<const SHIFT: u32> MachineOf<SHIFT> {
    pub fn new(geometry: Geometry, format: Format) -> Self {
        Self::gated(geometry, format, None)
    }

    /// With a gate, the threads that it knows wait for their turn at every access.
    pub fn gated(geometry: Geometry, format: Format, gate: Option<Arc<gate::Gate>>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::new(geometry, format.fwb)),
            gate,
        }))
    }

    /// Empty tables on this machine.
    pub fn stage2(&self) -> Stage2<Self> {
        let (geometry, fwb) = {
            let state = self.state();
            (state.geometry, state.fwb)
        };
        Stage2::new(self.clone(), geometry, Format { fwb })
    }

    /// A pool of `tables` tables.
    pub fn pool(&self, tables: usize) -> Pool<SHIFT> {
        Pool {
            machine: self.clone(),
            left: tables,
        }
    }

    /// The CPU sets access flags by itself from now on, whenever it feels like it.
    pub fn set_hardware_access_flag(&self) {
        self.state().hardware_af = true;
    }

    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Starts a new operation, for rules that hold within one.
    pub fn begin(&self) {
        let mut state = self.state();
        state.counts = Counts::default();
        state.prepared.clear();
        state.executable.clear();
        state.owed.clear();
    }

    /// Checks what must be so between operations. After an unmap all memory must have been made coherent too.
    pub fn at_rest(&self, after_unmap: bool) {
        self.state().at_rest(after_unmap);
    }

    /// Everything that is mapped, by address.
    pub fn contents(&self) -> Vec<Found> {
        self.state().contents()
    }

    /// Whether a table is linked at `level`, for the addresses from `ipa` on.
    pub fn has_table(&self, ipa: u64, level: Level) -> bool {
        self.state().has_table(ipa, level.number())
    }

    /// Tables that exist, besides the root.
    pub fn tables(&self) -> usize {
        let state = self.state();
        state.tables.len() - state.geometry.root_tables()
    }

    pub fn fwb(&self) -> bool {
        self.state().fwb
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The same for an access to a table, which others may see: a thread may have to wait for its turn first.
    fn turn(&self) -> MutexGuard<'_, State> {
        if let Some(gate) = &self.0.gate {
            gate.pass();
        }
        self.state()
    }
}

/// A table that its holder owns.
#[derive(Debug, PartialEq, Eq)]
pub struct Owned(u64);

/// A table that is linked, and its level. Of the root it is the first one.
#[derive(Clone, Copy, Debug)]
pub struct Linked {
    pa: u64,
    level: u8,
}

impl Linked {
    /// Where the machine has the descriptor.
    fn place(shift: u32, at: DescriptorAddr<Linked>) -> (u64, usize) {
        let (index, bits) = (u64::from(at.index), shift - 3);
        let table = at.table.pa + (index >> bits << shift);
        (table, (index % (1 << bits)) as usize)
    }

    fn next(self, shift: u32, descriptor: u64) -> Option<Linked> {
        match bits::kind(shift, self.level, descriptor) {
            bits::Kind::Table(pa) => Some(Linked {
                pa,
                level: self.level + 1,
            }),
            _ => None,
        }
    }
}

impl<const SHIFT: u32> TableMemory for MachineOf<SHIFT> {
    const GRANULE: Granule = match SHIFT {
        12 => Granule::K4,
        14 => Granule::K16,
        _ => Granule::K64,
    };

    type Table = Owned;
    type Unlinked = Vec<Owned>;
    type Linked<'a> = Linked;

    fn root(&self) -> Linked {
        let state = self.state();
        Linked {
            pa: state.root,
            level: state.geometry.start_level().number(),
        }
    }

    fn load(&self, at: DescriptorAddr<Linked>) -> (u64, Option<Linked>) {
        let (pa, index) = Linked::place(SHIFT, at);
        let mut state = self.turn();
        state.counts.loads += 1;
        state.maybe_set_access_flag(pa, index);
        let raw = state.read(pa, index);
        (raw, at.table.next(SHIFT, raw))
    }

    fn cmpxchg(&self, at: DescriptorAddr<Linked>, old: u64, new: u64) -> Result<(), u64> {
        assert!(
            at.table.next(SHIFT, new).is_none(),
            "a table that nobody owns"
        );
        let (pa, index) = Linked::place(SHIFT, at);
        let mut state = self.turn();
        state.maybe_set_access_flag(pa, index);
        let now = state.read(pa, index);
        if now != old {
            return Err(now);
        }
        state.write(pa, index, new);
        Ok(())
    }

    fn store(&self, at: DescriptorAddr<Linked>, new: u64) {
        assert!(
            at.table.next(SHIFT, new).is_none(),
            "a table that nobody owns"
        );
        let (pa, index) = Linked::place(SHIFT, at);
        self.turn().write(pa, index, new);
    }

    fn link(&self, at: DescriptorAddr<Linked>, old: u64, table: Owned) -> Result<(), Owned> {
        let addr = TableAddr::new(Self::GRANULE, HostPa::new(table.0)).expect("aligned");
        let (pa, index) = Linked::place(SHIFT, at);
        let mut state = self.turn();
        assert!(at.table.next(SHIFT, old).is_none(), "a table would be lost");
        if state.read(pa, index) != old {
            return Err(table);
        }
        state.write(pa, index, Format::table(addr));
        Ok(())
    }

    fn link_parts(
        &self,
        at: DescriptorAddr<Linked>,
        old: u64,
        table: Owned,
        mut part: impl FnMut(u16) -> u64,
    ) -> bool {
        {
            let mut state = self.state();
            assert!(state.is_private(table.0));
            for index in 0..Self::GRANULE.entries() {
                state.write(table.0, index.into(), part(index));
            }
        }
        self.link(at, old, table).is_ok()
    }

    fn unlink(&mut self, path: impl Iterator<Item = u16>, unlinked: &mut Vec<Owned>) {
        let mut state = self.state();
        let mut table = Some(Linked {
            pa: state.root,
            level: state.geometry.start_level().number(),
        });
        let mut end = None;
        for index in path {
            let above = table.expect("the path leads through tables");
            let place = Linked::place(
                SHIFT,
                DescriptorAddr {
                    table: above,
                    index,
                },
            );
            state.counts.loads += 1;
            table = above.next(SHIFT, state.read(place.0, place.1));
            end = Some(place);
        }
        let (pa, index) = end.expect("a path");
        state.write(pa, index, 0);
        unlinked.push(Owned(table.expect("the path leads to a table").pa));
    }

    fn free(&self, unlinked: Vec<Owned>, _flushed: Flushed) {
        for table in unlinked {
            self.state().free(table.0);
        }
    }
}

impl<const SHIFT: u32> Tlb for MachineOf<SHIFT> {
    fn publish(&self) {}

    fn flush(&self, stale: Range<Ipa>, leaf: Option<Level>) {
        self.turn()
            .flush(stale.start.raw()..stale.end.raw(), leaf.map(Level::number));
    }

    fn flush_local(&self, ipa: Ipa, level: Level) {
        assert!(ipa.is_aligned(Self::GRANULE.size(level)));
        self.state().counts.local_flushes += 1;
    }
}

impl<const SHIFT: u32> Coherency for MachineOf<SHIFT> {
    fn before_data(&self, pa: HostPa, size: u64) {
        self.state().prepared.push(pa.raw()..pa.raw() + size);
    }

    fn before_exec(&self, pa: HostPa, size: u64) {
        self.state().executable.push(pa.raw()..pa.raw() + size);
    }

    fn after_data(&self, pa: HostPa, size: u64) {
        self.state().after_data(pa.raw()..pa.raw() + size);
    }
}

/// Ages `range`, and flushes what that asks for.
pub fn age<P: Platform>(stage2: &Stage2<P>, range: Range<Ipa>, what: Age, limit: usize) -> Aged {
    let mut stale = Stale::new();
    let aged = stage2.age(range, what, limit, &mut stale);
    stage2.flush(stale);
    aged
}

/// A pool of tables.
pub struct Pool<const SHIFT: u32 = 12> {
    machine: MachineOf<SHIFT>,
    pub left: usize,
}

impl<const SHIFT: u32> TablePool<Owned> for Pool<SHIFT> {
    fn take(&mut self) -> Option<Owned> {
        self.left = self.left.checked_sub(1)?;
        Some(Owned(self.machine.state().allocate()))
    }

    fn put(&mut self, table: Owned) {
        self.left += 1;
        self.machine.state().put_back(table.0);
    }
}
