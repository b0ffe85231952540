// SPDX-License-Identifier: Apache-2.0
//! Asking the hypervisor for its counters (KVM_GET_STATS_FD).

use crate::statsfd;
use kvm_ioctls::VcpuFd;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;

/// The vCPU's cumulative scalar counters; `None` where the hypervisor has none.
pub fn read(vcpu: &VcpuFd) -> Option<Vec<(String, u64)>> {
    // SAFETY: the ioctl takes no argument and returns a new file descriptor or -1.
    let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD as _, 0) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor is new and nobody else has it.
    let file = unsafe { File::from_raw_fd(fd) };
    statsfd::parse(&file).ok()
}
