// SPDX-License-Identifier: Apache-2.0
//! The hypervisor's device node: why it cannot be opened, and what to do.

use std::path::Path;

/// The node that the module makes.
pub const DEFAULT: &str = "/dev/loft";

/// The reason and the remedy for opening `device` having failed with `errno`.
pub fn open_error(device: &Path, errno: i32) -> anyhow::Error {
    let name = device.display();
    let ours = device == Path::new(DEFAULT);
    match errno {
        libc::ENOENT if ours => anyhow::anyhow!(
            "{name} does not exist: the loft module is not loaded; load it (sudo insmod loft.ko), \
             run `loft doctor` to see what this machine lacks, or use KVM with --device /dev/kvm"
        ),
        libc::ENOENT => anyhow::anyhow!("{name} does not exist; load its hypervisor, or give another one to --device"),
        libc::EACCES | libc::EPERM => anyhow::anyhow!(
            "no permission to open {name}; run as root, or join the group that owns it (see ls -l {name})"
        ),
        libc::EBUSY => anyhow::anyhow!("{name} is busy: the module is being unloaded; load it again"),
        libc::ENODEV | libc::ENXIO => {
            anyhow::anyhow!("{name} has no hypervisor behind it; `loft doctor` says what this machine lacks")
        }
        _ => anyhow::anyhow!("{name} cannot be opened: {}", std::io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_remedy() {
        let text = |path: &str, errno| open_error(Path::new(path), errno).to_string();
        assert!(text(DEFAULT, libc::ENOENT).contains("insmod loft.ko"));
        assert!(!text("/dev/kvm", libc::ENOENT).contains("insmod loft.ko"));
        assert!(text(DEFAULT, libc::EACCES).contains("root"));
        assert!(text("/dev/x", libc::EIO).contains("Input/output error"));
    }
}
