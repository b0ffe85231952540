// SPDX-License-Identifier: GPL-2.0

//! Slow exits: with the host's world back, but not yet in a place that may sleep.

use super::core::Core;
use super::fast::Leave;
use super::mmio::Load;
use super::run::{Answer, Exit, HostWork};
use super::smc;
use super::stats::Count;
use super::sysreg::{self, Outcome};
use crate::arch::cpu;
use crate::host::preempt::PreemptDisabled;
use crate::model::esr::{Abort, ErrorExtent, Esr, ExceptionClass, FaultStatus, Wfx};
use crate::model::stage1::Walk;
use crate::model::sysreg::regs::{SCTLR_EL1, SPSR_EL1};
use crate::model::sysreg::Reg;
use crate::model::types::Ipa;
use crate::model::vcpus::VcpuSet;
use crate::model::vgic::{Error as GicError, GicFrame};

/// What follows an exit.
pub(super) enum Next {
    /// Into the guest.
    Resume,
    /// Not before this.
    Host(HostWork),
}

/// An access of the guest's that stage 2 did not allow.
#[derive(Clone, Copy)]
pub(super) struct MemoryFault {
    pub(super) ipa: u64,
    pub(super) write: bool,
    pub(super) exec: bool,
    /// All that is missing is the access flag.
    pub(super) access_flag: bool,
    abort: Abort,
    far: u64,
    /// Ioeventfds have had it already.
    offered: bool,
}

/// Ends KVM_RUN.
fn leave(exit: Exit, answer: Answer) -> Next {
    Next::Host(HostWork::Leave(exit, answer))
}

/// A synchronous exit. `offered`: ioeventfds have had it already.
pub(super) fn handle(core: &mut Core, preempt: PreemptDisabled<'_>, offered: bool) -> Next {
    if SPSR_EL1::nRW.is_set(core.frame.pstate) {
        // The guest went to AArch32, which its identification registers say it does not have, but the CPU has. Nothing
        // here knows how to go on from there; it runs again when userspace has set a PSTATE that it can run.
        return leave(Exit::FailEntry, Answer::None);
    }
    let esr = Esr::new(core.frame.syndrome.esr);
    match esr.class() {
        ExceptionClass::Hvc => smc::call(core),
        ExceptionClass::Smc => {
            core.skip();
            if esr.immediate() != 0 {
                core.set_x(0, crate::model::smccc::NOT_SUPPORTED);
                return Next::Resume;
            }
            smc::call(core)
        }
        ExceptionClass::Sysreg => {
            core.count(Count::SysregLeft);
            system_register(core, esr)
        }
        ExceptionClass::FpAccess if !core.fp_is_here => Next::Host(HostWork::FloatingPoint),
        ExceptionClass::Wfx => {
            core.skip();
            match esr.wfx() {
                Wfx::Wfi | Wfx::Wfit => Next::Host(HostWork::Wait),
                Wfx::Wfe | Wfx::Wfet => Next::Host(HostWork::Yield),
            }
        }
        ExceptionClass::DataAbortLower | ExceptionClass::InstructionAbortLower => {
            core.count(Count::AbortLeft);
            memory_abort(core, preempt, esr, offered)
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
            leave(Exit::Debug { esr, far }, Answer::None)
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
            Next::Host(HostWork::Clean)
        }
        // Only a fast exit is told this.
        Outcome::NeedsHost => host_exception(),
        Outcome::NeedsOthers { deactivate } => {
            core.skip();
            Next::Host(HostWork::Gic(GicAccess::Deactivate { intid: deactivate }))
        }
    }
}

