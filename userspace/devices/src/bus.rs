// SPDX-License-Identifier: Apache-2.0
//! Finding the device that a guest's access belongs to.

use std::sync::Arc;

/// A device in the guest's physical address space. Any vCPU thread may call it at any time.
pub trait MmioDevice: Send + Sync {
    /// Answers a read of `data.len()` bytes (1, 2, 4 or 8) at `offset` from the device's base.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Takes a write of `data.len()` bytes (1, 2, 4 or 8) at `offset` from the device's base.
    fn write(&self, offset: u64, data: &[u8]);
}

/// A device did not fit on the bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the device at {base:#x} (size {size:#x}) overlaps another or is empty")]
pub struct Overlap {
    base: u64,
    size: u64,
}

struct Range {
    base: u64,
    /// The last byte.
    last: u64,
    device: Arc<dyn MmioDevice>,
}

/// Devices by address.
///
/// # Invariants
/// The ranges are sorted and do not overlap.
#[derive(Default)]
pub struct Bus {
    ranges: Vec<Range>,
}

impl Bus {
    /// A bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at `size` bytes from `base`.
    pub fn insert(&mut self, base: u64, size: u64, device: Arc<dyn MmioDevice>) -> Result<(), Overlap> {
        let overlap = Overlap { base, size };
        let last = size.checked_sub(1).and_then(|s| base.checked_add(s)).ok_or(Overlap { base, size })?;
        let at = self.ranges.partition_point(|r| r.last < base);
        if self.ranges.get(at).is_some_and(|next| next.base <= last) {
            return Err(overlap);
        }
        // INVARIANT: everything before `at` ends below `base`, everything from `at` on begins above `last`.
        self.ranges.insert(at, Range { base, last, device });
        Ok(())
    }

    fn find(&self, address: u64, length: usize) -> Option<(&dyn MmioDevice, u64)> {
        let at = self.ranges.partition_point(|r| r.last < address);
        let range = self.ranges.get(at)?;
        let last = address.checked_add(length as u64)?.checked_sub(1)?;
        (range.base <= address && last <= range.last).then(|| (&*range.device, address - range.base))
    }

    /// Reads from the device at `address`. False where there is none; `data` is then all zeros.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        data.fill(0);
        let Some((device, offset)) = self.find(address, data.len()) else { return false };
        device.read(offset, data);
        true
    }

    /// Writes to the device at `address`. False where there is none.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        let Some((device, offset)) = self.find(address, data.len()) else { return false };
        device.write(offset, data);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Probe(Mutex<Vec<(u64, Vec<u8>)>>);

    impl MmioDevice for Probe {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8 + 1);
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    fn bus() -> (Bus, [Arc<Probe>; 3]) {
        let probes = [(); 3].map(|()| Arc::new(Probe::default()));
        let mut bus = Bus::new();
        // Not in order, two of them side by side.
        for (i, base) in [(1, 0x2000), (0, 0x1000), (2, 0x9000)] {
            bus.insert(base, 0x1000, probes[i].clone()).unwrap();
        }
        (bus, probes)
    }

    #[test]
    fn accesses_reach_their_device_with_their_offset() {
        let (bus, probes) = bus();
        assert!(bus.write(0x1fff, &[1]));
        assert!(bus.write(0x2000, &[2, 3]));
        assert!(bus.write(0x9ff8, &[0; 8]));
        assert_eq!(*probes[0].0.lock().unwrap(), [(0xfff, vec![1])]);
        assert_eq!(*probes[1].0.lock().unwrap(), [(0, vec![2, 3])]);
        assert_eq!(*probes[2].0.lock().unwrap(), [(0xff8, vec![0; 8])]);
        let mut data = [0; 2];
        assert!(bus.read(0x2004, &mut data));
        assert_eq!(data, [5, 5]);
    }

    #[test]
    fn holes_read_as_zero_and_straddling_accesses_go_nowhere() {
        let (bus, probes) = bus();
        for address in [0, 0xfff, 0x3000, 0x8fff, 0xa000, u64::MAX] {
            let mut data = [0xff];
            assert!(!bus.read(address, &mut data), "{address:#x}");
            assert_eq!(data, [0]);
        }
        assert!(!bus.write(0x1fff, &[0, 0]));
        assert!(!bus.write(u64::MAX, &[0, 0]));
        assert!(probes.iter().all(|p| p.0.lock().unwrap().is_empty()));
    }

    #[test]
    fn overlaps_are_refused() {
        let (mut bus, probes) = bus();
        for (base, size) in
            [(0x1000, 1), (0x1fff, 1), (0x0, 0x1001), (0x2fff, 0x10), (0, 0x10000), (0x4000, 0), (u64::MAX, 2)]
        {
            assert!(bus.insert(base, size, probes[0].clone()).is_err(), "{base:#x}+{size:#x}");
        }
        assert!(bus.insert(0x3000, 0x6000, probes[0].clone()).is_ok());
    }
}
