// SPDX-License-Identifier: GPL-2.0

//! Fast exits: what is answered in the exception vector, with the guest still in the CPU.
//!
//! Here interrupts are masked and the guest's world is in place (HCR_EL2.TGE = 0), so nothing in here sleeps, touches
//! user memory, wakes a thread or loops for long. What needs any of that leaves. What takes a lock has RCU watch this CPU
//! meanwhile ([`Watched`]), which on some CPUs it does not while they run a guest. A pending interrupt of the host's does
//! not wait: the guest takes its exit for it right after the ERET.

use super::core::Core;
use super::sysreg::{self, Outcome};
use crate::arch::{gic, world};
use crate::host::guest::Watched;
use crate::host::{cpu, ffi, machine};
use crate::model::esr::{Abort, Esr, ExceptionClass, FaultStatus, Wfx};
use crate::model::smccc;
use crate::model::vgic::{Error as GicError, Frame};

/// Into the guest again; x19 to x28 are as it left them.
const RESUME: u64 = ffi::FRAME_RESUME as u64;
/// Into the guest again, with all registers from the frame.
const RESUME_ALL: u64 = ffi::FRAME_RESUME_ALL as u64;

/// Why the guest was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    /// A synchronous exit that needs the host.
    Sync,
    /// An interrupt for the host, or a vCPU that has to be told something.
    Interrupt,
    /// An SError.
    SError,
    /// The host took an exception in a fast exit: the guest cannot go on.
    HostException,
}

impl Leave {
    const fn code(self) -> u64 {
        ffi::FRAME_LEAVE as u64 + self as u64
    }

    /// From what `world::run_core` returned.
    pub(crate) fn new(code: u64) -> Self {
        const SYNC: u64 = Leave::Sync.code();
        const INTERRUPT: u64 = Leave::Interrupt.code();
        const SERROR: u64 = Leave::SError.code();
        match code {
            SYNC => Self::Sync,
            INTERRUPT => Self::Interrupt,
            SERROR => Self::SError,
            _ => Self::HostException,
        }
    }
}

/// A synchronous exit.
#[inline]
pub(crate) fn sync(core: &mut Core, esr: u64) -> u64 {
    let esr = Esr::new(esr);
    core.walked_ipa = None;
    if !core.fast {
        return abort_address(core, esr);
    }
    match esr.class() {
        ExceptionClass::Hvc => hypercall(core),
        ExceptionClass::Sysreg => system_register(core, esr),
        ExceptionClass::DataAbortLower => mmio(core, esr),
        ExceptionClass::Wfx => wait(core, esr),
        ExceptionClass::InstructionAbortLower => abort_address(core, esr),
        _ => Leave::Sync.code(),
    }
}

/// The PC is already behind the HVC.
fn hypercall(core: &mut Core) -> u64 {
    if core.filtered {
        return Leave::Sync.code();
    }
    let [function, first, ..] = core.frame.x;
    match smccc::quick(&core.firmware, function as u32, first) {
        Some(value) => {
            let [x0, x1, x2, x3, ..] = &mut core.frame.x;
            (*x0, *x1, *x2, *x3) = (value, 0, 0, 0);
            RESUME
        }
        None => Leave::Sync.code(),
    }
}

/// How to resume after register `rt` was written, or none.
fn resume(rt: Option<u8>) -> u64 {
    match rt {
        Some(19..=28) => RESUME_ALL,
        _ => RESUME,
    }
}

fn system_register(core: &mut Core, esr: Esr) -> u64 {
    let access = esr.sysreg();
    let _watched = Watched::new();
    match sysreg::access(core, access) {
        Outcome::Done => {
            world::skip_instruction();
            if !finish(core) {
                return Leave::Interrupt.code();
            }
            resume(access.is_read().then(|| access.rt()))
        }
        Outcome::Reload => {
            world::skip_instruction();
            Leave::Interrupt.code()
        }
        Outcome::Undefined | Outcome::NeedsHost | Outcome::NeedsOthers { .. } => Leave::Sync.code(),
    }
}

