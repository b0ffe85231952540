// SPDX-License-Identifier: GPL-2.0

//! The interrupt translation service, over a memory that is a map and LPIs that are a list of what was asked for.

use loft_model::model::its::{
    Collection, Device, Env, Event, Its, NoMemory, RegisterError, SortedMap, TableError,
    Translation,
};
use loft_model::model::sysreg::regs::*;
use loft_model::model::vcpus::VcpuId;
use loft_model::model::vgic::LpiId;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug)]
struct Sorted<K, V>(BTreeMap<K, V>);

impl<K: Ord + Copy, V: Copy> SortedMap<K, V> for Sorted<K, V> {
    fn get(&self, key: K) -> Option<V> {
        self.0.get(&key).copied()
    }
    fn set(&mut self, key: K, value: V) -> Result<(), NoMemory> {
        self.0.insert(key, value);
        Ok(())
    }
    fn remove(&mut self, key: K) {
        self.0.remove(&key);
    }
    fn at_or_after(&self, key: K) -> Option<(K, V)> {
        self.0.range(key..).next().map(|(k, v)| (*k, *v))
    }
}

type Model = Its<Sorted<u32, Device>, Sorted<u16, Collection>, Sorted<Event, Translation>>;

/// What was asked of the LPIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Map(u32, Option<usize>),
    Unmap(u32),
    KeepPending,
    Route(u32, Option<usize>),
    Raise(u32),
    Clear(u32),
    Reload(u32),
    ReloadAll(usize),
    MoveAll(usize, usize),
}

/// A VM with `vcpus` vCPUs, whose numbers are ten times their indices, and memory below [`MEMORY`].
struct Vm {
    memory: BTreeMap<u64, u64>,
    vcpus: usize,
    asked: Vec<Asked>,
    lpi_limit: u32,
    /// How many LPIs can be mapped until memory runs out.
    room: usize,
    patience: usize,
}

const MEMORY: u64 = 0x100_0000;
const QUEUE: u64 = 0x1_0000;
const DEVICES: u64 = 0x10_0000;
const COLLECTIONS: u64 = 0x20_0000;
const ITT: u64 = 0x40_0000;

impl Env for Vm {
    fn load(&mut self, ipa: u64) -> Option<u64> {
        assert_eq!(ipa % 8, 0);
        (ipa < MEMORY).then(|| self.memory.get(&ipa).copied().unwrap_or(0))
    }
    fn store(&mut self, ipa: u64, value: u64) -> bool {
        assert_eq!(ipa % 8, 0);
        if ipa < MEMORY {
            self.memory.insert(ipa, value);
        }
        ipa < MEMORY
    }
    fn is_memory(&mut self, ipa: u64) -> bool {
        ipa < MEMORY
    }
    fn vcpu(&mut self, number: u32) -> Option<VcpuId> {
        let n = number as usize;
        (n % 10 == 0 && n / 10 < self.vcpus).then(|| VcpuId::new(n / 10).unwrap())
    }
    fn lpi_limit(&mut self) -> u32 {
        self.lpi_limit
    }
    fn map(&mut self, lpi: LpiId, target: Option<VcpuId>) -> Result<(), TableError> {
        self.room = self.room.checked_sub(1).ok_or(TableError::NoMemory)?;
        self.asked
            .push(Asked::Map(lpi.get(), target.map(VcpuId::index)));
        Ok(())
    }
    fn unmap(&mut self, lpi: LpiId) {
        self.asked.push(Asked::Unmap(lpi.get()));
    }
    fn keep_pending(&mut self) {
        self.asked.push(Asked::KeepPending);
    }
    fn route(&mut self, lpi: LpiId, target: Option<VcpuId>) {
        self.asked
            .push(Asked::Route(lpi.get(), target.map(VcpuId::index)));
    }
    fn raise(&mut self, lpi: LpiId) {
        self.asked.push(Asked::Raise(lpi.get()));
    }
    fn clear(&mut self, lpi: LpiId) {
        self.asked.push(Asked::Clear(lpi.get()));
    }
    fn reload(&mut self, lpi: LpiId) {
        self.asked.push(Asked::Reload(lpi.get()));
    }
    fn reload_all(&mut self, vcpu: VcpuId) {
        self.asked.push(Asked::ReloadAll(vcpu.index()));
    }
    fn move_all(&mut self, from: VcpuId, to: VcpuId) {
        self.asked.push(Asked::MoveAll(from.index(), to.index()));
    }
    fn may_go_on(&mut self) -> bool {
        self.patience = self.patience.saturating_sub(1);
        self.patience > 0
    }
}

