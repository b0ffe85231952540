// SPDX-License-Identifier: Apache-2.0
//! Drivers that do not keep to the rules: first the known ways, then any.

use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use virtio_bindings::virtio_mmio::VIRTIO_MMIO_INT_CONFIG;
use vmm_sys_util::tempfile::TempFile;

use super::driver::*;
use super::net::several;
use crate::{Balloon, Block, BlockOptions, Console, ConsoleOptions, Device, Net, NetOptions, PortIo, Ports, Rng};

fn breaks(setup: impl Fn(&mut Guest)) {
    let mut guest = Guest::started(Rng::new());
    setup(&mut guest);
    guest.kick(0);
    guest.until("DEVICE_NEEDS_RESET", Guest::needs_reset);
    guest.until("the interrupt", |guest| guest.read(INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG != 0);
    // Nothing was said about the chain, and everything is well again after a reset.
    assert_eq!(guest.used(0), 0);
    guest.start(u64::MAX);
    assert!(!guest.needs_reset());
    assert_eq!(guest.run(0, &[writable(BUFFERS, 8)]), 8);
}

fn put_first(guest: &mut Guest, descriptor: Descriptor) {
    let table = guest.queues[0].descriptors;
    guest.put_descriptor(table, 0, descriptor);
    guest.offer(0, 0);
}

#[test]
fn an_index_that_jumps() {
    for idx in [65u16, 1000, 0x8000, 0xffff] {
        breaks(|guest| guest.put(guest.queues[0].available + 2, &idx.to_le_bytes()));
    }
}

#[test]
fn a_head_outside_the_table() {
    for head in [64u16, 65, 0xffff] {
        breaks(|guest| guest.offer(0, head));
    }
}

#[test]
fn loops() {
    breaks(|guest| put_first(guest, Descriptor { addr: BUFFERS, len: 1, flags: WRITE | NEXT, next: 0 }));
    breaks(|guest| {
        let table = guest.queues[0].descriptors;
        guest.put_descriptor(table, 1, Descriptor { addr: BUFFERS, len: 0, flags: NEXT, next: 0 });
        put_first(guest, Descriptor { addr: BUFFERS, len: 0, flags: NEXT, next: 1 });
    });
}

#[test]
fn a_next_outside_the_table() {
    breaks(|guest| put_first(guest, Descriptor { addr: BUFFERS, len: 1, flags: WRITE | NEXT, next: 64 }));
}

#[test]
fn buffers_outside_memory() {
    for (addr, len) in
        [(0, 1), (BASE - 1, 2), (BASE + SIZE, 1), (BASE + SIZE - 1, 2), (u64::MAX, 1), (BUFFERS, u32::MAX)]
    {
        breaks(|guest| put_first(guest, writable(addr, len)));
    }
}

#[test]
fn a_readable_descriptor_behind_a_writable_one() {
    breaks(|guest| {
        let table = guest.queues[0].descriptors;
        guest.put_chain(table, 0, &[writable(BUFFERS, 8), readable(BUFFERS, 8)]);
        guest.offer(0, 0);
    });
}

#[test]
fn indirect_tables_that_are_none() {
    let table = BUFFERS + 0x1000;
    for (addr, len) in
        [(table, 0), (table, 15), (table, 17), (table, 0x10_0010), (0, 16), (BASE + SIZE, 16), (BASE + SIZE - 8, 16)]
    {
        breaks(|guest| put_first(guest, Descriptor { addr, len, flags: INDIRECT, next: 0 }));
    }
    // One inside the other; a loop inside; one that is all memory and then does not end.
    breaks(|guest| {
        guest.put_descriptor(table, 0, Descriptor { addr: table, len: 16, flags: INDIRECT, next: 0 });
        put_first(guest, Descriptor { addr: table, len: 16, flags: INDIRECT, next: 0 });
    });
    breaks(|guest| {
        guest.put_descriptor(table, 0, Descriptor { addr: BUFFERS, len: 1, flags: WRITE | NEXT, next: 0 });
        put_first(guest, Descriptor { addr: table, len: 0x1000, flags: INDIRECT, next: 0 });
    });
    breaks(|guest| {
        let chain = vec![writable(BUFFERS, 1); 1025];
        guest.put_chain(table, 0, &chain);
        put_first(guest, Descriptor { addr: table, len: 1025 * 16, flags: INDIRECT, next: 0 });
    });
}

#[test]
fn the_longest_chain_there_may_be() {
    let mut guest = Guest::started(Rng::new());
    let table = BUFFERS + 0x1000;
    guest.put_chain(table, 0, &vec![writable(BUFFERS, 1); 1024]);
    put_first(&mut guest, Descriptor { addr: table, len: 1024 * 16, flags: INDIRECT, next: 0 });
    guest.kick(0);
    assert_eq!(guest.wait_used(0), (0, 1024));
}

/// Everything that a descriptor may be. Addresses and lengths are often right, so that what is behind them is reached too.
fn any_descriptor() -> impl Strategy<Value = Descriptor> {
    let addr = prop_oneof![
        8 => (0..0x200u64).prop_map(|at| BUFFERS + at * 16),
        2 => (0..64u64).prop_map(|at| BASE + SIZE - 32 + at),
        2 => (0..64u64).prop_map(|at| BASE + REGION - 32 + at),
        1 => any::<u64>(),
    ];
    let len = prop_oneof![4 => 0..64u32, 3 => Just(512u32), 1 => Just(16u32), 2 => 0..0x5000u32, 1 => any::<u32>()];
    let flags = prop_oneof![6 => 0..4u16, 2 => 4..8u16, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0..16u16, 1 => any::<u16>()];
    (addr, len, flags, next).prop_map(|(addr, len, flags, next)| Descriptor { addr, len, flags, next })
}

#[derive(Debug, Clone)]
struct Mischief {
    queue: usize,
    table: Vec<Descriptor>,
    /// What the buffers hold: indirect tables, headers, data.
    memory: Vec<Descriptor>,
    heads: Vec<u16>,
    jump: u16,
}

fn any_mischief() -> impl Strategy<Value = Mischief> {
    (
        0..6usize,
        prop::collection::vec(any_descriptor(), 16),
        prop::collection::vec(any_descriptor(), 0..64),
        prop::collection::vec(prop_oneof![20 => 0..16u16, 1 => any::<u16>()], 1..20),
        prop_oneof![9 => Just(0u16), 1 => any::<u16>()],
    )
        .prop_map(|(queue, table, memory, heads, jump)| Mischief { queue, table, memory, heads, jump })
}

/// Where descriptors point to: a piece of the buffers, and the borders of the two regions of memory, each with room for the
/// lengths that are not absurd.
const WINDOWS: [(u64, usize); 3] = [(BUFFERS, 0x7000), (BASE + REGION - 0x20, 0x5060), (BASE + SIZE - 0x20, 0x20)];

fn windows(guest: &Guest) -> Vec<Vec<u8>> {
    WINDOWS.iter().map(|&(addr, len)| guest.get(addr, len)).collect()
}

/// Plays a trick on a device, which must come to an end of it: all given back, or a reset asked for. Of a queue that the device
/// uses in its own time only (`lazy`) nothing is expected but that a reset still stops it.
///
/// Returns what the windows held before and after.
fn play(guest: &mut Guest, mischief: &Mischief, lazy: &[usize]) -> [Vec<Vec<u8>>; 2] {
    guest.start(u64::MAX);
    let queue = mischief.queue % guest.queues.len();
    for (addr, len) in WINDOWS {
        guest.put(addr, &vec![0; len]);
    }
    for (index, descriptor) in (0..).zip(&mischief.memory) {
        guest.put_descriptor(BUFFERS + 16 * (index * 37 % 0x200), 0, *descriptor);
    }
    let table = guest.queues[queue].descriptors;
    for (index, descriptor) in (0..).zip(&mischief.table) {
        guest.put_descriptor(table, index, *descriptor);
    }
    let before = windows(guest);
    for head in &mischief.heads {
        guest.offer(queue, *head);
    }
    let (available, idx) = (guest.queues[queue].available, guest.queues[queue].avail_idx.wrapping_add(mischief.jump));
    guest.put(available + 2, &idx.to_le_bytes());
    guest.kick(queue);
    if lazy.contains(&queue) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    } else {
        guest.until("an end", |guest| guest.needs_reset() || guest.used(queue) == idx);
    }
    guest.write(STATUS, 0);
    assert_eq!(guest.read(STATUS), 0);
    [before, windows(guest)]
}

