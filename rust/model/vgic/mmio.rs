// SPDX-License-Identifier: GPL-2.0

//! From an address to a register: the tables in `table` say what there is, this looks it up.

use super::intid::{IntId, Line};
use super::irq::{IrqBit, IrqBlock};
use super::state::{BankView, GicStorage, Lock, Shared, View};
use super::table::{Fresh, GicRegister, IrqField, Read, Write, DIST_TABLE, REDIST_TABLE};
use super::{Error, Gic, Notify, StaleLists};
use crate::model::bitset::bits;
use crate::model::sysreg::regs::{GICD_CTLR, GICR_ICPENDR0, GICR_ISPENDR0};
use crate::model::vcpus::VcpuId;
use crate::speculation;

/// Which part of the interrupt controller's memory an offset is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicFrame {
    /// The distributor, 64 KiB.
    Dist,
    /// The redistributor of a vCPU, 128 KiB: RD_base, then SGI_base.
    Redist(VcpuId),
}

impl GicFrame {
    /// Returns how many bytes of address space the frame takes.
    pub const fn size(self) -> u32 {
        match self {
            GicFrame::Dist => 0x1_0000,
            GicFrame::Redist(_) => 0x2_0000,
        }
    }

    /// Returns whether it is GICD_CTLR that is accessed, whole.
    #[inline(always)]
    pub const fn is_ctlr(self, offset: u32, size: u8) -> bool {
        matches!(self, GicFrame::Dist) && offset == GICD_CTLR::OFFSET && size == 4
    }

    /// Returns whether the register at `offset` shows the lines of private interrupts
    /// (GICR_ISPENDR0, GICR_ICPENDR0), which have to be as their devices have them.
    pub const fn shows_lines(self, offset: u32) -> bool {
        matches!(self, GicFrame::Redist(_))
            && matches!(offset, GICR_ISPENDR0::OFFSET | GICR_ICPENDR0::OFFSET)
    }

    /// Returns the name of the register at `offset`, for traces.
    pub fn register(self, offset: u32) -> Option<&'static str> {
        let register = self.find(offset);
        (register.len != 0).then_some(register.name)
    }

    /// Returns the register that an access of `size` bytes, a power of 2, at `offset` is to, if it
    /// can be accessed so.
    #[inline(always)]
    pub(super) fn locate(self, offset: u32, size: u8) -> Option<&'static GicRegister> {
        let register = self.find(offset);
        let misaligned = offset & u32::from(size).wrapping_sub(1) != 0;
        (register.sizes & size != 0 && !misaligned).then_some(register)
    }

    #[inline(always)]
    fn find(self, offset: u32) -> &'static GicRegister {
        match self {
            GicFrame::Dist => DIST_TABLE.find(offset),
            GicFrame::Redist(_) => REDIST_TABLE.find(offset),
        }
    }

    fn bank(self) -> Option<VcpuId> {
        match self {
            GicFrame::Dist => None,
            GicFrame::Redist(vcpu) => Some(vcpu),
        }
    }
}

/// One access, as a register's functions see it.
#[derive(Clone, Copy)]
pub(super) struct MmioAccess {
    /// Whose redistributor; none: the distributor.
    pub(super) bank: Option<VcpuId>,
    /// Who makes it; none: userspace.
    pub(super) by: Option<VcpuId>,
    /// In the frame.
    pub(super) offset: u32,
    /// Bytes.
    pub(super) size: u8,
    /// The first interrupt that it concerns.
    first: u32,
    /// How many, in registers that have a field for each.
    count: u32,
}