fn memory_abort(core: &mut Core, preempt: PreemptDisabled<'_>, esr: Esr, offered: bool) -> Next {
    let abort = esr.abort();
    let far = core.frame.syndrome.far;
    let ipa = core.fault_ipa();
    let fault = abort.fault();
    let permission = matches!(fault, FaultStatus::Permission(_));
    match fault {
        FaultStatus::Translation(_) | FaultStatus::Permission(_) | FaultStatus::AccessFlag(_) => {}
        FaultStatus::UnsupportedExclusive => {
            core.inject_abort(abort.is_instruction(), fault, far);
            return Next::Resume;
        }
        _ if fault.is_external() => {
            return Next::Host(HostWork::MemoryError(MemoryError { abort, far }));
        }
        // What the architecture has for features that no guest has.
        _ => {
            core.inject_abort(abort.is_instruction(), FaultStatus::External, far);
            return Next::Resume;
        }
    }
    if ipa >= core.vm.memory.end() {
        // Beyond what any VM here has, as if it were beyond the CPU's; else nothing is there.
        if ipa >> cpu::features().pa_bits != 0 {
            core.inject_abort(abort.is_instruction(), FaultStatus::AddressSize(0), far);
            return Next::Resume;
        }
        return nothing_there(core, abort, ipa, far);
    }
    // The walk of a stage-1 table only reads, unless it is the access flag that it could not write.
    let write = if abort.is_on_walk() {
        permission
    } else {
        !abort.is_instruction() && abort.is_write()
    };
    let fault = MemoryFault {
        ipa,
        write,
        exec: abort.is_instruction() && !abort.is_on_walk(),
        access_flag: matches!(fault, FaultStatus::AccessFlag(_)),
        abort,
        far,
        offered,
    };
    if core.vm.memory.is_device(preempt, ipa, write) {
        device_access(core, preempt, fault)
    } else {
        Next::Host(HostWork::Fault(fault))
    }
}

/// What a bus without anything at `ipa` gives: an external abort. Where the guest's tables are there, the abort says at which
/// level the walk for `far` came upon it; the fault is stage 2's, and does not know.
fn nothing_there(core: &mut Core, abort: Abort, ipa: u64, far: u64) -> Next {
    let instruction = abort.is_instruction();
    if abort.is_on_walk() {
        return Next::Host(HostWork::WalkedOut(WalkedOut {
            instruction,
            ipa,
            far,
        }));
    }
    core.inject_abort(instruction, FaultStatus::External, far);
    Next::Resume
}

/// An access of the guest's that the memory system answered with an error.
#[derive(Clone, Copy)]
pub(super) struct MemoryError {
    abort: Abort,
    far: u64,
}

impl MemoryError {
    /// The virtual address of the access, if what is there can be looked for.
    pub(super) fn address(self) -> Option<u64> {
        self.abort.is_of_known_address().then_some(self.far)
    }

    /// For userspace, if it is not the host's own affair. `ipa`: what was found at the address.
    pub(super) fn told(self, ipa: Option<Ipa>) -> Option<Exit> {
        let ras = cpu::features().ras;
        (!self.abort.is_hosts(ras)).then(|| Exit::MemoryError {
            esr: self.abort.external_esr(ras),
            gva: if self.abort.far_is_invalid() {
                0
            } else {
                self.far
            },
            gpa: ipa,
        })
    }

    /// The guest gets it as it is. On its own walk the level stands there; with S1PTW it is that of stage 2's, which the guest
    /// does not have.
    pub(super) fn inject(self, core: &mut Core) {
        let status = match self.abort.fault() {
            fault @ FaultStatus::ExternalOnWalk(_) if !self.abort.is_on_walk() => fault,
            _ => FaultStatus::External,
        };
        core.inject_abort(self.abort.is_instruction(), status, self.far);
    }
}

/// The guest's walk for `far` found a descriptor where nothing is.
#[derive(Clone, Copy)]
pub(super) struct WalkedOut {
    instruction: bool,
    /// Of the descriptor, good to 4 KiB.
    ipa: u64,
    far: u64,
}

impl WalkedOut {
    /// The virtual address.
    pub(super) fn address(self) -> u64 {
        self.far
    }

    /// Whether it ended with the descriptor that `walk` is about to read.
    pub(super) fn is_at(self, walk: Walk) -> bool {
        (walk.descriptor().raw() ^ self.ipa) >> 12 == 0
    }

