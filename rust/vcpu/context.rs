// SPDX-License-Identifier: GPL-2.0

//! The part of a vCPU that moves between memory and the CPU: everything that a run of the guest
//! needs.

mod lists;
mod timers;

use super::cpu_interface::CpuInterface;
use super::debug::{self, Debugger};
use super::frozen::Frozen;
use super::halt::Halt;
use super::steal_time::StealTime;
use super::timers::Timers;
use super::untold::Untold;
use crate::arch::fp::Fp;
use crate::arch::frame::EntryFrame;
use crate::arch::gic::{self, Sgi};
use crate::arch::guest_mode::{self, vectors, Control, GuestState, Leave, Live};
use crate::arch::{cpu, tlb};
use crate::host::context_tracking::InGuest;
use crate::host::irqflags::IrqDisabled;
use crate::host::kvm;
use crate::host::percpu_irq;
use crate::host::preempt::PreemptDisabled;
use crate::host::preempt_notifier::{Resident, ScheduledIn};
use crate::host::sched;
use crate::model::aarch32;
use crate::model::esr::{Abort, Esr, FaultStatus};
use crate::model::inject::{self, Before, Vector};
use crate::model::mops::MemoryOperation;
use crate::model::smccc::Firmware;
use crate::model::sysreg::cache::{self, Geometries};
use crate::model::sysreg::idregs::IdRegs;
use crate::model::sysreg::regs::{HCR_EL2, SCTLR_EL1, SPSR_EL1};
use crate::model::sysreg::table;
use crate::model::sysreg::{IdReg, Reg};
use crate::model::timer::TimerId;
use crate::model::vcpus::VcpuId;
use crate::vm::gic::After;
use crate::vm::timers::TimerPpis;
use crate::vm::vcpu_handle::{Start, VcpuHandle};
use crate::vm::vcpu_stats::Count;
use crate::vm::Vm;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering::Relaxed;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A vCPU's state, as its own thread has it. A fast exit has it like this: the guest's PC, PSTATE
/// and FP registers are in the CPU, and only [`Live`] gets at them.
///
/// While it is loaded, more of it is in the CPU; `get` and `set` find a register where it is.
#[repr(C)]
pub(crate) struct VcpuContext {
    /// First, for the vector has its address.
    guest: GuestState,
    pub(crate) id: VcpuId,
    pub(crate) vm: Arc<Vm>,
    pub(crate) handle: Arc<VcpuHandle>,
    /// What does not change once the VM runs.
    pub(crate) frozen: Frozen,
    /// The address of the last abort, where HPFAR_EL2 does not have it.
    pub(crate) walked_ipa: Option<u64>,

    interface: CpuInterface,
    timers: Timers,
    /// What a fast exit could not do there: vCPUs to be woken, EOIs to be told of.
    pub(crate) after: After,

    /// A virtual SError waits to be taken: HCR_EL2.VSE.
    pub(crate) serror: Option<u32>,

    /// SPSR_abt, _und, _irq and _fiq, which userspace saves and restores.
    pub(crate) spsr_aarch32: [u64; 4],
    /// The caches that the guest sees, if userspace has set any.
    pub(crate) caches: Option<KBox<Geometries>>,
    /// What the VM's firmware calls answer.
    pub(crate) firmware: Firmware,
    /// See [`Vm::firmware`].
    firmware_changes: u32,
    /// The registers that tell one vCPU from another have been reset once: they may have been set
    /// since.
    pub(crate) identified: bool,
    /// This VM's HCR_EL2.
    hcr: u64,
    /// See [`VcpuContext::watches_caches`].
    caches_watched: bool,
    pub(crate) steal_time: StealTime,
    /// Exits are answered in the vector where that is possible.
    pub(crate) fast: bool,
    /// What makes the CPU that the vCPU is loaded on leave its guest.
    pub(crate) kick: Sgi,
    /// Whether a WFI waits in the vector.
    pub(super) halt: Halt,
    /// How many WFEs in a row have been skipped.
    wfes: u32,
    /// What a tracer has not been told yet.
    pub(super) untold: Untold,
    /// Who debugs the guest from outside.
    pub(crate) debugger: Option<KBox<Debugger>>,
}

