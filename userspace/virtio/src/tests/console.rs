// SPDX-License-Identifier: Apache-2.0
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::unistd::pipe;

use super::driver::*;
use crate::{Console, ConsoleOptions, PortIo};

const RX: usize = 0;
const TX: usize = 1;

/// A console with pipes: the end that types, the end that shows.
fn piped() -> (Guest, File, File) {
    let (input, keyboard) = pipe().unwrap();
    let (screen, output) = pipe().unwrap();
    let io = PortIo { input: Some(input), output: Some(output) };
    let (console, _handle) = Console::new(ConsoleOptions { io, size: None }).unwrap();
    (Guest::started(console), keyboard.into(), screen.into())
}

#[test]
fn what_the_guest_writes_is_shown() {
    let (mut guest, _keyboard, mut screen) = piped();
    guest.put(BUFFERS, b"hello, ");
    guest.put(BUFFERS + 0x1000, b"world");
    assert_eq!(guest.run(TX, &[readable(BUFFERS, 7), readable(BUFFERS + 0x1000, 5)]), 0);
    let mut shown = [0; 12];
    screen.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"hello, world");
}

#[test]
fn what_is_typed_reaches_the_guest_when_it_has_room() {
    let (mut guest, mut keyboard, _screen) = piped();
    keyboard.write_all(b"abcdef").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.used(RX), 0);
    assert_eq!(guest.run(RX, &[writable(BUFFERS, 4)]), 4);
    assert_eq!(guest.get(BUFFERS, 5), b"abcd\0");
    assert_eq!(guest.run(RX, &[writable(BUFFERS, 4)]), 2);
    assert_eq!(guest.get(BUFFERS, 3), b"efc");
    // And with room first.
    guest.add(RX, &[writable(BUFFERS, 64)]);
    guest.kick(RX);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.used(RX), 2);
    keyboard.write_all(b"xyz").unwrap();
    assert_eq!(guest.wait_used(RX).1, 3);
    assert_eq!(guest.get(BUFFERS, 3), b"xyz");
}

#[test]
fn a_stream_of_any_length_comes_through_in_both_directions() {
    let (mut guest, mut keyboard, mut screen) = piped();
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let typed = bytes.clone();
    let typist = std::thread::spawn(move || keyboard.write_all(&typed).unwrap());
    let expected = bytes.len();
    let reader = std::thread::spawn(move || {
        let mut shown = vec![0; expected];
        screen.read_exact(&mut shown).unwrap();
        shown
    });
    // An echo: every piece goes back as it came. The pieces have all sizes, up to more than a chunk.
    let mut total = 0;
    for round in 0u32.. {
        let room = 1 + round * 97 % 9000;
        let got = guest.run(RX, &[writable(BUFFERS, room)]);
        assert!(got > 0 && got <= room);
        guest.run(TX, &[readable(BUFFERS, got)]);
        total += got as usize;
        if total == expected {
            break;
        }
    }
    typist.join().unwrap();
    assert_eq!(reader.join().unwrap(), bytes);
}

#[test]
fn a_screen_that_nobody_reads_holds_up_neither_typing_nor_a_reset() {
    let (mut guest, mut keyboard, mut screen) = piped();
    // A pipe holds 64 KiB.
    for _ in 0..40 {
        guest.add(TX, &[readable(BUFFERS, 4096)]);
    }
    guest.kick(TX);
    guest.until("the pipe to be full", |guest| guest.used(TX) >= 15);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(guest.used(TX) < 20, "where did it go?");
    keyboard.write_all(b"q").unwrap();
    assert_eq!(guest.run(RX, &[writable(BUFFERS, 4)]), 1);
    // As soon as somebody reads, the rest comes.
    let mut some = vec![0; 40 * 4096];
    screen.read_exact(&mut some).unwrap();
    guest.until("the rest", |guest| guest.used(TX) == 40);
    for _ in 0..40 {
        guest.add(TX, &[readable(BUFFERS, 4096)]);
    }
    guest.kick(TX);
    guest.until("the pipe to be full", |guest| guest.used(TX) >= 55);
    guest.write(STATUS, 0);
}

