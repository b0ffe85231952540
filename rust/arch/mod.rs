// SPDX-License-Identifier: GPL-2.0

//! The CPU: its system registers, barriers, maintenance operations and features. Sections are the
//! Arm ARM's (DDI 0487) and the GIC architecture's (IHI 0069).

#[macro_use]
mod sysreg;
pub(crate) mod cache;
pub(crate) mod cpu;
pub(crate) mod debug;
pub(crate) mod el1;
pub(crate) mod fp;
pub(crate) mod frame;
pub(crate) mod gic;
pub(crate) mod guest_mode;
pub(crate) mod meltdown;
mod midr;
mod mpam;
pub(crate) mod spectre_bhb;
pub(crate) mod speculation;
pub(crate) mod timer;
pub(crate) mod tlb;
pub(crate) mod wait;

pub(crate) use sysreg::{dmb, dsb_ish, dsb_ishst, isb, relax, write_hcr};
