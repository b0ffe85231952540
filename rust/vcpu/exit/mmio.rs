// SPDX-License-Identifier: GPL-2.0

//! Accesses to addresses that are not memory: whose they are, and what the register gets.

use super::{Answer, DeviceNext, Exit, GicAccess, ItsAccess, Load, MemoryFault, Stop, WalkedOut};
use crate::host::preempt::PreemptDisabled;
use crate::host::preempt_notifier::Loaded;
use crate::host::trace::{self, Mmio};
use crate::model::aarch32;
use crate::model::esr::{Abort, Esr, FaultStatus};
use crate::model::sysreg::regs::{SCTLR_EL1, SPSR_EL1};
use crate::model::sysreg::Reg;
use crate::vcpu::context::StoppedVcpu;
use crate::vcpu::Vcpu;
use crate::vm::lpi::LpiTables;
use crate::vm::vcpu_stats::Count;

/// Handles an access to what is not memory.
pub(super) fn device_access(
    vcpu: &mut StoppedVcpu,
    preempt: PreemptDisabled<'_>,
    fault: MemoryFault,
) -> DeviceNext {
    let abort = fault.abort;
    if fault.exec || !abort.is_plain_access() {
        return other_access(vcpu, fault);
    }
    let ipa = fault.ipa;
    if trace::is_on() {
        tell(vcpu, abort, ipa);
    }
    if let Some((frame, offset)) = vcpu.gic_frame(ipa) {
        return DeviceNext::Gic(GicAccess::Register {
            abort,
            frame,
            offset,
        });
    }
    if let Some((number, offset)) = vcpu.vm.its.find(preempt, ipa) {
        return DeviceNext::Its(ItsAccess {
            abort,
            number,
            offset,
        });
    }
    let (size, rt) = (abort.size(), abort.register());
    if abort.is_write() {
        let data = stored(vcpu, rt, size);
        if !fault.offered && vcpu.vm.events.store(preempt, ipa, data, size, || true) {
            vcpu.count(Count::Ioeventfd);
            vcpu.count(Count::MmioKernel);
            vcpu.skip();
            return DeviceNext::Resume;
        }
        let (exit, answer) = (
            Exit::Mmio {
                ipa,
                data,
                size,
                write: true,
            },
            Answer::Skip,
        );
        DeviceNext::Stop(Stop { exit, answer })
    } else {
        let (exit, answer) = (
            Exit::Mmio {
                ipa,
                data: 0,
                size,
                write: false,
            },
            Answer::Load(Load { abort }),
        );
        DeviceNext::Stop(Stop { exit, answer })
    }
}

/// Handles an access to what is not memory that is not a plain load or store.
#[cold]
fn other_access(vcpu: &mut StoppedVcpu, fault: MemoryFault) -> DeviceNext {
    let (abort, ipa) = (fault.abort, fault.ipa);
    if fault.exec || abort.is_on_walk() {
        return nothing_there(vcpu, abort, ipa, fault.far);
    }
    if abort.is_cache_maintenance() {
        vcpu.skip();
        return DeviceNext::Resume;
    }
    if trace::is_on() {
        trace::kvm_mmio_nisv(vcpu.frame().pc, abort.raw(), fault.far, ipa);
    }
    if vcpu.vm.tells_undescribed() {
        let iss = abort.undescribed_iss();
        return DeviceNext::Stop(Exit::NoSyndrome { iss, ipa }.into());
    }
    DeviceNext::Stop(crate::host::errno::enosys().into())
}

/// Tells a tracer of an access to a device: a store, or a load whose value is to come.
#[cold]
fn tell(vcpu: &mut StoppedVcpu, abort: Abort, ipa: u64) {
    let (what, value) = if abort.is_write() {
        let value = stored(vcpu, abort.register(), abort.size());
        (Mmio::Write, value)
    } else {
        (Mmio::UnsatisfiedRead, 0)
    };
    trace::kvm_mmio(what, abort.size(), ipa, value);
}

/// Answers as a bus without anything at `ipa`: with an external abort. Where the guest's tables are
/// there, the abort says at which level the walk for `far` came upon it; stage 2's fault does not
/// know.
pub(super) fn nothing_there(
    vcpu: &mut StoppedVcpu,
    abort: Abort,
    ipa: u64,
    far: u64,
) -> DeviceNext {
    let instruction = abort.is_instruction();
    if abort.is_on_walk() {
        return DeviceNext::WalkedOut(WalkedOut {
            instruction,
            ipa,
            far,
        });
    }
    vcpu.inject_abort(instruction, FaultStatus::External, far);
    DeviceNext::Resume
}

