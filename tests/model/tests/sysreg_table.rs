// SPDX-License-Identifier: GPL-2.0
//! Encodings, fields, the table of system registers, the caches that a guest sees.

use loft_model::model::sysreg::table::{self, Guest, GuestFeatures, Reset, Storage, User, When};
use loft_model::model::sysreg::{cache, lookup, regs, Encoding, Field, IdReg, IdRegs, Reg, TABLE};
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_encoding_keeps_its_parts(op0 in 0u8..4, op1 in 0u8..8, crn in 0u8..16, crm in 0u8..16, op2 in 0u8..8) {
        let e = Encoding::new(op0, op1, crn, crm, op2);
        prop_assert_eq!((e.op0(), e.op1(), e.crn(), e.crm(), e.op2()), (op0, op1, crn, crm, op2));
        prop_assert_eq!(Encoding::from_bits(e.bits()), e);
    }

    #[test]
    fn the_order_is_that_of_the_parts(a: u16, b: u16) {
        let key = |e: Encoding| (e.op0(), e.op1(), e.crn(), e.crm(), e.op2());
        let (a, b) = (Encoding::from_bits(a), Encoding::from_bits(b));
        prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
    }

    #[test]
    fn a_field_is_read_as_it_was_written(shift in 0u8..64, width in 1u8..=64, register: u64, value: u64) {
        let width = width.min(64 - shift);
        let field = Field::new(shift, width);
        let new = field.with(register, value);
        let ones = u128::pow(2, width.into()) - 1;
        prop_assert_eq!(u128::from(field.get(new)), u128::from(value) & ones);
        prop_assert_eq!(new & !field.mask(), register & !field.mask());
        prop_assert_eq!(field.is_set(register), field.get(register) != 0);
        prop_assert_eq!(field.of(value), field.with(0, value));
    }

    #[test]
    fn a_signed_field_extends_its_sign(shift in 0u8..=60, value in -8i64..8, register: u64) {
        let field = Field::signed(shift, 4);
        prop_assert_eq!(field.number(field.with(register, value as u64)), value);
        let field = Field::new(shift, 4);
        prop_assert_eq!(field.number(field.with(register, value as u64)), value & 15);
    }

    #[test]
    fn only_the_rows_are_found(bits: u16) {
        let encoding = Encoding::from_bits(bits);
        let slow = TABLE.iter().find(|row| row.encoding == encoding).map(|row| row.name);
        prop_assert_eq!(lookup(encoding).map(|row| row.name), slow);
    }
}

#[test]
fn encodings_are_packed_as_linux_packs_them() {
    // sys_reg(3, 0, 0, 4, 0) and the ONE_REG identifier of ID_AA64PFR0_EL1.
    assert_eq!(regs::ID_AA64PFR0_EL1::ENCODING.linux(), 0x18_0400);
    assert_eq!(regs::ID_AA64PFR0_EL1::ENCODING.bits(), 0xc020);
    assert_eq!(regs::CNTV_CTL_EL0::ENCODING.bits(), 0xdf19);
}

#[test]
fn generated_constants_are_the_architectures() {
    assert_eq!(regs::SCTLR_EL1::M.mask(), 1);
    assert_eq!(regs::SCTLR_EL1::EE.mask(), 1 << 25);
    assert_eq!(regs::ID_AA64PFR0_EL1::SVE.mask(), 0xf << 32);
    assert_eq!(regs::ID_AA64PFR0_EL1::SVE_IMP, 1);
    assert!(regs::ID_AA64PFR0_EL1::FP.is_signed());
    // A layout that registers share, a VHE alias, and a register of ours.
    assert_eq!(regs::TTBR0_EL1::ASID.mask(), 0xffff << 48);
    assert_eq!(regs::SCTLR_EL12::ENCODING, Encoding::new(3, 5, 1, 0, 0));
    assert_eq!(regs::SCTLR_EL12::M, regs::SCTLR_EL1::M);
    assert_eq!(regs::DBGBVR15_EL1::ENCODING, Encoding::new(2, 0, 0, 15, 4));
}

