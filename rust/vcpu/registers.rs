// SPDX-License-Identifier: GPL-2.0

//! The registers of a vCPU that is out of its CPU, one by one, as userspace reads and writes them.

use super::context::StoppedVcpu;
use super::{State, Vcpu};
use crate::model::onereg::{self, CoreReg, OneReg};
use crate::model::psci::AFFINITY;
use crate::model::smccc::firmware::{FwError, FwReg};
use crate::model::sysreg::cache::Geometries;
use crate::model::sysreg::idregs::IdError;
use crate::model::sysreg::table::{self, GuestFeatures, Storage, TimerReg, User};
use crate::model::sysreg::{cache, lookup, Encoding, Reg};
use crate::model::timer::TimerId;
use core::sync::atomic::Ordering::Relaxed;
use kernel::prelude::*;

impl Vcpu {
    /// Prepares access to the registers, and tells which of them the vCPU has. `ENOEXEC`: it
    /// has not been initialised.
    pub(crate) fn open_registers(&self, state: &mut State) -> Result<GuestFeatures> {
        state.features.ok_or(ENOEXEC)?;
        // CPU_ON asks the vCPU to look at its power, and that is not taken back before it has. It
        // takes effect here if the vCPU has not noticed it: its reset comes before what userspace
        // does to the registers.
        if self.handle.has_requests() {
            if let Some(start) = self.handle.take_start() {
                state.context().reset(Some(start));
            }
        }
        if state.has_run() {
            return Ok(state.context().frozen.features());
        }
        Ok(self
            .vm
            .with_ids(|ids| GuestFeatures::new(ids, self.vm.gic.is_created())))
    }

    /// Reads one register of a vCPU that has `features`. `ENOENT`: it has no such register.
    pub(crate) fn register(
        &self,
        state: &mut State,
        features: GuestFeatures,
        reg: OneReg,
    ) -> Result<u128> {
        Ok(match reg {
            OneReg::Core(reg) => get_core(state.context(), reg)?,
            OneReg::Firmware(reg) => self.vm.firmware().0.get(reg).into(),
            OneReg::Sysreg(encoding) => {
                get_sysreg(self, state.context(), features, encoding)?.into()
            }
            OneReg::CacheGeometry(csselr) => {
                let context = state.context();
                let ctr = context.cache_type();
                context.cache_geometry(ctr, csselr.into()).into()
            }
        })
    }

    /// Sets one register of a vCPU that has `features`.
    ///
    /// Errors: `ENOENT` if it has no such register, `EINVAL` if that cannot have the value, `EBUSY`
    /// if it is too late for another value.
    pub(crate) fn set_register(
        &self,
        state: &mut State,
        features: GuestFeatures,
        reg: OneReg,
        value: u128,
    ) -> Result {
        match reg {
            OneReg::Core(reg) => set_core(state.context(), features, reg, value),
            OneReg::Firmware(reg) => set_firmware(self, state, reg, value as u64),
            OneReg::Sysreg(encoding) => {
                set_sysreg(self, state.context(), features, encoding, value as u64)
            }
            OneReg::CacheGeometry(csselr) => {
                set_cache_geometry(state.context(), csselr.into(), value as u32)
            }
        }
    }
}

fn set_firmware(vcpu: &Vcpu, state: &State, reg: FwReg, value: u64) -> Result {
    let mut config = vcpu.vm.config.lock();
    let psci_0_2 = config
        .vcpu_features
        .is_some_and(|features| features.psci_0_2);
    let ran = state.has_run() || config.started;
    let set = vcpu.vm.change_firmware(&mut config, |firmware| {
        firmware.set(reg, value, psci_0_2, ran)
    });
    set.map_err(|error| match error {
        FwError::Invalid => EINVAL,
        FwError::Busy => EBUSY,
    })
}

fn set_cache_geometry(context: &mut StoppedVcpu, csselr: u64, ccsidr: u32) -> Result {
    let ctr = context.cache_type();
    let mut caches = match context.caches.take() {
        Some(caches) => caches,
        None => KBox::new(Geometries::default(), GFP_KERNEL_ACCOUNT)?,
    };
    let valid = caches.set(ctr, csselr, ccsidr);
    context.caches = Some(caches);
    if valid {
        Ok(())
    } else {
        Err(EINVAL)
    }
}

