// SPDX-License-Identifier: GPL-2.0

//! Where interrupts come from: device lines and SGIs. And where they go: routing by affinity.

use super::intid::{IntId, Line};
use super::irq::IrqBit;
use super::redist::{Bank, Redist};
use super::state::{Dist, View};
use super::Error;
use crate::model::bitset::bits;
use crate::model::sysreg::{regs::ICC_SGI1R_EL1, Field};
use crate::model::vcpus::VcpuId;
use crate::speculation;
use core::sync::atomic::Ordering::Relaxed;

/// Which register the guest wrote to raise SGIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiReg {
    /// ICC_SGI1R_EL1.
    Sgi1,
    /// ICC_ASGI1R_EL1: the other security state, which does not exist here. Acts as ICC_SGI0R_EL1.
    Asgi1,
    /// ICC_SGI0R_EL1.
    Sgi0,
}

/// A value of ICC_SGI1R_EL1 and its like.
#[derive(Clone, Copy)]
pub(super) struct SgiTargets {
    id: u32,
    /// Aff2, Aff1 and 0.
    cluster: u32,
    /// Aff0 of bit 0 of the list: 16 times RS.
    first: u32,
    list: u16,
    pub(super) all_others: bool,
    /// There is no vCPU with an Aff3.
    nobody: bool,
}

impl SgiTargets {
    /// How many vCPUs a list has.
    pub(super) const LISTED: usize = 16;

    pub(super) fn decode(value: u64) -> Self {
        let field = |field: Field| field.get(value) as u32;
        Self {
            id: field(ICC_SGI1R_EL1::INTID),
            cluster: (field(ICC_SGI1R_EL1::Aff1) << 8) | (field(ICC_SGI1R_EL1::Aff2) << 16),
            first: field(ICC_SGI1R_EL1::RS) * 16,
            list: field(ICC_SGI1R_EL1::TargetList) as u16,
            all_others: ICC_SGI1R_EL1::IRM.is_set(value),
            // There is no Aff3.
            nobody: ICC_SGI1R_EL1::Aff3.is_set(value),
        }
    }

    /// Returns the SGI that is raised.
    pub(super) fn id(self) -> Option<IntId> {
        IntId::new(self.id)
    }

    /// Calls `each` for the vCPUs that `from` raises it for.
    pub(super) fn for_each(
        self,
        from: VcpuId,
        dist: &Dist,
        redists: &[Redist],
        mut each: impl FnMut(VcpuId),
    ) {
        if self.all_others {
            for target in (0..redists.len()).filter_map(VcpuId::new) {
                if target != from {
                    each(target);
                }
            }
        } else if self.nobody {
        } else if dist.usual_affinities.load(Relaxed) {
            for bit in bits(self.list.into()) {
                if let Some(target) = by_affinity(dist, redists, self.cluster | (self.first + bit))
                {
                    each(target);
                }
            }
        } else {
            // One pass over the vCPUs instead of one for each of 16 bits.
            for (n, redist) in redists.iter().enumerate() {
                let affinity = redist.affinity();
                let bit = (affinity & 0xff).wrapping_sub(self.first);
                let listed =
                    affinity & !0xff == self.cluster && bit < 16 && (self.list >> bit) & 1 != 0;
                if let Some(target) = VcpuId::new(n).filter(|_| listed) {
                    each(target);
                }
            }
        }
    }
}

/// Returns the vCPU with this affinity, if there is one.
pub(super) fn by_affinity(dist: &Dist, redists: &[Redist], affinity: u32) -> Option<VcpuId> {
    let usual = Redist::usual_index(affinity).filter(|vcpu| {
        speculation::get(redists, vcpu.index()).is_some_and(|redist| redist.affinity() == affinity)
    });
    if usual.is_some() || dist.usual_affinities.load(Relaxed) {
        return usual;
    }
    let at = redists
        .iter()
        .position(|redist| redist.affinity() == affinity)?;
    VcpuId::new(at)
}

