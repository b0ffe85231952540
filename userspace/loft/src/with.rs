// SPDX-License-Identifier: Apache-2.0
//! `loft with`: a program that wants /dev/kvm gets loft in that place.
//!
//! The program runs in a mount namespace of its own, in which the device is bound over /dev/kvm: nobody else sees it.
//! Without root a user namespace comes with it, in which the user keeps their own ids.

use crate::cli::WithArgs;
use crate::{node, output};
use anyhow::{anyhow, bail, Context, Result};
use nix::errno::Errno;
use nix::mount::{mount, MsFlags};
use nix::sched::{unshare, CloneFlags};
use nix::unistd::{getgid, getuid};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const KVM: &str = "/dev/kvm";
const NONE: Option<&str> = None;

/// Runs the program; returns only if that fails.
pub fn main(args: &WithArgs) -> Result<u8> {
    let (program, arguments) = args.command.split_first().context("no command was given")?;
    // What cannot be opened here cannot be opened there.
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&args.device)
        .map_err(|e| node::open_error(&args.device, e.raw_os_error().unwrap_or(0)))?;
    enter_namespaces()?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("cannot make the mounts private")?;
    if !Path::new(KVM).exists() {
        make_place()?;
    }
    mount(Some(&args.device), KVM, NONE, MsFlags::MS_BIND, NONE)
        .with_context(|| format!("cannot put {} in the place of {KVM}", args.device.display()))?;
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    output::message(&format!("loft: {} cannot be executed: {error}", program.to_string_lossy()));
    Ok(code)
}

fn enter_namespaces() -> Result<()> {
    let (uid, gid) = (getuid(), getgid());
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(e) => return Err(e).context("cannot make a mount namespace"),
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e| {
        anyhow!(
            "cannot make a user namespace ({e}): this system does not allow it to users; run as root, \
             or allow it (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
        )
    })?;
    let write = |file: &str, text: String| std::fs::write(file, text).with_context(|| format!("cannot write {file}"));
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Makes a file that the device can be bound over, in a copy of /dev: possible for root only.
fn make_place() -> Result<()> {
    if !getuid().is_root() {
        bail!(
            "{KVM} does not exist, so there is nothing to put loft in the place of; run as root, \
             or load the module so that it makes that name itself (insmod loft.ko kvm_node=1)"
        );
    }
    let copy = std::env::temp_dir().join(format!("loft-dev-{}", std::process::id()));
    let made = || -> Result<()> {
        std::fs::create_dir(&copy)?;
        mount(Some("tmpfs"), &copy, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755"))?;
        for entry in std::fs::read_dir("/dev")?.flatten() {
            let target = copy.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &target)?;
                continue;
            }
            if kind.is_dir() {
                std::fs::create_dir(&target)?;
            } else {
                std::fs::File::create(&target)?;
            }
            mount(Some(&entry.path()), &target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
        }
        std::fs::File::create(copy.join("kvm"))?;
        mount(Some(&copy), "/dev", NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
        // Outside this namespace it is an empty directory, which nobody needs any more.
        nix::mount::umount2(&copy, nix::mount::MntFlags::MNT_DETACH)?;
        std::fs::remove_dir(&copy)?;
        Ok(())
    };
    made().with_context(|| format!("{KVM} does not exist and a private /dev with it cannot be made"))
}