/// Offsets in IHI 0069, sections 12.9 (GICD), 12.11 (GICR) and 12.19 (GITS).
#[test]
fn registers_in_memory_are_where_the_specification_has_them() {
    assert_eq!(regs::GICD_TYPER::OFFSET, 0x0004);
    assert_eq!(regs::GICD_ISENABLER::at(31), 0x017c);
    assert_eq!(regs::GICD_ICPENDR::OFFSET, 0x0280);
    assert_eq!(regs::GICD_IPRIORITYR::at(254), 0x07f8);
    assert_eq!(regs::GICD_ICFGR::at(63), 0x0cfc);
    assert_eq!(regs::GICD_IROUTER::at(32), 0x6100);
    assert_eq!(regs::GICD_PIDR2::OFFSET, 0xffe8);
    assert_eq!(regs::GICR_TYPER::OFFSET, 0x0008);
    assert_eq!(regs::GICR_PENDBASER::OFFSET, 0x0078);
    assert_eq!(regs::GICR_ISACTIVER0::OFFSET, 0x1_0300);
    assert_eq!(regs::GICR_ICFGR0::at(1), 0x1_0c04);
    assert_eq!(regs::GITS_CREADR::OFFSET, 0x0090);
    assert_eq!(regs::GITS_BASER::at(7), 0x0138);
    assert_eq!(regs::GITS_TRANSLATER::OFFSET, 0x1_0040);
    assert_eq!(regs::GICD_CTLR::DS.mask(), 1 << 6);
    assert_eq!(regs::GICR_PENDBASER::PTZ.mask(), 1 << 62);
    assert_eq!(regs::GITS_BASER::Type.mask(), 7 << 56);
    assert_eq!(regs::GITS_COMMAND_0::Command_MAPTI, 0x0a);
    assert_eq!(regs::GITS_COMMAND_0::Command_MOVALL, 0x0e);
}

/// The list registers' fields: IHI 0069, section 12.4.
#[test]
fn list_registers_are_the_architectures() {
    use loft_model::model::vgic::{hcr, lr, vmcr};
    assert_eq!((lr::PENDING, lr::ACTIVE), (1 << 62, 1 << 63));
    assert_eq!(lr::STATE, 3 << 62);
    assert_eq!((lr::HW, lr::GROUP1, lr::EOI), (1 << 61, 1 << 60, 1 << 41));
    assert_eq!((lr::PRIORITY_SHIFT, lr::PHYSICAL_SHIFT), (48, 32));
    assert_eq!((hcr::EN, hcr::LRENPIE, hcr::TDIR), (1, 1 << 2, 1 << 14));
    assert_eq!((hcr::EOICOUNT_SHIFT, hcr::EOICOUNT_MASK), (27, 0x1f));
    assert_eq!((vmcr::VEOIM, vmcr::VPMR_SHIFT), (1 << 9, 24));
}

#[test]
fn every_row_is_found_by_its_encoding() {
    for row in TABLE {
        assert_eq!(lookup(row.encoding).map(|found| found.name), Some(row.name));
    }
}

#[test]
fn a_context_register_has_one_row() {
    let mut rows = vec![0; Reg::COUNT];
    for reg in TABLE.iter().filter_map(|row| row.context()) {
        rows[reg.index()] += 1;
    }
    assert!(rows.iter().all(|&n| n == 1), "{rows:?}");
}

#[test]
fn a_context_register_is_its_row_s() {
    for row in TABLE {
        if let Some(reg) = row.context() {
            assert_eq!(format!("{reg:?}"), row.name);
        }
    }
}

#[test]
fn where_a_value_is() {
    let storage = |encoding| lookup(encoding).expect("a row").storage;
    assert_eq!(
        storage(regs::SCTLR_EL1::ENCODING),
        Storage::Loaded(Reg::SCTLR_EL1)
    );
    assert_eq!(
        storage(regs::APIBKEYLO_EL1::ENCODING),
        Storage::Loaded(Reg::APIBKEYLO_EL1)
    );
    assert_eq!(
        storage(regs::APIAKEYLO_EL1::ENCODING),
        Storage::SwitchedAtEntry(Reg::APIAKEYLO_EL1)
    );
    assert_eq!(
        storage(regs::MDSCR_EL1::ENCODING),
        Storage::Debug(Reg::MDSCR_EL1)
    );
    assert_eq!(
        storage(regs::CSSELR_EL1::ENCODING),
        Storage::Memory(Reg::CSSELR_EL1)
    );
}