    /// The guest gets its abort.
    pub(super) fn inject(self, core: &mut Core, level: i8) {
        let status = FaultStatus::ExternalOnWalk(level);
        core.inject_abort(self.instruction, status, self.far);
    }
}

/// How the guest's own tables are read for an address: where that begins, if its MMU is on, and whether the descriptors have
/// the most significant byte first.
pub(super) fn stage1_walk(core: &mut Core, far: u64) -> (Option<Walk>, bool) {
    let sctlr = core.get(Reg::SCTLR_EL1);
    let ttbrs = [core.get(Reg::TTBR0_EL1), core.get(Reg::TTBR1_EL1)];
    let walk = Walk::new(core.get(Reg::TCR_EL1), ttbrs, far);
    let walk = walk.filter(|_| SCTLR_EL1::M.is_set(sctlr));
    (walk, SCTLR_EL1::EE.is_set(sctlr))
}

/// If an ioeventfd waits for the store that was trapped, signals it and goes on behind the instruction. Interrupts are off, and
/// the guest's registers in the CPU.
pub(super) fn store(core: &mut Core, preempt: PreemptDisabled<'_>) -> bool {
    let abort = Esr::new(core.frame.syndrome.esr).abort();
    let ipa = core.fault_ipa();
    let size = abort.size();
    let value = super::mmio::guest_order(core, core.frame.pstate, core.x(abort.register()), size);
    // Memory that the guest has not touched so far looks the same.
    let vm = &core.vm;
    let device = || vm.memory.is_device(preempt, ipa, true);
    if SPSR_EL1::nRW.is_set(core.frame.pstate)
        || !vm.events.store(preempt, ipa, value, size, device)
    {
        return false;
    }
    core.skip();
    true
}

/// An access to what is not memory.
pub(super) fn device_access(
    core: &mut Core,
    preempt: PreemptDisabled<'_>,
    fault: MemoryFault,
) -> Next {
    let abort = fault.abort;
    if fault.exec || abort.is_on_walk() {
        return nothing_there(core, abort, fault.ipa, fault.far);
    }
    if abort.is_cache_maintenance() {
        core.skip();
        return Next::Resume;
    }
    let ipa = fault.ipa;
    if !abort.is_described() {
        if core.vm.tells_undescribed() {
            return leave(
                Exit::NoSyndrome {
                    iss: abort.undescribed_iss(),
                    ipa,
                },
                Answer::None,
            );
        }
        return Next::Host(HostWork::Error(crate::host::errno::enosys()));
    }
    if let Some((frame, offset)) = core.gic_frame(ipa) {
        return Next::Host(HostWork::Gic(GicAccess::Register {
            abort,
            frame,
            offset,
        }));
    }
    if let Some((number, offset)) = core.vm.its.find(preempt, ipa) {
        return Next::Host(HostWork::Its(ItsAccess {
            abort,
            number,
            offset,
        }));
    }
    let (size, rt) = (abort.size(), abort.register());
    if abort.is_write() {
        let data = super::mmio::guest_order(core, core.frame.pstate, core.x(rt), size);
        if !fault.offered && core.vm.events.store(preempt, ipa, data, size, || true) {
            core.count(Count::Ioeventfd);
            core.count(Count::MmioKernel);
            core.skip();
            return Next::Resume;
        }
        leave(
            Exit::Mmio {
                ipa,
                data,
                size,
                write: true,
            },
            Answer::Skip,
        )
    } else {
        leave(
            Exit::Mmio {
                ipa,
                data: 0,
                size,
                write: false,
            },
            Answer::Load(Load { abort }),
        )
    }
}

/// An access to an ITS's registers, which may sleep.
#[derive(Clone, Copy)]
pub(super) struct ItsAccess {
    abort: Abort,
    /// Which of the VM's ITSes.
    pub(super) number: usize,
    pub(super) offset: u32,
}

impl ItsAccess {
    /// Bytes.
    pub(super) fn size(self) -> u8 {
        self.abort.size()
    }

