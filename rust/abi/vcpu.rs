// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a vCPU.

use super::{device, one_reg, run_page, stats, user, vcpu_events};
use crate::arch::cpu;
use crate::arch::debug::{External, Points};
use crate::host::ffi::*;
use crate::host::file::FileObject;
use crate::host::sigmask::SignalMask;
use crate::host::trace;
use crate::model::psci;
use crate::vcpu::debug::Debugger;
use crate::vcpu::Vcpu;
use crate::vm::vcpu_handle::Power;
use crate::vm::vcpu_stats::Count;
use crate::vm::VcpuFeatures;
use core::ffi::c_int;
use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::seq_file::{seq_print, SeqFile};
use kernel::sync::Arc;

impl FileObject for Vcpu {
    const NAME: &'static CStr = c"loft-vcpu";

    fn ioctl(this: &Arc<Self>, command: u32, argument: usize) -> Result<isize> {
        if !this.vm.is_mine() {
            return Err(EIO);
        }
        // KVM_RUN does not pay for the stack that the others need.
        if command == LOFT_KVM_RUN && argument == 0 {
            return run_page::run(this);
        }
        other(this, command, argument)
    }

    fn mmap(&self, vma: &VmaNew) -> Result {
        self.run_page.mmap(vma)
    }

    fn show_fdinfo(&self, to: &SeqFile) {
        let vcpu = &self.handle;
        let state = if !vcpu.is_outside() {
            "guest"
        } else if vcpu.power() == Power::Off {
            "off"
        } else if vcpu.stats.get(Count::Blocking) != 0 {
            "waits"
        } else {
            "host"
        };
        seq_print!(to, "vm:\t{}\n", self.vm.number);
        seq_print!(to, "vcpu:\t{}\n", vcpu.number);
        seq_print!(to, "mpidr:\t{:#x}\n", vcpu.affinity());
        seq_print!(to, "state:\t{state}\n");
    }
}

/// Serves every ioctl but KVM_RUN.
#[inline(never)]
fn other(this: &Arc<Vcpu>, command: u32, argument: usize) -> Result<isize> {
    match command {
        LOFT_KVM_ARM_VCPU_INIT => init(this, user::read(argument)?),
        LOFT_KVM_ARM_VCPU_FINALIZE => {
            this.state.lock()?.features.ok_or(ENOEXEC)?;
            let _feature: c_int = user::read(argument)?;
            // No vCPU has a feature that has to be finalised, which is SVE alone.
            Err(EINVAL)
        }
        LOFT_KVM_GET_ONE_REG => one_reg::get(this, user::read(argument)?),
        LOFT_KVM_SET_ONE_REG => one_reg::set(this, user::read(argument)?),
        LOFT_KVM_GET_REG_LIST => one_reg::list(this, argument),
        LOFT_KVM_GET_MP_STATE => {
            let mp_state = match this.handle.power() {
                Power::On | Power::OnPending(_) => KVM_MP_STATE_RUNNABLE,
                Power::Off => KVM_MP_STATE_STOPPED,
                Power::Suspended => KVM_MP_STATE_SUSPENDED,
            };
            let state = kvm_mp_state { mp_state };
            user::write(argument, &state)?;
            Ok(0)
        }
        LOFT_KVM_SET_MP_STATE => {
            let state: kvm_mp_state = user::read(argument)?;
            this.handle.set_power(match state.mp_state {
                // CPU_ON has been called for it: it stays as runnable as that.
                KVM_MP_STATE_RUNNABLE if matches!(this.handle.power(), Power::OnPending(_)) => {
                    return Ok(0)
                }
                KVM_MP_STATE_RUNNABLE => Power::On,
                KVM_MP_STATE_STOPPED => Power::Off,
                KVM_MP_STATE_SUSPENDED => Power::Suspended,
                _ => return Err(EINVAL),
            });
            Ok(0)
        }
        LOFT_KVM_GET_VCPU_EVENTS => vcpu_events::get(this, argument),
        LOFT_KVM_SET_VCPU_EVENTS => vcpu_events::set(this, argument),
        LOFT_KVM_SET_SIGNAL_MASK => set_signal_mask(this, argument),
        LOFT_KVM_HAS_DEVICE_ATTR => device::vcpu_has(this, &user::read(argument)?),
        LOFT_KVM_SET_DEVICE_ATTR => device::vcpu_set(this, &user::read(argument)?),
        LOFT_KVM_GET_DEVICE_ATTR => device::vcpu_get(this, &user::read(argument)?),
        LOFT_KVM_SET_GUEST_DEBUG => set_guest_debug(this, user::read(argument)?),
        LOFT_KVM_GET_STATS_FD => stats::of_vcpu(&this.handle),
        _ => Err(EINVAL),
    }
}

