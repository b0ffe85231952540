// SPDX-License-Identifier: GPL-2.0
//! PSCI, SMCCC, random numbers and the firmware pseudo registers.

use loft_model::model::psci::{
    self, affinity_info, code, Action, CpuOnOutcome, PsciConfig, SystemEvent, Version,
};
use loft_model::model::smccc::firmware::{FwError, FwReg};
use loft_model::model::smccc::{
    decide, function, ptp, trng, Bitmaps, Call, Counter, Firmware, Mitigation,
};
use proptest::prelude::*;

const NOT_SUPPORTED: u64 = u64::MAX;

const FIRMWARE: Firmware = Firmware {
    psci: PsciConfig {
        version: Version::LATEST,
        system_suspend: false,
    },
    bitmaps: Bitmaps::NEW,
    spectre_v2: Mitigation::Unaffected,
    spectre_v4: Mitigation::Mitigated,
    spectre_bhb: Mitigation::Vulnerable,
    bhb_by_firmware: true,
    ssbs: false,
};

const VERSIONS: [Version; 6] = [
    Version::V0_1,
    Version::V0_2,
    Version::V1_0,
    Version::V1_1,
    Version::V1_2,
    Version::V1_3,
];

fn at(version: Version) -> PsciConfig {
    PsciConfig {
        version,
        system_suspend: false,
    }
}

fn call(function: u32, arguments: [u64; 3]) -> Action {
    psci::decide(&at(Version::LATEST), function, arguments)
}

#[test]
fn versions() {
    for version in VERSIONS {
        assert_eq!(Version::from_bits(version.bits().into()), Some(version));
    }
    assert_eq!(Version::V1_3.bits(), 0x1_0003);
    for bits in [0, 3, 0x1_0004, 0x2_0000, 0x1_0000_0001] {
        assert_eq!(Version::from_bits(bits), None);
    }
    assert_eq!(call(0x8400_0000, [0; 3]), Action::Return(0x1_0003));
    assert_eq!(
        psci::decide(&at(Version::V0_2), 0x8400_0000, [0; 3]),
        Action::Return(2)
    );
    assert_eq!(
        psci::decide(&at(Version::V0_1), 0x8400_0000, [0; 3]),
        Action::Return(-1)
    );
}

#[test]
fn turning_cpus_on() {
    let on = |target, entry, context| Action::CpuOn {
        target,
        entry,
        context,
    };
    let wide = [0x1_0000_0102, 0xffff_8000_4000_0000, u64::MAX];
    assert_eq!(call(0xc400_0003, wide), on(wide[0], wide[1], wide[2]));
    // The 32-bit call sees the lower halves only.
    assert_eq!(call(0x8400_0003, wide), on(0x102, 0x4000_0000, 0xffff_ffff));
    // MPIDR's other bits are no affinity.
    assert_eq!(call(0xc400_0003, [0x8000_0001, 0, 0]), Action::Return(-2));
    assert_eq!(call(0x8400_0003, [0x0100_0001, 0, 0]), Action::Return(-2));
    let codes = |version| {
        [
            CpuOnOutcome::Started,
            CpuOnOutcome::AlreadyOn,
            CpuOnOutcome::NoSuchCpu,
        ]
        .map(|o| o.code(version))
    };
    assert_eq!(codes(Version::V1_0), [0, -4, -2]);
    assert_eq!(codes(Version::V0_2), [0, -4, -2]);
    assert_eq!(codes(Version::V0_1), [0, -2, -2]);
}

#[test]
fn version_0_1_has_its_own_numbers() {
    let old = |function| psci::decide(&at(Version::V0_1), function, [3, 4, u64::MAX]);
    assert_eq!(old(0x95c1_ba5f), Action::CpuOff);
    assert_eq!(
        old(0x95c1_ba60),
        Action::CpuOn {
            target: 3,
            entry: 4,
            context: u64::MAX
        }
    );
    assert_eq!(old(0x95c1_ba5e), Action::Return(-1));
    assert_eq!(old(0x8400_0002), Action::Return(-1));
    assert_eq!(call(0x95c1_ba5f, [0; 3]), Action::Return(-1));
}

