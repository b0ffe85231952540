// SPDX-License-Identifier: GPL-2.0

//! The guest's CPU interface as userspace saves and restores it: KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
//! (Documentation/virt/kvm/devices/arm-vgic-v3.rst in the kernel).
//!
//! The guest's ICC registers have no storage of their own: they are fields of ICH_VMCR_EL2, and the
//! active priorities in ICH_AP<g>R<n>_EL2.

use super::lrs::vmcr;
use super::Error;
use crate::model::sysreg::{regs::*, Field};

/// What a register is made of.
#[derive(Clone, Copy)]
enum IccRegister {
    /// A field of ICH_VMCR_EL2, from bit 0 of the register on.
    Vmcr(Field),
    /// ICC_BPR1_EL1: group 0's binary point where that is used for both.
    Bpr1,
    Ctlr,
    Sre,
    /// Active priorities: group, index.
    Apr(u8, u8),
}

/// The registers, in the order of their encodings, which the attribute has packed as
/// [`Encoding`](crate::model::sysreg::Encoding) has.
const REGISTERS: [(u16, IccRegister); 15] = [
    (
        ICC_PMR_EL1::ENCODING.bits(),
        IccRegister::Vmcr(ICH_VMCR_EL2::VPMR),
    ),
    (
        ICC_BPR0_EL1::ENCODING.bits(),
        IccRegister::Vmcr(ICH_VMCR_EL2::VBPR0),
    ),
    (ICC_AP0R0_EL1::ENCODING.bits(), IccRegister::Apr(0, 0)),
    (ICC_AP0R1_EL1::ENCODING.bits(), IccRegister::Apr(0, 1)),
    (ICC_AP0R2_EL1::ENCODING.bits(), IccRegister::Apr(0, 2)),
    (ICC_AP0R3_EL1::ENCODING.bits(), IccRegister::Apr(0, 3)),
    (ICC_AP1R0_EL1::ENCODING.bits(), IccRegister::Apr(1, 0)),
    (ICC_AP1R1_EL1::ENCODING.bits(), IccRegister::Apr(1, 1)),
    (ICC_AP1R2_EL1::ENCODING.bits(), IccRegister::Apr(1, 2)),
    (ICC_AP1R3_EL1::ENCODING.bits(), IccRegister::Apr(1, 3)),
    (ICC_BPR1_EL1::ENCODING.bits(), IccRegister::Bpr1),
    (ICC_CTLR_EL1::ENCODING.bits(), IccRegister::Ctlr),
    (ICC_SRE_EL1::ENCODING.bits(), IccRegister::Sre),
    (
        ICC_IGRPEN0_EL1::ENCODING.bits(),
        IccRegister::Vmcr(ICH_VMCR_EL2::VENG0),
    ),
    (
        ICC_IGRPEN1_EL1::ENCODING.bits(),
        IccRegister::Vmcr(ICH_VMCR_EL2::VENG1),
    ),
];

// The lookup is a binary search.
const _: () = {
    let mut n = 1;
    while n < REGISTERS.len() {
        assert!(REGISTERS[n - 1].0 < REGISTERS[n].0);
        n += 1;
    }
};

/// The part of a CPU interface that is neither in a list register nor in ICH_VMCR_EL2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuIf {
    /// ICH_AP0R<n>_EL2.
    pub ap0r: [u64; 4],
    /// ICH_AP1R<n>_EL2.
    pub ap1r: [u64; 4],
    /// ICH_VTR_EL2 of the host.
    vtr: u64,
    pri_bits: u64,
    id_bits: u64,
}

impl CpuIf {
    /// ICC_SRE_EL1: neither bypass nor the memory-mapped interface is there.
    pub const SRE: u64 =
        ICC_SRE_EL1::DIB.mask() | ICC_SRE_EL1::DFB.mask() | ICC_SRE_EL1::SRE.mask();

    /// Returns whether the guest has the same priorities active as in `other`, an interface of the
    /// same hardware.
    pub fn is_as_active(&self, other: &Self) -> bool {
        let registers = Self::nr_apr(self.vtr);
        let same =
            |a: &[u64; 4], b: &[u64; 4]| a.iter().zip(b).take(registers).all(|(a, b)| a == b);
        same(&self.ap0r, &other.ap0r) && same(&self.ap1r, &other.ap1r)
    }

    /// Makes the interface out of reset, on hardware with this ICH_VTR_EL2. ICH_VMCR_EL2 out of
    /// reset is 0: the hardware raises the binary points to their minimum.
    pub fn new(vtr: u64) -> Self {
        Self {
            ap0r: [0; 4],
            ap1r: [0; 4],
            vtr,
            pri_bits: ICH_VTR_EL2::PRIbits.get(vtr).saturating_add(1),
            id_bits: ICH_VTR_EL2::IDbits.get(vtr),
        }
    }

    /// Returns how many active-priority registers of each group the hardware has:
    /// ICH_VTR_EL2.PREbits of 5, 6 or 7.
    pub fn nr_apr(vtr: u64) -> usize {
        match ICH_VTR_EL2::PREbits.get(vtr) {
            6 => 4,
            5 => 2,
            _ => 1,
        }
    }

