// SPDX-License-Identifier: Apache-2.0
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::driver::*;
use crate::{PortIo, Ports};

const CONTROL_RX: usize = 2;
const CONTROL_TX: usize = 3;
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

const CONTROL_BUFFERS: u64 = BUFFERS + 0x4_0000;

fn port(name: &str) -> ((String, PortIo), UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let io = PortIo { input: Some(theirs.try_clone().unwrap().into()), output: Some(theirs.into()) };
    ((name.to_owned(), io), ours)
}

/// A guest that knows two ports, both open.
fn two_ports() -> (Guest, UnixStream, UnixStream) {
    let ((one, a), (two, b)) = (port("org.loft.one"), port("org.loft.two"));
    let mut guest = Guest::started(Ports::new(vec![one, two]).unwrap());
    supply(&mut guest, 32);
    (guest, a, b)
}

/// Makes buffers for control messages available.
fn supply(guest: &mut Guest, count: u64) {
    for index in 0..count {
        guest.add(CONTROL_RX, &[writable(CONTROL_BUFFERS + 128 * index, 128)]);
    }
    guest.kick(CONTROL_RX);
}

fn say(guest: &mut Guest, id: u32, event: u16, value: u16) {
    let message = [id.to_le_bytes().as_slice(), &event.to_le_bytes(), &value.to_le_bytes()].concat();
    guest.put(BUFFERS, &message);
    guest.run(CONTROL_TX, &[readable(BUFFERS, 8)]);
}

/// The next control message: id, event, value, what follows.
fn hear(guest: &mut Guest) -> (u32, u16, u16, Vec<u8>) {
    let (head, len) = guest.wait_used(CONTROL_RX);
    let bytes = guest.get(CONTROL_BUFFERS + 128 * u64::from(head), len as usize);
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    (u32::from(half(0)) | (u32::from(half(2)) << 16), half(4), half(6), bytes[8..].to_vec())
}

#[test]
fn ports_are_announced_named_and_opened() {
    let (mut guest, mut a, mut b) = two_ports();
    assert_eq!(guest.config::<4>(4), 3u32.to_le_bytes());
    say(&mut guest, u32::MAX, DEVICE_READY, 1);
    assert_eq!(hear(&mut guest), (1, PORT_ADD, 1, vec![]));
    assert_eq!(hear(&mut guest), (2, PORT_ADD, 1, vec![]));
    for (id, name) in [(2, "org.loft.two"), (1, "org.loft.one")] {
        say(&mut guest, id, PORT_READY, 1);
        assert_eq!(hear(&mut guest), (id, PORT_NAME, 1, name.as_bytes().to_vec()));
        assert_eq!(hear(&mut guest), (id, PORT_OPEN, 1, vec![]));
    }
    // The host may speak before the guest listens; it is heard then.
    b.write_all(b"early").unwrap();
    guest.add(6, &[writable(BUFFERS + 0x100, 16)]);
    guest.kick(6);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.used(6), 0);
    say(&mut guest, 2, PORT_OPEN, 1);
    assert_eq!(guest.wait_used(6).1, 5);
    assert_eq!(guest.get(BUFFERS + 0x100, 5), b"early");
    // Each port has its own queues.
    guest.put(BUFFERS + 0x200, b"one");
    guest.run(5, &[readable(BUFFERS + 0x200, 3)]);
    let mut answer = [0; 3];
    a.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"one");
    b.set_nonblocking(true).unwrap();
    assert!(b.read(&mut answer).is_err());
}

#[test]
fn the_end_of_the_input_comes_after_all_of_it() {
    let (mut guest, mut a, _b) = two_ports();
    say(&mut guest, 1, PORT_READY, 1);
    assert_eq!(hear(&mut guest).1, PORT_NAME);
    assert_eq!(hear(&mut guest).1, PORT_OPEN);
    say(&mut guest, 1, PORT_OPEN, 1);
    a.write_all(b"last words").unwrap();
    a.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(guest.run(4, &[writable(BUFFERS + 0x100, 4)]), 4);
    assert_eq!(guest.used(CONTROL_RX), 2, "closed too early");
    assert_eq!(guest.run(4, &[writable(BUFFERS + 0x100, 16)]), 6);
    guest.add(4, &[writable(BUFFERS + 0x100, 16)]);
    guest.kick(4);
    assert_eq!(hear(&mut guest), (1, PORT_OPEN, 0, vec![]));
    // Once only, and the buffer is still the guest's to be filled.
    say(&mut guest, 1, 77, 0);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.used(CONTROL_RX), 3);
    assert_eq!(guest.used(4), 2);
}

