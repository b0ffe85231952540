// SPDX-License-Identifier: GPL-2.0

//! A fault never maps a page that the host has taken back: in every order of a few threads, and with real ones.

#[allow(dead_code, unreachable_pub)]
#[path = "stage2_machine/gate.rs"]
mod gate;

use gate::{every_order, Gate};
use loft_model::model::invalidate::InvalidateState;
use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;

const PAGE: u64 = 4096;

#[test]
fn a_fault_retries_for_what_is_or_was_invalidated_meanwhile() {
    let mut state = InvalidateState::new();
    let seq = state.seq();
    assert!(!state.must_retry(&(0..PAGE), seq));
    state.begin(PAGE..2 * PAGE);
    assert!(state.must_retry(&(PAGE..2 * PAGE), seq));
    assert!(state.must_retry(&(0..3 * PAGE), seq));
    // Its neighbours on both sides are not concerned.
    assert!(!state.must_retry(&(0..PAGE), seq));
    assert!(!state.must_retry(&(2 * PAGE..3 * PAGE), seq));
    state.end();
    // Whatever it was about, for the range is no longer known.
    assert!(state.must_retry(&(8 * PAGE..9 * PAGE), seq));
    assert!(!state.must_retry(&(PAGE..2 * PAGE), state.seq()));
}

#[test]
fn ranges_in_progress_count_together_until_the_last_ends() {
    let mut state = InvalidateState::new();
    state.begin(8 * PAGE..9 * PAGE);
    state.begin(2 * PAGE..3 * PAGE);
    state.end();
    let seq = state.seq();
    assert!(state.must_retry(&(2 * PAGE..3 * PAGE), seq));
    assert!(state.must_retry(&(8 * PAGE..9 * PAGE), seq));
    assert!(!state.must_retry(&(0..2 * PAGE), seq));
    state.end();
    // The next one does not inherit the hull.
    state.begin(0..PAGE);
    let seq = state.seq();
    assert!(!state.must_retry(&(8 * PAGE..9 * PAGE), seq));
    assert!(state.must_retry(&(0..PAGE), seq));
}

const PAGES: usize = 4;

/// What the lock protects: stage 2 maps each page to a version of the host's, or to nothing.
struct Tables {
    state: InvalidateState,
    mapped: [AtomicU64; PAGES],
}

/// A host whose pages have versions, 0 is never mapped, and its guest.
struct Machine {
    host: [AtomicU64; PAGES],
    tables: RwLock<Tables>,
}

impl Machine {
    fn new() -> Self {
        Self {
            host: [const { AtomicU64::new(1) }; PAGES],
            tables: RwLock::new(Tables {
                state: InvalidateState::new(),
                mapped: [const { AtomicU64::new(0) }; PAGES],
            }),
        }
    }

    /// A fault; `step` is called between its steps. Whether the page was mapped.
    fn fault(&self, page: usize, step: impl Fn()) -> bool {
        let seq = self.tables.read().expect("not poisoned").state.seq();
        step();
        let version = self.host[page].load(Ordering::Relaxed);
        step();
        let tables = self.tables.read().expect("not poisoned");
        let start = page as u64 * PAGE;
        let retry = tables.state.must_retry(&(start..start + PAGE), seq);
        if !retry {
            tables.mapped[page].store(version, Ordering::Relaxed);
        }
        !retry
    }

    /// The host replaces some of its pages.
    fn invalidate(&self, pages: Range<usize>, step: impl Fn()) {
        let range = pages.start as u64 * PAGE..pages.end as u64 * PAGE;
        {
            let mut tables = self.tables.write().expect("not poisoned");
            tables.state.begin(range);
        }
        step();
        {
            let tables = self.tables.write().expect("not poisoned");
            for page in pages.clone() {
                tables.mapped[page].store(0, Ordering::Relaxed);
            }
        }
        for page in pages.clone() {
            step();
            self.host[page].fetch_add(1, Ordering::Relaxed);
            // Nobody uses the old page any more, though the change goes on.
            let tables = self.tables.write().expect("not poisoned");
            assert_eq!(tables.mapped[page].load(Ordering::Relaxed), 0);
        }
        step();
        self.tables.write().expect("not poisoned").state.end();
    }

    /// While none of these pages changes, what is mapped is what the host has.
    fn check(&self, pages: Range<usize>) {
        let tables = self.tables.write().expect("not poisoned");
        for page in pages {
            let mapped = tables.mapped[page].load(Ordering::Relaxed);
            assert!(mapped == 0 || mapped == self.host[page].load(Ordering::Relaxed));
        }
    }
}

type Body = Box<dyn FnOnce() -> bool + Send>;

/// Runs so many faults on page 1, and invalidations of these ranges, in every order with so many preemptions.
fn orders(faults: usize, invalidations: &[Range<usize>], preemptions: usize) -> usize {
    let threads = faults + invalidations.len();
    every_order(threads, preemptions, |gate: Arc<Gate>| {
        let machine = Arc::new(Machine::new());
        let mut bodies: Vec<Body> = Vec::new();
        for _ in 0..faults {
            let (machine, gate) = (machine.clone(), gate.clone());
            bodies.push(Box::new(move || {
                gate.pass();
                machine.fault(1, || gate.pass())
            }));
        }
        for pages in invalidations {
            let (machine, gate, pages) = (machine.clone(), gate.clone(), pages.clone());
            bodies.push(Box::new(move || {
                gate.pass();
                machine.invalidate(pages, || gate.pass());
                true
            }));
        }
        let check = Box::new(move |_: Vec<bool>| {
            machine.check(0..PAGES);
            // Nothing is left that would make a fault retry for ever.
            assert!(machine.fault(1, || {}));
            machine.check(0..PAGES);
        });
        (bodies, check)
    })
}

#[test]
fn no_order_of_faults_and_an_invalidation_maps_a_stale_page() {
    assert!(orders(2, slice::from_ref(&(1..2)), 2) > 100);
    assert!(orders(2, slice::from_ref(&(0..1)), 2) > 100);
}

#[test]
fn no_order_of_faults_and_two_invalidations_maps_a_stale_page() {
    assert!(orders(1, &[1..2, 0..3], 2) > 100);
}

#[test]
fn real_threads_map_no_stale_page() {
    let machine = Machine::new();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let invalidators: Vec<_> = [0..2, 2..4]
            .into_iter()
            .map(|pages| {
                let machine = &machine;
                scope.spawn(move || {
                    (0..3_000).for_each(|_| machine.invalidate(pages.clone(), || {}))
                })
            })
            .collect();
        for n in 0..2 {
            let (machine, over) = (&machine, &over);
            scope.spawn(move || {
                for page in (n..).map(|n| n % PAGES) {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    machine.fault(page, thread::yield_now);
                }
            });
        }
        let ends: Vec<_> = invalidators.into_iter().map(|one| one.join()).collect();
        over.store(true, Ordering::Relaxed);
        assert!(
            ends.iter().all(Result::is_ok),
            "a page outlived its unmapping"
        );
    });
    machine.check(0..PAGES);
    assert!(machine.fault(0, || {}));
}
