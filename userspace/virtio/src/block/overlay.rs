// SPDX-License-Identifier: Apache-2.0
//! What a guest has written to a disk that is to stay as it is: in a file without a name, which goes away with the guest.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vm_memory::VolatileSlice;

use super::{iovec, SECTOR};

/// A file over another one, as long as that. Ranges are whole sectors.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    directory: PathBuf,
    written: Mutex<Sectors>,
}

impl Overlay {
    /// Nothing has been written to a disk of `size` bytes. The file is in TMPDIR, or in /var/tmp, or else in /tmp.
    pub fn new(size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE | libc::O_EXCL);
        let open = |directory: &Path| io::Result::Ok((options.open(directory)?, directory.to_owned()));
        let (file, directory) = match std::env::var_os("TMPDIR") {
            Some(directory) => open(directory.as_ref()),
            None => open("/var/tmp".as_ref()).or_else(|_| open("/tmp".as_ref())),
        }?;
        file.set_len(size)?;
        Ok(Self { file, directory, written: Mutex::new(Sectors::new(size / SECTOR)) })
    }

    /// The file, for the ranges that are [`Self::take`]n.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the file takes its space.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Fills `to`, from here or from `below`.
    pub fn read<'m>(
        &self,
        below: &File,
        offset: u64,
        to: impl Iterator<Item = &'m VolatileSlice<'m>>,
    ) -> io::Result<()> {
        let slices: Vec<_> = to.collect();
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let end = (offset + length as u64) / SECTOR;
        let mut sector = offset / SECTOR;
        while sector < end {
            let (here, next) = self.written().run(sector, end);
            let file = if here { &self.file } else { below };
            let at = sector * SECTOR;
            let part = cut(&slices, (at - offset) as usize, ((next - sector) * SECTOR) as usize);
            iovec::read_at(file, at, part.iter())?;
            sector = next;
        }
        Ok(())
    }

    /// The range is the overlay's from now on.
    pub fn take(&self, offset: u64, length: u64) {
        self.written().set(offset / SECTOR, (offset + length) / SECTOR);
    }

    fn written(&self) -> MutexGuard<'_, Sectors> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `length` bytes of what `slices` are together, from the byte `from` on.
fn cut<'m>(slices: &[&'m VolatileSlice<'m>], mut from: usize, mut length: usize) -> Vec<VolatileSlice<'m>> {
    let mut part = Vec::new();
    for slice in slices {
        let skipped = from.min(slice.len());
        let taken = length.min(slice.len() - skipped);
        if let Ok(piece) = slice.subslice(skipped, taken) {
            part.push(piece);
        }
        from -= skipped;
        length -= taken;
    }
    part
}

/// A bit for each sector. Where none is set the host has no memory for them.
#[derive(Debug)]
struct Sectors(Vec<u64>);

impl Sectors {
    fn new(count: u64) -> Self {
        Self(vec![0; usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX)])
    }

    fn word(&self, sector: u64) -> u64 {
        self.0.get((sector / 64) as usize).copied().unwrap_or(0)
    }

    /// Sets the bits from `from` to before `end`.
    fn set(&mut self, mut from: u64, end: u64) {
        while from < end {
            let bits = (64 - from % 64).min(end - from);
            if let Some(word) = self.0.get_mut((from / 64) as usize) {
                *word |= (u64::MAX >> (64 - bits)) << (from % 64);
            }
            from += bits;
        }
    }

    /// Whether the bit `from` is set, and up to where, at most `end`, the following ones are like it.
    fn run(&self, from: u64, end: u64) -> (bool, u64) {
        let set = self.word(from) >> (from % 64) & 1 == 1;
        let mut at = from;
        while at < end {
            let word = self.word(at);
            let others = if set { !word } else { word } >> (at % 64);
            if others != 0 {
                at += u64::from(others.trailing_zeros());
                break;
            }
            at += 64 - at % 64;
        }
        (set, at.min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_those_of_single_bits(ranges in prop::collection::vec((0u64..400, 0u64..150), 0..12)) {
            let mut sectors = Sectors::new(500);
            let mut model = [false; 500];
            for (from, length) in ranges {
                let end = (from + length).min(500);
                sectors.set(from, end);
                (from..end).for_each(|n| model[n as usize] = true);
            }
            for (from, end) in [(0, 500), (3, 499), (64, 128), (127, 129)] {
                let mut at = from;
                while at < end {
                    let (set, next) = sectors.run(at, end);
                    prop_assert!(next > at && next <= end);
                    prop_assert!((at..next).all(|n| model[n as usize] == set));
                    prop_assert!(next == end || model[next as usize] != set);
                    at = next;
                }
            }
        }
    }
}
