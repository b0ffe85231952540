// SPDX-License-Identifier: GPL-2.0
//! Identification registers: what a guest sees of a host, and what userspace may make of it.

use loft_model::model::sysreg::idregs::{IdConfig, IdError, HOST_SOURCES};
use loft_model::model::sysreg::{regs, Encoding, Field, IdReg, IdRegs};
use proptest::prelude::*;

const CONFIG: IdConfig = IdConfig {
    pointer_auth: true,
    gic: true,
    spectre_v2_unaffected: false,
    meltdown_unaffected: false,
};

fn id(encoding: Encoding) -> IdReg {
    IdReg::new(encoding).expect("an identification register")
}

/// The AArch64 feature registers, whose fields are all four bits wide.
fn feature_registers() -> impl Iterator<Item = IdReg> {
    (4..8).flat_map(|crm| (0..8).map(move |op2| id(Encoding::new(3, 0, 0, crm, op2))))
}

fn nibble(value: u64, at: u32) -> u64 {
    value >> (4 * at) & 15
}

/// Which nibbles are signed numbers, from the manual.
fn is_signed(register: Encoding, at: u32) -> bool {
    match register {
        regs::ID_AA64PFR0_EL1::ENCODING => at == 4 || at == 5,
        regs::ID_AA64MMFR0_EL1::ENCODING => at == 6 || at == 7,
        regs::ID_AA64DFR0_EL1::ENCODING => at == 9,
        regs::ID_AA64MMFR4_EL1::ENCODING => at == 6,
        _ => false,
    }
}

fn number(register: Encoding, at: u32, nibble: u64) -> i64 {
    if is_signed(register, at) && nibble > 7 {
        nibble as i64 - 16
    } else {
        nibble as i64
    }
}

fn host(values: &[u64]) -> IdRegs {
    let mut host = IdRegs::new();
    for (id, value) in HOST_SOURCES.into_iter().zip(values) {
        host.assign(id, *value);
    }
    // What every host has: AArch64 at EL0 and EL1, the first debug architecture at least.
    use regs::{ID_AA64DFR0_EL1 as D, ID_AA64PFR0_EL1 as P};
    let pfr0 = host.get(id(P::ENCODING));
    let pfr0 = P::EL1.with(
        P::EL0.with(pfr0, P::EL0.get(pfr0).max(1)),
        P::EL1.get(pfr0).max(1),
    );
    host.assign(id(P::ENCODING), pfr0);
    let dfr0 = host.get(id(D::ENCODING));
    let lock = if D::DoubleLock.get(dfr0) & 1 == 0 {
        D::DoubleLock_IMP
    } else {
        D::DoubleLock_NI
    };
    host.assign(
        id(D::ENCODING),
        D::DoubleLock.with(D::DebugVer.with(dfr0, D::DebugVer.get(dfr0).max(6)), lock),
    );
    host
}

fn hosts() -> impl Strategy<Value = IdRegs> {
    proptest::collection::vec(any::<u64>(), HOST_SOURCES.len()).prop_map(|values| host(&values))
}

