// SPDX-License-Identifier: GPL-2.0

//! An ITS's registers (IHI 0069, section 12.19), for the guest and for userspace, which saves and restores them.

use super::{Collection, Device, Env, Event, Its, Map, Registers, Translation};
use super::{DEVICE_BITS, EVENT_BITS};

/// Bytes of address space that an ITS takes: its registers, then the page that messages are written to.
pub const FRAME_SIZE: u64 = 0x2_0000;
/// GITS_TRANSLATER: where devices write their messages.
pub const TRANSLATER: u64 = 0x1_0040;

/// Why userspace cannot have a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// The offset is not a multiple of what this register's is: EINVAL.
    Alignment,
    /// There is none: ENXIO.
    NoRegister,
    /// A value that it cannot take: EINVAL.
    Value,
    /// Not while the ITS is enabled: EBUSY.
    Enabled,
}

/// The registers that are not reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Ctlr,
    Iidr,
    Typer,
    Cbaser,
    Cwriter,
    Creadr,
    Devices,
    Collections,
    /// GITS_BASER2 to 7: there are no more tables.
    NoTable,
    /// GITS_PIDR4 to GITS_CIDR3, by the offset.
    Id(u32),
}

const PIDR4: u32 = 0xffd0;
const TYPER: u32 = 0x8;

impl Register {
    /// The one at an offset, with the offset that it begins at.
    fn find(offset: u32) -> Option<(Self, u32)> {
        let found = match offset {
            0x0..=0x3 => (Self::Ctlr, 0x0),
            0x4..=0x7 => (Self::Iidr, 0x4),
            TYPER..=0xf => (Self::Typer, TYPER),
            0x80..=0x87 => (Self::Cbaser, 0x80),
            0x88..=0x8f => (Self::Cwriter, 0x88),
            0x90..=0x97 => (Self::Creadr, 0x90),
            0x100..=0x107 => (Self::Devices, 0x100),
            0x108..=0x10f => (Self::Collections, 0x108),
            0x110..=0x13f => (Self::NoTable, offset & !7),
            PIDR4..=0xffff => (Self::Id(offset & !3), offset & !3),
            _ => return None,
        };
        Some(found)
    }

    fn is_wide(self) -> bool {
        !matches!(self, Self::Ctlr | Self::Iidr | Self::Id(_))
    }
}

/// One access of the guest's.
#[derive(Clone, Copy)]
struct Access {
    register: Register,
    /// Of the register's 64 bits.
    upper: bool,
    whole: bool,
}

impl Access {
    /// `None`: not a register, or not with this size and alignment.
    fn new(offset: u32, size: u8) -> Option<Self> {
        let (register, start) = Register::find(offset)?;
        let within = offset.wrapping_sub(start);
        let fits = match size {
            4 => within == 0 || (within == 4 && register.is_wide()),
            8 => within == 0 && register.is_wide(),
            _ => false,
        };
        fits.then_some(Self {
            register,
            upper: within == 4,
            whole: size == 8,
        })
    }

    fn extract(self, value: u64) -> u64 {
        match (self.whole, self.upper) {
            (true, _) => value,
            (false, false) => value & 0xffff_ffff,
            (false, true) => value >> 32,
        }
    }

    fn merge(self, old: u64, value: u64) -> u64 {
        match (self.whole, self.upper) {
            (true, _) => value,
            (false, false) => old & !0xffff_ffff | value & 0xffff_ffff,
            (false, true) => old & 0xffff_ffff | value << 32,
        }
    }
}

/// GITS_CTLR.Enabled and Quiescent.
const ENABLED: u64 = 1 << 0;
const QUIESCENT: u64 = 1 << 31;

/// GITS_CBASER.Valid and GITS_BASER.Valid.
const VALID: u64 = 1 << 63;
/// GITS_BASER.Indirect.
const INDIRECT: u64 = 1 << 62;

/// GITS_TYPER.Physical; GITS_TYPER.PTA is 0: vCPUs are named by their numbers.
const PHYSICAL: u64 = 1 << 0;

/// Bytes of an entry, of all tables, in revision 0 of the layout.
pub(super) const ENTRY: u64 = 8;
/// Bytes of the pages that the guest's tables are made of.
pub(super) const PAGE: u64 = 0x1_0000;

/// GITS_IIDR: as KVM's, revision 0.
const IIDR: u32 = 0x4b << 24 | 0x43b;
const IIDR_REVISION: u64 = 0xf << 12;