/// A vCPU whose guest has left the CPU's vector, or has not been entered: what is not there for a
/// fast exit.
pub(crate) struct StoppedVcpu(VcpuContext);

impl Deref for StoppedVcpu {
    type Target = VcpuContext;

    #[inline(always)]
    fn deref(&self) -> &VcpuContext {
        &self.0
    }
}

impl DerefMut for StoppedVcpu {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut VcpuContext {
        &mut self.0
    }
}

vectors!(VcpuContext, guest);

impl VcpuContext {
    /// Returns CTR_EL0 as the guest sees it.
    pub(crate) fn cache_type(&self) -> u64 {
        self.vm.with_ids(|ids| ids.get(IdReg::CTR))
    }

    /// Returns CCSIDR_EL1 of the cache `csselr`, where CTR_EL0 is `ctr`.
    pub(crate) fn cache_geometry(&self, ctr: u64, csselr: u64) -> u64 {
        match &self.caches {
            Some(caches) => caches.get(ctr, csselr),
            None => cache::ccsidr(ctr, csselr),
        }
    }

    /// Returns the value of a register of the context, wherever it is.
    pub(crate) fn get(&mut self, reg: Reg) -> u64 {
        self.guest.get(reg)
    }

    /// Sets a register of the context, wherever it is.
    pub(crate) fn set(&mut self, reg: Reg, value: u64) {
        self.guest.set(reg, value);
    }

    /// Returns the value of a register of the context that is never in the CPU alone.
    #[inline]
    pub(crate) fn in_memory(&self, reg: Reg) -> u64 {
        self.guest.in_memory(reg)
    }

    /// Sets a register of the context that is about the guest's debugging itself. Returns whether
    /// that has to be put into the CPU: until it has enabled debug exceptions nothing has.
    #[inline]
    pub(crate) fn set_debug(&mut self, reg: Reg, value: u64) -> bool {
        let before = self.guest.debugs_itself();
        self.guest.set_in_memory(reg, value);
        before || self.guest.debugs_itself()
    }

    /// Returns the general-purpose registers, X0 to X30.
    #[inline(always)]
    pub(crate) fn xs(&mut self) -> &mut [u64; 31] {
        &mut self.guest.frame.x
    }

    /// Counts one more of these.
    #[inline(always)]
    pub(crate) fn count(&self, what: Count) {
        self.handle.stats.count(what);
    }

    /// Returns general-purpose register `n`; 31 is XZR.
    pub(crate) fn x(&self, n: u8) -> u64 {
        self.guest.frame.x.get(usize::from(n)).copied().unwrap_or(0)
    }

    /// Sets general-purpose register `n`; 31 is XZR.
    pub(crate) fn set_x(&mut self, n: u8, value: u64) {
        if let Some(x) = self.guest.frame.x.get_mut(usize::from(n)) {
            *x = value;
        }
    }

    fn renew_hcr(&mut self) {
        self.guest.frame.guest_hcr = self.hcr | self.handle.lines();
    }

    /// Returns whether the guest's caches are watched, or shall be; it takes effect when the guest
    /// is entered anew.
    ///
    /// Without FEAT_S2FWB a guest with its caches off writes past them, and lines that the host's
    /// have fetched could hide that from it once they are on. So its memory is cleaned when it
    /// switches them, and until they are on its writes to SCTLR_EL1 and the other registers of its
    /// MMU trap (HCR_EL2.TVM).
    pub(crate) fn watches_caches(&self) -> bool {
        self.caches_watched
    }

    /// Sets whether the guest's caches are watched: see [`VcpuContext::watches_caches`].
    pub(crate) fn watch_caches(&mut self, watch: bool) {
        self.caches_watched = watch;
        let trap = watch || cpu::features().mmu_writes_trap;
        self.hcr = HCR_EL2::TVM.with(self.hcr, trap.into());
        self.renew_hcr();
    }

