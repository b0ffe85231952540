// SPDX-License-Identifier: Apache-2.0
//! The PL031 real-time clock (Arm DDI 0224): seconds since 1970, set from the host's clock. Its alarm is not wired.

use crate::bus::MmioDevice;
use std::sync::Mutex;
use vm_superio::{rtc_pl031::NoEvents, Rtc};

/// A PL031.
pub struct Pl031(Mutex<Rtc<NoEvents>>);

impl Pl031 {
    /// A clock that shows the host's time.
    pub fn new() -> Self {
        Self(Mutex::new(Rtc::new()))
    }
}

impl Default for Pl031 {
    fn default() -> Self {
        Self::new()
    }
}

impl MmioDevice for Pl031 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut word = [0; 4];
        // Registers are words; the identification registers are read as bytes or halves by some drivers.
        let within = (offset & 3) as usize;
        self.0.lock().unwrap_or_else(|e| e.into_inner()).read((offset & 0xffc) as u16, &mut word);
        for (to, from) in data.iter_mut().zip(word.iter().skip(within)) {
            *to = *from;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Ok(word) = <&[u8; 4]>::try_from(data) {
            self.0.lock().unwrap_or_else(|e| e.into_inner()).write((offset & 0xfff) as u16, word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn it_shows_the_time_and_says_what_it_is() {
        let rtc = Pl031::new();
        let mut word = [0; 4];
        rtc.read(0, &mut word);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32;
        assert!(now.abs_diff(u32::from_le_bytes(word)) <= 2);
        // PeriphID0..3 and PCellID0..3, as the AMBA bus reads them.
        let ids: Vec<u8> = (0..8)
            .map(|i| {
                let mut word = [0; 4];
                rtc.read(0xfe0 + i * 4, &mut word);
                word[0]
            })
            .collect();
        assert_eq!(ids, [0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    }

    #[test]
    fn it_can_be_set() {
        let rtc = Pl031::new();
        rtc.write(8, &1_000_000u32.to_le_bytes());
        let mut word = [0; 4];
        rtc.read(0, &mut word);
        assert!((1_000_000..1_000_003).contains(&u32::from_le_bytes(word)));
    }
}
