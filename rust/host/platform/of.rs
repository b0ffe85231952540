// SPDX-License-Identifier: GPL-2.0

//! The device tree.
//!
//! C headers: [`include/linux/of.h`](srctree/include/linux/of.h) and
//! [`include/linux/of_irq.h`](srctree/include/linux/of_irq.h)

use crate::host::ffi;
use core::ffi::{c_int, c_uint};
use core::num::NonZero;
use core::ptr;
use kernel::bindings;
use kernel::prelude::*;

/// Returns interrupt `index` of the first node that is `compatible`.
pub(super) fn irq(compatible: &'static CStr, index: c_int) -> Option<NonZero<c_uint>> {
    // SAFETY: Null pointers stand for all nodes, of any type; the string ends with a NUL.
    let node = unsafe {
        bindings::of_find_compatible_node(
            ptr::null_mut(),
            ptr::null(),
            compatible.as_char_ptr().cast(),
        )
    };
    if node.is_null() {
        return None;
    }
    // SAFETY: The node was found above, and comes with a reference, which is dropped here.
    NonZero::new(unsafe {
        let irq = ffi::loft_irq_of_parse_and_map(node, index);
        ffi::loft_of_node_put(node);
        irq
    })
}
