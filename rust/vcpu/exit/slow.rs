// SPDX-License-Identifier: GPL-2.0

//! Slow exits: with the host's world back, but not yet in a place that may sleep.

use super::{abort, leave, smccc, sysreg, DeferredWork, Exit, GicAccess, Next, Outcome};
use crate::arch::cpu;
use crate::arch::guest_mode::Leave;
use crate::host::preempt::PreemptDisabled;
use crate::model::aarch32::{self, Coprocessor};
use crate::model::esr::{ErrorExtent, Esr, ExceptionClass, SysregAccess};
use crate::model::smccc::NOT_SUPPORTED;
use crate::model::sysreg::regs::SPSR_EL1;
use crate::vcpu::context::StoppedVcpu;
use crate::vm::vcpu_stats::Count;

/// Handles a synchronous exit. `offered`: ioeventfds have had it already.
pub(in crate::vcpu) fn handle(
    vcpu: &mut StoppedVcpu,
    preempt: PreemptDisabled<'_>,
    offered: bool,
) -> Next {
    let esr = Esr::new(vcpu.frame().syndrome.esr);
    if SPSR_EL1::nRW.is_set(vcpu.frame().pstate) {
        if let Some(next) = aarch32(vcpu, esr) {
            count_other(vcpu, esr.class());
            return next;
        }
    }
    match esr.class() {
        ExceptionClass::Hvc => smccc::call(vcpu),
        ExceptionClass::Sysreg => {
            vcpu.count(Count::SysregLeft);
            system_register(vcpu, esr)
        }
        ExceptionClass::Wfx if !esr.wfx().is_timed() || vcpu.frozen.features().timed_waits() => {
            vcpu.skip();
            Next::Defer(if esr.wfx().is_wfe() {
                DeferredWork::Yield
            } else {
                let end = vcpu.end_of_wait(esr);
                DeferredWork::Wait { end }
            })
        }
        ExceptionClass::DataAbortLower | ExceptionClass::InstructionAbortLower => {
            vcpu.count(Count::AbortLeft);
            abort::memory_abort(vcpu, preempt, esr, offered)
        }
        class => {
            count_other(vcpu, class);
            other(vcpu, esr)
        }
    }
}

/// Handles what is another thing in AArch32; `None`: the exit is handled as one of AArch64.
#[cold]
fn aarch32(vcpu: &mut StoppedVcpu, esr: Esr) -> Option<Next> {
    let pstate = vcpu.frame().pstate;
    if !aarch32::is_user(pstate) || !vcpu.frozen.features().aarch32() {
        // The guest went where its identification registers say it cannot go, but the CPU can. It
        // runs again when userspace has set a PSTATE that it can run.
        return Some(leave(Exit::FailEntry));
    }
    if !aarch32::runs(esr, pstate) {
        vcpu.skip();
        return Some(Next::Resume);
    }
    if !matches!(
        esr.class(),
        ExceptionClass::Cp15 | ExceptionClass::Cp15Double
    ) {
        return None;
    }
    let done = Coprocessor::new(esr).is_some_and(|access| coprocessor(vcpu, access));
    if done {
        vcpu.skip();
    } else {
        vcpu.inject_undefined();
    }
    Some(Next::Resume)
}

/// Accesses a register that AArch64 has as well. False: there is none.
fn coprocessor(vcpu: &mut StoppedVcpu, access: Coprocessor) -> bool {
    const LOW: u64 = u32::MAX as u64;
    let low = vcpu.x(access.rt) & LOW;
    let value = match access.rt2 {
        Some(rt2) => vcpu.x(rt2) << 32 | low,
        None => low,
    };
    // What the register gets or gives goes by way of the first of the two.
    vcpu.set_x(access.rt, value);
    let as_sysreg = SysregAccess::new(access.register, access.rt, access.read);
    let done = matches!(
        sysreg::access(vcpu, None, as_sysreg),
        Outcome::Done | Outcome::Reload
    );
    let value = vcpu.x(access.rt);
    vcpu.set_x(access.rt, value & LOW);
    if let Some(rt2) = access.rt2.filter(|_| access.read && done) {
        vcpu.set_x(rt2, value >> 32);
    }
    done
}

/// Counts an exit of a kind that the vector has not counted, since it may answer none of it.
fn count_other(vcpu: &StoppedVcpu, class: ExceptionClass) {
    match class {
        ExceptionClass::Hvc
        | ExceptionClass::Sysreg
        | ExceptionClass::Wfx
        | ExceptionClass::DataAbortLower
        | ExceptionClass::InstructionAbortLower => {}
        _ => vcpu.count(Count::Other),
    }
}

