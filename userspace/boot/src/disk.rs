// SPDX-License-Identifier: Apache-2.0
//! What is on a disk image: its partition table (GPT per UEFI 2.10 chapter 5, or MBR), whether the file is as long as
//! the table says, and where a root file system is.

use std::io;

const SECTOR: u64 = 512;

/// Anything that can be read at an offset; short reads past the end are errors.
pub trait ReadAt {
    /// Fills `buf` from the bytes at `offset`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }
}

/// A file system that Linux can have its root on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// SquashFS.
    Squashfs,
    /// EROFS.
    Erofs,
    /// F2FS.
    F2fs,
}

impl FileSystem {
    /// The name that mount(2) and the module tree know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::F2fs => "f2fs",
        }
    }

    /// Recognises the file system that starts at byte `at` of `disk`.
    pub fn probe(disk: &dyn ReadAt, at: u64) -> Option<Self> {
        let is = |offset: u64, magic: &[u8]| {
            let mut b = [0u8; 8];
            let b = &mut b[..magic.len()];
            disk.read_exact_at(b, at + offset).is_ok() && b == magic
        };
        if is(1024 + 56, &[0x53, 0xef]) {
            Some(Self::Ext4)
        } else if is(0, b"XFSB") {
            Some(Self::Xfs)
        } else if is(0x1_0040, b"_BHRfS_M") {
            Some(Self::Btrfs)
        } else if is(0, b"hsqs") {
            Some(Self::Squashfs)
        } else if is(1024, &0xe0f5_e1e2u32.to_le_bytes()) {
            Some(Self::Erofs)
        } else if is(1024, &0xf2f5_2010u32.to_le_bytes()) {
            Some(Self::F2fs)
        } else {
            None
        }
    }
}

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its number as Linux counts: `vda1` is 1.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// A partition table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// "GPT" or "MBR".
    pub kind: &'static str,
    /// The partitions, in the table's order, empty slots left out.
    pub partitions: Vec<Partition>,
    /// The size in bytes that the disk must at least have.
    pub needed: u64,
}

