// SPDX-License-Identifier: GPL-2.0

//! loft: a hypervisor for 64-bit Arm servers with VHE, as a loadable module.
//!
//! The floors, each using only those below it:
//!
//! - [`abi`]: KVM's user ABI, decoded at the door
//! - [`vm`]: a virtual machine: memory, interrupts, events
//! - [`vcpu`]: a virtual CPU: the run loop, fast and slow exits, its registers
//! - [`model`]: pure models of hardware; no Linux and no `unsafe` in them
//! - [`host`]: Linux, where the kernel crate has no abstraction yet
//! - [`arch`]: the CPU
//!
//! `unsafe` is allowed in the last two only.

#![deny(unsafe_code)]

use kernel::prelude::*;

mod abi;
#[allow(unsafe_code)]
mod arch;
#[allow(unsafe_code)]
mod host;
// Public, for the models' items are judged by the package that tests them as well.
pub mod model;
mod vcpu;
mod vm;

// What the models have from the CPU, under the name that the package which tests them has for it.
use arch::speculation;

module! {
    type: Loft,
    name: "loft",
    authors: ["The loft developers"],
    description: "Hypervisor for 64-bit Arm servers with VHE",
    license: "GPL",
    params: {
        kvm_node: u8 {
            default: 0,
            description: "1: also register the name /dev/kvm, for programs that cannot be told a device path",
        },
        fast: u8 {
            default: 1,
            description: "0: answer every exit the slow way (for comparing the two)",
        },
        poll_us: u32 {
            default: 50,
            description: "for how many microseconds at most a waiting vCPU looks for something to do before it sleeps; 0: not at all",
        },
        errata: u32 {
            default: 0,
            description: "work around these errata although the CPUs do not have them, as bits (for tests; LOFT_* in rust/host/shim.h)",
        },
    },
}

struct Loft {
    // Fields are dropped in this order: no new VM can come before the interrupts are given back.
    _nodes: abi::Nodes,
    _machine: Pin<KBox<host::machine::Machine>>,
}

impl kernel::Module for Loft {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let _ = module;
        arch::cpu::probe(number(module_parameters::errata.value()))?;
        let machine = host::machine::Machine::new()?;
        host::sync::init_statics();
        host::guest::init();
        let nodes = abi::Nodes::register(number::<u8>(module_parameters::kvm_node.value()) != 0)?;
        Ok(Loft {
            _nodes: nodes,
            _machine: machine,
        })
    }
}

/// Whether exits are answered in the vector (the parameter `fast`).
fn fast_exits() -> bool {
    number::<u8>(module_parameters::fast.value()) != 0
}

/// The longest time that a waiting vCPU looks for something to do before it sleeps (the parameter `poll_us`), in nanoseconds.
fn most_polling_ns() -> i64 {
    i64::from(number::<u32>(module_parameters::poll_us.value())).saturating_mul(1000)
}

/// The value of a parameter, which is lent in Linux 7.2 and given in 7.3.
fn number<T: Copy>(value: impl core::borrow::Borrow<T>) -> T {
    *value.borrow()
}