const VALID: u64 = GITS_BASER::Valid.mask();
const INDIRECT: u64 = GITS_BASER::Indirect.mask();

/// Encodes commands as a guest does (IHI 0069, section 5.3), without the model's description.
mod encode {
    pub fn mapd(device: u32, itt: u64, bits: u32, valid: bool) -> [u64; 4] {
        [
            0x08 | u64::from(device) << 32,
            u64::from(bits - 1),
            itt | u64::from(valid) << 63,
            0,
        ]
    }
    pub fn mapc(collection: u16, vcpu: u32, valid: bool) -> [u64; 4] {
        let target = u64::from(vcpu) << 16;
        [
            0x09,
            0,
            u64::from(collection) | target | u64::from(valid) << 63,
            0,
        ]
    }
    pub fn mapti(device: u32, event: u32, lpi: u32, collection: u16) -> [u64; 4] {
        [
            0x0a | u64::from(device) << 32,
            u64::from(event) | u64::from(lpi) << 32,
            collection.into(),
            0,
        ]
    }
    pub fn movi(device: u32, event: u32, collection: u16) -> [u64; 4] {
        [
            0x01 | u64::from(device) << 32,
            event.into(),
            collection.into(),
            0,
        ]
    }
    /// INT, CLEAR, INV, DISCARD, and, with the collection, MAPI.
    pub fn event(command: u64, device: u32, event: u32, collection: u16) -> [u64; 4] {
        [
            command | u64::from(device) << 32,
            event.into(),
            collection.into(),
            0,
        ]
    }
    pub fn movall(from: u32, to: u32) -> [u64; 4] {
        [0x0e, 0, u64::from(from) << 16, u64::from(to) << 16]
    }
}
use encode::*;

const INT: u64 = 0x03;
const CLEAR: u64 = 0x04;
const SYNC: u64 = 0x05;
const MAPI: u64 = 0x0b;
const INV: u64 = 0x0c;
const INVALL: u64 = 0x0d;
const DISCARD: u64 = 0x0f;

const CTLR: u32 = 0;
const CBASER: u32 = GITS_CBASER::OFFSET;
const CWRITER: u32 = GITS_CWRITER::OFFSET;
const CREADR: u32 = GITS_CREADR::OFFSET;
const BASER0: u32 = GITS_BASER::at(0);
const BASER1: u32 = GITS_BASER::at(1);

struct Test {
    its: Model,
    vm: Vm,
}

impl Test {
    /// An ITS as a guest sets it up: one page for each table, a queue of 4 KiB, enabled.
    fn new() -> Self {
        let mut test = Self::off();
        test.write(BASER0, 8, VALID | DEVICES);
        test.write(BASER1, 8, VALID | COLLECTIONS);
        test.write(CBASER, 8, VALID | QUEUE);
        test.write(CTLR, 4, 1);
        test
    }

    fn off() -> Self {
        Self {
            its: Model::new(
                Sorted(BTreeMap::new()),
                Sorted(BTreeMap::new()),
                Sorted(BTreeMap::new()),
            ),
            vm: Vm {
                memory: BTreeMap::new(),
                vcpus: 4,
                asked: Vec::new(),
                lpi_limit: 1 << 16,
                room: usize::MAX,
                patience: usize::MAX,
            },
        }
    }

