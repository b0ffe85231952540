// SPDX-License-Identifier: GPL-2.0

//! The host's random numbers.
//!
//! C header: [`include/linux/random.h`](srctree/include/linux/random.h)
//!
//! # Examples
//!
//! ```
//! let mut words = [0; 3];
//! random::fill(&mut words);
//! ```

/// Fills `words` from the kernel's generator.
pub(crate) fn fill(words: &mut [u64]) {
    // SAFETY: The slice is valid for writes of its length.
    unsafe {
        kernel::bindings::get_random_bytes(words.as_mut_ptr().cast(), core::mem::size_of_val(words))
    };
}