/// Fields whose guest value does not follow from "not more than the host's".
fn is_special(register: Encoding, at: u32) -> bool {
    match register {
        // GIC.
        regs::ID_AA64PFR0_EL1::ENCODING => at == 6,
        // TGRAN16_2, TGRAN64_2, TGRAN4_2: 1 is "no".
        regs::ID_AA64MMFR0_EL1::ENCODING => (8..=10).contains(&at),
        // Fields of one bit each.
        regs::ID_AA64FPFR0_EL1::ENCODING => true,
        // SpecSEI: higher promises less.
        regs::ID_AA64MMFR1_EL1::ENCODING => at == 6,
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_guest_never_has_more_than_the_host(host in hosts(), pointer_auth: bool, gic: bool) {
        let guest = IdRegs::for_guest(&host, &IdConfig { pointer_auth, gic, ..CONFIG });
        for reg in feature_registers() {
            for at in 0..16 {
                let (have, seen) = (nibble(host.get(reg), at), nibble(guest.get(reg), at));
                let register = reg.encoding();
                if !is_special(register, at) {
                    prop_assert!(
                        seen == 0 || number(register, at, seen) <= number(register, at, have),
                        "{:?} bits {}: host {}, guest {}", register, 4 * at, have, seen
                    );
                }
            }
        }
    }

    #[test]
    fn userspace_never_gets_more_than_the_limit(host in hosts(), reg in 24usize..56, value: u64, flip in 0u32..64) {
        let limit = IdRegs::for_guest(&host, &CONFIG);
        let reg = feature_registers().nth(reg - 24).expect("32 registers");
        for value in [value, limit.get(reg) ^ 1 << flip, limit.get(reg)] {
            let mut ids = limit.clone();
            let before = ids.clone();
            match ids.set(&limit, reg, value, false) {
                Ok(()) => {
                    let now = ids.get(reg);
                    prop_assert_eq!((now ^ limit.get(reg)) & !reg.writable(), 0, "read-only bits changed");
                    for at in 0..16 {
                        let (most, is) = (nibble(limit.get(reg), at), nibble(now, at));
                        let register = reg.encoding();
                        if !is_special(register, at) {
                            prop_assert!(number(register, at, is) <= number(register, at, most));
                        }
                    }
                }
                Err(error) => {
                    prop_assert_eq!(error, IdError::Invalid);
                    prop_assert_eq!(&ids, &before);
                }
            }
        }
        // The limit itself is always fine.
        prop_assert!(limit.clone().set(&limit, reg, limit.get(reg), false).is_ok());
    }

    #[test]
    fn a_writable_field_can_be_lowered_and_not_raised(host in hosts()) {
        let limit = IdRegs::for_guest(&host, &CONFIG);
        for (reg, at) in feature_registers().flat_map(|reg| (0..16).map(move |at| (reg, at))) {
            let (register, field) = (reg.encoding(), Field::new(4 * at as u8, 4));
            if reg.writable() & field.mask() == 0 || is_special(register, at) {
                continue;
            }
            let set = |nibble: u64| limit.clone().set(&limit, reg, field.with(limit.get(reg), nibble), false);
            let most = number(register, at, nibble(limit.get(reg), at));
            let least = match (register, at) {
                (regs::ID_AA64PFR0_EL1::ENCODING, 0 | 1) => 1,
                (regs::ID_AA64DFR0_EL1::ENCODING, 0) => 6,
                _ => -8,
            };
            for other in 0..16 {
                let value = number(register, at, other);
                // Taken for "no PMU", see the source.
                if register == regs::ID_AA64DFR0_EL1::ENCODING && at == 2 && other == 15 {
                    continue;
                }
                let fine = value == most || (least..most).contains(&value);
                prop_assert_eq!(set(other).is_ok(), fine, "{:?} bits {}: {} of {}", register, 4 * at, value, most);
            }
        }
    }
}

#[test]
fn a_neoverse_n1() {
    // From its Technical Reference Manual (r4p0), with the cryptographic extension.
    let mut host = IdRegs::new();
    for (encoding, value) in [
        (regs::ID_AA64PFR0_EL1::ENCODING, 0x1100_0000_1011_1112),
        (regs::ID_AA64PFR1_EL1::ENCODING, 0x20),
        (regs::ID_AA64DFR0_EL1::ENCODING, 0x1_1030_5408),
        (regs::ID_AA64ISAR0_EL1::ENCODING, 0x1000_1021_1120),
        (regs::ID_AA64ISAR1_EL1::ENCODING, 0x10_0001),
        (regs::ID_AA64MMFR0_EL1::ENCODING, 0x10_1125),
        (regs::ID_AA64MMFR1_EL1::ENCODING, 0x1021_2122),
        (regs::ID_AA64MMFR2_EL1::ENCODING, 0x1011),
        (regs::CTR_EL0::ENCODING, 0x8444_c004),
        (regs::MIDR_EL1::ENCODING, 0x414f_d0c1),
    ] {
        host.assign(id(encoding), value);
    }
    let guest = IdRegs::for_guest(&host, &CONFIG);
    let seen = |encoding| guest.get(id(encoding));
    assert_eq!(seen(regs::ID_AA64PFR0_EL1::ENCODING), 0x1100_0000_1111_1112);
    assert_eq!(seen(regs::ID_AA64PFR1_EL1::ENCODING), 0x20);
    assert_eq!(seen(regs::ID_AA64DFR0_EL1::ENCODING), 0x1030_5008);
    assert_eq!(seen(regs::ID_AA64ISAR0_EL1::ENCODING), 0x1000_1021_1120);
    assert_eq!(seen(regs::ID_AA64ISAR1_EL1::ENCODING), 0x10_0001);
    assert_eq!(seen(regs::ID_AA64MMFR0_EL1::ENCODING), 0x10_1125);
    assert_eq!(seen(regs::ID_AA64MMFR1_EL1::ENCODING), 0x1021_2122);
    assert_eq!(seen(regs::ID_AA64MMFR2_EL1::ENCODING), 0x1011);
    assert_eq!(seen(regs::CTR_EL0::ENCODING), 0x8444_c004);
    assert_eq!(seen(regs::MIDR_EL1::ENCODING), 0x414f_d0c1);
    assert!(!guest.has_pointer_auth());
}

#[test]
fn configuration() {
    let all = host(&[u64::MAX; HOST_SOURCES.len()]);
    let none = host(&[0; HOST_SOURCES.len()]);
    let pfr0 = |host: &IdRegs, config: &IdConfig| {
        IdRegs::for_guest(host, config).get(id(regs::ID_AA64PFR0_EL1::ENCODING))
    };
    let (csv3, csv2, gic) = (1 << 60, 1 << 56, 1 << 24);
    assert_eq!(
        pfr0(
            &none,
            &IdConfig {
                gic: false,
                ..CONFIG
            }
        ) & (csv3 | csv2 | gic),
        0
    );
    assert_eq!(pfr0(&none, &CONFIG) & (csv3 | csv2 | gic), gic);
    assert_eq!(
        pfr0(
            &none,
            &IdConfig {
                spectre_v2_unaffected: true,
                ..CONFIG
            }
        ) & (csv3 | csv2),
        csv2
    );
    assert_eq!(
        pfr0(
            &none,
            &IdConfig {
                meltdown_unaffected: true,
                ..CONFIG
            }
        ) & (csv3 | csv2),
        csv3
    );
    assert_eq!(pfr0(&all, &CONFIG) >> 56, 0x11);
    assert!(IdRegs::for_guest(&all, &CONFIG).has_pointer_auth());
    assert!(!IdRegs::for_guest(
        &all,
        &IdConfig {
            pointer_auth: false,
            ..CONFIG
        }
    )
    .has_pointer_auth());
}

#[test]
fn features_that_are_not_virtualised_are_hidden() {
    use regs::*;
    let guest = IdRegs::for_guest(&host(&[0x7777_7777_7777_7777; HOST_SOURCES.len()]), &CONFIG);
    let hidden = [
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::SVE),
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::AMU),
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::MPAM),
        (ID_AA64PFR1_EL1::ENCODING, ID_AA64PFR1_EL1::SME),
        (ID_AA64PFR1_EL1::ENCODING, ID_AA64PFR1_EL1::MTE),
        (ID_AA64PFR1_EL1::ENCODING, ID_AA64PFR1_EL1::GCS),
        (ID_AA64PFR1_EL1::ENCODING, ID_AA64PFR1_EL1::NMI),
        (ID_AA64DFR0_EL1::ENCODING, ID_AA64DFR0_EL1::PMUVer),
        (ID_AA64DFR0_EL1::ENCODING, ID_AA64DFR0_EL1::PMSVer),
        (ID_AA64DFR0_EL1::ENCODING, ID_AA64DFR0_EL1::TraceBuffer),
        (ID_AA64ISAR1_EL1::ENCODING, ID_AA64ISAR1_EL1::LS64),
        (ID_AA64MMFR2_EL1::ENCODING, ID_AA64MMFR2_EL1::NV),
        (ID_AA64MMFR2_EL1::ENCODING, ID_AA64MMFR2_EL1::CCIDX),
        (ID_AA64MMFR3_EL1::ENCODING, ID_AA64MMFR3_EL1::S1POE),
    ];
    for (encoding, field) in hidden {
        assert_eq!(
            guest.field(encoding, field),
            0,
            "{encoding:?} bit {}",
            field.shift()
        );
    }
    assert_eq!(
        guest.field(ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::CSV2),
        1
    );
}

