// SPDX-License-Identifier: GPL-2.0
//! The module's models, compiled for the machine at hand.

#![no_std]

#[cfg(test)]
extern crate std;

#[path = "../../rust/model/mod.rs"]
pub mod model;

#[path = "../../rust/abi/one_reg_id.rs"]
pub mod one_reg_id;

/// What the models have from the CPU. Here nobody's secrets are at stake.
mod speculation {
    pub(crate) fn get<T>(slice: &[T], index: usize) -> Option<&T> {
        slice.get(index)
    }

    pub(crate) fn get_mut<T>(slice: &mut [T], index: usize) -> Option<&mut T> {
        slice.get_mut(index)
    }

    pub(crate) fn wrap<const N: usize>(index: usize) -> usize {
        index % N
    }
}