#[test]
fn core_registers_are_no_system_registers_of_userspace() {
    let all = GuestFeatures::new(&IdRegs::new(), true);
    for encoding in [
        regs::SP_EL1::ENCODING,
        regs::ELR_EL1::ENCODING,
        regs::SPSR_EL1::ENCODING,
    ] {
        let row = lookup(encoding).expect("a row");
        assert!(!row.is_listed(all), "{}", row.name);
        assert!(
            row.guest.is_undefined(false) && row.guest.is_undefined(true),
            "{}",
            row.name
        );
    }
}

#[test]
fn rows_make_sense() {
    for row in TABLE {
        let stored = row.context().is_some();
        assert_eq!(
            matches!(row.reset, Reset::Elsewhere),
            !stored,
            "{}: reset and storage",
            row.name
        );
        assert_eq!(
            matches!(row.storage, Storage::Id(_)),
            matches!(row.user, User::IdReg | User::Implementation),
            "{}",
            row.name
        );
        if row.guest == Guest::RazWi {
            assert_eq!(row.storage, Storage::Const(0), "{}", row.name);
        }
        if let Storage::Id(id) = row.storage {
            assert_eq!(id.encoding(), row.encoding);
            assert_eq!(id.is_implementation(), row.user == User::Implementation);
        }
    }
}

#[test]
fn what_loft_does_not_virtualise_has_no_row() {
    use regs::*;
    let hidden = [
        POR_EL1::ENCODING,
        POR_EL0::ENCODING,
        ZCR_EL1::ENCODING,
        SMCR_EL1::ENCODING,
        SCXTNUM_EL1::ENCODING,
        PMSELR_EL0::ENCODING,
        TRFCR_EL1::ENCODING,
        GCSCR_EL1::ENCODING,
        MPAM1_EL1::ENCODING,
        CCSIDR2_EL1::ENCODING,
        SMIDR_EL1::ENCODING,
        HCR_EL2::ENCODING,
        // Implementation defined.
        Encoding::new(3, 0, 11, 0, 0),
        Encoding::new(3, 7, 15, 2, 1),
    ];
    for encoding in hidden {
        assert!(lookup(encoding).is_none(), "{encoding:?}");
    }
}

#[test]
fn directions_of_access() {
    let refused = |encoding, write| lookup(encoding).expect("a row").guest.is_undefined(write);
    assert!(!refused(regs::OSLAR_EL1::ENCODING, true) && refused(regs::OSLAR_EL1::ENCODING, false));
    assert!(refused(regs::OSLSR_EL1::ENCODING, true) && !refused(regs::OSLSR_EL1::ENCODING, false));
    assert!(
        refused(regs::ICC_SGI1R_EL1::ENCODING, false)
            && !refused(regs::ICC_SGI1R_EL1::ENCODING, true)
    );
    assert!(refused(regs::CNTVCT_EL0::ENCODING, true));
    assert!(!refused(regs::ACTLR_EL1::ENCODING, true));
    assert!(
        refused(regs::FPEXC32_EL2::ENCODING, true) && refused(regs::FPEXC32_EL2::ENCODING, false)
    );
    assert!(refused(regs::DC_CISW::ENCODING, false) && !refused(regs::DC_CISW::ENCODING, true));
    assert!(refused(regs::ID_AA64ISAR0_EL1::ENCODING, true));
}

