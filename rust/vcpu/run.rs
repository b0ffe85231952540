// SPDX-License-Identifier: GPL-2.0

//! KVM_RUN.
//!
//! Three loops, each around the next. The outermost has the vCPU loaded (wherever the scheduler puts the thread) and may
//! sleep: it serves page faults, waits, and what else needs the host's memory. The middle one has the guest's floating
//! point registers in the CPU as well, if the guest uses them. The innermost is the guest and its fast exits.
//!
//! The FP/SIMD registers are given back before anything that may sleep in the host's code: kernel-mode NEON does not
//! nest, and paging memory in may itself use it (checksums, encryption).

use super::core::Core;
use super::fast::Leave;
use super::mmio::Load;
use super::shared::{Power, Shared};
use super::slow::{self, Next};
use super::stats::Count;
use super::{State, Vcpu};
use crate::arch::{cpu, fp};
use crate::host::context_tracking::{take_interrupts, GuestContext, RcuActive};
use crate::host::ffi::*;
use crate::host::irqflags::IrqGuard;
use crate::host::preempt::PreemptDisabled;
use crate::host::preempt_notifier::Loaded;
use crate::host::run_page::{field, RunPage};
use crate::host::sigmask::SignalMask;
use crate::host::{entry_virt, memory_failure, rcuwait, sched, time};
use crate::model::onereg;
use crate::model::stage1::Walk;
use crate::model::timer::Frequency;
use crate::model::types::Ipa;
use crate::vm::lpi::Host;
use crate::vm::memory::Fault;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// What userspace's part in an exit was, to be finished when it comes back.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    None,
    /// A load from a device: the data is in the run page.
    Load(Load),
    /// An instruction that userspace has done: go on behind it.
    Skip,
}

/// Why KVM_RUN returns.
#[derive(Clone, Copy)]
pub(super) enum Exit {
    /// A device is read or written.
    Mmio {
        ipa: u64,
        data: u64,
        size: u8,
        write: bool,
    },
    /// The guest has asked for the end, or crashed.
    System { kind: u32, flags: Option<u64> },
    /// A firmware call that userspace has asked for, by SMC or else HVC.
    Hypercall { function: u32, smc: bool },
    /// An access that only userspace could make out, to `ipa`.
    NoSyndrome { iss: u64, ipa: u64 },
    /// An external abort of the guest's, at `gva` if that is not 0, and where that leads.
    MemoryError {
        esr: u64,
        gva: u64,
        gpa: Option<Ipa>,
    },
    /// What a debugger outside of the guest waits for.
    Debug { esr: u64, far: u64 },
    /// KVM cannot go on.
    Internal,
    /// The guest is in a state that cannot be run.
    FailEntry,
    /// A signal, or userspace asked for it.
    Interrupted,
}

/// What has to be done before the guest runs again, with the FP registers given back.
#[derive(Clone, Copy)]
pub(super) enum HostWork {
    /// Signals, rescheduling, task work.
    Pending,
    /// What others asked for.
    Requests,
    /// Another vCPU wants this one out of the guest.
    Held,
    /// The VMID in the CPU is not the VM's any more.
    Vmid,
    /// What the guest has in caches that its own accesses may not see has to be in memory.
    Clean,
    /// The guest's memory.
    Fault(slow::MemoryFault),
    /// The interrupt controller's registers, which the vector could not serve.
    Gic(slow::GicAccess),
    /// An ITS's registers.
    Its(slow::ItsAccess),
    /// The memory system has answered an access of the guest's with an error.
    MemoryError(slow::MemoryError),
    /// An abort for the guest, for the walk of its tables.
    WalkedOut(slow::WalkedOut),
    /// The guest wants to know its stolen time from now on.
    StolenTime,
    /// The guest uses its floating point registers, which are not in the CPU.
    FloatingPoint,
    /// Wait for an interrupt.
    Wait,
    /// Let another thread run.
    Yield,
    /// Tell others.
    After,
    /// Out to userspace.
    Leave(Exit, Answer),
    /// Out, with an errno.
    Error(Error),
}

