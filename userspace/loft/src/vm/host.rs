// SPDX-License-Identifier: Apache-2.0
//! Opening the hypervisor's device node.

use crate::node;
use anyhow::bail;
use kvm_ioctls::{Cap, Kvm};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The only version that the ABI ever had (KVM_GET_API_VERSION).
pub const API_VERSION: i32 = 12;

/// What the launcher cannot do without.
const NEEDED: [(Cap, &str); 5] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::OneReg, "KVM_CAP_ONE_REG"),
];

/// Opens `device`; the errno if that fails.
pub fn open_raw(device: &Path) -> Result<Kvm, i32> {
    let path = CString::new(device.as_os_str().as_bytes()).map_err(|_| libc::EINVAL)?;
    Kvm::new_with_path(path.as_c_str()).map_err(|e| e.errno())
}

/// The capabilities that the launcher needs and `kvm` has not got.
pub fn lacking(kvm: &Kvm) -> Vec<&'static str> {
    NEEDED.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|(_, name)| *name).collect()
}

/// Opens `device` and checks that it is a hypervisor that can run guests here.
pub fn open(device: &Path) -> anyhow::Result<Kvm> {
    let kvm = open_raw(device).map_err(|errno| node::open_error(device, errno))?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        bail!(
            "{} is not a hypervisor with KVM's ioctl interface (KVM_GET_API_VERSION gave {version} instead of {API_VERSION}); \
             give /dev/loft or /dev/kvm to --device",
            device.display()
        );
    }
    let lacks = lacking(&kvm);
    if !lacks.is_empty() {
        bail!("{} lacks {}, which loft needs; use a newer hypervisor", device.display(), lacks.join(", "));
    }
    Ok(kvm)
}
