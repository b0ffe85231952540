// SPDX-License-Identifier: GPL-2.0
//! The generated constants. `LOFT_GEN` is the folder of `sysreg.rs`, which scripts/gen-sysreg makes
//! from the kernel's arch/arm64/tools/sysreg, from `extra.sysreg` beside this file, and from the
//! other models' `*.sysreg`.

/// One module per register: `regs::SCTLR_EL1::ENCODING`, `regs::SCTLR_EL1::M`,
/// `regs::ID_AA64PFR0_EL1::SVE_IMP`.
#[allow(
    non_snake_case,
    non_upper_case_globals,
    missing_docs,
    dead_code,
    unused_imports,
    clippy::all
)]
pub mod regs {
    use super::super::{Encoding, Field};

    include!(concat!(env!("LOFT_GEN"), "/sysreg.rs"));
}