#[test]
fn features_decide_what_exists() {
    let key = lookup(regs::APIAKEYLO_EL1::ENCODING).expect("a row");
    let sgi = lookup(regs::ICC_SGI1R_EL1::ENCODING).expect("a row");
    let ras = lookup(regs::ERRIDR_EL1::ENCODING).expect("a row");
    let injection = lookup(regs::ERXPFGF_EL1::ENCODING).expect("a row");
    let lor = lookup(regs::LORC_EL1::ENCODING).expect("a row");
    let counter = lookup(regs::CNTPCTSS_EL0::ENCODING).expect("a row");
    let nothing = GuestFeatures::new(&IdRegs::new(), false);
    for row in [key, sgi, ras, injection, lor, counter] {
        assert!(
            !row.exists(nothing) && !row.is_listed(nothing),
            "{}",
            row.name
        );
    }
    assert!(!nothing.idst() && !nothing.timed_waits());
    let mut ids = IdRegs::new();
    let mut set =
        |encoding, value| ids.assign(IdReg::new(encoding).expect("an ID register"), value);
    set(
        regs::ID_AA64ISAR1_EL1::ENCODING,
        regs::ID_AA64ISAR1_EL1::GPI.of(1),
    );
    set(
        regs::ID_AA64PFR0_EL1::ENCODING,
        regs::ID_AA64PFR0_EL1::RAS.of(1),
    );
    set(
        regs::ID_AA64MMFR1_EL1::ENCODING,
        regs::ID_AA64MMFR1_EL1::LO.of(1),
    );
    set(
        regs::ID_AA64MMFR2_EL1::ENCODING,
        regs::ID_AA64MMFR2_EL1::IDS.of(1),
    );
    set(
        regs::ID_AA64MMFR0_EL1::ENCODING,
        regs::ID_AA64MMFR0_EL1::ECV.of(1),
    );
    set(
        regs::ID_AA64ISAR2_EL1::ENCODING,
        regs::ID_AA64ISAR2_EL1::WFxT.of(2),
    );
    // Version 1.1 of FEAT_RAS is in either of two fields.
    assert!(!injection.exists(GuestFeatures::new(&ids, true)));
    let mut frac = ids.clone();
    frac.assign(IdReg::AA64PFR1, regs::ID_AA64PFR1_EL1::RAS_frac.of(1));
    assert!(injection.exists(GuestFeatures::new(&frac, true)));
    ids.assign(IdReg::AA64PFR0, regs::ID_AA64PFR0_EL1::RAS.of(2));
    for (row, register, field) in [
        (
            regs::TCR2_EL1::ENCODING,
            regs::ID_AA64MMFR3_EL1::ENCODING,
            regs::ID_AA64MMFR3_EL1::TCRX,
        ),
        (
            regs::SCTLR2_EL1::ENCODING,
            regs::ID_AA64MMFR3_EL1::ENCODING,
            regs::ID_AA64MMFR3_EL1::SCTLRX,
        ),
        (
            regs::PIR_EL1::ENCODING,
            regs::ID_AA64MMFR3_EL1::ENCODING,
            regs::ID_AA64MMFR3_EL1::S1PIE,
        ),
        (
            regs::FPMR::ENCODING,
            regs::ID_AA64PFR2_EL1::ENCODING,
            regs::ID_AA64PFR2_EL1::FPMR,
        ),
    ] {
        let row = lookup(row).expect("a row");
        assert!(
            !row.is_listed(GuestFeatures::new(&ids, true)),
            "{}",
            row.name
        );
        let mut with = ids.clone();
        with.assign(IdReg::new(register).expect("an ID register"), field.of(1));
        assert!(
            row.is_listed(GuestFeatures::new(&with, true)),
            "{}",
            row.name
        );
    }
    let all = GuestFeatures::new(&ids, true);
    for row in [key, sgi, ras, injection, lor, counter] {
        assert!(row.exists(all), "{}", row.name);
    }
    assert!(all.idst() && all.timed_waits());
    assert!(key.is_listed(all) && !sgi.is_listed(all) && !counter.is_listed(all));
    assert!(all.has(When::Always) && nothing.has(When::Always));
}

