// SPDX-License-Identifier: GPL-2.0

//! KVM_GET_ONE_REG, KVM_SET_ONE_REG, KVM_GET_REG_LIST.

use super::core::Core;
use super::{State, Vcpu};
use crate::host::ffi::kvm_one_reg;
use crate::model::onereg::{self, CoreReg, OneReg};
use crate::model::psci::AFFINITY;
use crate::model::smccc::firmware::FwError;
use crate::model::sysreg::cache::Geometries;
use crate::model::sysreg::idregs::IdError;
use crate::model::sysreg::table::{self, Features, Storage, TimerReg, User};
use crate::model::sysreg::{cache, lookup, Encoding, Reg};
use crate::model::timer::TimerId;
use core::sync::atomic::Ordering::Relaxed;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

fn decode(id: u64) -> Result<OneReg> {
    OneReg::from_id(id).map_err(|error| match error {
        onereg::IdError::NotFound => ENOENT,
        onereg::IdError::Invalid => EINVAL,
    })
}

/// The vCPU must have been initialised: KVM answers ENOEXEC before.
fn features(vcpu: &Vcpu, state: &mut State) -> Result<Features> {
    state.features.ok_or(ENOEXEC)?;
    if state.has_run() {
        return Ok(state.core().features);
    }
    Ok(vcpu
        .vm
        .with_ids(|ids| Features::new(ids, vcpu.vm.gic.is_created())))
}

/// A CPU_ON that the vCPU has not noticed yet takes effect: its reset comes before what userspace does to the registers.
fn reset_if_started(vcpu: &Vcpu, state: &mut State) {
    // CPU_ON asks the vCPU to look at its power, and that is not taken back before it has.
    if vcpu.handle.has_requests() {
        if let Some(start) = vcpu.handle.take_start() {
            state.core().reset(Some(start));
        }
    }
}

/// Reads one register into the memory that the request names.
pub(crate) fn get(vcpu: &Vcpu, request: kvm_one_reg) -> Result<isize> {
    let mut state = vcpu.state.lock()?;
    let features = features(vcpu, &mut state)?;
    reset_if_started(vcpu, &mut state);
    let reg = decode(request.id)?;
    let value = match reg {
        OneReg::Core(reg) => get_core(state.core(), reg),
        OneReg::Firmware(reg) => vcpu.vm.firmware().0.get(reg).into(),
        OneReg::Sysreg(encoding) => get_sysreg(vcpu, state.core(), features, encoding)?.into(),
        OneReg::CacheGeometry(csselr) => {
            let core = state.core();
            let ctr = core.cache_type();
            core.cache_geometry(ctr, csselr.into()).into()
        }
    };
    write_value(request.addr as usize, onereg::size(request.id), value)?;
    Ok(0)
}

/// Sets one register from the memory that the request names.
pub(crate) fn set(vcpu: &Vcpu, request: kvm_one_reg) -> Result<isize> {
    let mut state = vcpu.state.lock()?;
    let features = features(vcpu, &mut state)?;
    reset_if_started(vcpu, &mut state);
    let reg = decode(request.id)?;
    let value = read_value(request.addr as usize, onereg::size(request.id))?;
    match reg {
        OneReg::Core(reg) => set_core(state.core(), reg, value)?,
        OneReg::Firmware(reg) => {
            let ran = state.has_run();
            let mut config = vcpu.vm.config.lock();
            let psci_0_2 = config
                .vcpu_features
                .is_some_and(|bits| bits & 1 << crate::host::ffi::KVM_ARM_VCPU_PSCI_0_2 != 0);
            let ran = ran || config.started;
            let set = vcpu.vm.change_firmware(&mut config, |firmware| {
                firmware.set(reg, value as u64, psci_0_2, ran)
            });
            set.map_err(|error| match error {
                FwError::Invalid => EINVAL,
                FwError::Busy => EBUSY,
            })?;
        }
        OneReg::Sysreg(encoding) => {
            set_sysreg(vcpu, state.core(), features, encoding, value as u64)?
        }
        OneReg::CacheGeometry(csselr) => {
            let core = state.core();
            let ctr = core.cache_type();
            let mut caches = match core.caches.take() {
                Some(caches) => caches,
                None => KBox::new(Geometries::default(), GFP_KERNEL_ACCOUNT)?,
            };
            let valid = caches.set(ctr, csselr.into(), value as u32);
            core.caches = Some(caches);
            if !valid {
                return Err(EINVAL);
            }
        }
    }
    Ok(0)
}

