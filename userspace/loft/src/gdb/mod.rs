// SPDX-License-Identifier: Apache-2.0
//! `--gdb`: the guest in a debugger that speaks gdb's remote protocol. A vCPU is a thread.
//!
//! The protocol is gdbstub's. A thread of its own serves one debugger at a time. While one has
//! stopped the guest all vCPUs wait at the [`Gate`](crate::control::Gate), so that their registers
//! can be read and set; the hypervisor has no part in this but KVM_SET_GUEST_DEBUG.
//!
//! A step holds back the interrupts of its vCPU. Otherwise nearly each would end in the interrupt's
//! handler, since one has nearly always come while a person looked at the guest, and who wants to
//! leave a breakpoint would come back to it from that handler without an end.

mod hits;
mod place;
mod points;
#[cfg(target_arch = "aarch64")]
mod serve;
mod step;
#[cfg(target_arch = "aarch64")]
mod target;
mod walk;

pub use hits::{Hit, Hits};
pub use place::{Listener, Place};
#[cfg(target_arch = "aarch64")]
pub use serve::Debugger;
#[cfg(target_arch = "aarch64")]
pub use target::Guest as Target;
