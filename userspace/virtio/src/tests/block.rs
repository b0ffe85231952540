// SPDX-License-Identifier: Apache-2.0
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use virtio_bindings::virtio_blk::*;

use super::driver::*;
use crate::{bit, Block, BlockOptions};
use vmm_sys_util::tempfile::TempFile;

const HEADER: u64 = BUFFERS;
const STATUS_BYTE: u64 = BUFFERS + 0x100;
const DATA: u64 = BUFFERS + 0x1000;
/// The size of the test's disk.
const SECTORS: u64 = 4096;

/// An image whose byte at any place tells the place.
fn image() -> TempFile {
    let image = TempFile::new().unwrap();
    image.as_file().write_all_at(&content(0, SECTORS * 512), 0).unwrap();
    image
}

fn content(from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(|at| (at ^ (at >> 9) ^ 0x5a) as u8 | 1).collect()
}

fn on_disk(image: &TempFile, from: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open(image.as_path()).unwrap().read_exact_at(&mut bytes, from).unwrap();
    bytes
}

fn guest(image: &TempFile, read_only: bool) -> Guest {
    let options =
        BlockOptions { read_only, serial: Some("a serial number that is too long".into()), ..BlockOptions::default() };
    Guest::started(Block::open(image.as_path(), &options).unwrap())
}

/// Sends a request and returns its status and how much the device says it has written.
fn request(guest: &mut Guest, kind: u32, sector: u64, data: &[Descriptor]) -> (u8, u32) {
    guest.put(HEADER, &[kind.to_le_bytes(), [0xff; 4]].concat());
    guest.put(HEADER + 8, &sector.to_le_bytes());
    guest.put(STATUS_BYTE, &[0xee]);
    let chain = [&[readable(HEADER, 16)], data, &[writable(STATUS_BYTE, 1)]].concat();
    let written = guest.run(0, &chain);
    (guest.get(STATUS_BYTE, 1)[0], written)
}

fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [sector.to_le_bytes().as_slice(), &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

const OK: u8 = VIRTIO_BLK_S_OK as u8;
const IOERR: u8 = VIRTIO_BLK_S_IOERR as u8;
const UNSUPP: u8 = VIRTIO_BLK_S_UNSUPP as u8;

#[test]
fn the_configuration_describes_the_disk() {
    let image = image();
    let guest = guest(&image, false);
    assert_eq!(guest.read(8), 2);
    assert_eq!(guest.config::<8>(0), SECTORS.to_le_bytes());
    assert_eq!(guest.config::<4>(12), 254u32.to_le_bytes());
    assert_eq!(guest.config::<4>(20), 512u32.to_le_bytes());
    assert_ne!(guest.offered() & bit(VIRTIO_BLK_F_FLUSH), 0);
    assert_eq!(guest.offered() & bit(VIRTIO_BLK_F_RO), 0);
}

#[test]
fn reads_into_many_pieces() {
    let image = image();
    let mut guest = guest(&image, false);
    // Odd lengths, an empty one, one over the border between the two regions of memory.
    let border = BASE + REGION;
    let pieces = [(DATA, 1), (DATA + 7, 511), (DATA + 0x1000, 0), (border - 300, 1000), (DATA + 0x2000, 24)];
    let data: Vec<_> = pieces.iter().map(|&(addr, len)| writable(addr, len)).collect();
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 17, &data), (OK, 1537));
    let read: Vec<u8> = pieces.iter().flat_map(|&(addr, len)| guest.get(addr, len as usize)).collect();
    assert_eq!(read, content(17 * 512, 1536));
}

#[test]
fn writes_from_many_pieces_and_nothing_else() {
    let image = image();
    let mut guest = guest(&image, false);
    let bytes: Vec<u8> = (0..2048u32).map(|i| (i * 7) as u8).collect();
    let border = BASE + REGION;
    guest.put(DATA, &bytes[..100]);
    guest.put(border - 500, &bytes[100..]);
    let data = [readable(DATA, 100), readable(border - 500, 1948)];
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, SECTORS - 4, &data), (OK, 1));
    assert_eq!(on_disk(&image, (SECTORS - 4) * 512, 2048), bytes);
    assert_eq!(on_disk(&image, 0, (SECTORS as usize - 4) * 512), content(0, (SECTORS - 4) * 512));
}

