// SPDX-License-Identifier: GPL-2.0

//! The private interrupts of the guest's timers. A number is one for all vCPUs, and userspace's to
//! choose until the first of them runs.

use super::gic::GicModel;
use crate::host::percpu_irq;
use crate::model::timer::TimerId;
use crate::model::vcpus::VcpuId;
use crate::model::vgic::IntId;
use kernel::prelude::*;

/// A timer, by the number of its vCPU attribute (KVM_ARM_VCPU_TIMER_IRQ_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerKind {
    Virtual,
    Physical,
    /// EL2's timers, which no guest has. Their numbers are kept, as KVM keeps them.
    HypVirtual,
    HypPhysical,
}

impl TimerKind {
    /// Makes it from the attribute; `None` for another.
    pub(crate) fn new(attribute: u64) -> Option<Self> {
        match attribute {
            0 => Some(Self::Virtual),
            1 => Some(Self::Physical),
            2 => Some(Self::HypVirtual),
            3 => Some(Self::HypPhysical),
            _ => None,
        }
    }
}

/// The interrupts of a VM's timers.
#[derive(Clone, Copy)]
pub(crate) struct TimerPpis {
    pub(crate) virtual_: IntId,
    pub(crate) physical: IntId,
    hyp_virtual: IntId,
    hyp_physical: IntId,
}

impl TimerPpis {
    /// As the arm,armv8-timer binding and all firmware has them.
    pub(crate) const NEW: Self = Self {
        virtual_: ppi(27),
        physical: ppi(30),
        hyp_virtual: ppi(28),
        hyp_physical: ppi(26),
    };

    /// Returns the interrupt of one timer.
    pub(crate) fn get(&self, timer: TimerKind) -> IntId {
        match timer {
            TimerKind::Virtual => self.virtual_,
            TimerKind::Physical => self.physical,
            TimerKind::HypVirtual => self.hyp_virtual,
            TimerKind::HypPhysical => self.hyp_physical,
        }
    }

    /// Sets the interrupt of one timer, a PPI. Two timers may get the same: only a run finds that.
    pub(crate) fn set(&mut self, timer: TimerKind, intid: IntId) {
        match timer {
            TimerKind::Virtual => self.virtual_ = intid,
            TimerKind::Physical => self.physical = intid,
            TimerKind::HypVirtual => self.hyp_virtual = intid,
            TimerKind::HypPhysical => self.hyp_physical = intid,
        }
    }

    /// Ties the timers' interrupts of each of the `vcpus` to the physical ones behind them, if
    /// there is an interrupt controller. `EINVAL`: the two are the same.
    pub(super) fn connect(&self, gic: Option<&GicModel>, vcpus: usize) -> Result {
        if self.virtual_ == self.physical {
            return Err(EINVAL);
        }
        let Some(gic) = gic else {
            return Ok(());
        };
        for vcpu in (0..vcpus).map_while(VcpuId::new) {
            for timer in TimerId::ALL {
                let physical = percpu_irq::timer_intid(timer) as u16;
                gic.link_timer(vcpu, timer, Some((self.of(timer), physical)))
                    .map_err(|_| EINVAL)?;
            }
        }
        Ok(())
    }

    /// Returns the interrupt of one of EL1's timers.
    pub(crate) fn of(&self, timer: TimerId) -> IntId {
        match timer {
            TimerId::Virtual => self.virtual_,
            TimerId::Physical => self.physical,
        }
    }
}

/// Returns a constant's interrupt number.
const fn ppi(number: u32) -> IntId {
    match IntId::new(number) {
        Some(id) => id,
        None => panic!("not an interrupt number"), // while compiling
    }
}
