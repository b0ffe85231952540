// SPDX-License-Identifier: Apache-2.0
//! Asking the hypervisor for its counters (KVM_GET_STATS_FD).

use crate::statsfd;
use kvm_ioctls::VcpuFd;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;

/// The counters of a machine's vCPUs, to be read at any time.
#[derive(Default)]
pub struct Counters(Vec<File>);

impl Counters {
    /// Of these vCPUs, so far as the hypervisor has counters.
    pub fn open(vcpus: &[VcpuFd]) -> Self {
        Self(vcpus.iter().filter_map(open).collect())
    }

    /// The cumulative scalar ones, summed up over the vCPUs.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        for (name, value) in self.0.iter().filter_map(|file| statsfd::parse(file).ok()).flatten() {
            *totals.entry(name).or_default() += value;
        }
        totals
    }
}

fn open(vcpu: &VcpuFd) -> Option<File> {
    // SAFETY: the ioctl takes no argument and returns a new file descriptor or -1.
    let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD as _, 0) };
    // SAFETY: where there is a descriptor it is new and nobody else has it.
    (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) })
}