#[test]
fn header_and_status_may_lie_anywhere() {
    let image = image();
    let mut guest = guest(&image, false);
    // The header in three pieces, the status behind the data in one descriptor (2.7.4.1: no assumptions about framing).
    guest.put(HEADER, &[VIRTIO_BLK_T_IN.to_le_bytes(), [0; 4]].concat());
    guest.put(HEADER + 8, &5u64.to_le_bytes());
    guest.put(DATA + 512, &[0xee]);
    let chain = [readable(HEADER, 3), readable(HEADER + 3, 6), readable(HEADER + 9, 7), writable(DATA, 513)];
    assert_eq!(guest.run(0, &chain), 513);
    assert_eq!(guest.get(DATA, 512), content(5 * 512, 512));
    assert_eq!(guest.get(DATA + 512, 1), [OK]);
}

#[test]
fn indirect_descriptors_work() {
    let image = image();
    let mut guest = guest(&image, false);
    let table = BUFFERS + 0x4000;
    guest.put(HEADER, &[VIRTIO_BLK_T_IN.to_le_bytes(), [0; 4]].concat());
    guest.put(HEADER + 8, &9u64.to_le_bytes());
    guest.put_chain(table, 0, &[readable(HEADER, 16), writable(DATA, 1024), writable(STATUS_BYTE, 1)]);
    let chain = [Descriptor { addr: table, len: 48, flags: INDIRECT, next: 0 }];
    assert_eq!(guest.run(0, &chain), 1025);
    assert_eq!(guest.get(DATA, 1024), content(9 * 512, 1024));
}

#[test]
fn nothing_is_done_beyond_the_end() {
    let image = image();
    let mut guest = guest(&image, false);
    for sector in [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, 1 << 55, 1 << 63] {
        for kind in [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT] {
            let data = if kind == VIRTIO_BLK_T_IN { writable(DATA, 1024) } else { readable(DATA, 1024) };
            assert_eq!(request(&mut guest, kind, sector, &[data]), (IOERR, 1), "{kind} {sector:#x}");
        }
    }
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, SECTORS - 1, &[writable(DATA, 512)]), (OK, 513));
    assert_eq!(image.as_file().metadata().unwrap().len(), SECTORS * 512, "the image has grown");
    assert_eq!(on_disk(&image, 0, SECTORS as usize * 512), content(0, SECTORS * 512));
}

#[test]
fn parts_of_sectors_are_refused() {
    let image = image();
    let mut guest = guest(&image, false);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 0, &[writable(DATA, 100)]).0, IOERR);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 0, &[readable(DATA, 513)]).0, IOERR);
    assert_eq!(on_disk(&image, 0, 1024), content(0, 1024));
}

#[test]
fn an_image_cut_short_meanwhile_is_an_error() {
    let image = image();
    let mut guest = guest(&image, false);
    image.as_file().set_len(1024).unwrap();
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 1, &[writable(DATA, 1024)]).0, IOERR);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 1, &[writable(DATA, 512)]).0, OK);
}

#[test]
fn flushes_and_tells_its_serial_number() {
    let image = image();
    let mut guest = guest(&image, false);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_GET_ID, 0, &[writable(DATA, 20)]), (OK, 21));
    assert_eq!(guest.get(DATA, 20), b"a serial number that");
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_GET_ID, 0, &[writable(DATA, 19)]).0, IOERR);
}

#[test]
fn unknown_requests_are_unsupported() {
    let image = image();
    let mut guest = guest(&image, false);
    for kind in [VIRTIO_BLK_T_SCSI_CMD, VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_ZONE_REPORT, 3, u32::MAX] {
        assert_eq!(request(&mut guest, kind, 0, &[writable(DATA, 512)]), (UNSUPP, 1));
    }
}

#[test]
fn discards_give_space_back() {
    let image = image();
    let mut guest = guest(&image, false);
    let before = image.as_file().metadata().unwrap().blocks();
    guest.put(DATA, &[segment(8, 1024, 0), segment(2048, 2048, 0)].concat());
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_DISCARD, 0, &[readable(DATA, 32)]), (OK, 1));
    assert!(image.as_file().metadata().unwrap().blocks() < before);
    let mut expected = content(0, SECTORS * 512);
    expected[8 * 512..1032 * 512].fill(0);
    expected[2048 * 512..].fill(0);
    assert_eq!(on_disk(&image, 0, SECTORS as usize * 512), expected);
}

