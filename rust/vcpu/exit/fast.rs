// SPDX-License-Identifier: GPL-2.0

//! Fast exits: what is answered in the exception vector, with the guest still in the CPU.
//!
//! Here interrupts are masked and the guest's world is in place (HCR_EL2.TGE = 0), so nothing in
//! here sleeps, touches user memory, wakes a thread or loops for long. What needs any of that
//! leaves. What takes a lock has RCU watch this CPU meanwhile ([`RcuActive`]), which on some CPUs
//! it does not while they run a guest. A pending interrupt of the host's does not wait: the guest
//! takes its exit for it right after the ERET.

use super::mmio::zero_extend;
use super::{gic, sysreg, traced, Outcome};
use crate::arch::cpu::features;
use crate::arch::debug::External;
use crate::arch::gic as cpu_gic;
use crate::arch::guest_mode::{FastExits, Leave, Live, Verdict};
use crate::arch::{relax, timer, wait};
use crate::host::context_tracking::{InGuest, RcuActive};
use crate::host::{percpu_irq, sched, trace};
use crate::model::esr::{Abort, Esr, ExceptionClass, FaultStatus};
use crate::model::smccc;
use crate::model::sysreg::regs::{ICC_SGI1R_EL1, SCTLR_EL1, SPSR_EL1};
use crate::model::sysreg::Reg;
use crate::model::vgic::GicFrame;
use crate::vcpu::context::VcpuContext;
use crate::vm::vcpu_stats::Count;

const SYNC: Verdict = Verdict::leave(Leave::Sync);
const STORE: Verdict = Verdict::leave(Leave::Store);
const INTERRUPT: Verdict = Verdict::leave(Leave::Interrupt);

impl FastExits for VcpuContext {
    fn debugger(&self) -> Option<&External> {
        self.debugger.as_ref().map(|debugger| &debugger.external)
    }

    #[inline]
    fn sync(&mut self, live: Live<'_>, rcu: InGuest<'_>, esr: u64) -> Verdict {
        let esr = Esr::new(esr);
        if trace::is_on() {
            let answer = move |vcpu: &mut Self| sync(vcpu, live, rcu, esr);
            return traced::answered(self, answer, live, Some(esr));
        }
        sync(self, live, rcu, esr)
    }

    #[inline]
    fn irq(&mut self, live: Live<'_>, rcu: InGuest<'_>) -> Verdict {
        if trace::is_on() {
            return traced::answered(self, move |vcpu| irq(vcpu, rcu), live, None);
        }
        irq(self, rcu)
    }

    #[inline]
    fn serror(&mut self, _live: Live<'_>, _rcu: InGuest<'_>) -> Verdict {
        Verdict::leave(Leave::SError)
    }
}

/// Answers a synchronous exit. The kinds are functions of their own, or the shortest would save the
/// registers that the longest needs.
#[inline(always)]
fn sync(vcpu: &mut VcpuContext, live: Live<'_>, rcu: InGuest<'_>, esr: Esr) -> Verdict {
    match esr.class() {
        ExceptionClass::Hvc => {
            vcpu.count(Count::Hvc);
            if vcpu.frozen.has_fast_calls() {
                hypercall(vcpu)
            } else {
                SYNC
            }
        }
        ExceptionClass::Sysreg => {
            vcpu.count(Count::Sysreg);
            if vcpu.fast {
                system_register(vcpu, live, rcu, esr)
            } else {
                SYNC
            }
        }
        class @ (ExceptionClass::DataAbortLower | ExceptionClass::InstructionAbortLower) => {
            vcpu.count(Count::Abort);
            if vcpu.fast && class == ExceptionClass::DataAbortLower {
                mmio(vcpu, live, rcu, esr)
            } else {
                abort_address(vcpu, live, esr)
            }
        }
        ExceptionClass::Wfx => wfx(vcpu, live, rcu, esr),
        _ => rare(vcpu, live, esr),
    }
}

#[cold]
fn rare(vcpu: &mut VcpuContext, live: Live<'_>, esr: Esr) -> Verdict {
    if esr.class() == ExceptionClass::PointerAuth {
        vcpu.repair_stepped_pstate(live);
    }
    SYNC
}

/// Answers an HVC. The PC is already behind it.
#[inline(always)]
fn hypercall(vcpu: &mut VcpuContext) -> Verdict {
    let [function, ..] = *vcpu.xs();
    if function as u32 == smccc::function::VERSION {
        answer(vcpu, [smccc::VERSION_1_1, 0, 0, 0])
    } else {
        other_hypercall(vcpu)
    }
}

