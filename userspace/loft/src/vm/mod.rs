// SPDX-License-Identifier: Apache-2.0
//! A virtual machine over KVM's ioctl ABI: everything here needs an arm64 host.

mod attach;
mod boot;
mod gic;
pub mod host;
mod kick;
mod machine;
mod memory;
mod msi;
mod registers;
pub mod stats;
mod vcpu;

pub use gic::test as test_gic;
pub use host::open;
pub use machine::{allow_files, Machine, Setup};
pub use memory::write_code;
pub use registers::{Name, Registers};
