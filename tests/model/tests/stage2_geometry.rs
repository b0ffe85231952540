// SPDX-License-Identifier: GPL-2.0

//! The shape of stage-2 tables, against the architecture's own rules and known values.

use loft_model::model::stage2::{Geometry, GeometryError, Level};

/// IPA bits: T0SZ, SL0, start level, root tables.
const KNOWN: [(u32, u8, u8, Level, usize); 10] = [
    (32, 32, 0, Level::L2, 4),
    (34, 30, 0, Level::L2, 16),
    (35, 29, 1, Level::L1, 1),
    (36, 28, 1, Level::L1, 1),
    (39, 25, 1, Level::L1, 1),
    (40, 24, 1, Level::L1, 2),
    (42, 22, 1, Level::L1, 8),
    (43, 21, 1, Level::L1, 16),
    (44, 20, 2, Level::L0, 1),
    (48, 16, 2, Level::L0, 1),
];

#[test]
fn known_values() {
    for (ipa_bits, t0sz, sl0, start, tables) in KNOWN {
        let geometry = Geometry::new(ipa_bits, 48).expect("a good geometry");
        assert_eq!(geometry.t0sz(), t0sz, "{ipa_bits}");
        assert_eq!(geometry.sl0(), sl0, "{ipa_bits}");
        assert_eq!(geometry.start_level(), start, "{ipa_bits}");
        assert_eq!(geometry.root_tables(), tables, "{ipa_bits}");
        assert_eq!(geometry.root_size(), tables as u64 * 4096, "{ipa_bits}");
        assert_eq!(geometry.end().raw(), 1 << ipa_bits, "{ipa_bits}");
        assert_eq!(
            geometry.tables_per_map(),
            3 - start.number() as usize,
            "{ipa_bits}"
        );
    }
}

/// DDI 0487, AArch64.S2InvalidSL and AArch64.S2InconsistentSL, for the 4 KiB granule without FEAT_LPA2.
#[test]
fn the_architecture_takes_them() {
    for pa_bits in [32, 36, 40, 42, 44, 48, 52, 56] {
        for ipa_bits in 32..=pa_bits.min(48) {
            let geometry = Geometry::new(ipa_bits, pa_bits).expect("a good geometry");
            let levels = 3 - u32::from(geometry.start_level().number());
            assert!(geometry.start_level() != Level::L0 || pa_bits >= 44);
            let min = levels * 9 + 12 + 1;
            let max = min + 8 + 4;
            assert!(
                (min..=max).contains(&ipa_bits),
                "{ipa_bits} bits do not fit {geometry:?}"
            );
            // The root covers the IPA space and no table of it is idle.
            let covered = geometry.root_tables() as u64 * 512 * geometry.start_level().size();
            assert!(covered >= 1 << ipa_bits);
            assert!(geometry.root_tables() == 1 || covered == 1 << ipa_bits);
            assert!(geometry.root_tables() <= 16);
        }
    }
}

#[test]
fn physical_sizes() {
    // ID_AA64MMFR0_EL1.PARange; what is above 48 bits cannot be reached by these tables.
    for (pa_bits, ps, usable) in [
        (32, 0, 32),
        (36, 1, 36),
        (40, 2, 40),
        (42, 3, 42),
        (44, 4, 44),
        (48, 5, 48),
        (52, 5, 48),
    ] {
        let geometry = Geometry::new(32, pa_bits).expect("a good geometry");
        assert_eq!((geometry.ps(), geometry.pa_bits()), (ps, usable));
    }
}

#[test]
fn what_there_is_not() {
    assert_eq!(Geometry::new(31, 48), Err(GeometryError::TooSmall));
    assert_eq!(Geometry::new(0, 48), Err(GeometryError::TooSmall));
    assert_eq!(Geometry::new(49, 52), Err(GeometryError::TooLarge));
    assert_eq!(Geometry::new(41, 40), Err(GeometryError::TooLarge));
    assert_eq!(Geometry::new(u32::MAX, 48), Err(GeometryError::TooLarge));
    assert_eq!(Geometry::new(40, 41), Err(GeometryError::BadPaBits));
}
