// SPDX-License-Identifier: GPL-2.0
//! Exception syndromes, and taking an exception to EL1.

use loft_model::model::esr::{Abort, ErrorExtent, Esr, ExceptionClass, FaultStatus, Wfx};
use loft_model::model::inject::{enter_el1, step_pstate, Before, Vector};
use loft_model::model::sysreg::{regs, Encoding};
use proptest::prelude::*;

#[test]
fn a_store_to_a_device() {
    // EC 0x24, IL, ISV, SAS word, SRT 1, WnR, translation fault at level 3.
    let esr = Esr::new(0x9381_0047);
    assert_eq!(esr.class(), ExceptionClass::DataAbortLower);
    assert!(esr.is_32bit());
    let abort = esr.abort();
    assert!(abort.is_described() && abort.is_write() && !abort.is_instruction());
    assert_eq!((abort.size(), abort.register()), (4, 1));
    assert!(
        !abort.is_sign_extended()
            && !abort.is_64bit()
            && !abort.is_on_walk()
            && !abort.is_cache_maintenance()
    );
    assert_eq!(abort.fault(), FaultStatus::Translation(3));
    assert!(abort.hpfar_is_valid());
}

#[test]
fn a_sign_extending_load() {
    // ldrsb x30: ISV, SAS byte, SSE, SRT 30, SF, AR, no WnR, permission fault at level 2 on a walk.
    let raw =
        0x24 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 30 << 16 | 1 << 15 | 1 << 14 | 1 << 7 | 0x0e;
    let abort = Esr::new(raw).abort();
    assert!(
        abort.is_sign_extended()
            && abort.is_64bit()
            && abort.is_acquire_release()
            && !abort.is_write()
    );
    assert_eq!((abort.size(), abort.register()), (1, 30));
    assert_eq!(abort.fault(), FaultStatus::Permission(2));
    assert!(abort.is_on_walk() && abort.hpfar_is_valid());
    assert!(!Esr::new(raw & !(1 << 7)).abort().hpfar_is_valid());
}

#[test]
fn an_instruction_abort_describes_nothing() {
    // The bits that say ISV, WnR and CM for data are RES0 for instructions.
    let raw = 0x20 << 26 | 1 << 25 | 1 << 24 | 1 << 8 | 1 << 6 | 0x07;
    let abort = Esr::new(raw).abort();
    assert!(
        abort.is_instruction()
            && !abort.is_described()
            && !abort.is_write()
            && !abort.is_cache_maintenance()
    );
}

#[test]
fn single_bits_of_an_abort() {
    let bit = |n: u32| Esr::new(0x24 << 26 | 1 << n).abort();
    assert!(bit(10).far_is_invalid() && !bit(9).far_is_invalid());
    assert!(bit(9).external_kind() && !bit(10).external_kind());
    assert!(bit(8).is_cache_maintenance() && !bit(7).is_cache_maintenance());
}

#[test]
fn userspace_is_told_what_means_something_without_a_description() {
    // Of a store to nowhere: a translation fault at level 3. Of all bits together: CM, WnR and DFSC.
    assert_eq!(Esr::new(0x9200_0047).abort().undescribed_iss(), 0x47);
    assert_eq!(Esr::new(u64::MAX).abort().undescribed_iss(), 0x17f);
}

#[test]
fn external_aborts() {
    let abort = |iss: u64| Esr::new(0x24 << 26 | 1 << 25 | iss).abort();
    // On the access, on a walk, with parity; all but the last with the address in FAR.
    let known = [0x10, 0x15, 0x18, 0x410].map(|iss| abort(iss).is_of_known_address());
    assert_eq!(known, [true, false, true, false]);
    // With S1PTW it was the host's tables, without FEAT_RAS anything is the host's.
    let hosts = [(0x95, true), (0x15, true), (0x10, true), (0x10, false)];
    assert_eq!(
        hosts.map(|(iss, ras)| abort(iss).is_hosts(ras)),
        [true, false, false, true]
    );
    // EC, IL, SET, FnV, EA, CM, WnR and DFSC.
    assert_eq!(Esr::new(u64::MAX).abort().external_esr(true), 0xfe00_1f7f);
    assert_eq!(Esr::new(u64::MAX).abort().external_esr(false), 0xfe00_077f);
}

