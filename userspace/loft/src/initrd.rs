// SPDX-License-Identifier: Apache-2.0
//! Whether a file is an initial RAM disk that a kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).

use anyhow::{bail, Context, Result};
use std::path::Path;

/// First bytes of what Linux unpacks: an archive, or one that is compressed.
const ARCHIVES: [&[u8]; 10] = [
    b"070701",
    b"070702",
    b"\x1f\x8b",
    b"\x1f\x9e",
    b"BZh",
    b"\x5d\x00\x00",
    b"\xfd7zXZ\0",
    b"\x89LZO",
    b"\x02\x21\x4c\x18",
    b"\x28\xb5\x2f\xfd",
];

/// Reads `path`, and refuses what is no archive. `append` are the user's kernel parameters.
pub fn read(path: &Path, append: &str) -> Result<Vec<u8>> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("the initial RAM disk {name} cannot be read"))?;
    // The kernel skips zeroes in front of an archive.
    let first = bytes.iter().position(|b| *b != 0).and_then(|at| bytes.get(at..));
    let Some(start) = first else { bail!("the initial RAM disk {name} is empty; give a cpio archive") };
    // A file system in a RAM disk, as it was before Linux had archives.
    let file_system = append.split_whitespace().any(|p| p.starts_with("root=/dev/ram"));
    if file_system || ARCHIVES.iter().any(|magic| start.starts_with(magic)) {
        return Ok(bytes);
    }
    let kind = if start.starts_with(b"\x27\x05\x19\x56") {
        "has U-Boot's header in front (remove its first 64 bytes)"
    } else if start.starts_with(b"0707") || start.starts_with(b"\xc7\x71") {
        "is a cpio archive in a form that Linux does not know (make it with cpio -H newc)"
    } else if start.starts_with(b"MZ") {
        "is a kernel (that goes to -k)"
    } else {
        "is not an archive"
    };
    bail!("the initial RAM disk {name} {kind}; give a cpio archive (newc), plain or compressed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], append: &str) -> Result<(), String> {
        let path = std::env::temp_dir().join(format!("loft-initrd-{}-{}", std::process::id(), bytes.len()));
        std::fs::write(&path, bytes).unwrap();
        let result = read(&path, append);
        std::fs::remove_file(&path).unwrap();
        result.map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn archives_are_taken() {
        for magic in ARCHIVES {
            assert_eq!(check(&[magic, &[7; 64]].concat(), ""), Ok(()), "{magic:?}");
        }
        assert_eq!(check(b"\0\0\0\x00070701 and more", ""), Ok(()));
        assert_eq!(check(&[0x53; 1099], "root=/dev/ram0"), Ok(()));
    }

    #[test]
    fn the_rest_is_refused_with_a_reason() {
        for (bytes, reason) in [
            (&b""[..], "empty"),
            (&[0; 100], "empty"),
            (b"hello, world", "not an archive"),
            (b"070707 the old form", "newc"),
            (b"MZ and then a kernel", "-k"),
            (b"\x27\x05\x19\x56 U-Boot's", "64 bytes"),
        ] {
            let error = check(bytes, "").unwrap_err();
            assert!(error.contains(reason) && error.contains("loft-initrd"), "{error}");
        }
    }
}