#[test]
fn the_ends_of_a_guest() {
    let end = Action::System;
    assert_eq!(call(0x8400_0002, [0; 3]), Action::CpuOff);
    assert_eq!(call(0x8400_0008, [0; 3]), end(SystemEvent::Off));
    assert_eq!(call(0x8400_0009, [0; 3]), end(SystemEvent::Reset));
    for wide in [0, 1 << 30] {
        let reset = |kind| call(0x8400_0012 | wide, [kind, 0, 0]);
        assert_eq!(reset(0), end(SystemEvent::Reset2));
        assert_eq!(reset(0x8000_0000), end(SystemEvent::Reset2));
        assert_eq!(reset(0xffff_ffff), end(SystemEvent::Reset2));
        assert_eq!(reset(1), Action::Return(-2));
        assert_eq!(reset(0x7fff_ffff), Action::Return(-2));
        let off = |kind, cookie| call(0x8400_0015 | wide, [kind, cookie, 0]);
        assert_eq!(off(0, 0), end(SystemEvent::Off2));
        assert_eq!(off(1, 0), end(SystemEvent::Off2));
        assert_eq!(off(2, 0), Action::Return(-2));
        assert_eq!(off(0, 1), Action::Return(-2));
    }
    // A cookie in the upper half counts in the 64-bit call only.
    assert_eq!(call(0xc400_0015, [0, 1 << 32, 0]), Action::Return(-2));
    assert_eq!(call(0x8400_0015, [0, 1 << 32, 0]), end(SystemEvent::Off2));
}

#[test]
fn suspending() {
    assert_eq!(call(0x8400_0001, [0; 3]), Action::Suspend);
    assert_eq!(call(0xc400_0001, [0; 3]), Action::Suspend);
    let user = PsciConfig {
        version: Version::V1_0,
        system_suspend: true,
    };
    for function in [0x8400_000e, 0xc400_000e] {
        assert_eq!(call(function, [0; 3]), Action::Return(-1));
        assert_eq!(psci::features(&at(Version::LATEST), function), -1);
        assert_eq!(psci::decide(&user, function, [0; 3]), Action::SystemSuspend);
        assert_eq!(psci::features(&user, function), 0);
    }
    let old = PsciConfig {
        version: Version::V0_2,
        system_suspend: true,
    };
    assert_eq!(psci::decide(&old, 0x8400_000e, [0; 3]), Action::Return(-1));
}

#[test]
fn each_version_has_its_functions() {
    // Function, first version.
    let since = [
        (0x8400_000au32, Version::V1_0),
        (0x8400_0012, Version::V1_1),
        (0xc400_0012, Version::V1_1),
        (0x8400_0015, Version::V1_3),
        (0xc400_0015, Version::V1_3),
    ];
    for version in VERSIONS.into_iter().skip(1) {
        for (function, first) in since {
            let answered =
                psci::decide(&at(version), function, [0x8400_0000, 0, 0]) != Action::Return(-1);
            assert_eq!(answered, version >= first, "{function:#x} in {version:?}");
            if version >= Version::V1_0 {
                assert_eq!(
                    psci::features(&at(version), function) != -1,
                    version >= first,
                    "{function:#x} in {version:?}"
                );
            }
        }
    }
    assert_eq!(
        psci::features(&at(Version::LATEST), 0x8400_0015),
        1,
        "hibernation is a feature bit"
    );
    assert_eq!(
        psci::features(&at(Version::V1_0), 0x8000_0000),
        0,
        "SMCCC_VERSION is found through PSCI"
    );
    // MIGRATE, CPU_FREEZE, NODE_HW_STATE, MEM_PROTECT.
    for function in [
        0x8400_0005,
        0x8400_000b,
        0x8400_000d,
        0x8400_0013,
        0xc400_0002,
        0xc400_0008,
    ] {
        assert_eq!(call(function, [0; 3]), Action::Return(-1));
        assert_eq!(psci::features(&at(Version::LATEST), function), -1);
    }
    assert_eq!(call(0x8400_0006, [0; 3]), Action::Return(2));
}

