// SPDX-License-Identifier: Apache-2.0
//! Decoding the binary statistics format (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD).

use std::io;
use std::os::unix::fs::FileExt;

const TYPE_MASK: u32 = 0xf;
const TYPE_CUMULATIVE: u32 = 0;
/// More descriptors than this are not believed.
const MAX_DESCRIPTORS: usize = 4096;
/// More bytes of values than these are not believed.
const MAX_DATA: usize = 1 << 20;
/// Bytes of a descriptor before its name.
const DESCRIPTOR: usize = 16;

/// Reads the cumulative counters that are single numbers, in the file's order.
pub fn parse(file: &dyn ReadAt) -> io::Result<Vec<(String, u64)>> {
    let mut header = [0; 24];
    file.read_exact_at(&mut header, 0)?;
    let word = |i: usize| header.get(i * 4..i * 4 + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (name_size, count, descriptors, data) = (word(1) as usize, word(2) as usize, word(4), word(5));
    if count > MAX_DESCRIPTORS || name_size > 4096 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut table = vec![0; count * (DESCRIPTOR + name_size)];
    file.read_exact_at(&mut table, descriptors.into())?;
    let mut found = Vec::new();
    for entry in table.chunks_exact(DESCRIPTOR + name_size) {
        let (fixed, name) = entry.split_at(DESCRIPTOR);
        let flags = u32::from_le_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]);
        let size = u16::from_le_bytes([fixed[6], fixed[7]]);
        let offset = u32::from_le_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        if flags & TYPE_MASK != TYPE_CUMULATIVE || size != 1 {
            continue;
        }
        let name = String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
        found.push((name, offset as usize));
    }
    // All values at once: each read makes the hypervisor collect all of them.
    let end = found.iter().map(|(_, offset)| offset + 8).max().unwrap_or(0);
    if end > MAX_DATA {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut values = vec![0; end];
    file.read_exact_at(&mut values, data.into())?;
    let value = |at: usize| values.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    Ok(found.into_iter().map(|(name, offset)| (name, value(offset))).collect())
}

/// What [`parse`] reads from.
pub trait ReadAt {
    /// Fills `buf` from the bytes at `offset`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
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

    fn file() -> Vec<u8> {
        let mut f = Vec::new();
        for word in [0u32, 48, 3, 24, 32, 32 + 3 * 64] {
            f.extend(word.to_le_bytes());
        }
        f.resize(32, 0);
        // name, flags, number of values, offset
        for (name, flags, size, offset) in
            [("exits", 0u32, 1u16, 0u32), ("halt_wait_hist", 0x4, 32, 8), ("mmio_exit_user", 0, 1, 16)]
        {
            f.extend(flags.to_le_bytes());
            f.extend(0i16.to_le_bytes());
            f.extend(size.to_le_bytes());
            f.extend(offset.to_le_bytes());
            f.extend(0u32.to_le_bytes());
            let mut n = name.as_bytes().to_vec();
            n.resize(48, 0);
            f.extend(n);
        }
        for value in [41u64, 0, 7] {
            f.extend(value.to_le_bytes());
        }
        f
    }

    #[test]
    fn counters_are_read_and_histograms_left_out() {
        assert_eq!(parse(&file()).unwrap(), [("exits".into(), 41), ("mmio_exit_user".into(), 7)]);
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let mut f = file();
        f.pop();
        assert!(parse(&f).is_err());
    }
}
