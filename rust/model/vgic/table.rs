// SPDX-License-Identifier: GPL-2.0

//! The registers of the distributor and of a redistributor (IHI 0069, chapter 12), one row each, ordered by offset.
//!
//! What has no row is reserved: it reads as zero and ignores writes. Rows that do so too are there because userspace may
//! save and restore them.

use super::mmio::Access;
use super::regs::*;
use super::state::View;
use super::user;
use super::{Error, Notify};
use crate::speculation;

/// GICD_IIDR's offset.
pub(super) const GICD_IIDR: u32 = 0x8;
/// GICD_TYPER2's offset.
pub(super) const GICD_TYPER2: u32 = 0xc;

/// GICR_PROPBASER's offset.
pub(super) const GICR_PROPBASER: u32 = 0x70;

/// Where SGI_base starts in a redistributor's frame.
const SGI_BASE: u32 = 0x1_0000;

/// The register's value.
pub(super) type Read = fn(&View<'_>, &Access) -> u64;
/// Gives the register a value.
pub(super) type Write = fn(&mut View<'_>, &Access, u64, &mut dyn Notify) -> Result<(), Error>;

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
pub(super) struct Register {
    pub(super) name: &'static str,
    pub(super) offset: u32,
    /// Bytes.
    pub(super) len: u32,
    /// Bits for each interrupt, from interrupt 0 on; 0: not that kind of register.
    pub(super) bits: u8,
    /// The sum of the sizes that it can be accessed with.
    pub(super) sizes: u8,
    pub(super) read: Read,
    pub(super) write: Write,
    /// What userspace reads, where that is something else.
    pub(super) user_read: Option<Read>,
    /// What userspace writes, where that is something else.
    pub(super) user_write: Option<Write>,
    /// A read needs the interrupts out of the list registers.
    pub(super) fresh_read: bool,
    pub(super) fresh_write: Fresh,
}

impl Register {
    /// Reads as zero, ignores writes.
    const fn new(name: &'static str, offset: u32, len: u32, sizes: u8) -> Self {
        Self {
            name,
            offset,
            len,
            bits: 0,
            sizes,
            read: zero,
            write: ignore,
            user_read: None,
            user_write: None,
            fresh_read: false,
            fresh_write: Fresh::Never,
        }
    }

    /// An array in the distributor with `bits` for each of 1024 interrupts.
    const fn shared(name: &'static str, offset: u32, bits: u8, sizes: u8) -> Self {
        Self::private(name, offset, bits, bits as u32 * 128, sizes)
    }

    /// Registers with `bits` for each of a redistributor's interrupts.
    const fn private(name: &'static str, offset: u32, bits: u8, len: u32, sizes: u8) -> Self {
        let mut register = Self::new(name, offset, len, sizes);
        register.bits = bits;
        register
    }

    const fn read(mut self, read: Read) -> Self {
        self.read = read;
        self
    }

    const fn write(mut self, write: Write) -> Self {
        self.write = write;
        self
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

/// The lookup is a binary search: rows follow each other without overlap, or this does not compile.
const fn ordered<const N: usize>(table: [Register; N]) -> [Register; N] {
    let mut n = 1;
    while n < N {
        assert!(table[n - 1].offset + table[n - 1].len <= table[n].offset);
        n += 1;
    }
    table
}

/// Bytes of a frame for which [`Table`] knows where to begin to look.
const BLOCK: u32 = 128;

/// A frame's registers, with a way to find them by their offsets.
pub(super) struct Table<const BLOCKS: usize> {
    rows: &'static [Register],
    /// For each block the first row that does not end before it.
    first: [u8; BLOCKS],
}

impl<const BLOCKS: usize> Table<BLOCKS> {
    const fn new(rows: &'static [Register]) -> Self {
        let mut first = [0; BLOCKS];
        let mut row = 0;
        let mut block = 0;
        while block < BLOCKS {
            while row < rows.len() && rows[row].offset + rows[row].len <= block as u32 * BLOCK {
                row += 1;
            }
            first[block] = row as u8;
            block += 1;
        }
        Self { rows, first }
    }

    /// The register at an offset.
    #[inline]
    pub(super) fn find(&self, offset: u32) -> Option<&'static Register> {
        let first = *speculation::entry(&self.first, (offset / BLOCK) as usize)?;
        let rows = self.rows.get(usize::from(first)..)?;
        let register = rows.iter().find(|register| {
            offset.wrapping_sub(register.offset) < register.len || offset < register.offset
        })?;
        (offset >= register.offset).then_some(register)
    }
}

/// The distributor, by offset.
pub(super) static DIST_TABLE: Table<{ 0x1_0000 / BLOCK as usize }> = Table::new(&DIST);
/// A redistributor, by offset.
pub(super) static REDIST_TABLE: Table<{ 0x2_0000 / BLOCK as usize }> = Table::new(&REDIST);

/// The distributor.
static DIST: [Register; 21] = ordered([
    Register::new("GICD_CTLR", 0x0000, 4, 4)
        // The guest's writes are not this table's: see `Gic::set_ctlr`.
        .read(ctlr)
        .user_write(user::set_ctlr),
    Register::new("GICD_TYPER", 0x0004, 4, 4).read(typer),
    Register::new("GICD_IIDR", GICD_IIDR, 4, 4)
        .read(iidr)
        .user_write(user::set_iidr),
    Register::new("GICD_TYPER2", GICD_TYPER2, 4, 4).user_write(user::set_typer2),
    Register::new("GICD_STATUSR", 0x0010, 4, 4)
        .read(status)
        .write(clear_status)
        .user_write(user::set_status),
    Register::shared("GICD_IGROUPR", 0x0080, 1, 4)
        .read(group)
        .write(set_group),
    Register::shared("GICD_ISENABLER", 0x0100, 1, 4)
        .read(enabled)
        .write(set_enabled),
    Register::shared("GICD_ICENABLER", 0x0180, 1, 4)
        .read(enabled)
        .write(clear_enabled)
        .fresh_write(Fresh::Pending),
    Register::shared("GICD_ISPENDR", 0x0200, 1, 4)
        .read(pending)
        .write(set_pending)
        .user_read(user::latch)
        .user_write(user::set_latch)
        .fresh_read()
        .fresh_write(Fresh::Held),
    Register::shared("GICD_ICPENDR", 0x0280, 1, 4)
        .read(pending)
        .write(clear_pending)
        .user_read(zero)
        .user_write(ignore)
        .fresh_read()
        .fresh_write(Fresh::Held),
    Register::shared("GICD_ISACTIVER", 0x0300, 1, 4)
        .read(active)
        .write(set_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    Register::shared("GICD_ICACTIVER", 0x0380, 1, 4)
        .read(active)
        .write(clear_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    Register::shared("GICD_IPRIORITYR", 0x0400, 8, 1 | 4)
        .read(priority)
        .write(set_priority),
    Register::shared("GICD_ITARGETSR", 0x0800, 8, 1 | 4),
    Register::shared("GICD_ICFGR", 0x0c00, 2, 4)
        .read(config)
        .write(set_config),
    Register::shared("GICD_IGRPMODR", 0x0d00, 1, 4),
    // With affinity routing these three do nothing, and userspace does not see them.
    Register::new("GICD_SGIR", 0x0f00, 4, 0),
    Register::new("GICD_CPENDSGIR", 0x0f10, 16, 0),
    Register::new("GICD_SPENDSGIR", 0x0f20, 16, 0),
    Register::shared("GICD_IROUTER", 0x6000, 64, 4 | 8)
        .read(route)
        .write(set_route)
        .user_write(user::set_route),
    Register::new("GICD_PIDR", 0xffd0, 48, 4).read(id_register),
]);

/// A redistributor: RD_base, then SGI_base.
static REDIST: [Register; 22] = ordered([
    Register::new("GICR_CTLR", 0x0000, 4, 4)
        .read(redist_ctlr)
        .write(set_redist_ctlr),
    Register::new("GICR_IIDR", 0x0004, 4, 4).read(redist_iidr),
    Register::new("GICR_TYPER", 0x0008, 8, 4 | 8).read(redist_typer),
    Register::new("GICR_STATUSR", 0x0010, 4, 4)
        .read(redist_status)
        .write(clear_redist_status)
        .user_write(user::set_redist_status),
    // ProcessorSleep is not modelled: the redistributor is always awake, as KVM's.
    Register::new("GICR_WAKER", 0x0014, 4, 4),
    Register::new("GICR_PROPBASER", GICR_PROPBASER, 8, 4 | 8)
        .read(propbaser)
        .write(set_propbaser),
    Register::new("GICR_PENDBASER", 0x0078, 8, 4 | 8)
        .read(pendbaser)
        .write(set_pendbaser),
    Register::new("GICR_INVLPIR", 0x00a0, 8, 4 | 8).write(invalidate_lpi),
    Register::new("GICR_INVALLR", 0x00b0, 8, 4 | 8).write(invalidate_all_lpis),
    // Never busy.
    Register::new("GICR_SYNCR", 0x00c0, 4, 4),
    Register::new("GICR_PIDR", 0xffd0, 48, 4).read(id_register),
    Register::private("GICR_IGROUPR0", SGI_BASE + 0x0080, 1, 4, 4)
        .read(group)
        .write(set_group),
    Register::private("GICR_ISENABLER0", SGI_BASE + 0x0100, 1, 4, 4)
        .read(enabled)
        .write(set_enabled),
    Register::private("GICR_ICENABLER0", SGI_BASE + 0x0180, 1, 4, 4)
        .read(enabled)
        .write(clear_enabled)
        .fresh_write(Fresh::Pending),
    Register::private("GICR_ISPENDR0", SGI_BASE + 0x0200, 1, 4, 4)
        .read(pending)
        .write(set_pending)
        .user_read(user::latch)
        .user_write(user::set_latch)
        .fresh_read()
        .fresh_write(Fresh::Held),
    Register::private("GICR_ICPENDR0", SGI_BASE + 0x0280, 1, 4, 4)
        .read(pending)
        .write(clear_pending)
        .user_read(zero)
        .user_write(ignore)
        .fresh_read()
        .fresh_write(Fresh::Held),
    Register::private("GICR_ISACTIVER0", SGI_BASE + 0x0300, 1, 4, 4)
        .read(active)
        .write(set_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    Register::private("GICR_ICACTIVER0", SGI_BASE + 0x0380, 1, 4, 4)
        .read(active)
        .write(clear_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    Register::private("GICR_IPRIORITYR0", SGI_BASE + 0x0400, 8, 32, 1 | 4)
        .read(priority)
        .write(set_priority),
    // SGIs are edges and PPIs are levels, which the timers rely on: the register cannot be written.
    Register::private("GICR_ICFGR0", SGI_BASE + 0x0c00, 2, 8, 4).read(config),
    Register::private("GICR_IGRPMODR0", SGI_BASE + 0x0d00, 1, 4, 4),
    Register::new("GICR_NSACR", SGI_BASE + 0x0e00, 4, 4),
]);