/// GITS_BASER.Type.
const TYPE_SHIFT: u32 = 56;
const TYPE_DEVICES: u64 = 1;
const TYPE_COLLECTIONS: u64 = 4;
/// GITS_BASER.Entry_Size and Page_Size.
const ENTRY_SIZE: u64 = (ENTRY - 1) << 48;
const PAGE_SIZE_64K: u64 = 2 << 8;
/// Entry_Size, Type and Page_Size, which are not the guest's to choose.
const BASER_FIXED: u64 = 0x1f << 48 | 7 << TYPE_SHIFT | 3 << 8;

/// The fields that say how memory is accessed are in the same places in GITS_BASER and GITS_CBASER: 61:59 inner
/// cacheability, 55:53 outer, 11:10 shareability. All accesses here are cacheable and inner shareable, so what asks for
/// something else reads back as that.
fn memory_attributes(value: u64) -> u64 {
    let (inner, outer, shareability) = (value >> 59 & 7, value >> 53 & 7, value >> 10 & 3);
    let inner = if inner <= 1 { 3 } else { inner };
    let outer = if outer > 1 { 0 } else { outer };
    let shareability = if shareability == 2 { 1 } else { shareability };
    let fields = 7 << 59 | 7 << 53 | 3 << 10;
    value & !fields | inner << 59 | outer << 53 | shareability << 10
}

/// That shareability.
const INNER_SHAREABLE: u64 = 1 << 10;

fn baser(value: u64, kind: u64) -> u64 {
    memory_attributes(value & !BASER_FIXED) | ENTRY_SIZE | kind << TYPE_SHIFT | PAGE_SIZE_64K
}

/// A table of the guest's, as a GITS_BASER describes it.
#[derive(Clone, Copy)]
pub(super) struct GuestTable(u64);

impl GuestTable {
    pub(super) fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// The entries are in pages that this table has the addresses of.
    pub(super) fn is_indirect(self) -> bool {
        self.0 & INDIRECT != 0
    }

    /// Bits 47:16 of the address are in their place, 51:48 are in 15:12.
    pub(super) fn address(self) -> u64 {
        self.0 & 0xffff_ffff_0000 | (self.0 >> 12 & 0xf) << 48
    }

    /// Bytes.
    pub(super) fn size(self) -> u64 {
        ((self.0 & 0xff) + 1) * PAGE
    }
}

/// What GITS_CREADR and GITS_CWRITER hold: an offset into the queue.
const QUEUE_OFFSET: u64 = 0xf_ffe0;