/// After an emulated access: tells running vCPUs of their interrupts, and takes this one's. False if the host is needed
/// for the rest, which `core.after` has; the instruction is done all the same.
fn finish(core: &mut Core) -> bool {
    if core.after.kicks.is_empty() {
        return true;
    }
    let mut rest = false;
    for vcpu in core.after.kicks.iter() {
        if vcpu != core.id
            && !core
                .vm
                .vcpu(vcpu)
                .is_some_and(|vcpu| vcpu.interrupt_running())
        {
            rest = true;
        }
    }
    if core.after.kicks.contains(core.id) {
        rest |= !core.refresh_lists();
    }
    if !rest {
        core.after.kicks = Default::default();
    }
    !rest
}

/// Leaves for an abort. Where HPFAR_EL2 is UNKNOWN (permission faults), the address is found while the guest's tables are
/// still in place; if they have changed meanwhile, the guest tries again.
fn abort_address(core: &mut Core, esr: Esr) -> u64 {
    if !matches!(
        esr.class(),
        ExceptionClass::DataAbortLower | ExceptionClass::InstructionAbortLower
    ) {
        return Leave::Sync.code();
    }
    if !esr.abort().hpfar_is_valid() {
        match world::translate(world::Syndrome::read().far) {
            Some(ipa) => core.walked_ipa = Some(ipa),
            None => return RESUME,
        }
    }
    Leave::Sync.code()
}

/// An access to the interrupt controller's registers.
fn mmio(core: &mut Core, esr: Esr) -> u64 {
    let leave = Leave::Sync.code();
    let abort = esr.abort();
    if super::mmio::is_big_endian(core, world::pstate()) {
        return abort_address(core, esr);
    }
    if !abort.is_described()
        || !matches!(abort.fault(), FaultStatus::Translation(_))
        || abort.is_on_walk()
    {
        return abort_address(core, esr);
    }
    let syndrome = world::Syndrome::read();
    let ipa = Abort::ipa(syndrome.hpfar, syndrome.far).raw();
    let Some((frame, offset)) = core.vm.gic.frame(ipa) else {
        return leave;
    };
    if world::pstate() & crate::model::sysreg::regs::SPSR_EL1::nRW.mask() != 0 {
        return leave;
    }
    let _watched = Watched::new();
    if matches!(frame, Frame::Redist(_)) {
        core.update_lines();
    }
    let (rt, size, id) = (abort.register(), abort.size(), core.id);
    if abort.is_write() {
        let value = core.x(rt);
        let done = match core.vm.gic.lock() {
            Some(mut model) => model.mmio_write(id, frame, offset, size, value, &mut core.after),
            None => return leave,
        };
        match done {
            Ok(()) => {
                // What was pending may be enabled now, or what is in a list register be disabled.
                core.after.kicks.insert(id);
                world::skip_instruction();
                if finish(core) {
                    RESUME
                } else {
                    Leave::Interrupt.code()
                }
            }
            Err(_) => leave,
        }
    } else {
        let read = match core.vm.gic.lock() {
            Some(mut model) => model.mmio_read(id, frame, offset, size),
            None => return leave,
        };
        match read {
            Ok(value) => {
                core.set_x(rt, super::mmio::extend(value, &abort));
                world::skip_instruction();
                resume(Some(rt))
            }
            Err(GicError::NeedSync(_)) | Err(_) => leave,
        }
    }
}

/// WFI with an interrupt pending, and WFE with nobody else to run, do not wait.
fn wait(core: &mut Core, esr: Esr) -> u64 {
    if esr.wfx() == Wfx::Wfe && !cpu::need_resched() && core.spare_wfe() {
        world::skip_instruction();
        return RESUME;
    }
    Leave::Sync.code()
}

/// An interrupt: the guest's timer, its list registers' maintenance, or the host's.
pub(crate) fn irq(core: &mut Core) -> u64 {
    let leave = Leave::Interrupt.code();
    let pending = gic::pending();
    if pending != machine::timer_intid() && pending != machine::maintenance_intid() {
        return leave;
    }
    let _watched = Watched::new();
    if !core.fast {
        // The timer's has to be silenced all the same: it is asserted whenever the guest runs, which would not get on.
        if pending == machine::timer_intid() {
            core.silence_timer();
        }
        return leave;
    }
    let resumed = if pending == machine::timer_intid() {
        core.timer_fired()
    } else {
        core.refresh_lists()
    };
    if resumed {
        RESUME
    } else {
        leave
    }
}

/// An SError while the guest ran.
pub(crate) fn serror(_core: &mut Core) -> u64 {
    Leave::SError.code()
}
