// SPDX-License-Identifier: Apache-2.0
use virtio_bindings::virtio_config::*;
use virtio_bindings::virtio_mmio::*;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::driver::*;
use crate::{bit, Console, ConsoleOptions, Rng};

#[test]
fn says_what_it_is() {
    let guest = Guest::new(Rng::new());
    assert_eq!(guest.read(0x00), 0x7472_6976);
    assert_eq!(guest.read(0x04), 2);
    assert_eq!(guest.read(0x08), 4);
    assert_eq!(guest.read(STATUS), 0);
}

#[test]
fn there_is_no_shared_memory() {
    let guest = Guest::new(Rng::new());
    guest.write(0xac, 0);
    for offset in [0xb0, 0xb4, 0xb8, 0xbc] {
        assert_eq!(guest.read(offset), u32::MAX);
    }
}

#[test]
fn reserved_registers_and_odd_accesses_read_as_zero() {
    let guest = Guest::new(Rng::new());
    // Write-only ones, those of version 1, holes; unaligned; behind the end.
    for offset in
        [0x14, 0x20, 0x28, 0x3c, 0x40, 0x50, 0x64, 0x80, 0xac, 0xc0, 0xf8, 0x02, 0x71, 0x200, 0x1000, u64::MAX]
    {
        assert_eq!(guest.read(offset), 0, "{offset:#x}");
        guest.write(offset, u32::MAX);
    }
    for size in [0, 1, 2, 3, 5, 8, 16] {
        let mut data = vec![0xee; size];
        guest.transport.read(0, &mut data);
        assert_eq!(data, vec![0; size]);
        guest.transport.write(STATUS, &vec![1; size]);
    }
    assert_eq!(guest.read(STATUS), 0, "a write of the wrong size had an effect");
}

#[test]
fn features_must_be_offered_and_virtio_1() {
    let guest = Guest::new(Rng::new());
    let offered = guest.offered();
    assert_ne!(offered & bit(VIRTIO_F_VERSION_1), 0);
    guest.write(0x14, 2);
    assert_eq!(guest.read(0x10), 0, "features beyond 64");
    let unknown = bit(VIRTIO_F_RING_PACKED);
    assert_eq!(offered & unknown, 0);
    for refused in [0, offered & !bit(VIRTIO_F_VERSION_1), offered | unknown] {
        guest.write(STATUS, 0);
        guest.write(STATUS, 3);
        guest.accept(refused);
        guest.write(STATUS, FEATURES_OK);
        assert_eq!(guest.read(STATUS), 3, "{refused:#x}");
        // And DRIVER_OK is nothing without it.
        guest.write(STATUS, 7);
        assert_eq!(guest.read(STATUS), 3);
    }
    guest.accept(bit(VIRTIO_F_VERSION_1));
    guest.write(STATUS, FEATURES_OK);
    assert_eq!(guest.read(STATUS), FEATURES_OK);
}

#[test]
fn queues_that_do_not_exist() {
    let guest = Guest::new(Rng::new());
    for index in [1, 2, 0xffff, u32::MAX] {
        guest.write(0x30, index);
        guest.write(0x44, 1);
        assert_eq!(guest.read(0x34), 0);
        assert_eq!(guest.read(0x44), 0);
        guest.write(0x50, index);
    }
    guest.write(0x30, 0);
    assert_eq!(guest.read(0x34), 64);
    assert_eq!(guest.read(0x44), 0);
}

#[test]
fn a_ready_queue_cannot_be_moved() {
    let mut guest = Guest::new(Rng::new());
    guest.prepare(u64::MAX);
    guest.write(0x30, 0);
    for offset in [0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4] {
        guest.write(offset, 0xdead_beef);
    }
    guest.write(STATUS, DRIVER_OK);
    assert_eq!(guest.run(0, &[writable(BUFFERS, 8)]), 8);
}

#[test]
fn a_queue_that_is_not_one_needs_a_reset() {
    let end = BASE + SIZE;
    // The size; then the low halves of the three addresses: unaligned, at the end of memory, before it, at 0.
    let wrong: [(u64, u32); 12] = [
        (0x38, 0),
        (0x38, 3),
        (0x38, 128),
        (0x38, 0x1_0040),
        (0x80, BASE as u32 + 8),
        (0x90, BASE as u32 + 0x2001),
        (0xa0, BASE as u32 + 0x2002),
        (0x80, end as u32 - 16),
        (0x90, end as u32 - 2),
        (0xa0, end as u32),
        (0x84, 0xffff_ffff),
        (0x80, 0),
    ];
    for (offset, value) in wrong {
        let mut guest = Guest::new(Rng::new());
        guest.prepare(u64::MAX);
        guest.write(0x30, 0);
        guest.write(0x44, 0);
        guest.write(offset, value);
        guest.write(0x44, 1);
        guest.write(STATUS, DRIVER_OK);
        assert_eq!(guest.read(STATUS), DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET, "{offset:#x} = {value:#x}");
        assert_eq!(guest.wait_interrupt(), VIRTIO_MMIO_INT_CONFIG);
        // And after one it works.
        guest.start(u64::MAX);
        assert_eq!(guest.read(STATUS), DRIVER_OK);
        assert_eq!(guest.run(0, &[writable(BUFFERS, 8)]), 8);
    }
}

#[test]
fn a_queue_left_out_needs_a_reset() {
    let mut guest = Guest::new(Rng::new());
    guest.prepare(u64::MAX);
    guest.write(0x30, 0);
    guest.write(0x44, 0);
    guest.write(STATUS, DRIVER_OK);
    assert!(guest.needs_reset());
}

