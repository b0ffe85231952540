// SPDX-License-Identifier: Apache-2.0
//! What a guest boots from, as pure functions over files and bytes: kernel images, initial RAM disks, module trees,
//! the device tree, the memory map, and checks of disk images. Nothing here needs an Arm machine or KVM.
#![forbid(unsafe_code)]

pub mod compressed;
pub mod cpio;
pub mod disk;
pub mod fdt;
pub mod image;
pub mod layout;
pub mod modules;
pub mod size;
