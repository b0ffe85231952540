// SPDX-License-Identifier: GPL-2.0

//! Pure models of hardware.
//!
//! Nothing in here knows Linux: `core` only, no allocation, no `unsafe`. The same files are
//! compiled into the module and into the Cargo package `tests/model`, where they run on any
//! machine; paths start with `crate::model` or `super` so that both find them. One thing they have
//! from whoever compiles them: `crate::speculation`, with which they look up what a guest names by
//! a number, so that a CPU that guesses does not look elsewhere.

#![forbid(unsafe_code)]
// In the module this is a private tree, in the test package a public one: `pub` is right in one of
// them only.
#![allow(unreachable_pub)]

pub mod aarch32;
pub mod bitset;
pub mod esr;
pub mod inject;
pub mod invalidate;
pub mod its;
pub mod mops;
pub mod onereg;
pub mod psci;
pub mod smccc;
pub mod stage1;
pub mod stage2;
pub mod sysreg;
pub mod timer;
pub mod types;
pub mod vcpus;
pub mod vgic;
