// SPDX-License-Identifier: Apache-2.0
//! How a command runs in a guest in which nothing of loft is installed.
//!
//! The launcher puts its own binary into the initial RAM disk and makes it the guest's first process ([`guest`]). What
//! it has to do there is in a file beside it ([`task`]). Over one virtio-console port the two speak frames
//! ([`protocol`]): one ordered stream for input, output, window size and exit status, so that nothing overtakes
//! anything else, and the status comes after the last byte of output.

pub mod guest;
pub mod protocol;
pub mod task;