    /// Returns for how many ticks of the counter a WFI may wait in the vector, if it may: it is
    /// worthwhile, nothing is there for the guest already, no other thread wants this CPU, and
    /// something surely ends the wait.
    pub(crate) fn may_halt_here(&mut self) -> Option<u64> {
        let pending = HCR_EL2::VSE.mask() | HCR_EL2::VI.mask() | HCR_EL2::VF.mask();
        let ticks = self.vm.halt_ticks();
        let may = ticks != 0
            && self.halt.is_worthwhile()
            && self.guest.frame.guest_hcr & pending == 0
            && self.debugger.is_none()
            && gic::lists_are_empty()
            && sched::has_no_other_thread()
            && !sched::need_resched()
            && (cpu::features().wfxt || sched::tick_preempts());
        may.then_some(ticks)
    }

    /// Returns whether a WFE may be skipped in the vector: a few in a row, then the host gets to
    /// look for somebody else to run.
    pub(crate) fn spare_wfe(&mut self) -> bool {
        const IN_A_ROW: u32 = 64;
        self.wfes = self.wfes.wrapping_add(1) % IN_A_ROW;
        self.wfes != 0
    }

    /// Makes SPSR_EL2 right in a fast exit for an instruction of pointer authentication that traps.
    ///
    /// Cortex-A510's erratum 2077057: where a step was expected of that instruction, SPSR_EL2 is a
    /// copy of the guest's SPSR_EL1, so what the guest likes. The instruction has not been
    /// executed, and nothing has since the guest was entered with PSTATE.SS set: with one
    /// instruction done, the step itself would have come first. So PSTATE is what it was then.
    #[cold]
    pub(super) fn repair_stepped_pstate(&mut self, live: Live<'_>) {
        let pstate = self.guest.frame.pstate;
        let debugger = self.debugger.as_ref();
        if cpu::features().step_loses_pstate && debugger.is_some_and(|d| d.steps(pstate)) {
            live.set_pstate(pstate);
        }
    }
}

impl StoppedVcpu {
    /// Makes a vCPU that has not been reset yet.
    pub(crate) fn new(id: VcpuId, vm: Arc<Vm>, handle: Arc<VcpuHandle>) -> Self {
        let (firmware, firmware_changes) = vm.firmware();
        let (vmid, translation) = vm.memory.translation();
        Self(VcpuContext {
            guest: GuestState::new(Control {
                translation,
                vmid,
                virtual_offset: 0,
                physical_offset: 0,
                midr: 0,
                hcrx: 0,
                untrapped: 0,
            }),
            id,
            vm,
            handle,
            frozen: Frozen::new(),
            walked_ipa: None,
            interface: CpuInterface::new(),
            timers: Timers::new(),
            after: After::default(),
            serror: None,
            spsr_aarch32: [0; 4],
            caches: None,
            firmware,
            firmware_changes,
            identified: false,
            hcr: 0,
            caches_watched: false,
            steal_time: StealTime::default(),
            fast: crate::host::module::fast_exits(),
            kick: Sgi(0),
            halt: Halt::default(),
            wfes: 0,
            untold: Untold::NOTHING,
            debugger: None,
        })
    }

    /// Resets the vCPU. Where to start comes from CPU_ON, or is userspace's to set.
    pub(crate) fn reset(&mut self, start: Option<Start>) {
        self.guest.frame.x = [0; 31];
        self.guest.frame.sp_el0 = 0;
        // Nothing of the one before is to be seen, although the architecture would allow it.
        self.guest.fp = Fp::new();
        self.spsr_aarch32 = [0; 4];
        self.guest.frame.pc = start.map_or(0, |start| start.pc);
        self.guest.frame.pstate = table::RESET_PSTATE;
        if let (Some(start), Some(x0)) = (start, self.guest.frame.x.first_mut()) {
            *x0 = start.context;
        }
        // What identifies the vCPU stays as userspace has set it.
        let values = table::reset_values(self.handle.number, self.cache_type(), !self.identified);
        for (reg, value) in values {
            self.set(reg, value);
        }
        if start.is_some_and(|start| start.big_endian) {
            let sctlr = self.get(Reg::SCTLR_EL1);
            self.set(Reg::SCTLR_EL1, SCTLR_EL1::EE.with(sctlr, 1));
        }
        self.watch_caches(!cpu::features().fwb);
        self.reset_timers();
        self.serror = None;
        self.identified = true;
    }

