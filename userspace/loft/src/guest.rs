// SPDX-License-Identifier: Apache-2.0
//! The initial RAM disk that makes loft the guest's first process.

use crate::cli::TransportKind;
use anyhow::{anyhow, Context, Result};
use loft_agent::task::{self, Root, Task};
use loft_boot::cpio::Cpio;
use loft_boot::image::Kernel;
use loft_boot::modules::Tree;
use std::path::{Path, PathBuf};

/// What finds devices on a PCI bus and drives them: the modules, and the names that these drivers have in a kernel that has
/// them built in.
const PCI_DRIVERS: [(&str, &[u8]); 2] =
    [("pci_host_generic", b"pci-host-ecam-generic\0"), ("virtio_pci", b"virtio-pci\0")];

/// Where a guest finds its devices, if nobody has said it: on a PCI bus where its kernel has the drivers for that.
pub fn transport(kernel: &Kernel, modules: Option<&Tree>) -> Result<TransportKind> {
    for (module, name) in PCI_DRIVERS {
        if !modules.is_some_and(|tree| tree.has(module)) && !kernel.contains(name)? {
            return Ok(TransportKind::Mmio);
        }
    }
    Ok(TransportKind::Pci)
}

/// The drivers for what a guest has, in the order in which they are loaded: the bus, the console, and the devices.
pub fn drivers(bus: TransportKind, disks: bool, net: bool, vsock: bool, balloon: bool) -> Vec<&'static str> {
    let mut names = match bus {
        TransportKind::Mmio => vec!["virtio_mmio"],
        TransportKind::Pci => PCI_DRIVERS.map(|(module, _)| module).to_vec(),
    };
    names.extend(["virtio_console", "virtio_rng"]);
    for (wanted, name) in
        [(disks, "virtio_blk"), (net, "virtio_net"), (vsock, "vmw_vsock_virtio_transport"), (balloon, "virtio_balloon")]
    {
        if wanted {
            names.push(name);
        }
    }
    names
}

/// Finds the modules for `kernel`: in `given`, else beside the kernel, else this machine's own of the same release.
/// `None` where nothing was given and nothing fits: the kernel may have everything built in.
pub fn find_modules(given: Option<&Path>, kernel: &Kernel, kernel_path: &Path) -> Result<Option<Tree>> {
    if let Some(path) = given {
        // The release decides only where the directory holds several.
        let release = if path.join("modules.dep").exists() { None } else { kernel.release()? };
        return Ok(Some(Tree::open(path, release.as_deref())?));
    }
    let beside = kernel_path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let mut places: Vec<PathBuf> = beside.into_iter().map(|p| p.join("modules")).collect();
    places.push("/lib/modules".into());
    if !places.iter().any(|p| p.is_dir()) {
        return Ok(None);
    }
    let Some(release) = kernel.release()? else { return Ok(None) };
    for place in places {
        if let Ok(tree) = Tree::open(&place, Some(&release)) {
            // Modules of another release would not load.
            if tree.release() == Some(&release) || place.join("modules.dep").exists() {
                return Ok(Some(tree));
            }
        }
    }
    Ok(None)
}

/// Builds the archive with this program, the modules `drivers` and the root's file system with what
/// they need, and the task, which is told the modules' names.
pub fn archive(modules: Option<&Tree>, drivers: &[&str], mut task: Task) -> Result<Vec<u8>> {
    let mut wanted = drivers.to_vec();
    match &task.root {
        Some(Root::Disk { file_system, .. }) => wanted.push(file_system),
        Some(Root::Host { .. }) => wanted.push(task::OVERLAY_FILE_SYSTEM),
        None => {}
    }
    let files = modules.map(|tree| tree.select(&wanted)).unwrap_or_default();

    let mut cpio = Cpio::new();
    // A first process without standard files needs these two to open some.
    cpio.dir("dev");
    cpio.chardev("dev/console", 0o600, 5, 1);
    cpio.chardev("dev/null", 0o666, 1, 3);
    cpio.dir(task::DIRECTORY);
    let own = std::fs::read("/proc/self/exe").context("loft cannot read its own program (is /proc mounted?)")?;
    cpio.file(&format!("{}/{}", task::DIRECTORY, task::BINARY), 0o755, &own);
    cpio.dir(&format!("{}/{}", task::DIRECTORY, task::MODULES));
    for file in &files {
        let name = file.file_name().ok_or_else(|| anyhow!("{} is no module", file.display()))?;
        let name = name.to_string_lossy().into_owned();
        let content =
            std::fs::read(file).with_context(|| format!("the kernel module {} cannot be read", file.display()))?;
        cpio.file(&format!("{}/{}/{name}", task::DIRECTORY, task::MODULES), 0o644, &content);
        task.modules.push(name);
    }
    let text = serde_json::to_vec(&task).context("the task cannot be written")?;
    cpio.file(&format!("{}/{}", task::DIRECTORY, task::FILE), 0o600, &text);
    Ok(cpio.finish())
}

