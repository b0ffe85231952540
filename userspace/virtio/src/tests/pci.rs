// SPDX-License-Identifier: Apache-2.0
//! The PCI transport, from a driver that finds everything by the configuration space.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use virtio_bindings::virtio_config::*;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::tempfile::TempFile;

use super::driver::{BASE, BUFFERS, DRIVER_OK, FEATURES_OK, NEXT, REGION, SIZE, WRITE};
use super::malformed::cases;
use crate::pci::{Bar, Message, Messages, PciHost, PciTransport, Place, BAR_SIZE, MAX_FUNCTIONS};
use crate::{bit, Block, BlockOptions, Console, ConsoleHandle, ConsoleOptions, Device, Memory, Rng};

const NO_VECTOR: u64 = 0xffff;
const PLACE: Place = Place { registers: 0x4000_8000, messages: 0x4000_c000, shared: false };
const COMMAND: u64 = 4;
const ALL_ON: u16 = 0b110;
/// Where the pending bits are, as the capability of MSI-X says.
const PENDING: u64 = 0x2000;

/// The messages that are connected, by vector, each with a duplicate of its eventfd.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<BTreeMap<usize, (Message, EventFd)>>>);

impl Messages for Wire {
    fn connect(&self, vector: usize, event: &EventFd, message: Message) -> io::Result<()> {
        let old = self.0.lock().unwrap().insert(vector, (message, event.try_clone()?));
        assert!(old.is_none(), "message {vector} is connected twice");
        Ok(())
    }

    fn disconnect(&self, vector: usize, _: &EventFd) -> io::Result<()> {
        assert!(self.0.lock().unwrap().remove(&vector).is_some(), "message {vector} is not connected");
        Ok(())
    }
}

impl Wire {
    fn connected(&self) -> Vec<usize> {
        self.0.lock().unwrap().keys().copied().collect()
    }

    fn message(&self, vector: usize) -> Message {
        self.0.lock().unwrap()[&vector].0
    }

    /// Whether a message has come since it was asked the last time.
    fn came(&self, vector: usize) -> bool {
        self.0.lock().unwrap()[&vector].1.read().is_ok()
    }
}

/// A guest with one device, and where things are in its first BAR.
struct Guest {
    function: PciTransport,
    wire: Wire,
    mem: Memory,
    common: u64,
    isr: u64,
    device: u64,
    notify: u64,
    stride: u64,
    window: u64,
    msix: u64,
}

impl Guest {
    fn new(device: impl Device + 'static) -> Self {
        let wire = Wire::default();
        let regions = [(GuestAddress(BASE), REGION as usize), (GuestAddress(BASE + REGION), REGION as usize)];
        let mem = Memory::from_ranges(&regions).unwrap();
        let function = PciTransport::new(Box::new(device), mem.clone(), PLACE, Box::new(wire.clone())).unwrap();
        let mut guest =
            Self { function, wire, mem, common: 0, isr: 0, device: 0, notify: 0, stride: 0, window: 0, msix: 0 };
        guest.walk();
        guest.set::<2>(COMMAND, ALL_ON.into());
        guest
    }

    /// Goes through the list of capabilities.
    fn walk(&mut self) {
        assert_ne!(self.get::<2>(6) & 0x10, 0, "there are no capabilities");
        let mut at = self.get::<1>(0x34);
        while at != 0 {
            assert!(at % 4 == 0 && at >= 0x40);
            let offset = self.get::<4>(at + 8);
            match (self.get::<1>(at), self.get::<1>(at + 3)) {
                (0x11, _) => self.msix = at,
                (9, 1) => (self.common, _) = (offset, assert!(self.get::<4>(at + 12) >= 56)),
                (9, 2) => (self.notify, self.stride) = (offset, self.get::<4>(at + 16)),
                (9, 3) => self.isr = offset,
                (9, 4) => self.device = offset,
                (9, 5) => self.window = at,
                other => panic!("a capability {other:?}"),
            }
            at = self.get::<1>(at + 1);
        }
        assert!(self.msix != 0 && self.window != 0 && self.notify != 0 && self.isr != 0 && self.device != 0);
    }