fn get_core(context: &mut StoppedVcpu, reg: CoreReg) -> Result<u128> {
    Ok(match reg {
        CoreReg::X(n) => context.x(n).into(),
        CoreReg::Sp => context.frame().sp_el0.into(),
        CoreReg::Pc => context.frame().pc.into(),
        CoreReg::Pstate => context.frame().pstate.into(),
        CoreReg::SpEl1 => context.get(Reg::SP_EL1).into(),
        CoreReg::ElrEl1 => context.get(Reg::ELR_EL1).into(),
        CoreReg::SpsrEl1 => context.get(Reg::SPSR_EL1).into(),
        CoreReg::SpsrAarch32(n) => {
            let spsr = context.spsr_aarch32.get(usize::from(n)).ok_or(EINVAL)?;
            (*spsr).into()
        }
        CoreReg::V(n) => *context.fp().v.get(usize::from(n)).ok_or(EINVAL)?,
        CoreReg::Fpsr => context.fp().fpsr.into(),
        CoreReg::Fpcr => context.fp().fpcr.into(),
    })
}

fn set_core(
    context: &mut StoppedVcpu,
    features: GuestFeatures,
    reg: CoreReg,
    value: u128,
) -> Result {
    let word = value as u64;
    match reg {
        CoreReg::X(n) => context.set_x(n, word),
        CoreReg::Sp => context.frame_mut().sp_el0 = word,
        CoreReg::Pc => context.frame_mut().pc = word,
        CoreReg::Pstate => {
            if !onereg::pstate_is_valid(word, features.aarch32()) {
                return Err(EINVAL);
            }
            context.frame_mut().pstate = word;
        }
        CoreReg::SpEl1 => context.set(Reg::SP_EL1, word),
        CoreReg::ElrEl1 => context.set(Reg::ELR_EL1, word),
        CoreReg::SpsrEl1 => context.set(Reg::SPSR_EL1, word),
        CoreReg::SpsrAarch32(n) => {
            *context.spsr_aarch32.get_mut(usize::from(n)).ok_or(EINVAL)? = word
        }
        CoreReg::V(n) => *context.fp_mut().v.get_mut(usize::from(n)).ok_or(EINVAL)? = value,
        CoreReg::Fpsr => context.fp_mut().fpsr = word & u64::from(u32::MAX),
        CoreReg::Fpcr => context.fp_mut().fpcr = word & u64::from(u32::MAX),
    }
    Ok(())
}

fn get_sysreg(
    vcpu: &Vcpu,
    context: &mut StoppedVcpu,
    features: GuestFeatures,
    encoding: Encoding,
) -> Result<u64> {
    let row = lookup(encoding)
        .filter(|row| row.is_listed(features))
        .ok_or(ENOENT)?;
    Ok(match row.storage {
        Storage::Loaded(reg)
        | Storage::SwitchedAtEntry(reg)
        | Storage::Debug(reg)
        | Storage::Memory(reg) => context.get(reg),
        Storage::Id(id) => vcpu.vm.with_ids(|ids| ids.get(id)),
        Storage::Timer(reg) => context.read_timer(reg),
        Storage::Const(value) => value,
        Storage::Fpmr => context.fp().fpmr,
        Storage::CacheGeometry | Storage::Gic(_) | Storage::OsLock | Storage::SetWay => {
            return Err(ENOENT)
        }
    })
}

fn set_sysreg(
    vcpu: &Vcpu,
    context: &mut StoppedVcpu,
    features: GuestFeatures,
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
            context.set(Reg::OSLSR_EL1, value);
        }
        (User::Clidr, _) => {
            let value = cache::set_clidr(context.cache_type(), value).ok_or(EINVAL)?;
            context.set(Reg::CLIDR_EL1, value);
        }
        (_, Storage::Timer(reg)) => set_timer(vcpu, context, reg, value),
        (_, Storage::Fpmr) => context.fp_mut().fpmr = value,
        _ => match row.context() {
            Some(reg) => {
                context.set(reg, value);
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

/// Sets a timer's register. Setting a counter moves its offset, for all vCPUs, unless the VM's
/// offsets were set as such.
fn set_timer(vcpu: &Vcpu, context: &mut StoppedVcpu, reg: TimerReg, value: u64) {
    let offsets = &vcpu.vm.offsets;
    let now = crate::arch::timer::counter();
    let fixed = offsets.fixed.load(Relaxed);
    match reg {
        TimerReg::CntvCtl => context.change_timer(TimerId::Virtual, |timer| timer.write_ctl(value)),
        TimerReg::CntvCval => {
            context.change_timer(TimerId::Virtual, |timer| timer.write_cval(value))
        }
        TimerReg::CntpCtl => {
            context.change_timer(TimerId::Physical, |timer| timer.write_ctl(value))
        }
        TimerReg::CntpCval => {
            context.change_timer(TimerId::Physical, |timer| timer.write_cval(value))
        }
        TimerReg::Cntvct if !fixed => offsets.virtual_.store(now.wrapping_sub(value), Relaxed),
        TimerReg::Cntpct if !fixed => offsets.physical.store(now.wrapping_sub(value), Relaxed),
        TimerReg::Cntvct | TimerReg::Cntpct => {}
        // Hidden from userspace, which has set the comparators.
        TimerReg::CntvTval | TimerReg::CntpTval => {}
    }
}
