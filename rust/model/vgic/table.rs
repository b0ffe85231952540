// SPDX-License-Identifier: GPL-2.0

//! The registers of the distributor and of a redistributor (IHI 0069, chapter 12), one row each,
//! ordered by offset.
//!
//! What has no row is reserved: it reads as zero and ignores writes. Rows that do so too are there
//! because userspace may save and restore them.

use super::irq::IrqBit;
use super::mmio::MmioAccess;
use super::redist::{Bank, Redist};
use super::regs::*;
use super::state::{Dist, View};
use super::user;
use super::{Error, Notify};
use crate::speculation;

/// How a register is read. Each gives what an access to the offset has of the value; bits beyond
/// the size of the access may be anything.
#[derive(Clone, Copy)]
pub(super) enum Read {
    /// As zero.
    Zero,
    /// From what needs no lock; the offset is given.
    Dist(fn(&Dist, u32) -> u64),
    /// From what of a redistributor needs none.
    Redist(fn(&Dist, &Redist, u32) -> u64),
    /// From the rest of one.
    Bank(fn(&Dist, &Bank, u32) -> u64),
    /// From the interrupts that an access concerns, all of which are in one block.
    Field(IrqField),
}

/// A field that registers have for each interrupt.
#[derive(Clone, Copy)]
pub(super) enum IrqField {
    /// One bit.
    Bit(IrqBit),
    /// One bit: whether it is pending.
    Pending,
    /// A byte.
    Priority,
    /// Two bits: the upper one says whether it is an edge.
    Config,
    /// 64 bits.
    Route,
}

/// Gives the register a value; of one with a [`Change`], changes what differs.
pub(super) type Write = fn(&mut View<'_>, &MmioAccess, u64, &mut dyn Notify) -> Result<(), Error>;

/// What a write to a register with fields makes of them.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// Sets the bits that are written as 1.
    Set,
    /// Clears those.
    Clear,
    /// All become what is written.
    Replace,
}

impl Change {
    /// Returns the bits that differ after a write of `value` to fields that were `before`.
    #[inline(always)]
    pub(super) fn different(self, before: u64, value: u64) -> u64 {
        match self {
            Self::Set => value & !before,
            Self::Clear => value & before,
            Self::Replace => value ^ before,
        }
    }
}

/// Which interrupts a write must not find in a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// It does not matter.
    Never,
    /// None of those whose bit is written as 1.
    Held,
    /// None of those that went there as pending: they might be acknowledged after the write.
    Pending,
}

/// One row: a register, or an array of them.
#[derive(Clone, Copy)]
pub(super) struct GicRegister {
    pub(super) name: &'static str,
    pub(super) offset: u32,
    /// Bytes.
    pub(super) len: u32,
    /// Bits for each interrupt, from interrupt 0 on, as a power of 2.
    pub(super) field: Option<u8>,
    /// The sum of the sizes that it can be accessed with.
    pub(super) sizes: u8,
    pub(super) read: Read,
    /// None: ignored.
    pub(super) write: Option<Write>,
    /// The fields that a write changes, and how; of those that stay what they are, nothing is
    /// asked.
    pub(super) change: Option<(IrqField, Change)>,
    /// What userspace reads, where that is something else.
    pub(super) user_read: Option<Read>,
    /// What userspace writes, where that is something else.
    pub(super) user_write: Option<Write>,
    /// A read needs the interrupts out of the list registers.
    pub(super) fresh_read: bool,
    pub(super) fresh_write: Fresh,
}

impl GicRegister {
    /// Makes a register that reads as zero and ignores writes; `sizes` is as
    /// [`GicRegister::sizes`].
    const fn new(name: &'static str, offset: u32, len: u32, sizes: u8) -> Self {
        Self {
            name,
            offset,
            len,
            field: None,
            sizes,
            read: Read::Zero,
            write: None,
            change: None,
            user_read: None,
            user_write: None,
            fresh_read: false,
            fresh_write: Fresh::Never,
        }
    }

    /// Makes it have `bits` for each interrupt, from interrupt 0 on.
    const fn bits(mut self, bits: u8) -> Self {
        assert!(bits.is_power_of_two() && bits <= 64);
        self.field = Some(bits.trailing_zeros() as u8);
        self
    }

    const fn read(mut self, read: Read) -> Self {
        self.read = read;
        self
    }

    const fn write(mut self, write: Write) -> Self {
        self.write = Some(write);
        self
    }

    /// Has `write` change those fields that differ.
    const fn change(mut self, field: IrqField, change: Change, write: Write) -> Self {
        self.change = Some((field, change));
        self.write(write)
    }

    const fn user_read(mut self, read: Read) -> Self {
        self.user_read = Some(read);
        self
    }

    const fn user_write(mut self, write: Write) -> Self {
        self.user_write = Some(write);
        self
    }

    const fn fresh_read(mut self) -> Self {
        self.fresh_read = true;
        self
    }

    const fn fresh_write(mut self, fresh: Fresh) -> Self {
        self.fresh_write = fresh;
        self
    }
}

