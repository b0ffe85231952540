// SPDX-License-Identifier: GPL-2.0
//! Identifiers of KVM_GET_ONE_REG, KVM_SET_ONE_REG and KVM_GET_REG_LIST.
//!
//! An identifier (arch/arm64/include/uapi/asm/kvm.h): bits 63:56 the architecture, 55:52 the size,
//! 27:16 the kind ("coprocessor"), 15:0 the register within the kind. Imports models only, since
//! the package that tests them compiles it as well.

// In the module this is a private tree, in the test package a public one.
#![allow(unreachable_pub)]

use crate::model::onereg::{CoreReg, OneReg};
use crate::model::smccc::firmware::FwReg;
use crate::model::sysreg::cache::CSSELR_COUNT;
use crate::model::sysreg::table::GuestFeatures;
use crate::model::sysreg::{regs, Encoding, TABLE};

const ARM64: u64 = 0x6000_0000_0000_0000;
const ARCH_MASK: u64 = 0xff00_0000_0000_0000;
const SIZE_MASK: u64 = 0x00f0_0000_0000_0000;
const SIZE_SHIFT: u32 = 52;
const KIND_MASK: u64 = 0x0fff_0000;

const CORE: u64 = 0x0010_0000;
const DEMUX: u64 = 0x0011_0000;
const SYSREG: u64 = 0x0013_0000;
const FW: u64 = 0x0014_0000;
const SVE: u64 = 0x0015_0000;
const FW_BITMAP: u64 = 0x0016_0000;

const U32: u64 = 2 << SIZE_SHIFT;
const U64: u64 = 3 << SIZE_SHIFT;
const U128: u64 = 4 << SIZE_SHIFT;

// The identifiers of the virtual timer were given out wrongly and are ABI now: CVAL and CNT are
// swapped.
const TIMER_CVAL: u64 = sysreg_id(Encoding::new(3, 3, 14, 0, 2));
const TIMER_CNT: u64 = sysreg_id(Encoding::new(3, 3, 14, 3, 2));

/// Says why an identifier names no register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownId {
    /// -ENOENT.
    NotFound,
    /// -EINVAL.
    Invalid,
}

// Offsets into struct kvm_regs in units of 32 bits.
const X: u64 = 0;
const SP: u64 = 62;
const PC: u64 = 64;
const PSTATE: u64 = 66;
const SP_EL1: u64 = 68;
const ELR_EL1: u64 = 70;
const SPSR: u64 = 72;
// The vector registers are aligned to 128 bits.
const V: u64 = 84;
const FPSR: u64 = 212;
const FPCR: u64 = 213;
/// The whole structure; it ends in padding.
const CORE_WORDS: u64 = 216;

const fn sysreg_id(encoding: Encoding) -> u64 {
    ARM64 | U64 | SYSREG | encoding.bits() as u64
}

/// Returns the bytes of the value, from the identifier alone.
pub const fn size(id: u64) -> usize {
    1 << ((id & SIZE_MASK) >> SIZE_SHIFT)
}

/// Returns the core register at this offset, if one begins there.
const fn core_at(offset: u64) -> Option<CoreReg> {
    use CoreReg as C;
    let reg = match offset {
        X..SP if offset % 2 == 0 => C::X((offset / 2) as u8),
        SP => C::Sp,
        PC => C::Pc,
        PSTATE => C::Pstate,
        SP_EL1 => C::SpEl1,
        ELR_EL1 => C::ElrEl1,
        SPSR => C::SpsrEl1,
        74 | 76 | 78 | 80 => C::SpsrAarch32(((offset - SPSR) / 2 - 1) as u8),
        V..FPSR if offset % 4 == 0 => C::V(((offset - V) / 4) as u8),
        FPSR => C::Fpsr,
        FPCR => C::Fpcr,
        _ => return None,
    };
    Some(reg)
}

const fn core_id(reg: CoreReg) -> u64 {
    use CoreReg as C;
    let (size, offset) = match reg {
        C::X(n) => (U64, X + 2 * n as u64),
        C::Sp => (U64, SP),
        C::Pc => (U64, PC),
        C::Pstate => (U64, PSTATE),
        C::SpEl1 => (U64, SP_EL1),
        C::ElrEl1 => (U64, ELR_EL1),
        C::SpsrEl1 => (U64, SPSR),
        C::SpsrAarch32(n) => (U64, SPSR + 2 + 2 * n as u64),
        C::V(n) => (U128, V + 4 * n as u64),
        C::Fpsr => (U32, FPSR),
        C::Fpcr => (U32, FPCR),
    };
    ARM64 | CORE | size | offset
}

