// SPDX-License-Identifier: GPL-2.0

//! Address spaces, as types that do not mix.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Returns the address with this number.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// Returns the number.
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// Returns the address `bytes` further on, modulo 2^64.
            pub const fn wrapping_add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// Returns the address `bytes` further on, if that is still a number.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// Returns how many bytes it is from `earlier` to here, if that is not the later one.
            pub const fn checked_sub(self, earlier: Self) -> Option<u64> {
                self.0.checked_sub(earlier.0)
            }

            /// Returns where it lies within an aligned block of `size` bytes, a power of two.
            pub const fn offset_in(self, size: u64) -> u64 {
                self.0 & size.wrapping_sub(1)
            }

            /// Returns whether it is a multiple of `size`, a power of two.
            pub const fn is_aligned(self, size: u64) -> bool {
                self.offset_in(size) == 0
            }

            /// Returns the start of the aligned block of `size` bytes, a power of two, that it lies
            /// in.
            pub const fn align_down(self, size: u64) -> Self {
                Self(self.0 & !size.wrapping_sub(1))
            }

            /// Returns the first multiple of `size`, a power of two, from here on, if there is one.
            pub const fn align_up(self, size: u64) -> Option<Self> {
                match self.checked_add(size.wrapping_sub(1)) {
                    Some(last) => Some(last.align_down(size)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// An intermediate physical address: what a guest takes for physical.
    Ipa
}

address! {
    /// A physical address of the machine.
    HostPa
}
