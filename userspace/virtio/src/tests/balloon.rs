// SPDX-License-Identifier: Apache-2.0
use std::fs;

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::driver::*;
use crate::balloon::{F_DEFLATE_ON_OOM, F_REPORTING, PAGE};
use crate::{bit, Balloon, BalloonHandle};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const REPORTS: usize = 2;
/// Where pages are that are given back; the queues and the lists of pages are below.
const GIVEN: u64 = BASE + 0x10_0000 - 0x1_0000;
/// Pages there, over the border between the two regions.
const PAGES: u64 = 32;

fn guest() -> (Guest, BalloonHandle) {
    let (balloon, handle) = Balloon::new();
    let guest = Guest::started(balloon);
    for page in 0..PAGES {
        guest.put(GIVEN + page * PAGE, &[0x5a; PAGE as usize]);
    }
    (guest, handle)
}

/// Which pages the host has memory for, of those that may be given back.
fn resident(guest: &Guest) -> Vec<bool> {
    let pagemap = fs::File::open("/proc/self/pagemap").unwrap();
    (0..PAGES)
        .map(|page| {
            let at = guest.mem.get_host_address(GuestAddress(GIVEN + page * PAGE)).unwrap().addr() as u64;
            let mut entry = [0; 8];
            std::os::unix::fs::FileExt::read_exact_at(&pagemap, &mut entry, at / PAGE * 8).unwrap();
            // Present, or swapped (Documentation/admin-guide/mm/pagemap.rst).
            u64::from_le_bytes(entry) >> 62 != 0
        })
        .collect()
}

fn inflate(guest: &mut Guest, numbers: &[u32]) {
    let list: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    guest.put(BUFFERS, &list);
    assert_eq!(guest.run(INFLATE, &[readable(BUFFERS, list.len() as u32)]), 0);
}

#[test]
fn pages_in_the_balloon_are_the_hosts() {
    let (mut guest, _) = guest();
    assert_eq!(guest.read(8), 5);
    assert_ne!(guest.offered() & bit(F_DEFLATE_ON_OOM), 0);
    let first = (GIVEN / PAGE) as u32;
    // Up, down, one twice, over the border of the regions, and where no memory is.
    let numbers = [1, 2, 3, 9, 8, 7, 7, 15, 16, 17].map(|n| first + n);
    inflate(&mut guest, &[&numbers[..], &[0, u32::MAX]].concat());
    let gone = [1, 2, 3, 7, 8, 9, 15, 16, 17];
    let expected: Vec<bool> = (0..PAGES).map(|page| !gone.contains(&page)).collect();
    assert_eq!(resident(&guest), expected);
    // It comes back as zeroes, the others as they were.
    assert_eq!(guest.get(GIVEN + PAGE, 8), [0; 8]);
    assert_eq!(guest.get(GIVEN, 8), [0x5a; 8]);
    assert_eq!(guest.run(DEFLATE, &[readable(BUFFERS, 4)]), 0);
    assert!(!guest.needs_reset());
}

#[test]
fn what_is_reported_is_the_hosts() {
    let (mut guest, _) = guest();
    assert_ne!(guest.offered() & bit(F_REPORTING), 0);
    // Only whole pages, of each piece.
    let ranges = [writable(GIVEN + 100, 3 * PAGE as u32), writable(GIVEN + 14 * PAGE, 5 * PAGE as u32)];
    assert_eq!(guest.run(REPORTS, &ranges), 0);
    let expected: Vec<bool> = (0..PAGES).map(|page| ![1, 2, 14, 15, 16, 17, 18].contains(&page)).collect();
    assert_eq!(resident(&guest), expected);
    assert_eq!(guest.get(GIVEN, 8), [0x5a; 8]);
}

#[test]
fn too_long_a_list_is_refused() {
    let (mut guest, _) = guest();
    guest.add(INFLATE, &[readable(BUFFERS, 4 * 1025)]);
    guest.kick(INFLATE);
    guest.until("DEVICE_NEEDS_RESET", Guest::needs_reset);
}

#[test]
fn the_host_asks_and_the_guest_answers() {
    let (guest, handle) = guest();
    assert!(handle.is_used());
    assert_eq!(guest.config::<8>(0), [0; 8]);
    let generation = guest.read(0xfc);
    handle.want(10 * PAGE + 1);
    assert_ne!(guest.read(0xfc), generation);
    assert_eq!(guest.wait_interrupt() & 2, 2);
    assert_eq!(guest.config::<4>(0), 10u32.to_le_bytes());
    guest.write(0x104, 7);
    assert_eq!((handle.actual(), guest.config::<4>(4)), (7 * PAGE, 7u32.to_le_bytes()));
    // Its wish is the host's alone.
    guest.transport.write(0x102, &[0xff; 8]);
    assert_eq!(guest.config::<4>(0), 10u32.to_le_bytes());
    assert_eq!(handle.actual(), 0xffff_ffff * PAGE);
    guest.write(STATUS, 0);
    assert!(!handle.is_used());
    assert_eq!(handle.actual(), 0);
}