// Each of a size that the compiler knows: for others the kernel checks what kind of memory the bytes come from or go to.

fn read_value(address: usize, size: usize) -> Result<u128> {
    let mut reader = UserSlice::new(UserPtr::from_addr(address), size).reader();
    match size {
        4 => reader.read::<u32>().map(Into::into),
        8 => reader.read::<u64>().map(Into::into),
        16 => {
            let [low, high] = reader.read::<[u64; 2]>()?;
            Ok(u128::from(low) | u128::from(high) << 64)
        }
        _ => Err(EINVAL),
    }
}

fn write_value(address: usize, size: usize, value: u128) -> Result {
    let mut writer = UserSlice::new(UserPtr::from_addr(address), size).writer();
    match size {
        4 => writer.write(&(value as u32)),
        8 => writer.write(&(value as u64)),
        16 => writer.write(&[value as u64, (value >> 64) as u64]),
        _ => Err(EINVAL),
    }
}

fn get_core(core: &mut Core, reg: CoreReg) -> u128 {
    match reg {
        CoreReg::X(n) => core.x(n).into(),
        CoreReg::Sp => core.frame.sp_el0.into(),
        CoreReg::Pc => core.frame.pc.into(),
        CoreReg::Pstate => core.frame.pstate.into(),
        CoreReg::SpEl1 => core.get(Reg::SP_EL1).into(),
        CoreReg::ElrEl1 => core.get(Reg::ELR_EL1).into(),
        CoreReg::SpsrEl1 => core.get(Reg::SPSR_EL1).into(),
        CoreReg::SpsrAarch32(n) => core
            .spsr_aarch32
            .get(usize::from(n))
            .copied()
            .unwrap_or(0)
            .into(),
        CoreReg::V(n) => core.fp.v.get(usize::from(n)).copied().unwrap_or(0),
        CoreReg::Fpsr => core.fp.fpsr.into(),
        CoreReg::Fpcr => core.fp.fpcr.into(),
    }
}

fn set_core(core: &mut Core, reg: CoreReg, value: u128) -> Result {
    let word = value as u64;
    match reg {
        CoreReg::X(n) => core.set_x(n, word),
        CoreReg::Sp => core.frame.sp_el0 = word,
        CoreReg::Pc => core.frame.pc = word,
        CoreReg::Pstate => {
            if !onereg::pstate_is_valid(word) {
                return Err(EINVAL);
            }
            core.frame.pstate = word;
        }
        CoreReg::SpEl1 => core.set(Reg::SP_EL1, word),
        CoreReg::ElrEl1 => core.set(Reg::ELR_EL1, word),
        CoreReg::SpsrEl1 => core.set(Reg::SPSR_EL1, word),
        CoreReg::SpsrAarch32(n) => {
            if let Some(spsr) = core.spsr_aarch32.get_mut(usize::from(n)) {
                *spsr = word;
            }
        }
        CoreReg::V(n) => {
            if let Some(v) = core.fp.v.get_mut(usize::from(n)) {
                *v = value;
            }
        }
        CoreReg::Fpsr => core.fp.fpsr = word & u64::from(u32::MAX),
        CoreReg::Fpcr => core.fp.fpcr = word & u64::from(u32::MAX),
    }
    Ok(())
}

fn get_sysreg(vcpu: &Vcpu, core: &mut Core, features: Features, encoding: Encoding) -> Result<u64> {
    let row = lookup(encoding)
        .filter(|row| row.is_listed(features))
        .ok_or(ENOENT)?;
    Ok(match row.storage {
        Storage::Loaded(reg)
        | Storage::SwitchedAtEntry(reg)
        | Storage::Debug(reg)
        | Storage::Memory(reg) => core.get(reg),
        Storage::Id(id) => vcpu.vm.with_ids(|ids| ids.get(id)),
        Storage::Timer(reg) => super::exit::sysreg::read_timer(core, reg),
        Storage::Const(value) => value,
        Storage::CacheGeometry | Storage::Gic(_) | Storage::OsLock | Storage::SetWay => {
            return Err(ENOENT)
        }
    })
}