#[test]
fn affinity() {
    let info = |target, level| call(0xc400_0004, [target, level, 0]);
    let asks = |mask, value| Action::AffinityInfo { mask, value };
    let target = 0x7_0003_0201;
    assert_eq!(info(target, 0), asks(0xff_00ff_ffff, target));
    assert_eq!(info(target, 1), asks(0xff_00ff_ff00, 0x7_0003_0200));
    assert_eq!(info(target, 2), asks(0xff_00ff_0000, 0x7_0003_0000));
    assert_eq!(info(target, 3), asks(0xff_0000_0000, 0x7_0000_0000));
    assert_eq!(info(target, 4), Action::Return(-2));
    assert_eq!(info(0x8000_0000, 0), Action::Return(-2));
    let vcpus = [
        (0x8000_0000, true),
        (0x8000_0001, false),
        (0x8000_0100, false),
        (0x8000_0101, false),
    ];
    assert_eq!(affinity_info(psci::AFFINITY, 0, vcpus), 0);
    assert_eq!(affinity_info(psci::AFFINITY, 1, vcpus), 1);
    assert_eq!(affinity_info(psci::AFFINITY, 2, vcpus), -2);
    assert_eq!(affinity_info(psci::AFFINITY & !0xff, 0, vcpus), 0);
    assert_eq!(affinity_info(psci::AFFINITY & !0xff, 0x100, vcpus), 1);
}

/// What a call that has nothing but an answer has in x0.
fn x0(firmware: &Firmware, function: u32, first: u64) -> Option<u64> {
    let [x0, ..] = decide(firmware, function, [first, 0, 0], true).answer()?;
    Some(x0)
}

proptest! {
    #[test]
    fn unknown_functions_are_not_supported(function: u32) {
        let known = psci::is_psci(function) || trng::is_trng(function)
            || [0x8000_0000, 0x8000_0001, 0xc500_0020, 0xc500_0021, 0x8600_0000, 0x8600_0001, 0x8600_ff01].contains(&function);
        prop_assume!(!known);
        prop_assert_eq!(decide(&FIRMWARE, function, [0; 3], true), Call::Return([NOT_SUPPORTED, 0, 0, 0]));
    }

    #[test]
    fn random_bits_are_no_more_than_asked_for(n in 0u8..=192, wide: bool) {
        let width = if wide { 64 } else { 32 };
        let bits = if wide { n } else { n / 2 };
        let [x0, x1, x2, x3] = trng::random(bits, wide, [u64::MAX; 3]);
        prop_assert_eq!(x0, 0);
        let ones: Vec<u32> = [x3, x2, x1].into_iter().map(u64::count_ones).collect();
        let expected: Vec<u32> = (0..3).map(|n| u32::from(bits).saturating_sub(n * width).min(width)).collect();
        prop_assert_eq!(ones, expected);
        for (x, n) in [(x3, 0), (x2, 1), (x1, 2)] {
            let bits = u32::from(bits).saturating_sub(n * width).min(width);
            prop_assert_eq!(64 - x.leading_zeros(), bits, "from bit 0 on");
        }
    }
}

#[test]
fn calls_that_only_have_an_answer() {
    let answer = |function, first| decide(&FIRMWARE, function, [first, 0, 0], true).answer();
    assert_eq!(answer(0x8400_0006, 0), Some([2, 0, 0, 0]));
    assert_eq!(answer(0x8400_0005, 0), Some([NOT_SUPPORTED, 0, 0, 0]));
    assert!(answer(0x8600_ff01, 0).is_some_and(|uid| uid[3] != 0));
    // Those that do something: power, stolen time, random bits, the time of day.
    for (function, first) in [
        (0x8400_0001, 0),
        (0x8400_0002, 0),
        (0x8400_0003, 0),
        (0x8400_0004, 0),
        (0x8400_0008, 0),
        (0xc500_0021, 0),
        (0xc400_0053, 64),
        (0x8600_0001, 0),
    ] {
        assert_eq!(answer(function, first), None, "{function:#x}");
    }
}