/// How long a vCPU that waits looks for itself whether there is something to do, before it gives its CPU away: to sleep and to
/// be woken takes longer than many waits. What could wait in the vector has done so already ([`super::halt`]).
#[derive(Clone, Copy, Default)]
pub(super) struct Polling {
    ns: i64,
}

impl Polling {
    /// The shortest time that it is worth.
    const FIRST: i64 = 5_000;

    /// Whether it looks at all.
    fn looks(self) -> bool {
        self.ns > 0
    }

    /// Looks for its time. True: there is something.
    fn look(self, shared: &Shared, begun: i64, deadline: i64) -> bool {
        let until = begun.saturating_add(self.ns).min(deadline);
        while time::monotonic_ns() < until && sched::has_no_other_thread() {
            // Whoever has something for this vCPU says so here, too.
            if shared.has_requests() {
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    /// After a wait of `waited` that this time was too short for: a longer one would have done, or none will do.
    fn after(self, waited: i64, most: u64) -> Self {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let ns = if waited > most {
            0
        } else {
            self.ns.saturating_mul(2).max(Self::FIRST).min(most)
        };
        Self { ns }
    }
}

/// Whether a guest uses its floating point registers: one that has will do so again, mostly.
#[derive(Default)]
pub(super) struct FpUse {
    /// For so many more runs it is taken to do so. Then it is tried again without.
    runs: u8,
}

impl FpUse {
    const RUNS: u8 = 32;

    fn note(&mut self) {
        self.runs = Self::RUNS;
    }

    fn is_likely(&mut self) -> bool {
        let likely = self.runs > 0;
        self.runs = self.runs.saturating_sub(1);
        likely
    }
}

impl Vcpu {
    /// Runs the guest until userspace is needed.
    pub(crate) fn run(&self) -> Result<isize> {
        let mut guard = self.state.lock()?;
        let state = &mut *guard;
        if state.features.is_none() {
            return Err(ENOEXEC);
        }
        let _running = Running::new(&self.shared);
        if !state.started {
            self.vm.start()?;
            state.core().start();
            state.started = true;
        }
        state.core().renew_firmware();
        state.core().begin_debugging();
        let ended = self.run_started(state);
        state.core().end_debugging();
        ended
    }

    fn run_started(&self, state: &mut State) -> Result<isize> {
        match core::mem::replace(&mut state.answer, Answer::None) {
            Answer::None => {}
            Answer::Skip => state.core().skip(),
            Answer::Load(load) => {
                let data: u64 = self.run_page.read(field::MMIO_DATA);
                load.complete(state.core(), data);
            }
        }
        if self.run_page.read::<u8>(field::IMMEDIATE_EXIT) != 0 {
            return Err(EINTR);
        }
        // Of an exit that is not told, nothing may be left that tells of the one before.
        self.run_page.write(field::EXIT_REASON, KVM_EXIT_UNKNOWN);
        self.run_page.write(field::FLAGS, 0u16);
        state.core().take_interface();
        let mask = state.signals.as_ref().map(SignalMask::activate);
        let State {
            core,
            fp,
            fp_use,
            cache,
            answer,
            ..
        } = state;
        let exit = core.as_mut().loaded(|loaded| loop {
            let mut others = false;
            let work = if fp_use.is_likely() {
                fp.as_mut().with(|owned| {
                    loaded.with_token(|core, preempt| {
                        core.fp.load(owned);
                        core.fp_is_here = true;
                        let work = run_until_host(core, preempt, &self.shared);
                        core.fp_is_here = false;
                        core.fp.save(owned);
                        others = !core.after.is_empty();
                        work
                    })
                })
            } else {
                loaded.with_token(|core, preempt| {
                    let work = run_until_host(core, preempt, &self.shared);
                    others = !core.after.is_empty();
                    work
                })
            };
            if others {
                // First of all, for the rest may end KVM_RUN.
                self.serve_others(loaded);
            }
            if matches!(work, HostWork::FloatingPoint) {
                fp_use.note();
                self.shared.stats.count(Count::FloatingPoint);
                continue;
            }
            match self.host_work(loaded, cache, work) {
                Ok(()) => {}
                Err(Stop::Exit(exit, then)) => {
                    *answer = then;
                    break Ok(exit);
                }
                Err(Stop::Errno(error)) => break Err(error),
            }
        });
        core.as_mut().in_memory().give_interface();
        drop(mask);
        match exit {
            Ok(Exit::Mmio { .. }) => self.shared.stats.count(Count::MmioUser),
            Ok(Exit::Interrupted) => self.shared.stats.count(Count::Signal),
            _ => {}
        }
        exit.and_then(|exit| write_exit(&self.run_page, exit))
    }
}

/// While this lives, the vCPU's thread is in KVM_RUN.
struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.set_running(true);
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        entry_virt::leave_to_user();
        self.0.set_running(false);
    }
}

/// Why the outermost loop ends.
enum Stop {
    Exit(Exit, Answer),
    Errno(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        if error == EINTR {
            Self::Exit(Exit::Interrupted, Answer::None)
        } else {
            Self::Errno(error)
        }
    }
}

impl Vcpu {
    /// Does what the middle loop could not, and what that leaves to be done about others, however it ends. Interrupts and
    /// preemption are on, and this may sleep.
    fn host_work(
        &self,
        loaded: &mut Loaded<'_, Core>,
        cache: &mut crate::vm::memory::VcpuTablePool,
        work: HostWork,
    ) -> Result<(), Stop> {
        let mut next = Some(work);
        while let Some(work) = next.take() {
            next = match work {
                // Nothing has been done.
                HostWork::Leave(exit, answer) => return Err(Stop::Exit(exit, answer)),
                HostWork::Error(error) => return Err(Stop::Errno(error)),
                work => {
                    let done = self.serve(loaded, cache, work);
                    self.serve_others(loaded);
                    done?
                }
            };
        }
        Ok(())
    }