    /// Reads the configuration space.
    fn get<const N: usize>(&self, at: u64) -> u64 {
        let mut data = [0xee; N];
        self.function.read_config(at, &mut data);
        number(&data)
    }

    fn set<const N: usize>(&self, at: u64, value: u64) {
        self.function.write_config(at, &value.to_le_bytes()[..N]);
    }

    /// Reads the BAR with the registers.
    fn read<const N: usize>(&self, at: u64) -> u64 {
        let mut data = [0xee; N];
        self.function.read_memory(Bar::Registers, at, &mut data);
        number(&data)
    }

    fn write<const N: usize>(&self, at: u64, value: u64) {
        self.function.write_memory(Bar::Registers, at, &value.to_le_bytes()[..N]);
    }

    /// Reads the BAR with the messages.
    fn entry(&self, at: u64) -> u64 {
        let mut data = [0xee; 4];
        self.function.read_memory(Bar::Messages, at, &mut data);
        number(&data)
    }

    fn set_entry(&self, at: u64, value: u32) {
        self.function.write_memory(Bar::Messages, at, &value.to_le_bytes());
    }

    fn status(&self) -> u32 {
        self.read::<1>(self.common + 20) as u32
    }

    fn set_status(&self, status: u32) {
        self.write::<1>(self.common + 20, status.into());
    }

    /// Messages on, none masked, each with its number as data.
    fn use_messages(&self) {
        let last = self.get::<2>(self.msix + 2) & 0x7ff;
        self.set::<2>(self.msix + 2, 0xc000);
        for vector in 0..=last {
            self.set_entry(16 * vector, 0x0809_0040);
            self.set_entry(16 * vector + 4, 1);
            self.set_entry(16 * vector + 8, vector as u32);
            self.set_entry(16 * vector + 12, 0);
        }
        assert!(self.wire.connected().is_empty());
        self.set::<2>(self.msix + 2, 0x8000);
    }