/// Handles a synchronous exit that the vector never answers.
fn other(vcpu: &mut StoppedVcpu, esr: Esr) -> Next {
    match esr.class() {
        ExceptionClass::Smc => {
            vcpu.skip();
            if esr.immediate() != 0 {
                vcpu.set_x(0, NOT_SUPPORTED);
                return Next::Resume;
            }
            smccc::call(vcpu)
        }
        ExceptionClass::FpAccess if !vcpu.fp().is_loaded() => {
            Next::Defer(DeferredWork::FloatingPoint)
        }
        ExceptionClass::BreakpointLower
        | ExceptionClass::WatchpointLower
        | ExceptionClass::SoftwareStepLower
        | ExceptionClass::Bkpt
        | ExceptionClass::Brk
            if vcpu.debugger.is_some() =>
        {
            if esr.class() == ExceptionClass::SoftwareStepLower {
                vcpu.end_step();
            }
            let (esr, far) = (vcpu.frame().syndrome.esr, vcpu.frame().syndrome.far);
            leave(Exit::Debug { esr, far })
        }
        ExceptionClass::MemoryOperation => {
            vcpu.restart_memory_operation(esr);
            Next::Resume
        }
        // Whatever else traps is something that the guest does not have.
        _ => {
            vcpu.inject_undefined();
            Next::Resume
        }
    }
}

fn system_register(vcpu: &mut StoppedVcpu, esr: Esr) -> Next {
    match sysreg::access(vcpu, None, esr.sysreg()) {
        Outcome::Done | Outcome::Reload => {
            vcpu.skip();
            Next::Resume
        }
        Outcome::Undefined => {
            let syndrome = esr.undefined_sysreg(vcpu.frozen.features().idst());
            vcpu.inject(syndrome, None);
            Next::Resume
        }
        Outcome::NeedsClean => {
            sysreg::before_clean(vcpu, esr.sysreg());
            vcpu.skip();
            Next::Defer(DeferredWork::Clean)
        }
        // Only a fast exit is told this.
        Outcome::NeedsHost => host_exception(),
        Outcome::NeedsOthers { deactivate } => {
            vcpu.skip();
            Next::Defer(DeferredWork::Gic(GicAccess::Deactivate {
                intid: deactivate,
            }))
        }
    }
}

/// Handles an SError that arrived while the guest ran.
pub(in crate::vcpu) fn serror(vcpu: &mut StoppedVcpu) -> Next {
    vcpu.count(Count::Other);
    error(vcpu, Esr::new(vcpu.frame().syndrome.esr));
    Next::Resume
}

/// Handles an SError that came to light when the guest had left for something else, to which what
/// it has accessed may have led. So that is not done: the guest comes to the same place again, once
/// it has had the SError.
#[cold]
pub(in crate::vcpu) fn late_serror(vcpu: &mut StoppedVcpu, leave: Leave) -> Next {
    let esr = Esr::new(vcpu.frame().syndrome.esr);
    if let Some(disr) = vcpu.frame_mut().take_error() {
        error(vcpu, Esr::from_disr(disr));
    }
    match leave {
        Leave::Sync | Leave::Store => {
            count_other(vcpu, esr.class());
            // HVC alone is taken from the instruction behind it.
            if esr.class() == ExceptionClass::Hvc {
                vcpu.frame_mut().pc = vcpu.frame().pc.wrapping_sub(4);
            }
            Next::Resume
        }
        Leave::Interrupt => Next::Resume,
        Leave::SError => serror(vcpu),
        Leave::HostException => host_exception(),
    }
}

/// Ends KVM_RUN because the host took an exception in a fast exit.
pub(in crate::vcpu) fn host_exception() -> Next {
    leave(Exit::Internal)
}

/// Handles what an SError says that arose while the guest ran. It may be the guest's doing, so it
/// is the guest's, unless the CPU says how far it has spread.
fn error(vcpu: &mut StoppedVcpu, esr: Esr) {
    match esr.error_extent(cpu::features().ras) {
        ErrorExtent::Harmless => {}
        ErrorExtent::Guest => {
            vcpu.serror = Some(vcpu.serror.unwrap_or(Esr::NO_SERROR_SYNDROME));
        }
        ErrorExtent::Uncontained => crate::host::memory_failure::uncontained_error(),
    }
}