    /// Does one such thing; `Some`: it turned out to be something else, which is never a page fault.
    fn serve(
        &self,
        loaded: &mut Loaded<'_, Core>,
        cache: &mut crate::vm::memory::VcpuTablePool,
        work: HostWork,
    ) -> Result<Option<HostWork>, Stop> {
        match work {
            HostWork::Pending => entry_virt::handle_work()?,
            HostWork::Requests => self.serve_requests(loaded)?,
            HostWork::Held => self.wait_while_held()?,
            HostWork::Vmid => {
                self.vm.memory.renew_vmid();
                // This vCPU's CPU has to be told also where another one's was quicker to renew it.
                loaded.with(Core::refresh);
            }
            HostWork::Clean => self.vm.memory.unmap_all(),
            HostWork::Fault(fault) => return self.serve_fault(loaded, cache, fault),
            HostWork::Gic(access) => self.serve_gic(loaded, access),
            HostWork::Its(access) => self.serve_its(loaded, access),
            HostWork::MemoryError(error) => return Ok(self.serve_memory_error(loaded, error)),
            HostWork::WalkedOut(abort) => self.serve_walked_out(loaded, abort),
            HostWork::StolenTime => self.begin_stolen_time(loaded),
            HostWork::Wait => self.wait_for_interrupt(loaded)?,
            HostWork::Yield => sched::yield_now(),
            HostWork::After | HostWork::FloatingPoint => {}
            work @ (HostWork::Leave(..) | HostWork::Error(_)) => return Ok(Some(work)),
        }
        Ok(None)
    }

