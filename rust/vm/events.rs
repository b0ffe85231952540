// SPDX-License-Identifier: GPL-2.0

//! Events that go around userspace: stores of the guest's that signal an eventfd ([`ioeventfd`]),
//! eventfds that raise an interrupt ([`irqfd`]), and which interrupt that is ([`routing`]).

pub(crate) mod ioeventfd;
pub(super) mod irqfd;
pub(crate) mod routing;

use crate::host::eventfd::EventFd;
use crate::host::preempt::PreemptDisabled;
use ioeventfd::{Ioeventfds, Key};
use irqfd::{InterruptSink, Irqfds};
use kernel::prelude::*;
use kernel::sync::Arc;
use routing::Routing;

/// A VM's events.
#[pin_data]
pub(crate) struct Events<V: InterruptSink> {
    #[pin]
    ioeventfds: Ioeventfds,
    /// Apart from the VM, because work that is queued refers to them.
    irqfds: Arc<Irqfds<V>>,
}

impl<V: InterruptSink> Events<V> {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            ioeventfds <- Ioeventfds::new(),
            irqfds: Irqfds::new()?,
        }? Error)
    }

    pub(super) fn irqfds(&self) -> &Arc<Irqfds<V>> {
        &self.irqfds
    }

    /// Signals the ioeventfd that waits for this store of `size` bytes, the upper ones of `data`
    /// being zero; false if none does, or if `device` finds that the address is not a device's.
    /// Does not sleep.
    pub(crate) fn store(
        &self,
        preempt: PreemptDisabled<'_>,
        ipa: u64,
        data: u64,
        size: u8,
        device: impl FnOnce() -> bool,
    ) -> bool {
        self.ioeventfds.store(preempt, ipa, data, size, device)
    }

    /// Has the stores that `key` describes signal the eventfd `fd` from now on. `EEXIST`: some of
    /// them signal one already.
    pub(crate) fn assign_ioeventfd(&self, fd: i32, key: Key) -> Result {
        self.ioeventfds.assign(EventFd::get(fd)?, key)
    }

    /// Undoes [`Events::assign_ioeventfd`]; `ENOENT` if that was not done with the same arguments.
    pub(crate) fn deassign_ioeventfd(&self, fd: i32, key: Key) -> Result {
        self.ioeventfds.deassign(&EventFd::get(fd)?, key)
    }

    /// Has signals of the eventfd `fd` raise the interrupt of `gsi` from now on. With `resample`,
    /// another eventfd, it is a level that stays high until the guest has handled it; then that
    /// eventfd is signalled.
    ///
    /// Errors: `EAGAIN` without an initialised interrupt controller, `EBUSY` if `fd` is somebody's
    /// irqfd already.
    pub(crate) fn assign_irqfd(
        &self,
        vm: &Arc<V>,
        fd: u32,
        gsi: u32,
        resample: Option<i32>,
    ) -> Result {
        self.irqfds.assign(vm, fd, gsi, resample)
    }

    /// Undoes [`Events::assign_irqfd`]; when this returns nothing is raised any more. No error if
    /// there is nothing to undo.
    pub(crate) fn deassign_irqfd(&self, fd: i32, gsi: u32) -> Result {
        self.irqfds.deassign(&EventFd::get(fd)?, gsi);
        Ok(())
    }

    /// Serves KVM_SET_GSI_ROUTING.
    pub(crate) fn set_routing(&self, vm: &V, routing: Routing) {
        // Initialising the interrupt controller sets the default, and until then nobody asks.
        if vm.is_ready() {
            self.irqfds.set_routing(routing);
        }
    }

    /// Takes all irqfds away: the VM's file has been closed.
    pub(crate) fn close(&self) {
        self.irqfds.close();
    }

    /// Tells the resamplers of these SPIs that the guest has deactivated them. May sleep.
    pub(crate) fn deactivated(&self, vm: &V, spis: &[u64; 16]) {
        self.irqfds.deactivated(vm, spis);
    }
}
