// SPDX-License-Identifier: GPL-2.0
//! The module's models, compiled for the machine at hand.

#![no_std]

#[cfg(test)]
extern crate std;

#[path = "../../rust/model/mod.rs"]
pub mod model;
