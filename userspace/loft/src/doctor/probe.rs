// SPDX-License-Identifier: Apache-2.0
//! Trying the hypervisor out.

use std::path::Path;

/// What came of it.
#[derive(Debug, Clone)]
pub enum Probe {
    /// The node cannot be opened; the errno.
    Closed(i32),
    /// It is something else: what KVM_GET_API_VERSION gave.
    NotHypervisor(i32),
    /// It can be opened.
    Open {
        /// Capabilities that loft needs and it has not got.
        lacks: Vec<&'static str>,
        /// Whether a VM can be created.
        vm: Result<(), String>,
        /// Whether a GICv3 can.
        gic: Result<(), String>,
        /// The most vCPUs.
        vcpus: usize,
        /// Bits of guest physical address.
        ipa_bits: i32,
    },
    /// Only arm64 machines can try.
    #[cfg(not(target_arch = "aarch64"))]
    Unknown,
}

impl Probe {
    /// Whether guests could be created.
    pub fn works(&self) -> bool {
        matches!(self, Self::Open { vm: Ok(()), gic: Ok(()), .. })
    }

    /// Tries `device`.
    #[cfg(not(target_arch = "aarch64"))]
    pub fn of(device: &Path) -> Self {
        match std::fs::OpenOptions::new().read(true).write(true).open(device) {
            Ok(_) => Self::Unknown,
            Err(e) => Self::Closed(e.raw_os_error().unwrap_or(0)),
        }
    }

    /// Tries `device`.
    #[cfg(target_arch = "aarch64")]
    pub fn of(device: &Path) -> Self {
        use crate::vm::host;
        let kvm = match host::open_raw(device) {
            Ok(kvm) => kvm,
            Err(errno) => return Self::Closed(errno),
        };
        let version = kvm.get_api_version();
        if version != host::API_VERSION {
            return Self::NotHypervisor(version);
        }
        let vm = kvm.create_vm();
        let gic = match &vm {
            Ok(vm) => crate::vm::test_gic(vm).map_err(|e| e.to_string()),
            Err(_) => Ok(()),
        };
        Self::Open {
            lacks: host::lacking(&kvm),
            vm: vm.map(drop).map_err(|e| e.to_string()),
            gic,
            vcpus: kvm.get_max_vcpus(),
            ipa_bits: kvm.get_host_ipa_limit(),
        }
    }
}
