// SPDX-License-Identifier: GPL-2.0

//! Interrupts on their way to a VM's vCPUs: what raises one, and who is kicked for it.

use super::events::irqfd::{InterruptSink, Irqfds};
use super::gic::gic_errno;
use super::its::Msi;
use super::vcpu_handle::VcpuHandle;
use super::Vm;
use crate::host::{sched, trace};
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::model::vgic::{Line, LpiId, NotRaised};
use kernel::prelude::*;
use kernel::sync::Arc;

impl Vm {
    /// Sets the level of an interrupt line, or for an edge interrupt raises it; as KVM_IRQ_LINE.
    /// `EBUSY` if the controller is not initialised, `EINVAL` for an interrupt that it has not.
    pub(crate) fn set_irq_level(&self, line: Line, high: bool) -> Result {
        let gic = self.gic.model().ok_or(EBUSY)?;
        if trace::is_on() {
            let vcpu = line.bank().map_or(0, VcpuId::index);
            trace::vgic_update_irq_pending(vcpu as u64, line.id().get(), high);
        }
        if let Some(vcpu) = gic.set_level(line, high).map_err(gic_errno)? {
            self.kick(vcpu);
        }
        Ok(())
    }

    /// Raises the interrupt of a device's message; returns whether there is one for it. In any
    /// context.
    ///
    /// Errors: those of [`ItsList::signal`](super::its::ItsList::signal).
    pub(crate) fn signal_msi(&self, msi: Msi) -> Result<bool> {
        let raised = self.its.signal(&self.gic, msi)?;
        if let Some(vcpu) = raised.as_ref().and_then(|raised| raised.kick) {
            self.kick(vcpu);
        }
        Ok(raised.is_some())
    }

    /// Raises the LPI that a message arrived for. Succeeds if that raised it, or it was pending.
    pub(crate) fn raise_lpi(&self, lpi: LpiId) -> core::result::Result<(), NotRaised> {
        let gic = self.gic.model().ok_or(NotRaised::Unmapped)?;
        if let Some(vcpu) = gic.raise_lpi(lpi)? {
            self.kick(vcpu);
        }
        Ok(())
    }

    /// Makes a vCPU look at its interrupts.
    pub(crate) fn kick(&self, vcpu: VcpuId) {
        if let Some(vcpus) = self.gic.vcpus.as_ref() {
            if let Some(vcpu) = vcpus.get(vcpu.index()) {
                vcpu.interrupt();
            }
        } else if let Some(vcpu) = self.vcpu(vcpu) {
            vcpu.interrupt();
        }
    }

    /// Tries something again and again, with those vCPUs out of the guest that it has asked for
    /// (all of them, or two that take an interrupt from one another could keep it from ending). The
    /// caller's own vCPU is not in the guest.
    pub(crate) fn with_guests_out<R>(&self, mut attempt: impl FnMut() -> Result<R, VcpuSet>) -> R {
        let mut out = VcpuSet::EMPTY;
        loop {
            match attempt() {
                Ok(done) => {
                    self.each(&out, VcpuHandle::release);
                    return done;
                }
                Err(more) => {
                    for vcpu in more.iter().filter_map(|id| self.vcpu(id)) {
                        if !out.contains(vcpu.id) {
                            vcpu.hold();
                            out.insert(vcpu.id);
                        }
                    }
                }
            }
            // Each leaves as soon as an interrupt has reached it, and does not come back. One that
            // was on its way in when it was held may not have its list registers yet: it is not out
            // until it says so.
            self.each(&out, |vcpu| {
                while !vcpu.is_outside() || self.gic.is_resident(vcpu.id) {
                    sched::cond_resched();
                }
            });
        }
    }

    fn each(&self, vcpus: &VcpuSet, mut each: impl FnMut(&VcpuHandle)) {
        for vcpu in vcpus.iter().filter_map(|id| self.vcpu(id)) {
            each(&vcpu);
        }
    }

    /// Makes several vCPUs look at their interrupts.
    pub(crate) fn kick_all(&self, vcpus: &VcpuSet) {
        for vcpu in vcpus.iter() {
            self.kick(vcpu);
        }
    }
}

impl InterruptSink for Vm {
    fn irqfds(&self) -> &Arc<Irqfds<Self>> {
        self.events.irqfds()
    }

    fn is_ready(&self) -> bool {
        self.gic.is_ready()
    }

    // A route may lead to an interrupt that is not there: an eventfd has nobody to tell.

    fn set_level(&self, line: Line, high: bool) {
        let _ = self.set_irq_level(line, high);
    }

    fn signal(&self, msi: Msi) {
        let _ = self.signal_msi(msi);
    }

    fn notify_eoi(&self, line: Line, notify: bool) {
        let gic = self.gic.model();
        if let Some(vcpu) = gic.and_then(|gic| gic.watch(line, notify).ok().flatten()) {
            self.kick(vcpu);
        }
    }
}
