// SPDX-License-Identifier: GPL-2.0

//! What userspace decides before the interrupt controller exists.

use super::intid::IntId;
use super::irq::IrqBlock;
use super::mmio::GicFrame;
use super::Error;
use crate::model::sysreg::regs::{GICD_IIDR, GICD_TYPER2};

/// GICD_IIDR without its revision: the product that KVM calls itself ('K'), by Arm. A VM that was
/// saved under KVM finds what it knows.
const IIDR: u32 = (GICD_IIDR::ProductID.of(0x4b) | GICD_IIDR::Implementer.of(0x43b)) as u32;

/// The number of interrupts and the revision of the programming interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicConfig {
    nr_irqs: Option<u16>,
    revision: u8,
}

impl Default for GicConfig {
    fn default() -> Self {
        Self {
            nr_irqs: None,
            revision: 3,
        }
    }
}

impl GicConfig {
    /// Sets the number of SGIs, PPIs and SPIs together: from 64 to 992, a multiple of 32. The
    /// architecture has room for 1020, KVM takes no 1024.
    ///
    /// Errors: [`Error::Invalid`] for another number, [`Error::Busy`] if it was set before.
    pub fn set_nr_irqs(&mut self, n: u32) -> Result<(), Error> {
        if !(64..=992).contains(&n) || n % 32 != 0 {
            return Err(Error::Invalid);
        }
        if self.nr_irqs.is_some() {
            return Err(Error::Busy);
        }
        self.nr_irqs = Some(n as u16);
        Ok(())
    }

    /// Returns the number of SGIs, PPIs and SPIs together; 256 if nobody has said.
    pub fn nr_irqs(&self) -> u32 {
        self.nr_irqs.unwrap_or(256).into()
    }

    /// Returns whether somebody has said how many interrupts there are to be.
    pub fn is_sized(&self) -> bool {
        self.nr_irqs.is_some()
    }

    /// Returns how many blocks of shared interrupts there are to be.
    pub fn spi_blocks(&self) -> usize {
        self.nr_irqs().saturating_sub(IntId::PRIVATE) as usize / IrqBlock::LEN
    }

    /// Returns GICD_IIDR.Revision. 2: groups can be configured and are honoured. 3: GICR_CTLR says
    /// that LPIs can be disabled and invalidated through registers.
    pub fn revision(&self) -> u8 {
        self.revision
    }

    /// Returns whether userspace can save a register of `frame`, as
    /// [`Gic::user_has`](super::Gic::user_has) but before there is a controller: fields of shared
    /// interrupts are there as far as their number has been set.
    pub fn user_has(&self, frame: GicFrame, offset: u32) -> bool {
        let nr_irqs = self.nr_irqs.map_or(IntId::PRIVATE, u32::from);
        let register = frame.locate(offset, 4).filter(|_| offset < frame.size());
        register
            .is_some_and(|register| register.field.is_none() || register.first(offset) < nr_irqs)
    }

    /// Reads a distributor register before there is a distributor.
    ///
    /// Errors: [`Error::Busy`] for those that come with it.
    pub fn user_read(&self, offset: u32) -> Result<u32, Error> {
        match offset {
            GICD_IIDR::OFFSET => Ok(iidr(self.revision)),
            GICD_TYPER2::OFFSET => Ok(0),
            _ => Err(Error::Busy),
        }
    }

    /// Writes a distributor register before there is a distributor.
    ///
    /// Errors: [`Error::Busy`] for those that come with it, [`Error::Invalid`] for a value that is
    /// not supported.
    pub fn user_write(&mut self, offset: u32, value: u32) -> Result<(), Error> {
        match offset {
            GICD_IIDR::OFFSET => {
                self.revision = parse_iidr(value)?;
                Ok(())
            }
            GICD_TYPER2::OFFSET if value == 0 => Ok(()),
            GICD_TYPER2::OFFSET => Err(Error::Invalid),
            _ => Err(Error::Busy),
        }
    }
}

/// Returns GICD_IIDR.
pub(super) fn iidr(revision: u8) -> u32 {
    IIDR | GICD_IIDR::Revision.of(revision.into()) as u32
}

/// Returns the revision in a value of GICD_IIDR, if it is one that we can be.
pub(super) fn parse_iidr(value: u32) -> Result<u8, Error> {
    let revision = GICD_IIDR::Revision.get(value.into()) as u8;
    if value == iidr(revision) && matches!(revision, 2..=3) {
        Ok(revision)
    } else {
        Err(Error::Invalid)
    }
}
