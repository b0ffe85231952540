// SPDX-License-Identifier: GPL-2.0

//! The ioctls about eventfds and the routing of interrupts: KVM_IOEVENTFD, KVM_IRQFD,
//! KVM_SET_GSI_ROUTING, KVM_SIGNAL_MSI.

use super::user;
use crate::host::ffi::*;
use crate::vm::events::ioeventfd::{Bus, Key};
use crate::vm::events::routing::{Route, Routing, MAX_ROUTES};
use crate::vm::its::Msi;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Serves KVM_IOEVENTFD.
pub(super) fn ioeventfd(vm: &Vm, request: kvm_ioeventfd) -> Result<isize> {
    let flag = |flag: u32| request.flags & flag != 0;
    let bus = if flag(LOFT_KVM_IOEVENTFD_FLAG_PIO) {
        Bus::Pio
    } else if flag(LOFT_KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY) {
        Bus::VirtioCcw
    } else {
        Bus::Mmio
    };
    let data = flag(LOFT_KVM_IOEVENTFD_FLAG_DATAMATCH).then_some(request.datamatch);
    let key = Key {
        bus,
        address: request.addr,
        size: request.len,
        data,
    };
    if flag(LOFT_KVM_IOEVENTFD_FLAG_DEASSIGN) {
        // What could not be assigned is not found.
        vm.events.deassign_ioeventfd(request.fd, key)?;
        return Ok(0);
    }
    if !matches!(key.size, 0 | 1 | 2 | 4 | 8) || key.address.checked_add(key.size.into()).is_none()
    {
        return Err(EINVAL);
    }
    // Without a size there is nothing to compare.
    if request.flags & !LOFT_KVM_IOEVENTFD_VALID_FLAG_MASK != 0 || key.size == 0 && data.is_some() {
        return Err(EINVAL);
    }
    vm.events.assign_ioeventfd(request.fd, key)?;
    Ok(0)
}

/// Serves KVM_IRQFD.
pub(super) fn irqfd(vm: &Arc<Vm>, request: kvm_irqfd) -> Result<isize> {
    if request.flags & !(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE) != 0 {
        return Err(EINVAL);
    }
    if request.flags & KVM_IRQFD_FLAG_DEASSIGN != 0 {
        vm.events.deassign_irqfd(request.fd as i32, request.gsi)?;
    } else {
        let resample =
            (request.flags & KVM_IRQFD_FLAG_RESAMPLE != 0).then_some(request.resamplefd as i32);
        vm.events
            .assign_irqfd(vm, request.fd, request.gsi, resample)?;
    }
    Ok(0)
}

/// Serves KVM_SET_GSI_ROUTING.
pub(super) fn set_routing(vm: &Vm, argument: usize) -> Result<isize> {
    // `struct kvm_irq_routing` without the array at its end.
    let [count, flags]: [u32; 2] = user::read(argument)?;
    if count > MAX_ROUTES || flags != 0 {
        return Err(EINVAL);
    }
    let mut entries = KVVec::with_capacity(count as usize, GFP_KERNEL_ACCOUNT)?;
    let mut at = argument.checked_add(size_of::<[u32; 2]>()).ok_or(EFAULT)?;
    for _ in 0..count {
        let entry: kvm_irq_routing_entry = user::read(at)?;
        entries.push(entry, GFP_KERNEL_ACCOUNT)?;
        at = at
            .checked_add(size_of::<kvm_irq_routing_entry>())
            .ok_or(EFAULT)?;
    }
    let mut routes = KVVec::with_capacity(entries.len(), GFP_KERNEL_ACCOUNT)?;
    for entry in &entries {
        routes.push((entry.gsi, route(entry)?), GFP_KERNEL_ACCOUNT)?;
    }
    vm.events.set_routing(vm, Routing::new(routes)?);
    Ok(0)
}

fn route(entry: &kvm_irq_routing_entry) -> Result<Route> {
    match entry.type_ {
        KVM_IRQ_ROUTING_IRQCHIP if entry.flags == 0 => match entry.irqchip() {
            // There is one chip.
            (0, pin) => Route::pin(pin).ok_or(EINVAL),
            _ => Err(EINVAL),
        },
        KVM_IRQ_ROUTING_MSI if entry.flags & !KVM_MSI_VALID_DEVID == 0 => {
            let (low, high, data, device) = entry.msi();
            Ok(Route::Msi(message(low, high, data, entry.flags, device)))
        }
        _ => Err(EINVAL),
    }
}

fn message(low: u32, high: u32, data: u32, flags: u32, device: u32) -> Msi {
    Msi {
        address: u64::from(high) << 32 | u64::from(low),
        data,
        device: (flags & KVM_MSI_VALID_DEVID != 0).then_some(device),
    }
}

/// Serves KVM_SIGNAL_MSI: returns 1 if the guest gets the message, 0 if it has not mapped it.
pub(super) fn signal_msi(vm: &Vm, request: kvm_msi) -> Result<isize> {
    if !vm.gic.is_created() || request.flags & !KVM_MSI_VALID_DEVID != 0 {
        return Err(EINVAL);
    }
    let msi = message(
        request.address_lo,
        request.address_hi,
        request.data,
        request.flags,
        request.devid,
    );
    Ok(vm.signal_msi(msi)?.into())
}
