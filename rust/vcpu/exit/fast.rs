// SPDX-License-Identifier: GPL-2.0

//! Fast exits: what is answered in the exception vector, with the guest still in the CPU.
//!
//! Here interrupts are masked and the guest's world is in place (HCR_EL2.TGE = 0), so nothing in here sleeps, touches
//! user memory, wakes a thread or loops for long. What needs any of that leaves. What takes a lock has RCU watch this CPU
//! meanwhile ([`RcuActive`]), which on some CPUs it does not while they run a guest. A pending interrupt of the host's does
//! not wait: the guest takes its exit for it right after the ERET.

use super::{gic, sysreg, Leave, Outcome};
use crate::arch::cpu::features;
use crate::arch::gic as cpu_gic;
use crate::arch::{relax, timer, wait, world};
use crate::host::context_tracking::{InGuest, RcuActive};
use crate::host::{ffi, percpu_irq, sched};
use crate::model::esr::{Abort, Esr, ExceptionClass, FaultStatus};
use crate::model::smccc;
use crate::model::sysreg::regs::{ICC_SGI1R_EL1, SCTLR_EL1, SPSR_EL1};
use crate::model::sysreg::Reg;
use crate::vcpu::core::Core;
use crate::vm::vcpu_stats::Count;

/// Into the guest again; x19 to x28 are as it left them.
const RESUME: u64 = ffi::FRAME_RESUME as u64;
/// Into the guest again, with all registers from the frame.
const RESUME_ALL: u64 = ffi::FRAME_RESUME_ALL as u64;

/// A synchronous exit. The kinds are functions of their own, or the shortest would save the registers that the longest needs.
#[inline]
pub(crate) fn sync(core: &mut Core, esr: u64, guest: InGuest<'_>) -> u64 {
    let esr = Esr::new(esr);
    match esr.class() {
        ExceptionClass::Hvc => {
            core.count(Count::Hvc);
            if core.fast_calls {
                hypercall(core)
            } else {
                Leave::Sync.code()
            }
        }
        ExceptionClass::Sysreg => {
            core.count(Count::Sysreg);
            if core.fast {
                system_register(core, esr, guest)
            } else {
                Leave::Sync.code()
            }
        }
        class @ (ExceptionClass::DataAbortLower | ExceptionClass::InstructionAbortLower) => {
            core.count(Count::Abort);
            if core.fast && class == ExceptionClass::DataAbortLower {
                mmio(core, esr, guest)
            } else {
                abort_address(core, esr)
            }
        }
        ExceptionClass::Wfx => wfx(core, esr, guest),
        _ => rare(core, esr),
    }
}

#[cold]
fn rare(core: &mut Core, esr: Esr) -> u64 {
    if esr.class() == ExceptionClass::PointerAuth {
        core.repair_stepped_pstate();
    }
    Leave::Sync.code()
}

/// The PC is already behind the HVC.
#[inline(always)]
fn hypercall(core: &mut Core) -> u64 {
    let [function, ..] = core.frame.x;
    if function as u32 == smccc::function::VERSION {
        answer(core, smccc::VERSION_1_1)
    } else {
        other_hypercall(core)
    }
}

/// A function of its own, as it calls others: [`sync`] then does without a stack frame.
#[inline(never)]
fn other_hypercall(core: &mut Core) -> u64 {
    let [function, first, ..] = core.frame.x;
    match smccc::quick(&core.firmware, function as u32, first) {
        Some(value) => answer(core, value),
        None => rare_hypercall(core),
    }
}

/// Calls that have nothing but an answer, if only that they are not supported.
#[inline(never)]
fn rare_hypercall(core: &mut Core) -> u64 {
    let [function, x1, x2, x3, ..] = core.frame.x;
    let stolen_time = core.steal_time.ipa().is_some();
    let call = smccc::decide(&core.firmware, function as u32, [x1, x2, x3], stolen_time);
    let Some(values) = call.answer() else {
        return Leave::Sync.code();
    };
    for (x, value) in core.frame.x.iter_mut().zip(values) {
        *x = value;
    }
    RESUME
}

/// What a firmware call returns.
#[inline(always)]
fn answer(core: &mut Core, value: u64) -> u64 {
    let [x0, x1, x2, x3, ..] = &mut core.frame.x;
    (*x0, *x1, *x2, *x3) = (value, 0, 0, 0);
    RESUME
}

/// How to resume after register `rt` was written.
#[inline(always)]
fn resume(rt: u8) -> u64 {
    match rt {
        19..=28 => RESUME_ALL,
        _ => RESUME,
    }
}

