// SPDX-License-Identifier: Apache-2.0
//! Asking the hypervisor for its counters (KVM_GET_STATS_FD).

use crate::control::{Counted, Counts, VcpuCounts};
use crate::statsfd;
use kvm_ioctls::{VcpuFd, VmFd};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;

/// The counters of a machine and its vCPUs, to be read at any time.
pub struct Counters {
    vm: Option<File>,
    vcpus: Vec<OfVcpu>,
}

/// A vCPU's counters, and the thread that runs it, or 0.
struct OfVcpu {
    file: Option<File>,
    thread: AtomicU32,
}

impl Counters {
    /// Of this machine, so far as the hypervisor has counters.
    pub fn open(vm: &VmFd, vcpus: &[VcpuFd]) -> Self {
        let of_vcpu = |vcpu| OfVcpu { file: open(vcpu), thread: AtomicU32::new(0) };
        Self { vm: open(vm), vcpus: vcpus.iter().map(of_vcpu).collect() }
    }

    /// Takes note that the calling thread runs vCPU `id`.
    pub fn is_run_here(&self, id: usize) {
        if let Some(vcpu) = self.vcpus.get(id) {
            vcpu.thread.store(nix::unistd::gettid().as_raw() as u32, Ordering::Relaxed);
        }
    }

    /// The cumulative scalar ones, summed up over the vCPUs.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        for (name, value) in self.vcpus.iter().flat_map(|vcpu| read(&vcpu.file)) {
            *totals.entry(name).or_default() += value;
        }
        totals
    }
}

impl Counted for Counters {
    fn counts(&self) -> Counts {
        let of_vcpu = |vcpu: &OfVcpu| VcpuCounts {
            thread: vcpu.thread.load(Ordering::Relaxed),
            counters: read(&vcpu.file).into_iter().collect(),
        };
        Counts { vm: read(&self.vm).into_iter().collect(), vcpus: self.vcpus.iter().map(of_vcpu).collect() }
    }
}

fn read(file: &Option<File>) -> Vec<(String, u64)> {
    file.as_ref().and_then(|file| statsfd::parse(file).ok()).unwrap_or_default()
}

fn open(of: &impl AsRawFd) -> Option<File> {
    // SAFETY: the ioctl takes no argument and returns a new file descriptor or -1.
    let fd = unsafe { libc::ioctl(of.as_raw_fd(), KVM_GET_STATS_FD as _, 0) };
    // SAFETY: where there is a descriptor it is new and nobody else has it.
    (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) })
}