#[test]
fn fault_addresses() {
    // FIPA is at bit 4 and holds the address from bit 12 on.
    assert_eq!(
        Abort::ipa(0x0090_0000 >> 8, 0xffff_8000_1234_5678).raw(),
        0x0090_0678
    );
    assert_eq!(
        Abort::ipa(1 << 63 | 0xf, 0).raw(),
        0,
        "NS and the low bits are no address"
    );
    assert_eq!(Abort::ipa(u64::MAX, u64::MAX).raw(), 0x00ff_ffff_ffff_ffff);
}

#[test]
fn an_id_register_read() {
    // mrs x5, ID_AA64PFR0_EL1.
    let esr = Esr::new(0x6230_0009 | 5 << 5);
    assert_eq!(esr.class(), ExceptionClass::Sysreg);
    let access = esr.sysreg();
    assert_eq!(
        (access.encoding(), access.rt(), access.is_read()),
        (regs::ID_AA64PFR0_EL1::ENCODING, 5, true)
    );
    // Without the register: a read is reported as such with FEAT_IDST, all else is UNDEFINED.
    assert_eq!(esr.undefined_sysreg(true), esr);
    assert_eq!(esr.undefined_sysreg(false), Esr::undefined(true));
    assert_eq!(
        Esr::new(esr.raw() & !1).undefined_sysreg(true),
        Esr::undefined(true)
    );
    let timer = Esr::build(ExceptionClass::Sysreg, 3 << 20 | 3 << 14 | 14 << 10 | 1);
    assert_eq!(timer.undefined_sysreg(true), Esr::undefined(true));
}

#[test]
fn waiting() {
    let wfx = |ti| Esr::build(ExceptionClass::Wfx, ti).wfx();
    assert_eq!(
        [wfx(0), wfx(1), wfx(2), wfx(3)],
        [Wfx::Wfi, Wfx::Wfe, Wfx::Wfit, Wfx::Wfet]
    );
    assert_eq!(
        [0, 1, 2, 3].map(|ti| (wfx(ti).is_wfe(), wfx(ti).is_timed())),
        [(false, false), (true, false), (false, true), (true, true)]
    );
    assert_eq!(
        Esr::build(ExceptionClass::Wfx, 7 << 5 | 1 << 2 | 2).wfx_register(),
        Some(7)
    );
    assert_eq!(
        Esr::build(ExceptionClass::Wfx, 7 << 5 | 2).wfx_register(),
        None
    );
}

#[test]
fn what_a_guest_is_told() {
    assert_eq!(Esr::undefined(true).raw(), 0x0200_0000);
    assert_eq!(Esr::undefined(false).raw(), 0);
    let (el0, el1) = (0x3c0, 0x3c5);
    assert_eq!(
        Esr::inject_abort(false, el1, FaultStatus::External).raw(),
        0x9600_0010
    );
    assert_eq!(
        Esr::inject_abort(false, el0, FaultStatus::External).raw(),
        0x9200_0010
    );
    assert_eq!(
        Esr::inject_abort(true, el1, FaultStatus::External).raw(),
        0x8600_0010
    );
    assert_eq!(
        Esr::inject_abort(true, el0, FaultStatus::ExternalOnWalk(2)).raw(),
        0x8200_0016
    );
    assert_eq!(
        Esr::inject_abort(false, el1, FaultStatus::AddressSize(0)).raw(),
        0x9600_0000
    );
    assert_eq!(
        Esr::inject_abort(false, 0x3c4, FaultStatus::UnsupportedExclusive).raw(),
        0x9600_0035
    );
    assert_eq!(Esr::serror(0x1_0011).raw(), 0xbe01_0011);
    assert_eq!(Esr::new(0x5600_1234).immediate(), 0x1234);
}