    /// Returns whether this encoding is one of the registers (KVM_HAS_DEVICE_ATTR; no: ENXIO).
    pub fn user_has(encoding: u16) -> bool {
        find(encoding).is_some()
    }

    /// Returns the value of a register, given the guest's ICH_VMCR_EL2.
    ///
    /// Errors: [`Error::NoRegister`], [`Error::Invalid`] for active priorities that the hardware
    /// does not have.
    pub fn user_get(&self, vmcr: u64, encoding: u16) -> Result<u64, Error> {
        match find(encoding).ok_or(Error::NoRegister)? {
            IccRegister::Vmcr(field) => Ok(field.get(vmcr)),
            IccRegister::Bpr1 if ICH_VMCR_EL2::VCBPR.get(vmcr) != 0 => {
                Ok(ICH_VMCR_EL2::VBPR0.get(vmcr).saturating_add(1).min(7))
            }
            IccRegister::Bpr1 => Ok(ICH_VMCR_EL2::VBPR1.get(vmcr)),
            IccRegister::Ctlr => Ok(self.ctlr(vmcr)),
            IccRegister::Sre => Ok(Self::SRE),
            IccRegister::Apr(group, n) => {
                self.check_apr(n)?;
                let aprs = if group == 0 { &self.ap0r } else { &self.ap1r };
                aprs.get(usize::from(n)).copied().ok_or(Error::Invalid)
            }
        }
    }

    /// Sets a register, perhaps in the guest's ICH_VMCR_EL2.
    ///
    /// Errors: as [`CpuIf::user_get`], and [`Error::Invalid`] for a CPU interface that this
    /// hardware cannot be.
    pub fn user_set(&mut self, vmcr: &mut u64, encoding: u16, value: u64) -> Result<(), Error> {
        match find(encoding).ok_or(Error::NoRegister)? {
            IccRegister::Vmcr(field) => *vmcr = field.with(*vmcr, value),
            IccRegister::Bpr1 if ICH_VMCR_EL2::VCBPR.get(*vmcr) != 0 => (),
            IccRegister::Bpr1 => *vmcr = ICH_VMCR_EL2::VBPR1.with(*vmcr, value),
            IccRegister::Ctlr => self.set_ctlr(vmcr, value)?,
            IccRegister::Sre if !ICC_SRE_EL1::SRE.is_set(value) => return Err(Error::Invalid),
            IccRegister::Sre => (),
            IccRegister::Apr(group, n) => {
                self.check_apr(n)?;
                let aprs = if group == 0 {
                    &mut self.ap0r
                } else {
                    &mut self.ap1r
                };
                *aprs.get_mut(usize::from(n)).ok_or(Error::Invalid)? = value;
            }
        }
        *vmcr |= vmcr::VFIQEN;
        Ok(())
    }

    fn ctlr(&self, vmcr: u64) -> u64 {
        [
            (ICC_CTLR_EL1::PRIbits, self.pri_bits.saturating_sub(1)),
            (ICC_CTLR_EL1::IDbits, self.id_bits),
            (ICC_CTLR_EL1::SEIS, ICH_VTR_EL2::SEIS.get(self.vtr)),
            (ICC_CTLR_EL1::A3V, ICH_VTR_EL2::A3V.get(self.vtr)),
            (ICC_CTLR_EL1::CBPR, ICH_VMCR_EL2::VCBPR.get(vmcr)),
            (ICC_CTLR_EL1::EOImode, ICH_VMCR_EL2::VEOIM.get(vmcr)),
        ]
        .into_iter()
        .fold(0, |ctlr, (field, value)| field.with(ctlr, value))
    }

    /// Sets ICC_CTLR_EL1. A guest that has seen more priority or INTID bits than the hardware has
    /// cannot go on here; one that has seen fewer keeps seeing them.
    fn set_ctlr(&mut self, vmcr: &mut u64, value: u64) -> Result<(), Error> {
        let pri_bits = ICC_CTLR_EL1::PRIbits.get(value).saturating_add(1);
        let id_bits = ICC_CTLR_EL1::IDbits.get(value);
        if pri_bits > self.pri_bits
            || id_bits > self.id_bits
            || ICC_CTLR_EL1::SEIS.get(value) != ICH_VTR_EL2::SEIS.get(self.vtr)
            || ICC_CTLR_EL1::A3V.get(value) != ICH_VTR_EL2::A3V.get(self.vtr)
        {
            return Err(Error::Invalid);
        }
        self.pri_bits = pri_bits;
        self.id_bits = id_bits;
        *vmcr = ICH_VMCR_EL2::VCBPR.with(*vmcr, ICC_CTLR_EL1::CBPR.get(value));
        *vmcr = ICH_VMCR_EL2::VEOIM.with(*vmcr, ICC_CTLR_EL1::EOImode.get(value));
        Ok(())
    }

    fn check_apr(&self, n: u8) -> Result<(), Error> {
        let last = match self.pri_bits {
            7.. => 3,
            6 => 1,
            _ => 0,
        };
        if n > last {
            return Err(Error::Invalid);
        }
        Ok(())
    }
}

fn find(encoding: u16) -> Option<IccRegister> {
    let at = REGISTERS
        .binary_search_by_key(&encoding, |&(register, _)| register)
        .ok()?;
    REGISTERS.get(at).map(|&(_, kind)| kind)
}
