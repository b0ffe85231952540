// SPDX-License-Identifier: GPL-2.0
//! Identifiers of KVM_GET_ONE_REG, KVM_SET_ONE_REG and KVM_GET_REG_LIST.
//!
//! An identifier (arch/arm64/include/uapi/asm/kvm.h): bits 63:56 the architecture, 55:52 the size, 27:16 the kind
//! ("coprocessor"), 15:0 the register within the kind.

use super::smccc::firmware::FwReg;
use super::sysreg::cache::CSSELR_COUNT;
use super::sysreg::table::Features;
use super::sysreg::{regs, Encoding, TABLE};

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

/// Three identifiers of the virtual timer were given out wrongly and are ABI now: CVAL and CNT are swapped.
const TIMER_CVAL: u64 = sysreg_id(Encoding::new(3, 3, 14, 0, 2));
const TIMER_CNT: u64 = sysreg_id(Encoding::new(3, 3, 14, 3, 2));

/// A register that userspace can name. Whether the VM has the system register is the table's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OneReg {
    /// A core register (struct kvm_regs).
    Core(CoreReg),
    /// A firmware pseudo register.
    Firmware(FwReg),
    /// A system register.
    Sysreg(Encoding),
    /// CCSIDR_EL1 of the cache with this CSSELR_EL1 value, below [`CSSELR_COUNT`].
    CacheGeometry(u8),
}

/// A register of struct kvm_regs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreReg {
    /// x0 to x30.
    X(u8),
    /// SP_EL0.
    Sp,
    /// PC.
    Pc,
    /// PSTATE.
    Pstate,
    /// SP_EL1.
    SpEl1,
    /// ELR_EL1.
    ElrEl1,
    /// SPSR_EL1.
    SpsrEl1,
    /// SPSR_abt, _und, _irq, _fiq: AArch32's, 0 to 3; saved and restored, nothing else.
    SpsrAarch32(u8),
    /// v0 to v31.
    V(u8),
    /// FPSR.
    Fpsr,
    /// FPCR.
    Fpcr,
}

/// Why an identifier names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdError {
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

/// Bytes of the value, from the identifier alone.
pub const fn size(id: u64) -> usize {
    1 << ((id & SIZE_MASK) >> SIZE_SHIFT)
}

impl CoreReg {
    /// The register at this offset, if one begins there.
    const fn at(offset: u64) -> Option<Self> {
        let reg = match offset {
            X..SP if offset % 2 == 0 => Self::X((offset / 2) as u8),
            SP => Self::Sp,
            PC => Self::Pc,
            PSTATE => Self::Pstate,
            SP_EL1 => Self::SpEl1,
            ELR_EL1 => Self::ElrEl1,
            SPSR => Self::SpsrEl1,
            74 | 76 | 78 | 80 => Self::SpsrAarch32(((offset - SPSR) / 2 - 1) as u8),
            V..FPSR if offset % 4 == 0 => Self::V(((offset - V) / 4) as u8),
            FPSR => Self::Fpsr,
            FPCR => Self::Fpcr,
            _ => return None,
        };
        Some(reg)
    }

    const fn offset(self) -> u64 {
        match self {
            Self::X(n) => X + 2 * n as u64,
            Self::Sp => SP,
            Self::Pc => PC,
            Self::Pstate => PSTATE,
            Self::SpEl1 => SP_EL1,
            Self::ElrEl1 => ELR_EL1,
            Self::SpsrEl1 => SPSR,
            Self::SpsrAarch32(n) => SPSR + 2 + 2 * n as u64,
            Self::V(n) => V + 4 * n as u64,
            Self::Fpsr => FPSR,
            Self::Fpcr => FPCR,
        }
    }

    /// Bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::V(_) => 16,
            Self::Fpsr | Self::Fpcr => 4,
            _ => 8,
        }
    }

    const fn id(self) -> u64 {
        let size = match self {
            Self::V(_) => U128,
            Self::Fpsr | Self::Fpcr => U32,
            _ => U64,
        };
        ARM64 | size | CORE | self.offset()
    }
}

/// Whether userspace may set the PSTATE core register to `value`: AArch64 EL0 or EL1.
pub const fn pstate_is_valid(value: u64) -> bool {
    // SPSR's M field and the bit above it, nRW.
    use regs::SPSR_EL1 as P;
    !P::nRW.is_set(value) && matches!(P::M.get(value), P::M_EL0t | P::M_EL1t | P::M_EL1h)
}