/// What a guest's kernel looks for in its inner loops, and KVM shows: as the host has it.
#[test]
fn features_that_are_the_hosts() {
    use regs::*;
    let guest = IdRegs::for_guest(&host(&[0x2222_2222_2222_2222; HOST_SOURCES.len()]), &CONFIG);
    for (encoding, field) in [
        (ID_AA64MMFR0_EL1::ENCODING, ID_AA64MMFR0_EL1::ECV),
        (ID_AA64ISAR2_EL1::ENCODING, ID_AA64ISAR2_EL1::WFxT),
        (ID_AA64ISAR2_EL1::ENCODING, ID_AA64ISAR2_EL1::MOPS),
        (ID_AA64MMFR0_EL1::ENCODING, ID_AA64MMFR0_EL1::TGRAN4),
        (ID_AA64MMFR0_EL1::ENCODING, ID_AA64MMFR0_EL1::TGRAN16),
    ] {
        assert_eq!(guest.field(encoding, field), 2, "{encoding:?}");
    }
}

/// What is of EL2, EL3 or an external debugger alone is as the host has it, and as KVM shows it.
/// Where it is not writable KVM takes nothing else of a VM that comes.
#[test]
fn what_is_not_of_el1_is_the_hosts() {
    use regs::*;
    let guest = IdRegs::for_guest(&host(&[0x2222_2222_2222_2222; HOST_SOURCES.len()]), &CONFIG);
    for (encoding, field, writable) in [
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::EL0, true),
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::EL1, true),
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::EL2, true),
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::EL3, true),
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::SEL2, true),
        (ID_AA64MMFR0_EL1::ENCODING, ID_AA64MMFR0_EL1::PARANGE, true),
        (ID_AA64MMFR0_EL1::ENCODING, ID_AA64MMFR0_EL1::SNSMEM, true),
        (ID_AA64MMFR0_EL1::ENCODING, ID_AA64MMFR0_EL1::TGRAN4_2, true),
        (
            ID_AA64MMFR0_EL1::ENCODING,
            ID_AA64MMFR0_EL1::TGRAN16_2,
            true,
        ),
        (
            ID_AA64MMFR0_EL1::ENCODING,
            ID_AA64MMFR0_EL1::TGRAN64_2,
            true,
        ),
        (ID_AA64MMFR0_EL1::ENCODING, ID_AA64MMFR0_EL1::FGT, true),
        (
            ID_AA64MMFR1_EL1::ENCODING,
            ID_AA64MMFR1_EL1::VMIDBits,
            false,
        ),
        (ID_AA64MMFR1_EL1::ENCODING, ID_AA64MMFR1_EL1::VH, false),
        (ID_AA64MMFR1_EL1::ENCODING, ID_AA64MMFR1_EL1::HCX, true),
        (ID_AA64MMFR2_EL1::ENCODING, ID_AA64MMFR2_EL1::FWB, false),
        (ID_AA64MMFR2_EL1::ENCODING, ID_AA64MMFR2_EL1::EVT, false),
        (ID_AA64MMFR4_EL1::ENCODING, ID_AA64MMFR4_EL1::E2H0, false),
        (ID_AA64MMFR4_EL1::ENCODING, ID_AA64MMFR4_EL1::NV_frac, true),
    ] {
        let name = format!("{encoding:?} bit {}", field.shift());
        assert_eq!(guest.field(encoding, field), 2, "{name}");
        let mask = field.mask();
        assert_eq!(id(encoding).writable() & mask == mask, writable, "{name}");
    }
}

