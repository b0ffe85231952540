// SPDX-License-Identifier: Apache-2.0
//! A function's configuration space (PCI Local Bus 3.0, chapter 6): who it is, where its BARs are,
//! and a list of capabilities that says what is where in them (4.1.4).

use virtio_bindings::virtio_ids::*;

use super::{part, value, Bar, Place, BAR_SIZE, NOTIFY_STRIDE, PENDING};

/// Bytes that it has; the rest of a page of ECAM is for capabilities of PCI Express, of which there
/// are none.
const SIZE: usize = 256;

/// The vendor of virtio devices, and the first device of version 1 (4.1.2).
const VENDOR: u16 = 0x1af4;
const FIRST_DEVICE: u16 = 0x1040;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const HEADER_TYPE: usize = 0x0e;
const FIRST_BAR: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
/// Capabilities; each place is the first one's.
const MSIX: usize = 0x40;
const MSIX_CONTROL: usize = MSIX + 2;
const VIRTIO: usize = 0x50;
const WINDOW: usize = VIRTIO + 3 * 16 + 24;
const WINDOW_DATA: usize = WINDOW + 16;

/// Bits of [`COMMAND`]: answer accesses to memory; make such accesses; raise no line.
const MEMORY: u16 = 1 << 1;
const MASTER: u16 = 1 << 2;
const NO_LINE: u16 = 1 << 10;
/// The bit of [`STATUS`] that says that there are capabilities.
const HAS_CAPABILITIES: u16 = 1 << 4;
/// The bit of [`HEADER_TYPE`] that says that the slot has several functions.
const SEVERAL: u8 = 1 << 7;
/// The bits of a BAR that say that it is of memory and has 64 bits.
const MEMORY_64: u32 = 0b100;
/// Bits of [`MSIX_CONTROL`]: messages are on; all of them are masked.
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;

const CAP_VENDOR: u8 = 0x09;
const CAP_MSIX: u8 = 0x11;
/// What a capability of virtio's tells of (4.1.4).
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// What of the configuration decides whether messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Switches {
    /// MSI-X is on, and the function may access memory, which a message is.
    pub on: bool,
    /// All messages are masked.
    pub mask_all: bool,
}

/// A configuration space.
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    /// Which bits a guest can write.
    writable: [u8; SIZE],
    /// The halves of BARs, in their order, that the guest has asked the size of.
    sizing: [bool; 4],
}

impl ConfigSpace {
    pub fn new(device_type: u32, messages: usize, place: Place) -> Self {
        let mut this = Self { bytes: [0; SIZE], writable: [0; SIZE], sizing: [false; 4] };
        let id = FIRST_DEVICE.wrapping_add(device_type as u16);
        this.set(0, &[VENDOR.to_le_bytes(), id.to_le_bytes()].concat());
        this.set(SUBSYSTEM, &[VENDOR.to_le_bytes(), id.to_le_bytes()].concat());
        this.set(STATUS, &HAS_CAPABILITIES.to_le_bytes());
        let [interface, sub, class] = class(device_type);
        this.set(REVISION, &[1, interface, sub, class]);
        this.set(HEADER_TYPE, &[if place.shared { SEVERAL } else { 0 }]);
        for (bar, address) in [(Bar::Registers, place.registers), (Bar::Messages, place.messages)] {
            let at = FIRST_BAR + 4 * usize::from(bar.index());
            this.set(at, &(address | u64::from(MEMORY_64)).to_le_bytes());
        }
        this.allow(COMMAND, &(MEMORY | MASTER | NO_LINE).to_le_bytes());
        // Nobody looks at it here; firmware notes there what it has found.
        this.allow(INTERRUPT_LINE, &[0xff]);
        this.add_capabilities(messages);
        this
    }

    fn add_capabilities(&mut self, messages: usize) {
        self.set(CAPABILITIES, &[MSIX as u8]);
        let last = (messages - 1) as u16;
        let bar = u32::from(Bar::Messages.index());
        self.set(MSIX, &[CAP_MSIX, VIRTIO as u8]);
        self.set(MSIX_CONTROL, &last.to_le_bytes());
        self.allow(MSIX_CONTROL, &(ENABLE | MASK_ALL).to_le_bytes());
        self.set(MSIX + 4, &bar.to_le_bytes());
        self.set(MSIX + 8, &(PENDING as u32 | bar).to_le_bytes());

        let mut at = VIRTIO;
        for (kind, offset, size) in [
            (COMMON_CFG, part::COMMON, part::COMMON_SIZE),
            (ISR_CFG, part::ISR, 1),
            (DEVICE_CFG, part::DEVICE, part::SIZE),
        ] {
            self.add_virtio(at, at + 16, kind, 16, offset, size);
            at += 16;
        }
        self.add_virtio(at, WINDOW, NOTIFY_CFG, 20, part::NOTIFY, part::SIZE);
        self.set(at + 16, &(NOTIFY_STRIDE as u32).to_le_bytes());
        self.add_virtio(WINDOW, 0, PCI_CFG, 20, 0, 0);
        // The BAR, and the offset and length in it, of the window.
        self.allow(WINDOW + 4, &[0xff]);
        self.allow(WINDOW + 8, &[0xff; 8]);
    }