/// No byte changed but where some descriptor of the table allows it. There are no indirect ones.
fn only_where_allowed(mischief: &Mischief, [before, after]: &[Vec<Vec<u8>>; 2]) {
    let allowed: Vec<_> = mischief
        .table
        .iter()
        .filter(|d| d.flags & WRITE != 0)
        .map(|d| d.addr..d.addr.saturating_add(d.len.into()))
        .collect();
    for ((start, _), (before, after)) in WINDOWS.into_iter().zip(before.iter().zip(after)) {
        for (addr, (was, is)) in (start..).zip(before.iter().zip(after)) {
            assert!(was == is || allowed.iter().any(|range| range.contains(&addr)), "wrote to {addr:#x} without leave");
        }
    }
}

fn block() -> (TempFile, Block) {
    let image = TempFile::new().unwrap();
    image.as_file().write_all_at(&[0x77; 64 << 10], 0).unwrap();
    let device = Block::open(image.as_path(), &BlockOptions { queues: 3, ..BlockOptions::default() }).unwrap();
    (image, device)
}

fn endless() -> PortIo {
    let open = |path| std::fs::File::options().read(true).write(true).open(path).unwrap().into();
    PortIo { input: Some(open("/dev/zero")), output: Some(open("/dev/null")) }
}

fn console() -> Console {
    Console::new(ConsoleOptions { io: endless(), size: None }).unwrap().0
}

fn ports() -> Ports {
    Ports::new(vec![("port".into(), endless())]).unwrap()
}

/// A card on a network that takes everything.
fn card() -> Net {
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    std::thread::spawn(move || std::io::copy(&mut theirs, &mut std::io::sink()));
    Net::over(ours, "the test", &NetOptions::default()).unwrap()
}