/// The first process, for `rdinit=`.
pub fn first_process() -> String {
    format!("{}/{}", task::DIRECTORY, task::BINARY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use loft_agent::task::Action;

    #[test]
    fn the_archive_holds_program_modules_and_task() {
        let dir = std::env::temp_dir().join(format!("loft-guest-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("modules.dep"), "a/ext4.ko.xz: b/jbd2.ko.xz\nb/jbd2.ko.xz:\nvirtio_blk.ko:\n").unwrap();
        for (file, content) in [("a/ext4.ko.xz", "EXT4"), ("b/jbd2.ko.xz", "JBD2"), ("virtio_blk.ko", "VBLK")] {
            std::fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.join(file), content).unwrap();
        }
        let tree = Tree::open(&dir, None).unwrap();
        let root = Root::Disk { device: "/dev/vda".into(), file_system: "ext4".into(), read_only: false };
        let action = Action::Init { console: "/dev/hvc0".into(), env: vec![("TERM".into(), b"vt100".to_vec())] };
        let share = task::Share { tag: "src".into(), target: "/mnt/src".into(), read_only: true };
        let given = Task { modules: Vec::new(), root: Some(root), shares: vec![share], network: None, action };
        let bytes =
            archive(Some(&tree), &drivers(TransportKind::Mmio, true, false, true, false), given.clone()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();

        let find = |needle: &[u8]| bytes.windows(needle.len()).position(|w| w == needle);
        for name in [
            ".loft/init\0",
            ".loft/modules/ext4.ko.xz\0",
            ".loft/modules/jbd2.ko.xz\0",
            ".loft/modules/virtio_blk.ko\0",
        ] {
            assert!(find(name.as_bytes()).is_some(), "{name}");
        }
        assert!(find(b"JBD2").is_some());
        // This program, which the archive holds as well, has the same text in it: the task comes last.
        let start = bytes.windows(10).rposition(|w| w == b"{\"modules\"").unwrap();
        let mut tasks = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter::<Task>();
        let task = tasks.next().unwrap().unwrap();
        assert_eq!(task.modules, ["virtio_blk.ko", "jbd2.ko.xz", "ext4.ko.xz"]);
        assert_eq!(task, Task { modules: task.modules.clone(), ..given });
    }
    #[test]
    fn a_bus_is_there_where_the_kernel_has_both_drivers() {
        let dir = std::env::temp_dir().join(format!("loft-bus-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // kernel: an `Image` that has these drivers built in.
        let kernel = |drivers: &[&[u8]]| {
            let mut image = vec![0; 8192];
            image[56..60].copy_from_slice(b"ARM\x64");
            image[16..24].copy_from_slice(&8192u64.to_le_bytes());
            for (n, driver) in drivers.iter().enumerate() {
                image[5000 + 100 * n..][..driver.len()].copy_from_slice(driver);
            }
            let path = dir.join("Image");
            std::fs::write(&path, image).unwrap();
            Kernel::open(&path).unwrap()
        };
        let tree = |dep: &str| {
            std::fs::write(dir.join("modules.dep"), dep).unwrap();
            Tree::open(&dir, None).unwrap()
        };
        let [(_, host), (_, virtio)] = PCI_DRIVERS;
        let both = tree("a/pci-host-generic.ko:\nb/virtio_pci.ko.xz:\n");
        let one = tree("b/virtio_pci.ko:\n");
        let none = tree("b/virtio_mmio.ko:\n");
        for (drivers, modules, found) in [
            (&[host, virtio][..], None, TransportKind::Pci),
            (&[host, virtio], Some(&none), TransportKind::Pci),
            (&[host], Some(&one), TransportKind::Pci),
            (&[], Some(&both), TransportKind::Pci),
            (&[host], Some(&none), TransportKind::Mmio),
            (&[virtio], Some(&one), TransportKind::Mmio),
            (&[], Some(&one), TransportKind::Mmio),
            (&[], None, TransportKind::Mmio),
        ] {
            assert_eq!(transport(&kernel(drivers), modules).unwrap(), found, "{drivers:?} {modules:?}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