/// Signals the ioeventfd that waits for the store that was trapped, if there is one, and goes on
/// behind the instruction. Interrupts are off, and the guest's registers in the CPU.
pub(in crate::vcpu) fn store(vcpu: &mut StoppedVcpu, preempt: PreemptDisabled<'_>) -> bool {
    let abort = Esr::new(vcpu.frame().syndrome.esr).abort();
    let ipa = vcpu.fault_ipa();
    let size = abort.size();
    let value = stored(vcpu, abort.register(), size);
    // Memory that the guest has not touched so far looks the same.
    let vm = &vcpu.vm;
    let device = || vm.memory.is_device(preempt, ipa, true);
    if SPSR_EL1::nRW.is_set(vcpu.frame().pstate)
        || !vm.events.store(preempt, ipa, value, size, device)
    {
        return false;
    }
    vcpu.skip();
    true
}

impl Load {
    /// Puts the value that has come into the register, and the guest goes on behind the
    /// instruction.
    pub(in crate::vcpu) fn complete(self, vcpu: &mut StoppedVcpu, value: u64) {
        let big_endian = is_big_endian(vcpu);
        if trace::is_on() {
            let value = zero_extend(value, &self.abort);
            trace::kvm_mmio(Mmio::Read, self.abort.size(), vcpu.fault_ipa(), value);
        }
        let value = guest_order(value, self.abort.size(), big_endian);
        vcpu.set_x(self.abort.register(), extend(value, &self.abort));
        vcpu.skip();
    }
}

/// Returns what the register holds after loading `value`: cut to the access's size, and
/// sign-extended if the instruction does.
pub(super) fn extend(value: u64, abort: &Abort) -> u64 {
    if !abort.is_sign_extended() {
        return zero_extend(value, abort);
    }
    let unused = unused_bits(abort);
    let value = ((value << unused) as i64 >> unused) as u64;
    if abort.is_64bit() {
        value
    } else {
        value & u64::from(u32::MAX)
    }
}

/// Returns what a load that does not extend the sign leaves of a value.
#[inline(always)]
pub(super) fn zero_extend(value: u64, abort: &Abort) -> u64 {
    let unused = unused_bits(abort);
    value << unused >> unused
}

/// Returns how many bits of a register an access does not have.
#[inline(always)]
fn unused_bits(abort: &Abort) -> u32 {
    64u32
        .saturating_sub(u32::from(abort.size()).saturating_mul(8))
        .min(63)
}

/// Returns whether the guest accesses memory with the most significant byte first.
pub(super) fn is_big_endian(vcpu: &mut StoppedVcpu) -> bool {
    let sctlr = vcpu.get(Reg::SCTLR_EL1);
    let pstate = vcpu.frame().pstate;
    if aarch32::is_user(pstate) {
        aarch32::is_big_endian(pstate)
    } else if SPSR_EL1::M.get(pstate) == SPSR_EL1::M_EL0t {
        SCTLR_EL1::E0E.is_set(sctlr)
    } else {
        SCTLR_EL1::EE.is_set(sctlr)
    }
}

/// Turns a value of `size` bytes from a device's byte order to the guest's, or back: devices, and
/// userspace for them, have the least significant byte first.
pub(super) fn guest_order(value: u64, size: u8, big_endian: bool) -> u64 {
    let unused = 64u32
        .saturating_sub(u32::from(size).saturating_mul(8))
        .min(63);
    if big_endian {
        value.swap_bytes() >> unused
    } else {
        value << unused >> unused
    }
}

/// Returns what register `rt` holds, as a device gets it in a store of `size` bytes.
#[inline(always)]
fn stored(vcpu: &mut StoppedVcpu, rt: u8, size: u8) -> u64 {
    let big_endian = is_big_endian(vcpu);
    guest_order(vcpu.x(rt), size, big_endian)
}

impl ItsAccess {
    /// Returns the size in bytes.
    fn size(self) -> u8 {
        self.abort.size()
    }

    /// Returns what is stored; `None` for a load.
    fn store(self, vcpu: &mut StoppedVcpu) -> Option<u64> {
        self.abort
            .is_write()
            .then(|| stored(vcpu, self.abort.register(), self.size()))
    }

    /// Completes a load with its value.
    fn complete(self, vcpu: &mut StoppedVcpu, value: u64) {
        Load { abort: self.abort }.complete(vcpu, value);
    }
}

impl Vcpu {
    /// Does an access to an ITS. Commands run before the write that started them is done.
    pub(in crate::vcpu) fn serve_its(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        access: ItsAccess,
    ) {
        let Some(its) = self.vm.its.get(access.number) else {
            return;
        };
        self.handle.stats.count(Count::MmioKernel);
        match loaded.with(|vcpu| access.store(vcpu)) {
            Some(value) => {
                its.write(
                    &mut LpiTables(&self.vm),
                    access.offset,
                    access.size(),
                    value,
                );
                loaded.with(StoppedVcpu::skip);
            }
            None => {
                let value = its.read(access.offset, access.size());
                loaded.with(|vcpu| access.complete(vcpu, value));
            }
        }
    }
}