/// Returns whether every vCPU has the affinity that its index suggests, so that no other needs
/// looking for.
pub(super) fn affinities_are_usual(redists: &[Redist]) -> bool {
    (0..).zip(redists).all(|(n, redist)| {
        VcpuId::new(n).is_some_and(|vcpu| Redist::usual_affinity(vcpu) == redist.affinity())
    })
}

impl Bank {
    /// Raises an SGI of this vCPU's, whose redistributor `redist` is. Whether the vCPU has to be
    /// kicked for it.
    ///
    /// With one security state (GICD_CTLR.DS), ICC_SGI1R_EL1 raises the SGI in whichever group its
    /// target has it, the other two only if it is in group 0. As [`View::raise`] in one go: an SGI
    /// has one target, which is where it is wanted if it is wanted at all.
    #[inline]
    pub(super) fn raise_sgi(
        &mut self,
        dist: &Dist,
        redist: &Redist,
        id: IntId,
        reg: SgiReg,
    ) -> bool {
        let mut irq = self.private.irq_mut(id);
        if (irq.group1() && reg != SgiReg::Sgi1) || irq.latch() {
            return false;
        }
        irq.set(IrqBit::Latch, true);
        if irq.lr().is_none() && irq.holder().is_none() {
            let holder = irq.wanted_by();
            if holder.is_some() {
                irq.set_holder(holder);
                redist.set_private(id, true);
            }
        }
        irq.kick_when_raised().is_some() && dist.forwards(irq.group1())
    }
}

impl View<'_> {
    /// Brings the work sets up to date with an interrupt that changed. One in a list register stays
    /// where it is until it comes back.
    pub(super) fn place(&mut self, line: Line) {
        let Some(mut irq) = self.irq_mut(line) else {
            return;
        };
        let (had, want) = (irq.holder(), irq.wanted_by());
        if irq.lr().is_some() || had == want {
            return;
        }
        irq.set_holder(want);
        let id = line.id();
        if let Some(vcpu) = line.bank() {
            // It is its own vCPU's or nobody's.
            if let Some(redist) = self.redists.get(vcpu.index()) {
                redist.set_private(id, want.is_some());
            }
            return;
        }
        if let Some(vcpu) = had {
            self.set_work(vcpu, id, false);
        }
        if let Some(vcpu) = want {
            self.set_work(vcpu, id, true);
        }
    }

    /// Notes that an interrupt has become pending, and returns who has to be kicked for it.
    pub(super) fn raise(&mut self, line: Line) -> Option<VcpuId> {
        self.place(line);
        let irq = self.irq(line)?;
        irq.kick_when_raised()
            .filter(|_| self.dist.forwards(irq.group1()))
    }

    /// Notes that the priority, group, enable or route of an interrupt has changed, and returns who
    /// has to be kicked for it. Unlike a new edge this changes what the list register of a running
    /// vCPU should say.
    pub(super) fn rearrange(&mut self, line: Line) -> Option<VcpuId> {
        self.place(line);
        let irq = self.irq(line)?;
        if irq.lr().is_none() && !(irq.raised() && self.dist.forwards(irq.group1())) {
            return None;
        }
        irq.holder()
    }

    /// Raises or lowers a device's line: see [`super::Gic::set_level`].
    pub(super) fn set_level(&mut self, line: Line, high: bool) -> Result<Option<VcpuId>, Error> {
        if line.id().is_sgi() {
            return Err(Error::Invalid);
        }
        let mut irq = self.irq_mut(line).ok_or(Error::Invalid)?;
        if irq.edge() {
            if !high || irq.latch() {
                return Ok(None);
            }
            irq.set(IrqBit::Latch, true);
        } else {
            if irq.line() == high {
                return Ok(None);
            }
            irq.set(IrqBit::Line, high);
        }
        if high {
            Ok(self.raise(line))
        } else {
            // A running vCPU keeps it pending in its list register until it exits: at worst a
            // spurious interrupt, which the architecture allows for, and cheaper than an exit for
            // every lowered line.
            self.place(line);
            Ok(None)
        }
    }

    /// Returns the vCPU with this affinity: see [`super::Gic::by_affinity`].
    pub(super) fn by_affinity(&self, affinity: u32) -> Option<VcpuId> {
        by_affinity(self.dist, self.redists, affinity)
    }
}