    /// Goes back to the first instruction of a memory copy or set that cannot go on where this vCPU
    /// is now (exit of class 0x27).
    pub(crate) fn restart_memory_operation(&mut self, esr: Esr) {
        let operation = MemoryOperation::new(esr);
        let registers = operation.registers();
        let negative = SPSR_EL1::N.is_set(self.guest.frame.pstate);
        let values = operation.undone(registers.map(|n| self.x(n)), negative);
        for (n, value) in registers.into_iter().zip(values) {
            self.set_x(n, value);
        }
        self.guest.frame.pc = self.guest.frame.pc.wrapping_sub(operation.distance());
        // A step that was due has been taken, as for any instruction that has ended in an exit.
        self.guest.frame.pstate = SPSR_EL1::SS.with(self.guest.frame.pstate, 0);
    }

    /// Returns what the vector has saved.
    #[inline(always)]
    pub(crate) fn frame(&self) -> &EntryFrame {
        &self.guest.frame
    }

    /// Returns what the vector has saved, to change it.
    #[inline(always)]
    pub(crate) fn frame_mut(&mut self) -> &mut EntryFrame {
        &mut self.0.guest.frame
    }

    /// Returns the FP/SIMD registers.
    #[inline(always)]
    pub(crate) fn fp(&self) -> &Fp {
        &self.guest.fp
    }

    /// Returns the FP/SIMD registers, to change them.
    #[inline(always)]
    pub(crate) fn fp_mut(&mut self) -> &mut Fp {
        &mut self.0.guest.fp
    }

    /// Moves past the instruction that trapped.
    pub(crate) fn skip(&mut self) {
        if SPSR_EL1::nRW.is_set(self.guest.frame.pstate) {
            return self.skip_aarch32();
        }
        self.guest.frame.pc = self.guest.frame.pc.wrapping_add(4);
        self.guest.frame.pstate = inject::step_pstate(self.guest.frame.pstate);
    }

    #[cold]
    fn skip_aarch32(&mut self) {
        let frame = &mut self.0.guest.frame;
        let is_32bit = Esr::new(frame.syndrome.esr).is_32bit();
        (frame.pc, frame.pstate) = aarch32::skip(frame.pc, frame.pstate, is_32bit);
    }

    /// Makes the guest take an exception to EL1. `far` where the syndrome has an address.
    pub(crate) fn inject(&mut self, esr: Esr, far: Option<u64>) {
        let before = Before {
            pc: self.guest.frame.pc,
            pstate: self.guest.frame.pstate,
            vbar: self.get(Reg::VBAR_EL1),
            sctlr: self.get(Reg::SCTLR_EL1),
        };
        let after = inject::enter_el1(&before, Vector::Sync);
        self.set(Reg::ELR_EL1, after.elr);
        self.set(Reg::SPSR_EL1, after.spsr);
        self.set(Reg::ESR_EL1, esr.raw());
        if let Some(far) = far {
            self.set(Reg::FAR_EL1, far);
        }
        self.guest.frame.pc = after.pc;
        self.guest.frame.pstate = after.pstate;
    }

    /// Makes the guest take an abort of its access to `far`.
    pub(crate) fn inject_abort(&mut self, instruction: bool, status: FaultStatus, far: u64) {
        let esr = Esr::inject_abort(instruction, self.guest.frame.pstate, status);
        self.inject(esr, Some(far));
    }

    /// Returns whether the guest's addresses are translated by tables of its own.
    pub(crate) fn has_mmu_on(&mut self) -> bool {
        SCTLR_EL1::M.is_set(self.get(Reg::SCTLR_EL1))
    }

    /// Makes the instruction that trapped UNDEFINED.
    pub(crate) fn inject_undefined(&mut self) {
        let is_32bit = Esr::new(self.guest.frame.syndrome.esr).is_32bit();
        self.inject(Esr::undefined(is_32bit), None);
    }