#[test]
fn write_zeroes_writes_zeroes() {
    for flags in [0, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP] {
        let image = image();
        let mut guest = guest(&image, false);
        guest.put(DATA, &segment(3, 1500, flags));
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_WRITE_ZEROES, 0, &[readable(DATA, 16)]), (OK, 1));
        let mut expected = content(0, SECTORS * 512);
        expected[3 * 512..1503 * 512].fill(0);
        assert_eq!(on_disk(&image, 0, SECTORS as usize * 512), expected);
        assert_eq!(image.as_file().metadata().unwrap().len(), SECTORS * 512);
    }
}

#[test]
fn bad_segments_do_nothing_at_all() {
    let image = image();
    let mut guest = guest(&image, false);
    let good = segment(0, 8, 0);
    for (bad, status) in [
        (segment(SECTORS - 1, 2, 0), IOERR),
        (segment(u64::MAX, 1, 0), IOERR),
        (segment(0, u32::MAX, 0), IOERR),
        (segment(0, 8, 2), UNSUPP),
        (vec![0; 8], IOERR),
    ] {
        for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
            let bytes = [good.as_slice(), &bad].concat();
            guest.put(DATA, &bytes);
            assert_eq!(request(&mut guest, kind, 0, &[readable(DATA, bytes.len() as u32)]).0, status);
        }
    }
    // A discard has no flags; none, and too many segments.
    guest.put(DATA, &segment(0, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_DISCARD, 0, &[readable(DATA, 16)]).0, UNSUPP);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_DISCARD, 0, &[]).0, IOERR);
    guest.put(DATA, &vec![0; 16 * 33]);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_DISCARD, 0, &[readable(DATA, 16 * 33)]).0, IOERR);
    assert_eq!(on_disk(&image, 0, SECTORS as usize * 512), content(0, SECTORS * 512));
}

#[test]
fn segments_have_a_largest_size() {
    let image = TempFile::new().unwrap();
    image.as_file().set_len(2 << 30).unwrap();
    let mut guest = guest(&image, false);
    for (kind, field) in [(VIRTIO_BLK_T_DISCARD, 36), (VIRTIO_BLK_T_WRITE_ZEROES, 48)] {
        let most = u32::from_le_bytes(guest.config(field));
        for (sectors, status) in [(most, OK), (most + 1, IOERR)] {
            guest.put(DATA, &segment(0, sectors, 0));
            assert_eq!(request(&mut guest, kind, 0, &[readable(DATA, 16)]).0, status, "{kind} {sectors}");
        }
    }
    assert_eq!(guest.config::<4>(40), 32u32.to_le_bytes());
    guest.put(DATA, &segment(0, 8, 0).repeat(32));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_DISCARD, 0, &[readable(DATA, 16 * 32)]).0, OK);
}

#[test]
fn a_read_only_disk_is_only_read() {
    let image = image();
    let mut guest = guest(&image, true);
    assert_ne!(guest.offered() & bit(VIRTIO_BLK_F_RO), 0);
    assert_eq!(guest.offered() & (bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES)), 0);
    guest.put(DATA, &segment(0, 8, 0));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_OUT, 0, &[readable(DATA, 512)]).0, IOERR);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_DISCARD, 0, &[readable(DATA, 16)]).0, UNSUPP);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_WRITE_ZEROES, 0, &[readable(DATA, 16)]).0, UNSUPP);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 3, &[writable(DATA, 512)]).0, OK);
    assert_eq!(guest.get(DATA, 512), content(3 * 512, 512));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, &[]).0, OK);
}

#[test]
fn requests_that_cannot_be_answered_need_a_reset() {
    let chains: [&[Descriptor]; 4] = [
        &[readable(HEADER, 16)],                           // no status
        &[readable(HEADER, 15), writable(DATA, 1)],        // half a header
        &[writable(DATA, 513)],                            // none
        &[readable(HEADER, 16), writable(STATUS_BYTE, 0)], // a status of no bytes
    ];
    for chain in chains {
        let image = image();
        let mut guest = guest(&image, false);
        guest.add(0, chain);
        guest.kick(0);
        guest.until("DEVICE_NEEDS_RESET", Guest::needs_reset);
        guest.start(u64::MAX);
        assert_eq!(request(&mut guest, VIRTIO_BLK_T_FLUSH, 0, &[]).0, OK);
    }
}

