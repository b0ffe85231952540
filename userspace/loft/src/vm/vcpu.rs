// SPDX-License-Identifier: Apache-2.0
//! A vCPU: its set-up, and the thread that runs it.

use super::kick;
use crate::control::{Gate, Held};
use crate::ending::Ending;
use crate::gdb::{Hit, Hits};
use anyhow::{Context, Result};
use kvm_bindings::{
    kvm_vcpu_init, KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_ARM_VCPU_PTRAUTH_ADDRESS,
    KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_CAP_ARM_PTRAUTH_ADDRESS, KVM_CAP_ARM_PTRAUTH_GENERIC, KVM_REG_ARM64,
    KVM_REG_ARM64_SYSREG, KVM_REG_ARM_CORE, KVM_REG_SIZE_U64, KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET,
    KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use loft_devices::bus::Bus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// MPIDR_EL1: op0 3, op1 0, CRn 0, CRm 0, op2 5.
const MPIDR_EL1: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | (3 << 14) | 5;
/// A core register is named by its offset in `struct kvm_regs`, in 32-bit words.
const CORE: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64;
const X0: u64 = CORE;
const PC: u64 = CORE | (32 * 8 / 4);

/// Creates vCPU `id`; all but the first wait for the guest to start them (PSCI CPU_ON).
pub fn create(vm: &VmFd, id: u32) -> Result<VcpuFd> {
    let vcpu = vm.create_vcpu(id.into()).with_context(|| format!("the hypervisor could not create vCPU {id}"))?;
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init).context("the hypervisor names no CPU type for guests")?;
    init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    // The two features go together or not at all.
    if [KVM_CAP_ARM_PTRAUTH_ADDRESS, KVM_CAP_ARM_PTRAUTH_GENERIC]
        .iter()
        .all(|cap| vm.check_extension_raw((*cap).into()) > 0)
    {
        init.features[0] |= (1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS) | (1 << KVM_ARM_VCPU_PTRAUTH_GENERIC);
    }
    if id > 0 {
        init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
    }
    vcpu.vcpu_init(&init).with_context(|| format!("the hypervisor could not initialise vCPU {id}"))?;
    Ok(vcpu)
}

/// The vCPU's MPIDR_EL1.
pub fn mpidr(vcpu: &VcpuFd) -> Result<u64> {
    let mut value = [0; 8];
    vcpu.get_one_reg(MPIDR_EL1, &mut value).context("the hypervisor does not give MPIDR_EL1")?;
    Ok(u64::from_le_bytes(value))
}

/// Sets what the arm64 boot protocol asks for: the program counter, and x0 = device tree. The rest is as after reset.
pub fn set_entry(vcpu: &VcpuFd, pc: u64, fdt: u64) -> Result<()> {
    vcpu.set_one_reg(PC, &pc.to_le_bytes()).context("the hypervisor refused the program counter")?;
    vcpu.set_one_reg(X0, &fdt.to_le_bytes()).context("the hypervisor refused register x0")?;
    Ok(())
}

/// Exits that a vCPU's thread has answered.
#[derive(Debug, Default, Clone, Copy)]
pub struct Exits {
    /// Accesses to emulated devices.
    pub mmio: u64,
    /// Signals and everything else.
    pub other: u64,
}

/// Runs `vcpu` until the machine ends or `stop` is set and it is kicked; it waits while `gate` is
/// closed. What it leaves the guest for because of a debugger goes to `hits`, and all vCPUs stop.
pub fn run(
    mut vcpu: VcpuFd,
    id: u32,
    bus: &Bus,
    stop: &Arc<AtomicBool>,
    gate: &Gate,
    hits: &Hits,
    end: &dyn Fn(Ending),
) -> (VcpuFd, Exits) {
    let guard = kick::Guard::new(&mut vcpu);
    let passer = gate.enter(id as usize, kick::of_this_thread());
    let mut exits = Exits::default();
    let mut unfinished = false;
    while !stop.load(Ordering::Acquire) {
        // An emulated access is complete when the vCPU is run once more: without that, who looks at
        // its registers while it waits sees the instruction half done.
        if std::mem::take(&mut unfinished) && gate.is_closed() {
            vcpu.set_kvm_immediate_exit(1);
        } else {
            passer.pass();
        }
        match vcpu.run() {
            Ok(VcpuExit::MmioRead(address, data)) => {
                exits.mmio += 1;
                unfinished = true;
                bus.read(address, data);
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                exits.mmio += 1;
                unfinished = true;
                bus.write(address, data);
            }
            Ok(VcpuExit::Intr) => exits.other += 1,
            Ok(VcpuExit::Debug(debug)) => {
                exits.other += 1;
                gate.set_held(Held::All);
                hits.push(Hit { vcpu: id as usize, syndrome: debug.hsr, address: debug.far });
            }
            Ok(exit) => {
                exits.other += 1;
                end(ending(exit, id));
                break;
            }
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => {
                exits.other += 1;
                vcpu.set_kvm_immediate_exit(0);
            }
            Err(e) => {
                end(Ending::Failed(format!("KVM_RUN of vCPU {id} failed: {e}")));
                break;
            }
        }
    }
    drop(passer);
    drop(guard);
    (vcpu, exits)
}

fn ending(exit: VcpuExit, id: u32) -> Ending {
    match exit {
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => Ending::PowerOff,
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => Ending::Reboot,
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _) => {
            Ending::Crash("the guest reported that it has crashed".into())
        }
        VcpuExit::SystemEvent(kind, data) => Ending::Failed(format!("unknown system event {kind} ({data:x?})")),
        VcpuExit::Shutdown => Ending::PowerOff,
        VcpuExit::FailEntry(reason, cpu) => Ending::Failed(format!(
            "vCPU {id} could not be entered on CPU {cpu} (hardware reason {reason:#x}); this is a fault of the hypervisor"
        )),
        VcpuExit::InternalError => {
            Ending::Crash(format!("vCPU {id} cannot go on: the hypervisor met a state that it cannot run (internal error)"))
        }
        VcpuExit::MemoryFault { gpa, size, .. } => {
            Ending::Crash(format!("vCPU {id} touched memory at {gpa:#x} ({size:#x} bytes) that the host cannot provide"))
        }
        other => Ending::Failed(format!("vCPU {id}: unexpected exit {other:?}")),
    }
}
