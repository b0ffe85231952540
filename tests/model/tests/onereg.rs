// SPDX-License-Identifier: GPL-2.0
//! ONE_REG identifiers.

use loft_model::model::onereg::{pstate_is_valid, CoreReg, OneReg};
use loft_model::model::smccc::firmware::FwReg;
use loft_model::model::sysreg::table::GuestFeatures;
use loft_model::model::sysreg::{regs, Encoding, IdReg, IdRegs, TABLE};
use loft_model::one_reg_id::{decode, encode, list, size, UnknownId};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};

const ARM64: u64 = 0x6000_0000_0000_0000;
const U32: u64 = 0x0020_0000_0000_0000;
const U64: u64 = 0x0030_0000_0000_0000;
const U128: u64 = 0x0040_0000_0000_0000;
const CORE: u64 = 0x10_0000;
const DEMUX: u64 = 0x11_0000;
const SYSREG: u64 = 0x13_0000;
const FW: u64 = 0x14_0000;
const SVE: u64 = 0x15_0000;
const FW_BITMAP: u64 = 0x16_0000;

/// struct kvm_regs of the kernel's ABI.
#[repr(C)]
struct KvmRegs {
    regs: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
    sp_el1: u64,
    elr_el1: u64,
    spsr: [u64; 5],
    fp: FpsimdState,
}

#[repr(C)]
struct FpsimdState {
    vregs: [Quad; 32],
    fpsr: u32,
    fpcr: u32,
    reserved: [u32; 2],
}

#[repr(C, align(16))]
struct Quad([u64; 2]);

fn everything() -> GuestFeatures {
    let mut ids = IdRegs::new();
    for index in 0..=u16::MAX {
        if let Some(id) = IdReg::new(Encoding::from_bits(index)) {
            ids.assign(id, u64::MAX);
        }
    }
    GuestFeatures::new(&ids, true)
}

#[test]
fn core_registers_are_where_the_structure_has_them() {
    let fp = offset_of!(KvmRegs, fp);
    let at = |offset: usize, size: u64| ARM64 | size | CORE | offset as u64 / 4;
    let quad = |n: usize| fp + offset_of!(FpsimdState, vregs) + n * size_of::<Quad>();
    let spsr = |n: usize| offset_of!(KvmRegs, spsr) + 8 * n;
    let known = [
        (CoreReg::X(0), at(0, U64)),
        (CoreReg::X(30), at(240, U64)),
        (CoreReg::Sp, at(offset_of!(KvmRegs, sp), U64)),
        (CoreReg::Pc, at(offset_of!(KvmRegs, pc), U64)),
        (CoreReg::Pstate, at(offset_of!(KvmRegs, pstate), U64)),
        (CoreReg::SpEl1, at(offset_of!(KvmRegs, sp_el1), U64)),
        (CoreReg::ElrEl1, at(offset_of!(KvmRegs, elr_el1), U64)),
        (CoreReg::SpsrEl1, at(spsr(0), U64)),
        (CoreReg::SpsrAarch32(0), at(spsr(1), U64)),
        (CoreReg::SpsrAarch32(3), at(spsr(4), U64)),
        (CoreReg::V(0), at(quad(0), U128)),
        (CoreReg::V(31), at(quad(31), U128)),
        (CoreReg::Fpsr, at(fp + offset_of!(FpsimdState, fpsr), U32)),
        (CoreReg::Fpcr, at(fp + offset_of!(FpsimdState, fpcr), U32)),
    ];
    for (reg, id) in known {
        assert_eq!(encode(OneReg::Core(reg)), id, "{reg:?}");
        assert_eq!(decode(id), Ok(OneReg::Core(reg)));
    }
    assert_eq!(size_of::<KvmRegs>() / 4, 216);
}

#[test]
fn all_listed_registers_are_found_by_their_identifiers() {
    let mut ids = BTreeSet::new();
    for reg in list(everything()) {
        assert_eq!(decode(encode(reg)), Ok(reg));
        assert!(ids.insert(encode(reg)), "{reg:?} twice");
    }
}