/// Answers other calls by HVC that have nothing but an answer, if only that they are not supported.
/// A function of its own, with the registers that it needs.
#[inline(never)]
fn other_hypercall(vcpu: &mut VcpuContext) -> Verdict {
    let [function, first, second, third, ..] = *vcpu.xs();
    let arguments = [first, second, third];
    let stolen_time = vcpu.steal_time.ipa().is_some();
    match smccc::decide(&vcpu.firmware, function as u32, arguments, stolen_time).answer() {
        Some(values) => answer(vcpu, values),
        None => SYNC,
    }
}

/// Gives the guest what a firmware call returns.
#[inline(always)]
fn answer(vcpu: &mut VcpuContext, values: [u64; 4]) -> Verdict {
    let [x0, x1, x2, x3, ..] = vcpu.xs();
    [*x0, *x1, *x2, *x3] = values;
    Verdict::RESUME
}

/// Returns how to resume after register `rt` was written.
#[inline(always)]
fn resume(rt: u8) -> Verdict {
    match rt {
        19..=28 => Verdict::RESUME_ALL,
        _ => Verdict::RESUME,
    }
}

#[inline(always)]
fn system_register(vcpu: &mut VcpuContext, live: Live<'_>, rcu: InGuest<'_>, esr: Esr) -> Verdict {
    let access = esr.sysreg();
    if let Some(value) = vcpu.frozen.ids().read(access) {
        vcpu.set_x(access.rt(), value);
        live.skip();
        return resume(access.rt());
    }
    if access.is_write_of(ICC_SGI1R_EL1::ENCODING) {
        return send_sgi(vcpu, live, rcu, esr);
    }
    emulated_register(vcpu, live, rcu, esr)
}

/// Does a write to ICC_SGI1R_EL1, as [`emulated_register`] would do it, without looking the
/// register up.
#[inline(never)]
fn send_sgi(vcpu: &mut VcpuContext, live: Live<'_>, rcu: InGuest<'_>, esr: Esr) -> Verdict {
    let value = vcpu.x(esr.sysreg().rt());
    let _watched = RcuActive::new(rcu);
    if gic::send_sgi1_fast(vcpu, value) != Outcome::Done {
        return SYNC;
    }
    live.skip();
    if finish(vcpu) {
        Verdict::RESUME
    } else {
        INTERRUPT
    }
}

#[inline(never)]
fn emulated_register(
    vcpu: &mut VcpuContext,
    live: Live<'_>,
    rcu: InGuest<'_>,
    esr: Esr,
) -> Verdict {
    let access = esr.sysreg();
    let _watched = RcuActive::new(rcu);
    match sysreg::access(vcpu, Some(live), access) {
        Outcome::Done => {
            live.skip();
            if !finish(vcpu) {
                INTERRUPT
            } else if access.is_read() {
                resume(access.rt())
            } else {
                Verdict::RESUME
            }
        }
        Outcome::Reload => {
            live.skip();
            INTERRUPT
        }
        Outcome::Undefined
        | Outcome::NeedsClean
        | Outcome::NeedsHost
        | Outcome::NeedsOthers { .. } => SYNC,
    }
}

/// Tells running vCPUs of their interrupts after an emulated access, and takes this one's. False if
/// the host is needed for the rest, which `vcpu.after` has; the instruction is done all the same.
#[inline]
fn finish(vcpu: &mut VcpuContext) -> bool {
    vcpu.after.is_empty() || finish_others(vcpu)
}

fn finish_others(vcpu: &mut VcpuContext) -> bool {
    let mut rest = vcpu.after.lpis.is_some();
    for id in vcpu.after.kicks.iter() {
        if id != vcpu.id {
            let peer = vcpu.frozen.peers().and_then(|peers| peers.get(id.index()));
            rest |= !peer.is_some_and(|peer| peer.interrupt_running());
        }
    }
    if vcpu.after.kicks.contains(vcpu.id) {
        rest |= !vcpu.refresh_lists();
    }
    if !rest {
        vcpu.after.kicks = Default::default();
    }
    !rest
}