#[test]
fn features_that_stop_at_a_version() {
    use regs::*;
    let guest = IdRegs::for_guest(&host(&[0x7777_7777_7777_7777; HOST_SOURCES.len()]), &CONFIG);
    for (encoding, field, most) in [
        (ID_AA64PFR0_EL1::ENCODING, ID_AA64PFR0_EL1::RAS, 2),
        (ID_AA64PFR1_EL1::ENCODING, ID_AA64PFR1_EL1::RAS_frac, 1),
        (ID_AA64DFR0_EL1::ENCODING, ID_AA64DFR0_EL1::DebugVer, 7),
        (ID_AA64PFR1_EL1::ENCODING, ID_AA64PFR1_EL1::CSV2_frac, 1),
        (ID_AA64PFR1_EL1::ENCODING, ID_AA64PFR1_EL1::SSBS, 7),
        (ID_AA64MMFR1_EL1::ENCODING, ID_AA64MMFR1_EL1::HAFDBS, 3),
        (ID_AA64MMFR1_EL1::ENCODING, ID_AA64MMFR1_EL1::PAN, 7),
        (ID_AA64MMFR2_EL1::ENCODING, ID_AA64MMFR2_EL1::VARange, 1),
        (ID_AA64MMFR3_EL1::ENCODING, ID_AA64MMFR3_EL1::TCRX, 1),
        (ID_AA64MMFR3_EL1::ENCODING, ID_AA64MMFR3_EL1::SCTLRX, 1),
        (ID_AA64MMFR3_EL1::ENCODING, ID_AA64MMFR3_EL1::S1PIE, 1),
        (ID_AA64PFR2_EL1::ENCODING, ID_AA64PFR2_EL1::FPMR, 1),
    ] {
        assert_eq!(
            guest.field(encoding, field),
            most,
            "{encoding:?} bit {}",
            field.shift()
        );
    }
}

