// SPDX-License-Identifier: GPL-2.0

//! KVM's user ABI: each ioctl is decoded here, checked, and given to the floor below.
//!
//! Numbers, structures and errnos are KVM/arm64's; source: Documentation/virt/kvm/api.rst and
//! include/uapi/linux/kvm.h.

mod capability;
mod device;
mod event;
mod its;
mod one_reg;
mod one_reg_id;
mod run_page;
mod stats;
mod system;
mod user;
mod vcpu;
mod vcpu_events;
mod vgic;
mod vm;
mod vm_attributes;

use crate::host::miscdevice::Node;
use crate::vm::debugfs::AllVms;
use kernel::prelude::*;
use kernel::sync::Arc;
use system::System;

/// The device nodes, there while this lives.
pub(crate) struct Nodes {
    _loft: Pin<KBox<Node<System>>>,
    _kvm: Option<Pin<KBox<Node<System>>>>,
}

impl Nodes {
    /// Registers `/dev/loft`, and with `kvm` also `/dev/kvm`.
    pub(crate) fn register(kvm: bool) -> Result<Self> {
        let dynamic = kernel::bindings::MISC_DYNAMIC_MINOR as i32;
        let system = Arc::new(System::new(AllVms::new()?), GFP_KERNEL)?;
        let node = |name| {
            let system = system.clone();
            KBox::try_pin_init(Node::register(name, dynamic, MODE, system), GFP_KERNEL)
        };
        let loft = node(c"loft")?;
        let kvm = if kvm {
            Some(node(c"kvm").inspect_err(|_| {
                pr_err!("/dev/kvm exists already: KVM is active, load without kvm_node=1\n")
            })?)
        } else {
            None
        };
        Ok(Self {
            _loft: loft,
            _kvm: kvm,
        })
    }
}

/// Who may open a node is for the administrator to say. `scripts/load` installs a rule of udev's
/// for /dev/loft; Debian has one for the name /dev/kvm. Without a rule it is root alone.
const MODE: u16 = 0o600;