#[test]
fn fault_codes_have_the_manuals_numbers() {
    let known = [
        (0x00, FaultStatus::AddressSize(0)),
        (0x29, FaultStatus::AddressSize(-1)),
        (0x07, FaultStatus::Translation(3)),
        (0x2b, FaultStatus::Translation(-1)),
        (0x09, FaultStatus::AccessFlag(1)),
        (0x0f, FaultStatus::Permission(3)),
        (0x10, FaultStatus::External),
        (0x13, FaultStatus::ExternalOnWalk(-1)),
        (0x17, FaultStatus::ExternalOnWalk(3)),
        (0x18, FaultStatus::Parity),
        (0x1b, FaultStatus::ParityOnWalk(-1)),
        (0x1c, FaultStatus::ParityOnWalk(0)),
        (0x21, FaultStatus::Alignment),
        (0x30, FaultStatus::TlbConflict),
        (0x35, FaultStatus::UnsupportedExclusive),
        (0x11, FaultStatus::Other(0x11)),
    ];
    for (code, fault) in known {
        assert_eq!(FaultStatus::new(code), fault);
    }
    for code in 0..64 {
        assert_eq!(FaultStatus::new(code).code(), code);
    }
    let external: Vec<u8> = (0..64)
        .filter(|&code| FaultStatus::new(code).is_external())
        .collect();
    assert_eq!(
        external,
        [0x10, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f]
    );
    assert_eq!(FaultStatus::new(0x2b).level(), Some(-1));
    assert_eq!(FaultStatus::new(0x21).level(), None);
}

#[test]
fn classes_have_their_numbers() {
    for ec in 0..64 {
        assert_eq!(ExceptionClass::new(ec).number(), ec);
    }
    assert_eq!(ExceptionClass::new(0x16), ExceptionClass::Hvc);
    assert_eq!(
        ExceptionClass::new(0x12),
        ExceptionClass::Other(0x12),
        "AArch32's HVC"
    );
}

proptest! {
    #[test]
    fn an_access_names_its_register(op0 in 0u8..4, op1 in 0u8..8, crn in 0u8..16, crm in 0u8..16, op2 in 0u8..8, rt in 0u8..32, read: bool) {
        let part = |value: u8, at: u32| u32::from(value) << at;
        let iss = part(op0, 20) | part(op2, 17) | part(op1, 14) | part(crn, 10) | part(rt, 5) | part(crm, 1) | u32::from(read);
        let access = Esr::build(ExceptionClass::Sysreg, iss).sysreg();
        prop_assert_eq!(access.encoding(), Encoding::new(op0, op1, crn, crm, op2));
        prop_assert_eq!((access.rt(), access.is_read()), (rt, read));
    }

    #[test]
    fn taking_an_exception(mode in prop_oneof![Just(0u64), Just(4), Just(5), Just(0x10)], flags: u64, pc: u64, vbar: u64, sctlr: u64, vector in 0usize..4) {
        let vectors = [Vector::Sync, Vector::Irq, Vector::Fiq, Vector::SError];
        let pstate = flags & 0xffff_ffe0 | mode;
        let after = enter_el1(&Before { pc, pstate, vbar, sctlr }, vectors[vector]);
        prop_assert_eq!(after.elr, pc);
        prop_assert_eq!(after.spsr, pstate);
        // D1.3.1.5: current EL with SP_EL0, current EL with SP_ELx, lower EL.
        let group = match mode { 4 => 0, 5 => 0x200, 0x10 => 0x600, _ => 0x400 };
        prop_assert_eq!(after.pc, (vbar & !0x7ff) + group + 0x80 * vector as u64);
        let bit = |value: u64, n: u32| value >> n & 1;
        // NZCV 31:28 and DIT 24 stay, DAIF 9:6 are set, EL1h.
        let new = after.pstate;
        for n in [31, 30, 29, 28, 24] {
            prop_assert_eq!(bit(new, n), bit(pstate, n));
        }
        prop_assert_eq!(new & 0x3ff, 0x3c5);
        // PAN 22 by SCTLR.SPAN 23, SSBS 12 by SCTLR.DSSBS 44.
        prop_assert_eq!(bit(new, 22), bit(pstate, 22) | (1 - bit(sctlr, 23)));
        prop_assert_eq!(bit(new, 12), bit(sctlr, 44));
        // UAO 23, SS 21, IL 20, BTYPE 11:10 and everything else are clear.
        prop_assert_eq!(new & !(0xf << 28 | 1 << 24 | 1 << 22 | 1 << 12 | 0x3ff), 0);
    }

    #[test]
    fn an_emulated_instruction_uses_up_btype_and_single_step(pstate: u64) {
        prop_assert_eq!(step_pstate(pstate), pstate & !(3 << 10 | 1 << 21));
    }
}