#[test]
fn lower_is_not_always_safer() {
    use regs::{ID_AA64MMFR0_EL1 as M0, ID_AA64MMFR1_EL1 as M1};
    let limit = IdRegs::for_guest(&host(&[0x5555_5555_5555_5555; HOST_SOURCES.len()]), &CONFIG);
    let set = |encoding, field: Field, value| {
        let reg = id(encoding);
        limit
            .clone()
            .set(&limit, reg, field.with(limit.get(reg), value), false)
            .is_ok()
    };
    // SpecSEI says that speculation may raise an SError: a guest may be told so although it cannot.
    assert_eq!(
        [4, 5, 6, 15].map(|v| set(M1::ENCODING, M1::SpecSEI, v)),
        [false, true, true, true]
    );
    // 0 is "as at stage 1", 1 is none, the others say how far.
    for field in [M0::TGRAN4_2, M0::TGRAN16_2, M0::TGRAN64_2] {
        assert_eq!(
            [0, 1, 2, 3, 5].map(|v| set(M0::ENCODING, field, v)),
            [false, true, false, false, true]
        );
    }
}

macro_rules! fields {
    ($($register:ident { $($field:ident)* })*) => {
        [$($((stringify!($register.$field), regs::$register::ENCODING, regs::$register::$field)),*),*]
    };
}

/// VMMs, and Linux's own test of them (set_id_regs), expect these to be in the mask of writable bits.
#[test]
fn fields_that_userspace_expects_to_be_writable() {
    let fields = fields! {
        ID_AA64DFR0_EL1 { DoubleLock WRPs PMUVer DebugVer }
        ID_AA64ISAR0_EL1 { RNDR TLB TS FHM DP SM4 SM3 SHA3 RDM ATOMIC CRC32 SHA2 SHA1 AES }
        ID_AA64ISAR1_EL1 { LS64 XS I8MM DGH BF16 SPECRES SB FRINTTS LRCPC FCMA JSCVT DPB }
        ID_AA64ISAR2_EL1 { BC RPRES WFxT }
        ID_AA64ISAR3_EL1 { FPRCVT LSUI LSFE FAMINMAX }
        ID_AA64PFR0_EL1 { CSV3 CSV2 DIT SEL2 GIC EL3 EL2 EL1 EL0 }
        ID_AA64PFR1_EL1 { DF2 CSV2_frac SSBS BT }
        ID_AA64MMFR0_EL1 { ECV EXS TGRAN4_2 TGRAN64_2 TGRAN16_2 TGRAN4 TGRAN64 TGRAN16 BIGENDEL0 SNSMEM BIGEND PARANGE }
        ID_AA64MMFR1_EL1 { TIDCP1 AFP HCX ETS TWED SpecSEI PAN LO HPDS HAFDBS }
        ID_AA64MMFR2_EL1 { E0PD BBM TTL AT ST VARange IESB LSM UAO CnP }
        ID_AA64MMFR3_EL1 { S1POE S1PIE SCTLRX TCRX }
        ID_AA64ZFR0_EL1 { F64MM F32MM I8MM SM4 SHA3 BF16 BitPerm AES SVEver }
    };
    for (name, encoding, field) in fields {
        assert_eq!(
            id(encoding).writable() & field.mask(),
            field.mask(),
            "{name}"
        );
    }
}

