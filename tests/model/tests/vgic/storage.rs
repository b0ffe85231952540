// SPDX-License-Identifier: GPL-2.0

//! Where the tests keep an interrupt controller: on the heap, behind mutexes that tell when locks are taken in a wrong order.

use super::lpis::Lpis;
use loft_model::model::vcpus::VcpuId;
use loft_model::model::vgic::{
    Bank, Error, Gic, GicConfig, GicStorage, IrqBlock, Lock, Redist, Shared, WorkSet,
};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard};

thread_local! {
    /// The ranks of the locks that this thread has.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// A lock, and its place in the order: one of a higher rank may be taken inside, one of its own or a lower rank may not.
pub struct Ranked<T> {
    rank: u32,
    mutex: Mutex<T>,
}

pub struct Held<'a, T> {
    rank: u32,
    guard: MutexGuard<'a, T>,
}

impl<T> Ranked<T> {
    pub fn new(rank: u32, value: T) -> Self {
        Self {
            rank,
            mutex: Mutex::new(value),
        }
    }
}

impl<T> Lock<T> for Ranked<T> {
    fn lock(&self) -> impl DerefMut<Target = T> {
        let held = HELD.get();
        assert_eq!(held >> self.rank, 0, "lock {} inside {held:#b}", self.rank);
        HELD.set(held | 1 << self.rank);
        Held {
            rank: self.rank,
            guard: self.mutex.lock().unwrap(),
        }
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        HELD.set(HELD.get() & !(1 << self.rank));
    }
}

pub struct Heap;

impl GicStorage for Heap {
    type Redists = Vec<Redist>;
    type Bank = Ranked<Bank>;
    type Banks = Vec<Ranked<Bank>>;
    type Spis = Vec<IrqBlock>;
    type Works = Vec<WorkSet>;
    type Shared = Ranked<Shared<Self>>;
    type Lpis = Lpis;
}

/// The controller of these vCPUs, with `spi_blocks` blocks of shared interrupts.
pub fn controller(
    config: &GicConfig,
    redists: Vec<Redist>,
    spi_blocks: usize,
) -> Result<Gic<Heap>, Error> {
    let banks = (0..redists.len()).map_while(VcpuId::new);
    let banks = banks.map(|vcpu| Ranked::new(1, Bank::new(vcpu))).collect();
    let works = vec![WorkSet::default(); redists.len() + WorkSet::KINDS];
    let shared = Ranked::new(0, Shared::new(vec![IrqBlock::default(); spi_blocks], works));
    Gic::new(config, redists, banks, shared, Lpis::new())
}

/// vCPUs with the usual affinities.
pub fn redists(count: usize) -> Vec<Redist> {
    let vcpus = (0..count).map(|n| VcpuId::new(n).unwrap_or(VcpuId::FIRST));
    let redist = |(n, vcpu)| Redist::new(Redist::usual_affinity(vcpu), n);
    (0..).zip(vcpus).map(redist).collect()
}
