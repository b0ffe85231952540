// SPDX-License-Identifier: GPL-2.0

//! The registers of the distributor and of a redistributor (IHI 0069, chapter 12), one row each,
//! ordered by offset.
//!
//! What has no row is reserved: it reads as zero and ignores writes. Rows that do so too are there
//! because userspace may save and restore them.

use super::mmio::MmioAccess;
use super::regs::*;
use super::state::View;
use super::user;
use super::{Error, Notify};
use crate::speculation;

/// The register's value.
pub(super) type Read = fn(&View<'_>, &MmioAccess) -> u64;
/// Gives the register a value.
pub(super) type Write = fn(&mut View<'_>, &MmioAccess, u64, &mut dyn Notify) -> Result<(), Error>;

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
pub(super) struct GicRegister {
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

impl GicRegister {
    /// Reads as zero, ignores writes; `sizes` is as [`GicRegister::sizes`].
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

    /// Has `bits` for each interrupt, from interrupt 0 on.
    const fn bits(mut self, bits: u8) -> Self {
        self.bits = bits;
        self
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

/// The lookup is a binary search: rows follow each other without overlap, or this does not compile.
const fn ordered<const N: usize>(table: [GicRegister; N]) -> [GicRegister; N] {
    let mut n = 1;
    while n < N {
        assert!(table[n - 1].offset + table[n - 1].len <= table[n].offset);
        n += 1;
    }
    table
}

/// Bytes of a frame for which [`RegisterTable`] knows where to begin to look.
const BLOCK: u32 = 128;

/// A frame's registers, with a way to find them by their offsets.
pub(super) struct RegisterTable<const BLOCKS: usize> {
    rows: &'static [GicRegister],
    /// For each block the first row that does not end before it.
    first: [u8; BLOCKS],
}

impl<const BLOCKS: usize> RegisterTable<BLOCKS> {
    const fn new(rows: &'static [GicRegister]) -> Self {
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
    pub(super) fn find(&self, offset: u32) -> Option<&'static GicRegister> {
        let first = *speculation::entry(&self.first, (offset / BLOCK) as usize)?;
        let rows = self.rows.get(usize::from(first)..)?;
        let register = rows.iter().find(|register| {
            offset.wrapping_sub(register.offset) < register.len || offset < register.offset
        })?;
        (offset >= register.offset).then_some(register)
    }
}

/// The distributor, by offset.
pub(super) static DIST_TABLE: RegisterTable<{ 0x1_0000 / BLOCK as usize }> =
    RegisterTable::new(&DIST);
/// A redistributor, by offset.
pub(super) static REDIST_TABLE: RegisterTable<{ 0x2_0000 / BLOCK as usize }> =
    RegisterTable::new(&REDIST);

/// The distributor.
static DIST: [GicRegister; 21] = ordered([
    register!(GICD_CTLR, 4)
        // The guest's writes are not this table's: see `Gic::set_ctlr`.
        .read(ctlr)
        .user_write(user::set_ctlr),
    register!(GICD_TYPER, 4).read(typer),
    register!(GICD_IIDR, 4)
        .read(iidr)
        .user_write(user::set_iidr),
    register!(GICD_TYPER2, 4).user_write(user::set_typer2),
    register!(GICD_STATUSR, 4)
        .read(status)
        .write(clear_status)
        .user_write(user::set_status),
    register!(GICD_IGROUPR, 4)
        .bits(1)
        .read(group)
        .write(set_group),
    register!(GICD_ISENABLER, 4)
        .bits(1)
        .read(enabled)
        .write(set_enabled),
    register!(GICD_ICENABLER, 4)
        .bits(1)
        .read(enabled)
        .write(clear_enabled)
        .fresh_write(Fresh::Pending),
    register!(GICD_ISPENDR, 4)
        .bits(1)
        .read(pending)
        .write(set_pending)
        .user_read(user::latch)
        .user_write(user::set_latch)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICD_ICPENDR, 4)
        .bits(1)
        .read(pending)
        .write(clear_pending)
        .user_read(zero)
        .user_write(ignore)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICD_ISACTIVER, 4)
        .bits(1)
        .read(active)
        .write(set_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICD_ICACTIVER, 4)
        .bits(1)
        .read(active)
        .write(clear_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICD_IPRIORITYR, 1 | 4)
        .bits(8)
        .read(priority)
        .write(set_priority),
    register!(GICD_ITARGETSR, 1 | 4).bits(8),
    register!(GICD_ICFGR, 4)
        .bits(2)
        .read(config)
        .write(set_config),
    register!(GICD_IGRPMODR, 4).bits(1),
    // With affinity routing these three do nothing, and userspace does not see them.
    register!(GICD_SGIR, 0),
    register!(GICD_CPENDSGIR, 0),
    register!(GICD_SPENDSGIR, 0),
    register!(GICD_IROUTER, 4 | 8)
        .bits(64)
        .read(route)
        .write(set_route)
        .user_write(user::set_route),
    register!(GICD_PIDR4, 4).read(id_register),
]);

/// A redistributor: RD_base, then SGI_base.
static REDIST: [GicRegister; 22] = ordered([
    register!(GICR_CTLR, 4)
        .read(redist_ctlr)
        .write(set_redist_ctlr),
    register!(GICR_IIDR, 4).read(redist_iidr),
    register!(GICR_TYPER, 4 | 8).read(redist_typer),
    register!(GICR_STATUSR, 4)
        .read(redist_status)
        .write(clear_redist_status)
        .user_write(user::set_redist_status),
    // ProcessorSleep is not modelled: the redistributor is always awake, as KVM's.
    register!(GICR_WAKER, 4),
    register!(GICR_PROPBASER, 4 | 8)
        .read(propbaser)
        .write(set_propbaser),
    register!(GICR_PENDBASER, 4 | 8)
        .read(pendbaser)
        .write(set_pendbaser),
    register!(GICR_INVLPIR, 4 | 8).write(invalidate_lpi),
    register!(GICR_INVALLR, 4 | 8).write(invalidate_all_lpis),
    // Never busy.
    register!(GICR_SYNCR, 4),
    register!(GICR_PIDR4, 4).read(id_register),
    register!(GICR_IGROUPR0, 4)
        .bits(1)
        .read(group)
        .write(set_group),
    register!(GICR_ISENABLER0, 4)
        .bits(1)
        .read(enabled)
        .write(set_enabled),
    register!(GICR_ICENABLER0, 4)
        .bits(1)
        .read(enabled)
        .write(clear_enabled)
        .fresh_write(Fresh::Pending),
    register!(GICR_ISPENDR0, 4)
        .bits(1)
        .read(pending)
        .write(set_pending)
        .user_read(user::latch)
        .user_write(user::set_latch)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICR_ICPENDR0, 4)
        .bits(1)
        .read(pending)
        .write(clear_pending)
        .user_read(zero)
        .user_write(ignore)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICR_ISACTIVER0, 4)
        .bits(1)
        .read(active)
        .write(set_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICR_ICACTIVER0, 4)
        .bits(1)
        .read(active)
        .write(clear_active)
        .fresh_read()
        .fresh_write(Fresh::Held),
    register!(GICR_IPRIORITYR, 1 | 4)
        .bits(8)
        .read(priority)
        .write(set_priority),
    // SGIs are edges and PPIs are levels, which the timers rely on: the register cannot be written.
    register!(GICR_ICFGR0, 4).bits(2).read(config),
    register!(GICR_IGRPMODR0, 4).bits(1),
    register!(GICR_NSACR, 4),
]);