    /// Does what the vCPU has left to be done about others.
    fn serve_others(&self, loaded: &mut Loaded<'_, Core>) {
        let Some(after) = loaded.with(Core::take_after) else {
            return;
        };
        self.vm.kick_all(&after.kicks);
        if after.any_deactivated {
            self.vm.events.deactivated(&self.vm, &after.deactivated);
        }
        if let Some(work) = after.lpis {
            Host(&self.vm).work(work);
        }
    }

    /// What others asked this vCPU to look at.
    fn serve_requests(&self, loaded: &mut Loaded<'_, Core>) -> Result<(), Stop> {
        let _ = self.shared.take_requests();
        if let Err(stop) = self.wait_for_power(loaded) {
            // It is no more on than before: the next KVM_RUN begins here again.
            self.shared.note_power();
            return Err(stop);
        }
        if loaded.with(|core| core.stolen.is_due()) {
            let mut stolen = loaded.with(|core| core.stolen);
            stolen.update(&self.vm);
            loaded.with(|core| core.stolen = stolen);
        }
        loaded.with(|core| {
            core.refresh();
        });
        Ok(())
    }

    /// Waits until the vCPU is on.
    fn wait_for_power(&self, loaded: &mut Loaded<'_, Core>) -> Result<(), Stop> {
        loop {
            match self.shared.power() {
                Power::On => return Ok(()),
                Power::OnPending(_) => {
                    if let Some(start) = self.shared.take_start() {
                        loaded.with(|core| core.reset(Some(start)));
                    }
                }
                Power::Off => self
                    .shared
                    .waiter
                    .block(rcuwait::NEVER, || self.shared.power() != Power::Off)?,
                Power::Suspended => {
                    self.wait_for_interrupt(loaded)?;
                    if self.shared.power() == Power::Suspended && loaded.with(Core::has_interrupt) {
                        return Err(Stop::Exit(
                            Exit::System {
                                kind: KVM_SYSTEM_EVENT_WAKEUP,
                                flags: None,
                            },
                            Answer::None,
                        ));
                    }
                    // Something else was asked of it, or a timer rang too early.
                    let _ = self.shared.take_requests();
                    self.wait_while_held()?;
                }
            }
        }
    }

    /// PV_TIME_ST: x0 gets the structure's address. (x1 to x3 are zero already.)
    fn begin_stolen_time(&self, loaded: &mut Loaded<'_, Core>) {
        let mut stolen = loaded.with(|core| core.stolen);
        let ipa = stolen.begin(&self.vm);
        loaded.with(|core| {
            core.stolen = stolen;
            core.set_x(0, ipa.unwrap_or(crate::model::smccc::NOT_SUPPORTED));
        });
    }

