// SPDX-License-Identifier: GPL-2.0

//! The shape of stage-2 tables, against the architecture's own rules and known values.

use loft_model::model::stage2::{Geometry, GeometryError, Granule, Level};

use Granule::{K16, K4, K64};

/// Granule, IPA bits: T0SZ, SL0, start level, root tables.
const KNOWN: [(Granule, u32, u8, u8, Level, usize); 21] = [
    (K4, 32, 32, 0, Level::L2, 4),
    (K4, 34, 30, 0, Level::L2, 16),
    (K4, 35, 29, 1, Level::L1, 1),
    (K4, 36, 28, 1, Level::L1, 1),
    (K4, 39, 25, 1, Level::L1, 1),
    (K4, 40, 24, 1, Level::L1, 2),
    (K4, 42, 22, 1, Level::L1, 8),
    (K4, 43, 21, 1, Level::L1, 16),
    (K4, 44, 20, 2, Level::L0, 1),
    (K4, 48, 16, 2, Level::L0, 1),
    (K16, 32, 32, 1, Level::L2, 1),
    (K16, 40, 24, 1, Level::L2, 16),
    (K16, 41, 23, 2, Level::L1, 1),
    (K16, 48, 16, 2, Level::L1, 2),
    (K64, 32, 32, 0, Level::L3, 8),
    (K64, 33, 31, 1, Level::L2, 1),
    (K64, 34, 30, 1, Level::L2, 1),
    (K64, 45, 19, 1, Level::L2, 8),
    (K64, 46, 18, 2, Level::L1, 1),
    (K64, 47, 17, 2, Level::L1, 1),
    (K64, 48, 16, 2, Level::L1, 1),
];

#[test]
fn known_values() {
    for (granule, ipa_bits, t0sz, sl0, start, tables) in KNOWN {
        let geometry = Geometry::new(granule, ipa_bits, 48).expect("a good geometry");
        let which = format!("{granule:?}, {ipa_bits} bits");
        assert_eq!(geometry.t0sz(), t0sz, "{which}");
        assert_eq!(geometry.sl0(), sl0, "{which}");
        assert_eq!(geometry.start_level(), start, "{which}");
        assert_eq!(geometry.root_tables(), tables, "{which}");
        let size = tables as u64 * granule.page_size();
        assert_eq!(geometry.root_size(), size, "{which}");
        assert_eq!(geometry.end().raw(), 1 << ipa_bits, "{which}");
        let below = 3 - start.number() as usize;
        assert_eq!(geometry.tables_per_map(), below, "{which}");
    }
}

/// DDI 0487, "VMSAv8-64": the sizes of pages and blocks, and the descriptors of a table.
#[test]
fn sizes_of_each_granule() {
    for (granule, page, block, entries) in [
        (K4, 4 << 10, 2 << 20, 512),
        (K16, 16 << 10, 32 << 20, 2048),
        (K64, 64 << 10, 512 << 20, 8192),
    ] {
        assert_eq!(granule.page_size(), page);
        assert_eq!(granule.size(Level::L3), page);
        assert_eq!(granule.size(Level::L2), block);
        assert_eq!(granule.entries(), entries);
        assert!(granule.maps(Level::L2) && granule.maps(Level::L3) && !granule.maps(Level::L0));
        assert_eq!(granule.maps(Level::L1), granule == K4);
    }
    assert_eq!(K4.size(Level::L1), 1 << 30);
}

/// DDI 0487, AArch64.S2InvalidSL and AArch64.S2InconsistentSL, without FEAT_LPA2.
#[test]
fn the_architecture_takes_them() {
    for granule in [K4, K16, K64] {
        let stride = granule.page_shift() - 3;
        for pa_bits in [32, 36, 40, 42, 44, 48, 52, 56] {
            for ipa_bits in 32..=pa_bits.min(48) {
                let geometry = Geometry::new(granule, ipa_bits, pa_bits).expect("a good geometry");
                let levels = 3 - u32::from(geometry.start_level().number());
                assert!(geometry.start_level() != Level::L0 || pa_bits >= 44);
                let min = levels * stride + granule.page_shift() + 1;
                let max = min + (stride - 1) + 4;
                assert!(
                    (min..=max).contains(&ipa_bits),
                    "{ipa_bits} bits do not fit {geometry:?}"
                );
                // The root covers the IPA space and no table of it is idle.
                let table = granule.size(geometry.start_level()) << stride;
                let covered = geometry.root_tables() as u64 * table;
                assert!(covered >= 1 << ipa_bits);
                assert!(geometry.root_tables() == 1 || covered == 1 << ipa_bits);
                assert!(geometry.root_tables() <= 16);
            }
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
        let geometry = Geometry::new(K4, 32, pa_bits).expect("a good geometry");
        assert_eq!((geometry.ps(), geometry.pa_bits()), (ps, usable));
    }
}

#[test]
fn what_there_is_not() {
    assert_eq!(Geometry::new(K4, 31, 48), Err(GeometryError::TooSmall));
    assert_eq!(Geometry::new(K4, 0, 48), Err(GeometryError::TooSmall));
    assert_eq!(Geometry::new(K4, 49, 52), Err(GeometryError::TooLarge));
    assert_eq!(Geometry::new(K4, 41, 40), Err(GeometryError::TooLarge));
    assert_eq!(
        Geometry::new(K4, u32::MAX, 48),
        Err(GeometryError::TooLarge)
    );
    assert_eq!(Geometry::new(K4, 40, 41), Err(GeometryError::BadPaBits));
}