fn set_sysreg(
    vcpu: &Vcpu,
    core: &mut Core,
    features: Features,
    encoding: Encoding,
    value: u64,
) -> Result {
    let row = lookup(encoding)
        .filter(|row| row.is_listed(features))
        .ok_or(ENOENT)?;
    match (row.user, row.storage) {
        (User::Hidden, _) => return Err(ENOENT),
        (User::IdReg | User::Implementation, Storage::Id(id)) => {
            let mut guard = vcpu.vm.config.lock();
            let config = &mut *guard;
            let ran = config.started;
            if row.user == User::IdReg {
                config.ids.set(&config.limit, id, value, ran)
            } else {
                config
                    .ids
                    .set_implementation(id, value, config.writable_implementation, ran)
            }
            .map_err(|error| match error {
                IdError::Invalid => EINVAL,
                IdError::Fixed => EBUSY,
            })?;
        }
        (User::OsLock, _) => {
            let value = table::set_oslsr(value).ok_or(EINVAL)?;
            core.set(Reg::OSLSR_EL1, value);
        }
        (User::Clidr, _) => {
            let value = cache::set_clidr(core.cache_type(), value).ok_or(EINVAL)?;
            core.set(Reg::CLIDR_EL1, value);
        }
        (_, Storage::Timer(reg)) => set_timer(vcpu, core, reg, value),
        _ => match row.context() {
            Some(reg) => {
                core.set(reg, value);
                if reg == Reg::MPIDR_EL1 {
                    vcpu.handle.set_affinity(value & AFFINITY);
                    if let Some(model) = vcpu.vm.gic.model() {
                        model.set_affinity(vcpu.handle.id, (value & 0xff_ffff) as u32);
                    }
                }
            }
            None => return Err(EINVAL),
        },
    }
    Ok(())
}

/// Setting a counter moves its offset, for all vCPUs, unless the VM's offsets were set as such.
fn set_timer(vcpu: &Vcpu, core: &mut Core, reg: TimerReg, value: u64) {
    let offsets = &vcpu.vm.offsets;
    let now = crate::arch::timer::counter();
    let fixed = offsets.fixed.load(Relaxed);
    match reg {
        TimerReg::CntvCtl => core.change_timer(TimerId::Virtual, |timer| timer.write_ctl(value)),
        TimerReg::CntvCval => core.change_timer(TimerId::Virtual, |timer| timer.write_cval(value)),
        TimerReg::CntpCtl => core.change_timer(TimerId::Physical, |timer| timer.write_ctl(value)),
        TimerReg::CntpCval => core.change_timer(TimerId::Physical, |timer| timer.write_cval(value)),
        TimerReg::Cntvct if !fixed => offsets.virtual_.store(now.wrapping_sub(value), Relaxed),
        TimerReg::Cntpct if !fixed => offsets.physical.store(now.wrapping_sub(value), Relaxed),
        _ => {}
    }
}

/// Writes all identifiers, if there is room for them; their number in any case.
pub(crate) fn list(vcpu: &Vcpu, address: usize) -> Result<isize> {
    let mut state = vcpu.state.lock()?;
    let features = features(vcpu, &mut state)?;
    let header = UserSlice::new(UserPtr::from_addr(address), size_of::<u64>());
    let (mut reader, mut writer) = header.reader_writer();
    let room: u64 = reader.read()?;
    let count = OneReg::list(features).count() as u64;
    writer.write(&count)?;
    if room < count {
        return Err(E2BIG);
    }
    let start = address.checked_add(size_of::<u64>()).ok_or(EFAULT)?;
    let bytes = (count as usize)
        .checked_mul(size_of::<u64>())
        .ok_or(EFAULT)?;
    let mut writer = UserSlice::new(UserPtr::from_addr(start), bytes).writer();
    for reg in OneReg::list(features) {
        writer.write(&reg.id())?;
    }
    Ok(0)
}