#[test]
fn how_far_an_error_has_spread() {
    // The class, instruction length; IDS, AET and DFSC are what counts.
    let extent = |iss: u64, ras| Esr::new(0x2f << 26 | 1 << 25 | iss).error_extent(ras);
    for (aet, expected) in [
        (0, ErrorExtent::Uncontained),
        (1, ErrorExtent::Guest),
        (2, ErrorExtent::Harmless),
        (3, ErrorExtent::Guest),
        (4, ErrorExtent::Uncontained),
        (6, ErrorExtent::Harmless),
        (7, ErrorExtent::Uncontained),
    ] {
        assert_eq!(extent(aet << 10 | 0x11, true), expected, "{aet}");
        assert_eq!(extent(aet << 10 | 0x11, false), ErrorExtent::Guest);
        for dfsc in (0..0x40).filter(|dfsc| *dfsc != 0x11) {
            let no_category = aet << 10 | dfsc;
            assert_eq!(extent(no_category, true), ErrorExtent::Uncontained);
            assert_eq!(extent(no_category, false), ErrorExtent::Guest);
        }
        assert_eq!(
            extent(1 << 24 | aet << 10 | 0x11, true),
            ErrorExtent::Guest,
            "implementation defined"
        );
    }
}

#[test]
fn an_error_that_was_recorded_says_what_one_taken_says() {
    for iss in [0, 0x11, 3 << 10 | 1 << 9 | 0x11, 0x1ff_ffff] {
        // DISR_EL1.A.
        assert_eq!(Esr::from_disr(1 << 31 | iss), Esr::serror(iss as u32));
    }
    // One without any syndrome is nobody else's.
    let none = Esr::serror(Esr::NO_SERROR_SYNDROME);
    assert_eq!(none.error_extent(true), ErrorExtent::Guest);
}

#[test]
fn the_quick_ways_to_a_register_agree_with_the_long_one() {
    let sgi1r = regs::ICC_SGI1R_EL1::ENCODING;
    // Every access that the 22 bits can describe, with a few registers.
    for iss in 0..1u64 << 22 {
        if !matches!(iss >> 5 & 31, 0 | 21 | 31) {
            continue;
        }
        let access = Esr::new(0x18 << 26 | 1 << 25 | iss).sysreg();
        let encoding = access.encoding();
        assert_eq!(
            access.is_write_of(sgi1r),
            !access.is_read() && encoding == sgi1r
        );
        let (op0, op1, crn) = (encoding.op0(), encoding.op1(), encoding.crn());
        let expected = (access.is_read() && (op0, op1, crn) == (3, 0, 0) && encoding.crm() < 8)
            .then(|| encoding.crm() << 3 | encoding.op2());
        assert_eq!(access.feature_id(), expected, "{iss:#x}");
    }
}