/// What KVM_SET_GUEST_DEBUG can be asked for.
pub(super) const DEBUG_OPTIONS: u32 =
    KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW;

fn set_guest_debug(vcpu: &Vcpu, request: kvm_guest_debug) -> Result<isize> {
    if trace::is_on() {
        trace::kvm_set_guest_debug(core::ptr::from_ref(vcpu).cast(), request.control);
    }
    let is = |option| request.control & option != 0;
    if is(!DEBUG_OPTIONS) {
        return Err(EINVAL);
    }
    let debugger = if is(KVM_GUESTDBG_ENABLE) {
        let arch = &request.arch;
        let pairs = |values: &[u64; 16], controls: &[u64; 16]| {
            let mut pairs = [[0; 2]; 16];
            for ((pair, value), control) in pairs.iter_mut().zip(values).zip(controls) {
                *pair = [*value, *control];
            }
            pairs
        };
        let points = Points {
            breakpoints: pairs(&arch.dbg_bvr, &arch.dbg_bcr),
            watchpoints: pairs(&arch.dbg_wvr, &arch.dbg_wcr),
        };
        let external = External {
            points,
            stops: is(KVM_GUESTDBG_USE_HW),
            steps: is(KVM_GUESTDBG_SINGLESTEP),
        };
        Some(KBox::new(Debugger::new(external), GFP_KERNEL_ACCOUNT)?)
    } else {
        None
    };
    vcpu.state.lock()?.context().set_debugger(debugger);
    Ok(0)
}

const POWER_OFF: u32 = 1 << KVM_ARM_VCPU_POWER_OFF;
const PSCI_0_2: u32 = 1 << KVM_ARM_VCPU_PSCI_0_2;
const PTRAUTH: u32 = 1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1 << KVM_ARM_VCPU_PTRAUTH_GENERIC;

fn init(vcpu: &Vcpu, request: kvm_vcpu_init) -> Result<isize> {
    if request.target != KVM_ARM_TARGET_GENERIC_V8 {
        return Err(EINVAL);
    }
    let [features, rest @ ..] = request.features;
    if rest.iter().any(|word| *word != 0) || features >> (KVM_ARM_VCPU_HAS_EL2_E2H0 + 1) != 0 {
        return Err(ENOENT);
    }
    let pauth = if cpu::features().pauth { PTRAUTH } else { 0 };
    if features & !(POWER_OFF | PSCI_0_2 | pauth) != 0 {
        return Err(EINVAL);
    }
    // The two halves of pointer authentication come together.
    if features & PTRAUTH != 0 && features & PTRAUTH != PTRAUTH {
        return Err(EINVAL);
    }
    let lasting = VcpuFeatures {
        psci_0_2: features & PSCI_0_2 != 0,
        pointer_auth: features & PTRAUTH != 0,
    };
    let mut state = vcpu.state.lock()?;
    if state.features.is_some_and(|before| before != lasting) {
        return Err(EINVAL);
    }
    {
        let mut config = vcpu.vm.config.lock();
        match config.vcpu_features {
            Some(others) if others != lasting => return Err(EINVAL),
            Some(_) => {}
            None => {
                config.vcpu_features = Some(lasting);
                config.set_pointer_auth(lasting.pointer_auth);
                let version = if lasting.psci_0_2 {
                    psci::Version::LATEST
                } else {
                    psci::Version::V0_1
                };
                vcpu.vm
                    .change_firmware(&mut config, |firmware| firmware.psci.version = version);
            }
        }
    }
    state.features = Some(lasting);
    if state.has_run() {
        // The VMM has probably written the memory anew, through its caches.
        vcpu.vm.memory.make_coherent();
    }
    state.reset();
    vcpu.handle.set_power(if features & POWER_OFF != 0 {
        Power::Off
    } else {
        Power::On
    });
    Ok(0)
}

/// Serves KVM_SET_SIGNAL_MASK. `struct kvm_signal_mask` ends in a `sigset_t` of the length it says;
/// a null pointer takes the mask away.
fn set_signal_mask(vcpu: &Vcpu, argument: usize) -> Result<isize> {
    let mask = if argument == 0 {
        None
    } else {
        let length: u32 = user::read(argument)?;
        if length as usize != size_of::<u64>() {
            return Err(EINVAL);
        }
        let bits: [u8; 8] = user::read(argument.checked_add(size_of::<u32>()).ok_or(EFAULT)?)?;
        Some(SignalMask::new(u64::from_le_bytes(bits)))
    };
    vcpu.state.lock()?.signals = mask;
    Ok(0)
}