#[test]
fn reset_values() {
    assert_eq!(table::RESET_PSTATE, 0x3c5);
    assert_eq!(table::RESET_SCTLR, 0x00c5_0078);
    assert_eq!(table::mpidr(0), 0x8000_0000);
    assert_eq!(table::mpidr(15), 0x8000_000f);
    assert_eq!(table::mpidr(16), 0x8000_0100);
    assert_eq!(table::mpidr(511), 0x8000_1f0f);
    assert_eq!(table::mpidr(0x12345), 0x8012_3405);
    let reset = |identity| {
        let mut context = [u64::MAX; Reg::COUNT];
        for (reg, value) in table::reset_values(17, 0x8444_c004, identity) {
            context[reg.index()] = value;
        }
        move |reg: Reg| context[reg.index()]
    };
    let value = reset(true);
    assert_eq!(value(Reg::MPIDR_EL1), 0x8000_0101);
    assert_eq!(value(Reg::SCTLR_EL1), 0x00c5_0078);
    assert_eq!(value(Reg::OSLSR_EL1), 8);
    assert_eq!(value(Reg::FPEXC32_EL2), 0x700);
    assert_eq!(value(Reg::CLIDR_EL1), cache::clidr(0x8444_c004));
    assert_eq!(value(Reg::SP_EL1), 0);
    assert_eq!(value(Reg::DBGWCR15_EL1), 0);
    // Again: all but what userspace may have set.
    let value = reset(false);
    assert_eq!(value(Reg::MPIDR_EL1), u64::MAX);
    assert_eq!(value(Reg::CLIDR_EL1), u64::MAX);
    assert_eq!(value(Reg::SCTLR_EL1), 0x00c5_0078);
}

#[test]
fn os_lock_is_all_that_userspace_may_change() {
    assert_eq!(table::set_oslsr(8), Some(8));
    assert_eq!(table::set_oslsr(10), Some(10));
    for value in [0, 1, 2, 9, 12, 8 | 1 << 40] {
        assert_eq!(table::set_oslsr(value), None, "{value:#x}");
    }
}

#[test]
fn caches_follow_ctr() {
    const DIC: u64 = 1 << 29;
    const IDC: u64 = 1 << 28;
    // LoC 26:24, LoUU 29:27, LoUIS 23:21, Ctype1 2:0, Ctype2 5:3.
    assert_eq!(cache::clidr(0), 1 << 24 | 1 << 27 | 1 << 21 | 0b011);
    assert_eq!(cache::clidr(DIC), 1 << 24 | 1 << 27 | 1 << 21 | 0b010);
    assert_eq!(cache::clidr(IDC), 2 << 24 | 0b100 << 3 | 0b001);
    assert_eq!(cache::clidr(DIC | IDC), 1 << 24 | 0b100);
    // 64-byte data lines, 32-byte instruction lines: log2(words) 4 and 3.
    let ctr = 4 << 16 | 3;
    assert_eq!(cache::ccsidr(ctr, 0), 2);
    assert_eq!(cache::ccsidr(ctr, 1), 1);
    let mut caches = cache::Geometries::default();
    assert!(!caches.set(ctr, 0, 1) && !caches.set(ctr, 1, 0) && !caches.set(ctr, 14, 2));
    assert_eq!((caches.get(ctr, 0), caches.get(ctr, 1)), (2, 1));
    assert!(caches.set(ctr, 0, 0x7fe01a) && caches.set(ctr, 13, 3));
    assert_eq!((caches.get(ctr, 0), caches.get(ctr, 1)), (0x7fe01a, 1));
    assert_eq!((caches.get(ctr, 13), caches.get(ctr, 14)), (3, 2));
}

proptest! {
    #[test]
    fn userspace_may_set_the_clidr_it_was_given(ctr: u64) {
        prop_assert_eq!(cache::set_clidr(ctr, cache::clidr(ctr)), Some(cache::clidr(ctr)));
    }

    #[test]
    fn no_clidr_denies_a_needed_clean(value: u64) {
        let value = value & !regs::CLIDR_EL1::RES0;
        let has_point = value >> 24 & 7 != 0 && (value >> 21 & 7 != 0 || value >> 27 & 7 != 0);
        prop_assert_eq!(cache::set_clidr(0, value).is_some(), has_point);
        prop_assert!(cache::set_clidr(1 << 28, value).is_some());
        prop_assert_eq!(cache::set_clidr(1 << 28, value | 1 << 63), None);
    }
}
