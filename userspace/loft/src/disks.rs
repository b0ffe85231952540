// SPDX-License-Identifier: Apache-2.0
//! The disks on the command line: checked before the guest sees them.

use crate::cli::DiskArg;
use anyhow::{bail, Context, Result};
use loft_agent::task::Root;
use loft_boot::{disk, size};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

/// What was found on a disk.
#[derive(Debug)]
pub struct Found {
    table: Option<disk::Table>,
    root: Option<disk::Root>,
}

/// Images that are not raw, by their first bytes.
const CONTAINERS: [(&[u8], &str); 5] =
    [(b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"vhdxfile", "vhdx"), (b"conectix", "vpc"), (b"QED\0", "qed")];

/// Checks one disk: that it is a raw image, and as long as its partition table says.
pub fn check(arg: &DiskArg) -> Result<Found> {
    let path = &arg.path;
    let mut file = File::open(path).map_err(|e| open_error(path, &e))?;
    if file.metadata().map_err(|e| open_error(path, &e))?.is_dir() {
        bail!("the disk {} is a directory; give a raw disk image or a block device", path.display());
    }
    let length = file.seek(SeekFrom::End(0)).with_context(|| format!("the disk {} has no size", path.display()))?;
    let mut head = [0; 8];
    if length >= 8 {
        disk::ReadAt::read_exact_at(&file, &mut head, 0)
            .with_context(|| format!("the disk {} cannot be read", path.display()))?;
    }
    if let Some((_, format)) = CONTAINERS.iter().find(|(magic, _)| head.starts_with(magic)) {
        bail!(
            "the disk {} is a {format} image and loft reads raw ones; convert it: \
             qemu-img convert -f {format} -O raw {} disk.img",
            path.display(),
            path.display()
        );
    }
    let table = disk::table(&file, length).with_context(|| format!("the disk {} cannot be read", path.display()))?;
    if let Some(table) = &table {
        if table.needed > length {
            bail!(
                "the disk {} has {} and its {} partition table describes {}: it was cut short; copy it again, \
                 or make it as long as it was: truncate --size {} {}",
                path.display(),
                size::show(length),
                table.kind,
                size::show(table.needed),
                table.needed,
                path.display()
            );
        }
    }
    let root = disk::find_root(&file, table.as_ref());
    Ok(Found { table, root })
}

fn open_error(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        std::io::ErrorKind::NotFound if path.to_string_lossy().contains(',') => {
            "; what may follow a comma is ro, rw, snapshot, werror=stop, discard=off or serial=TEXT, as in FILE,ro"
        }
        std::io::ErrorKind::NotFound => "; make one with: truncate --size 1G FILE && mkfs.ext4 FILE",
        std::io::ErrorKind::PermissionDenied => "; run as its owner, or as root",
        _ => "",
    };
    anyhow::anyhow!("the disk {} cannot be opened: {error}{remedy}", path.display())
}

/// The root file system on the first disk, as the guest names it.
pub fn root(arg: &DiskArg, found: &Found) -> Result<Root> {
    let Some(root) = &found.root else {
        let kinds = "ext4, xfs, btrfs, squashfs, erofs or f2fs";
        let place = if found.table.is_some() { "in no partition of" } else { "on" };
        bail!(
            "there is no root file system ({kinds}) {place} the disk {}; give a disk that has one first, \
             or an initial RAM disk with -i",
            arg.path.display()
        );
    };
    Ok(Root::Disk {
        device: root.partition.map_or("/dev/vda".into(), |n| format!("/dev/vda{n}")),
        file_system: root.file_system.name().into(),
        read_only: arg.read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, content: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("loft-disk-{}-{name}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            Self(path)
        }
        fn arg(&self) -> DiskArg {
            DiskArg {
                path: self.0.clone(),
                read_only: true,
                snapshot: false,
                serial: None,
                stop: false,
                keep_space: false,
            }
        }
        fn error(&self) -> String {
            let text = check(&self.arg()).unwrap_err().to_string();
            assert!(text.contains(&*self.0.to_string_lossy()), "the error names the file: {text}");
            text
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn with_partition(sectors: u32) -> Vec<u8> {
        let mut disk = vec![0; 64 << 10];
        disk[446 + 4] = 0x83;
        disk[446 + 8..446 + 12].copy_from_slice(&8u32.to_le_bytes());
        disk[446 + 12..446 + 16].copy_from_slice(&sectors.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[8 * 512 + 1024 + 56..8 * 512 + 1024 + 58].copy_from_slice(&[0x53, 0xef]);
        disk
    }

    #[test]
    fn a_root_in_a_partition() {
        let disk = Temporary::new("ok", &with_partition(120));
        let found = check(&disk.arg()).unwrap();
        let root = root(&disk.arg(), &found).unwrap();
        let expected = Root::Disk { device: "/dev/vda1".into(), file_system: "ext4".into(), read_only: true };
        assert_eq!(root, expected);
    }

    #[test]
    fn a_disk_shorter_than_its_table() {
        assert!(Temporary::new("short", &with_partition(121)).error().contains("truncate --size 66048"));
    }

    #[test]
    fn an_unknown_word_after_the_comma() {
        let arg: DiskArg = "/nonexistent/disk,foo".parse().unwrap();
        assert!(check(&arg).unwrap_err().to_string().contains("FILE,ro"));
    }

    #[test]
    fn not_raw_and_not_there() {
        assert!(Temporary::new("qcow2", b"QFI\xfb and more").error().contains("qemu-img convert -f qcow2"));
        let named = |path: &str| path.parse::<DiskArg>().unwrap();
        let missing = named("/nonexistent/disk");
        assert!(check(&missing).unwrap_err().to_string().contains("/nonexistent/disk"));
        let directory = named(&std::env::temp_dir().to_string_lossy());
        assert!(check(&directory).unwrap_err().to_string().contains("is a directory"));
    }

    #[test]
    fn no_root() {
        let disk = Temporary::new("noroot", &[0; 4096]);
        let found = check(&disk.arg()).unwrap();
        assert!(root(&disk.arg(), &found).unwrap_err().to_string().contains("no root file system"));
    }
}
