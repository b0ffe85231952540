// SPDX-License-Identifier: Apache-2.0
//! A vCPU's registers for whoever does not run it: another thread, while the vCPU waits.

use anyhow::{Context, Result};
use kvm_bindings::{
    kvm_guest_debug, kvm_one_reg, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_ARM_CORE, KVM_REG_SIZE_U128,
    KVM_REG_SIZE_U32, KVM_REG_SIZE_U64,
};
use kvm_ioctls::VcpuFd;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use vmm_sys_util::ioctl::{ioctl_expr, ioctl_with_ref, _IOC_WRITE};

/// The kernel's `_IOW(KVMIO, number, T)`.
const fn request<T>(number: u32) -> libc::c_ulong {
    ioctl_expr(_IOC_WRITE, kvm_bindings::KVMIO, number, size_of::<T>() as u32)
}

/// A register's name for KVM_GET_ONE_REG and KVM_SET_ONE_REG, and its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    id: u64,
    size: usize,
}

impl Name {
    /// The register of a `struct kvm_regs` (asm/kvm.h) that begins at `offset` bytes.
    const fn core(offset: u64, size: usize) -> Self {
        let width = match size {
            4 => KVM_REG_SIZE_U32,
            16 => KVM_REG_SIZE_U128,
            _ => KVM_REG_SIZE_U64,
        };
        Self { id: KVM_REG_ARM64 | width | KVM_REG_ARM_CORE as u64 | (offset / 4), size }
    }

    /// X0 to X30.
    pub const fn x(n: u8) -> Self {
        Self::core(8 * n as u64, 8)
    }

    /// V0 to V31.
    pub const fn v(n: u8) -> Self {
        Self::core(336 + 16 * n as u64, 16)
    }

    pub const SP_EL0: Self = Self::core(248, 8);
    pub const PC: Self = Self::core(256, 8);
    pub const PSTATE: Self = Self::core(264, 8);
    pub const SP_EL1: Self = Self::core(272, 8);
    pub const ELR_EL1: Self = Self::core(280, 8);
    pub const SPSR_EL1: Self = Self::core(288, 8);
    pub const FPSR: Self = Self::core(848, 4);
    pub const FPCR: Self = Self::core(852, 4);

    /// The system register of this encoding: op0 in bits 15 and 14, then op1, CRn, CRm and op2.
    pub const fn system(encoding: u16) -> Self {
        Self { id: KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | encoding as u64, size: 8 }
    }

    /// The same by its numbers.
    const fn encoded(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> Self {
        Self::system(op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2)
    }

    pub const SCTLR_EL1: Self = Self::encoded(3, 0, 1, 0, 0);
    pub const TTBR0_EL1: Self = Self::encoded(3, 0, 2, 0, 0);
    pub const TTBR1_EL1: Self = Self::encoded(3, 0, 2, 0, 1);
    pub const TCR_EL1: Self = Self::encoded(3, 0, 2, 0, 2);
    pub const ESR_EL1: Self = Self::encoded(3, 0, 5, 2, 0);
    pub const VBAR_EL1: Self = Self::encoded(3, 0, 12, 0, 0);
}

/// The registers of one vCPU.
pub struct Registers(OwnedFd);

impl Registers {
    /// Those of `vcpu`.
    pub fn of(vcpu: &VcpuFd) -> Result<Self> {
        // SAFETY: the descriptor is open as long as `vcpu`, which outlives this call.
        let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        Ok(Self(fd.try_clone_to_owned().context("cannot duplicate a vCPU's descriptor")?))
    }

    /// A register; fails where the hypervisor has none of that name.
    pub fn get(&self, name: Name) -> io::Result<u128> {
        let mut bytes = [0; 16];
        let register = kvm_one_reg { id: name.id, addr: bytes.as_mut_ptr() as u64 };
        // SAFETY: KVM_GET_ONE_REG reads a kvm_one_reg, and writes as many bytes as the name says,
        // 16 at most.
        cvt(unsafe { ioctl_with_ref(&self.0, request::<kvm_one_reg>(0xab), &register) })?;
        Ok(u128::from_le_bytes(bytes))
    }

    /// A register of up to 64 bits.
    pub fn word(&self, name: Name) -> io::Result<u64> {
        self.get(name).map(|value| value as u64)
    }

    /// Sets a register.
    pub fn set(&self, name: Name, value: u128) -> io::Result<()> {
        let bytes = value.to_le_bytes();
        let register = kvm_one_reg { id: name.id, addr: bytes.as_ptr() as u64 };
        // SAFETY: KVM_SET_ONE_REG reads a kvm_one_reg, and as many bytes as the name says, 16 at
        // most.
        cvt(unsafe { ioctl_with_ref(&self.0, request::<kvm_one_reg>(0xac), &register) })
    }

    /// Says for what the vCPU is to leave the guest (KVM_SET_GUEST_DEBUG).
    pub fn set_debug(&self, debug: &kvm_guest_debug) -> io::Result<()> {
        // SAFETY: KVM_SET_GUEST_DEBUG reads a kvm_guest_debug, and this is one.
        cvt(unsafe { ioctl_with_ref(&self.0, request::<kvm_guest_debug>(0x9b), debug) })
    }
}

fn cvt(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
