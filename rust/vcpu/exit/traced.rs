// SPDX-License-Identifier: GPL-2.0

//! Exits that are traced: what an event tells is read off the syndrome here, for fast exits and for
//! slow ones.
//!
//! A tracer is the host's and wants the host's world ([`crate::host::trace`]). So while events are
//! traced each fast exit is answered in the vector as ever, and the guest is left after it.

use super::mmio::zero_extend;
use crate::arch::guest_mode::{Leave, Live, Verdict};
use crate::host::trace::{self, Mmio, Ret};
use crate::model::esr::{Abort, Esr, ExceptionClass, FaultStatus};
use crate::model::timer::TimerSet;
use crate::vcpu::context::{StoppedVcpu, VcpuContext};
use crate::vcpu::untold::TracedExit;

impl TracedExit {
    fn live(vcpu: &VcpuContext, live: Live<'_>, esr: Option<Esr>) -> Self {
        let far = live.far();
        Self {
            esr,
            pc: live.pc(),
            far,
            ipa: Abort::ipa(live.hpfar(), far).raw(),
            x0: vcpu.x(0),
            stored: esr.map_or(0, |esr| vcpu.x(esr.abort().register())),
            fast: false,
        }
    }

    fn stopped(vcpu: &StoppedVcpu) -> Self {
        let frame = vcpu.frame();
        let esr = Esr::new(frame.syndrome.esr);
        Self {
            esr: Some(esr),
            pc: frame.pc,
            far: frame.syndrome.far,
            ipa: vcpu.fault_ipa(),
            x0: vcpu.x(0),
            stored: 0,
            fast: false,
        }
    }

    /// Tells what kind of trap it was.
    fn tell(&self, esr: Esr) {
        match esr.class() {
            ExceptionClass::Hvc => trace::kvm_hvc_arm64(self.pc, self.x0, esr.immediate().into()),
            ExceptionClass::Sysreg => trace::kvm_sysreg(self.pc, esr.raw()),
            ExceptionClass::Wfx => trace::kvm_wfx_arm64(self.pc, esr.wfx().is_wfe()),
            ExceptionClass::DataAbortLower | ExceptionClass::InstructionAbortLower => {
                trace::kvm_guest_fault(self.pc, esr.raw(), self.far, self.ipa);
                if matches!(esr.abort().fault(), FaultStatus::AccessFlag(_)) {
                    trace::kvm_access_fault(self.ipa);
                }
            }
            _ => {}
        }
    }

    /// Tells what a fast exit did to the interrupt controller's registers in memory.
    fn tell_mmio(&self, vcpu: &StoppedVcpu, abort: Abort) {
        let (what, value) = if abort.is_write() {
            (Mmio::Write, zero_extend(self.stored, &abort))
        } else {
            (Mmio::Read, vcpu.x(abort.register()))
        };
        trace::kvm_mmio(what, abort.size(), self.ipa, value);
    }
}

/// Has an exit answered in the vector, by `answer`, and the guest left after it. `esr`: `None` for
/// an interrupt.
#[cold]
#[inline(never)]
pub(super) fn answered(
    vcpu: &mut VcpuContext,
    // In this order the syndrome is where it would be without this.
    answer: impl FnOnce(&mut VcpuContext) -> Verdict,
    live: Live<'_>,
    esr: Option<Esr>,
) -> Verdict {
    const LEAVE: Verdict = Verdict::leave(Leave::Interrupt);
    let exit = TracedExit::live(vcpu, live, esr);
    let verdict = answer(vcpu);
    let fast = verdict == Verdict::RESUME || verdict == Verdict::RESUME_ALL;
    // A trap that leads out as an interrupt is done, but somebody has to be told in the host's
    // world.
    let answered = fast || verdict == LEAVE && esr.is_some();
    // In any case: one may be left from when tracing was switched off.
    vcpu.untold.exit = answered.then_some(TracedExit { fast, ..exit });
    if answered {
        LEAVE
    } else {
        verdict
    }
}

/// Tells that the guest is about to be entered.
#[cold]
pub(in crate::vcpu) fn entry(vcpu: &mut StoppedVcpu) {
    vcpu.untold.exit = None;
    tell_timers(vcpu);
    trace::kvm_entry(vcpu.frame().pc);
}

/// Tells that the guest was left, and what for.
#[cold]
pub(in crate::vcpu) fn exit(vcpu: &mut StoppedVcpu, reason: Leave) {
    let untold = vcpu.untold.exit.take();
    match untold.filter(|_| reason == Leave::Interrupt) {
        Some(exit) => match exit.esr {
            Some(esr) => {
                trace::kvm_exit(Ret::Trap, esr.ec(), exit.pc, exit.fast);
                exit.tell(esr);
                // A fault that the vector has had the guest try again is no access to a device.
                if esr.class() == ExceptionClass::DataAbortLower
                    && esr.abort().is_plain_device_access()
                {
                    exit.tell_mmio(vcpu, esr.abort());
                }
            }
            None => trace::kvm_exit(Ret::Interrupt, 0, exit.pc, exit.fast),
        },
        None => {
            let exit = TracedExit::stopped(vcpu);
            match (reason, exit.esr) {
                (Leave::Sync | Leave::Store, Some(esr)) => {
                    trace::kvm_exit(Ret::Trap, esr.ec(), exit.pc, false);
                    exit.tell(esr);
                }
                (Leave::SError, _) => trace::kvm_exit(Ret::SError, 0, exit.pc, false),
                _ => trace::kvm_exit(Ret::Interrupt, 0, exit.pc, false),
            }
        }
    }
    tell_timers(vcpu);
}

/// Returns whether the exit for which the guest was left had been answered in the vector.
#[inline(always)]
pub(in crate::vcpu) fn was_answered(vcpu: &VcpuContext) -> bool {
    trace::is_on() && vcpu.untold.exit.is_some()
}

fn tell_timers(vcpu: &mut StoppedVcpu) {
    let timers = core::mem::replace(&mut vcpu.untold.timers, TimerSet::NONE);
    for (intid, up) in timers.iter().map(|timer| vcpu.timer_line(timer)) {
        trace::kvm_timer_update_irq(vcpu.id.index() as u64, intid.get(), up.into());
        trace::vgic_update_irq_pending(vcpu.id.index() as u64, intid.get(), up);
    }
}