#[test]
fn a_driver_rebound_finds_the_ports_again() {
    let (mut guest, mut a, _b) = two_ports();
    for _ in 0..3 {
        say(&mut guest, 0, DEVICE_READY, 1);
        assert_eq!(hear(&mut guest).1, PORT_ADD);
        assert_eq!(hear(&mut guest).1, PORT_ADD);
        say(&mut guest, 1, PORT_READY, 1);
        assert_eq!(hear(&mut guest).1, PORT_NAME);
        assert_eq!(hear(&mut guest), (1, PORT_OPEN, 1, vec![]));
        // It is not open any more, so nothing is lost.
        a.write_all(b"x").unwrap();
        guest.add(4, &[writable(BUFFERS + 0x100, 16)]);
        guest.kick(4);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(guest.used(4), 0);
        say(&mut guest, 1, PORT_OPEN, 1);
        assert_eq!(guest.wait_used(4).1, 1);
        guest.start(u64::MAX);
        supply(&mut guest, 32);
    }
}

#[test]
fn ports_that_do_not_exist_and_messages_that_make_no_sense() {
    let (mut guest, _a, _b) = two_ports();
    for id in [0, 3, 31, u32::MAX] {
        for event in 1..12 {
            say(&mut guest, id, event, 1);
        }
    }
    guest.run(CONTROL_TX, &[readable(BUFFERS, 7)]);
    guest.run(CONTROL_TX, &[writable(BUFFERS, 8)]);
    say(&mut guest, 1, PORT_READY, 0);
    assert_eq!(guest.used(CONTROL_RX), 0);
    assert!(!guest.needs_reset());
}

#[test]
fn a_driver_that_asks_and_never_listens_is_cut_off() {
    let ((one, _a), (two, _b)) = (port("one"), port("two"));
    let mut guest = Guest::started(Ports::new(vec![one, two]).unwrap());
    for _ in 0..128 {
        say(&mut guest, 0, DEVICE_READY, 1);
    }
    assert!(!guest.needs_reset());
    let message = [0; 8];
    guest.put(BUFFERS, &message);
    guest.add(CONTROL_TX, &[readable(BUFFERS, 8)]);
    guest.kick(CONTROL_TX);
    guest.until("DEVICE_NEEDS_RESET", Guest::needs_reset);
}

#[test]
fn messages_wait_for_buffers() {
    let ((one, _a), (two, _b)) = (port("one"), port("two"));
    let mut guest = Guest::started(Ports::new(vec![one, two]).unwrap());
    say(&mut guest, 0, DEVICE_READY, 1);
    supply(&mut guest, 1);
    assert_eq!(hear(&mut guest), (1, PORT_ADD, 1, vec![]));
    guest.add(CONTROL_RX, &[writable(CONTROL_BUFFERS + 128, 128)]);
    guest.kick(CONTROL_RX);
    assert_eq!(hear(&mut guest), (2, PORT_ADD, 1, vec![]));
}

/// The buffers come just when the device finds that there are none.
#[test]
fn no_signal_is_lost() {
    let mut guest = Guest::started(Ports::new(vec![port("one").0]).unwrap());
    for _ in 0..1500 {
        say(&mut guest, 0, DEVICE_READY, 1);
        let before = guest.queues[CONTROL_RX].avail_idx;
        guest.restart_table(CONTROL_RX);
        guest.add(CONTROL_RX, &[writable(CONTROL_BUFFERS, 128)]);
        guest.notify(CONTROL_RX, before);
        assert_eq!(hear(&mut guest), (1, PORT_ADD, 1, vec![]));
    }
}

#[test]
fn names_have_limits() {
    let long = "x".repeat(65);
    for name in ["", &long] {
        assert!(Ports::new(vec![port(name).0]).is_err());
    }
    assert!(Ports::new((0..31).map(|_| port("x").0).collect()).is_err());
}
