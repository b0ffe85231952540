// SPDX-License-Identifier: GPL-2.0

//! An ITS's registers (IHI 0069, section 12.19), for the guest and for userspace, which saves and
//! restores them.

use super::{Collection, Device, Env, Event, Its, Registers, SortedMap, Translation};
use super::{DEVICE_BITS, EVENT_BITS};
use crate::model::sysreg::regs::{
    GITS_BASER, GITS_CBASER, GITS_CREADR, GITS_CTLR, GITS_CWRITER, GITS_IIDR, GITS_PIDR4,
    GITS_TRANSLATER, GITS_TYPER,
};

/// Bytes of address space that an ITS takes: its registers, then the page that messages are written
/// to.
pub const FRAME_SIZE: u64 = 0x2_0000;
/// Where devices write their messages.
pub const TRANSLATER: u64 = GITS_TRANSLATER::OFFSET as u64;

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
enum ItsRegister {
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

const PIDR4: u32 = GITS_PIDR4::OFFSET;
const TYPER: u32 = GITS_TYPER::OFFSET;
/// GITS_BASER of the devices, of the collections, and of what there are no tables of.
const DEVICES: u32 = GITS_BASER::at(0);
const COLLECTIONS: u32 = GITS_BASER::at(1);
const NO_TABLE: u32 = GITS_BASER::at(2);
const NO_TABLE_LAST: u32 = GITS_BASER::at(GITS_BASER::COUNT - 1);

/// What GITS_PIDR4 to 7, GITS_PIDR0 to 3 and GITS_CIDR0 to 3 are: the identification that Arm's own
/// ITS has.
const IDENTIFICATION: [u8; GITS_PIDR4::COUNT as usize] =
    [0x40, 0, 0, 0, 0x92, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1];

impl ItsRegister {
    /// Returns the register at an offset, with the offset that it begins at.
    fn find(offset: u32) -> Option<(Self, u32)> {
        let word = offset & !3;
        let narrow = match word {
            GITS_CTLR::OFFSET => Self::Ctlr,
            GITS_IIDR::OFFSET => Self::Iidr,
            PIDR4..=0xffff => Self::Id(word),
            _ => {
                let double = offset & !7;
                let wide = match double {
                    TYPER => Self::Typer,
                    GITS_CBASER::OFFSET => Self::Cbaser,
                    GITS_CWRITER::OFFSET => Self::Cwriter,
                    GITS_CREADR::OFFSET => Self::Creadr,
                    DEVICES => Self::Devices,
                    COLLECTIONS => Self::Collections,
                    NO_TABLE..=NO_TABLE_LAST => Self::NoTable,
                    _ => return None,
                };
                return Some((wide, double));
            }
        };
        Some((narrow, word))
    }