impl OneReg {
    /// What `id` names.
    pub fn from_id(id: u64) -> Result<Self, IdError> {
        if (id & !SIZE_MASK) >> 32 != ARM64 >> 32 {
            return Err(IdError::Invalid);
        }
        match id & KIND_MASK {
            CORE => core(id),
            FW | FW_BITMAP => {
                let reg = FwReg::ALL
                    .into_iter()
                    .find(|&reg| Self::Firmware(reg).id() == id);
                reg.map(Self::Firmware).ok_or(IdError::NotFound)
            }
            SVE => Err(sve(id)),
            DEMUX => demux(id),
            SYSREG => sysreg(id),
            _ => Err(IdError::NotFound),
        }
    }

    /// Its identifier.
    pub const fn id(self) -> u64 {
        match self {
            Self::Core(reg) => reg.id(),
            Self::Firmware(reg) => {
                ARM64
                    | U64
                    | match reg {
                        FwReg::PsciVersion => FW,
                        FwReg::Workaround1 => FW | 1,
                        FwReg::Workaround2 => FW | 2,
                        FwReg::Workaround3 => FW | 3,
                        FwReg::StdBitmap => FW_BITMAP,
                        FwReg::StdHypBitmap => FW_BITMAP | 1,
                        FwReg::VendorHypBitmap => FW_BITMAP | 2,
                        FwReg::VendorHypBitmap2 => FW_BITMAP | 3,
                    }
            }
            Self::Sysreg(regs::CNTV_CVAL_EL0::ENCODING) => TIMER_CVAL,
            Self::Sysreg(regs::CNTVCT_EL0::ENCODING) => TIMER_CNT,
            Self::Sysreg(encoding) => sysreg_id(encoding),
            Self::CacheGeometry(csselr) => ARM64 | U32 | DEMUX | csselr as u64,
        }
    }

    /// Bytes of its value.
    pub const fn size(self) -> usize {
        size(self.id())
    }

    /// All that a VM with `features` has, in the order of KVM_GET_REG_LIST.
    pub fn list(features: Features) -> impl Iterator<Item = Self> + Clone {
        let core = (0..CORE_WORDS).filter_map(CoreReg::at).map(Self::Core);
        let firmware = FwReg::ALL.into_iter().map(Self::Firmware);
        let sysregs = TABLE
            .iter()
            .filter(move |row| row.is_listed(features))
            .map(|row| Self::Sysreg(row.encoding));
        let caches = (0..CSSELR_COUNT).map(Self::CacheGeometry);
        core.chain(firmware).chain(sysregs).chain(caches)
    }
}

fn core(id: u64) -> Result<OneReg, IdError> {
    let offset = id & !(ARCH_MASK | SIZE_MASK | CORE);
    if offset >= CORE_WORDS || offset + size(id) as u64 / 4 >= CORE_WORDS {
        return Err(IdError::NotFound);
    }
    CoreReg::at(offset)
        .filter(|reg| reg.size() == size(id))
        .map(OneReg::Core)
        .ok_or(IdError::Invalid)
}

/// No VM has SVE: -ENOENT for what would be a register of it, -EINVAL for the rest.
fn sve(id: u64) -> IdError {
    const Z: u64 = ARM64 | (8 << SIZE_SHIFT) | SVE;
    const P: u64 = ARM64 | (5 << SIZE_SHIFT) | SVE | 0x400;
    const LENGTHS: u64 = ARM64 | (6 << SIZE_SHIFT) | SVE | 0xffff;
    match id {
        LENGTHS => IdError::NotFound,
        // 32 Z registers; 16 P registers and FFR: of 32 slices each.
        id if (Z..Z + 32 * 32).contains(&id) || (P..P + 17 * 32).contains(&id) => IdError::NotFound,
        _ => IdError::Invalid,
    }
}

fn demux(id: u64) -> Result<OneReg, IdError> {
    let unknown = id & !(ARCH_MASK | SIZE_MASK | KIND_MASK | 0xffff);
    // Bits 15:8 say what is multiplexed; only CCSIDR, 0, is.
    let index = id & 0xffff;
    if unknown != 0 || size(id) != 4 || index >= u64::from(CSSELR_COUNT) {
        return Err(IdError::NotFound);
    }
    Ok(OneReg::CacheGeometry(index as u8))
}

fn sysreg(id: u64) -> Result<OneReg, IdError> {
    let encoding = Encoding::from_bits(id as u16);
    if id != sysreg_id(encoding) {
        return Err(IdError::NotFound);
    }
    Ok(OneReg::Sysreg(match id {
        TIMER_CVAL => regs::CNTV_CVAL_EL0::ENCODING,
        TIMER_CNT => regs::CNTVCT_EL0::ENCODING,
        _ => encoding,
    }))
}
