// SPDX-License-Identifier: Apache-2.0
//! Finding the launcher's port among the virtio-console ports.

use super::Result;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the port may take to appear: the driver learns of it from the device, not at once.
const LIMIT: Duration = Duration::from_secs(20);

/// Opens the port `name`.
pub fn open(name: &str) -> Result<File> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(device) = find(name) {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&device)
                .map_err(|e| format!("{} cannot be opened: {e}", device.display()));
        }
        if Instant::now() > deadline {
            return Err(format!(
                "the port {name} did not appear; the kernel has no driver for it (virtio_mmio or virtio_pci, virtio_console): give its modules with --modules"
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn find(name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let found = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            let device = Path::new("/dev").join(entry.file_name());
            return device.exists().then_some(device);
        }
    }
    None
}