    /// Up to DRIVER_OK, with all features but that of event indices. Queue n sends message n + 1,
    /// the configuration message 0.
    fn start(&self) {
        self.set_status(0);
        self.set_status(3);
        for half in [0, 1] {
            self.write::<4>(self.common, half);
            self.write::<4>(self.common + 8, half);
            let offered = self.read::<4>(self.common + 4);
            self.write::<4>(self.common + 12, offered & !(bit(VIRTIO_RING_F_EVENT_IDX) >> (32 * half)));
        }
        self.set_status(FEATURES_OK);
        assert_eq!(self.status(), FEATURES_OK);
        self.write::<2>(self.common + 16, 0);
        for queue in 0..self.read::<2>(self.common + 18) {
            self.write::<2>(self.common + 22, queue);
            assert_eq!(self.read::<2>(self.common + 30), queue);
            self.write::<2>(self.common + 24, 16);
            self.write::<2>(self.common + 26, queue + 1);
            let [descriptors, available, used] = parts(queue);
            self.mem.write_slice(&[0; 0x1000], GuestAddress(descriptors)).unwrap();
            self.write::<4>(self.common + 32, descriptors);
            self.write::<4>(self.common + 36, descriptors >> 32);
            self.write::<8>(self.common + 40, available);
            self.write::<8>(self.common + 48, used);
            assert_eq!(self.read::<8>(self.common + 32), descriptors);
            assert_eq!(self.read::<4>(self.common + 48), used & 0xffff_ffff);
            self.write::<2>(self.common + 28, 1);
            assert_eq!(self.read::<2>(self.common + 28), 1);
        }
        self.set_status(DRIVER_OK);
        assert_eq!(self.status(), DRIVER_OK);
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.mem.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    /// Makes 16 zeroes, and room for 8 bytes of an answer, the `n`th chain of a queue, and kicks.
    fn ask(&self, queue: u64, n: u16) {
        let [descriptors, available, _] = parts(queue);
        self.put(BUFFERS, &[0; 16]);
        for (at, address, length, flags) in [(0, BUFFERS, 16u32, NEXT), (16, BUFFERS + 0x100, 8, WRITE)] {
            self.put(descriptors + at, &address.to_le_bytes());
            self.put(descriptors + at + 8, &length.to_le_bytes());
            self.put(descriptors + at + 12, &flags.to_le_bytes());
            self.put(descriptors + at + 14, &1u16.to_le_bytes());
        }
        self.put(available + 2, &n.to_le_bytes());
        self.write::<2>(self.notify + self.stride * queue, queue);
    }

    /// How many chains of a queue the device has given back.
    fn used(&self, queue: u64) -> u16 {
        let mut index = [0; 2];
        self.mem.read_slice(&mut index, GuestAddress(parts(queue)[2] + 2)).unwrap();
        u16::from_le_bytes(index)
    }

    fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

fn number(data: &[u8]) -> u64 {
    data.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Where a queue's parts are.
fn parts(queue: u64) -> [u64; 3] {
    let base = BASE + queue * 0x1000;
    [base, base + 0x400, base + 0x800]
}

fn block(queues: u16) -> (TempFile, Block) {
    let image = TempFile::new().unwrap();
    image.as_file().write_all_at(&[0x77; 64 << 10], 0).unwrap();
    let device = Block::open(image.as_path(), &BlockOptions { queues, ..BlockOptions::default() }).unwrap();
    (image, device)
}

fn console() -> (Console, ConsoleHandle) {
    Console::new(ConsoleOptions { size: Some((80, 25)), ..ConsoleOptions::default() }).unwrap()
}

#[test]
fn says_what_it_is() {
    let (_image, disk) = block(3);
    let guest = Guest::new(disk);
    assert_eq!((guest.get::<4>(0), guest.get::<4>(0x2c)), (0x1042_1af4, 0x1042_1af4));
    assert_eq!((guest.get::<4>(8), guest.get::<1>(0xe), guest.get::<1>(0x3d)), (0x0180_0001, 0, 0));
    assert_eq!(guest.get::<2>(guest.msix + 2), 3, "a message for each queue, and one more");
    assert_eq!((guest.get::<4>(guest.msix + 4), guest.get::<4>(guest.msix + 8)), (2, PENDING | 2));
    assert_eq!(guest.read::<2>(guest.common + 18), 3);
    assert_eq!(guest.read::<8>(guest.device), 128, "sectors");
    assert_eq!(Guest::new(Rng::new()).get::<4>(0), 0x1044_1af4);
    // Behind the end, and where nothing is.
    assert_eq!((guest.get::<4>(0x100), guest.get::<4>(0xffc), guest.get::<4>(0x30)), (0, 0, 0));
}

#[test]
fn bars_tell_their_size_and_stay_where_they_are() {
    let guest = Guest::new(Rng::new());
    for (at, place) in [(0x10, PLACE.registers), (0x18, PLACE.messages)] {
        let is_there = || assert_eq!(guest.get::<8>(at), place | 4);
        is_there();
        guest.set::<4>(at, 0xffff_ffff);
        assert_eq!(guest.get::<4>(at), 0xffff_c004);
        assert_eq!(guest.get::<4>(at + 4), 0, "the other half was not asked");
        guest.set::<4>(at + 4, 0xffff_ffff);
        assert_eq!(guest.get::<8>(at), 0xffff_ffff_ffff_c004);
        guest.set::<4>(at, place);
        guest.set::<4>(at + 4, 0);
        is_there();
        guest.set::<8>(at, u64::MAX);
        assert_eq!(guest.get::<8>(at), 0xffff_ffff_ffff_c004);
        for elsewhere in [0, 0x5000_0000, 0xffff_fff0] {
            guest.set::<4>(at, elsewhere);
            guest.set::<4>(at + 4, elsewhere);
            is_there();
        }
        for byte in 0..8 {
            guest.set::<1>(at + byte, 0xff);
            is_there();
        }
    }
    // There are no others.
    guest.set::<8>(0x20, u64::MAX);
    assert_eq!(guest.get::<8>(0x20), 0);
}

#[test]
fn a_bus_has_its_functions_and_no_others() {
    let make = |shared| {
        let place = Place { shared, ..PLACE };
        let mem = Memory::from_ranges(&[(GuestAddress(BASE), 0x1000)]).unwrap();
        Arc::new(PciTransport::new(Box::new(Rng::new()), mem, place, Box::new(Wire::default())).unwrap())
    };
    let count = 34;
    let host = PciHost::new((0..count).map(|n| make(PciHost::is_shared(n, count))).collect());
    let read = |function: u64, at| {
        let mut data = [0; 4];
        host.read((function << 12) + at, &mut data);
        u32::from_le_bytes(data)
    };
    let found: Vec<u64> = (0..MAX_FUNCTIONS as u64).filter(|function| read(*function, 0) != u32::MAX).collect();
    let mut expected: Vec<u64> = (0..32).map(|slot| slot << 3).chain([1, 9]).collect();
    expected.sort();
    assert_eq!(found, expected);
    let mut numbers: Vec<u64> = (0..count).map(|n| PciHost::function(n).into()).collect();
    numbers.sort();
    assert_eq!(numbers, expected);
    // Where a slot has two, each says so.
    let shared: Vec<u64> = found.iter().copied().filter(|function| read(*function, 0xc) >> 16 & 0x80 != 0).collect();
    assert_eq!(shared, [0, 1, 8, 9]);
    host.write(PciHost::SIZE, &[0; 4]);
    host.write(2 << 12, &[0; 4]);
    let mut data = [0; 4];
    host.read(u64::MAX, &mut data);
    assert_eq!(data, [0xff; 4]);
    // All numbers are different, and in the space.
    let all: std::collections::BTreeSet<u32> = (0..MAX_FUNCTIONS).map(PciHost::function).collect();
    assert_eq!((all.len(), all.last()), (MAX_FUNCTIONS, Some(&(MAX_FUNCTIONS as u32 - 1))));
}

#[test]
fn each_queue_sends_its_own_message() {
    let (_image, disk) = block(2);
    let guest = Guest::new(disk);
    guest.use_messages();
    assert_eq!(guest.wire.connected(), [0, 1, 2]);
    assert_eq!(guest.wire.message(2), Message { address: 0x1_0809_0040, data: 2 });
    guest.start();
    // The answer has no room for a sector, which is an answer, too.
    guest.ask(1, 1);
    guest.until("the message", |guest| guest.wire.came(2));
    assert!(!guest.wire.came(1) && !guest.wire.came(0));
    assert_eq!((guest.used(1), guest.used(0)), (1, 0));
    assert_eq!(guest.read::<1>(guest.isr), 0, "a message says all");
}

#[test]
fn the_configuration_has_a_message() {
    let (device, handle) = console();
    let guest = Guest::new(device);
    guest.use_messages();
    guest.start();
    let before = guest.read::<1>(guest.common + 21);
    handle.resize(132, 50);
    assert!(guest.wire.came(0) && !guest.wire.came(1));
    assert_ne!(guest.read::<1>(guest.common + 21), before);
    assert_eq!(guest.read::<4>(guest.device), 50 << 16 | 132);
    assert_eq!(guest.read::<2>(guest.device + 2), 50);
}

/// Keeps messages back by `off`, and lets them go by `on`.
fn holds_back(off: impl Fn(&Guest), on: impl Fn(&Guest)) {
    let guest = Guest::new(Rng::new());
    guest.use_messages();
    guest.start();
    assert_eq!(guest.entry(PENDING), 0);
    off(&guest);
    assert!(!guest.wire.connected().contains(&1));
    guest.ask(0, 1);
    guest.until("the pending bit", |guest| guest.entry(PENDING) == 2);
    assert_eq!(guest.entry(PENDING), 2, "it was only looked at");
    assert_eq!(guest.used(0), 1);
    on(&guest);
    assert!(guest.wire.connected().contains(&1));
    assert_eq!(guest.entry(PENDING), 0);
    assert!(guest.wire.came(1), "it was lost");
    guest.ask(0, 2);
    guest.until("the next message", |guest| guest.wire.came(1));
}

#[test]
fn a_masked_message_waits() {
    // By itself; with all others; by the switch of all; while the function may not write to memory.
    holds_back(|guest| guest.set_entry(16 + 12, 1), |guest| guest.set_entry(16 + 12, 0));
    holds_back(|guest| guest.set::<2>(guest.msix + 2, 0xc000), |guest| guest.set::<2>(guest.msix + 2, 0x8000));
    holds_back(|guest| guest.set::<2>(guest.msix + 2, 0), |guest| guest.set::<2>(guest.msix + 2, 0x8000));
    holds_back(|guest| guest.set::<2>(COMMAND, 2), |guest| guest.set::<2>(COMMAND, ALL_ON.into()));
}

#[test]
fn a_message_changes_while_it_is_masked() {
    let guest = Guest::new(Rng::new());
    guest.use_messages();
    guest.set_entry(16 + 12, 1);
    guest.set_entry(16, 0x0809_0043);
    guest.function.write_memory(Bar::Messages, 16 + 8, &[9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(guest.wire.message(1), Message { address: 0x1_0809_0040, data: 9 });
    assert_eq!((guest.entry(16), guest.entry(20), guest.entry(24), guest.entry(28)), (0x0809_0040, 1, 9, 0));
    // Behind the table, odd sizes and places.
    guest.set_entry(32, 7);
    assert_eq!(guest.entry(32), 0);
    guest.function.write_memory(Bar::Messages, 18, &[7; 4]);
    guest.function.write_memory(Bar::Messages, 16, &[7; 2]);
    guest.function.write_memory(Bar::Messages, 20, &[7; 8]);
    assert_eq!((guest.entry(16), guest.entry(20)), (0x0809_0040, 1));
    guest.set_entry(PENDING, u32::MAX);
    assert_eq!((guest.entry(PENDING), guest.entry(PENDING + 4)), (0, 0));
}

#[test]
fn without_a_message_the_status_tells() {
    let guest = Guest::new(Rng::new());
    guest.start();
    let vector = || {
        guest.write::<2>(guest.common + 22, 0);
        guest.read::<2>(guest.common + 26)
    };
    assert_eq!(vector(), 1);
    // A running device keeps its messages; a reset forgets them.
    guest.write::<2>(guest.common + 26, 0);
    assert_eq!(vector(), 1);
    guest.set_status(0);
    assert_eq!((vector(), guest.read::<2>(guest.common + 16)), (NO_VECTOR, NO_VECTOR));
    // There are two: this is none.
    guest.write::<2>(guest.common + 26, 1);
    guest.write::<2>(guest.common + 26, 2);
    assert_eq!(vector(), NO_VECTOR);
    guest.write::<2>(guest.common + 22, 1);
    guest.write::<2>(guest.common + 26, 1);
    assert_eq!(guest.read::<2>(guest.common + 26), NO_VECTOR, "there is no such queue");

    let guest = Guest::new(console().0);
    guest.use_messages();
    guest.start();
    guest.set_status(0);
    guest.set_status(3);
    guest.write::<4>(guest.common + 8, 1);
    guest.write::<4>(guest.common + 12, 1);
    guest.set_status(FEATURES_OK);
    for queue in 0..2 {
        guest.write::<2>(guest.common + 22, queue);
        for (at, part) in (32..).step_by(8).zip(parts(queue)) {
            guest.write::<8>(guest.common + at, part);
        }
        guest.write::<2>(guest.common + 24, 16);
        guest.write::<2>(guest.common + 28, 1);
    }
    guest.set_status(DRIVER_OK);
    assert_eq!(guest.status(), DRIVER_OK);
    // A ring that makes no sense needs a reset, which it tells.
    let [_, available, _] = parts(1);
    guest.put(available + 2, &0x8000u16.to_le_bytes());
    guest.write::<2>(guest.notify + guest.stride, 1);
    guest.until("the ISR status", |guest| guest.read::<1>(guest.isr) == 2);
    assert_eq!(guest.read::<1>(guest.isr), 0, "reading clears it");
    assert!((0..3).all(|vector| !guest.wire.came(vector)));
    assert_ne!(guest.status() & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}

#[test]
fn a_queue_stays_ready() {
    let guest = Guest::new(Rng::new());
    guest.use_messages();
    guest.start();
    guest.write::<2>(guest.common + 28, 0);
    assert_eq!(guest.read::<2>(guest.common + 28), 1);
    guest.ask(0, 1);
    guest.until("the message", |guest| guest.wire.came(1));
    // Of a size that a field does not have.
    guest.write::<4>(guest.common + 20, 0);
    guest.write::<2>(guest.common + 20, 0);
    assert_eq!(guest.status(), DRIVER_OK);
    assert_eq!((guest.read::<4>(guest.common + 20), guest.read::<1>(guest.common + 1)), (0, 0));
}

#[test]
fn it_answers_only_when_it_is_to() {
    let guest = Guest::new(Rng::new());
    guest.set_status(1);
    guest.set::<2>(COMMAND, 0);
    assert_eq!((guest.read::<1>(guest.common + 20), guest.entry(0)), (0xff, 0xffff_ffff));
    guest.set_status(3);
    guest.set_entry(0, 8);
    guest.set::<2>(COMMAND, 2);
    assert_eq!((guest.status(), guest.entry(0)), (1, 0));
    // What is not there cannot be switched on.
    guest.set::<2>(COMMAND, 0xffff);
    guest.set::<2>(6, 0xffff);
    assert_eq!(guest.get::<4>(COMMAND), 0x0010_0406);
}

#[test]
fn the_window_reaches_the_registers() {
    let guest = Guest::new(Rng::new());
    guest.set::<2>(COMMAND, 0);
    let at = |bar: u64, offset: u64, length: u64| {
        guest.set::<1>(guest.window + 4, bar);
        guest.set::<4>(guest.window + 8, offset);
        guest.set::<4>(guest.window + 12, length);
    };
    at(0, guest.common + 20, 1);
    guest.set::<1>(guest.window + 16, 3);
    assert_eq!(guest.get::<1>(guest.window + 16), 3);
    at(0, guest.common + 18, 2);
    assert_eq!(guest.get::<2>(guest.window + 16), 1);
    // Not as long as it says, not aligned, outside, no BAR.
    assert_eq!(guest.get::<1>(guest.window + 16), 0);
    for (bar, offset, length) in
        [(0, 18, 4), (0, 18, 3), (0, 18, 0), (0, BAR_SIZE, 4), (0, u64::MAX, 4), (1, 0, 4), (6, 0, 4), (0, 18, 8)]
    {
        at(bar, offset, length);
        guest.set::<4>(guest.window + 16, 0xffff_ffff);
        assert_eq!((guest.get::<4>(guest.window + 16), guest.get::<8>(guest.window + 16)), (0, 0), "{bar} {offset:#x}");
    }
    at(2, 8, 4);
    guest.set::<4>(guest.window + 16, 77);
    guest.set::<2>(COMMAND, 2);
    assert_eq!((guest.entry(8), guest.status()), (77, 3));
}

/// Where an access goes.
#[derive(Debug, Clone, Copy)]
enum Space {
    Config,
    Bar(Bar),
}

#[derive(Debug, Clone)]
struct Access {
    space: Space,
    at: u64,
    /// How many bytes are read, or what is written.
    data: Result<usize, Vec<u8>>,
}

fn any_access() -> impl Strategy<Value = Access> {
    let space = prop::sample::select(vec![Space::Config, Space::Bar(Bar::Registers), Space::Bar(Bar::Messages)]);
    let at = prop_oneof![
        // Registers and the table; the commands, BARs and capabilities; each part of a BAR;
        // anywhere.
        6 => 0..0x40u64,
        4 => 0x40..0xb0u64,
        3 => (0..5u64, 0..0x10u64).prop_map(|(page, at)| page * 0x1000 + at),
        1 => 0..0x5000u64,
        1 => any::<u64>(),
    ];
    let value = prop_oneof![
        4 => 0..20u64,
        2 => prop::sample::select(vec![1u64, 3, 6, 11, 15, 0x8000, 0xc000, 0xff, 0xffff, 0xffff_ffff, u64::MAX]),
        3 => (0..0x200u64).prop_map(|page| BASE + page * 0x1000),
        1 => any::<u64>(),
    ];
    let size = prop_oneof![8 => prop::sample::select(vec![1usize, 2, 4, 8]), 1 => 0..16usize];
    (space, any::<bool>(), at, any::<bool>(), value, size).prop_map(|(space, write, at, aligned, value, size)| {
        let at = if aligned && size > 0 { at - at % size as u64 } else { at };
        let bytes = value.to_le_bytes().into_iter().chain(std::iter::repeat(0xff)).take(size).collect();
        Access { space, at, data: if write { Err(bytes) } else { Ok(size) } }
    })
}

/// Whatever is done to a function, a driver that begins anew finds one that works.
fn survives(device: impl Device + 'static, queue: u64) {
    let guest = Guest::new(device);
    let config = ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(started in any::<bool>(), accesses in prop::collection::vec(any_access(), 1..80))| {
        if started {
            guest.set::<2>(COMMAND, ALL_ON.into());
            guest.use_messages_anew();
            guest.start();
        }
        for access in &accesses {
            match (access.space, &access.data) {
                (Space::Config, Ok(size)) => guest.function.read_config(access.at, &mut vec![0xee; *size]),
                (Space::Config, Err(bytes)) => guest.function.write_config(access.at, bytes),
                (Space::Bar(bar), Ok(size)) => guest.function.read_memory(bar, access.at, &mut vec![0xee; *size]),
                (Space::Bar(bar), Err(bytes)) => guest.function.write_memory(bar, access.at, bytes),
            }
        }
        guest.set::<2>(COMMAND, ALL_ON.into());
        assert_eq!(guest.get::<2>(0), 0x1af4);
        guest.use_messages_anew();
        guest.start();
        // What came before is past.
        guest.wire.connected().into_iter().for_each(|vector| _ = guest.wire.came(vector));
        guest.ask(queue, 1);
        guest.until("a message", |guest| guest.wire.came(queue as usize + 1) || guest.wire.came(0));
    });
}

impl Guest {
    /// The same from any state.
    fn use_messages_anew(&self) {
        self.set::<2>(self.msix + 2, 0);
        self.use_messages();
    }
}

#[test]
fn functions_survive_any_access() {
    survives(block(3).1, 2);
    survives(Rng::new(), 0);
    survives(console().0, 1);
}

#[test]
fn memory_is_that_of_the_other_tests() {
    assert!(parts(3)[2] + 0x400 < BUFFERS && BUFFERS < BASE + SIZE);
}
