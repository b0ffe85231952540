// SPDX-License-Identifier: GPL-2.0

//! ioeventfds, irqfds and the routing of GSIs.

use kernel::prelude::*;

/// A VM's events.
#[pin_data]
pub(crate) struct Events {}

impl Events {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {})
    }

    /// Signals the ioeventfd that waits for this store; false if none does.
    pub(crate) fn store(&self, _ipa: u64, _data: u64, _size: u8) -> bool {
        false
    }

    /// KVM_IRQFD.
    pub(crate) fn irqfd(&self, _vm: &super::Vm, _request: crate::host::ffi::kvm_irqfd) -> Result<isize> {
        Err(ENOTTY)
    }

    /// KVM_IOEVENTFD.
    pub(crate) fn ioeventfd(&self, _request: crate::host::ffi::kvm_ioeventfd) -> Result<isize> {
        Err(ENOTTY)
    }

    /// KVM_SET_GSI_ROUTING.
    pub(crate) fn set_routing(&self, _vm: &super::Vm, _address: usize) -> Result<isize> {
        Err(ENOTTY)
    }

    /// The VM's file has been closed.
    pub(crate) fn close(&self) {}

    /// The guest has deactivated these SPIs: their resamplers are told.
    pub(crate) fn deactivated(&self, _vm: &super::Vm, _spis: &[u64; 16]) {}
}