#[test]
fn a_vm_that_ran_is_fixed() {
    let limit = IdRegs::for_guest(&host(&[0x1111_1111_1111_1111; HOST_SOURCES.len()]), &CONFIG);
    let mut ids = limit.clone();
    let isar0 = id(regs::ID_AA64ISAR0_EL1::ENCODING);
    let lower = regs::ID_AA64ISAR0_EL1::AES.with(limit.get(isar0), 0);
    assert_eq!(ids.set(&limit, isar0, lower, true), Err(IdError::Fixed));
    assert_eq!(ids.set(&limit, isar0, lower, false), Ok(()));
    assert_eq!(ids.set(&limit, isar0, lower, true), Ok(()));
    assert_eq!(
        ids.set(&limit, isar0, limit.get(isar0), true),
        Err(IdError::Fixed)
    );
    assert_eq!(ids.get(isar0), lower);
}

#[test]
fn the_interrupt_controller_is_settled_last() {
    let pfr0 = id(regs::ID_AA64PFR0_EL1::ENCODING);
    let limit = IdRegs::for_guest(&host(&[0; HOST_SOURCES.len()]), &CONFIG);
    let mut ids = limit.clone();
    ids.finalize(false);
    assert_eq!(ids.get(pfr0), limit.get(pfr0) & !(15 << 24));
    ids.finalize(true);
    assert_eq!(ids, limit);
}

#[test]
fn without_aarch32_its_registers_take_anything_and_keep_nothing() {
    // EL0 is 1.
    let limit = IdRegs::for_guest(&host(&[0; HOST_SOURCES.len()]), &CONFIG);
    let mut ids = limit.clone();
    for crm in 1..4 {
        for op2 in 0..8 {
            let reg = id(Encoding::new(3, 0, 0, crm, op2));
            // ID_AFR0, ID_DFR1 and the unallocated two are plainly zero.
            let zero = matches!((crm, op2), (1, 3) | (3, 3) | (3, 5) | (3, 7));
            let answer = ids.set(&limit, reg, 0x1badb, false);
            assert_eq!(
                answer,
                if zero { Err(IdError::Invalid) } else { Ok(()) },
                "{crm} {op2}"
            );
            assert_eq!(ids.set(&limit, reg, 0, false), Ok(()));
            assert_eq!(ids.get(reg), 0);
            assert_eq!(reg.writable(), if zero { 0 } else { u64::from(u32::MAX) });
        }
    }
}

#[test]
fn with_aarch32_its_registers_are_the_hosts() {
    use regs::{ID_AA64PFR0_EL1 as P, ID_DFR0_EL1 as D, ID_MMFR0_EL1 as M0, ID_MMFR4_EL1 as M4};
    let mut host = host(&[0; HOST_SOURCES.len()]);
    let pfr0 = id(P::ENCODING);
    host.assign(pfr0, P::EL0.with(host.get(pfr0), P::EL0_AARCH32));
    for reg in IdReg::aarch32_features() {
        host.assign(reg, 0x3333_3333);
    }
    host.assign(id(D::ENCODING), 0x333_333b);
    host.assign(id(M0::ENCODING), 0xf333_3f33);
    let limit = IdRegs::for_guest(&host, &CONFIG);
    assert!(limit.has_aarch32());
    let set = |encoding, value| {
        limit
            .clone()
            .set(&limit, id(encoding), value, false)
            .is_ok()
    };
    let ordinary = IdReg::aarch32_features()
        .filter(|reg| ![D::ENCODING, M0::ENCODING, M4::ENCODING].contains(&reg.encoding()));
    let mut count = 0;
    for reg in ordinary {
        assert_eq!(limit.get(reg), 0x3333_3333);
        for at in (0..32).step_by(4) {
            let (more, less) = (1 << at, 3 << at);
            assert!(!set(reg.encoding(), 0x3333_3333 + more), "{reg:?}");
            assert!(set(reg.encoding(), 0x3333_3333 - less), "{reg:?}");
        }
        assert!(!set(reg.encoding(), 0x1_3333_3333));
        count += 1;
    }
    assert_eq!(count, 17);
    // No PMU, and self-hosted debug no later than Armv8.8's and no earlier than Armv8's; a PMU of
    // another kind is none.
    assert_eq!(limit.get(id(D::ENCODING)), 0x033_333a);
    for (value, fine) in [
        (0x033_333a, true),
        (0x033_3336, true),
        (0x033_3335, false),
        (0x033_333b, false),
        (0xf33_333a, true),
        (0x333_333a, false),
    ] {
        assert_eq!(set(D::ENCODING, value), fine, "{value:#x}");
    }
    // Shareability is a number with a sign; SError by speculation may be there at any time.
    assert!(set(M0::ENCODING, 0xf333_3f33) && !set(M0::ENCODING, 0x0333_3f33));
    assert!(set(M0::ENCODING, 0xe333_3e33) && !set(M0::ENCODING, 0xf333_3033));
    assert_eq!(limit.get(id(M4::ENCODING)), 0x3033_3333);
    assert!(set(M4::ENCODING, 0x3033_3334) && !set(M4::ENCODING, 0x3033_3332));
}