/// Leaves for an abort. Where HPFAR_EL2 is UNKNOWN (permission faults), the address is found while
/// the guest's tables are still in place; if they have changed meanwhile, the guest tries again.
#[inline(never)]
fn abort_address(vcpu: &mut VcpuContext, live: Live<'_>, esr: Esr) -> Verdict {
    vcpu.walked_ipa = None;
    // Other aborts without HPFAR_EL2 are external: they have no IPA, and perhaps no address at all.
    let abort = esr.abort();
    if matches!(abort.fault(), FaultStatus::Permission(_)) && !abort.hpfar_is_valid() {
        match live.translate(live.far()) {
            Some(ipa) => vcpu.walked_ipa = Some(ipa),
            None => {
                vcpu.count(Count::AbortRetried);
                return Verdict::RESUME;
            }
        }
    }
    SYNC
}

/// Answers an access to the interrupt controller's registers.
#[inline(never)]
fn mmio(vcpu: &mut VcpuContext, live: Live<'_>, rcu: InGuest<'_>, esr: Esr) -> Verdict {
    let abort = esr.abort();
    // What extends a sign is rare here, and takes the slow path.
    if !abort.is_plain_device_access() || abort.is_sign_extended() {
        return abort_address(vcpu, live, esr);
    }
    vcpu.walked_ipa = None;
    let ipa = Abort::ipa(live.hpfar(), live.far()).raw();
    let Some((frame, offset)) = vcpu.gic_frame(ipa) else {
        return if abort.is_write() { STORE } else { SYNC };
    };
    // AArch32 and big-endian accesses take the slow path.
    let big_endian = SCTLR_EL1::EE.mask() | SCTLR_EL1::E0E.mask();
    if vcpu.get(Reg::SCTLR_EL1) & big_endian != 0 || SPSR_EL1::nRW.is_set(live.pstate()) {
        return SYNC;
    }
    if frame.is_ctlr(offset, abort.size()) {
        gicd_ctlr(vcpu, live, abort)
    } else if abort.is_write() {
        gic_write(vcpu, live, rcu, abort, frame, offset)
    } else {
        gic_read(vcpu, live, rcu, abort, frame, offset)
    }
}

/// Answers an access to GICD_CTLR, without a lock: guests wait for its RWP, and write what it is to
/// be made sure of.
#[inline(always)]
fn gicd_ctlr(vcpu: &mut VcpuContext, live: Live<'_>, abort: Abort) -> Verdict {
    let Some(gic) = vcpu.frozen.gic() else {
        return SYNC;
    };
    let rt = abort.register();
    if abort.is_write() {
        // One that changes something looks at all vCPUs.
        if !gic.keeps_ctlr(vcpu.x(rt)) {
            return SYNC;
        }
        live.skip();
        Verdict::RESUME
    } else {
        let ctlr = gic.ctlr();
        vcpu.set_x(rt, ctlr.into());
        live.skip();
        resume(rt)
    }
}

/// Reads any other register of the interrupt controller's. The bytes are in its order.
#[inline(never)]
fn gic_read(
    vcpu: &mut VcpuContext,
    live: Live<'_>,
    rcu: InGuest<'_>,
    abort: Abort,
    frame: GicFrame,
    offset: u32,
) -> Verdict {
    let _watched = RcuActive::new(rcu);
    if frame.shows_lines(offset) {
        vcpu.take_timer_lines();
    }
    let Some(gic) = vcpu.frozen.gic() else {
        return SYNC;
    };
    // Each kind of frame for itself: what is looked up is in fixed places then.
    let size = abort.size();
    let value = match frame {
        GicFrame::Dist => gic.mmio_look(GicFrame::Dist, offset, size),
        GicFrame::Redist(vcpu) => gic.mmio_look(GicFrame::Redist(vcpu), offset, size),
    };
    let Some(value) = value else {
        return SYNC;
    };
    vcpu.set_x(abort.register(), zero_extend(value, &abort));
    live.skip();
    resume(abort.register())
}

#[inline(never)]
fn gic_write(
    vcpu: &mut VcpuContext,
    live: Live<'_>,
    rcu: InGuest<'_>,
    abort: Abort,
    frame: GicFrame,
    offset: u32,
) -> Verdict {
    let _watched = RcuActive::new(rcu);
    let done = match frame {
        GicFrame::Dist => gic::write(vcpu, &abort, GicFrame::Dist, offset, |value| value),
        GicFrame::Redist(id) => {
            gic::write(vcpu, &abort, GicFrame::Redist(id), offset, |value| value)
        }
    };
    if done.is_err() {
        return SYNC;
    }
    live.skip();
    if finish(vcpu) {
        Verdict::RESUME
    } else {
        INTERRUPT
    }
}

