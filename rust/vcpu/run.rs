// SPDX-License-Identifier: GPL-2.0

//! KVM_RUN.
//!
//! Three loops, each around the next. The outermost has the vCPU loaded (wherever the scheduler
//! puts the thread) and may sleep: it serves page faults, waits, and what else needs the host's
//! memory. The middle one has the guest's floating point registers in the CPU as well, if the guest
//! uses them. The innermost is the guest and its fast exits.
//!
//! The FP/SIMD registers are given back before anything that may sleep in the host's code:
//! kernel-mode NEON does not nest, and paging memory in may itself use it (checksums, encryption).

use super::context::{EnteredVcpu, StoppedVcpu};
use super::exit::{mmio, slow, traced, Answer, DeferredWork, Exit, Next, Stop};
use super::fpsimd::Fpsimd;
use super::halt_poll::HaltPoll;
use super::{State, Vcpu};
use crate::arch::guest_mode::Leave;
use crate::host::context_tracking::{take_interrupts, GuestContext, RcuActive};
use crate::host::irqflags::{self, IrqSection};
use crate::host::preempt::PreemptDisabled;
use crate::host::preempt_notifier::Loaded;
use crate::host::sigmask::SignalMask;
use crate::host::{entry_virt, rcuwait, sched, trace};
use crate::model::onereg;
use crate::model::smccc::NOT_SUPPORTED;
use crate::vm::lpi::LpiTables;
use crate::vm::memory::VcpuTablePool;
use crate::vm::vcpu_handle::{Power, Request, VcpuHandle};
use crate::vm::vcpu_stats::Count;
use kernel::prelude::*;

/// What `struct kvm_run` says when KVM_RUN begins.
pub(crate) struct RunInput {
    /// `immediate_exit`: return without running the guest.
    pub(crate) immediate_exit: bool,
    /// `mmio.data`: what a load from a device in userspace has read, if that is awaited.
    pub(crate) mmio_data: u64,
}

impl Vcpu {
    /// Runs the guest until userspace is needed. An error ends it before it has begun.
    ///
    /// Errors: `ENOEXEC` before KVM_ARM_VCPU_INIT; those of [`Vm::start`](crate::vm::Vm::start).
    #[inline(always)]
    pub(crate) fn run(&self, state: &mut State, input: &RunInput) -> Result<Exit> {
        if state.features.is_none() {
            return Err(ENOEXEC);
        }
        let _running = Running::new(&self.handle);
        if !state.started {
            self.vm.start()?;
            state.context().start();
            state.started = true;
        }
        state.context().renew_firmware();
        state.context().begin_debugging();
        let ended = self.run_started(state, input);
        state.context().end_debugging();
        ended
    }

    #[inline(always)]
    fn run_started(&self, state: &mut State, input: &RunInput) -> Result<Exit> {
        match core::mem::replace(&mut state.answer, Answer::None) {
            Answer::None => {}
            Answer::Skip => state.context().skip(),
            Answer::Load(load) => load.complete(state.context(), input.mmio_data),
        }
        if input.immediate_exit {
            return Err(EINTR);
        }
        state.context().take_interface();
        let mask = state.signals.as_ref().map(SignalMask::activate);
        let State {
            context,
            fpsimd,
            halt_poll,
            cache,
            answer,
            ..
        } = state;
        let stop = context
            .as_mut()
            .loaded(|loaded| self.run_loaded(loaded, fpsimd, halt_poll, cache));
        *answer = stop.answer;
        context.as_mut().in_memory().give_interface();
        drop(mask);
        match stop.exit {
            Exit::Mmio { .. } => self.handle.stats.count(Count::MmioUser),
            Exit::Interrupted => self.handle.stats.count(Count::Signal),
            _ => {}
        }
        Ok(stop.exit)
    }

    /// Runs the guest and does what that leaves to be done, until KVM_RUN has to end: the outermost
    /// loop.
    #[inline(never)]
    fn run_loaded(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        fpsimd: &mut Fpsimd,
        halt_poll: &mut HaltPoll,
        cache: &mut VcpuTablePool,
    ) -> Stop {
        loop {
            let mut others = false;
            let work = fpsimd.run(loaded, |vcpu, preempt| {
                let work = run_until_host(vcpu, preempt, &self.handle);
                others = !vcpu.after.is_empty();
                work
            });
            if others {
                // First of all, for the rest may end KVM_RUN.
                self.serve_others(loaded);
            }
            if matches!(work, DeferredWork::FloatingPoint) {
                fpsimd.note_use();
                self.handle.stats.count(Count::FloatingPoint);
                continue;
            }
            if let Err(stop) = self.serve(loaded, cache, halt_poll, work) {
                return stop;
            }
        }
    }
}

/// While this lives, the vCPU's thread is in KVM_RUN.
struct Running<'a>(&'a VcpuHandle);

