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

/// The machine; clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<Shared>);

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

impl Machine {
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
    pub fn stage2(&self) -> Stage2<Machine> {
        let (geometry, fwb, root) = {
            let state = self.state();
            (state.geometry, state.fwb, state.root)
        };
        let root = Table::new(HostPa::new(root)).expect("the root is aligned");
        Stage2::new(self.clone(), geometry, root, Format { fwb }).expect("the root is aligned")
    }

    /// A cache of `tables` tables.
    pub fn cache(&self, tables: usize) -> Pool {
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
    fn turn(&self, table: Option<Table>) -> MutexGuard<'_, State> {
        if let Some(gate) = &self.0.gate {
            if table.is_none_or(|table| !self.state().is_private(table.pa().raw())) {
                gate.pass();
            }
        }
        self.state()
    }
}

impl Memory for Machine {
    fn load(&self, slot: Slot) -> u64 {
        let mut state = self.turn(Some(slot.table()));
        state.counts.loads += 1;
        state.maybe_set_access_flag(slot.table().pa().raw(), slot.index());
        state.read(slot.table().pa().raw(), slot.index())
    }

    fn cmpxchg(&self, slot: Slot, old: u64, new: u64) -> Result<(), u64> {
        let mut state = self.turn(Some(slot.table()));
        state.maybe_set_access_flag(slot.table().pa().raw(), slot.index());
        let now = state.read(slot.table().pa().raw(), slot.index());
        if now != old {
            return Err(now);
        }
        state.write(slot.table().pa().raw(), slot.index(), new);
        Ok(())
    }

    fn store(&self, slot: Slot, new: u64) {
        self.turn(Some(slot.table()))
            .write(slot.table().pa().raw(), slot.index(), new);
    }

    fn free(&self, table: Table) {
        self.state().free(table.pa().raw());
    }
}

impl Tlb for Machine {
    fn publish(&self) {}

    fn flush(&self, stale: Range<Ipa>, leaf: Option<Level>) {
        self.turn(None)
            .flush(stale.start.raw()..stale.end.raw(), leaf.map(Level::number));
    }

    fn flush_local(&self, ipa: Ipa, level: Level) {
        assert!(ipa.is_aligned(level.size()));
        self.state().counts.local_flushes += 1;
    }
}

impl Coherency for Machine {
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

/// A cache of tables.
pub struct Pool {
    machine: Machine,
    pub left: usize,
}

impl Cache for Pool {
    fn take(&mut self) -> Option<Table> {
        self.left = self.left.checked_sub(1)?;
        let pa = self.machine.state().allocate();
        Table::new(HostPa::new(pa))
    }

    fn put(&mut self, table: Table) {
        self.left += 1;
        self.machine.state().put_back(table.pa().raw());
    }
}
