// SPDX-License-Identifier: Apache-2.0
//! Which files are disks.

use std::path::Path;

use crate::block::Disk;
use crate::{Block, BlockError, BlockOptions};
use vm_memory::VolatileSlice;
use vmm_sys_util::tempdir::TempDir;
use vmm_sys_util::tempfile::TempFile;

const RW: BlockOptions =
    BlockOptions { read_only: false, snapshot: false, queues: 1, keep_space: false, serial: None, space: None };
const RO: BlockOptions = BlockOptions { read_only: true, ..RW };
const SNAPSHOT: BlockOptions = BlockOptions { snapshot: true, ..RW };

fn image(size: u64) -> TempFile {
    let image = TempFile::new().unwrap();
    image.as_file().set_len(size).unwrap();
    image
}

#[test]
fn one_writer_or_many_readers() {
    let image = image(4096);
    let path = image.as_path();
    let writer = Block::open(path, &RW).unwrap();
    for options in [RW, RO] {
        let error = Block::open(path, &options).unwrap_err();
        assert!(matches!(error, BlockError::InUse(_)), "{error}");
    }
    drop(writer);
    let readers = [Block::open(path, &RO).unwrap(), Block::open(path, &RO).unwrap()];
    assert!(matches!(Block::open(path, &RW), Err(BlockError::InUse(_))));
    drop(readers);
    Block::open(path, &RW).unwrap();
}

#[test]
fn the_lock_is_the_files_not_the_names() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (dir.as_path().join("one"), dir.as_path().join("two"));
    std::fs::write(&one, [0; 512]).unwrap();
    std::fs::hard_link(&one, &two).unwrap();
    let _writer = Block::open(&one, &RW).unwrap();
    assert!(matches!(Block::open(&two, &RW), Err(BlockError::InUse(_))));
}

#[test]
fn sizes_that_are_no_disks() {
    assert!(matches!(Block::open(image(0).as_path(), &RW), Err(BlockError::Empty(_))));
    for size in [1, 511, 513, 4095] {
        assert!(
            matches!(Block::open(image(size).as_path(), &RW), Err(BlockError::Size { size: found, .. }) if found == size)
        );
    }
    assert_eq!(Block::open(image(1536).as_path(), &RW).unwrap().sectors(), 3);
}

#[test]
fn things_that_are_no_disks() {
    assert!(matches!(Block::open(Path::new("/"), &RO), Err(BlockError::NotADisk(_))));
    assert!(matches!(Block::open(Path::new("/dev/null"), &RW), Err(BlockError::NotADisk(_))));
    let dir = TempDir::new().unwrap();
    let pipe = dir.as_path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // And it does not wait for somebody to open the other end.
    assert!(matches!(Block::open(&pipe, &RO), Err(BlockError::NotADisk(_))));
    let missing = dir.as_path().join("missing.img");
    let text = Block::open(&missing, &RW).unwrap_err().to_string();
    assert!(text.contains("missing.img") && text.contains("No such file") && text.contains("truncate"), "{text}");
}

/// What was logged, by all tests of this program.
struct Logged(std::sync::Mutex<Vec<String>>);

static LOGGED: Logged = Logged(std::sync::Mutex::new(Vec::new()));

impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }
    fn log(&self, record: &log::Record) {
        self.0.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

#[test]
fn the_user_learns_once_that_the_host_has_no_space() {
    log::set_logger(&LOGGED).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    // As a full file system does it: writes fail, and reads do not.
    let file = rustix::fs::memfd_create("full", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&file, 4096).unwrap();
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::WRITE).unwrap();
    let disk = crate::block::Disk::from_file(file.into(), Path::new("/disks/full.img"), &RW).unwrap();
    for _ in 0..3 {
        assert!(disk.zero(0, 512, true).is_err());
    }
    let logged = LOGGED.0.lock().unwrap();
    let ours: Vec<_> = logged.iter().filter(|l| l.contains("/disks/full.img")).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(ours[0].contains("not permitted") && ours[0].contains("I/O errors"), "{ours:?}");
}

#[test]
fn a_snapshot_leaves_the_file_as_it_is() {
    let image = image(64 << 10);
    let base: Vec<u8> = (0..64 << 10).map(|n| (n / 512) as u8 | 0x80).collect();
    std::fs::write(image.as_path(), &base).unwrap();
    let open = || Disk::open(image.as_path(), &SNAPSHOT).unwrap();
    let (disk, other) = (open(), open());
    assert!(matches!(Block::open(image.as_path(), &RW), Err(BlockError::InUse(_))));
    let mut expected = base.clone();
    let mut write = |offset: usize, length: usize, byte: u8| {
        let mut bytes = vec![byte; length];
        let (one, two) = bytes.split_at_mut(length / 3);
        disk.write(offset as u64, [VolatileSlice::from(one), VolatileSlice::from(two)].iter()).unwrap();
        expected[offset..offset + length].fill(byte);
    };
    write(512, 1024, 1);
    write(1024, 2048, 2);
    write(63 << 10, 1024, 3);
    disk.punch(4096, 1024).unwrap();
    disk.zero(8192, 512, true).unwrap();
    disk.zero(1024, 512, false).unwrap();
    disk.flush().unwrap();
    for range in [4096..5120, 8192..8704, 1024..1536] {
        expected[range].fill(0);
    }
    let read = |disk: &Disk, offset: usize, length: usize| {
        let mut bytes = vec![0xff; length];
        let (one, two) = bytes.split_at_mut(length / 7);
        disk.read(offset as u64, [VolatileSlice::from(one), VolatileSlice::from(two)].iter()).unwrap();
        bytes
    };
    for (offset, length) in [(0, 64 << 10), (512, 512), (1024, 4096), (4608, 3584), (60 << 10, 4096)] {
        assert!(read(&disk, offset, length) == expected[offset..offset + length], "{length} bytes at {offset}");
    }
    assert!(read(&other, 0, 64 << 10) == base && std::fs::read(image.as_path()).unwrap() == base);
}
