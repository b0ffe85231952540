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
}

struct Loft {
    // Fields are dropped in this order: no new VM can come before the interrupts are given back.
    _nodes: abi::Nodes,
    _samples: Option<host::perf::GuestSamples>,
    _machine: Pin<KBox<host::percpu_irq::Machine>>,
    // Last: what the VMs have left is dropped before the module goes.
    _retirement: host::rcu_arc::Retirement,
}

impl kernel::Module for Loft {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let _ = module;
        arch::cpu::probe(host::module::pretended_errata())?;
        let retirement = host::rcu_arc::Retirement::new()?;
        let machine = host::percpu_irq::Machine::new::<arch::spectre_bhb::Prepare>()?;
        host::sync::init_statics();
        host::context_tracking::init();
        let nodes = abi::Nodes::register(host::module::kvm_node())?;
        let samples = host::perf::GuestSamples::register();
        greet();
        Ok(Loft {
            _nodes: nodes,
            _samples: samples,
            _machine: machine,
            _retirement: retirement,
        })
    }
}

/// Says what guests get here: of all that was found, what a report of a fault has to name.
fn greet() {
    let cpu = arch::cpu::features();
    pr_info!(
        "{}: VHE, {}, addresses of up to {} bits, VMIDs of {} bits, GICv3 with {} list registers, \
         fast exits {}, waits in the vector of up to {} us, polling for up to {} us\n",
        host::module::version(),
        if host::kvm::is_on() {
            "beside KVM"
        } else {
            "KVM is off"
        },
        cpu.pa_bits.min(48),
        cpu.vmid_bits,
        cpu.list_registers,
        if host::module::fast_exits() {
            "on"
        } else {
            "off"
        },
        host::module::max_wait_ns() / 1000,
        host::module::max_poll_ns() / 1000,
    );
}