#[test]
fn status_bits_only_ever_come() {
    let mut guest = Guest::new(Rng::new());
    guest.start(u64::MAX);
    guest.write(STATUS, 1);
    assert_eq!(guest.read(STATUS), DRIVER_OK);
    guest.write(STATUS, VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_eq!(guest.read(STATUS), DRIVER_OK, "only the device says that");
    guest.write(STATUS, VIRTIO_CONFIG_S_FAILED);
    assert_eq!(guest.read(STATUS), DRIVER_OK | VIRTIO_CONFIG_S_FAILED);
    assert_eq!(guest.run(0, &[writable(BUFFERS, 8)]), 8);
}

#[test]
fn features_are_fixed_once_agreed() {
    let mut guest = Guest::new(Rng::new());
    guest.prepare(u64::MAX);
    guest.accept(0);
    guest.write(STATUS, DRIVER_OK);
    // With VIRTIO_F_EVENT_IDX still on, a driver that waits for the second chain hears nothing of the first.
    guest.put(guest.queues[0].available + 4 + 128, &1u16.to_le_bytes());
    guest.run(0, &[writable(BUFFERS, 8)]);
    assert!(!guest.interrupted());
    guest.run(0, &[writable(BUFFERS, 8)]);
    assert_eq!(guest.wait_interrupt(), VIRTIO_MMIO_INT_VRING);
}

#[test]
fn interrupts_are_raised_and_acknowledged() {
    let mut guest = Guest::new(Rng::new());
    guest.start(!bit(VIRTIO_RING_F_EVENT_IDX));
    assert_eq!(guest.read(INTERRUPT_STATUS), 0);
    guest.run(0, &[writable(BUFFERS, 8)]);
    guest.until("InterruptStatus", |guest| guest.read(INTERRUPT_STATUS) == VIRTIO_MMIO_INT_VRING);
    guest.write(INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
    assert_eq!(guest.read(INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING, "acknowledged something else");
    assert_eq!(guest.wait_interrupt(), VIRTIO_MMIO_INT_VRING);
    assert_eq!(guest.read(INTERRUPT_STATUS), 0);
}

#[test]
fn a_reset_forgets_everything() {
    let mut guest = Guest::started(Rng::new());
    for _ in 0..3 {
        guest.run(0, &[writable(BUFFERS, 8)]);
        guest.kick(0);
        guest.write(STATUS, 0);
        assert_eq!(guest.read(STATUS), 0);
        assert_eq!(guest.read(INTERRUPT_STATUS), 0);
        guest.write(0x30, 0);
        assert_eq!(guest.read(0x44), 0);
        // Nobody looks at the ring any more, whatever happens to it.
        guest.add(0, &[writable(BUFFERS, 8)]);
        guest.kick(0);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(guest.used(0), 1);
        guest.start(u64::MAX);
    }
}

#[test]
fn a_kick_before_driver_ok_is_not_lost() {
    let mut guest = Guest::new(Rng::new());
    guest.prepare(u64::MAX);
    guest.add(0, &[writable(BUFFERS, 8)]);
    guest.kick(0);
    guest.write(STATUS, DRIVER_OK);
    assert_eq!(guest.wait_used(0), (0, 8));
}

#[test]
fn the_eventfd_is_the_same_as_queue_notify() {
    let mut guest = Guest::started(Rng::new());
    guest.add(0, &[writable(BUFFERS, 8)]);
    guest.transport.kicks()[0].write(1).unwrap();
    assert_eq!(guest.wait_used(0), (0, 8));
}

#[test]
fn a_queue_taken_away_is_left_alone() {
    let mut guest = Guest::started(Rng::new());
    guest.run(0, &[writable(BUFFERS, 8)]);
    guest.write(0x30, 0);
    guest.write(0x44, 0);
    assert_eq!(guest.read(0x44), 0);
    guest.add(0, &[writable(BUFFERS, 8)]);
    guest.kick(0);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.used(0), 1);
}

#[test]
fn configuration_has_a_generation() {
    let options = ConsoleOptions { size: Some((80, 25)), ..ConsoleOptions::default() };
    let (console, handle) = Console::new(options).unwrap();
    let guest = Guest::started(console);
    let before = guest.read(0xfc);
    handle.resize(132, 50);
    assert_eq!(guest.wait_interrupt(), VIRTIO_MMIO_INT_CONFIG);
    assert_ne!(guest.read(0xfc), before);
    handle.resize(132, 50);
    assert!(!guest.interrupted(), "nothing has changed");
}

#[test]
fn configuration_is_read_in_any_size_and_ends() {
    let options = ConsoleOptions { size: Some((0x0102, 0x0304)), ..ConsoleOptions::default() };
    let guest = Guest::new(Console::new(options).unwrap().0);
    assert_eq!(guest.config::<4>(0), [2, 1, 4, 3]);
    assert_eq!(guest.config::<2>(2), [4, 3]);
    assert_eq!(guest.config::<1>(1), [1]);
    assert_eq!(guest.config::<8>(0), [2, 1, 4, 3, 0, 0, 0, 0]);
    assert_eq!(guest.config::<4>(3), [3, 0, 0, 0]);
    assert_eq!(guest.config::<4>(0xfe), [0; 4]);
    guest.transport.write(0x100, &[9; 8]);
    assert_eq!(guest.config::<4>(0), [2, 1, 4, 3], "it is read-only");
}