    /// Takes over what others may have changed about the VM: when the vCPU is loaded, and when it
    /// was told so.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        let (vmid, translation) = self.vm.memory.translation();
        let offsets = &self.vm.offsets;
        let now = self.guest.control();
        let new = Control {
            translation,
            vmid,
            virtual_offset: offsets.virtual_.load(Relaxed),
            physical_offset: offsets.physical.load(Relaxed),
            ..*now
        };
        if new != *now {
            self.renew_control(new);
        }
        self.renew_hcr();
    }

    /// Returns whether the guest may run with what is in the CPU; with interrupts off.
    pub(crate) fn may_run(&self) -> bool {
        self.vm.memory.may_run_as(self.guest.control().vmid)
    }

    /// Takes over what all the VM's vCPUs share, which seldom changes.
    #[cold]
    fn renew_control(&mut self, new: Control) {
        // Before the offset changes what is in the CPU.
        let physical = self.timer(TimerId::Physical);
        let offset = self.guest.control().physical_offset;
        if self.guest.set_control(new) && new.physical_offset != offset {
            self.set_timer(TimerId::Physical, physical);
        }
    }

    /// Sets what does not change once the VM runs.
    pub(crate) fn start(&mut self) {
        self.frozen = Frozen::of(&self.vm, self.id, self.fast);
        let features = self.frozen.features();
        let control = Control {
            midr: self.vm.midr(),
            hcrx: guest_mode::guest_hcrx(features, self.vm.with_ids(IdRegs::has_mops)),
            untrapped: guest_mode::untrapped(features),
            ..*self.guest.control()
        };
        self.guest.set_control(control);
        // The CPU's own CTR_EL0 is read without a trap, unless the guest's is another, or another
        // CPU's.
        let own_caches = cpu::features().caches_differ || self.cache_type() != cpu::features().ctr;
        self.hcr = guest_mode::guest_hcr();
        if own_caches {
            self.hcr |= HCR_EL2::TID2.mask();
        }
        if self.vm.has_pointer_auth() {
            self.hcr |= guest_mode::pointer_auth_hcr();
        }
        let caches_on = caches_are_on(self.get(Reg::SCTLR_EL1));
        self.watch_caches(!cpu::features().fwb && !caches_on);
        let ppis = self.vm.timers.as_ref().copied();
        self.timers.set_ppis(ppis.unwrap_or(TimerPpis::NEW));
        (self.firmware, self.firmware_changes) = self.vm.firmware();
    }

    /// Takes over what userspace has changed about the firmware; not loaded.
    pub(crate) fn renew_firmware(&mut self) {
        if self.vm.firmware_has_changed(self.firmware_changes) {
            (self.firmware, self.firmware_changes) = self.vm.firmware();
        }
    }

    /// Puts into the CPU what has to be there just before the guest runs.
    fn prepare(&mut self) {
        self.timers.turn_on();
        if let Some(syndrome) = self.serror {
            self.guest.frame.guest_hcr |= HCR_EL2::VSE.mask();
            if cpu::features().ras {
                guest_mode::set_serror_syndrome(syndrome);
            }
        }
        self.fill_lists_at_entry();
        self.interface.write();
    }

    /// Takes back from the CPU what the host would feel.
    #[inline(always)]
    fn retire(&mut self) {
        let lines = self.timers.turn_off();
        self.take_lists(lines);
        self.timers.silence_lines(lines);
        gic::stop();
        self.note_serror();
    }

    /// Notes that the guest has been left: perhaps it has taken its SError, which it must not get
    /// again then.
    fn note_serror(&mut self) {
        if self.serror.is_some() && !self.guest.serror_is_pending() {
            self.serror = None;
            self.guest.frame.guest_hcr &= !HCR_EL2::VSE.mask();
        }
    }

    /// Takes what a fast exit, or another, could not do there, if there is something.
    pub(crate) fn take_after(&mut self) -> Option<After> {
        (!self.after.is_empty()).then(|| core::mem::take(&mut self.after))
    }

    /// Returns the address of the last abort.
    pub(crate) fn fault_ipa(&self) -> u64 {
        let syndrome = &self.guest.frame.syndrome;
        self.walked_ipa
            .unwrap_or_else(|| Abort::ipa(syndrome.hpfar, syndrome.far).raw())
    }

    /// Sets the debugger that there is from now on, or none.
    pub(crate) fn set_debugger(&mut self, mut new: Option<KBox<Debugger>>) {
        if let Some(new) = &mut new {
            new.replace(self.debugger.as_deref());
        }
        self.debugger = new;
    }

    /// Tells the debugger, if there is one, that KVM_RUN begins.
    pub(super) fn begin_debugging(&mut self) {
        let this = &mut self.0;
        if let Some(debugger) = &mut this.debugger {
            debugger.begin(&mut this.guest.frame.pstate);
        }
    }

    /// Tells the debugger, if there is one, that KVM_RUN ends.
    pub(super) fn end_debugging(&mut self) {
        let this = &mut self.0;
        if let Some(debugger) = &mut this.debugger {
            debugger.end(&mut this.guest.frame.pstate);
        }
    }

    /// Ends the step, if there was one: the debugger is about to be told.
    pub(super) fn end_step(&mut self) {
        self.guest.frame.pstate |= debug::SS;
    }
}