    fn serve_fault(
        &self,
        loaded: &mut Loaded<'_, Core>,
        cache: &mut crate::vm::memory::VcpuTablePool,
        fault: slow::MemoryFault,
    ) -> Result<Option<HostWork>, Stop> {
        let memory = &self.vm.memory;
        if fault.access_flag && memory.make_young(fault.ipa) {
            return Ok(None);
        }
        match memory.fault(cache, fault.ipa, fault.write, fault.exec) {
            Ok(Fault::Resolved) => {
                self.shared.stats.count(Count::Fault);
                Ok(None)
            }
            Ok(Fault::Device) => {
                match loaded.with_token(|core, preempt| slow::device_access(core, preempt, fault)) {
                    Next::Resume => Ok(None),
                    Next::Host(work) => Ok(Some(work)),
                }
            }
            // Another thread of the VMM's is changing its memory; a signal ends the wait for it.
            Err(error) if error == EAGAIN => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The guest's walk of its tables came upon nothing: they are walked once more for the level that it has to be told. Where
    /// they do not lead there any more the guest tries again.
    fn serve_walked_out(&self, loaded: &mut Loaded<'_, Core>, abort: slow::WalkedOut) {
        let (mut walk, big_endian) = loaded.with(|core| slow::stage1_walk(core, abort.address()));
        while let Some(step) = walk {
            if abort.is_at(step) {
                return loaded.with(|core| abort.inject(core, step.level()));
            }
            let descriptor = self.read_descriptor(step, big_endian);
            walk = descriptor.and_then(|descriptor| step.next(descriptor));
        }
    }

    /// The host learns of the page, which somebody else would get otherwise, and of the error userspace, if it wants to, or
    /// else the guest.
    ///
    /// The address is found in the guest's tables as they are now, so a guest chooses it: hence only a page of its own is
    /// reported. What the firmware knows of the error (APEI) only the kernel could claim.
    fn serve_memory_error(
        &self,
        loaded: &mut Loaded<'_, Core>,
        error: slow::MemoryError,
    ) -> Option<HostWork> {
        let address = error.address();
        let ipa = address.and_then(|address| self.guest_translation(loaded, address));
        if let Some(page) = ipa.and_then(|ipa| self.vm.memory.broken_page(ipa)) {
            memory_failure::report_error(page);
        }
        if self.vm.tells_errors() {
            if let Some(exit) = error.told(ipa) {
                return Some(HostWork::Leave(exit, Answer::None));
            }
        }
        loaded.with(|core| error.inject(core));
        None
    }

    /// Where the guest's tables lead for `address`, now. May sleep.
    fn guest_translation(&self, loaded: &mut Loaded<'_, Core>, address: u64) -> Option<Ipa> {
        let (walk, big_endian) = loaded.with(|core| slow::stage1_walk(core, address));
        let Some(mut step) = walk else {
            // Its MMU is off.
            return loaded
                .with(|core| !core.has_mmu_on())
                .then_some(Ipa::new(address));
        };
        loop {
            let descriptor = self.read_descriptor(step, big_endian)?;
            match step.next(descriptor) {
                Some(next) => step = next,
                None => return step.end(descriptor),
            }
        }
    }

    /// The descriptor that `walk` is about to read, if it is in the guest's memory. May sleep.
    fn read_descriptor(&self, walk: Walk, big_endian: bool) -> Option<u64> {
        let address = self.vm.memory.address(walk.descriptor().raw(), false)?;
        let word = UserSlice::new(UserPtr::from_addr(address), size_of::<u64>());
        let word: u64 = word.reader().read().ok()?;
        Some(if big_endian {
            u64::from_be(word)
        } else {
            u64::from_le(word)
        })
    }

    /// An access to state that may be in another vCPU's list registers: those vCPUs are kept out of the guest for it.
    fn serve_gic(&self, loaded: &mut Loaded<'_, Core>, access: slow::GicAccess) {
        self.vm
            .with_guests_out(|| loaded.with(|core| access.attempt(core)));
    }

    /// An access to an ITS. Commands run before the write that started them is done.
    fn serve_its(&self, loaded: &mut Loaded<'_, Core>, access: slow::ItsAccess) {
        let Some(its) = self.vm.its.get(access.number) else {
            return;
        };
        self.shared.stats.count(Count::MmioKernel);
        match loaded.with(|core| access.store(core)) {
            Some(value) => {
                its.write(&self.vm, access.offset, access.size(), value);
                loaded.with(Core::skip);
            }
            None => {
                let value = its.read(access.offset, access.size());
                loaded.with(|core| access.complete(core, value));
            }
        }
    }

    /// Sleeps while another vCPU wants this one out of the guest.
    fn wait_while_held(&self) -> Result {
        self.shared
            .waiter
            .block(rcuwait::NEVER, || !self.shared.is_held())
    }

    /// WFI: sleeps until the guest has an interrupt, first for a moment awake.
    fn wait_for_interrupt(&self, loaded: &mut Loaded<'_, Core>) -> Result {
        if self.shared.has_requests() || loaded.with(Core::has_interrupt) {
            return Ok(());
        }
        let deadline = {
            let ticks = loaded.with(|core| core.next_timer());
            let hz = Frequency::new(cpu::features().counter_hz);
            match (ticks, hz) {
                (Some(ticks), Some(hz)) => {
                    time::monotonic_ns().saturating_add_unsigned(hz.to_ns(ticks))
                }
                _ => rcuwait::NEVER,
            }
        };
        let stats = &self.shared.stats;
        let poll = loaded.with(|core| core.polling);
        let begun = time::monotonic_ns();
        let found = poll.look(&self.shared, begun, deadline);
        let looked = if poll.looks() {
            time::monotonic_ns().saturating_sub(begun)
        } else {
            0
        };
        if found {
            stats.polled(looked.unsigned_abs(), true);
            return Ok(());
        }
        let (mut questions, mut done) = (0_u32, false);
        stats.waits(true);
        let result = self.shared.waiter.block(deadline, || {
            questions = questions.saturating_add(1);
            done = self.shared.has_requests() || loaded.with(Core::has_interrupt);
            done
        });
        stats.waits(false);
        let waited = time::monotonic_ns().saturating_sub(begun);
        // Not if there was something, or a signal, when it was first asked for.
        let slept = questions > 1 || !done && result.is_ok();
        if poll.looks() {
            stats.polled(looked.unsigned_abs(), !slept);
        }
        if slept {
            let ns = waited.saturating_sub(looked).unsigned_abs();
            stats.slept(ns, result.is_ok());
        }
        loaded.with(|core| core.polling = poll.after(waited, self.vm.most_polling_ns()));
        result
    }
}

/// The middle loop: runs the guest until the host has to do something that may sleep.
fn run_until_host(core: &mut Core, preempt: PreemptDisabled<'_>, shared: &Shared) -> HostWork {
    loop {
        if !onereg::pstate_is_valid(core.frame.pstate) {
            // Whatever it is, it must not reach the ERET.
            return HostWork::Leave(Exit::FailEntry, Answer::None);
        }
        let next = match enter(core, shared) {
            None => what_came_up(core, shared),
            Some(leave) if core.frame.has_error() => slow::late_serror(core, leave),
            Some(Leave::Interrupt) => Next::Resume,
            Some(Leave::Sync) => slow::handle(core, preempt, false),
            Some(Leave::Store) => slow::handle(core, preempt, true),
            Some(Leave::SError) => slow::serror(core),
            Some(Leave::HostException) => slow::host_exception(),
        };
        match next {
            Next::Host(work) => return work,
            Next::Resume if !core.after.is_empty() => return HostWork::After,
            Next::Resume => {}
        }
    }
}

/// Why the guest was not entered.
fn what_came_up(core: &mut Core, shared: &Shared) -> Next {
    if entry_virt::work_pending() {
        return Next::Host(HostWork::Pending);
    }
    if shared.has_requests() {
        if shared.is_held() {
            return Next::Host(HostWork::Held);
        }
        let requests = shared.take_requests();
        if requests & super::shared::Request::Power as u32 != 0 {
            return Next::Host(HostWork::Requests);
        }
    }
    if !core.fp_is_here && !fp::may_be_away() {
        return Next::Host(HostWork::FloatingPoint);
    }
    if core.may_run() {
        Next::Resume
    } else {
        Next::Host(HostWork::Vmid)
    }
}

/// The innermost: into the guest and out of it, once. `None`: something came up on the way in.
fn enter(core: &mut Core, shared: &Shared) -> Option<Leave> {
    let mut irq = IrqGuard::new();
    shared.entering(core.kick);
    if entry_virt::work_pending_before_entry(irq.token())
        || shared.has_requests()
        || !core.may_run()
        || !core.fp_is_here && !fp::may_be_away()
    {
        shared.left();
        return None;
    }
    core.prepare();
    let (entered_at, interrupts) = (core.frame.pc, shared.stats.get(Count::Irq));
    let mut guest = GuestContext::enter(irq.token());
    let leave = loop {
        let leave = Leave::new(core.run_guest());
        // A store that an ioeventfd waits for takes the shortest way that leads through the host's world, since somebody is
        // woken: nothing of the guest's is taken out of the CPU.
        if leave != Leave::Store || core.frame.has_error() {
            break leave;
        }
        core.note_serror();
        let signalled = {
            let _watched = RcuActive::new(guest.token());
            slow::store(core, irq.token().preempt())
        };
        if !signalled {
            break leave;
        }
        core.count(Count::Ioeventfd);
        if entry_virt::work_pending() || shared.has_requests() {
            break Leave::Interrupt;
        }
    };
    drop(guest);
    shared.left();
    core.count(Count::Exits);
    if leave == Leave::Interrupt {
        core.count(Count::IrqLeft);
        if core.frame.pc == entered_at && shared.stats.get(Count::Irq) != interrupts {
            core.count(Count::IrqInPlace);
        }
    }
    core.retire();
    take_interrupts(&mut irq);
    Some(leave)
}

/// Tells userspace.
fn write_exit(page: &RunPage, exit: Exit) -> Result<isize> {
    let reason = match exit {
        Exit::Mmio {
            ipa,
            data,
            size,
            write,
        } => {
            page.write(field::DETAIL, ipa);
            page.write(field::MMIO_DATA, data);
            page.write(field::DETAIL + 16, u32::from(size));
            page.write(field::DETAIL + 20, u8::from(write));
            KVM_EXIT_MMIO
        }
        Exit::System { kind, flags } => {
            page.write(field::DETAIL, kind);
            page.write(field::DETAIL + 4, u32::from(flags.is_some()));
            page.write(field::DETAIL + 8, flags.unwrap_or(0));
            KVM_EXIT_SYSTEM_EVENT
        }
        Exit::Hypercall { function, smc } => {
            page.write(field::DETAIL, [u64::from(function), 0, 0, 0, 0, 0, 0, 0]);
            page.write(
                field::HYPERCALL_FLAGS,
                u64::from(if smc { KVM_HYPERCALL_EXIT_SMC } else { 0 }),
            );
            KVM_EXIT_HYPERCALL
        }
        Exit::NoSyndrome { iss, ipa } => {
            page.write(field::DETAIL, iss);
            page.write(field::DETAIL + 8, ipa);
            KVM_EXIT_ARM_NISV
        }
        Exit::MemoryError { esr, gva, gpa } => {
            let flags = if gpa.is_some() {
                KVM_EXIT_ARM_SEA_FLAG_GPA_VALID
            } else {
                0
            };
            let gpa = gpa.map_or(0, |gpa| gpa.align_down(PAGE_SIZE as u64).raw());
            page.write(field::DETAIL, [u64::from(flags), esr, gva, gpa]);
            KVM_EXIT_ARM_SEA
        }
        Exit::Debug { esr, far } => {
            page.write(field::DETAIL, esr);
            page.write(field::DETAIL + 8, far);
            page.write(field::FLAGS, KVM_DEBUG_ARCH_HSR_HIGH_VALID as u16);
            KVM_EXIT_DEBUG
        }
        Exit::Internal => {
            page.write(field::DETAIL, KVM_INTERNAL_ERROR_EMULATION);
            page.write(field::DETAIL + 4, 0u32);
            KVM_EXIT_INTERNAL_ERROR
        }
        Exit::FailEntry => {
            page.write(field::DETAIL, 0u64);
            page.write(field::DETAIL + 8, kernel::cpu::CpuId::current().as_u32());
            KVM_EXIT_FAIL_ENTRY
        }
        Exit::Interrupted => {
            page.write(field::EXIT_REASON, KVM_EXIT_INTR);
            return Err(EINTR);
        }
    };
    page.write(field::EXIT_REASON, reason);
    Ok(0)
}