const fn firmware_id(reg: FwReg) -> u64 {
    let number = match reg {
        FwReg::PsciVersion => FW,
        FwReg::Workaround1 => FW | 1,
        FwReg::Workaround2 => FW | 2,
        FwReg::Workaround3 => FW | 3,
        FwReg::StdBitmap => FW_BITMAP,
        FwReg::StdHypBitmap => FW_BITMAP | 1,
        FwReg::VendorHypBitmap => FW_BITMAP | 2,
        FwReg::VendorHypBitmap2 => FW_BITMAP | 3,
    };
    ARM64 | U64 | number
}

/// Returns the register's identifier.
pub const fn encode(reg: OneReg) -> u64 {
    match reg {
        OneReg::Core(reg) => core_id(reg),
        OneReg::Firmware(reg) => firmware_id(reg),
        OneReg::Sysreg(regs::CNTV_CVAL_EL0::ENCODING) => TIMER_CVAL,
        OneReg::Sysreg(regs::CNTVCT_EL0::ENCODING) => TIMER_CNT,
        OneReg::Sysreg(encoding) => sysreg_id(encoding),
        OneReg::CacheGeometry(csselr) => ARM64 | U32 | DEMUX | csselr as u64,
    }
}

/// Decodes an identifier: which register it names.
pub fn decode(id: u64) -> Result<OneReg, UnknownId> {
    if (id & !SIZE_MASK) >> 32 != ARM64 >> 32 {
        return Err(UnknownId::Invalid);
    }
    match id & KIND_MASK {
        CORE => core(id),
        FW | FW_BITMAP => {
            let reg = FwReg::ALL.into_iter().find(|&reg| firmware_id(reg) == id);
            reg.map(OneReg::Firmware).ok_or(UnknownId::NotFound)
        }
        SVE => Err(sve(id)),
        DEMUX => demux(id),
        SYSREG => sysreg(id),
        _ => Err(UnknownId::NotFound),
    }
}

/// Lists all registers of a VM with `features`, in the order of KVM_GET_REG_LIST.
pub fn list(features: GuestFeatures) -> impl Iterator<Item = OneReg> + Clone {
    let core = (0..CORE_WORDS).filter_map(core_at).map(OneReg::Core);
    let firmware = FwReg::ALL.into_iter().map(OneReg::Firmware);
    let sysregs = TABLE
        .iter()
        .filter(move |row| row.is_listed(features))
        .map(|row| OneReg::Sysreg(row.encoding));
    let caches = (0..CSSELR_COUNT).map(OneReg::CacheGeometry);
    core.chain(firmware).chain(sysregs).chain(caches)
}

fn core(id: u64) -> Result<OneReg, UnknownId> {
    let offset = id & !(ARCH_MASK | SIZE_MASK | CORE);
    if offset >= CORE_WORDS || offset + size(id) as u64 / 4 >= CORE_WORDS {
        return Err(UnknownId::NotFound);
    }
    core_at(offset)
        .filter(|&reg| size(core_id(reg)) == size(id))
        .map(OneReg::Core)
        .ok_or(UnknownId::Invalid)
}

/// Says why an identifier of SVE, which no VM has, names no register: -ENOENT for what would be a
/// register of it, -EINVAL for the rest.
fn sve(id: u64) -> UnknownId {
    const Z: u64 = ARM64 | (8 << SIZE_SHIFT) | SVE;
    const P: u64 = ARM64 | (5 << SIZE_SHIFT) | SVE | 0x400;
    const LENGTHS: u64 = ARM64 | (6 << SIZE_SHIFT) | SVE | 0xffff;
    match id {
        LENGTHS => UnknownId::NotFound,
        // 32 Z registers; 16 P registers and FFR: of 32 slices each.
        id if (Z..Z + 32 * 32).contains(&id) || (P..P + 17 * 32).contains(&id) => {
            UnknownId::NotFound
        }
        _ => UnknownId::Invalid,
    }
}

fn demux(id: u64) -> Result<OneReg, UnknownId> {
    let unknown = id & !(ARCH_MASK | SIZE_MASK | KIND_MASK | 0xffff);
    // Bits 15:8 say what is multiplexed; only CCSIDR, 0, is.
    let index = id & 0xffff;
    if unknown != 0 || size(id) != 4 || index >= u64::from(CSSELR_COUNT) {
        return Err(UnknownId::NotFound);
    }
    Ok(OneReg::CacheGeometry(index as u8))
}

fn sysreg(id: u64) -> Result<OneReg, UnknownId> {
    let encoding = Encoding::from_bits(id as u16);
    if id != sysreg_id(encoding) {
        return Err(UnknownId::NotFound);
    }
    Ok(OneReg::Sysreg(match id {
        TIMER_CVAL => regs::CNTV_CVAL_EL0::ENCODING,
        TIMER_CNT => regs::CNTVCT_EL0::ENCODING,
        _ => encoding,
    }))
}