/// What is done to a device's registers: where, and what is written there, or how many bytes are read.
#[derive(Debug, Clone)]
enum Access {
    Read(u64, usize),
    Write(u64, Vec<u8>),
}

/// Accesses of all sizes to all registers and the configuration, often with values that mean something there.
fn any_access() -> impl Strategy<Value = Access> {
    let offset = prop_oneof![
        6 => prop::sample::select(vec![0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4]),
        2 => 0x100..0x180u64,
        2 => 0..0x220u64,
        1 => any::<u64>(),
    ];
    let value = prop_oneof![
        4 => 0..20u32,
        2 => prop::sample::select(vec![1u32, 3, 11, 15, 0x80, 0x40, 0xff, 64, 256]),
        3 => (0..0x200u32).prop_map(|page| BASE as u32 + page * 0x1000),
        1 => any::<u32>(),
    ];
    let size = prop_oneof![8 => Just(4usize), 1 => Just(1), 1 => Just(2), 1 => Just(8), 1 => 0..16usize];
    (any::<bool>(), offset, value, size).prop_map(|(write, offset, value, size)| {
        if write {
            let bytes = value.to_le_bytes().into_iter().chain(std::iter::repeat(0xff)).take(size).collect();
            Access::Write(offset, bytes)
        } else {
            Access::Read(offset, size)
        }
    })
}

/// Whatever is done to its registers, a reset brings back a device that works: what it is asked for then comes to an end.
fn survives_accesses(device: impl Device + 'static, queue: usize) {
    let guest = std::cell::RefCell::new(Guest::new(device));
    let config = ProptestConfig { cases: cases(150), failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(started in any::<bool>(), accesses in prop::collection::vec(any_access(), 1..80))| {
        let guest = &mut *guest.borrow_mut();
        if started {
            guest.start(u64::MAX);
        }
        for access in &accesses {
            match access {
                Access::Read(offset, size) => guest.transport.read(*offset, &mut vec![0xee; *size]),
                Access::Write(offset, bytes) => guest.transport.write(*offset, bytes),
            }
        }
        guest.start(u64::MAX);
        let idx = guest.queues[queue].avail_idx.wrapping_add(1);
        guest.put(BUFFERS, &[0; 32]);
        guest.add(queue, &[readable(BUFFERS, 32), writable(BUFFERS + 64, 1)]);
        guest.kick(queue);
        guest.until("an end", |guest| guest.needs_reset() || guest.used(queue) == idx);
    });
}

/// How many cases are played: `usual`, or as many times that as FUZZ says.
pub fn cases(usual: u32) -> u32 {
    let times = std::env::var("FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual.saturating_mul(times)
}

fn survives(usual: u32, device: impl Device + 'static, lazy: &'static [usize]) {
    survives_and(usual, device, lazy, only_where_allowed);
}

fn survives_and(
    usual: u32,
    device: impl Device + 'static,
    lazy: &'static [usize],
    check: fn(&Mischief, &[Vec<Vec<u8>>; 2]),
) {
    let guest = std::cell::RefCell::new(Guest::new(device));
    let config = ProptestConfig { cases: cases(usual), failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(mischief in any_mischief(), indirect in any::<bool>())| {
        let mut mischief = mischief;
        if !indirect {
            mischief.table.iter_mut().for_each(|descriptor| descriptor.flags &= !INDIRECT);
        }
        let seen = play(&mut guest.borrow_mut(), &mischief, lazy);
        if !indirect {
            check(&mischief, &seen);
        }
    });
}

#[test]
fn a_block_device_survives_anything() {
    let (image, device) = block();
    survives(800, device, &[]);
    assert_eq!(image.as_file().metadata().unwrap().len(), 64 << 10);
}

#[test]
fn an_entropy_device_survives_anything() {
    survives(400, Rng::new(), &[]);
}

#[test]
fn a_console_survives_anything() {
    survives(400, console(), &[]);
}

#[test]
fn ports_survive_anything() {
    // Port 0's queues, where messages to the guest go, and a port that the guest does not listen to.
    survives(400, ports(), &[0, 1, 2, 4]);
}

#[test]
fn a_card_survives_anything() {
    // Where packets for the guest go.
    survives(400, card(), &[0]);
}

#[test]
fn a_card_with_several_pairs_survives_anything() {
    let (device, _far, _) = several(2, None);
    // The same of each pair, and the other queue of one that is not used.
    survives(400, device, &[0, 2, 3]);
}

#[test]
fn a_balloon_survives_anything() {
    // Any page may be one that is given back.
    survives_and(400, Balloon::new().0, &[], |_, _| ());
}

#[test]
fn devices_survive_any_access() {
    survives_accesses(block().1, 2);
    survives_accesses(Rng::new(), 0);
    survives_accesses(console(), 1);
    survives_accesses(ports(), 3);
    survives_accesses(card(), 1);
    let (device, _far, _) = several(2, None);
    survives_accesses(device, 4);
    survives_accesses(Balloon::new().0, 1);
}