#[test]
fn the_list_is_in_its_order() {
    let ids: Vec<u64> = list(everything()).map(encode).collect();
    // 31 + sp, pc, pstate + sp_el1, elr_el1 + 5 SPSR + 32 vectors + FPSR, FPCR.
    let (core, rest) = ids.split_at(31 + 3 + 2 + 5 + 32 + 2);
    assert!(core.iter().all(|id| id & 0xfff_0000 == CORE));
    assert!(core
        .windows(2)
        .all(|pair| pair[0] & 0xffff < pair[1] & 0xffff));
    let (firmware, rest) = rest.split_at(8);
    let numbers: Vec<u64> = firmware.iter().map(|id| id & 0xfff_ffff).collect();
    let (a, b) = (FW, FW_BITMAP);
    assert_eq!(numbers, [a, a | 1, a | 2, a | 3, b, b | 1, b | 2, b | 3]);
    let (sysregs, caches) = rest.split_at(rest.len() - 14);
    assert!(caches
        .iter()
        .zip(0..)
        .all(|(&id, n)| id == ARM64 | U32 | DEMUX | n));
    assert!(sysregs
        .iter()
        .all(|id| id & 0xfff_0000 == SYSREG && size(*id) == 8));
    // In the order of the registers, not of their identifiers: the timer's are swapped.
    let encodings: Vec<Encoding> = list(everything())
        .filter_map(|reg| {
            if let OneReg::Sysreg(encoding) = reg {
                Some(encoding)
            } else {
                None
            }
        })
        .collect();
    assert!(encodings.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(encodings.len(), sysregs.len());
}

#[test]
fn a_vm_without_a_feature_does_not_list_its_registers() {
    let listed = |features| {
        list(features)
            .filter(|reg| matches!(reg, OneReg::Sysreg(_)))
            .count()
    };
    let none = GuestFeatures::new(&IdRegs::new(), false);
    assert_eq!(
        listed(everything()) - listed(none),
        10 + 5,
        "the pointer authentication keys; TCR2, SCTLR2, PIR, PIRE0, FPMR"
    );
}

#[test]
fn the_virtual_timers_identifiers_are_swapped() {
    let id = |op0: u64, op1: u64, crn: u64, crm: u64, op2: u64| {
        ARM64 | U64 | SYSREG | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
    };
    // KVM_REG_ARM_TIMER_CTL, _CVAL, _CNT.
    assert_eq!(
        decode(id(3, 3, 14, 3, 1)),
        Ok(OneReg::Sysreg(regs::CNTV_CTL_EL0::ENCODING))
    );
    assert_eq!(
        decode(id(3, 3, 14, 0, 2)),
        Ok(OneReg::Sysreg(regs::CNTV_CVAL_EL0::ENCODING))
    );
    assert_eq!(
        decode(id(3, 3, 14, 3, 2)),
        Ok(OneReg::Sysreg(regs::CNTVCT_EL0::ENCODING))
    );
    // The physical timer's are not.
    assert_eq!(
        decode(id(3, 3, 14, 2, 2)),
        Ok(OneReg::Sysreg(regs::CNTP_CVAL_EL0::ENCODING))
    );
    assert_eq!(
        decode(id(3, 3, 14, 0, 1)),
        Ok(OneReg::Sysreg(regs::CNTPCT_EL0::ENCODING))
    );
    assert_eq!(
        encode(OneReg::Sysreg(regs::CNTVCT_EL0::ENCODING)),
        id(3, 3, 14, 3, 2)
    );
    assert_eq!(
        encode(OneReg::Sysreg(regs::CNTV_CVAL_EL0::ENCODING)),
        id(3, 3, 14, 0, 2)
    );
}

#[test]
fn errors() {
    use UnknownId::{Invalid, NotFound};
    let core = |size: u64, offset: u64| decode(ARM64 | size | CORE | offset);
    // Another architecture, or bits that nobody uses.
    assert_eq!(decode(0x4000_0000_0000_0000 | U64 | CORE), Err(Invalid));
    assert_eq!(decode(ARM64 | U64 | CORE | 1 << 32), Err(Invalid));
    assert_eq!(decode(0), Err(Invalid));
    // Core: the wrong size, the middle of a register, beyond the end.
    assert_eq!(core(U32, 0), Err(Invalid));
    assert_eq!(core(U128, 64), Err(Invalid));
    assert_eq!(core(U64, 1), Err(Invalid));
    assert_eq!(core(U64, 82), Err(Invalid), "padding");
    assert_eq!(core(U64, 84), Err(Invalid), "a vector register by halves");
    assert_eq!(core(U128, 85), Err(Invalid));
    assert_eq!(core(U32, 214), Err(Invalid));
    assert_eq!(
        core(U32, 215),
        Err(NotFound),
        "the last word of the structure"
    );
    assert_eq!(core(U32, 216), Err(NotFound));
    assert_eq!(core(U64, 214), Err(NotFound));
    assert_eq!(core(U64, 1 << 28), Err(NotFound));
    // Firmware.
    assert_eq!(decode(ARM64 | U64 | FW | 4), Err(NotFound));
    assert_eq!(decode(ARM64 | U64 | FW_BITMAP | 4), Err(NotFound));
    assert_eq!(decode(ARM64 | U32 | FW), Err(NotFound));
    // System registers.
    assert_eq!(decode(ARM64 | U32 | SYSREG | 0xc080), Err(NotFound));
    assert_eq!(
        decode(ARM64 | U64 | SYSREG | 0xc080 | 1 << 28),
        Err(NotFound)
    );
    // Caches.
    let cache = |size: u64, index: u64| decode(ARM64 | size | DEMUX | index);
    assert_eq!(cache(U32, 13), Ok(OneReg::CacheGeometry(13)));
    assert_eq!(cache(U32, 14), Err(NotFound));
    assert_eq!(cache(U32, 0x100), Err(NotFound));
    assert_eq!(cache(U64, 0), Err(NotFound));
    assert_eq!(cache(U32, 1 << 28), Err(NotFound));
    // Kinds that do not exist.
    assert_eq!(decode(ARM64 | U64 | 0x12_0000), Err(NotFound));
    assert_eq!(decode(ARM64 | U64), Err(NotFound));
    // SVE: what would be a register is missing, the rest is wrong. U2048, U256, U512.
    let sve = |size: u64, number: u64| decode(ARM64 | size << 52 | SVE | number);
    assert_eq!(sve(8, 0), Err(NotFound));
    assert_eq!(sve(8, 0x3ff), Err(NotFound));
    assert_eq!(sve(8, 0x400), Err(Invalid));
    assert_eq!(sve(5, 0x400), Err(NotFound));
    assert_eq!(sve(5, 0x61f), Err(NotFound));
    assert_eq!(sve(5, 0x620), Err(Invalid));
    assert_eq!(sve(6, 0xffff), Err(NotFound));
    assert_eq!(sve(3, 0), Err(Invalid));
}

#[test]
fn processor_states() {
    for (value, valid) in [
        (0x3c5, true),
        (0x3c4, true),
        (0, true),
        (0x3c9, false),
        (0x3c8, false),
        (0x10, false),
        (0x1f, false),
        (1, false),
        (0x3cd, false),
    ] {
        assert_eq!(pstate_is_valid(value, false), valid, "{value:#x}");
        // User mode is one of AArch32's.
        let valid = valid || value == 0x10;
        assert_eq!(pstate_is_valid(value, true), valid, "{value:#x}");
    }
}

proptest! {
    #[test]
    fn an_identifier_is_its_registers(low: u32, kind in 0x10u64..0x17, size in 0u64..9) {
        let id = ARM64 | size << 52 | kind << 16 | u64::from(low & 0xffff);
        if let Ok(reg) = decode(id) {
            prop_assert_eq!(encode(reg), id);
        }
    }

    #[test]
    fn every_row_has_an_identifier(row in 0..TABLE.len()) {
        let reg = OneReg::Sysreg(TABLE[row].encoding);
        prop_assert_eq!(decode(encode(reg)), Ok(reg));
    }
}

#[test]
fn firmware_registers() {
    for reg in FwReg::ALL {
        assert_eq!(
            decode(encode(OneReg::Firmware(reg))),
            Ok(OneReg::Firmware(reg))
        );
    }
}