#[test]
fn speculation_flaws() {
    let ask = |firmware: &Firmware, feature| x0(firmware, function::ARCH_FEATURES, feature);
    let with = |state, ssbs| Firmware {
        spectre_v2: state,
        spectre_v4: state,
        spectre_bhb: state,
        ssbs,
        ..FIRMWARE
    };
    let (v2, v4, bhb) = (0x8000_8000, 0x8000_7fff, 0x8000_3fff);
    for (state, answer, level) in [
        (Mitigation::Vulnerable, NOT_SUPPORTED, 0),
        (Mitigation::Mitigated, 0, 1),
        (Mitigation::Unaffected, 1, 2),
    ] {
        let firmware = with(state, false);
        assert_eq!(
            [ask(&firmware, v2), ask(&firmware, bhb)],
            [Some(answer); 2],
            "{state:?}"
        );
        assert_eq!(
            [
                firmware.get(FwReg::Workaround1),
                firmware.get(FwReg::Workaround3)
            ],
            [level; 2]
        );
    }
    let minus_2 = u64::MAX - 1;
    for (state, ssbs, answer, level) in [
        (Mitigation::Vulnerable, false, NOT_SUPPORTED, 0),
        (Mitigation::Mitigated, false, minus_2, 3),
        (Mitigation::Mitigated, true, NOT_SUPPORTED, 0),
        (Mitigation::Unaffected, true, minus_2, 3),
    ] {
        let firmware = with(state, ssbs);
        assert_eq!(ask(&firmware, v4), Some(answer), "{state:?} {ssbs}");
        assert_eq!(firmware.get(FwReg::Workaround2), level);
    }
    // The upper half of the argument is not looked at.
    assert_eq!(ask(&FIRMWARE, v2 | 1 << 32), ask(&FIRMWARE, v2));
}

#[test]
fn the_vendor_is_kvm() {
    // 28b46fb6-2ec5-11e9-a9ca-4b564d003a74.
    let uid = Call::Return([0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d]);
    assert_eq!(decide(&FIRMWARE, 0x8600_ff01, [0; 3], false), uid);
    assert_eq!(
        decide(&FIRMWARE, 0x8600_0000, [0; 3], false),
        Call::Return([3, 0, 0, 0])
    );
    assert_eq!(
        decide(&FIRMWARE, 0x8600_0001, [0; 3], false),
        Call::Ptp(Counter::Virtual)
    );
    assert_eq!(
        decide(&FIRMWARE, 0x8600_0001, [1, 0, 0], false),
        Call::Ptp(Counter::Physical)
    );
    assert_eq!(
        decide(&FIRMWARE, 0x8600_0001, [2, 0, 0], false),
        Call::Return([NOT_SUPPORTED, 0, 0, 0])
    );
    assert_eq!(
        ptp(0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00),
        [0x1122_3344, 0x5566_7788, 0x99aa_bbcc, 0xddee_ff00]
    );
}

#[test]
fn random_numbers() {
    let ask = |function, first| decide(&FIRMWARE, function, [first, 0, 0], false);
    let value = |x0| Call::Return([x0, 0, 0, 0]);
    assert_eq!(ask(0x8400_0050, 0), value(0x1_0000));
    assert_eq!(ask(0x8400_0051, 0xc400_0053), value(0));
    assert_eq!(ask(0x8400_0051, 0x8600_0001), value(NOT_SUPPORTED));
    assert_eq!(
        ask(0x8400_0052, 0),
        Call::Return([0x00e0_210d, 0xeb11_8443, 0x4452_7080, 0x4c5a_4e55])
    );
    assert_eq!(
        ask(0x8400_0053, 96),
        Call::Random {
            bits: 96,
            wide: false
        }
    );
    assert_eq!(ask(0x8400_0053, 97), value(u64::MAX - 1));
    assert_eq!(
        ask(0xc400_0053, 192),
        Call::Random {
            bits: 192,
            wide: true
        }
    );
    assert_eq!(ask(0xc400_0053, 193), value(u64::MAX - 1));
    assert_eq!(ask(0xc400_0053, 256 + 1), value(u64::MAX - 1));
    let entropy = [
        0x1111_2222_3333_4444,
        0x5555_6666_7777_8888,
        0x9999_aaaa_bbbb_cccc,
    ];
    assert_eq!(
        trng::random(192, true, entropy),
        [0, entropy[2], entropy[1], entropy[0]]
    );
    assert_eq!(trng::random(68, true, entropy), [0, 0, 8, entropy[0]]);
    assert_eq!(trng::random(33, false, entropy), [0, 0, 0, 0x3333_4444]);
    assert_eq!(
        trng::random(96, false, entropy),
        [0, 0xbbbb_cccc, 0x7777_8888, 0x3333_4444]
    );
}