/// Reads the partition table of a disk of `size` bytes; `None` where there is none.
pub fn table(disk: &dyn ReadAt, size: u64) -> io::Result<Option<Table>> {
    if size < 2 * SECTOR {
        return Ok(None);
    }
    let mut sectors = [0u8; 1024];
    disk.read_exact_at(&mut sectors, 0)?;
    let (mbr, header) = sectors.split_at(512);
    if header.starts_with(b"EFI PART") {
        return Ok(Some(gpt(disk, header)?));
    }
    Ok(parse_mbr(mbr))
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4).and_then(|s| s.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    b.get(at..at + 8).and_then(|s| s.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn gpt(disk: &dyn ReadAt, header: &[u8]) -> io::Result<Table> {
    let backup = u64_at(header, 32);
    let entries_lba = u64_at(header, 72);
    let count = u32_at(header, 80).min(1024);
    let entry_size = u32_at(header, 84).clamp(128, 4096);
    let mut entries = vec![0u8; count as usize * entry_size as usize];
    let mut needed = backup.saturating_add(1).saturating_mul(SECTOR);
    let mut partitions = Vec::new();
    // A table that lies beyond the end is what `needed` reports.
    if disk.read_exact_at(&mut entries, entries_lba.saturating_mul(SECTOR)).is_ok() {
        for (i, e) in entries.chunks_exact(entry_size as usize).enumerate() {
            if e[..16].iter().all(|b| *b == 0) {
                continue;
            }
            let (first, last) = (u64_at(e, 32), u64_at(e, 40));
            if last < first {
                continue;
            }
            let size = (last - first).saturating_add(1).saturating_mul(SECTOR);
            let start = first.saturating_mul(SECTOR);
            needed = needed.max(start.saturating_add(size));
            partitions.push(Partition { number: i as u32 + 1, start, size });
        }
    }
    Ok(Table { kind: "GPT", partitions, needed })
}

/// A boot sector of a file system also ends in 55 AA: it is a table only if all four entries make sense.
fn parse_mbr(mbr: &[u8]) -> Option<Table> {
    if mbr.get(510..512) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let mut partitions = Vec::new();
    let mut needed = 0;
    for (i, e) in mbr[446..510].chunks_exact(16).enumerate() {
        if e.iter().all(|b| *b == 0) {
            continue;
        }
        let (start, sectors) = (u64::from(u32_at(e, 8)), u64::from(u32_at(e, 12)));
        if e[0] & 0x7f != 0 || e[4] == 0 || start == 0 || sectors == 0 {
            return None;
        }
        needed = needed.max((start + sectors) * SECTOR);
        partitions.push(Partition { number: i as u32 + 1, start: start * SECTOR, size: sectors * SECTOR });
    }
    (!partitions.is_empty()).then_some(Table { kind: "MBR", partitions, needed })
}

/// Where a root file system is on a disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Root {
    /// The partition's number, or `None` for the whole disk.
    pub partition: Option<u32>,
    /// What it is formatted with.
    pub file_system: FileSystem,
}

/// Finds the root file system: the whole disk if it holds one, else the largest partition that does.
pub fn find_root(disk: &dyn ReadAt, table: Option<&Table>) -> Option<Root> {
    let Some(table) = table else {
        return FileSystem::probe(disk, 0).map(|file_system| Root { partition: None, file_system });
    };
    let mut by_size = table.partitions.clone();
    by_size.sort_by_key(|p| std::cmp::Reverse(p.size));
    by_size.iter().find_map(|p| {
        FileSystem::probe(disk, p.start).map(|file_system| Root { partition: Some(p.number), file_system })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ReadAt for Vec<u8> {
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            let at = offset as usize;
            buf.copy_from_slice(self.get(at..at + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn mbr_entry(disk: &mut [u8], slot: usize, kind: u8, start: u32, sectors: u32) {
        let e = &mut disk[446 + slot * 16..462 + slot * 16];
        e[4] = kind;
        e[8..12].copy_from_slice(&start.to_le_bytes());
        e[12..16].copy_from_slice(&sectors.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    }

    fn gpt_disk(size: usize) -> Vec<u8> {
        let mut d = vec![0u8; size];
        mbr_entry(&mut d, 0, 0xee, 1, u32::MAX);
        d[512..520].copy_from_slice(b"EFI PART");
        d[512 + 32..512 + 40].copy_from_slice(&((size as u64 / 512) - 1).to_le_bytes());
        d[512 + 72..512 + 80].copy_from_slice(&2u64.to_le_bytes());
        d[512 + 80..512 + 84].copy_from_slice(&128u32.to_le_bytes());
        d[512 + 84..512 + 88].copy_from_slice(&128u32.to_le_bytes());
        for (slot, first, last) in [(0usize, 64u64, 127u64), (14, 128, 511)] {
            let e = &mut d[1024 + slot * 128..1024 + (slot + 1) * 128];
            e[0] = 1;
            e[32..40].copy_from_slice(&first.to_le_bytes());
            e[40..48].copy_from_slice(&last.to_le_bytes());
        }
        d
    }

    #[test]
    fn gpt_gives_size_and_partitions() {
        let d = gpt_disk(1 << 20);
        let t = table(&d, 1 << 20).unwrap().unwrap();
        assert_eq!((t.kind, t.needed), ("GPT", 1 << 20));
        assert_eq!(
            t.partitions,
            [
                Partition { number: 1, start: 64 * 512, size: 64 * 512 },
                Partition { number: 15, start: 128 * 512, size: 384 * 512 }
            ]
        );
    }

    #[test]
    fn a_cut_disk_needs_more_than_it_has() {
        let mut d = gpt_disk(1 << 20);
        d.truncate(1 << 19);
        assert_eq!(table(&d, 1 << 19).unwrap().unwrap().needed, 1 << 20);
        // Cut inside the table itself: the header alone tells.
        d.truncate(2048);
        assert_eq!(table(&d, 2048).unwrap().unwrap().needed, 1 << 20);
    }

    #[test]
    fn mbr_and_what_only_looks_like_it() {
        let mut d = vec![0u8; 4096];
        assert_eq!(table(&d, 4096).unwrap(), None);
        mbr_entry(&mut d, 1, 0x83, 2, 100);
        let t = table(&d, 4096).unwrap().unwrap();
        assert_eq!((t.kind, t.needed), ("MBR", 102 * 512));
        assert_eq!(t.partitions, [Partition { number: 2, start: 1024, size: 51200 }]);
        d[446 + 16] = b'N'; // text of a boot sector where the status byte would be
        assert_eq!(table(&d, 4096).unwrap(), None);
    }

    #[test]
    fn the_root_is_found() {
        let mut d = vec![0u8; 1 << 20];
        assert_eq!(find_root(&d, None), None);
        d[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(find_root(&d, None), Some(Root { partition: None, file_system: FileSystem::Ext4 }));

        let mut d = gpt_disk(1 << 20);
        d[64 * 512..64 * 512 + 4].copy_from_slice(b"XFSB");
        let t = table(&d, 1 << 20).unwrap();
        assert_eq!(find_root(&d, t.as_ref()), Some(Root { partition: Some(1), file_system: FileSystem::Xfs }));
        d[128 * 512 + 0x1_0040..128 * 512 + 0x1_0048].copy_from_slice(b"_BHRfS_M");
        assert_eq!(find_root(&d, t.as_ref()), Some(Root { partition: Some(15), file_system: FileSystem::Btrfs }));
    }
}
