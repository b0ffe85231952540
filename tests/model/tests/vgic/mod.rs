// SPDX-License-Identifier: GPL-2.0

//! What the tests of the interrupt controller share.

// Each test program uses a part of it.
#![allow(dead_code)]

pub mod cpu;
pub mod lpis;
pub mod machine;
pub mod reference;
pub mod storage;
