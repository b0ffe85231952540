// SPDX-License-Identifier: GPL-2.0

//! KVM_GET_VCPU_EVENTS and KVM_SET_VCPU_EVENTS: the SError that a vCPU has still to take, and
//! external aborts that userspace gives it.

use super::user;
use crate::arch::cpu;
use crate::host::ffi::*;
use crate::model::esr::Esr;
use crate::vcpu::Vcpu;
use kernel::prelude::*;

/// The bits of an ESR that are the ISS; ISS2 is none of an SError's.
const ISS: u64 = 0x1ff_ffff;

/// Serves KVM_GET_VCPU_EVENTS.
pub(super) fn get(vcpu: &Vcpu, argument: usize) -> Result<isize> {
    let mut events: kvm_vcpu_events = Default::default();
    {
        let mut state = vcpu.state.lock()?;
        state.features.ok_or(ENOEXEC)?;
        let pending = state.context().serror;
        let described = cpu::features().ras;
        events.exception.serror_has_esr = described.into();
        events.exception.serror_pending = pending.is_some().into();
        events.exception.serror_esr = pending.filter(|_| described).map_or(0, u64::from);
    }
    user::write(argument, &events)?;
    Ok(0)
}

/// Serves KVM_SET_VCPU_EVENTS. An external abort is taken at once, so it is never pending; an
/// SError that is pending stays.
pub(super) fn set(vcpu: &Vcpu, argument: usize) -> Result<isize> {
    let mut state = vcpu.state.lock()?;
    state.features.ok_or(ENOEXEC)?;
    let events: kvm_vcpu_events = user::read(argument)?;
    let exception = &events.exception;
    if events.reserved.iter().any(|word| *word != 0) || exception.pad.iter().any(|byte| *byte != 0)
    {
        return Err(EINVAL);
    }
    if exception.ext_dabt_pending != 0 {
        state.abort();
    }
    if exception.serror_pending == 0 {
        return Ok(0);
    }
    let syndrome = if exception.serror_has_esr == 0 {
        Esr::NO_SERROR_SYNDROME
    } else if cpu::features().ras && exception.serror_esr & !ISS == 0 {
        exception.serror_esr as u32
    } else {
        return Err(EINVAL);
    };
    state.context().serror = Some(syndrome);
    Ok(0)
}