#[test]
fn many_requests_at_once_with_interrupts() {
    let image = image();
    let mut guest = guest(&image, false);
    for round in 0..40u64 {
        for index in 0..80u64 {
            let header = HEADER + 0x2000 + 16 * index;
            guest.put(header, &[VIRTIO_BLK_T_IN.to_le_bytes(), [0; 4]].concat());
            guest.put(header + 8, &(index + round).to_le_bytes());
            guest.add(0, &[readable(header, 16), writable(DATA + 0x4000 + 513 * index, 513)]);
        }
        guest.kick(0);
        for index in 0..80u64 {
            if guest.used(0) == guest.queues[0].used_idx {
                guest.wait_interrupt();
            }
            assert_eq!(guest.wait_used(0), (2 * index as u32, 513));
            let data = guest.get(DATA + 0x4000 + 513 * index, 513);
            assert_eq!(data[..512], content((index + round) * 512, 512));
            assert_eq!(data[512], OK);
        }
        let q = &guest.queues[0];
        assert_eq!(q.avail_idx, q.used_idx);
        guest.restart_table(0);
    }
}

fn several(image: &TempFile, queues: u16) -> Guest {
    Guest::new(Block::open(image.as_path(), &BlockOptions { queues, ..BlockOptions::default() }).unwrap())
}

/// Makes a read of `sector` available on a queue; where its data will be.
fn offer_read(guest: &mut Guest, queue: usize, sector: u64) -> u64 {
    let room = BUFFERS + 0x1_0000 * (1 + queue as u64) + 0x400 * (sector % 32);
    guest.put(room, &[VIRTIO_BLK_T_IN.to_le_bytes(), [0; 4]].concat());
    guest.put(room + 8, &sector.to_le_bytes());
    guest.add(queue, &[readable(room, 16), writable(room + 16, 513)]);
    room + 16
}

#[test]
fn each_queue_is_served() {
    let image = image();
    for (queues, offered) in [(0, 1), (1, 1), (4, 4), (9, 8), (u16::MAX, 8)] {
        let guest = several(&image, queues);
        assert_eq!((guest.transport.kicks().len(), guest.config::<2>(34)), (offered, (offered as u16).to_le_bytes()));
        assert_eq!(guest.offered() & bit(VIRTIO_BLK_F_MQ) != 0, offered > 1);
    }
    let mut guest = several(&image, 4);
    guest.start(u64::MAX);
    for round in 0..20u64 {
        for queue in [3, 1, 0, 2] {
            let sector = round * 16 + queue as u64;
            let data = offer_read(&mut guest, queue, sector);
            guest.kick(queue);
            assert_eq!(guest.wait_used(queue).1, 513);
            assert_eq!(guest.get(data, 512), content(sector * 512, 512));
        }
    }
}

#[test]
fn a_driver_may_leave_queues_alone() {
    let image = image();
    let mut guest = several(&image, 3);
    guest.prepare(!bit(VIRTIO_BLK_F_MQ));
    for queue in [1, 2] {
        guest.write(0x30, queue);
        guest.write(0x44, 0);
    }
    guest.write(STATUS, DRIVER_OK);
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_IN, 3, &[writable(DATA, 512)]).0, OK);
    guest.kick(2);
    assert!(!guest.needs_reset());
}

#[test]
fn what_is_discarded_may_keep_its_space() {
    let image = image();
    let options = BlockOptions { keep_space: true, ..BlockOptions::default() };
    let mut guest = Guest::started(Block::open(image.as_path(), &options).unwrap());
    let before = image.as_file().metadata().unwrap().blocks();
    assert_eq!(guest.offered() & bit(VIRTIO_BLK_F_DISCARD), 0);
    assert_eq!(guest.config::<1>(56), [0]);
    guest.put(DATA, &segment(8, 1024, 0));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_DISCARD, 0, &[readable(DATA, 16)]).0, UNSUPP);
    guest.put(DATA, &segment(8, 1024, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP));
    assert_eq!(request(&mut guest, VIRTIO_BLK_T_WRITE_ZEROES, 0, &[readable(DATA, 16)]).0, OK);
    assert_eq!(on_disk(&image, 8 * 512, 1024 * 512), vec![0; 1024 * 512]);
    assert!(image.as_file().metadata().unwrap().blocks() >= before);
}
