// SPDX-License-Identifier: GPL-2.0

//! Several vCPUs under the shared lock, in every order of their accesses (up to a number of preemptions).
//!
//! The machine checks every step; here is what the vCPUs are told, and what is there in the end.

mod stage2_machine;

use loft_model::model::stage2::*;
use loft_model::model::types::{HostPa, Ipa};
use stage2_machine::gate::every_order;
use stage2_machine::{age, Found, Machine};
use std::sync::Arc;

const PAGE: u64 = 4096;
const BLOCK: u64 = 2 << 20;
const RAM: u64 = 1 << 30;

type Outcome = Result<Mapped, MapError>;

fn want(ipa: u64, level: Level, perm: Perm, host: u64) -> Mapping {
    Mapping {
        ipa: Ipa::new(ipa),
        pa: HostPa::new(host + ipa),
        level,
        perm,
        mem: MemType::Normal,
    }
}

fn page(ipa: u64, perm: Perm) -> Mapping {
    want(ipa, Level::L3, perm, 0)
}

fn block(ipa: u64, perm: Perm) -> Mapping {
    want(ipa, Level::L2, perm, 0)
}

/// One vCPU's fault per mapping; before them `setup`, one after the other. Every fault that is told to come again does
/// so, alone, at the end; then `check` sees what each was told at first, and the contents.
fn faults(
    preemptions: usize,
    setup: &[Mapping],
    vcpus: &[Mapping],
    check: impl Fn(&[Outcome], &[Found]),
) {
    let orders = every_order(vcpus.len(), preemptions, |gate| {
        let geometry = Geometry::new(Granule::K4, 40, 48).expect("a good geometry");
        let machine = Machine::gated(geometry, Format { fwb: true }, Some(gate));
        let stage2 = Arc::new(machine.stage2());
        for mapping in setup {
            stage2
                .map(&mut machine.pool(8), mapping)
                .expect("nobody is in the way");
        }
        let bodies = vcpus
            .iter()
            .map(|&mapping| {
                let (machine, stage2) = (machine.clone(), stage2.clone());
                let body = move || stage2.map(&mut machine.pool(8), &mapping);
                Box::new(body) as Box<dyn FnOnce() -> Outcome + Send>
            })
            .collect();
        let check = &check;
        let end = move |outcomes: Vec<Outcome>| {
            machine.at_rest(false);
            for (mapping, outcome) in vcpus.iter().zip(&outcomes) {
                if *outcome == Err(MapError::Busy) {
                    stage2
                        .map(&mut machine.pool(8), mapping)
                        .expect("nobody is in the way any more");
                }
            }
            machine.at_rest(false);
            check(&outcomes, &machine.contents());
            let mut stage2 = Arc::into_inner(stage2).expect("the threads have ended");
            let end = stage2.geometry().end();
            assert_eq!(stage2.unmap(Ipa::new(0)..end, usize::MAX), None);
            machine.at_rest(false);
            assert_eq!(machine.tables(), 0, "tables leak");
        };
        (bodies, Box::new(end) as Box<dyn FnOnce(Vec<Outcome>)>)
    });
    assert!(orders > 20, "{orders} orders are not a test");
    println!("{orders} orders");
}

fn count(outcomes: &[Outcome], which: Outcome) -> usize {
    outcomes.iter().filter(|&&outcome| outcome == which).count()
}

#[test]
fn two_fault_on_one_page() {
    let mapping = page(RAM, Perm::RWX);
    faults(5, &[], &[mapping, mapping], |outcomes, contents| {
        assert_eq!(count(outcomes, Ok(Mapped::New)), 1, "{outcomes:?}");
        assert_eq!(
            count(outcomes, Ok(Mapped::Already)) + count(outcomes, Err(MapError::Busy)),
            1,
            "{outcomes:?}"
        );
        assert_eq!(contents.len(), 1);
    });
}

#[test]
fn three_fault_on_neighbours() {
    let vcpus = [
        page(RAM, Perm::RW),
        page(RAM + PAGE, Perm::RW),
        page(RAM + BLOCK, Perm::RW),
    ];
    faults(2, &[], &vcpus, |outcomes, contents| {
        assert_eq!(count(outcomes, Ok(Mapped::New)), 3, "{outcomes:?}");
        assert_eq!(contents.len(), 3);
    });
}

#[test]
fn two_split_one_block() {
    // Dirty logging: the block is read-only, and each writes to another page of it.
    let vcpus = [page(RAM, Perm::RW), page(RAM + PAGE, Perm::RW)];
    faults(5, &[block(RAM, Perm::R)], &vcpus, |outcomes, contents| {
        for outcome in outcomes {
            assert!(
                matches!(outcome, Ok(Mapped::Relaxed) | Err(MapError::Busy)),
                "{outcomes:?}"
            );
        }
        assert_eq!(contents.len(), 512);
        let writable: Vec<u64> = contents
            .iter()
            .filter(|leaf| leaf.perm.1)
            .map(|leaf| leaf.base)
            .collect();
        assert_eq!(writable, [RAM, RAM + PAGE]);
    });
}

#[test]
fn one_reads_the_block_that_the_other_splits() {
    let vcpus = [page(RAM, Perm::RW), page(RAM + PAGE, Perm::R)];
    faults(5, &[block(RAM, Perm::R)], &vcpus, |outcomes, contents| {
        assert!(
            matches!(outcomes[0], Ok(Mapped::Relaxed) | Err(MapError::Busy)),
            "{outcomes:?}"
        );
        assert!(
            matches!(outcomes[1], Ok(Mapped::Already) | Err(MapError::Busy)),
            "{outcomes:?}"
        );
        assert_eq!(contents.len(), 512);
    });
}