impl MmioAccess {
    /// Returns the interrupts that it concerns, with their places in the value. In the distributor,
    /// private interrupts are not there (affinity routing is always on).
    pub(super) fn lines(&self) -> impl Iterator<Item = (u32, Line)> + '_ {
        (0..self.count).filter_map(|n| Some((n, self.line(n)?)))
    }

    /// Returns the interrupts whose bit is set in the lower 32 of `value`, in registers that have a
    /// bit for each.
    pub(super) fn lines_in(&self, value: u64) -> impl Iterator<Item = Line> + '_ {
        bits(value & u64::from(u32::MAX)).filter_map(|n| self.line(n))
    }

    /// Returns the block of the interrupts that it concerns. All are in one: no field for each is
    /// so small that an access has more, and none lies across.
    #[inline(always)]
    fn block<'a>(&self, gic: &'a View<'_>) -> Option<&'a IrqBlock> {
        match self.bank {
            Some(vcpu) => Some(&gic.bank(vcpu)?.private),
            None => gic.shared_block(IntId::new(self.first)?),
        }
    }

    /// Returns the same block, of what is locked.
    #[inline(always)]
    fn block_of<'a, S: GicStorage>(
        &self,
        bank: &'a Option<BankView<'_>>,
        shared: &'a Option<&mut Shared<S>>,
    ) -> Option<&'a IrqBlock> {
        if self.bank.is_some() {
            return Some(&bank.as_ref()?.state.private);
        }
        // The first block is the private ones'.
        let n = (self.first as usize / IrqBlock::LEN).wrapping_sub(1);
        speculation::get(&shared.as_ref()?.spis, n)
    }

    /// Returns what [`IrqField::read`] says of the interrupts that it concerns; zero if there are
    /// none.
    #[inline(always)]
    pub(super) fn fields(&self, gic: &View<'_>, field: IrqField) -> u64 {
        self.block(gic)
            .map_or(0, |block| field.read(block, self.first))
    }

    /// Returns the interrupt in place `n` of the access, if it is there.
    pub(super) fn line(&self, n: u32) -> Option<Line> {
        let id = IntId::new(self.first.saturating_add(n))?;
        match self.bank {
            Some(vcpu) => Line::private(vcpu, id),
            None => Line::spi(id),
        }
    }
}

impl GicRegister {
    /// Returns the first interrupt that an access at an offset in the frame concerns, in registers
    /// that have a field for each.
    #[inline(always)]
    pub(super) fn first(&self, offset: u32) -> u32 {
        let bits = offset.wrapping_sub(self.offset).wrapping_mul(8);
        bits >> (self.field.unwrap_or(0) & 7)
    }
}

impl IrqField {
    /// Returns the fields of a block's interrupts, from the one with the number `first` on.
    #[inline(always)]
    pub(super) fn read(self, block: &IrqBlock, first: u32) -> u64 {
        let value = match self {
            Self::Bit(bit) => block.word(bit),
            Self::Config => two_bits(block.word(IrqBit::Edge) >> (first & 16)),
            Self::Pending => block.pending_word(),
            Self::Priority => block.priorities(first),
            // Aff3 and the routing mode, in the upper word and bit 31, are not there.
            Self::Route => block.route(first) & 0xff_ffff,
        };
        value.into()
    }
}

/// Returns the lower 16 bits, each in the upper one of two.
#[inline(always)]
fn two_bits(sixteen: u32) -> u32 {
    let sixteen = sixteen & 0xffff;
    let bytes = (sixteen | sixteen << 8) & 0x00ff_00ff;
    let nibbles = (bytes | bytes << 4) & 0x0f0f_0f0f;
    let pairs = (nibbles | nibbles << 2) & 0x3333_3333;
    ((pairs | pairs << 1) & 0x5555_5555) << 1
}

impl<S: GicStorage> Gic<S> {
    /// Returns the register at an offset; none if the access is to be ignored.
    #[inline(always)]
    pub(super) fn register(
        &self,
        by: Option<VcpuId>,
        frame: GicFrame,
        offset: u32,
        size: u8,
    ) -> Result<Option<(&'static GicRegister, MmioAccess)>, Error> {
        if offset >= frame.size() || !matches!(size, 1 | 2 | 4 | 8) {
            return Err(Error::BadAccess);
        }
        if let Some(vcpu) = frame.bank() {
            self.redists.get(vcpu.index()).ok_or(Error::NoVcpu)?;
        }
        let Some(register) = frame.locate(offset, size) else {
            return Ok(None);
        };
        let (mut first, mut count) = (0, 0);
        if let Some(field) = register.field {
            first = register.first(offset);
            count = (8 * u32::from(size) >> (field & 7)).max(1);
            if first >= self.dist.nr_irqs {
                return Ok(None);
            }
        }
        let access = MmioAccess {
            bank: frame.bank(),
            by,
            offset,
            size,
            first,
            count,
        };
        Ok(Some((register, access)))
    }

