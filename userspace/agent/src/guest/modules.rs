// SPDX-License-Identifier: Apache-2.0
//! Loading kernel modules from the initial RAM disk.

use super::{log, Result};
use crate::task::{DIRECTORY, MODULES};
use loft_boot::compressed::Format;
use nix::errno::Errno;
use nix::kmod::{finit_module, init_module, ModuleInitFlags};
use std::fs::File;
use std::path::Path;

/// The kernel decompresses the file itself (include/uapi/linux/module.h; Linux 5.17 and later, if configured).
const MODULE_INIT_COMPRESSED_FILE: u32 = 4;
/// The largest module that is decompressed here.
const MAX_MODULE: u64 = 256 << 20;

/// Loads the modules `names` in order. One that fails is logged and left out: what needs it will say so.
pub fn load(names: &[String]) -> Result<()> {
    let directory = Path::new("/").join(DIRECTORY).join(MODULES);
    for name in names {
        if let Err(error) = load_one(&directory.join(name)) {
            log(&format!("the kernel module {name} cannot be loaded: {error}"));
        }
    }
    Ok(())
}

fn load_one(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let compressed = path.extension().is_some_and(|e| e != "ko");
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    match finit_module(&file, c"", ModuleInitFlags::from_bits_retain(flags)) {
        Ok(()) | Err(Errno::EEXIST) => return Ok(()),
        // The kernel cannot decompress, or not this format.
        Err(Errno::EOPNOTSUPP | Errno::EINVAL) if compressed => {}
        Err(e) => return Err(e.to_string()),
    }
    let packed = std::fs::read(path).map_err(|e| e.to_string())?;
    let format = Format::of(&packed).ok_or("unknown compression")?;
    let image = format.decompress(&packed, MAX_MODULE).map_err(|e| e.to_string())?;
    match init_module(&image, c"") {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}