    fn is_wide(self) -> bool {
        !matches!(self, Self::Ctlr | Self::Iidr | Self::Id(_))
    }
}

/// One access of the guest's.
#[derive(Clone, Copy)]
struct RegisterAccess {
    register: ItsRegister,
    /// Of the register's 64 bits.
    upper: bool,
    whole: bool,
}

impl RegisterAccess {
    /// Makes the access of `size` bytes at `offset`. `None`: not a register, or not with this size
    /// and alignment.
    fn new(offset: u32, size: u8) -> Option<Self> {
        let (register, start) = ItsRegister::find(offset)?;
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

/// Bytes of an entry, of all tables, in revision 0 of the layout.
pub(super) const ENTRY: u64 = 8;
/// Bytes of the pages that the guest's tables are made of.
pub(super) const PAGE: u64 = 0x1_0000;

/// GITS_IIDR: as KVM's, revision 0.
const IIDR: u64 = GITS_IIDR::ProductID.of(0x4b) | GITS_IIDR::Implementer.of(0x43b);

/// Returns `value` as it reads back in the fields that say how memory is accessed: all accesses
/// here are cacheable and inner shareable, so what asks for something else reads back as that.
/// These fields are in the same places in GITS_BASER and GITS_CBASER.
fn memory_attributes(value: u64) -> u64 {
    use GITS_BASER::{InnerCache, OuterCache, Shareability};
    let inner = InnerCache.get(value);
    let inner = if inner <= 1 { 3 } else { inner };
    let outer = OuterCache.get(value);
    let outer = if outer > 1 { 0 } else { outer };
    let shareability = Shareability.get(value);
    let shareability = if shareability == 2 { 1 } else { shareability };
    let value = InnerCache.with(value, inner);
    Shareability.with(OuterCache.with(value, outer), shareability)
}

/// That shareability.
const INNER_SHAREABLE: u64 = GITS_BASER::Shareability.of(1);

/// Returns a GITS_BASER of which the guest has written `value`: what the entries are and how large,
/// and the size of pages, are not its to choose.
fn baser(value: u64, kind: u64) -> u64 {
    let value = GITS_BASER::Entry_Size.with(memory_attributes(value), ENTRY - 1);
    let value = GITS_BASER::Page_Size.with(value, GITS_BASER::Page_Size_64K);
    GITS_BASER::Type.with(value, kind)
}

/// A table of the guest's, as a GITS_BASER describes it.
#[derive(Clone, Copy)]
pub(super) struct GuestTable(u64);

impl GuestTable {
    pub(super) fn is_valid(self) -> bool {
        GITS_BASER::Valid.is_set(self.0)
    }

    /// Returns whether the entries are in pages that this table has the addresses of.
    pub(super) fn is_indirect(self) -> bool {
        GITS_BASER::Indirect.is_set(self.0)
    }

    /// Returns the address, of which bits 47:16 are in their place in the register, 51:48 are not.
    pub(super) fn address(self) -> u64 {
        self.0 & GITS_BASER::Physical_Address.mask()
            | GITS_BASER::Physical_Address_High.get(self.0) << 48
    }

    /// Returns the size in bytes.
    pub(super) fn size(self) -> u64 {
        (GITS_BASER::Size.get(self.0) + 1) * PAGE
    }
}

/// What GITS_CREADR and GITS_CWRITER hold: an offset into the queue.
const QUEUE_OFFSET: u64 = GITS_CWRITER::Offset.mask();

impl Registers {
    pub(super) fn new() -> Self {
        Self {
            enabled: false,
            cbaser: 0,
            cwriter: 0,
            creadr: 0,
            devices: baser(INNER_SHAREABLE, GITS_BASER::Type_Devices),
            collections: baser(INNER_SHAREABLE, GITS_BASER::Type_Collections),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self {
            devices: GITS_BASER::Valid.with(self.devices, 0),
            collections: GITS_BASER::Valid.with(self.collections, 0),
            ..Self::new()
        };
    }

    fn read(&self, register: ItsRegister) -> u64 {
        match register {
            ItsRegister::Ctlr => {
                let quiescent = self.creadr == self.cwriter;
                GITS_CTLR::Enabled.of(self.enabled.into())
                    | GITS_CTLR::Quiescent.of(quiescent.into())
            }
            ItsRegister::Iidr => IIDR,
            // PTA is 0: vCPUs are named by their numbers.
            ItsRegister::Typer => {
                GITS_TYPER::Physical.of(1)
                    | GITS_TYPER::ITT_entry_size.of(ENTRY - 1)
                    | GITS_TYPER::ID_bits.of(u64::from(EVENT_BITS - 1))
                    | GITS_TYPER::Devbits.of(u64::from(DEVICE_BITS - 1))
            }
            ItsRegister::Cbaser => self.cbaser,
            ItsRegister::Cwriter => self.cwriter,
            ItsRegister::Creadr => self.creadr,
            ItsRegister::Devices => self.devices,
            ItsRegister::Collections => self.collections,
            ItsRegister::NoTable => 0,
            ItsRegister::Id(offset) => {
                let n = offset.wrapping_sub(PIDR4) / GITS_PIDR4::SIZE;
                IDENTIFICATION
                    .get(n as usize)
                    .map_or(0, |&byte| byte.into())
            }
        }
    }

    /// Returns the command queue's address.
    pub(super) fn queue(&self) -> u64 {
        self.cbaser & GITS_CBASER::Physical_Address.mask()
    }

    /// Returns the command queue's size in bytes, a multiple of 4 KiB.
    pub(super) fn queue_size(&self) -> u64 {
        (GITS_CBASER::Size.get(self.cbaser) + 1) << 12
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
    D: SortedMap<u32, Device>,
    C: SortedMap<u16, Collection>,
    E: SortedMap<Event, Translation>,
{
    /// Handles the guest's read of `size` bytes at `offset` of the frame. What is not a register
    /// reads as zero.
    pub fn read(&self, offset: u32, size: u8) -> u64 {
        RegisterAccess::new(offset, size).map_or(0, |access| {
            access.extract(self.registers.read(access.register))
        })
    }

    /// Handles the guest's write of `size` bytes at `offset` of the frame. A write to what is not a
    /// register is ignored.
    pub fn write(&mut self, env: &mut impl Env, offset: u32, size: u8, value: u64) {
        if let Some(access) = RegisterAccess::new(offset, size) {
            let old = self.registers.read(access.register);
            self.set(env, access.register, access.merge(old, value));
        }
    }

    fn set(&mut self, env: &mut impl Env, register: ItsRegister, value: u64) {
        let registers = &mut self.registers;
        match register {
            ItsRegister::Ctlr => self.enable(env, GITS_CTLR::Enabled.is_set(value)),
            ItsRegister::Cwriter => {
                if value & QUEUE_OFFSET < registers.queue_size() {
                    registers.cwriter = value & QUEUE_OFFSET;
                    self.run_commands(env);
                }
            }
            // These cannot be written while the ITS is enabled.
            _ if registers.enabled => {}
            ItsRegister::Cbaser => {
                let value = GITS_CBASER::Physical_Address_Low.with(value, 0);
                registers.cbaser = memory_attributes(value);
                // The queue is empty then.
                (registers.creadr, registers.cwriter) = (0, 0);
            }
            ItsRegister::Devices => {
                let new = baser(value, GITS_BASER::Type_Devices);
                if core::mem::replace(&mut registers.devices, new) != new {
                    self.forget_devices(env);
                }
            }
            ItsRegister::Collections => {
                // That table is never indirect.
                let new = baser(
                    GITS_BASER::Indirect.with(value, 0),
                    GITS_BASER::Type_Collections,
                );
                if core::mem::replace(&mut registers.collections, new) != new {
                    self.orphan_events(env);
                    self.forget_collections();
                }
            }
            ItsRegister::Iidr
            | ItsRegister::Typer
            | ItsRegister::Creadr
            | ItsRegister::NoTable
            | ItsRegister::Id(_) => {}
        }
    }

    fn enable(&mut self, env: &mut impl Env, enable: bool) {
        let registers = &mut self.registers;
        // The bit is the same in all three.
        let complete =
            GITS_BASER::Valid.is_set(registers.devices & registers.collections & registers.cbaser);
        // Enabling it without its tables is UNPREDICTABLE: it stays disabled.
        registers.enabled = enable && (registers.enabled || complete);
        self.run_commands(env);
    }

    /// Tells whether userspace can save a register (KVM_HAS_DEVICE_ATTR), and if not, why.
    pub fn user_has(offset: u64) -> Result<(), RegisterError> {
        user_register(offset).map(|_| ())
    }

    /// Reads a register for userspace, whole.
    pub fn user_read(&self, offset: u64) -> Result<u64, RegisterError> {
        Ok(self.registers.read(user_register(offset)?))
    }

    /// Sets a register for userspace, whole. Read-only ones ignore it, but GITS_CREADR takes it,
    /// and GITS_IIDR compares.
    pub fn user_write(
        &mut self,
        env: &mut impl Env,
        offset: u64,
        value: u64,
    ) -> Result<(), RegisterError> {
        match user_register(offset)? {
            ItsRegister::Iidr if GITS_IIDR::Revision.is_set(value) => Err(RegisterError::Value),
            ItsRegister::Creadr if self.registers.enabled => Err(RegisterError::Enabled),
            ItsRegister::Creadr if value & QUEUE_OFFSET >= self.registers.queue_size() => {
                Err(RegisterError::Value)
            }
            ItsRegister::Creadr => {
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

fn user_register(offset: u64) -> Result<ItsRegister, RegisterError> {
    let align = if offset < TYPER.into() || offset >= PIDR4.into() {
        4
    } else {
        8
    };
    if offset % align != 0 {
        return Err(RegisterError::Alignment);
    }
    let register = u32::try_from(offset).ok().and_then(ItsRegister::find);
    Ok(register.ok_or(RegisterError::NoRegister)?.0)
}
