// SPDX-License-Identifier: Apache-2.0
//! The guest as gdbstub sees it: registers, memory, breakpoints, and what runs.

use super::points::{Access, Watch, BREAK_CONTROL};
use super::step::{looks_at_masks, MASKS};
use super::walk::Regime;
use super::{Hit, Hits};
use crate::control::{Gate, Held};
use crate::vm::{write_code, Name, Registers};
use anyhow::{anyhow, bail, Result};
use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::aarch64::reg::id::AArch64RegId;
use gdbstub_arch::aarch64::reg::AArch64CoreRegs;
use gdbstub_arch::aarch64::AArch64;
use kvm_bindings::{
    kvm_guest_debug, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW, KVM_GUESTDBG_USE_SW_BP,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// BRK #0, as gdb itself writes it.
const BRK: [u8; 4] = 0xd420_0000u32.to_le_bytes();
/// The least that a translation holds for.
const PAGE: u64 = 4096;

/// Exception classes (Arm ARM, D24.2.40, ESR_EL2.EC).
mod class {
    pub const BREAKPOINT: u32 = 0x30;
    pub const STEP: u32 = 0x32;
    pub const WATCHPOINT: u32 = 0x34;
    pub const BRK: u32 = 0x3c;
}

/// Fields of PSTATE, as SPSR_EL1 has them (Arm ARM, C5.2.19).
mod pstate {
    /// M[4:0].
    pub const MODE: u64 = 0x1f;
    pub const EL1T: u64 = 4;
    pub const EL1H: u64 = 5;
    pub const DAIF: u64 = 0xf << 6;
    pub const SSBS: u64 = 1 << 12;
    pub const PAN: u64 = 1 << 22;
    pub const DIT: u64 = 1 << 24;
    pub const NZCV: u64 = 0xf << 28;
}

/// SCTLR_EL1.SPAN and DSSBS.
const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;

/// Bytes of the exception vectors.
const VECTORS: u64 = 0x800;

/// Why the guest has stopped.
pub type Reason = MultiThreadStopReason<u64>;

/// An instruction that a BRK has taken the place of.
struct Planted {
    physical: u64,
    original: [u8; 4],
}

/// The guest.
pub struct Guest {
    vcpus: Vec<Registers>,
    memory: GuestMemoryMmap<()>,
    gate: Arc<Gate>,
    pub hits: Arc<Hits>,
    /// How many breakpoints and watchpoints a CPU has.
    limits: (usize, usize),
    planted: BTreeMap<u64, Planted>,
    breakpoints: Vec<u64>,
    watchpoints: Vec<Watch>,
    /// What the vCPUs that were named are to do: whether it is a step.
    actions: BTreeMap<usize, bool>,
    /// Whether the others wait.
    locked: bool,
    /// The vCPUs that make a step, and which masks are not the guest's own.
    stepping: BTreeMap<usize, u64>,
    /// The vCPU that the debugger was told of last.
    current: usize,
}

impl Guest {
    /// A guest that runs, or waits, undisturbed.
    pub fn new(
        vcpus: Vec<Registers>,
        memory: GuestMemoryMmap<()>,
        gate: Arc<Gate>,
        hits: Arc<Hits>,
        limits: (usize, usize),
    ) -> Self {
        Self {
            vcpus,
            memory,
            gate,
            hits,
            limits,
            planted: BTreeMap::new(),
            breakpoints: Vec::new(),
            watchpoints: Vec::new(),
            actions: BTreeMap::new(),
            locked: false,
            stepping: BTreeMap::new(),
            current: 0,
        }
    }

    /// Stops all vCPUs, whose registers are the guest's own then. Fails if one cannot be stopped.
    fn stop(&mut self) -> Result<()> {
        if !self.gate.stop_all() {
            bail!("a vCPU cannot be stopped: it waits for whoever reads loft's output");
        }
        std::mem::take(&mut self.stepping).into_iter().try_for_each(|(vcpu, masks)| self.unmask(vcpu, masks))
    }

    /// Stops for the debugger's own sake.
    pub fn interrupt(&mut self) -> Result<Reason> {
        self.stop()?;
        self.hits.take();
        Ok(Reason::SignalWithThread { tid: tid(self.current), signal: Signal::SIGINT })
    }

    /// Looks at what vCPUs have left the guest for. `None`: nothing is the debugger's, and the
    /// guest goes on.
    pub fn look(&mut self) -> Result<Option<Reason>> {
        self.stop()?;
        let mut reason = None;
        for hit in self.hits.take() {
            // Of two at a time the other one comes again: the CPU is still in front of it.
            if reason.is_none() {
                reason = self.reason(hit)?;
                self.current = if reason.is_some() { hit.vcpu } else { self.current };
            }
        }
        if reason.is_none() {
            self.go_on()?;
        }
        Ok(reason)
    }

    fn reason(&self, hit: Hit) -> Result<Option<Reason>> {
        let thread = tid(hit.vcpu);
        Ok(match hit.syndrome >> 26 {
            class::BREAKPOINT => Some(Reason::HwBreak(thread)),
            class::WATCHPOINT => {
                let watch = self.watchpoints.iter().find(|watch| watch.is_at(hit.address));
                Some(watch.map_or(Reason::SignalWithThread { tid: thread, signal: Signal::SIGTRAP }, |watch| {
                    Reason::Watch { tid: thread, kind: kind(watch.access), addr: watch.address }
                }))
            }
            class::STEP => Some(Reason::SignalWithThread { tid: thread, signal: Signal::SIGTRAP }),
            class::BRK if self.planted.contains_key(&self.word(hit.vcpu, Name::PC)?) => Some(Reason::SwBreak(thread)),
            class::BRK => {
                self.give_back(hit)?;
                None
            }
            class => return Err(anyhow!("vCPU {} has left the guest for an unknown reason ({class:#x})", hit.vcpu)),
        })
    }

    /// Makes a BRK of the guest's own the exception that it would have been (Arm ARM, D1.3.4).
    fn give_back(&self, hit: Hit) -> Result<()> {
        let vcpu = &self.vcpus[hit.vcpu];
        let (pc, before, sctlr) = (vcpu.word(Name::PC)?, vcpu.word(Name::PSTATE)?, vcpu.word(Name::SCTLR_EL1)?);
        let offset = match before & pstate::MODE {
            pstate::EL1H => 0x200,
            pstate::EL1T => 0,
            0 => 0x400,
            // Of 32 bits.
            _ => 0x600,
        };
        let mut now = before & (pstate::NZCV | pstate::DIT | pstate::PAN) | pstate::DAIF | pstate::EL1H;
        if sctlr & SCTLR_SPAN == 0 {
            now |= pstate::PAN;
        }
        if sctlr & SCTLR_DSSBS != 0 {
            now |= pstate::SSBS;
        }
        let vector = vcpu.word(Name::VBAR_EL1)?.wrapping_add(offset);
        let all = [
            (Name::ELR_EL1, pc),
            (Name::SPSR_EL1, before),
            (Name::ESR_EL1, hit.syndrome.into()),
            (Name::PSTATE, now),
            (Name::PC, vector),
        ];
        all.into_iter().try_for_each(|(name, value)| vcpu.set(name, value.into()))?;
        Ok(())
    }

    /// Lets go on what the debugger wants to go on.
    fn go_on(&mut self) -> Result<()> {
        let mut free = Vec::new();
        for vcpu in 0..self.vcpus.len() {
            let action = self.actions.get(&vcpu).copied();
            if action.is_some() || !self.locked {
                free.push(vcpu);
            }
            if action == Some(true) {
                let masks = self.mask(vcpu)?;
                self.stepping.insert(vcpu, masks);
            }
            self.vcpus[vcpu].set_debug(&self.control(action == Some(true)))?;
        }
        let held = if free.len() == self.vcpus.len() { Held::Nobody } else { Held::AllBut(free) };
        self.gate.set_held(held);
        Ok(())
    }

    /// What a vCPU is to leave the guest for.
    fn control(&self, step: bool) -> kvm_guest_debug {
        let mut debug = kvm_guest_debug::default();
        if step {
            debug.control |= KVM_GUESTDBG_SINGLESTEP;
        }
        if !self.planted.is_empty() {
            debug.control |= KVM_GUESTDBG_USE_SW_BP;
        }
        if !self.breakpoints.is_empty() || !self.watchpoints.is_empty() {
            debug.control |= KVM_GUESTDBG_USE_HW;
        }
        if debug.control != 0 {
            debug.control |= KVM_GUESTDBG_ENABLE;
        }
        for (n, address) in self.breakpoints.iter().enumerate() {
            (debug.arch.dbg_bvr[n], debug.arch.dbg_bcr[n]) = (*address, BREAK_CONTROL);
        }
        for (n, (value, control)) in self.watchpoints.iter().filter_map(Watch::registers).enumerate() {
            (debug.arch.dbg_wvr[n], debug.arch.dbg_wcr[n]) = (value, control);
        }
        debug
    }

    /// Holds back interrupts for a step; which masks the guest had not set.
    fn mask(&self, vcpu: usize) -> Result<u64> {
        let mut instruction = [0; 4];
        let known = self.read(vcpu, self.word(vcpu, Name::PC)?, &mut instruction) == instruction.len();
        if !known || looks_at_masks(u32::from_le_bytes(instruction)) {
            return Ok(0);
        }
        let own = self.word(vcpu, Name::PSTATE)?;
        self.set_word(vcpu, Name::PSTATE, own | MASKS)?;
        Ok(MASKS & !own)
    }

    /// Undoes that. The step may have been an exception, which saved what it found.
    fn unmask(&self, vcpu: usize, masks: u64) -> Result<()> {
        let word = |name| self.word(vcpu, name);
        let in_vectors = word(Name::PC)?.wrapping_sub(word(Name::VBAR_EL1)?) < VECTORS;
        let name = if in_vectors && masks != 0 { Name::SPSR_EL1 } else { Name::PSTATE };
        self.set_word(vcpu, name, word(name)? & !masks)
    }

    /// Leaves the guest to itself, as if no debugger had been there. Whatever fails, it runs.
    pub fn leave(&mut self) -> Result<()> {
        let undone = self.undo();
        self.gate.set_held(Held::Nobody);
        undone
    }

    fn undo(&mut self) -> Result<()> {
        self.stop()?;
        for planted in std::mem::take(&mut self.planted).into_values() {
            write_code(&self.memory, planted.physical, &planted.original)?;
        }
        self.breakpoints.clear();
        self.watchpoints.clear();
        self.hits.take();
        self.actions.clear();
        self.locked = false;
        self.go_on()
    }

    fn word(&self, vcpu: usize, name: Name) -> Result<u64> {
        Ok(self.vcpus[vcpu].word(name)?)
    }

    fn set_word(&self, vcpu: usize, name: Name, value: u64) -> Result<()> {
        Ok(self.vcpus[vcpu].set(name, value.into())?)
    }

    /// Which of the stack pointers is in use.
    fn stack_pointer(&self, vcpu: usize) -> Result<Name> {
        let mode = self.word(vcpu, Name::PSTATE)? & pstate::MODE;
        Ok(if mode == pstate::EL1H { Name::SP_EL1 } else { Name::SP_EL0 })
    }

    fn name(&self, vcpu: usize, id: AArch64RegId) -> Result<Name> {
        Ok(match id {
            AArch64RegId::X(n) => Name::x(n),
            AArch64RegId::Sp => self.stack_pointer(vcpu)?,
            AArch64RegId::Pc => Name::PC,
            AArch64RegId::Pstate => Name::PSTATE,
            AArch64RegId::V(n) => Name::v(n),
            AArch64RegId::FPSR => Name::FPSR,
            AArch64RegId::FPCR => Name::FPCR,
            AArch64RegId::System(encoding) => Name::system(encoding),
            _ => return Err(anyhow!("an unknown register")),
        })
    }

    /// Guest physical address of `address`, as `vcpu` sees it.
    fn physical(&self, vcpu: usize, address: u64) -> Option<u64> {
        let word = |name| self.vcpus[vcpu].word(name).ok();
        let regime = Regime {
            sctlr: word(Name::SCTLR_EL1)?,
            tcr: word(Name::TCR_EL1)?,
            ttbr0: word(Name::TTBR0_EL1)?,
            ttbr1: word(Name::TTBR1_EL1)?,
        };
        regime.translate(address, |at| self.memory.read_obj(GuestAddress(at)).ok().map(u64::from_le))
    }

    /// Reads memory as `vcpu` sees it; how many bytes there are.
    fn read(&self, vcpu: usize, start: u64, data: &mut [u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            let Some(address) = start.checked_add(done as u64) else { break };
            let here = (data.len() - done).min((PAGE - address % PAGE) as usize);
            let part = &mut data[done..done + here];
            let Some(physical) = self.physical(vcpu, address) else { break };
            if self.memory.read_slice(part, GuestAddress(physical)).is_err() {
                break;
            }
            done += here;
        }
        done
    }

    /// Writes memory as `vcpu` sees it: all of it, or nothing.
    fn write(&self, vcpu: usize, start: u64, data: &[u8]) -> Option<()> {
        let (mut parts, mut done) = (Vec::new(), 0);
        while done < data.len() {
            let address = start.checked_add(done as u64)?;
            let here = (data.len() - done).min((PAGE - address % PAGE) as usize);
            let physical = self.physical(vcpu, address)?;
            self.memory.read_slice(&mut vec![0; here], GuestAddress(physical)).ok()?;
            parts.push((physical, &data[done..done + here]));
            done += here;
        }
        parts.into_iter().try_for_each(|(physical, part)| write_code(&self.memory, physical, part)).ok()
    }

    fn index(&self, tid: Tid) -> Result<usize> {
        let vcpu = tid.get() - 1;
        if vcpu < self.vcpus.len() {
            Ok(vcpu)
        } else {
            Err(anyhow!("there is no thread {tid}"))
        }
    }
}

fn tid(vcpu: usize) -> Tid {
    Tid::MIN.saturating_add(vcpu)
}

fn kind(access: Access) -> WatchKind {
    match access {
        Access::Read => WatchKind::Read,
        Access::Write => WatchKind::Write,
        Access::Any => WatchKind::ReadWrite,
    }
}

fn access(kind: WatchKind) -> Access {
    match kind {
        WatchKind::Read => Access::Read,
        WatchKind::Write => Access::Write,
        WatchKind::ReadWrite => Access::Any,
    }
}

/// What cannot be done, but harms nothing else.
fn refused<T>(result: Result<T>) -> Result<T, TargetError<anyhow::Error>> {
    result.map_err(|_| TargetError::NonFatal)
}

impl Target for Guest {
    type Arch = AArch64;
    type Error = anyhow::Error;

    fn base_ops(&mut self) -> BaseOps<'_, AArch64, anyhow::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Guest {
    fn read_registers(&mut self, to: &mut AArch64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let vcpu = refused(self.index(tid))?;
        let word = |name| refused(self.word(vcpu, name));
        for (n, x) in to.x.iter_mut().enumerate() {
            *x = word(Name::x(n as u8))?;
        }
        to.sp = word(refused(self.stack_pointer(vcpu))?)?;
        to.pc = word(Name::PC)?;
        to.cpsr = word(Name::PSTATE)? as u32;
        for (n, v) in to.v.iter_mut().enumerate() {
            *v = self.vcpus[vcpu].get(Name::v(n as u8))?;
        }
        // The library's description of the two has them in the order of gdb's, its buffer has not.
        to.fpcr = word(Name::FPSR)? as u32;
        to.fpsr = word(Name::FPCR)? as u32;
        Ok(())
    }

    fn write_registers(&mut self, from: &AArch64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let vcpu = refused(self.index(tid))?;
        let registers = &self.vcpus[vcpu];
        registers.set(Name::PSTATE, from.cpsr.into())?;
        for (n, x) in from.x.iter().enumerate() {
            registers.set(Name::x(n as u8), (*x).into())?;
        }
        registers.set(refused(self.stack_pointer(vcpu))?, from.sp.into())?;
        registers.set(Name::PC, from.pc.into())?;
        for (n, v) in from.v.iter().enumerate() {
            registers.set(Name::v(n as u8), *v)?;
        }
        registers.set(Name::FPSR, from.fpcr.into())?;
        registers.set(Name::FPCR, from.fpsr.into())?;
        Ok(())
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        match self.read(refused(self.index(tid))?, start, data) {
            0 if !data.is_empty() => Err(TargetError::NonFatal),
            read => Ok(read),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        self.write(refused(self.index(tid))?, start, data).ok_or(TargetError::NonFatal)
    }

    fn list_active_threads(&mut self, each: &mut dyn FnMut(Tid)) -> Result<()> {
        (0..self.vcpus.len()).map(tid).for_each(each);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<Tid> for Guest {
    fn read_register(&mut self, tid: Tid, id: AArch64RegId, to: &mut [u8]) -> TargetResult<usize, Self> {
        let vcpu = refused(self.index(tid))?;
        // A register that this hypervisor has not got is there, and unavailable.
        let Ok(value) = self.vcpus[vcpu].get(refused(self.name(vcpu, id))?) else { return Ok(0) };
        to.copy_from_slice(&value.to_le_bytes()[..to.len()]);
        Ok(to.len())
    }

    fn write_register(&mut self, tid: Tid, id: AArch64RegId, from: &[u8]) -> TargetResult<(), Self> {
        let vcpu = refused(self.index(tid))?;
        let mut bytes = [0; 16];
        bytes.get_mut(..from.len()).ok_or(TargetError::NonFatal)?.copy_from_slice(from);
        Ok(self.vcpus[vcpu].set(refused(self.name(vcpu, id))?, u128::from_le_bytes(bytes))?)
    }
}

impl ThreadExtraInfo for Guest {
    fn thread_extra_info(&self, tid: Tid, to: &mut [u8]) -> Result<usize> {
        let text = format!("vCPU {}", tid.get() - 1);
        let length = text.len().min(to.len());
        to[..length].copy_from_slice(&text.as_bytes()[..length]);
        Ok(length)
    }
}

impl MultiThreadResume for Guest {
    fn resume(&mut self) -> Result<()> {
        self.go_on()
    }

    fn clear_resume_actions(&mut self) -> Result<()> {
        self.actions.clear();
        self.locked = false;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<()> {
        self.actions.insert(self.index(tid)?, false);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<()> {
        self.actions.insert(self.index(tid)?, true);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Guest {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<()> {
        self.locked = true;
        Ok(())
    }
}

impl Breakpoints for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest {
    fn add_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        if self.planted.contains_key(&address) {
            return Ok(true);
        }
        let mut original = [0; 4];
        let Some(physical) = self.physical(self.current, address) else { return Ok(false) };
        if address % 4 != 0 || self.memory.read_slice(&mut original, GuestAddress(physical)).is_err() {
            return Ok(false);
        }
        refused(write_code(&self.memory, physical, &BRK))?;
        self.planted.insert(address, Planted { physical, original });
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        let Some(planted) = self.planted.remove(&address) else { return Ok(false) };
        refused(write_code(&self.memory, planted.physical, &planted.original))?;
        Ok(true)
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        let room = self.breakpoints.len() < self.limits.0 && address % 4 == 0;
        if room {
            self.breakpoints.push(address);
        }
        Ok(room)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        let Some(at) = self.breakpoints.iter().position(|other| *other == address) else { return Ok(false) };
        self.breakpoints.remove(at);
        Ok(true)
    }
}

impl HwWatchpoint for Guest {
    fn add_hw_watchpoint(&mut self, address: u64, length: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let watch = Watch { address, length, access: access(kind) };
        let room = self.watchpoints.len() < self.limits.1 && watch.registers().is_some();
        if room {
            self.watchpoints.push(watch);
        }
        Ok(room)
    }

    fn remove_hw_watchpoint(&mut self, address: u64, length: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let watch = Watch { address, length, access: access(kind) };
        let Some(at) = self.watchpoints.iter().position(|other| *other == watch) else { return Ok(false) };
        self.watchpoints.remove(at);
        Ok(true)
    }
}
