// SPDX-License-Identifier: GPL-2.0

//! What the firmware says of the machine, by ACPI or in a device tree: the interrupts that guests
//! need, by Linux's numbers.

#[cfg(CONFIG_ACPI)]
mod acpi;
mod of;

use crate::model::timer::TimerId;
use core::ffi::c_uint;
use core::num::NonZero;

/// Returns the interrupt of one of EL1's timers; `None` if the firmware does not describe it.
pub(super) fn timer_irq(timer: TimerId) -> Option<NonZero<c_uint>> {
    #[cfg(CONFIG_ACPI)]
    if acpi::is_used() {
        return acpi::timer_irq(timer);
    }
    // The node has them in this order: secure, non-secure, virtual, hypervisor.
    let index = match timer {
        TimerId::Physical => 1,
        TimerId::Virtual => 2,
    };
    of::irq(c"arm,armv8-timer", index)
}

/// Returns the GIC's maintenance interrupt; `None` if the firmware does not describe it.
pub(super) fn maintenance_irq() -> Option<NonZero<c_uint>> {
    #[cfg(CONFIG_ACPI)]
    if acpi::is_used() {
        return acpi::maintenance_irq();
    }
    of::irq(c"arm,gic-v3", 0)
}