#[inline(always)]
fn system_register(core: &mut Core, esr: Esr, guest: InGuest<'_>) -> u64 {
    let access = esr.sysreg();
    if let Some(value) = core.fast_ids.read(access) {
        core.set_x(access.rt(), value);
        world::skip_instruction();
        return resume(access.rt());
    }
    if access.is_write_of(ICC_SGI1R_EL1::ENCODING) {
        return send_sgi(core, esr, guest);
    }
    emulated_register(core, esr, guest)
}

/// A write to ICC_SGI1R_EL1, as [`emulated_register`] would do it, without looking the register up.
#[inline(never)]
fn send_sgi(core: &mut Core, esr: Esr, guest: InGuest<'_>) -> u64 {
    let value = core.x(esr.sysreg().rt());
    let _watched = RcuActive::new(guest);
    if gic::send_sgi1_fast(core, value) != Outcome::Done {
        return Leave::Sync.code();
    }
    world::skip_instruction();
    if finish(core) {
        RESUME
    } else {
        Leave::Interrupt.code()
    }
}

#[inline(never)]
fn emulated_register(core: &mut Core, esr: Esr, guest: InGuest<'_>) -> u64 {
    let access = esr.sysreg();
    let _watched = RcuActive::new(guest);
    match sysreg::access(core, access) {
        Outcome::Done => {
            world::skip_instruction();
            if !finish(core) {
                Leave::Interrupt.code()
            } else if access.is_read() {
                resume(access.rt())
            } else {
                RESUME
            }
        }
        Outcome::Reload => {
            world::skip_instruction();
            Leave::Interrupt.code()
        }
        Outcome::Undefined
        | Outcome::NeedsClean
        | Outcome::NeedsHost
        | Outcome::NeedsOthers { .. } => Leave::Sync.code(),
    }
}

/// After an emulated access: tells running vCPUs of their interrupts, and takes this one's. False if the host is needed
/// for the rest, which `core.after` has; the instruction is done all the same.
#[inline]
fn finish(core: &mut Core) -> bool {
    core.after.is_empty() || finish_others(core)
}