    /// What is stored; `None` for a load.
    pub(super) fn store(self, core: &mut Core) -> Option<u64> {
        self.abort.is_write().then(|| {
            let value = core.x(self.abort.register());
            super::mmio::guest_order(core, core.frame.pstate, value, self.size())
        })
    }

    /// A load's value has come.
    pub(super) fn complete(self, core: &mut Core, value: u64) {
        Load { abort: self.abort }.complete(core, value);
    }
}

/// What the guest wants of the interrupt controller that the vector could not do.
#[derive(Clone, Copy)]
pub(super) enum GicAccess {
    /// An access to its memory.
    Register {
        abort: Abort,
        frame: GicFrame,
        offset: u32,
    },
    /// A write to ICC_DIR_EL1; the PC is behind it.
    Deactivate { intid: u64 },
}

impl GicAccess {
    /// Does it, if no other vCPU has in its list registers what it is about; else says which have.
    pub(super) fn attempt(self, core: &mut Core) -> core::result::Result<(), VcpuSet> {
        match self {
            Self::Register {
                abort,
                frame,
                offset,
            } => register(core, abort, frame, offset),
            Self::Deactivate { intid } => {
                let vmcr = core.lists.vmcr;
                let done = match core.vm.gic.model() {
                    Some(model) => model.deactivate(core.id, intid, vmcr, &mut core.after),
                    None => Ok(()),
                };
                match done {
                    Err(GicError::NeedSync(stale)) if !stale.others.is_empty() => Err(stale.others),
                    _ => Ok(()),
                }
            }
        }
    }
}

fn register(
    core: &mut Core,
    abort: Abort,
    frame: GicFrame,
    offset: u32,
) -> core::result::Result<(), VcpuSet> {
    let (id, rt, size) = (core.id, abort.register(), abort.size());
    let done = if abort.is_write() {
        let value = super::mmio::guest_order(core, core.frame.pstate, core.x(rt), size);
        match core.vm.gic.model() {
            Some(model) => model
                .mmio_write(id, frame, offset, size, value, &mut core.after)
                .map(|()| None),
            None => Ok(None),
        }
    } else {
        match core.vm.gic.model() {
            Some(model) => model.mmio_read(id, frame, offset, size).map(Some),
            None => Ok(None),
        }
    };
    match done {
        Ok(value) => {
            if let Some(value) = value {
                let value = super::mmio::guest_order(core, core.frame.pstate, value, size);
                core.set_x(rt, super::mmio::extend(value, &abort));
            }
        }
        Err(GicError::NeedSync(stale)) if !stale.others.is_empty() => return Err(stale.others),
        // Not a register, or not with this size: as KVM, which ignores it.
        Err(_) if !abort.is_write() => core.set_x(rt, 0),
        Err(_) => {}
    }
    core.count(Count::MmioKernel);
    core.skip();
    Ok(())
}

/// An SError that arrived while the guest ran.
pub(super) fn serror(core: &mut Core) -> Next {
    error(core, Esr::new(core.frame.syndrome.esr));
    Next::Resume
}

/// An SError that came to light when the guest had left for something else, to which what it has accessed may have led. So that
/// is not done: the guest comes to the same place again, once it has had the SError.
#[cold]
pub(super) fn late_serror(core: &mut Core, leave: Leave) -> Next {
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
pub(super) fn host_exception() -> Next {
    leave(Exit::Internal, Answer::None)
}

/// What an SError says that arose while the guest ran. It may be the guest's doing, so it is the guest's, unless the CPU says
/// how far it has spread.
fn error(core: &mut Core, esr: Esr) {
    match esr.error_extent(cpu::features().ras) {
        ErrorExtent::Harmless => {}
        ErrorExtent::Guest => {
            core.serror = Some(core.serror.unwrap_or(Esr::NO_SERROR_SYNDROME));
        }
        ErrorExtent::Uncontained => crate::host::memory_failure::uncontained_error(esr.raw()),
    }
}
