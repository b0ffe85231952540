// SPDX-License-Identifier: GPL-2.0

//! Aborts of the guest's accesses to memory: faults of stage 2, errors of the memory system, and
//! walks of the guest's own tables that came upon nothing.

use super::{
    mmio, DeferredWork, DeviceNext, Exit, MemoryError, MemoryFault, Next, Stop, WalkedOut,
};
use crate::arch::cpu;
use crate::host::memory_failure;
use crate::host::preempt::PreemptDisabled;
use crate::host::preempt_notifier::Loaded;
use crate::model::esr::{Esr, FaultStatus};
use crate::model::stage1::Walk;
use crate::model::sysreg::regs::SCTLR_EL1;
use crate::model::sysreg::Reg;
use crate::model::types::Ipa;
use crate::vcpu::context::StoppedVcpu;
use crate::vcpu::Vcpu;
use crate::vm::memory::{Fault, VcpuTablePool};
use crate::vm::vcpu_stats::Count;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// Handles an abort of the guest's access to memory.
pub(super) fn memory_abort(
    vcpu: &mut StoppedVcpu,
    preempt: PreemptDisabled<'_>,
    esr: Esr,
    offered: bool,
) -> Next {
    let abort = esr.abort();
    let far = vcpu.frame().syndrome.far;
    let ipa = vcpu.fault_ipa();
    let fault = abort.fault();
    let permission = matches!(fault, FaultStatus::Permission(_));
    match fault {
        FaultStatus::Translation(_) | FaultStatus::Permission(_) | FaultStatus::AccessFlag(_) => {}
        FaultStatus::UnsupportedExclusive => {
            vcpu.inject_abort(abort.is_instruction(), fault, far);
            return Next::Resume;
        }
        _ if fault.is_external() => {
            return Next::Defer(DeferredWork::MemoryError(MemoryError { abort, far }));
        }
        // What the architecture has for features that no guest has.
        _ => {
            vcpu.inject_abort(abort.is_instruction(), FaultStatus::External, far);
            return Next::Resume;
        }
    }
    if ipa >= vcpu.vm.memory.end() {
        // Beyond what any VM here has, as if it were beyond the CPU's; else nothing is there.
        if ipa >> cpu::features().pa_bits != 0 {
            vcpu.inject_abort(abort.is_instruction(), FaultStatus::AddressSize(0), far);
            return Next::Resume;
        }
        return mmio::nothing_there(vcpu, abort, ipa, far).into();
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
    if vcpu.vm.memory.is_device(preempt, ipa, write) {
        mmio::device_access(vcpu, preempt, fault).into()
    } else {
        Next::Defer(DeferredWork::Fault(fault))
    }
}

impl MemoryError {
    /// Returns the virtual address of the access, if what is there can be looked for.
    fn address(self) -> Option<u64> {
        self.abort.is_of_known_address().then_some(self.far)
    }

    /// Returns what userspace is told of the error, if it is not the host's own affair. `ipa`: what
    /// was found at the address.
    fn told(self, ipa: Option<Ipa>) -> Option<Exit> {
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

    /// Gives the guest the error as it is. On its own walk the level stands there; with S1PTW it is
    /// that of stage 2's, which the guest does not have.
    fn inject(self, vcpu: &mut StoppedVcpu) {
        let status = match self.abort.fault() {
            fault @ FaultStatus::ExternalOnWalk(_) if !self.abort.is_on_walk() => fault,
            _ => FaultStatus::External,
        };
        vcpu.inject_abort(self.abort.is_instruction(), status, self.far);
    }
}

impl WalkedOut {
    /// Returns the virtual address.
    fn address(self) -> u64 {
        self.far
    }

    /// Returns whether the walk ended with the descriptor that `walk` is about to read.
    fn is_at(self, walk: Walk) -> bool {
        (walk.descriptor().raw() ^ self.ipa) >> 12 == 0
    }

    /// Gives the guest its abort.
    fn inject(self, vcpu: &mut StoppedVcpu, level: i8) {
        let status = FaultStatus::ExternalOnWalk(level);
        vcpu.inject_abort(self.instruction, status, self.far);
    }
}

/// Begins a walk of the guest's own tables for `far`; `None` if its MMU is off. The flag says
/// whether the descriptors have the most significant byte first.
fn stage1_walk(vcpu: &mut StoppedVcpu, far: u64) -> (Option<Walk>, bool) {
    let sctlr = vcpu.get(Reg::SCTLR_EL1);
    let ttbrs = [vcpu.get(Reg::TTBR0_EL1), vcpu.get(Reg::TTBR1_EL1)];
    let walk = Walk::new(vcpu.get(Reg::TCR_EL1), ttbrs, far);
    let walk = walk.filter(|_| SCTLR_EL1::M.is_set(sctlr));
    (walk, SCTLR_EL1::EE.is_set(sctlr))
}

impl Vcpu {
    /// Serves a stage 2 fault, or finds that a device is there. May sleep.
    pub(in crate::vcpu) fn serve_fault(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        cache: &mut VcpuTablePool,
        fault: MemoryFault,
    ) -> Result<(), Stop> {
        let memory = &self.vm.memory;
        if fault.access_flag && memory.make_young(fault.ipa) {
            return Ok(());
        }
        match memory.fault(cache, fault.ipa, fault.write, fault.exec) {
            Ok(Fault::Resolved) => {
                self.handle.stats.count(Count::Fault);
                Ok(())
            }
            Ok(Fault::Device) => {
                match loaded.with_token(|vcpu, preempt| mmio::device_access(vcpu, preempt, fault)) {
                    DeviceNext::Resume => {}
                    DeviceNext::Gic(access) => self.serve_gic(loaded, access),
                    DeviceNext::Its(access) => self.serve_its(loaded, access),
                    DeviceNext::WalkedOut(abort) => self.serve_walked_out(loaded, abort),
                    DeviceNext::Stop(stop) => return Err(stop),
                }
                Ok(())
            }
            // Another thread of the VMM's is changing its memory; a signal ends the wait for it.
            Err(error) if error == EAGAIN => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the guest the abort of a walk of its tables that came upon nothing: they are walked
    /// once more for the level. Where they do not lead there any more the guest tries again.
    pub(in crate::vcpu) fn serve_walked_out(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        abort: WalkedOut,
    ) {
        let (mut walk, big_endian) = loaded.with(|vcpu| stage1_walk(vcpu, abort.address()));
        while let Some(step) = walk {
            if abort.is_at(step) {
                return loaded.with(|vcpu| abort.inject(vcpu, step.level()));
            }
            let descriptor = self.read_descriptor(step, big_endian);
            walk = descriptor.and_then(|descriptor| step.next(descriptor));
        }
    }

    /// Reports an error of the memory system: the page to the host, which would give it to somebody
    /// else otherwise; the error to userspace, if it wants that, or else to the guest.
    ///
    /// The address is found in the guest's tables as they are now, so a guest chooses it: hence
    /// only a page of its own is reported. What the firmware knows of the error (APEI) only the
    /// kernel could claim.
    pub(in crate::vcpu) fn serve_memory_error(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        error: MemoryError,
    ) -> Result<(), Stop> {
        let address = error.address();
        let ipa = address.and_then(|address| self.guest_translation(loaded, address));
        if let Some(page) = ipa.and_then(|ipa| self.vm.memory.broken_page(ipa)) {
            memory_failure::report_error(page);
        }
        if self.vm.tells_errors() {
            if let Some(exit) = error.told(ipa) {
                return Err(exit.into());
            }
        }
        loaded.with(|vcpu| error.inject(vcpu));
        Ok(())
    }

    /// Returns where the guest's tables lead for `address`, now. May sleep.
    fn guest_translation(&self, loaded: &mut Loaded<'_, StoppedVcpu>, address: u64) -> Option<Ipa> {
        let (walk, big_endian) = loaded.with(|vcpu| stage1_walk(vcpu, address));
        let Some(mut step) = walk else {
            // Its MMU is off.
            return loaded
                .with(|vcpu| !vcpu.has_mmu_on())
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

    /// Returns the descriptor that `walk` is about to read, if it is in the guest's memory. May
    /// sleep.
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
}