    /// Puts the capability `kind` (struct virtio_pci_cap) at `at`; behind it is `next`.
    fn add_virtio(&mut self, at: usize, next: usize, kind: u8, length: u8, offset: u64, size: u64) {
        self.set(at, &[CAP_VENDOR, next as u8, length, kind, Bar::Registers.index()]);
        self.set(at + 8, &(offset as u32).to_le_bytes());
        self.set(at + 12, &(size as u32).to_le_bytes());
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        self.writable.iter_mut().skip(at).zip(bits).for_each(|(to, from)| *to = *from);
    }

    fn word(&self, at: usize) -> u16 {
        value(self.bytes.get(at..at + 2).unwrap_or_default()) as u16
    }

    fn dword(&self, at: usize) -> u32 {
        value(self.bytes.get(at..at + 4).unwrap_or_default()) as u32
    }

    /// Reads at `offset`; what is behind the end is zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = usize::try_from(at).map_or(0, |at| self.byte(at));
        }
    }

    fn byte(&self, at: usize) -> u8 {
        let half = at.checked_sub(FIRST_BAR).map(|at| at / 4);
        if half.and_then(|half| self.sizing.get(half)).copied().unwrap_or(false) {
            let size = if at % 8 < 4 { !(BAR_SIZE as u32 - 1) | MEMORY_64 } else { u32::MAX };
            return size.to_le_bytes()[at % 4];
        }
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Writes at `offset`, what can be written.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let Ok(offset) = usize::try_from(offset) else { return };
        self.write_bar(offset, data);
        for (at, new) in (offset..SIZE).zip(data) {
            if let (Some(byte), Some(writable)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = (*byte & !writable) | (new & writable);
            }
        }
    }

    /// All ones in a half of a BAR ask for its size (6.2.5.1), anything else is taken for where it
    /// is already.
    fn write_bar(&mut self, offset: usize, data: &[u8]) {
        let half = offset.checked_sub(FIRST_BAR).map(|at| at / 4);
        let all = offset % 4 == 0 && data.len() >= 4;
        // A write of 8 bytes is one of both halves.
        for (half, data) in (half.into_iter().flat_map(|half| half..)).zip(data.chunks(4)) {
            if let Some(sizing) = self.sizing.get_mut(half) {
                *sizing = all && *data == [0xff; 4];
            }
        }
    }

    /// Whether the function is to answer accesses to memory.
    pub fn decodes_memory(&self) -> bool {
        self.word(COMMAND) & MEMORY != 0
    }

    pub fn switches(&self) -> Switches {
        let control = self.word(MSIX_CONTROL);
        Switches { on: control & ENABLE != 0 && self.word(COMMAND) & MASTER != 0, mask_all: control & MASK_ALL != 0 }
    }

    /// What an access of `size` bytes at `offset` is an access to, if it is one to the window
    /// (4.1.4.9) and the driver has set that up for such an access.
    pub fn window(&self, offset: u64, size: usize) -> Option<(Bar, u64)> {
        let (at, length) = (u64::from(self.dword(WINDOW + 8)), self.dword(WINDOW + 12));
        let bar = Bar::at(self.byte(WINDOW + 4))?;
        let fits = matches!(length, 1 | 2 | 4) && at % u64::from(length) == 0 && at + u64::from(length) <= BAR_SIZE;
        (offset == WINDOW_DATA as u64 && size as u32 == length && fits).then_some((bar, at))
    }
}

/// What a device is to those who do not know virtio: interface, subclass, class (PCI Code and ID
/// Assignment, 1).
fn class(device_type: u32) -> [u8; 3] {
    match device_type {
        VIRTIO_ID_NET => [0, 0, 0x02],
        VIRTIO_ID_BLOCK | VIRTIO_ID_FS => [0, 0x80, 0x01],
        VIRTIO_ID_CONSOLE => [0, 0x80, 0x07],
        VIRTIO_ID_VSOCK => [0, 0x80, 0x02],
        _ => [0, 0, 0xff],
    }
}

const _: () = {
    assert!(WINDOW_DATA + 4 <= SIZE && WINDOW % 4 == 0);
    // What the BARs' sizes are made for.
    assert!(BAR_SIZE.is_power_of_two() && BAR_SIZE < 1 << 31);
};