#[test]
fn stolen_time() {
    let ask = |function, first, has| decide(&FIRMWARE, function, [first, 0, 0], has);
    let value = |x0| Call::Return([x0, 0, 0, 0]);
    assert_eq!(ask(0xc500_0020, 0xc500_0021, true), value(0));
    assert_eq!(ask(0xc500_0020, 0xc500_0020, true), value(0));
    assert_eq!(ask(0xc500_0020, 0xc400_0053, true), value(NOT_SUPPORTED));
    assert_eq!(ask(0xc500_0020, 0xc500_0021, false), value(NOT_SUPPORTED));
    assert_eq!(ask(0xc500_0021, 0, true), Call::StolenTime);
    assert_eq!(ask(0xc500_0021, 0, false), value(NOT_SUPPORTED));
    assert_eq!(x0(&FIRMWARE, 0x8000_0001, 0xc500_0020), Some(0));
}

#[test]
fn a_cleared_bit_takes_the_service_away() {
    type Service = (FwReg, u64, &'static [(u32, u64)]);
    let services: [Service; 4] = [
        (
            FwReg::StdBitmap,
            1,
            &[
                (0x8400_0050, 0),
                (0x8400_0051, 0x8400_0050),
                (0x8400_0052, 0),
                (0x8400_0053, 1),
                (0xc400_0053, 1),
            ],
        ),
        (
            FwReg::StdHypBitmap,
            1,
            &[
                (0x8000_0001, 0xc500_0020),
                (0xc500_0020, 0xc500_0021),
                (0xc500_0021, 0),
            ],
        ),
        (
            FwReg::VendorHypBitmap,
            1,
            &[(0x8600_0000, 0), (0x8600_ff01, 0)],
        ),
        (FwReg::VendorHypBitmap, 2, &[(0x8600_0001, 0)]),
    ];
    for (reg, bit, calls) in services {
        let mut without = FIRMWARE;
        assert_eq!(
            without.set(reg, FIRMWARE.get(reg) & !bit, true, false),
            Ok(())
        );
        for &(function, first) in calls {
            let refused = Call::Return([NOT_SUPPORTED, 0, 0, 0]);
            assert_eq!(
                decide(&without, function, [first, 0, 0], true),
                refused,
                "{function:#x}"
            );
            assert_ne!(
                decide(&FIRMWARE, function, [first, 0, 0], true),
                refused,
                "{function:#x}"
            );
        }
    }
}

#[test]
fn bitmap_registers() {
    for (reg, reset, all) in [
        (FwReg::StdBitmap, 1, 1),
        (FwReg::StdHypBitmap, 1, 1),
        (FwReg::VendorHypBitmap, 3, 3),
        (FwReg::VendorHypBitmap2, 0, 3),
    ] {
        let mut firmware = FIRMWARE;
        assert_eq!(firmware.get(reg), reset);
        assert_eq!(
            firmware.set(reg, all + 1, true, false),
            Err(FwError::Invalid)
        );
        assert_eq!(firmware.set(reg, all, true, false), Ok(()));
        assert_eq!(firmware.get(reg), all);
        assert_eq!(firmware.set(reg, 0, true, false), Ok(()));
        // The VM has run: only the value it has.
        assert_eq!(firmware.set(reg, all, true, true), Err(FwError::Busy));
        assert_eq!(firmware.set(reg, 0, true, true), Ok(()));
        assert_eq!(
            firmware.set(reg, 1 << 63, true, true),
            Err(FwError::Invalid)
        );
        assert_eq!(firmware.get(reg), 0);
    }
}

#[test]
fn the_version_register() {
    let mut firmware = FIRMWARE;
    assert_eq!(firmware.get(FwReg::PsciVersion), 0x1_0003);
    for bits in [2, 0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003] {
        assert_eq!(firmware.set(FwReg::PsciVersion, bits, true, true), Ok(()));
        assert_eq!(firmware.get(FwReg::PsciVersion), bits);
        assert_eq!(
            firmware.set(FwReg::PsciVersion, bits, false, false),
            Err(FwError::Invalid)
        );
    }
    assert_eq!(
        firmware.set(FwReg::PsciVersion, 1, true, false),
        Err(FwError::Invalid)
    );
    assert_eq!(firmware.set(FwReg::PsciVersion, 1, false, false), Ok(()));
    assert_eq!(
        firmware.set(FwReg::PsciVersion, 0x1_0004, true, false),
        Err(FwError::Invalid)
    );
    assert_eq!(firmware.get(FwReg::PsciVersion), 1);
}

#[test]
fn workaround_registers() {
    // Unaffected by variant 2 (level 2), protected from 4 (level 3), vulnerable to BHB (level 0).
    let mut firmware = FIRMWARE;
    let mut set = |reg, value| firmware.set(reg, value, true, true);
    for (value, answer) in [
        (0, Ok(())),
        (1, Ok(())),
        (2, Ok(())),
        (3, Err(FwError::Invalid)),
        (0x12, Err(FwError::Invalid)),
    ] {
        assert_eq!(set(FwReg::Workaround1, value), answer, "{value:#x}");
    }
    for (value, answer) in [(0, Ok(())), (1, Err(FwError::Invalid))] {
        assert_eq!(set(FwReg::Workaround3, value), answer, "{value:#x}");
    }
    for (value, fine) in [
        (0, true),
        (1, true),
        (2, true),
        (3, true),
        (0x12, true),
        (4, false),
        (0x10, false),
        (0x13, false),
        (0x22, false),
    ] {
        assert_eq!(set(FwReg::Workaround2, value).is_ok(), fine, "{value:#x}");
    }
    assert_eq!(firmware, FIRMWARE);
    // On a host without a mitigation of variant 4 the guest must not rely on one.
    let mut vulnerable = Firmware {
        spectre_v4: Mitigation::Vulnerable,
        ..FIRMWARE
    };
    for (value, fine) in [(0, true), (1, true), (2, false), (3, false), (0x12, false)] {
        assert_eq!(
            vulnerable
                .set(FwReg::Workaround2, value, true, false)
                .is_ok(),
            fine,
            "{value:#x}"
        );
    }
}

#[test]
fn codes_are_the_specifications() {
    assert_eq!(
        [
            code::DENIED,
            code::ON_PENDING,
            code::INTERNAL_FAILURE,
            code::NOT_PRESENT,
            code::DISABLED,
            code::INVALID_ADDRESS
        ],
        [-3, -5, -6, -7, -8, -9]
    );
}

#[test]
fn workarounds_can_be_called_where_they_are_said_to_be() {
    let [vulnerable, unaffected] =
        [Mitigation::Vulnerable, Mitigation::Unaffected].map(|state| Firmware {
            spectre_v2: state,
            spectre_bhb: state,
            ..FIRMWARE
        });
    for (feature, firmware) in [
        (
            function::ARCH_WORKAROUND_1,
            Firmware {
                spectre_v2: Mitigation::Mitigated,
                ..FIRMWARE
            },
        ),
        (
            function::ARCH_WORKAROUND_3,
            Firmware {
                spectre_bhb: Mitigation::Mitigated,
                ..FIRMWARE
            },
        ),
    ] {
        assert_eq!(
            x0(&firmware, function::ARCH_FEATURES, feature.into()),
            Some(0)
        );
        assert_eq!(x0(&firmware, feature, 0), None);
        assert_eq!(
            decide(&firmware, feature, [0; 3], false),
            Call::Workaround(feature)
        );
        assert_eq!(
            decide(&vulnerable, feature, [0; 3], false),
            Call::Return([NOT_SUPPORTED, 0, 0, 0])
        );
        // Who is not affected need not, but may.
        assert_eq!(
            decide(&unaffected, feature, [0; 3], false),
            Call::Return([0; 4])
        );
    }
    // A machine whose firmware has no such call never makes it.
    let without = Firmware {
        spectre_bhb: Mitigation::Mitigated,
        bhb_by_firmware: false,
        ..FIRMWARE
    };
    assert_eq!(
        decide(&without, function::ARCH_WORKAROUND_3, [0; 3], false),
        Call::Return([0; 4])
    );
}
