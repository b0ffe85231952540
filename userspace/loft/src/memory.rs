// SPDX-License-Identifier: Apache-2.0
//! Whether the host has the memory that a guest is to get.

use anyhow::{bail, Result};
use loft_boot::{layout, size};

/// Refuses sizes that cannot work.
pub fn check(bytes: u64, meminfo: &str) -> Result<()> {
    if bytes < layout::MIN_MEMORY {
        bail!("{} of memory is too little; give at least -m {}M", size::show(bytes), layout::MIN_MEMORY >> 20);
    }
    if bytes % 4096 != 0 {
        bail!("{bytes} bytes of memory is not a whole number of pages; give a multiple of 4K");
    }
    let Some(total) = value(meminfo, "MemTotal:") else { return Ok(()) };
    if bytes > total {
        bail!("{} of memory is more than this host has ({}); give less with -m", size::show(bytes), size::show(total));
    }
    Ok(())
}

/// A value of /proc/meminfo in bytes.
pub fn value(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        2019876 kB\nMemFree:          100 kB\n";

    #[test]
    fn limits() {
        assert!(check(512 << 20, MEMINFO).is_ok());
        assert!(check(4 << 30, MEMINFO).unwrap_err().to_string().contains("1.9 GiB"));
        assert!(check(1 << 20, MEMINFO).unwrap_err().to_string().contains("-m 64M"));
        assert!(check((512 << 20) + 1, MEMINFO).is_err());
        assert!(check(4 << 30, "").is_ok());
    }

    #[test]
    fn values() {
        assert_eq!(value(MEMINFO, "MemFree:"), Some(102_400));
        assert_eq!(value(MEMINFO, "Nothing:"), None);
    }
}