    /// Returns what `read` makes of a register that an access at `offset` is to; takes what lock
    /// that needs. `None`: interrupts that it is about are in list registers. The bits beyond the
    /// size of the access may be anything.
    #[inline(always)]
    pub(super) fn look(
        &self,
        frame: GicFrame,
        register: &GicRegister,
        read: Read,
        offset: u32,
    ) -> Option<u64> {
        let dist = &self.dist;
        match (read, frame) {
            (Read::Zero, _) => Some(0),
            (Read::Dist(read), _) => Some(read(dist, offset)),
            (Read::Redist(read), GicFrame::Redist(vcpu)) => {
                Some(read(dist, self.redists.get(vcpu.index())?, offset))
            }
            (Read::Bank(read), GicFrame::Redist(vcpu)) => {
                let bank = self.banks.get(vcpu.index())?.lock();
                Some(read(dist, &bank, offset))
            }
            (Read::Field(field), GicFrame::Redist(vcpu)) => {
                let bank = self.banks.get(vcpu.index())?.lock();
                field.look(&bank.private, register, offset)
            }
            (Read::Field(field), GicFrame::Dist) => {
                let n = register.first(offset) as usize / IrqBlock::LEN;
                let shared = self.lock_shared();
                // The first block is the private ones'.
                match speculation::get(&shared.spis, n.wrapping_sub(1)) {
                    Some(block) => field.look(block, register, offset),
                    None => Some(0),
                }
            }
            (Read::Redist(_) | Read::Bank(_), GicFrame::Dist) => Some(0),
        }
    }

    /// Reads as [`Gic::look`], whose value it cuts to the size of the access; an error says why
    /// there is none.
    #[inline(always)]
    pub(super) fn read(
        &self,
        frame: GicFrame,
        register: &GicRegister,
        read: Read,
        access: MmioAccess,
    ) -> Result<u64, Error> {
        let value = match self.look(frame, register, read, access.offset) {
            Some(value) => value,
            None => self.with_written(&access, |bank, shared| {
                let Some(block) = access.block_of(&bank, &shared) else {
                    return Ok(0);
                };
                // They may have been taken out meanwhile.
                check_held(block, access, block.held_word())?;
                Ok(match read {
                    Read::Field(field) => field.read(block, access.first),
                    _ => 0,
                })
            })?,
        };
        let unused = 64_u32.wrapping_sub(8 * u32::from(access.size)) & 63;
        Ok(value << unused >> unused)
    }

    /// Has `write` give a register its value. `touched`: a bit for each interrupt that must not be
    /// in a list register, where that matters.
    #[inline(always)]
    pub(super) fn write(
        &self,
        register: &GicRegister,
        write: Write,
        access: &MmioAccess,
        touched: u64,
        mut value: u64,
        notify: &mut dyn Notify,
    ) -> Result<(), Error> {
        self.with_written(access, |bank, shared| {
            if register.change.is_some() || register.fresh_write != Fresh::Never {
                let Some(block) = access.block_of(&bank, &shared) else {
                    return Ok(());
                };
                register.check_write(block, access, touched)?;
                if let Some((field, change)) = register.change {
                    value = change.different(field.read(block, access.first), value);
                    if value == 0 {
                        return Ok(());
                    }
                }
            }
            write(&mut self.view(bank, shared), access, value, notify)
        })
    }
}

impl IrqField {
    /// Returns what an access at an offset reads; `None`: interrupts are in list registers that the
    /// register must not be read with.
    #[inline(always)]
    fn look(self, block: &IrqBlock, register: &GicRegister, offset: u32) -> Option<u64> {
        if register.fresh_read && block.any_held() && block.held_word() != 0 {
            return None;
        }
        // Of the halves of a route the upper one is not there.
        if matches!(self, Self::Route) && offset & 4 != 0 {
            return Some(0);
        }
        Some(self.read(block, register.first(offset)))
    }
}

impl GicRegister {
    /// Fails if a write must not find in a list register what it is about, and would.
    #[inline(always)]
    fn check_write(
        &self,
        block: &IrqBlock,
        access: &MmioAccess,
        touched: u64,
    ) -> Result<(), Error> {
        if self.fresh_write == Fresh::Never || !block.any_held() {
            return Ok(());
        }
        let held = match self.fresh_write {
            Fresh::Pending => block.held_pending_word(),
            Fresh::Held | Fresh::Never => block.held_word(),
        };
        check_held(block, *access, held & touched as u32)
    }
}

/// Fails if there are any of `held`, a bit for each interrupt of a block.
#[cold]
fn check_held(block: &IrqBlock, access: MmioAccess, held: u32) -> Result<(), Error> {
    let mut stale = StaleLists::default();
    for id in bits(held.into()).filter_map(|n| IntId::new(access.first.saturating_add(n))) {
        stale.add(access.by, Some(block.irq(id)));
    }
    stale.check()
}
