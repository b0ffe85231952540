// SPDX-License-Identifier: GPL-2.0

//! The state of one interrupt.

use crate::model::timer::TimerSet;
use crate::model::vcpus::VcpuId;

/// What was written into a list register for an interrupt, for as long as the guest may be changing
/// it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InLr {
    /// It was put there as pending.
    pub(super) pending: bool,
    /// Being an edge, its latch moved there.
    pub(super) latched: bool,
    /// Its deactivation asserts a maintenance interrupt.
    pub(super) eoi: bool,
    /// The list register is linked to the physical interrupt of a timer, which is deactivated with
    /// it.
    pub(super) timer: TimerSet,
}

/// One interrupt, private or shared.
///
/// While it sits in a list register of a running vCPU (`lr`), `active` and `latch` here are only
/// what they were at the last entry, plus edges that arrived since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Irq {
    /// GICD_IROUTER: Aff2, Aff1, Aff0 in 24 bits.
    pub(super) route: u32,
    /// The vCPU that `route` names, or that a private interrupt belongs to. None: routed to nobody.
    pub(super) target: Option<VcpuId>,
    /// The vCPU that has it in its work set: the target, or where it is active.
    pub(super) holder: Option<VcpuId>,
    pub(super) lr: Option<InLr>,
    pub(super) priority: u8,
    pub(super) enabled: bool,
    pub(super) group1: bool,
    /// Edge-triggered, otherwise level-sensitive.
    pub(super) edge: bool,
    /// The level of the input. Means nothing for an edge.
    pub(super) line: bool,
    /// Pending by an edge or by a write to ISPENDR.
    pub(super) latch: bool,
    pub(super) active: bool,
    /// While it is active: its holder has acknowledged it, and has it in its
    /// [`Nest`](super::active).
    pub(super) acknowledged: bool,
    /// Somebody waits for the guest to deactivate it.
    pub(super) watched: bool,
}

impl Default for Irq {
    /// A shared interrupt out of reset. The architecture leaves most of it unknown; group 1, edge,
    /// not enabled are what KVM starts with. So what a device does before the guest has configured
    /// its interrupt is kept, as an edge.
    fn default() -> Self {
        Self {
            route: 0,
            target: None,
            holder: None,
            lr: None,
            priority: 0,
            enabled: false,
            group1: true,
            edge: true,
            line: false,
            latch: false,
            active: false,
            acknowledged: false,
            watched: false,
        }
    }
}

impl Irq {
    /// A shared interrupt out of reset.
    pub(super) fn spi() -> Self {
        Self {
            target: Some(VcpuId::FIRST),
            ..Self::default()
        }
    }

    /// An SGI out of reset: edge-triggered, and enabled, which the architecture leaves to the
    /// implementation.
    pub(super) fn sgi() -> Self {
        Self {
            enabled: true,
            ..Self::default()
        }
    }

    /// A PPI: level-sensitive, as GICR_ICFGR1 says for good.
    pub(super) fn ppi() -> Self {
        Self {
            edge: false,
            ..Self::default()
        }
    }

    /// The pending state that the guest reads in ISPENDR.
    pub(super) fn pending(&self) -> bool {
        self.latch || (!self.edge && self.line)
    }

    /// Pending and enabled: the distributor wants to forward it, groups permitting.
    pub(super) fn raised(&self) -> bool {
        self.enabled && self.pending()
    }

    /// Whose work set it belongs in. An active interrupt stays where it was acknowledged, whatever
    /// its route says now.
    pub(super) fn wanted_by(&self) -> Option<VcpuId> {
        if self.active {
            self.holder.or(self.target)
        } else if self.raised() {
            self.target
        } else {
            None
        }
    }

    /// Who has to leave the guest, or wake up, because this interrupt has just become pending.
    ///
    /// Not needed where an exit is certain to come before it could be delivered: while it is active
    /// outside the list registers (that deactivation traps), and when a level sits in a list
    /// register whose end asserts a maintenance interrupt.
    pub(super) fn kick_when_raised(&self) -> Option<VcpuId> {
        if !self.raised() {
            return None;
        }
        match self.lr {
            Some(lr) if !self.edge && lr.eoi => None,
            None if self.active => None,
            _ => self.holder,
        }
    }

    /// Becomes `fresh`, but keeps what the outside world decides: the level of the line, and who
    /// watches it.
    pub(super) fn reset(&mut self, fresh: Irq) {
        *self = Irq {
            line: self.line,
            watched: self.watched,
            ..fresh
        };
    }
}