/// A vCPU of which everything is in the CPU that its guest needs to run, for as long as this lives:
/// the list registers and the timers, too. Between two runs it is one that is stopped.
pub(crate) struct EnteredVcpu<'a> {
    vcpu: &'a mut StoppedVcpu,
    _irq: IrqDisabled<'a>,
}

impl<'a> EnteredVcpu<'a> {
    /// Puts into the CPU what the host would feel.
    #[inline(always)]
    pub(crate) fn new(vcpu: &'a mut StoppedVcpu, irq: IrqDisabled<'a>) -> Self {
        vcpu.prepare();
        Self { vcpu, _irq: irq }
    }

    /// Runs the guest once. Returns the reason for leaving it.
    #[inline(always)]
    pub(crate) fn run(&mut self, guest: InGuest<'_>) -> Leave {
        guest_mode::execute(&mut self.vcpu.0, guest)
    }

    /// Returns the vCPU as it is between two runs.
    #[inline(always)]
    pub(crate) fn between_runs(&mut self) -> &mut StoppedVcpu {
        self.vcpu.note_serror();
        self.vcpu
    }
}

impl Deref for EnteredVcpu<'_> {
    type Target = StoppedVcpu;

    #[inline(always)]
    fn deref(&self) -> &StoppedVcpu {
        self.vcpu
    }
}

impl Drop for EnteredVcpu<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.vcpu.retire();
    }
}

impl Resident for StoppedVcpu {
    fn load(&mut self, arrival: ScheduledIn<'_>) {
        let cpu_number = kernel::cpu::CpuId::current().as_u32();
        self.kick = Sgi::to_this_cpu(percpu_irq::KICK);
        self.refresh();
        if kvm::is_on() {
            percpu_irq::forget_active_timers();
        }
        let other_vcpu = self.vm.last_ran(cpu_number, self.id);
        if self.vm.memory.comes_here(arrival.preempt()) {
            tlb::flush_local(self.guest.control().translation);
        } else if other_vcpu {
            tlb::flush_local_stage1(self.guest.control().translation);
        }
        let debugged = self.debugger.is_some();
        self.guest.load(debugged, arrival);
        self.interface.load();
        if self.steal_time.is_due() {
            self.handle.note_power();
        }
        self.load_timers();
    }

    fn put(&mut self, preempt: PreemptDisabled<'_>) {
        self.save_timers();
        self.interface.save();
        if kvm::is_on() {
            gic::clear_lists();
        }
        self.timers.wake_all();
        self.guest.put(preempt);
    }
}

/// Returns whether a guest with this SCTLR_EL1 uses its caches.
pub(super) fn caches_are_on(sctlr: u64) -> bool {
    SCTLR_EL1::M.is_set(sctlr) && SCTLR_EL1::C.is_set(sctlr)
}