/// Answers a WFE or a WFI: WFE with nobody else to run does not wait; WFI waits here where nothing
/// speaks against it.
#[inline(never)]
fn wfx(vcpu: &mut VcpuContext, live: Live<'_>, rcu: InGuest<'_>, esr: Esr) -> Verdict {
    let wfx = esr.wfx();
    vcpu.count(if wfx.is_wfe() { Count::Wfe } else { Count::Wfi });
    // Instructions of AArch32 may be shorter, and may have a condition.
    if SPSR_EL1::nRW.is_set(live.pstate()) {
        return SYNC;
    }
    if !vcpu.fast || wfx.is_timed() && !vcpu.frozen.features().timed_waits() {
        return SYNC;
    }
    if wfx.is_wfe() {
        if sched::need_resched() || !vcpu.spare_wfe() {
            return SYNC;
        }
        relax();
        live.skip();
        return Verdict::RESUME;
    }
    let end = vcpu.end_of_wait(esr);
    if end.is_some_and(|end| vcpu.ticks_until(end) == 0) {
        live.skip();
        return Verdict::RESUME;
    }
    match vcpu.may_halt_here() {
        Some(ticks) => halt(vcpu, live, rcu, ticks, end),
        None => SYNC,
    }
}

/// Does a WFI that waits here, for at most about `ticks` of the counter (see
/// [`crate::vcpu::halt`]); WFIT is over when the guest's virtual counter shows `end`.
fn halt(
    vcpu: &mut VcpuContext,
    live: Live<'_>,
    rcu: InGuest<'_>,
    ticks: u64,
    end: Option<u64>,
) -> Verdict {
    vcpu.count(Count::HaltHere);
    let left = end.map_or(u64::MAX, |end| vcpu.ticks_until(end));
    let pending = wait_while_alone(ticks.min(left));
    if !is_guests(pending) && end.is_some_and(|end| vcpu.ticks_until(end) == 0) {
        // An interrupt of the host's is taken as soon as the guest goes on.
        live.skip();
        vcpu.halt.succeeded();
        vcpu.count(Count::HaltHereEnded);
        return Verdict::RESUME;
    }
    if !is_guests(pending) {
        // The host's, or none: the thread sleeps when that is done.
        vcpu.halt.failed();
        return SYNC;
    }
    live.skip();
    let verdict = take(vcpu, pending, rcu);
    // A kick may have been the scheduler's.
    if verdict == Verdict::RESUME {
        vcpu.halt.succeeded();
        vcpu.count(Count::HaltHereEnded);
    } else {
        vcpu.halt.failed();
    }
    verdict
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
        // With an ISB first: neither this nor the look at what is pending may be done before the
        // wait.
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

/// Answers an interrupt: one of the guest's timers', its list registers' maintenance, a kick, or
/// the host's.
#[inline(always)]
fn irq(vcpu: &mut VcpuContext, rcu: InGuest<'_>) -> Verdict {
    vcpu.count(Count::Irq);
    let pending = cpu_gic::pending();
    if is_guests(pending) {
        take(vcpu, pending, rcu)
    } else {
        INTERRUPT
    }
}

/// Returns whether a physical interrupt is about the guest in this CPU: a kick, one of its timers',
/// or its list registers'.
fn is_guests(pending: u64) -> bool {
    pending == percpu_irq::KICK.into()
        || percpu_irq::timer_of(pending).is_some()
        || pending == percpu_irq::maintenance_intid()
}

/// Takes an interrupt that is about the guest. Returns how to go on.
fn take(vcpu: &mut VcpuContext, pending: u64, rcu: InGuest<'_>) -> Verdict {
    let kicked = pending == percpu_irq::KICK.into();
    let timer = percpu_irq::timer_of(pending);
    let _watched = RcuActive::new(rcu);
    if !vcpu.fast {
        // The timer's has to be silenced all the same: it is asserted whenever the guest runs,
        // which would not get on.
        if let Some(timer) = timer {
            vcpu.silence_timer(timer);
        }
        return INTERRUPT;
    }
    let resumed = if kicked {
        vcpu.kicked()
    } else if let Some(timer) = timer {
        vcpu.timer_fired(timer)
    } else {
        vcpu.refresh_lists()
    };
    if resumed {
        Verdict::RESUME
    } else {
        INTERRUPT
    }
}
