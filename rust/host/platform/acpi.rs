// SPDX-License-Identifier: GPL-2.0

//! ACPI's tables (ACPI 6.5, 5.2).
//!
//! C headers: [`include/linux/acpi.h`](srctree/include/linux/acpi.h) and
//! [`include/acpi/actbl2.h`](srctree/include/acpi/actbl2.h)

use crate::model::timer::TimerId;
use core::ffi::{c_int, c_uint};
use core::mem::offset_of;
use core::num::NonZero;
use core::ptr::{self, NonNull};
use kernel::bindings::{
    self, acpi_madt_generic_interrupt, acpi_table_gtdt, acpi_table_header, acpi_table_madt,
};

// In C these have a cast, so that bindgen takes them for no constants.
const LEVEL_SENSITIVE: c_int = 0;
const EDGE_SENSITIVE: c_int = 1;
const ACTIVE_HIGH: c_int = 0;
const ACTIVE_LOW: c_int = 1;

/// Returns whether the machine is described by ACPI.
pub(super) fn is_used() -> bool {
    // SAFETY: Settled when the kernel boots, and only read since.
    unsafe { bindings::acpi_disabled == 0 }
}

/// A table of the firmware's.
///
/// # Invariants
///
/// The table is mapped, with all of its length, until this is dropped.
struct AcpiTable(NonNull<acpi_table_header>);

impl AcpiTable {
    /// Returns the first table with this signature, a string with a NUL at its end.
    fn find(signature: &'static [u8; 5]) -> Option<Self> {
        let mut table = ptr::null_mut();
        // SAFETY: The function only reads the string, though C gives it a pointer that it could
        // write through; `table` is valid for writes.
        let status = unsafe {
            bindings::acpi_get_table(signature.as_ptr().cast_mut().cast(), 1, &mut table)
        };
        // INVARIANT: It stays mapped until it is put back.
        NonNull::new(table).filter(|_| status == 0).map(Self)
    }

    /// Returns the whole table.
    fn bytes(&self) -> &[u8] {
        // SAFETY: By the invariant all of the table is mapped; nobody writes it.
        unsafe {
            let length = (&raw const (*self.0.as_ptr()).length).read_unaligned();
            core::slice::from_raw_parts(self.0.as_ptr().cast(), length as usize)
        }
    }
}

impl Drop for AcpiTable {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is ours to put back.
        unsafe { bindings::acpi_put_table(self.0.as_ptr()) };
    }
}

/// Returns the field of four bytes at `offset`.
fn field(bytes: &[u8], offset: usize) -> Option<u32> {
    let (field, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*field))
}

/// Makes a GSI, which is a GIC's INTID, an interrupt of Linux's.
fn register(gsi: u32, trigger: c_int, polarity: c_int) -> Option<NonZero<c_uint>> {
    // SAFETY: There is no device; any numbers may be asked for.
    let irq = unsafe { bindings::acpi_register_gsi(ptr::null_mut(), gsi, trigger, polarity) };
    NonZero::new(c_uint::try_from(irq).ok()?)
}

/// Returns the interrupt that the GTDT gives a timer of EL1's.
pub(super) fn timer_irq(timer: TimerId) -> Option<NonZero<c_uint>> {
    let (gsi, flags) = match timer {
        TimerId::Virtual => (
            offset_of!(acpi_table_gtdt, virtual_timer_interrupt),
            offset_of!(acpi_table_gtdt, virtual_timer_flags),
        ),
        TimerId::Physical => (
            offset_of!(acpi_table_gtdt, non_secure_el1_interrupt),
            offset_of!(acpi_table_gtdt, non_secure_el1_flags),
        ),
    };
    let table = AcpiTable::find(bindings::ACPI_SIG_GTDT)?;
    let (gsi, flags) = (field(table.bytes(), gsi)?, field(table.bytes(), flags)?);
    let trigger = match flags & bindings::ACPI_GTDT_INTERRUPT_MODE {
        0 => LEVEL_SENSITIVE,
        _ => EDGE_SENSITIVE,
    };
    let polarity = match flags & bindings::ACPI_GTDT_INTERRUPT_POLARITY {
        0 => ACTIVE_HIGH,
        _ => ACTIVE_LOW,
    };
    register(gsi, trigger, polarity)
}

/// Returns the maintenance interrupt of the first CPU that the MADT lists: it is a PPI, so the same
/// on all.
pub(super) fn maintenance_irq() -> Option<NonZero<c_uint>> {
    let table = AcpiTable::find(bindings::ACPI_SIG_MADT)?;
    let gicc = first_gicc(table.bytes().get(size_of::<acpi_table_madt>()..)?)?;
    let gsi = field(
        gicc,
        offset_of!(acpi_madt_generic_interrupt, vgic_interrupt),
    )?;
    // 0 where the CPU has none.
    (gsi != 0).then_some(())?;
    register(gsi, LEVEL_SENSITIVE, ACTIVE_HIGH)
}

/// Returns the first GIC CPU interface of the MADT's structures: each begins with a byte for its
/// type and one for its length.
fn first_gicc(mut structures: &[u8]) -> Option<&[u8]> {
    const GICC: u8 = bindings::acpi_madt_type_ACPI_MADT_TYPE_GENERIC_INTERRUPT as u8;
    loop {
        let &[kind, length, ..] = structures else {
            return None;
        };
        // One without a length would never end.
        let length = usize::from(length).max(2);
        if kind == GICC {
            return structures.get(..length);
        }
        structures = structures.get(length..)?;
    }
}
