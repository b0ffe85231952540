// SPDX-License-Identifier: GPL-2.0

//! The guest's CPU interface as userspace saves and restores it: KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
//! (Documentation/virt/kvm/devices/arm-vgic-v3.rst in the kernel).
//!
//! The guest's ICC registers have no storage of their own: they are fields of ICH_VMCR_EL2, and the active priorities
//! in ICH_AP<g>R<n>_EL2.

use super::lrs::vmcr;
use super::Error;

/// ICC_SRE_EL1: DIB, DFB, SRE. Neither bypass nor the memory-mapped interface is there.
const SRE: u64 = 7;

/// A field of ICH_VTR_EL2 or ICC_CTLR_EL1: lowest bit, and mask.
#[derive(Clone, Copy)]
struct Field(u32, u64);

impl Field {
    fn get(self, register: u64) -> u64 {
        (register >> self.0) & self.1
    }

    fn put(self, register: u64, value: u64) -> u64 {
        register & !(self.1 << self.0) | ((value & self.1) << self.0)
    }
}

const VTR_PRI_BITS: Field = Field(29, 7);
const VTR_ID_BITS: Field = Field(23, 7);
const VTR_SEIS: Field = Field(22, 1);
const VTR_A3V: Field = Field(21, 1);

const CTLR_CBPR: Field = Field(0, 1);
const CTLR_EOI_MODE: Field = Field(1, 1);
const CTLR_PRI_BITS: Field = Field(8, 7);
const CTLR_ID_BITS: Field = Field(11, 7);
const CTLR_SEIS: Field = Field(14, 1);
const CTLR_A3V: Field = Field(15, 1);

const VMCR_GRPEN0: Field = Field(0, 1);
const VMCR_GRPEN1: Field = Field(1, 1);
const VMCR_CBPR: Field = Field(4, 1);
const VMCR_EOI_MODE: Field = Field(9, 1);
const VMCR_BPR1: Field = Field(vmcr::VBPR1_SHIFT, 7);
const VMCR_BPR0: Field = Field(vmcr::VBPR0_SHIFT, 7);
const VMCR_PMR: Field = Field(vmcr::VPMR_SHIFT, 0xff);

/// What a register is made of.
#[derive(Clone, Copy)]
enum Kind {
    /// A field of ICH_VMCR_EL2, from bit 0 of the register on.
    Vmcr(Field),
    /// ICC_BPR1_EL1: group 0's binary point where that is used for both.
    Bpr1,
    Ctlr,
    Sre,
    /// Active priorities: group, index.
    Apr(u8, u8),
}

/// The encoding of a system register as in the attribute: op0 15:14, op1 13:11, CRn 10:7, CRm 6:3, op2 2:0.
const fn icc(crn: u16, crm: u16, op2: u16) -> u16 {
    (3 << 14) | (crn << 7) | (crm << 3) | op2
}