#[test]
fn two_relax_one_page() {
    let vcpus = [page(RAM, Perm::RW), page(RAM, Perm::RX)];
    faults(6, &[page(RAM, Perm::R)], &vcpus, |outcomes, contents| {
        assert_eq!(count(outcomes, Ok(Mapped::Relaxed)), 2, "{outcomes:?}");
        assert_eq!(contents[0].perm, (true, true, true));
    });
}

#[test]
fn one_wants_a_page_and_one_the_block() {
    let vcpus = [page(RAM + PAGE, Perm::RW), block(RAM, Perm::RW)];
    faults(5, &[], &vcpus, |outcomes, contents| match outcomes {
        [Ok(Mapped::New), Err(MapError::TableInTheWay)] => assert_eq!(contents[0].level, 3),
        [Ok(Mapped::Already) | Err(MapError::Busy), Ok(Mapped::New)] => {
            assert_eq!(contents[0].level, 2)
        }
        other => panic!("{other:?}"),
    });
}

#[test]
fn two_replace_one_page() {
    let other = want(RAM, Level::L3, Perm::RW, 1 << 40);
    let setup = [page(RAM, Perm::RW)];
    faults(6, &setup, &[other, other], |outcomes, contents| {
        assert_eq!(count(outcomes, Ok(Mapped::Replaced)), 1, "{outcomes:?}");
        assert_eq!(contents[0].pa, RAM + (1 << 40));
    });
}

#[test]
fn replacing_a_block_and_splitting_it() {
    let other = want(RAM + PAGE, Level::L3, Perm::RW, 1 << 40);
    let setup = [block(RAM, Perm::R)];
    faults(5, &setup, &[other, page(RAM, Perm::RW)], |_, contents| {
        let at = |base| {
            contents
                .iter()
                .find(|leaf| leaf.base == base)
                .map(|leaf| (leaf.pa, leaf.perm.1))
        };
        assert_eq!(at(RAM), Some((RAM, true)));
        assert_eq!(at(RAM + PAGE), Some((RAM + PAGE + (1 << 40), true)));
    });
}

/// Two different operations at once on the block at `RAM`, which is read-only and young.
fn meet<A, B>(
    first: impl Fn(&Stage2<Machine>, &mut dyn FnMut() -> stage2_machine::Pool) -> A
        + Copy
        + Send
        + 'static,
    second: impl Fn(&Stage2<Machine>, &mut dyn FnMut() -> stage2_machine::Pool) -> B
        + Copy
        + Send
        + 'static,
    check: impl Fn(A, B, &[Found]),
) where
    A: Send + 'static,
    B: Send + 'static,
{
    enum Either<A, B> {
        First(A),
        Second(B),
    }
    let orders = every_order(2, 6, |gate| {
        let geometry = Geometry::new(Granule::K4, 40, 48).expect("a good geometry");
        let machine = Machine::gated(geometry, Format { fwb: true }, Some(gate));
        let stage2 = Arc::new(machine.stage2());
        stage2
            .map(&mut machine.pool(8), &block(RAM, Perm::R))
            .expect("nobody is in the way");
        let (m1, s1, m2, s2) = (
            machine.clone(),
            stage2.clone(),
            machine.clone(),
            stage2.clone(),
        );
        let bodies: Vec<Box<dyn FnOnce() -> Either<A, B> + Send>> = vec![
            Box::new(move || Either::First(first(&s1, &mut || m1.pool(8)))),
            Box::new(move || Either::Second(second(&s2, &mut || m2.pool(8)))),
        ];
        let check = &check;
        let end = move |results: Vec<Either<A, B>>| {
            machine.at_rest(false);
            let mut results = results.into_iter();
            match (results.next(), results.next()) {
                (Some(Either::First(a)), Some(Either::Second(b))) => {
                    check(a, b, &machine.contents())
                }
                _ => unreachable!("the results are in the order of the bodies"),
            }
        };
        (bodies, Box::new(end) as Box<dyn FnOnce(Vec<Either<A, B>>)>)
    });
    assert!(orders > 5, "{orders} orders are not a test");
    println!("{orders} orders");
}

fn all() -> std::ops::Range<Ipa> {
    Ipa::new(RAM)..Ipa::new(RAM + BLOCK)
}

#[test]
fn ageing_and_relaxing() {
    meet(
        |stage2, _| age(stage2, all(), Age::Clear, 100),
        |stage2, pool| stage2.map(&mut pool(), &block(RAM, Perm::RW)),
        |aged, mapped, contents| {
            assert!(aged.young);
            assert_eq!(mapped, Ok(Mapped::Relaxed));
            assert_eq!(contents[0].perm, (true, true, false));
        },
    );
}

#[test]
fn ageing_and_splitting() {
    meet(
        |stage2, _| {
            age(
                stage2,
                Ipa::new(RAM)..Ipa::new(RAM + 3 * PAGE),
                Age::ClearAndFlush,
                600,
            )
        },
        |stage2, pool| stage2.map(&mut pool(), &page(RAM + PAGE, Perm::RW)),
        |_, mapped, contents| {
            assert_eq!(mapped, Ok(Mapped::Relaxed));
            assert_eq!(contents.len(), 512);
            // Nothing that was aged is made young by the split, and the page that was written is young unless aged after.
            let writable: Vec<_> = contents.iter().filter(|leaf| leaf.perm.1).collect();
            assert_eq!(writable.len(), 1);
        },
    );
}

#[test]
fn ageing_twice_finds_it_young_once() {
    meet(
        |stage2, _| age(stage2, all(), Age::Clear, 100),
        |stage2, _| age(stage2, all(), Age::Clear, 100),
        |one, other, contents| {
            assert!(one.young != other.young);
            assert!(!contents[0].young);
        },
    );
}
