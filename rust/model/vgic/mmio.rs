// SPDX-License-Identifier: GPL-2.0

//! From an address to a register: the tables in `table` say what there is, this looks it up.

use super::intid::{IntId, Line};
use super::irq::Irq;
use super::state::View;
use super::table::{Fresh, GicRegister, DIST_TABLE, REDIST_TABLE};
use super::{Error, Notify, StaleLists};
use crate::model::bitset::bits;
use crate::model::sysreg::regs::{GICD_CTLR, GICR_ICPENDR0, GICR_ISPENDR0};
use crate::model::vcpus::VcpuId;

/// Which part of the interrupt controller's memory an offset is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicFrame {
    /// The distributor, 64 KiB.
    Dist,
    /// The redistributor of a vCPU, 128 KiB: RD_base, then SGI_base.
    Redist(VcpuId),
}

impl GicFrame {
    /// Bytes of address space that the frame takes.
    pub const fn size(self) -> u32 {
        match self {
            GicFrame::Dist => 0x1_0000,
            GicFrame::Redist(_) => 0x2_0000,
        }
    }

    /// Whether it is GICD_CTLR that is accessed, whole.
    #[inline(always)]
    pub const fn is_ctlr(self, offset: u32, size: u8) -> bool {
        matches!(self, GicFrame::Dist) && offset == GICD_CTLR::OFFSET && size == 4
    }

    /// Whether the register at `offset` shows the lines of private interrupts (GICR_ISPENDR0,
    /// GICR_ICPENDR0), which have to be as their devices have them.
    pub const fn shows_lines(self, offset: u32) -> bool {
        matches!(self, GicFrame::Redist(_))
            && matches!(offset, GICR_ISPENDR0::OFFSET | GICR_ICPENDR0::OFFSET)
    }

    /// The name of the register at `offset`, for traces.
    pub fn register(self, offset: u32) -> Option<&'static str> {
        Some(self.find(offset)?.name)
    }

    /// The register that an access of `size` bytes at `offset` is to, if it can be accessed so, and
    /// the first interrupt and the number of those that the access concerns; `nr_irqs` exist.
    #[inline]
    pub(super) fn locate(
        self,
        offset: u32,
        size: u8,
        nr_irqs: u32,
    ) -> Option<(&'static GicRegister, u32, u32)> {
        let register = self.find(offset)?;
        let within = offset.wrapping_sub(register.offset);
        // Sizes are powers of two.
        let misaligned = offset & u32::from(size).wrapping_sub(1) != 0;
        if register.sizes & size == 0 || misaligned {
            return None;
        }
        let bits = u32::from(register.bits);
        if bits == 0 {
            return Some((register, 0, 0));
        }
        let first = within.wrapping_mul(8) / bits;
        let count = (u32::from(size) * 8 / bits).max(1);
        (first < nr_irqs).then_some((register, first, count))
    }

    #[inline]
    fn find(self, offset: u32) -> Option<&'static GicRegister> {
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
    /// The interrupts that it concerns, with their places in the value. In the distributor, private
    /// interrupts are not there (affinity routing is always on).
    pub(super) fn lines(&self) -> impl Iterator<Item = (u32, Line)> + '_ {
        (0..self.count).filter_map(|n| Some((n, self.line(n)?)))
    }

    /// Those whose bit is set in `value`, in registers that have a bit for each.
    pub(super) fn lines_in(&self, value: u64) -> impl Iterator<Item = Line> + '_ {
        let all = 1_u64
            .checked_shl(self.count)
            .map_or(u64::MAX, |end| end.wrapping_sub(1));
        bits(value & all).filter_map(|n| self.line(n))
    }

    /// The interrupt in place `n`.
    fn line(&self, n: u32) -> Option<Line> {
        let id = IntId::new(self.first.saturating_add(n))?;
        match self.bank {
            Some(vcpu) => Line::private(vcpu, id),
            None => Line::spi(id),
        }
    }
}

impl View<'_> {
    #[inline(always)]
    pub(super) fn mmio_read(
        &self,
        by: VcpuId,
        frame: GicFrame,
        offset: u32,
        size: u8,
    ) -> Result<u64, Error> {
        match self.find(Some(by), frame, offset, size)? {
            None => Ok(0),
            Some((register, access)) => {
                if register.fresh_read {
                    self.check(&access, u64::MAX, |_| true)?;
                }
                Ok((register.read)(self, &access))
            }
        }
    }

    #[inline(always)]
    pub(super) fn mmio_write(
        &mut self,
        by: VcpuId,
        frame: GicFrame,
        offset: u32,
        size: u8,
        value: u64,
        notify: &mut dyn Notify,
    ) -> Result<(), Error> {
        match self.find(Some(by), frame, offset, size)? {
            None => Ok(()),
            Some((register, access)) => {
                self.check_write(register, &access, value)?;
                (register.write)(self, &access, value, notify)
            }
        }
    }

    /// The register at an offset; none if the access is to be ignored.
    #[inline]
    pub(super) fn find(
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
        let Some((register, first, count)) = frame.locate(offset, size, self.dist.nr_irqs) else {
            return Ok(None);
        };
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

    pub(super) fn check_write(
        &self,
        register: &GicRegister,
        access: &MmioAccess,
        value: u64,
    ) -> Result<(), Error> {
        match register.fresh_write {
            Fresh::Never => Ok(()),
            Fresh::Held => self.check(access, value, |_| true),
            Fresh::Pending => self.check(access, value, |irq| irq.lr.is_some_and(|lr| lr.pending)),
        }
    }

    /// Fails if one of the interrupts in `value` is in a list register and `matters`. Out of the
    /// way of registers that do without.
    #[inline(never)]
    pub(super) fn check(
        &self,
        access: &MmioAccess,
        value: u64,
        matters: impl Fn(&Irq) -> bool,
    ) -> Result<(), Error> {
        let mut stale = StaleLists::default();
        for line in access.lines_in(value) {
            stale.add(access.by, self.irq(line).filter(|irq| matters(irq)));
        }
        stale.check()
    }
}