    fn read(&self, offset: u32) -> u64 {
        self.its.read(offset, 8)
    }

    fn write(&mut self, offset: u32, size: u8, value: u64) {
        self.its.write(&mut self.vm, offset, size, value);
    }

    /// Gives commands, one after the other; what they asked of the LPIs.
    fn run(&mut self, commands: &[[u64; 4]]) -> Vec<Asked> {
        self.vm.asked.clear();
        for command in commands {
            let at = self.read(CWRITER);
            for (n, word) in (0..).zip(command) {
                self.vm.memory.insert(QUEUE + at + n * 8, *word);
            }
            let next = (at + 32) % 0x1000;
            self.write(CWRITER, 8, next);
            assert_eq!(self.read(CREADR), next);
        }
        std::mem::take(&mut self.vm.asked)
    }

    /// Device 5 with 32 events, collection 7 on vCPU 2.
    fn with_a_device() -> Self {
        let mut test = Self::new();
        assert_eq!(test.run(&[mapd(5, ITT, 5, true), mapc(7, 20, true)]), []);
        test
    }

    /// The LPI that a message raises.
    fn message(&mut self, device: u32, event: u32) -> Option<u32> {
        match self.run(&[encode::event(INT, device, event, 0)])[..] {
            [] => None,
            [Asked::Raise(lpi)] => Some(lpi),
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_event_becomes_an_lpi_of_the_collections_vcpu() {
    let mut test = Test::with_a_device();
    assert_eq!(
        test.run(&[mapti(5, 3, 9000, 7)]),
        [Asked::Map(9000, Some(2))]
    );
    assert_eq!(test.message(5, 3), Some(9000));
    assert_eq!(test.message(5, 4), None);
    assert_eq!(test.message(4, 3), None);
    assert_eq!(test.run(&[event(CLEAR, 5, 3, 0)]), [Asked::Clear(9000)]);
    assert_eq!(test.run(&[event(INV, 5, 3, 0)]), [Asked::Reload(9000)]);
    assert_eq!(test.run(&[event(INVALL, 0, 0, 7)]), [Asked::ReloadAll(2)]);
    assert_eq!(test.run(&[event(INVALL, 0, 0, 8)]), []);
    assert_eq!(test.run(&[event(SYNC, 0, 0, 0)]), []);
    assert_eq!(test.run(&[movall(20, 10)]), [Asked::MoveAll(2, 1)]);
    assert_eq!(
        test.run(&[movall(20, 20), movall(20, 99), movall(5, 10)]),
        []
    );
    // MAPI: the event's number is the LPI's, which fits with enough bits only.
    assert_eq!(test.run(&[mapd(6, ITT, 14, true)]), []);
    assert_eq!(
        test.run(&[event(MAPI, 6, 8200, 7)]),
        [Asked::Map(8200, Some(2))]
    );
    assert_eq!(test.run(&[[0xff, 0, 0, 0]]), [], "no such command");
}

#[test]
fn a_collection_may_be_mapped_after_its_events() {
    let mut test = Test::new();
    test.run(&[mapd(5, ITT, 5, true)]);
    assert_eq!(test.run(&[mapti(5, 0, 9000, 3)]), [Asked::Map(9000, None)]);
    assert_eq!(test.message(5, 0), None);
    assert_eq!(
        test.run(&[mapc(3, 10, true)]),
        [Asked::Route(9000, Some(1))]
    );
    assert_eq!(test.message(5, 0), Some(9000));
    assert_eq!(
        test.run(&[mapc(3, 30, true)]),
        [Asked::Route(9000, Some(3))]
    );
    // Unmapped, it takes its events with it, even if it comes back.
    assert_eq!(test.run(&[mapc(3, 0, false)]), []);
    assert_eq!(test.message(5, 0), None);
    assert_eq!(test.run(&[mapc(3, 10, true)]), []);
    assert_eq!(test.message(5, 0), None);
}

#[test]
fn events_move_and_go() {
    let mut test = Test::with_a_device();
    test.run(&[mapc(8, 0, true), mapti(5, 0, 9000, 7), mapti(5, 1, 9001, 7)]);
    assert_eq!(test.run(&[movi(5, 0, 8)]), [Asked::Route(9000, Some(0))]);
    assert_eq!(test.run(&[movi(5, 0, 9), movi(5, 2, 8)]), []);
    assert_eq!(
        test.run(&[mapc(8, 30, true)]),
        [Asked::Route(9000, Some(3))],
        "it is of that collection now"
    );
    test.vm.memory.insert(ITT, 0x1234);
    assert_eq!(test.run(&[event(DISCARD, 5, 0, 0)]), [Asked::Unmap(9000)]);
    assert_eq!(test.vm.memory[&ITT], 0, "its entry is no longer valid");
    assert_eq!(test.run(&[event(DISCARD, 5, 0, 0)]), []);
    assert_eq!(test.message(5, 0), None);
    // A device that is mapped again begins anew, one that is unmapped is gone.
    assert_eq!(test.run(&[mapd(5, ITT, 5, true)]), [Asked::Unmap(9001)]);
    test.run(&[mapti(5, 1, 9001, 7)]);
    test.vm.memory.insert(DEVICES + 5 * 8, 0x1234);
    assert_eq!(test.run(&[mapd(5, 0, 1, false)]), [Asked::Unmap(9001)]);
    assert_eq!(test.vm.memory[&(DEVICES + 5 * 8)], 0);
    assert_eq!(test.run(&[mapti(5, 1, 9001, 7)]), []);
}

#[test]
fn mistakes_change_nothing() {
    let mut test = Test::with_a_device();
    let wrong = [
        // The table has a page: 8192 entries.
        mapd(8192, ITT, 5, true),
        mapd(0x1_0005, ITT, 5, true),
        mapd(6, ITT, 17, true),
        mapc(8192, 0, true),
        mapc(1, 40, true),
        mapc(1, 5, true),
        mapti(6, 0, 9000, 7),
        mapti(5, 32, 9000, 7),
        mapti(5, 0, 8191, 7),
        mapti(5, 0, 0x1_0000, 7),
        mapti(5, 0, 9000, 8192),
    ];
    for command in wrong {
        assert_eq!(test.run(&[command]), [], "{command:x?}");
    }
    assert_eq!(test.run(&[mapti(5, 0, 9000, 7)]).len(), 1);
    assert_eq!(
        test.run(&[mapti(5, 0, 9001, 7)]),
        [],
        "it is mapped already"
    );
    assert_eq!(test.message(5, 0), Some(9000));
    // The entries of the events have to be in memory.
    test.run(&[mapd(6, MEMORY - 0x100, 6, true)]);
    assert_eq!(test.run(&[mapti(6, 32, 9002, 7)]), []);
    assert_eq!(test.run(&[mapti(6, 31, 9002, 7)]).len(), 1);
    test.vm.lpi_limit = 1 << 14;
    assert_eq!(test.run(&[mapti(5, 1, 1 << 14, 7)]), []);
    assert_eq!(test.run(&[mapti(5, 1, (1 << 14) - 1, 7)]).len(), 1);
    // Without memory in the host, too.
    test.vm.room = 0;
    assert_eq!(test.run(&[mapti(5, 2, 9003, 7)]), []);
    assert_eq!(test.message(5, 2), None);
}

#[test]
fn a_guest_cannot_have_more_events_than_there_are_lpis() {
    let mut test = Test::with_a_device();
    let mut mapped = 0;
    for device in 0..5 {
        test.run(&[mapd(device, ITT, 14, true)]);
        for event in 0..1 << 14 {
            mapped += test.run(&[mapti(device, event, 9000, 7)]).len();
        }
    }
    assert_eq!(mapped, 65536 - 8192);
    // There is room again when some are gone.
    test.run(&[mapd(0, 0, 1, false), mapd(0, ITT, 14, true)]);
    assert_eq!(test.run(&[mapti(0, 0, 9000, 7)]).len(), 1);
}

#[test]
fn device_tables_of_two_levels() {
    let mut test = Test::off();
    test.write(BASER0, 8, VALID | INDIRECT | DEVICES);
    test.write(BASER1, 8, VALID | INDIRECT | COLLECTIONS);
    assert_eq!(test.read(BASER1) & INDIRECT, 0);
    test.write(CBASER, 8, VALID | QUEUE);
    test.write(CTLR, 4, 1);
    test.run(&[mapc(7, 20, true), mapd(9000, ITT, 5, true)]);
    assert_eq!(test.run(&[mapti(9000, 0, 9000, 7)]), [], "no second level");
    test.vm.memory.insert(DEVICES + 8, VALID | 0x30_0000);
    test.run(&[mapd(9000, ITT, 5, true)]);
    assert_eq!(test.run(&[mapti(9000, 0, 9000, 7)]).len(), 1);
    // Its entry is in the second page.
    test.its.save(&mut test.vm).unwrap();
    assert_eq!(
        test.vm.memory[&(0x30_0000 + (9000 - 8192) * 8)],
        VALID | ITT >> 8 << 5 | 4
    );
}

#[test]
fn registers() {
    let mut test = Test::off();
    assert_eq!(test.its.read(CTLR, 4), 1 << 31, "disabled, quiescent");
    assert_eq!(test.its.read(GITS_IIDR::OFFSET, 4), 0x4b00_043b);
    assert_eq!(test.read(8), 1 | 7 << 4 | 15 << 8 | 15 << 13);
    assert_eq!(test.its.read(GITS_TYPER::OFFSET + 4, 4), 0);
    assert_eq!(test.its.read(0xffe8, 4), 0x3b);
    assert_eq!(test.read(BASER0) >> 48, 0x0107 | 3 << 11);
    assert_eq!(test.read(BASER1) >> 48, 0x0407 | 3 << 11);
    for table in [BASER0, BASER1] {
        assert_eq!(test.read(table) as u32, 1 << 10 | 2 << 8, "shared, 64 KiB");
    }
    assert_eq!(test.read(GITS_BASER::at(2)), 0);
    // Not enabled without all its tables.
    test.write(CTLR, 4, 1);
    assert!(!test.its.is_enabled());
    test.write(BASER0, 8, VALID | DEVICES);
    test.write(BASER1, 8, VALID | COLLECTIONS);
    test.write(CTLR, 4, 1);
    assert!(!test.its.is_enabled());
    // In halves, and with bits of the address that are not there.
    test.write(CBASER, 4, QUEUE | 0xf000);
    test.write(CBASER + 4, 4, 1 << 31);
    assert_eq!(test.read(CBASER), VALID | QUEUE | 3 << 59);
    test.write(CTLR, 4, 1);
    assert!(test.its.is_enabled());
    // Those cannot be changed now.
    for offset in [CBASER, BASER0, BASER1] {
        let before = test.read(offset);
        test.write(offset, 8, 0);
        assert_eq!(test.read(offset), before);
    }
    // Sizes and alignments that do not exist.
    test.write(CTLR, 8, 0);
    test.write(CTLR, 1, 0);
    test.write(CTLR + 2, 4, 0);
    assert!(test.its.is_enabled());
    assert_eq!(test.its.read(CBASER, 2), 0);
    assert_eq!(test.its.read(CBASER + 4, 8), 0);
    assert_eq!(test.its.read(0xfffc, 8), 0);
    assert_eq!(test.its.read(GITS_TRANSLATER::OFFSET, 4), 0);
    // Beyond the end of the queue.
    test.write(CWRITER, 8, 0x1000);
    assert_eq!(test.read(CWRITER), 0);
    test.write(CTLR, 4, 0);
    assert!(!test.its.is_enabled());
}

#[test]
fn commands_wait_until_it_is_enabled_and_the_queue_wraps() {
    let mut test = Test::with_a_device();
    test.write(CTLR, 4, 0);
    let at = test.read(CWRITER);
    for (n, word) in (0..).zip(mapti(5, 0, 9000, 7)) {
        test.vm.memory.insert(QUEUE + at + n * 8, word);
    }
    test.write(CWRITER, 8, at + 32);
    assert!(test.vm.asked.is_empty());
    assert_eq!(test.its.read(CTLR, 4), 0, "not quiescent");
    test.write(CTLR, 4, 1);
    assert_eq!(test.vm.asked, [Asked::Map(9000, Some(2))]);
    for n in 0..1000 {
        assert_eq!(test.run(&[event(INT, 5, 0, 0)]).len(), 1, "{n}");
    }
}

#[test]
fn a_queue_that_is_not_memory_is_skipped() {
    let mut test = Test::new();
    test.write(CTLR, 4, 0);
    test.write(CBASER, 8, VALID | MEMORY);
    test.write(CTLR, 4, 1);
    test.write(CWRITER, 8, 0x800);
    assert_eq!(test.read(CREADR), 0x800);
}

#[test]
fn who_is_killed_stops() {
    let mut test = Test::with_a_device();
    test.vm.patience = 10;
    test.write(CWRITER, 8, 0xfe0);
    assert_ne!(test.read(CREADR), 0xfe0);
}

#[test]
fn other_tables_mean_other_devices() {
    let mut test = Test::with_a_device();
    test.run(&[mapti(5, 0, 9000, 7)]);
    test.write(CTLR, 4, 0);
    let same = test.read(BASER0);
    test.write(BASER0, 8, same);
    assert_eq!(test.vm.asked, []);
    test.write(BASER1, 8, VALID | COLLECTIONS + 0x1_0000);
    test.write(CTLR, 4, 1);
    assert_eq!(test.message(5, 0), None, "the collection is gone");
    test.vm.asked.clear();
    test.write(CTLR, 4, 0);
    test.write(BASER0, 8, VALID | DEVICES + 0x1_0000);
    assert_eq!(test.vm.asked, [Asked::Unmap(9000)]);
}

#[test]
fn what_userspace_may_access() {
    for offset in [
        0, 4, 8, 0x80, 0x88, 0x90, 0x100, 0x138, 0xffd0, 0xffd4, 0xfffc,
    ] {
        assert_eq!(Model::user_has(offset), Ok(()), "{offset:#x}");
    }
    for offset in [2, 6, 0xc, 0x84, 0x104, 0xffd2] {
        assert_eq!(
            Model::user_has(offset),
            Err(RegisterError::Alignment),
            "{offset:#x}"
        );
    }
    for offset in [
        0x10,
        0x98,
        0x140,
        0x8000,
        0x1_0000,
        0x1_0040,
        1 << 32,
        u64::MAX - 7,
    ] {
        assert_eq!(
            Model::user_has(offset),
            Err(RegisterError::NoRegister),
            "{offset:#x}"
        );
    }
    let mut test = Test::new();
    let mut set = |offset, value| test.its.user_write(&mut test.vm, offset, value);
    assert_eq!(set(CREADR.into(), 0x20), Err(RegisterError::Enabled));
    assert_eq!(set(0, 0), Ok(()));
    assert_eq!(set(CREADR.into(), 0x1000), Err(RegisterError::Value));
    assert_eq!(set(CREADR.into(), 0x20), Ok(()));
    assert_eq!(set(GITS_IIDR::OFFSET.into(), 0x4b00_043b), Ok(()));
    assert_eq!(
        set(GITS_IIDR::OFFSET.into(), 0x4b00_143b),
        Err(RegisterError::Value)
    );
    assert_eq!(set(8, 0), Ok(()), "read-only");
    assert_eq!(test.its.user_read(CREADR.into()), Ok(0x20));
    assert_eq!(test.its.user_read(0x10), Err(RegisterError::NoRegister));
}

#[test]
fn reset() {
    let mut test = Test::with_a_device();
    test.run(&[mapti(5, 0, 9000, 7)]);
    test.vm.asked.clear();
    test.its.reset(&mut test.vm);
    assert_eq!(test.vm.asked, [Asked::Unmap(9000)]);
    assert!(!test.its.is_enabled());
    assert_eq!(test.read(BASER0) & VALID, 0);
    assert_eq!((test.read(CBASER), test.read(CREADR)), (0, 0));
}

#[test]
fn tables_as_kvm_lays_them_out() {
    let mut test = Test::with_a_device();
    test.run(&[
        mapd(8000, ITT + 0x1000, 16, true),
        mapc(9, 0, true),
        mapti(5, 3, 9000, 7),
        mapti(5, 30, 9001, 9),
        mapti(8000, 0xffff, 65535, 6),
    ]);
    test.its.save(&mut test.vm).unwrap();
    let memory = &test.vm.memory;
    assert_eq!(
        memory[&(DEVICES + 5 * 8)],
        VALID | 7995 << 49 | ITT >> 8 << 5 | 4
    );
    assert_eq!(
        memory[&(DEVICES + 8000 * 8)],
        VALID | (ITT + 0x1000) >> 8 << 5 | 15
    );
    assert_eq!(memory[&(ITT + 3 * 8)], 27 << 48 | 9000 << 16 | 7);
    assert_eq!(memory[&(ITT + 30 * 8)], 9001 << 16 | 9);
    assert_eq!(memory[&(ITT + 0x1000 + 0xffff * 8)], 65535 << 16 | 6);
    // One that was named, but not mapped, says so.
    assert_eq!(memory[&COLLECTIONS], VALID | 0xffff_ffff << 16 | 6);
    assert_eq!(memory[&(COLLECTIONS + 8)], VALID | 20 << 16 | 7);
    assert_eq!(memory[&(COLLECTIONS + 16)], VALID | 9);
    assert_eq!(memory[&(COLLECTIONS + 24)], 0);
}

#[test]
fn tables_that_cannot_be() {
    let restore = |entries: &[(u64, u64)]| {
        let mut test = Test::new();
        test.vm.memory.insert(COLLECTIONS, VALID | 20 << 16 | 7);
        test.vm.memory.insert(DEVICES, VALID | ITT >> 8 << 5 | 4);
        test.vm.memory.insert(ITT, 9000 << 16 | 7);
        for &(at, value) in entries {
            test.vm.memory.insert(at, value);
        }
        let result = test.its.restore(&mut test.vm);
        if result.is_err() {
            let all = std::mem::take(&mut test.vm.asked);
            assert_eq!(test.message(0, 0), None, "nothing is left of it");
            let asked = |f: fn(&Asked) -> bool| all.iter().filter(|a| f(a)).count();
            assert_eq!(
                asked(|a| matches!(a, Asked::Map(..))),
                asked(|a| matches!(a, Asked::Unmap(_)))
            );
            let first = |f: fn(&Asked) -> bool| all.iter().position(f);
            let kept = first(|a| *a == Asked::KeepPending);
            assert!(kept.is_some());
            let unmapped = first(|a| matches!(a, Asked::Unmap(_)));
            assert!(
                unmapped.is_none_or(|at| kept < Some(at)),
                "pending is told first"
            );
        }
        result
    };
    assert_eq!(restore(&[]), Ok(()));
    let invalid = Err(TableError::Invalid);
    assert_eq!(
        restore(&[(COLLECTIONS, VALID | 21 << 16 | 7)]),
        invalid,
        "no such vCPU"
    );
    assert_eq!(
        restore(&[(COLLECTIONS, VALID | 20 << 16 | 0xffff)]),
        invalid
    );
    assert_eq!(
        restore(&[(COLLECTIONS + 8, VALID | 20 << 16 | 7)]),
        Err(TableError::Exists)
    );
    assert_eq!(
        restore(&[(DEVICES, VALID | ITT >> 8 << 5 | 16)]),
        invalid,
        "17 bits"
    );
    assert_eq!(
        restore(&[(DEVICES, VALID | MEMORY >> 8 << 5 | 4)]),
        Err(TableError::Memory)
    );
    assert_eq!(
        restore(&[(ITT, 9000 << 16 | 8)]),
        invalid,
        "no such collection"
    );
    assert_eq!(restore(&[(ITT, 8191 << 16 | 7)]), invalid, "not an LPI");
    assert_eq!(restore(&[(ITT, 0x1_0000 << 16 | 7)]), invalid, "not an LPI");
    assert_eq!(
        restore(&[(ITT, 32 << 48 | 9000 << 16 | 7)]),
        invalid,
        "beyond its end"
    );
}

/// The last one is beyond the table.
const DEVICE_IDS: [u32; 6] = [0, 1, 5, 4000, 8191, 8192];

/// Numbers of devices, events, LPIs and collections that make commands meet, now and then.
fn command() -> impl Strategy<Value = [u64; 4]> {
    let device = || prop::sample::select(DEVICE_IDS.to_vec());
    let ev = || prop_oneof![0..8u32, prop::sample::select(vec![31u32, 32, 200, 0xffff])];
    let collection = || prop::sample::select(vec![0u16, 1, 2, 100, 8191, 9000]);
    let vcpu = || prop::sample::select(vec![0u32, 10, 20, 30, 40]);
    let lpi = || 8190..8210u32;
    prop_oneof![
        2 => (0..DEVICE_IDS.len(), prop::sample::select(vec![1u32, 5, 8, 16, 17]), prop::bool::weighted(0.8))
            .prop_map(|(n, bits, valid)| mapd(DEVICE_IDS[n], ITT + n as u64 * 0x8_0000, bits, valid)),
        2 => (collection(), vcpu(), prop::bool::weighted(0.8)).prop_map(|(c, v, valid)| mapc(c, v, valid)),
        6 => (device(), ev(), lpi(), collection()).prop_map(|(d, e, l, c)| mapti(d, e, l, c)),
        2 => (device(), ev(), collection()).prop_map(|(d, e, c)| movi(d, e, c)),
        2 => (device(), ev()).prop_map(|(d, e)| event(DISCARD, d, e, 0)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A copy that is restored from the tables translates everything as the original does, and as many events stand for
    /// each LPI as were mapped and not unmapped.
    #[test]
    fn what_is_saved_comes_back(commands in prop::collection::vec(command(), 0..200)) {
        let mut test = Test::new();
        let mut maps = BTreeMap::new();
        for asked in commands.iter().flat_map(|command| test.run(&[*command])) {
            match asked {
                Asked::Map(lpi, _) => *maps.entry(lpi).or_insert(0) += 1,
                Asked::Unmap(lpi) => *maps.entry(lpi).or_insert(0) -= 1,
                Asked::Route(lpi, _) => prop_assert!(maps[&lpi] > 0),
                other => panic!("{other:?}"),
            }
        }
        test.its.save(&mut test.vm).unwrap();
        let mut copy = Test::new();
        copy.vm.memory = test.vm.memory.clone();
        copy.its.restore(&mut copy.vm).unwrap();
        for device in DEVICE_IDS {
            for event in (0..8).chain([31, 32, 200, 0xffff]) {
                prop_assert_eq!(test.message(device, event), copy.message(device, event), "{} {}", device, event);
            }
        }
    }
}
