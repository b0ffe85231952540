// SPDX-License-Identifier: Apache-2.0
use super::driver::*;
use crate::rng::MAX_BYTES;
use crate::Rng;

#[test]
fn fills_buffers_with_bytes_that_differ() {
    let mut guest = Guest::started(Rng::new());
    assert_eq!(guest.read(8), 4);
    let mut seen = Vec::new();
    for _ in 0..300 {
        assert_eq!(guest.run(0, &[writable(BUFFERS, 64), writable(BUFFERS + 0x1000, 3)]), 67);
        let bytes = [guest.get(BUFFERS, 64), guest.get(BUFFERS + 0x1000, 3)].concat();
        assert!(!seen.contains(&bytes), "the same bytes twice");
        seen.push(bytes);
    }
    assert_eq!(guest.get(BUFFERS + 64, 8), [0; 8], "wrote behind the buffer");
    assert_eq!(guest.get(BUFFERS + 0x1003, 8), [0; 8], "wrote behind the buffer");
}

/// Neither side speaks but when the other has asked for it, and nobody sleeps for ever.
#[test]
fn no_signal_is_lost() {
    let mut guest = Guest::started(Rng::new());
    for ahead in [1, 2, 60] {
        for round in 0..3000 {
            let before = guest.queues[0].avail_idx;
            guest.add(0, &[writable(BUFFERS, 1)]);
            guest.notify(0, before);
            if round >= ahead {
                guest.sleep_until_used(0);
            }
        }
        for _ in 0..ahead {
            guest.sleep_until_used(0);
        }
    }
}

#[test]
fn a_huge_request_gets_no_more_than_the_limit() {
    let mut guest = Guest::started(Rng::new());
    assert_eq!(guest.run(0, &[writable(BUFFERS, 0x4_0000)]), MAX_BYTES as u32);
    assert_eq!(guest.get(BUFFERS + MAX_BYTES as u64, 64), [0; 64]);
}

#[test]
fn a_request_without_room_gets_nothing() {
    let mut guest = Guest::started(Rng::new());
    assert_eq!(guest.run(0, &[readable(BUFFERS, 16)]), 0);
    assert_eq!(guest.run(0, &[writable(BUFFERS, 0)]), 0);
    assert!(!guest.needs_reset());
}