impl<'a> Running<'a> {
    fn new(handle: &'a VcpuHandle) -> Self {
        handle.set_running(true);
        Self(handle)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        entry_virt::leave_to_user();
        self.0.set_running(false);
    }
}

impl Vcpu {
    /// Does what the middle loop could not, and what that leaves to be done about others, however
    /// it ends. Interrupts and preemption are on, and this may sleep.
    #[inline(always)]
    fn serve(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        cache: &mut VcpuTablePool,
        halt_poll: &mut HaltPoll,
        work: DeferredWork,
    ) -> Result<(), Stop> {
        let done = match work {
            // Nothing has been done.
            DeferredWork::Stop(stop) => return Err(stop),
            DeferredWork::Pending => entry_virt::handle_work().map_err(Stop::from),
            DeferredWork::Requests => self.serve_requests(loaded, halt_poll),
            DeferredWork::Held => self.wait_while_held().map_err(Stop::from),
            DeferredWork::Vmid => {
                self.vm.memory.renew_vmid();
                // This vCPU's CPU has to be told also where another one's was quicker to renew it.
                loaded.with(StoppedVcpu::refresh);
                Ok(())
            }
            DeferredWork::Clean => {
                self.vm.memory.unmap_all();
                Ok(())
            }
            DeferredWork::Fault(fault) => self.serve_fault(loaded, cache, fault),
            DeferredWork::Gic(access) => {
                self.serve_gic(loaded, access);
                Ok(())
            }
            DeferredWork::Its(access) => {
                self.serve_its(loaded, access);
                Ok(())
            }
            DeferredWork::MemoryError(error) => self.serve_memory_error(loaded, error),
            DeferredWork::WalkedOut(abort) => {
                self.serve_walked_out(loaded, abort);
                Ok(())
            }
            DeferredWork::StolenTime => {
                self.begin_steal_time(loaded);
                Ok(())
            }
            DeferredWork::Wait { end } => halt_poll
                .wait(&self.vm, &self.handle, loaded, end)
                .map_err(Stop::from),
            DeferredWork::Yield => {
                sched::yield_now();
                Ok(())
            }
            // The caller has done the one, and the other comes below.
            DeferredWork::FloatingPoint | DeferredWork::Others => Ok(()),
        };
        self.serve_others(loaded);
        done
    }

    /// Does what the vCPU has left to be done about others.
    fn serve_others(&self, loaded: &mut Loaded<'_, StoppedVcpu>) {
        let Some(after) = loaded.with(StoppedVcpu::take_after) else {
            return;
        };
        self.vm.kick_all(&after.kicks);
        if after.any_deactivated {
            self.vm.events.deactivated(&self.vm, &after.deactivated);
        }
        if let Some(work) = after.lpis {
            LpiTables(&self.vm).work(work);
        }
    }

    /// Serves what others asked this vCPU to look at.
    fn serve_requests(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        halt_poll: &mut HaltPoll,
    ) -> Result<(), Stop> {
        let _ = self.handle.take_requests();
        if let Err(stop) = self.wait_for_power(loaded, halt_poll) {
            // It is no more on than before: the next KVM_RUN begins here again.
            self.handle.note_power();
            return Err(stop);
        }
        self.update_steal_time(loaded);
        loaded.with(StoppedVcpu::refresh);
        Ok(())
    }

    /// Waits until the vCPU is on.
    fn wait_for_power(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        halt_poll: &mut HaltPoll,
    ) -> Result<(), Stop> {
        loop {
            match self.handle.power() {
                Power::On => return Ok(()),
                Power::OnPending(_) => {
                    if let Some(start) = self.handle.take_start() {
                        loaded.with(|vcpu| vcpu.reset(Some(start)));
                    }
                }
                Power::Off => self
                    .handle
                    .waiter
                    .block(rcuwait::NEVER, || self.handle.power() != Power::Off)?,
                Power::Suspended => {
                    halt_poll.wait(&self.vm, &self.handle, loaded, None)?;
                    if self.handle.power() == Power::Suspended
                        && loaded.with(StoppedVcpu::has_interrupt)
                    {
                        return Err(Exit::Wakeup.into());
                    }
                    // Something else was asked of it, or a timer rang too early.
                    let _ = self.handle.take_requests();
                    self.wait_while_held()?;
                }
            }
        }
    }

    /// Brings the guest's structure up to date, if this thread has waited for a CPU since. May
    /// sleep.
    fn update_steal_time(&self, loaded: &mut Loaded<'_, StoppedVcpu>) {
        let mut steal_time = loaded.with(|vcpu| vcpu.steal_time);
        if steal_time.is_due() {
            steal_time.update(&self.vm);
            loaded.with(|vcpu| vcpu.steal_time = steal_time);
        }
    }