/// The registers, in the order of their encodings.
const REGISTERS: [(u16, Kind); 15] = [
    (icc(4, 6, 0), Kind::Vmcr(VMCR_PMR)),
    (icc(12, 8, 3), Kind::Vmcr(VMCR_BPR0)),
    (icc(12, 8, 4), Kind::Apr(0, 0)),
    (icc(12, 8, 5), Kind::Apr(0, 1)),
    (icc(12, 8, 6), Kind::Apr(0, 2)),
    (icc(12, 8, 7), Kind::Apr(0, 3)),
    (icc(12, 9, 0), Kind::Apr(1, 0)),
    (icc(12, 9, 1), Kind::Apr(1, 1)),
    (icc(12, 9, 2), Kind::Apr(1, 2)),
    (icc(12, 9, 3), Kind::Apr(1, 3)),
    (icc(12, 12, 3), Kind::Bpr1),
    (icc(12, 12, 4), Kind::Ctlr),
    (icc(12, 12, 5), Kind::Sre),
    (icc(12, 12, 6), Kind::Vmcr(VMCR_GRPEN0)),
    (icc(12, 12, 7), Kind::Vmcr(VMCR_GRPEN1)),
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
    /// Whether the guest has the same priorities active as in `other`, an interface of the same hardware.
    pub fn is_as_active(&self, other: &Self) -> bool {
        let registers = Self::nr_apr(self.vtr);
        let same =
            |a: &[u64; 4], b: &[u64; 4]| a.iter().zip(b).take(registers).all(|(a, b)| a == b);
        same(&self.ap0r, &other.ap0r) && same(&self.ap1r, &other.ap1r)
    }

    /// Out of reset, on hardware with this ICH_VTR_EL2. ICH_VMCR_EL2 out of reset is 0: the hardware raises the binary
    /// points to their minimum.
    pub fn new(vtr: u64) -> Self {
        Self {
            ap0r: [0; 4],
            ap1r: [0; 4],
            vtr,
            pri_bits: VTR_PRI_BITS.get(vtr).saturating_add(1),
            id_bits: VTR_ID_BITS.get(vtr),
        }
    }

    /// How many active-priority registers of each group the hardware has: ICH_VTR_EL2.PREbits of 5, 6 or 7.
    pub fn nr_apr(vtr: u64) -> usize {
        match (vtr >> 26) & 7 {
            6 => 4,
            5 => 2,
            _ => 1,
        }
    }

    /// Whether this encoding is one of the registers (KVM_HAS_DEVICE_ATTR; no: ENXIO).
    pub fn user_has(encoding: u16) -> bool {
        find(encoding).is_some()
    }

    /// The value of a register, given the guest's ICH_VMCR_EL2.
    ///
    /// Errors: [`Error::NoRegister`], [`Error::Invalid`] for active priorities that the hardware does not have.
    pub fn user_get(&self, vmcr: u64, encoding: u16) -> Result<u64, Error> {
        match find(encoding).ok_or(Error::NoRegister)? {
            Kind::Vmcr(field) => Ok(field.get(vmcr)),
            Kind::Bpr1 if VMCR_CBPR.get(vmcr) != 0 => {
                Ok(VMCR_BPR0.get(vmcr).saturating_add(1).min(7))
            }
            Kind::Bpr1 => Ok(VMCR_BPR1.get(vmcr)),
            Kind::Ctlr => Ok(self.ctlr(vmcr)),
            Kind::Sre => Ok(SRE),
            Kind::Apr(group, n) => {
                self.check_apr(n)?;
                let aprs = if group == 0 { &self.ap0r } else { &self.ap1r };
                aprs.get(usize::from(n)).copied().ok_or(Error::Invalid)
            }
        }
    }

    /// Sets a register, perhaps in the guest's ICH_VMCR_EL2.
    ///
    /// Errors: as [`CpuIf::user_get`], and [`Error::Invalid`] for a CPU interface that this hardware cannot be.
    pub fn user_set(&mut self, vmcr: &mut u64, encoding: u16, value: u64) -> Result<(), Error> {
        match find(encoding).ok_or(Error::NoRegister)? {
            Kind::Vmcr(field) => *vmcr = field.put(*vmcr, value),
            Kind::Bpr1 if VMCR_CBPR.get(*vmcr) != 0 => (),
            Kind::Bpr1 => *vmcr = VMCR_BPR1.put(*vmcr, value),
            Kind::Ctlr => self.set_ctlr(vmcr, value)?,
            Kind::Sre if value & 1 == 0 => return Err(Error::Invalid),
            Kind::Sre => (),
            Kind::Apr(group, n) => {
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
            (CTLR_PRI_BITS, self.pri_bits.saturating_sub(1)),
            (CTLR_ID_BITS, self.id_bits),
            (CTLR_SEIS, VTR_SEIS.get(self.vtr)),
            (CTLR_A3V, VTR_A3V.get(self.vtr)),
            (CTLR_CBPR, VMCR_CBPR.get(vmcr)),
            (CTLR_EOI_MODE, VMCR_EOI_MODE.get(vmcr)),
        ]
        .into_iter()
        .fold(0, |ctlr, (field, value)| field.put(ctlr, value))
    }

    /// A guest that has seen more priority or INTID bits than the hardware has cannot go on here; one that has seen
    /// fewer keeps seeing them.
    fn set_ctlr(&mut self, vmcr: &mut u64, value: u64) -> Result<(), Error> {
        let pri_bits = CTLR_PRI_BITS.get(value).saturating_add(1);
        let id_bits = CTLR_ID_BITS.get(value);
        if pri_bits > self.pri_bits
            || id_bits > self.id_bits
            || CTLR_SEIS.get(value) != VTR_SEIS.get(self.vtr)
            || CTLR_A3V.get(value) != VTR_A3V.get(self.vtr)
        {
            return Err(Error::Invalid);
        }
        self.pri_bits = pri_bits;
        self.id_bits = id_bits;
        *vmcr = VMCR_CBPR.put(*vmcr, CTLR_CBPR.get(value));
        *vmcr = VMCR_EOI_MODE.put(*vmcr, CTLR_EOI_MODE.get(value));
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

fn find(encoding: u16) -> Option<Kind> {
    let at = REGISTERS
        .binary_search_by_key(&encoding, |&(register, _)| register)
        .ok()?;
    REGISTERS.get(at).map(|&(_, kind)| kind)
}