/// The row of a register that `gic.sysreg` describes, accessed with these sizes.
macro_rules! register {
    ($name:ident, $sizes:expr) => {
        GicRegister::new(
            stringify!($name),
            crate::model::sysreg::regs::$name::OFFSET,
            crate::model::sysreg::regs::$name::SIZE * crate::model::sysreg::regs::$name::COUNT,
            $sizes,
        )
    };
}

/// Returns the table, whose rows follow each other without overlap, or this does not compile.
const fn ordered<const N: usize>(table: [GicRegister; N]) -> [GicRegister; N] {
    let mut n = 1;
    while n < N {
        assert!(table[n - 1].offset + table[n - 1].len <= table[n].offset);
        n += 1;
    }
    table
}

/// Bytes of a frame that one page of a [`RegisterTable`] is about.
const BLOCK: u32 = 128;
/// Registers, or halves of them, in a block.
const WORDS: usize = BLOCK as usize / 4;
/// How many kinds of blocks a frame has, at most.
const PAGES: usize = 16;
/// How many registers, at most, with the one that is none.
const ROWS: usize = 32;

/// A frame's registers, with a way to find them by their offsets. What is looked up is in range
/// whatever the guest's address is, so that nothing has to be compared.
pub(super) struct RegisterTable<const BLOCKS: usize> {
    /// The last one is none.
    rows: [GicRegister; ROWS],
    /// For each block its page. Blocks that are alike share one.
    page: [u8; BLOCKS],
    /// For each word of a block its row.
    words: [[u8; WORDS]; PAGES],
}

impl<const BLOCKS: usize> RegisterTable<BLOCKS> {
    const fn new<const N: usize>(registers: [GicRegister; N]) -> Self {
        const NONE: u8 = ROWS as u8 - 1;
        assert!(N < ROWS);
        let mut rows = [GicRegister::new("", 0, 0, 0); ROWS];
        let mut n = 0;
        while n < N {
            rows[n] = registers[n];
            n += 1;
        }
        let (mut page, mut words) = ([0; BLOCKS], [[NONE; WORDS]; PAGES]);
        // The first one is of the blocks without registers.
        let (mut pages, mut block, mut row) = (1, 0, 0);
        while block < BLOCKS {
            let mut new = [NONE; WORDS];
            let mut word = 0;
            while word < WORDS {
                let offset = block as u32 * BLOCK + word as u32 * 4;
                while row < N && rows[row].offset + rows[row].len <= offset {
                    row += 1;
                }
                if row < N && rows[row].offset <= offset {
                    new[word] = row as u8;
                }
                word += 1;
            }
            let mut at = 0;
            while at < pages && !same(&words[at], &new) {
                at += 1;
            }
            words[at] = new;
            page[block] = at as u8;
            if at == pages {
                pages += 1;
            }
            block += 1;
        }
        Self { rows, page, words }
    }

    /// Returns the register at an offset in the frame: one that cannot be accessed if there is
    /// none.
    #[inline(always)]
    pub(super) fn find(&self, offset: u32) -> &GicRegister {
        let block = speculation::wrap::<BLOCKS>((offset / BLOCK) as usize);
        let page = usize::from(self.page[block]) % PAGES;
        let word = speculation::wrap::<WORDS>((offset / 4) as usize);
        &self.rows[usize::from(self.words[page][word]) % ROWS]
    }
}

const fn same(a: &[u8; WORDS], b: &[u8; WORDS]) -> bool {
    let mut n = 0;
    while n < WORDS {
        if a[n] != b[n] {
            return false;
        }
        n += 1;
    }
    true
}

/// The distributor, by offset.
pub(super) static DIST_TABLE: RegisterTable<{ 0x1_0000 / BLOCK as usize }> =
    RegisterTable::new(DIST);
/// A redistributor, by offset.
pub(super) static REDIST_TABLE: RegisterTable<{ 0x2_0000 / BLOCK as usize }> =
    RegisterTable::new(REDIST);

