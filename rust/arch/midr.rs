// SPDX-License-Identifier: GPL-2.0

//! Lists of CPUs by their MIDR_EL1, as the kernel has them for errata.

use kernel::bindings::{self, midr_range};

/// Returns the range of all variants and revisions of a CPU.
pub(super) const fn all_versions(model: u32) -> midr_range {
    midr_range {
        model,
        rv_min: 0,
        rv_max: bindings::MIDR_VARIANT_MASK | bindings::MIDR_REVISION_MASK,
    }
}

/// The end of a list.
pub(super) const END: midr_range = midr_range {
    model: 0,
    rv_min: 0,
    rv_max: 0,
};

/// Returns whether this CPU, or the one that the thread is moved to meanwhile, is in a list. A list
/// without [`END`] has no CPU.
pub(super) fn is_in(list: &'static [midr_range]) -> bool {
    if list.last().is_none_or(|last| last.model != 0) {
        return false;
    }
    // SAFETY: The kernel reads up to the empty entry, which is there.
    unsafe { bindings::is_midr_in_range_list(list.as_ptr()) }
}
