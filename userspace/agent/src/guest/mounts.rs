// SPDX-License-Identifier: Apache-2.0
//! File systems in the guest.

use super::{log, Result};
use crate::task::{Root, Share, OVERLAY_FILE_SYSTEM, SHARE_FILE_SYSTEM};
use nix::errno::Errno;
use nix::mount::{mount, umount2, MntFlags, MsFlags};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a disk may take to appear.
const DISK_LIMIT: Duration = Duration::from_secs(20);
const NONE: Option<&str> = None;
/// The root file system, until it is the root.
const TARGET: &str = "/.loft/root";
/// The launcher's machine, under what the guest writes.
const LOWER: &str = "/.loft/host";
/// The guest's memory, over that.
const UPPER: &str = "/.loft/memory";

/// Where shares are mounted, and the directories that were made for them, in that order.
static MADE: Mutex<(Vec<PathBuf>, Vec<PathBuf>)> = Mutex::new((Vec::new(), Vec::new()));

/// Mounts /dev, /proc and /sys under `root`, where they are not mounted yet.
pub fn kernel_file_systems(root: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (kind, target, flags) in [
        ("devtmpfs", "dev", MsFlags::MS_NOSUID),
        ("proc", "proc", flags | MsFlags::MS_NODEV),
        ("sysfs", "sys", flags | MsFlags::MS_NODEV),
    ] {
        let target = Path::new(root).join(target);
        let _ = std::fs::create_dir_all(&target);
        match mount(Some(kind), &target, Some(kind), flags, NONE) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) => return Err(format!("{kind} cannot be mounted on {}: {e}", target.display())),
        }
    }
    Ok(())
}

/// Mounts what programs expect beside those. Missing ones are not fatal: the command may not need
/// them. `own_tmp` is false where /tmp is to be left as it is.
pub fn user_file_systems(own_tmp: bool) {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let all = [
        ("devpts", "/dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=0620,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", flags, "mode=1777"),
        ("tmpfs", "/run", flags, "mode=0755"),
        ("tmpfs", "/tmp", flags, "mode=1777"),
    ];
    for (kind, target, flags, options) in all.into_iter().filter(|(_, target, ..)| own_tmp || *target != "/tmp") {
        // A root that cannot be written to and lacks the directory goes without.
        if std::fs::create_dir_all(target).is_ok() {
            let _ = mount(Some(kind), target, Some(kind), flags, Some(options));
        }
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(target, Path::new("/dev").join(link));
    }
}

/// Mounts `root` and makes it the root directory, as switch_root(8) does.
pub fn switch_root(root: &Root) -> Result<()> {
    make_directory(TARGET)?;
    match root {
        Root::Disk { device, file_system, read_only } => mount_disk(device, file_system, *read_only)?,
        Root::Host { tag } => mount_host(tag)?,
    }
    for name in ["dev", "proc", "sys"] {
        let target = Path::new(TARGET).join(name);
        let _ = std::fs::create_dir(&target);
        let from = Path::new("/").join(name);
        if let Err(e) = mount(Some(&from), &target, NONE, MsFlags::MS_MOVE, NONE) {
            log(&format!("{} cannot be moved into the root file system: {e}", from.display()));
        }
    }
    let change = || {
        std::env::set_current_dir(TARGET)?;
        mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
        nix::unistd::chroot(".")?;
        std::env::set_current_dir("/")
    };
    change().map_err(|e: std::io::Error| format!("the root file system cannot be switched to: {e}"))
}

fn mount_disk(device: &str, file_system: &str, read_only: bool) -> Result<()> {
    wait_for(device)?;
    let flags = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    mount(Some(device), TARGET, Some(file_system), flags, NONE)
        .map_err(|e| format!("{device} cannot be mounted as {file_system}: {e}{}", missing(e)))
}

/// Mounts the launcher's machine under the guest's memory.
fn mount_host(tag: &str) -> Result<()> {
    make_directory(LOWER)?;
    mount_share(tag, Path::new(LOWER), true)?;
    make_directory(UPPER)?;
    mount(Some("tmpfs"), UPPER, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .map_err(|e| format!("no memory can be mounted: {e}"))?;
    let (upper, work) = (format!("{UPPER}/files"), format!("{UPPER}/work"));
    make_directory(&upper)?;
    make_directory(&work)?;
    let options = format!("lowerdir={LOWER},upperdir={upper},workdir={work}");
    mount(Some(OVERLAY_FILE_SYSTEM), TARGET, Some(OVERLAY_FILE_SYSTEM), MsFlags::empty(), Some(options.as_str()))
        .map_err(|e| format!("this machine's files cannot be mounted under the guest's memory: {e}{}", missing(e)))
}

/// Mounts `shares`, those in others' directories after the others. The directories are made where
/// they are missing, for [`undo`] to remove.
pub fn shares(shares: &[Share]) -> Result<()> {
    let mut ordered: Vec<&Share> = shares.iter().collect();
    ordered.sort_by_key(|share| Path::new(&share.target).components().count());
    for share in ordered {
        let target = Path::new(&share.target);
        let missing: Vec<&Path> = target.ancestors().take_while(|directory| !directory.exists()).collect();
        let mut made = MADE.lock().unwrap_or_else(|e| e.into_inner());
        for directory in missing.into_iter().rev() {
            std::fs::create_dir(directory)
                .map_err(|e| format!("{} cannot be made for a shared directory: {e}", directory.display()))?;
            made.1.push(directory.to_owned());
        }
        mount_share(&share.tag, target, share.read_only)?;
        made.0.push(target.to_owned());
    }
    Ok(())
}

/// Unmounts the shares and removes the directories that were made for them.
pub fn undo() {
    let (mounted, made) = std::mem::take(&mut *MADE.lock().unwrap_or_else(|e| e.into_inner()));
    for target in mounted.iter().rev() {
        // It may have been unmounted, and so may what is below it.
        let _ = umount2(target, MntFlags::MNT_DETACH);
    }
    for directory in made.iter().rev() {
        // Somebody may have put something there.
        let _ = std::fs::remove_dir(directory);
    }
}

/// Mounts the virtio file system `tag`; waits until it is there.
fn mount_share(tag: &str, target: &Path, read_only: bool) -> Result<()> {
    let flags = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let deadline = Instant::now() + DISK_LIMIT;
    loop {
        match mount(Some(tag), target, Some(SHARE_FILE_SYSTEM), flags | MsFlags::MS_NODEV | MsFlags::MS_NOSUID, NONE) {
            Ok(()) => return Ok(()),
            // No device has this tag, yet.
            Err(Errno::EINVAL) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Err(e) => return Err(format!("{} cannot be shared with the guest: {e}{}", target.display(), missing(e))),
        }
    }
}

fn make_directory(path: &str) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| format!("{path} cannot be made: {e}"))
}

/// What to do where the kernel lacks a file system.
fn missing(error: Errno) -> &'static str {
    match error {
        Errno::ENODEV => "; the kernel has no such file system: give its modules with --modules",
        _ => "",
    }
}

fn wait_for(device: &str) -> Result<()> {
    let deadline = Instant::now() + DISK_LIMIT;
    while !Path::new(device).exists() {
        if Instant::now() > deadline {
            return Err(format!(
                "{device} did not appear; the kernel has no driver for it (virtio_mmio or virtio_pci, virtio_blk): give its modules with --modules"
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