#[test]
fn a_full_ring_needs_one_kick() {
    for output in [None, Some(File::options().write(true).open("/dev/null").unwrap().into())] {
        let io = PortIo { input: None, output };
        let (console, _handle) = Console::new(ConsoleOptions { io, size: None }).unwrap();
        let mut guest = Guest::started(console);
        for _ in 0..64 {
            guest.add(TX, &[readable(BUFFERS, 20_000)]);
        }
        guest.kick(TX);
        guest.until("all of it", |guest| guest.used(TX) == 64);
    }
}

#[test]
fn a_screen_that_goes_away_holds_up_nothing() {
    let (mut guest, _keyboard, screen) = piped();
    drop(screen);
    for _ in 0..100 {
        guest.run(TX, &[readable(BUFFERS, 4096)]);
    }
    assert!(!guest.needs_reset());
}

#[test]
fn input_that_ends_leaves_the_output() {
    let (mut guest, keyboard, mut screen) = piped();
    drop(keyboard);
    guest.add(RX, &[writable(BUFFERS, 4)]);
    guest.kick(RX);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.used(RX), 0);
    guest.put(BUFFERS + 0x100, b"!");
    guest.run(TX, &[readable(BUFFERS + 0x100, 1)]);
    let mut shown = [0];
    screen.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"!");
}

#[test]
fn input_survives_a_reset() {
    let (mut guest, mut keyboard, _screen) = piped();
    assert_eq!(guest.read(8), 3);
    keyboard.write_all(b"before").unwrap();
    assert_eq!(guest.run(RX, &[writable(BUFFERS, 3)]), 3);
    guest.start(u64::MAX);
    assert_eq!(guest.run(RX, &[writable(BUFFERS, 10)]), 3);
    assert_eq!(guest.get(BUFFERS, 3), b"ore");
}

#[test]
fn files_do_as_ends() {
    let mut image = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
    image.write_all(b"from a file").unwrap();
    std::io::Seek::rewind(&mut image).unwrap();
    let null = File::options().write(true).open("/dev/null").unwrap();
    let io = PortIo { input: Some(OwnedFd::from(image)), output: Some(null.into()) };
    let (console, _handle) = Console::new(ConsoleOptions { io, size: None }).unwrap();
    let mut guest = Guest::started(console);
    assert_eq!(guest.run(RX, &[writable(BUFFERS, 64)]), 11);
    assert_eq!(guest.get(BUFFERS, 11), b"from a file");
    guest.run(TX, &[readable(BUFFERS, 4096)]);
}

#[test]
fn last_words_are_heard() {
    for _ in 0..50 {
        let (mut guest, _keyboard, mut screen) = piped();
        guest.put(BUFFERS, b"bye");
        guest.add(TX, &[readable(BUFFERS, 1)]);
        guest.add(TX, &[readable(BUFFERS + 1, 2)]);
        guest.kick(TX);
        drop(guest);
        let mut shown = Vec::new();
        screen.read_to_end(&mut shown).unwrap();
        assert_eq!(shown, b"bye");
    }
}

#[test]
fn buffers_of_no_bytes_are_given_back() {
    let (mut guest, mut keyboard, _screen) = piped();
    keyboard.write_all(b"x").unwrap();
    assert_eq!(guest.run(RX, &[writable(BUFFERS, 0)]), 0);
    assert_eq!(guest.run(RX, &[readable(BUFFERS, 8)]), 0);
    assert_eq!(guest.run(TX, &[readable(BUFFERS, 0)]), 0);
    assert_eq!(guest.run(TX, &[writable(BUFFERS, 8)]), 0);
    assert_eq!(guest.run(RX, &[writable(BUFFERS, 8)]), 1);
}
