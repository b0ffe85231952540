// SPDX-License-Identifier: GPL-2.0

//! The structures of KVM's user ABI that are copied from and to userspace as a whole.
//!
//! C header: [`include/uapi/linux/kvm.h`](srctree/include/uapi/linux/kvm.h)
//!
//! # Examples
//!
//! ```
//! let log: kvm_dirty_log = user::read(argument)?;
//! copy_to_user(log.bitmap(), &words)?;
//! ```

use super::ffi::*;
use kernel::transmute::{AsBytes, FromBytes};

macro_rules! from_user {
    ($($name:ident),* $(,)?) => { $(
        // SAFETY: A C structure of integers, or of unions of integers: every bit pattern is a
        // value.
        unsafe impl FromBytes for $name {}
    )* };
}

macro_rules! to_user {
    ($($name:ident: $size:literal),* $(,)?) => { $(
        // The fields fill the structure: there is no padding that could carry kernel memory out.
        const _: () = assert!(size_of::<$name>() == $size);
        // SAFETY: By the line above there is no padding, so all bytes are initialised.
        unsafe impl AsBytes for $name {}
    )* };
}

from_user! {
    kvm_arm_counter_offset,
    kvm_create_device,
    kvm_device_attr,
    kvm_clear_dirty_log,
    kvm_dirty_log,
    kvm_enable_cap,
    kvm_guest_debug,
    kvm_ioeventfd,
    kvm_irq_level,
    kvm_irq_routing_entry,
    kvm_irqfd,
    kvm_mp_state,
    kvm_msi,
    kvm_one_reg,
    kvm_smccc_filter,
    kvm_userspace_memory_region,
    kvm_userspace_memory_region2,
    kvm_vcpu_events,
    kvm_vcpu_init,
    reg_mask_range,
}

to_user! {
    kvm_create_device: 12,
    kvm_mp_state: 4,
    kvm_vcpu_events: 64,
    kvm_vcpu_init: 32,
}

impl kvm_dirty_log {
    /// Returns where the bitmap goes, an address of userspace's.
    pub(crate) fn bitmap(&self) -> usize {
        // SAFETY: The union is a pointer of userspace's and a `u64` beside it, and any bits are an
        // integer.
        unsafe { self.__bindgen_anon_1.padding2 as usize }
    }
}

impl kvm_clear_dirty_log {
    /// Returns where the bitmap is, an address of userspace's.
    pub(crate) fn bitmap(&self) -> usize {
        // SAFETY: The union is a pointer of userspace's and a `u64` beside it, and any bits are an
        // integer.
        unsafe { self.__bindgen_anon_1.padding2 as usize }
    }
}

impl kvm_irq_level {
    /// Returns the interrupt that is meant; the union's other name is for what x86 returns.
    pub(crate) fn irq(&self) -> u32 {
        // SAFETY: Both fields of the union are a `u32`.
        unsafe { self.__bindgen_anon_1.irq }
    }
}

impl kvm_irq_routing_entry {
    /// Returns the chip and the pin of a KVM_IRQ_ROUTING_IRQCHIP.
    pub(crate) fn irqchip(&self) -> (u32, u32) {
        // SAFETY: All bits of the union are initialised (copied from userspace or zeroed), and any
        // bits are integers.
        let irqchip = unsafe { self.u.irqchip };
        (irqchip.irqchip, irqchip.pin)
    }

    /// Returns a KVM_IRQ_ROUTING_MSI's address, lower and upper half, its data, and its device, if
    /// `flags` has KVM_MSI_VALID_DEVID.
    pub(crate) fn msi(&self) -> (u32, u32, u32, u32) {
        // SAFETY: All bits of the unions are initialised (copied from userspace or zeroed), and any
        // bits are integers.
        unsafe {
            let msi = self.u.msi;
            let device = msi.__bindgen_anon_1.devid;
            (msi.address_lo, msi.address_hi, msi.data, device)
        }
    }
}