fn finish_others(core: &mut Core) -> bool {
    let mut rest = core.after.lpis.is_some();
    for id in core.after.kicks.iter() {
        if id != core.id {
            let peer = core.peers.as_ref().and_then(|peers| peers.get(id.index()));
            rest |= !peer.is_some_and(|peer| peer.interrupt_running());
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
#[inline(never)]
fn abort_address(core: &mut Core, esr: Esr) -> u64 {
    core.walked_ipa = None;
    // Other aborts without HPFAR_EL2 are external: they have no IPA, and perhaps no address at all.
    let abort = esr.abort();
    if matches!(abort.fault(), FaultStatus::Permission(_)) && !abort.hpfar_is_valid() {
        match world::translate(world::far()) {
            Some(ipa) => core.walked_ipa = Some(ipa),
            None => {
                core.count(Count::AbortRetried);
                return RESUME;
            }
        }
    }
    Leave::Sync.code()
}

/// An access to the interrupt controller's registers.
#[inline(never)]
fn mmio(core: &mut Core, esr: Esr, guest: InGuest<'_>) -> u64 {
    let abort = esr.abort();
    if !abort.is_plain_device_access() {
        return abort_address(core, esr);
    }
    core.walked_ipa = None;
    let ipa = Abort::ipa(world::hpfar(), world::far()).raw();
    let Some((frame, offset)) = core.gic_frame(ipa) else {
        return if abort.is_write() {
            Leave::Store.code()
        } else {
            Leave::Sync.code()
        };
    };
    // AArch32 and big-endian accesses take the slow path.
    let big_endian = SCTLR_EL1::EE.mask() | SCTLR_EL1::E0E.mask();
    if core.get(Reg::SCTLR_EL1) & big_endian != 0 || SPSR_EL1::nRW.is_set(world::pstate()) {
        return Leave::Sync.code();
    }
    let (rt, size) = (abort.register(), abort.size());
    if frame.is_ctlr(offset, size) {
        // A write looks at all vCPUs.
        let Some(ctlr) = core.gicd_ctlr().filter(|_| !abort.is_write()) else {
            return Leave::Sync.code();
        };
        core.set_x(rt, ctlr.into());
        world::skip_instruction();
        return resume(rt);
    }
    let _watched = RcuActive::new(guest);
    if frame.shows_lines(offset) {
        core.update_timers();
    }
    // The bytes are in the device's order already, see above.
    if gic::access(core, &abort, frame, offset, |_, value| value).is_err() {
        return Leave::Sync.code();
    }
    world::skip_instruction();
    if !abort.is_write() {
        resume(rt)
    } else if finish(core) {
        RESUME
    } else {
        Leave::Interrupt.code()
    }
}

/// WFE with nobody else to run does not wait; WFI waits here where nothing speaks against it.
#[inline(never)]
fn wfx(core: &mut Core, esr: Esr, guest: InGuest<'_>) -> u64 {
    let wfx = esr.wfx();
    core.count(if wfx.is_wfe() { Count::Wfe } else { Count::Wfi });
    if !core.fast || wfx.is_timed() && !core.features.timed_waits() {
        return Leave::Sync.code();
    }
    if wfx.is_wfe() {
        if sched::need_resched() || !core.spare_wfe() {
            return Leave::Sync.code();
        }
        relax();
        world::skip_instruction();
        return RESUME;
    }
    let end = core.end_of_wait(esr);
    if end.is_some_and(|end| core.ticks_until(end) == 0) {
        world::skip_instruction();
        return RESUME;
    }
    match core.may_halt_here() {
        Some(ticks) => halt(core, ticks, end, guest),
        None => Leave::Sync.code(),
    }
}

/// WFI that waits here, for at most about `ticks` of the counter (see [`crate::vcpu::halt`]); WFIT
/// is over when the guest's virtual counter shows `end`.
fn halt(core: &mut Core, ticks: u64, end: Option<u64>, guest: InGuest<'_>) -> u64 {
    core.count(Count::HaltHere);
    let left = end.map_or(u64::MAX, |end| core.ticks_until(end));
    let pending = wait_while_alone(ticks.min(left));
    if !is_guests(pending) && end.is_some_and(|end| core.ticks_until(end) == 0) {
        // An interrupt of the host's is taken as soon as the guest goes on.
        world::skip_instruction();
        core.halt.succeeded();
        core.count(Count::HaltHereEnded);
        return RESUME;
    }
    if !is_guests(pending) {
        // The host's, or none: the thread sleeps when that is done.
        core.halt.failed();
        return Leave::Sync.code();
    }
    world::skip_instruction();
    let how = take(core, pending, guest);
    // A kick may have been the scheduler's.
    if how == RESUME {
        core.halt.succeeded();
        core.count(Count::HaltHereEnded);
    } else {
        core.halt.failed();
    }
    how
}

/// Waits for an interrupt, for at most about `ticks` of the counter and while no other thread wants
/// this CPU. Returns what [`cpu_gic::pending`] does.
///
/// A thread that is woken from another CPU may bring no interrupt (PREEMPT_LAZY has it wait for the
/// tick), so it is looked for now and then.
fn wait_while_alone(ticks: u64) -> u64 {
    let slice = ticks.min(u64::from(features().counter_hz) / LOOKS_PER_SECOND);
    let begun = timer::counter();
    loop {
        let before = timer::counter();
        wait::for_interrupt(slice);
        // With an ISB first: neither this nor the look at what is pending may be done before the wait.
        let now = timer::counter();
        let pending = cpu_gic::pending();
        // Without an interrupt, but too early: something else has ended it, and would again.
        let early = now.wrapping_sub(before) < slice;
        if pending != cpu_gic::NONE
            || early
            || now.wrapping_sub(begun) >= ticks
            || !sched::has_no_other_thread()
        {
            return pending;
        }
    }
}

/// How often a wait in the vector looks for other threads: every 50 us.
const LOOKS_PER_SECOND: u64 = 20_000;

/// An interrupt: one of the guest's timers', its list registers' maintenance, a kick, or the host's.
pub(crate) fn irq(core: &mut Core, guest: InGuest<'_>) -> u64 {
    core.count(Count::Irq);
    let pending = cpu_gic::pending();
    if is_guests(pending) {
        take(core, pending, guest)
    } else {
        Leave::Interrupt.code()
    }
}

/// Whether a physical interrupt is about the guest in this CPU: a kick, one of its timers', or its list registers'.
fn is_guests(pending: u64) -> bool {
    pending == percpu_irq::KICK.into()
        || percpu_irq::timer_of(pending).is_some()
        || pending == percpu_irq::maintenance_intid()
}

/// Takes one that is. How to go on.
fn take(core: &mut Core, pending: u64, guest: InGuest<'_>) -> u64 {
    let leave = Leave::Interrupt.code();
    let kicked = pending == percpu_irq::KICK.into();
    let timer = percpu_irq::timer_of(pending);
    let _watched = RcuActive::new(guest);
    if !core.fast {
        // The timer's has to be silenced all the same: it is asserted whenever the guest runs, which would not get on.
        if let Some(timer) = timer {
            core.silence_timer(timer);
        }
        return leave;
    }
    let resumed = if kicked {
        core.kicked()
    } else if let Some(timer) = timer {
        core.timer_fired(timer)
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