/// The distributor.
const DIST: [GicRegister; 21] = ordered([
    register!(GICD_CTLR, 4)
        // The guest's writes are not this table's: see `Gic::set_ctlr`.
        .read(Read::Dist(ctlr))
        .user_write(user::set_ctlr),
    register!(GICD_TYPER, 4).read(Read::Dist(typer)),
    register!(GICD_IIDR, 4)
        .read(Read::Dist(iidr))
        .user_write(user::set_iidr),
    register!(GICD_TYPER2, 4).user_write(user::set_typer2),
    register!(GICD_STATUSR, 4)
        .read(Read::Dist(status))
        .write(clear_status)
        .user_write(user::set_status),
    register!(GICD_IGROUPR, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Group1)))
        .change(IrqField::Bit(IrqBit::Group1), Change::Replace, turn_group),
    register!(GICD_ISENABLER, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Enabled)))
        .change(IrqField::Bit(IrqBit::Enabled), Change::Set, set_enabled),
    register!(GICD_ICENABLER, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Enabled)))
        .change(IrqField::Bit(IrqBit::Enabled), Change::Clear, clear_enabled)
        .fresh_write(Fresh::Pending),
    register!(GICD_ISPENDR, 4)
        .bits(1)
        .read(Read::Field(IrqField::Pending))
        .change(IrqField::Bit(IrqBit::Latch), Change::Set, set_pending)
        .user_read(Read::Field(IrqField::Bit(IrqBit::Latch)))
        .user_write(user::set_latch)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICD_ICPENDR, 4)
        .bits(1)
        .read(Read::Field(IrqField::Pending))
        .change(IrqField::Bit(IrqBit::Latch), Change::Clear, clear_pending)
        .user_read(Read::Zero)
        .user_write(ignore)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICD_ISACTIVER, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Active)))
        .change(IrqField::Bit(IrqBit::Active), Change::Set, set_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICD_ICACTIVER, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Active)))
        .change(IrqField::Bit(IrqBit::Active), Change::Clear, clear_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICD_IPRIORITYR, 1 | 4)
        .bits(8)
        .read(Read::Field(IrqField::Priority))
        .change(IrqField::Priority, Change::Replace, change_priority),
    register!(GICD_ITARGETSR, 1 | 4).bits(8),
    register!(GICD_ICFGR, 4)
        .bits(2)
        .read(Read::Field(IrqField::Config))
        .change(IrqField::Config, Change::Replace, turn_config),
    register!(GICD_IGRPMODR, 4).bits(1),
    // With affinity routing these three do nothing, and userspace does not see them.
    register!(GICD_SGIR, 0),
    register!(GICD_CPENDSGIR, 0),
    register!(GICD_SPENDSGIR, 0),
    register!(GICD_IROUTER, 4 | 8)
        .bits(64)
        .read(Read::Field(IrqField::Route))
        .write(set_route)
        .user_write(user::set_route),
    register!(GICD_PIDR4, 4).read(Read::Dist(id_register)),
]);

/// A redistributor: RD_base, then SGI_base.
const REDIST: [GicRegister; 22] = ordered([
    register!(GICR_CTLR, 4)
        .read(Read::Bank(redist_ctlr))
        .write(set_redist_ctlr),
    register!(GICR_IIDR, 4).read(Read::Dist(redist_iidr)),
    register!(GICR_TYPER, 4 | 8).read(Read::Redist(redist_typer)),
    register!(GICR_STATUSR, 4)
        .read(Read::Bank(redist_status))
        .write(clear_redist_status)
        .user_write(user::set_redist_status),
    // ProcessorSleep is not modelled: the redistributor is always awake, as KVM's.
    register!(GICR_WAKER, 4),
    register!(GICR_PROPBASER, 4 | 8)
        .read(Read::Dist(propbaser))
        .write(set_propbaser),
    register!(GICR_PENDBASER, 4 | 8)
        .read(Read::Bank(pendbaser))
        .write(set_pendbaser),
    register!(GICR_INVLPIR, 4 | 8).write(invalidate_lpi),
    register!(GICR_INVALLR, 4 | 8).write(invalidate_all_lpis),
    // Never busy.
    register!(GICR_SYNCR, 4),
    register!(GICR_PIDR4, 4).read(Read::Dist(id_register)),
    register!(GICR_IGROUPR0, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Group1)))
        .change(IrqField::Bit(IrqBit::Group1), Change::Replace, turn_group),
    register!(GICR_ISENABLER0, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Enabled)))
        .change(IrqField::Bit(IrqBit::Enabled), Change::Set, set_enabled),
    register!(GICR_ICENABLER0, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Enabled)))
        .change(IrqField::Bit(IrqBit::Enabled), Change::Clear, clear_enabled)
        .fresh_write(Fresh::Pending),
    register!(GICR_ISPENDR0, 4)
        .bits(1)
        .read(Read::Field(IrqField::Pending))
        .change(IrqField::Bit(IrqBit::Latch), Change::Set, set_pending)
        .user_read(Read::Field(IrqField::Bit(IrqBit::Latch)))
        .user_write(user::set_latch)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICR_ICPENDR0, 4)
        .bits(1)
        .read(Read::Field(IrqField::Pending))
        .change(IrqField::Bit(IrqBit::Latch), Change::Clear, clear_pending)
        .user_read(Read::Zero)
        .user_write(ignore)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICR_ISACTIVER0, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Active)))
        .change(IrqField::Bit(IrqBit::Active), Change::Set, set_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICR_ICACTIVER0, 4)
        .bits(1)
        .read(Read::Field(IrqField::Bit(IrqBit::Active)))
        .change(IrqField::Bit(IrqBit::Active), Change::Clear, clear_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICR_IPRIORITYR, 1 | 4)
        .bits(8)
        .read(Read::Field(IrqField::Priority))
        .change(IrqField::Priority, Change::Replace, change_priority),
    // SGIs are edges and PPIs are levels, which the timers rely on: the register cannot be written.
    register!(GICR_ICFGR0, 4)
        .bits(2)
        .read(Read::Field(IrqField::Config)),
    register!(GICR_IGRPMODR0, 4).bits(1),
    register!(GICR_NSACR, 4),
]);