#[test]
fn implementation_registers() {
    let mut ids = IdRegs::new();
    let midr = id(regs::MIDR_EL1::ENCODING);
    ids.assign(midr, 0x414f_d0c1);
    assert_eq!(
        ids.set_implementation(midr, 0x414f_d0c1, false, true),
        Ok(())
    );
    assert_eq!(
        ids.set_implementation(midr, 1, false, false),
        Err(IdError::Invalid)
    );
    assert_eq!(
        ids.set_implementation(midr, 1, true, true),
        Err(IdError::Fixed)
    );
    assert_eq!(
        ids.set_implementation(midr, 1 << 32, true, false),
        Err(IdError::Invalid)
    );
    assert_eq!(ids.set_implementation(midr, 1, true, false), Ok(()));
    assert_eq!(ids.get(midr), 1);
    let aidr = id(regs::AIDR_EL1::ENCODING);
    assert_eq!(ids.set_implementation(aidr, u64::MAX, true, false), Ok(()));
}

#[test]
fn ctr_can_be_lowered() {
    let ctr = id(regs::CTR_EL0::ENCODING);
    let mut values = [0; HOST_SOURCES.len()];
    // DIC, IDC, 64-byte lines, PIPT.
    values[HOST_SOURCES
        .iter()
        .position(|&source| source == ctr)
        .expect("a source")] = 0xb444_c004;
    let limit = IdRegs::for_guest(&host(&values), &CONFIG);
    assert_eq!(limit.get(ctr), 0xb444_c004);
    let set = |value| limit.clone().set(&limit, ctr, value, false);
    assert_eq!(set(0x9444_c004), Ok(()), "without DIC");
    assert_eq!(set(0x8444_c003), Ok(()), "shorter instruction lines");
    assert_eq!(set(0xb444_8004), Ok(()), "VIPT for PIPT");
    assert_eq!(set(0xb444_4004), Err(IdError::Invalid), "AIVIVT");
    assert_eq!(set(0xb444_0004), Err(IdError::Invalid), "VPIPT");
    assert_eq!(set(0xb444_c005), Err(IdError::Invalid), "longer lines");
    assert_eq!(set(0xb544_c004), Err(IdError::Invalid), "another CWG");
    assert_eq!(
        set(0x3444_c004),
        Err(IdError::Invalid),
        "without the RES1 bit"
    );
}

#[test]
fn a_pmu_by_mistake_is_no_pmu() {
    let limit = IdRegs::for_guest(&host(&[0; HOST_SOURCES.len()]), &CONFIG);
    let mut ids = limit.clone();
    let dfr0 = id(regs::ID_AA64DFR0_EL1::ENCODING);
    assert_eq!(
        ids.set(&limit, dfr0, limit.get(dfr0) | 0xf00, false),
        Ok(())
    );
    assert_eq!(ids, limit);
    assert_eq!(
        ids.set(&limit, dfr0, limit.get(dfr0) | 0x100, false),
        Err(IdError::Invalid)
    );
}

#[test]
fn identification_registers_and_their_places() {
    let mut seen = std::collections::BTreeSet::new();
    for bits in 0..=u16::MAX {
        let encoding = Encoding::from_bits(bits);
        if let Some(reg) = IdReg::new(encoding) {
            assert_eq!(reg.encoding(), encoding);
            assert!(reg.index() < IdReg::COUNT && seen.insert(reg.index()));
            assert!(encoding.is_feature_id());
        }
    }
    assert_eq!(seen.len(), IdReg::COUNT);
}