    /// Serves PV_TIME_ST: x0 gets the structure's address. (x1 to x3 are zero already.) May sleep.
    fn begin_steal_time(&self, loaded: &mut Loaded<'_, StoppedVcpu>) {
        let mut steal_time = loaded.with(|vcpu| vcpu.steal_time);
        let ipa = steal_time.begin(&self.vm);
        loaded.with(|vcpu| {
            vcpu.steal_time = steal_time;
            vcpu.set_x(0, ipa.unwrap_or(NOT_SUPPORTED));
        });
    }

    /// Sleeps while another vCPU wants this one out of the guest.
    fn wait_while_held(&self) -> Result {
        self.handle
            .waiter
            .block(rcuwait::NEVER, || !self.handle.is_held())
    }
}

/// Runs the guest until the host has to do something that may sleep: the middle loop.
fn run_until_host(
    vcpu: &mut StoppedVcpu,
    preempt: PreemptDisabled<'_>,
    handle: &VcpuHandle,
) -> DeferredWork {
    loop {
        let aarch32 = vcpu.frozen.features().aarch32();
        if !onereg::pstate_is_valid(vcpu.frame().pstate, aarch32) {
            // Whatever it is, it must not reach the ERET.
            return DeferredWork::Stop(Exit::FailEntry.into());
        }
        let next = match irqflags::with_disabled(|irq| enter(vcpu, handle, irq)) {
            None => what_came_up(vcpu, handle),
            Some(leave) if vcpu.frame().has_error() => slow::late_serror(vcpu, leave),
            Some(Leave::Interrupt) => Next::Resume,
            Some(Leave::Sync) => slow::handle(vcpu, preempt, false),
            Some(Leave::Store) => slow::handle(vcpu, preempt, true),
            Some(Leave::SError) => slow::serror(vcpu),
            Some(Leave::HostException) => slow::host_exception(),
        };
        match next {
            Next::Defer(work) => return work,
            Next::Resume if !vcpu.after.is_empty() => return DeferredWork::Others,
            Next::Resume => {}
        }
    }
}

/// Returns why the guest was not entered.
fn what_came_up(vcpu: &mut StoppedVcpu, handle: &VcpuHandle) -> Next {
    if entry_virt::work_pending() {
        return Next::Defer(DeferredWork::Pending);
    }
    if handle.has_requests() {
        if handle.is_held() {
            return Next::Defer(DeferredWork::Held);
        }
        let requests = handle.take_requests();
        if requests & Request::Power as u32 != 0 {
            return Next::Defer(DeferredWork::Requests);
        }
    }
    if !vcpu.fp().may_run() {
        return Next::Defer(DeferredWork::FloatingPoint);
    }
    if vcpu.may_run() {
        Next::Resume
    } else {
        Next::Defer(DeferredWork::Vmid)
    }
}

/// Goes into the guest and out of it, once: the innermost loop. `None`: something came up on the
/// way in.
#[inline(always)]
fn enter(vcpu: &mut StoppedVcpu, handle: &VcpuHandle, irq: &mut IrqSection) -> Option<Leave> {
    handle.entering(vcpu.kick);
    if entry_virt::work_pending_before_entry(irq.token())
        || handle.has_requests()
        || !vcpu.may_run()
        || !vcpu.fp().may_run()
    {
        handle.left();
        return None;
    }
    if trace::is_on() {
        traced::entry(vcpu);
    }
    let mut entered = EnteredVcpu::new(vcpu, irq.token());
    let (entered_at, interrupts) = (entered.frame().pc, handle.stats.get(Count::Irq));
    let mut guest = GuestContext::enter(irq.token());
    let leave = loop {
        let leave = entered.run(guest.token());
        // A store that an ioeventfd waits for, and an interrupt for a vCPU that sleeps, take the
        // shortest way that leads through the host's world, since somebody is woken: nothing of the
        // guest's is taken out of the CPU.
        if !matches!(leave, Leave::Store | Leave::Interrupt) || entered.frame().has_error() {
            break leave;
        }
        if trace::is_on() {
            break match leave {
                Leave::Store => Leave::Sync,
                _ => leave,
            };
        }
        let told = {
            let stopped = entered.between_runs();
            let _watched = RcuActive::new(guest.token());
            match leave {
                Leave::Store => mmio::store(stopped, irq.token().preempt()),
                _ => stopped.wake_few(),
            }
        };
        if !told {
            break leave;
        }
        if leave == Leave::Store {
            entered.count(Count::Ioeventfd);
        }
        if entry_virt::work_pending() || handle.has_requests() {
            break Leave::Interrupt;
        }
    };
    drop(guest);
    handle.left();
    entered.count(Count::Exits);
    if leave == Leave::Interrupt && !traced::was_answered(&entered) {
        entered.count(Count::IrqLeft);
        if entered.frame().pc == entered_at && handle.stats.get(Count::Irq) != interrupts {
            entered.count(Count::IrqInPlace);
        }
    }
    drop(entered);
    take_interrupts(irq);
    if trace::is_on() {
        traced::exit(vcpu, leave);
    }
    Some(leave)
}
