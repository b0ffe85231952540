// SPDX-License-Identifier: GPL-2.0

//! The machine's own reading of a descriptor.

const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
pub const AF: u64 = 1 << 10;
const S2AP: u64 = 0b11 << 6;
const XN: u64 = 0b11 << 53;

/// What the CPU makes of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invalid,
    Table(u64),
    Leaf(u64),
}

/// Bytes that a descriptor covers, by log2 of the bytes of a page: a table resolves three bits less than a page.
pub const fn size(shift: u32, level: u8) -> u64 {
    1 << (shift + (shift - 3) * (3 - level as u32))
}

pub fn kind(shift: u32, level: u8, descriptor: u64) -> Kind {
    match (level, descriptor & 0b11) {
        (0..=2, 0b11) => Kind::Table(descriptor & ADDRESS),
        (2, 0b01) | (3, 0b11) => Kind::Leaf(descriptor & ADDRESS),
        (1, 0b01) if shift == 12 => Kind::Leaf(descriptor & ADDRESS),
        (_, 0b00) | (_, 0b10) => Kind::Invalid,
        _ => panic!("{descriptor:#x} is reserved at level {level}"),
    }
}

/// (read, write, execute)
pub fn perm(descriptor: u64) -> (bool, bool, bool) {
    (
        (descriptor >> 6) & 1 != 0,
        (descriptor >> 7) & 1 != 0,
        (descriptor >> 53) & 0b11 == 0,
    )
}

pub fn mem_attr(descriptor: u64) -> u64 {
    (descriptor >> 2) & 0xf
}

/// Normal, cacheable.
pub fn is_ram(descriptor: u64, fwb: bool) -> bool {
    mem_attr(descriptor) == if fwb { 0b0110 } else { 0b1111 }
}

/// Whether a leaf may become the other without break-before-make: they differ in permissions and access flag only.
pub fn is_update(old: u64, new: u64) -> bool {
    (old ^ new) & !(AF | S2AP | XN) == 0
}

/// Whether a CPU that has `cached` does nothing that `live` forbids.
pub fn allows(live: u64, cached: u64) -> bool {
    let (r, w, x) = perm(live);
    let (cr, cw, cx) = perm(cached);
    is_update(live, cached) && (r || !cr) && (w || !cw) && (x || !cx)
}
