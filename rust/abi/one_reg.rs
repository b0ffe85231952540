// SPDX-License-Identifier: GPL-2.0

//! KVM_GET_ONE_REG, KVM_SET_ONE_REG, KVM_GET_REG_LIST.

use super::one_reg_id::{self, UnknownId};
use super::user;
use crate::host::ffi::kvm_one_reg;
use crate::model::onereg::OneReg;
use crate::vcpu::Vcpu;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// Decodes the request's identifier: the register, and the bytes of its value.
fn decode(id: u64) -> Result<(OneReg, usize)> {
    match one_reg_id::decode(id) {
        Ok(reg) => Ok((reg, one_reg_id::size(id))),
        Err(UnknownId::NotFound) => Err(ENOENT),
        Err(UnknownId::Invalid) => Err(EINVAL),
    }
}

/// Reads one register into the memory that the request names.
pub(super) fn get(vcpu: &Vcpu, request: kvm_one_reg) -> Result<isize> {
    let mut state = vcpu.state.lock()?;
    let features = vcpu.open_registers(&mut state)?;
    let (reg, size) = decode(request.id)?;
    let value = vcpu.register(&mut state, features, reg)?;
    write_value(request.addr as usize, size, value)?;
    Ok(0)
}

/// Sets one register from the memory that the request names.
pub(super) fn set(vcpu: &Vcpu, request: kvm_one_reg) -> Result<isize> {
    let mut state = vcpu.state.lock()?;
    let features = vcpu.open_registers(&mut state)?;
    let (reg, size) = decode(request.id)?;
    let value = read_value(request.addr as usize, size)?;
    vcpu.set_register(&mut state, features, reg, value)?;
    Ok(0)
}

// Each of a size that the compiler knows: for others the kernel checks what kind of memory the
// bytes come from or go to.

fn read_value(address: usize, size: usize) -> Result<u128> {
    match size {
        4 => user::read::<u32>(address).map(Into::into),
        8 => user::read::<u64>(address).map(Into::into),
        16 => {
            let [low, high]: [u64; 2] = user::read(address)?;
            Ok(u128::from(low) | u128::from(high) << 64)
        }
        _ => Err(EINVAL),
    }
}

fn write_value(address: usize, size: usize, value: u128) -> Result {
    match size {
        4 => user::write(address, &(value as u32)),
        8 => user::write(address, &(value as u64)),
        16 => user::write(address, &[value as u64, (value >> 64) as u64]),
        _ => Err(EINVAL),
    }
}

/// Writes all identifiers, if there is room for them; their number in any case.
pub(super) fn list(vcpu: &Vcpu, address: usize) -> Result<isize> {
    let mut state = vcpu.state.lock()?;
    let features = vcpu.open_registers(&mut state)?;
    let room: u64 = user::read(address)?;
    let registers = one_reg_id::list(features);
    let count = registers.clone().count() as u64;
    user::write(address, &count)?;
    if room < count {
        return Err(E2BIG);
    }
    let start = address.checked_add(size_of::<u64>()).ok_or(EFAULT)?;
    let bytes = (count as usize)
        .checked_mul(size_of::<u64>())
        .ok_or(EFAULT)?;
    let mut writer = UserSlice::new(UserPtr::from_addr(start), bytes).writer();
    for reg in registers {
        writer.write(&one_reg_id::encode(reg))?;
    }
    Ok(0)
}
