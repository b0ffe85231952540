// SPDX-License-Identifier: Apache-2.0
//! The PL061 GPIO controller (Arm DDI 0190), with a power button at one of its lines. Its outputs
//! lead nowhere.

use crate::bus::MmioDevice;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

/// The line at which the power button is.
pub const BUTTON: u8 = 3;
/// How long the button stays down at least: longer than a driver waits for it to stop bouncing.
const DOWN: Duration = Duration::from_millis(100);
/// How much longer it does while nobody has looked at it: a guest may not get to run so soon.
const UNSEEN: Duration = Duration::from_secs(2);

/// Offsets of registers. The data register is all below, its address the mask of its bits.
mod register {
    pub const DIR: u64 = 0x400;
    pub const IS: u64 = 0x404;
    pub const IBE: u64 = 0x408;
    pub const IEV: u64 = 0x40c;
    pub const IE: u64 = 0x410;
    pub const RIS: u64 = 0x414;
    pub const MIS: u64 = 0x418;
    pub const IC: u64 = 0x41c;
    pub const AFSEL: u64 = 0x420;
    pub const IDS: u64 = 0xfe0;
}

/// PeriphID0..3 and PCellID0..3.
const IDS: [u8; 8] = [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// A bit for each of the eight lines.
#[derive(Default)]
struct Lines {
    /// What comes from outside.
    input: u8,
    output: u8,
    direction: u8,
    /// By level, not by edge.
    level: u8,
    both_edges: u8,
    /// High, or the rising edge.
    rising: u8,
    enabled: u8,
    /// Edges that have been seen.
    edges: u8,
    function: u8,
    /// The lines that have been read since their input changed.
    seen: u8,
}

impl Lines {
    fn data(&self) -> u8 {
        self.input & !self.direction | self.output & self.direction
    }

    /// What asks for an interrupt, enabled or not.
    fn raw(&self) -> u8 {
        let levels = !(self.data() ^ self.rising);
        self.edges & !self.level | levels & self.level
    }

    fn pending(&self) -> u8 {
        self.raw() & self.enabled
    }

    /// Takes note of what has changed since the lines were `before`.
    fn see_edges(&mut self, before: u8) {
        let now = self.data();
        let wanted = self.both_edges | !(now ^ self.rising);
        self.edges |= (now ^ before) & wanted & !self.level;
    }
}

/// A PL061.
pub struct Pl061 {
    lines: Mutex<Lines>,
    read: Condvar,
    interrupt: EventFd,
}

impl Pl061 {
    /// A controller that signals `interrupt` when something more asks for one.
    pub fn new(interrupt: EventFd) -> Self {
        Self { lines: Mutex::default(), read: Condvar::new(), interrupt }
    }

    /// Presses the power button, and lets it go after 100 ms, or when the guest has looked at it,
    /// which is waited for 2 s more.
    pub fn press_button(&self) {
        self.set(1 << BUTTON);
        std::thread::sleep(DOWN);
        let unseen = |lines: &mut Lines| lines.seen & 1 << BUTTON == 0;
        drop(self.read.wait_timeout_while(self.locked(), UNSEEN, unseen));
        self.set(0);
    }

    fn set(&self, input: u8) {
        self.change(|lines| (lines.input, lines.seen) = (input, 0));
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        let mut lines = self.locked();
        let (data, pending) = (lines.data(), lines.pending());
        change(&mut lines);
        lines.see_edges(data);
        if lines.pending() & !pending != 0 {
            let _ = self.interrupt.write(1);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl MmioDevice for Pl061 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut lines = self.locked();
        let value = match offset & !3 {
            masked @ 0..=0x3ff => {
                lines.seen |= (masked >> 2) as u8;
                self.read.notify_all();
                lines.data() & (masked >> 2) as u8
            }
            register::DIR => lines.direction,
            register::IS => lines.level,
            register::IBE => lines.both_edges,
            register::IEV => lines.rising,
            register::IE => lines.enabled,
            register::RIS => lines.raw(),
            register::MIS => lines.pending(),
            register::AFSEL => lines.function,
            id @ register::IDS..=0xfff => IDS[((id - register::IDS) >> 2) as usize % IDS.len()],
            _ => 0,
        };
        data.fill(0);
        if let (Some(byte), 0) = (data.first_mut(), offset & 3) {
            *byte = value;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (Some(value), 0) = (data.first().copied(), offset & 3) else { return };
        self.change(|lines| match offset {
            masked @ 0..=0x3ff => {
                let mask = (masked >> 2) as u8;
                lines.output = lines.output & !mask | value & mask;
            }
            register::DIR => lines.direction = value,
            register::IS => lines.level = value,
            register::IBE => lines.both_edges = value,
            register::IEV => lines.rising = value,
            register::IE => lines.enabled = value,
            register::IC => lines.edges &= !value,
            register::AFSEL => lines.function = value,
            _ => {}
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    fn controller() -> (Pl061, EventFd) {
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        (Pl061::new(interrupt.try_clone().unwrap()), interrupt)
    }

    fn read(device: &Pl061, offset: u64) -> u32 {
        let mut word = [0xff; 4];
        device.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    #[test]
    fn it_says_what_it_is() {
        let (device, _) = controller();
        let ids: Vec<u32> = (0..8).map(|n| read(&device, 0xfe0 + 4 * n)).collect();
        assert_eq!(ids, [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    }

    #[test]
    fn a_button_waits_for_a_guest_that_is_slow() {
        let (device, _) = controller();
        std::thread::scope(|scope| {
            let press = scope.spawn(|| device.press_button());
            std::thread::sleep(3 * DOWN);
            // Another line is of no interest.
            assert_eq!((read(&device, 1 << 2), press.is_finished()), (0, false));
            assert_eq!(read(&device, 1 << (BUTTON + 2)), 1 << BUTTON);
            press.join().unwrap();
        });
        assert_eq!(read(&device, 0x3fc), 0);
    }

    #[test]
    fn a_button_that_is_pressed_makes_two_edges() {
        let (device, interrupt) = controller();
        device.press_button();
        assert!(interrupt.read().is_err(), "nobody has asked for an interrupt");
        device.write(register::IC, &[0xff]);
        device.write(register::IBE, &[1 << BUTTON]);
        device.write(register::IE, &[1 << BUTTON]);
        device.set(1 << BUTTON);
        assert_eq!(interrupt.read().unwrap(), 1);
        assert_eq!((read(&device, register::MIS), read(&device, 0x3fc), read(&device, 0x3fc & !(8 << 2))), (8, 8, 0));
        device.write(register::IC, &[8]);
        assert_eq!((read(&device, register::MIS), interrupt.read().is_err()), (0, true));
        device.set(0);
        assert_eq!((interrupt.read().unwrap(), read(&device, register::RIS), read(&device, 0x3fc)), (1, 8, 0));
    }

    #[test]
    fn one_edge_or_a_level() {
        let (device, interrupt) = controller();
        device.write(register::IE, &[1 << BUTTON]);
        device.set(1 << BUTTON);
        assert!(interrupt.read().is_err(), "it waits for the falling edge");
        device.set(0);
        assert!(interrupt.read().is_ok());
        device.write(register::IC, &[8]);
        // By level it stays as long as the line is high.
        device.write(register::IEV, &[8]);
        device.write(register::IS, &[8]);
        device.set(1 << BUTTON);
        device.write(register::IC, &[8]);
        assert_eq!((interrupt.read().unwrap(), read(&device, register::MIS)), (1, 8));
        device.set(0);
        assert_eq!(read(&device, register::MIS), 0);
    }

    #[test]
    fn outputs_lead_nowhere() {
        let (device, _) = controller();
        device.write(register::DIR, &[0x0f]);
        device.write(0x05 << 2, &[0xff]);
        assert_eq!((read(&device, 0x3fc), read(&device, register::DIR)), (5, 0x0f));
        // What drives a line itself does not see what comes from outside.
        device.set(1 << BUTTON);
        assert_eq!(read(&device, 0x3fc), 5);
    }
}