impl Registers {
    pub(super) fn new() -> Self {
        Self {
            enabled: false,
            cbaser: 0,
            cwriter: 0,
            creadr: 0,
            devices: baser(INNER_SHAREABLE, TYPE_DEVICES),
            collections: baser(INNER_SHAREABLE, TYPE_COLLECTIONS),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self {
            devices: self.devices & !VALID,
            collections: self.collections & !VALID,
            ..Self::new()
        };
    }

    fn read(&self, register: Register) -> u64 {
        match register {
            Register::Ctlr => {
                let quiescent = self.creadr == self.cwriter;
                u64::from(self.enabled) * ENABLED + u64::from(quiescent) * QUIESCENT
            }
            Register::Iidr => IIDR.into(),
            Register::Typer => {
                PHYSICAL
                    | (ENTRY - 1) << 4
                    | u64::from(EVENT_BITS - 1) << 8
                    | u64::from(DEVICE_BITS - 1) << 13
            }
            Register::Cbaser => self.cbaser,
            Register::Cwriter => self.cwriter,
            Register::Creadr => self.creadr,
            Register::Devices => self.devices,
            Register::Collections => self.collections,
            Register::NoTable => 0,
            // The identification that Arm's own ITS has.
            Register::Id(offset) => match offset {
                PIDR4 => 0x40,
                0xffe0 => 0x92,
                0xffe4 => 0xb4,
                0xffe8 => 0x3b,
                0xfff0 => 0x0d,
                0xfff4 => 0xf0,
                0xfff8 => 0x05,
                0xfffc => 0xb1,
                _ => 0,
            },
        }
    }

    /// The command queue's address.
    pub(super) fn queue(&self) -> u64 {
        self.cbaser & 0xf_ffff_ffff_0000
    }

    /// Its size in bytes, a multiple of 4 KiB.
    pub(super) fn queue_size(&self) -> u64 {
        ((self.cbaser & 0xff) + 1) << 12
    }

    pub(super) fn device_table(&self) -> GuestTable {
        GuestTable(self.devices)
    }

    pub(super) fn collection_table(&self) -> GuestTable {
        GuestTable(self.collections)
    }
}

impl<D, C, E> Its<D, C, E>
where
    D: Map<u32, Device>,
    C: Map<u16, Collection>,
    E: Map<Event, Translation>,
{
    /// The guest reads `size` bytes at `offset` of the frame. What is not a register reads as zero.
    pub fn read(&self, offset: u32, size: u8) -> u64 {
        Access::new(offset, size).map_or(0, |access| {
            access.extract(self.registers.read(access.register))
        })
    }

    /// The guest writes `size` bytes at `offset` of the frame. A write to what is not a register is ignored.
    pub fn write(&mut self, env: &mut impl Env, offset: u32, size: u8, value: u64) {
        if let Some(access) = Access::new(offset, size) {
            let old = self.registers.read(access.register);
            self.set(env, access.register, access.merge(old, value));
        }
    }

    fn set(&mut self, env: &mut impl Env, register: Register, value: u64) {
        let registers = &mut self.registers;
        match register {
            Register::Ctlr => self.enable(env, value & ENABLED != 0),
            Register::Cwriter => {
                if value & QUEUE_OFFSET < registers.queue_size() {
                    registers.cwriter = value & QUEUE_OFFSET;
                    self.run_commands(env);
                }
            }
            // These cannot be written while the ITS is enabled.
            _ if registers.enabled => {}
            Register::Cbaser => {
                // Bits 15:12 of the address are zero. The queue is empty then.
                registers.cbaser = memory_attributes(value & !0xf000);
                (registers.creadr, registers.cwriter) = (0, 0);
            }
            Register::Devices => {
                let new = baser(value, TYPE_DEVICES);
                if core::mem::replace(&mut registers.devices, new) != new {
                    self.forget_devices(env);
                }
            }
            Register::Collections => {
                // That table is never indirect.
                let new = baser(value & !INDIRECT, TYPE_COLLECTIONS);
                if core::mem::replace(&mut registers.collections, new) != new {
                    self.orphan_events(env);
                    self.forget_collections();
                }
            }
            Register::Iidr
            | Register::Typer
            | Register::Creadr
            | Register::NoTable
            | Register::Id(_) => {}
        }
    }

    fn enable(&mut self, env: &mut impl Env, enable: bool) {
        let registers = &mut self.registers;
        let complete = registers.devices & registers.collections & registers.cbaser & VALID != 0;
        // Enabling it without its tables is UNPREDICTABLE: it stays disabled.
        registers.enabled = enable && (registers.enabled || complete);
        self.run_commands(env);
    }

    /// Whether userspace can save a register (KVM_HAS_DEVICE_ATTR).
    pub fn user_has(offset: u64) -> Result<(), RegisterError> {
        user_register(offset).map(|_| ())
    }

    /// Userspace reads a register, whole.
    pub fn user_read(&self, offset: u64) -> Result<u64, RegisterError> {
        Ok(self.registers.read(user_register(offset)?))
    }

    /// Userspace sets a register, whole. Read-only ones ignore it, but GITS_CREADR takes it, and GITS_IIDR compares.
    pub fn user_write(
        &mut self,
        env: &mut impl Env,
        offset: u64,
        value: u64,
    ) -> Result<(), RegisterError> {
        match user_register(offset)? {
            Register::Iidr if value & IIDR_REVISION != 0 => Err(RegisterError::Value),
            Register::Creadr if self.registers.enabled => Err(RegisterError::Enabled),
            Register::Creadr if value & QUEUE_OFFSET >= self.registers.queue_size() => {
                Err(RegisterError::Value)
            }
            Register::Creadr => {
                self.registers.creadr = value & QUEUE_OFFSET;
                Ok(())
            }
            register => {
                self.set(env, register, value);
                Ok(())
            }
        }
    }
}

fn user_register(offset: u64) -> Result<Register, RegisterError> {
    let align = if offset < TYPER.into() || offset >= PIDR4.into() {
        4
    } else {
        8
    };
    if offset % align != 0 {
        return Err(RegisterError::Alignment);
    }
    let register = u32::try_from(offset).ok().and_then(Register::find);
    Ok(register.ok_or(RegisterError::NoRegister)?.0)
}
