// SPDX-License-Identifier: GPL-2.0

//! Slow exits: with the host's world back, but not yet in a place that may sleep.

use super::{abort, leave, smccc, sysreg, DeferredWork, Exit, GicAccess, Leave, Next, Outcome};
use crate::arch::cpu;
use crate::host::preempt::PreemptDisabled;
use crate::model::esr::{ErrorExtent, Esr, ExceptionClass};
use crate::model::smccc::NOT_SUPPORTED;
use crate::model::sysreg::regs::SPSR_EL1;
use crate::vcpu::core::Core;
use crate::vm::vcpu_stats::Count;

/// A synchronous exit. `offered`: ioeventfds have had it already.
pub(in crate::vcpu) fn handle(
    core: &mut Core,
    preempt: PreemptDisabled<'_>,
    offered: bool,
) -> Next {
    if SPSR_EL1::nRW.is_set(core.frame.pstate) {
        // The guest went to AArch32, which its identification registers say it does not have, but the CPU has. Nothing
        // here knows how to go on from there; it runs again when userspace has set a PSTATE that it can run.
        return leave(Exit::FailEntry);
    }
    let esr = Esr::new(core.frame.syndrome.esr);
    match esr.class() {
        ExceptionClass::Hvc => smccc::call(core),
        ExceptionClass::Smc => {
            core.skip();
            if esr.immediate() != 0 {
                core.set_x(0, NOT_SUPPORTED);
                return Next::Resume;
            }
            smccc::call(core)
        }
        ExceptionClass::Sysreg => {
            core.count(Count::SysregLeft);
            system_register(core, esr)
        }
        ExceptionClass::FpAccess if !core.fp.is_loaded() => {
            Next::Defer(DeferredWork::FloatingPoint)
        }
        ExceptionClass::Wfx if !esr.wfx().is_timed() || core.features.timed_waits() => {
            core.skip();
            Next::Defer(if esr.wfx().is_wfe() {
                DeferredWork::Yield
            } else {
                let end = core.end_of_wait(esr);
                DeferredWork::Wait { end }
            })
        }
        ExceptionClass::DataAbortLower | ExceptionClass::InstructionAbortLower => {
            core.count(Count::AbortLeft);
            abort::memory_abort(core, preempt, esr, offered)
        }
        ExceptionClass::BreakpointLower
        | ExceptionClass::WatchpointLower
        | ExceptionClass::SoftwareStepLower
        | ExceptionClass::Brk
            if core.debugger.is_some() =>
        {
            if esr.class() == ExceptionClass::SoftwareStepLower {
                core.end_step();
            }
            let (esr, far) = (core.frame.syndrome.esr, core.frame.syndrome.far);
            leave(Exit::Debug { esr, far })
        }
        ExceptionClass::MemoryOperation => {
            core.restart_memory_operation(esr);
            Next::Resume
        }
        // Whatever else traps is something that the guest does not have.
        _ => {
            core.inject_undefined();
            Next::Resume
        }
    }
}

fn system_register(core: &mut Core, esr: Esr) -> Next {
    match sysreg::access(core, esr.sysreg()) {
        Outcome::Done | Outcome::Reload => {
            core.skip();
            Next::Resume
        }
        Outcome::Undefined => {
            let syndrome = esr.undefined_sysreg(core.features.idst());
            core.inject(syndrome, None);
            Next::Resume
        }
        Outcome::NeedsClean => {
            sysreg::before_clean(core, esr.sysreg());
            core.skip();
            Next::Defer(DeferredWork::Clean)
        }
        // Only a fast exit is told this.
        Outcome::NeedsHost => host_exception(),
        Outcome::NeedsOthers { deactivate } => {
            core.skip();
            Next::Defer(DeferredWork::Gic(GicAccess::Deactivate {
                intid: deactivate,
            }))
        }
    }
}

/// An SError that arrived while the guest ran.
pub(in crate::vcpu) fn serror(core: &mut Core) -> Next {
    error(core, Esr::new(core.frame.syndrome.esr));
    Next::Resume
}

/// An SError that came to light when the guest had left for something else, to which what it has accessed may have led. So that
/// is not done: the guest comes to the same place again, once it has had the SError.
#[cold]
pub(in crate::vcpu) fn late_serror(core: &mut Core, leave: Leave) -> Next {
    let esr = Esr::new(core.frame.syndrome.esr);
    if let Some(disr) = core.frame.take_error() {
        error(core, Esr::from_disr(disr));
    }
    match leave {
        Leave::Sync | Leave::Store => {
            // HVC alone is taken from the instruction behind it.
            if esr.class() == ExceptionClass::Hvc {
                core.frame.pc = core.frame.pc.wrapping_sub(4);
            }
            Next::Resume
        }
        Leave::Interrupt => Next::Resume,
        Leave::SError => serror(core),
        Leave::HostException => host_exception(),
    }
}

/// The host took an exception in a fast exit.
pub(in crate::vcpu) fn host_exception() -> Next {
    leave(Exit::Internal)
}

/// What an SError says that arose while the guest ran. It may be the guest's doing, so it is the guest's, unless the CPU says
/// how far it has spread.
fn error(core: &mut Core, esr: Esr) {
    match esr.error_extent(cpu::features().ras) {
        ErrorExtent::Harmless => {}
        ErrorExtent::Guest => {
            core.serror = Some(core.serror.unwrap_or(Esr::NO_SERROR_SYNDROME));
        }
        ErrorExtent::Uncontained => crate::host::memory_failure::uncontained_error(),
    }
}
