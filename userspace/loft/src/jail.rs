// SPDX-License-Identifier: Apache-2.0
//! `loft run --jail USER`: a launcher that was started as root and is nobody when its guest runs.
//!
//! Root opens the disks, the network and the hypervisor. Then the launcher leaves all file systems
//! but for an empty one (pivot_root(2), in a mount namespace of its own), goes into a cgroup that
//! bounds its memory and its threads, and becomes USER, with no groups and no capabilities; the
//! sandbox follows. Whoever takes it over from within the guest has its open files and nothing else.
//!
//! The process that was started stays outside as root. It passes signals on, and removes the cgroup
//! and the guest's socket at the end.

use crate::ending::FAILED;
use crate::{guests, sandbox};
use anyhow::{anyhow, bail, Context, Result};
use nix::errno::Errno;
use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::sched::{unshare, CloneFlags};
use nix::sys::signal::{kill, signal, SigHandler, SigSet, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{
    chdir, chroot, fork, getppid, pivot_root, setgroups, setresgid, setresuid, ForkResult, Gid, Pid, Uid,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroups are (Documentation/admin-guide/cgroup-v2.rst).
const CGROUPS: &str = "/sys/fs/cgroup";
/// Those of jails, in there.
const OURS: &str = "loft";
/// Bytes that a launcher may have beside its guest's memory, what the kernel keeps for it included.
const BESIDE: u64 = 128 << 20;
/// The part of the guest's memory that its page tables may need beside: the process's and stage 2
/// have 8 bytes each for a page of 4 KiB, and this is twice as much.
const TABLES: u64 = 128;
/// Threads beside those of vCPUs, of disks and of cards.
const THREADS: u32 = 256;

/// Who the launcher becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    uid: Uid,
    gid: Gid,
}

impl User {
    /// Finds `name`, which is a user's name in /etc/passwd or two numbers, UID:GID.
    pub fn find(name: &str) -> Result<Self> {
        Self::find_in(name, &fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    fn find_in(name: &str, passwd: &str) -> Result<Self> {
        let numbers = |uid: &str, gid: &str| Some((uid.parse().ok()?, gid.parse().ok()?));
        let of_line = |line: &str| {
            let mut words = line.split(':');
            let (login, uid, gid) = (words.next()?, words.nth(1)?, words.next()?);
            if login == name {
                numbers(uid, gid)
            } else {
                None
            }
        };
        let given = name.split_once(':').and_then(|(uid, gid)| numbers(uid, gid));
        let (uid, gid): (u32, u32) = given.or_else(|| passwd.lines().find_map(of_line)).with_context(|| {
            format!("there is no user '{name}' in /etc/passwd; give another one to --jail, or two numbers, UID:GID")
        })?;
        if uid == 0 || gid == 0 || uid == u32::MAX || gid == u32::MAX {
            bail!("'{name}' is no user whom a jail would hold; give one that is not root's to --jail");
        }
        Ok(Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    }
}

/// A jail that the launcher will enter.
#[derive(Debug)]
pub struct Jail {
    user: User,
    cgroup: PathBuf,
    /// The process that stays outside.
    outer: Pid,
}

/// Closes what whoever started this process has left open but for the standard files: a directory
/// would lead out of the jail. To be called before anything is opened.
pub fn close_inherited() -> Result<()> {
    // SAFETY: nothing in this process has a descriptor from 3 on yet that it would use again.
    let failed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } != 0;
    if failed {
        return Err(Errno::last()).context("cannot close what was left open");
    }
    Ok(())
}

/// Forks. `Err` with the exit code is the process that was started, when the launcher has ended; the
/// launcher itself goes on. To be called before there are threads, with the signals blocked that are
/// passed on. The guest will have `name`, or one that has its launcher's number. `release` lets go of
/// what the launcher alone is to have.
pub fn prepare(user: &str, name: Option<&str>, release: impl FnOnce()) -> Result<Result<Jail, u8>> {
    if !Uid::effective().is_root() {
        bail!("--jail needs root, which the launcher then gives up; without root leave it out");
    }
    let user = User::find(user)?;
    if !Path::new(CGROUPS).join("cgroup.controllers").exists() {
        bail!("--jail needs cgroups: mount -t cgroup2 cgroup2 {CGROUPS}");
    }
    // Whoever ignores it, as a parent may have left it, is told nothing of a child's end.
    // SAFETY: the default action runs nothing.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.context("cannot have SIGCHLD")?;
    let outer = Pid::this();
    // SAFETY: this process has no other thread yet, so the child may do whatever its parent may.
    match unsafe { fork() }.context("cannot make a process for the jail")? {
        ForkResult::Child => Ok(Ok(Jail { user, cgroup: cgroup(name, Pid::this()), outer })),
        ForkResult::Parent { child } => {
            release();
            let code = watch(child);
            // Who looks for guests removes the sockets of those that have ended.
            let _ = guests::all(&guests::directory());
            let _ = fs::remove_dir(cgroup(name, child));
            Ok(Err(code?))
        }
    }
}

/// The cgroup of the guest `name`, or of the one that the process `launcher` runs. No other guest
/// has it, and it has no name that the kernel uses there.
fn cgroup(name: Option<&str>, launcher: Pid) -> PathBuf {
    let name = name.map_or_else(|| guests::default_name(launcher.as_raw() as u32), |name| format!("{name}-{launcher}"));
    Path::new(CGROUPS).join(OURS).join(name + ".guest")
}

/// Passes signals on to `child` until it has ended; its exit code.
fn watch(child: Pid) -> Result<u8> {
    let mut set = SigSet::thread_get_mask().context("cannot read the signal mask")?;
    set.add(Signal::SIGCHLD);
    set.thread_block().context("cannot block signals")?;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).context("cannot wait for the launcher")? {
            WaitStatus::Exited(_, code) => return Ok(code as u8),
            WaitStatus::Signaled(_, signal, _) => {
                crate::output::message(&format!("loft: the launcher was ended by {signal}"));
                return Ok(FAILED);
            }
            _ => {}
        }
        match set.wait() {
            Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {}
            // One that has ended meanwhile is seen above.
            Ok(signal) => drop(kill(child, signal)),
            Err(error) => return Err(error).context("cannot wait for signals"),
        }
    }
}

impl Jail {
    /// Goes in, for ever. All is open that will be needed, this is the only thread, and `empty` is a
    /// directory, which nobody else sees change. The guest has `memory` bytes, its vCPUs and disks
    /// `threads`.
    ///
    /// # Errors
    /// If any of it cannot be done; if there are other threads, nothing has been.
    pub fn enter(&self, empty: &Path, memory: u64, threads: u32) -> Result<()> {
        // Another one would keep its namespace and its root.
        let tasks = fs::read_dir("/proc/self/task").context("the jail: cannot read /proc/self/task")?.count();
        if tasks != 1 {
            bail!("the jail would hold one thread only, and there are {tasks} already: this is a fault of loft");
        }
        self.join_cgroup(memory, threads)?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC).context("the jail: cannot make a namespace")?;
        leave_files(empty).context("the jail: cannot leave the file systems")?;
        setgroups(&[]).context("the jail: cannot leave the groups")?;
        setresgid(self.user.gid, self.user.gid, self.user.gid).context("the jail: cannot change the group")?;
        setresuid(self.user.uid, self.user.uid, self.user.uid).context("the jail: cannot change the user")?;
        sandbox::hide().context("the jail")?;
        nix::sys::prctl::set_no_new_privs().context("the jail: cannot set no_new_privs")?;
        // Whoever waits outside is the one who cleans up.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("the jail: cannot be tied to its parent")?;
        if getppid() != self.outer {
            bail!("the jail: whoever has started the launcher has ended");
        }
        // The last of the capabilities went with the user.
        if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)) != Err(Errno::EPERM) {
            bail!("the jail does not hold: the launcher could become root again");
        }
        Ok(())
    }

    fn join_cgroup(&self, memory: u64, threads: u32) -> Result<()> {
        let parent = self.cgroup.parent().context("a cgroup without a parent")?;
        let failed = |what: &str, error: std::io::Error| anyhow!("the jail: {what}: {error}");
        // Controllers are handed down from above, as far as there are any.
        let hand_down = |place: &Path| {
            ["+memory", "+pids"].iter().for_each(|one| drop(fs::write(place.join("cgroup.subtree_control"), one)));
        };
        hand_down(Path::new(CGROUPS));
        fs::create_dir_all(&self.cgroup).map_err(|e| failed("cannot make a cgroup", e))?;
        hand_down(parent);
        let memory = memory.saturating_add(BESIDE).saturating_add(memory / TABLES);
        let limits = [("memory.max", memory), ("pids.max", THREADS.saturating_add(threads).into())];
        for (name, value) in limits {
            let file = self.cgroup.join(name);
            fs::write(&file, value.to_string()).map_err(|e| {
                failed(&format!("{} cannot be set (has the kernel this controller?)", file.display()), e)
            })?;
        }
        fs::write(self.cgroup.join("cgroup.procs"), "0").map_err(|e| failed("cannot join the cgroup", e))
    }
}

/// Makes an empty file system, at `place`, all that this process has.
fn leave_files(place: &Path) -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("jail"), place, Some("tmpfs"), flags, Some("size=4k,mode=555"))?;
    mount(none, place, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | flags, none)?;
    chdir(place)?;
    match pivot_root(".", ".") {
        // The old root lies over the new one now, and goes.
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // The root is the initial RAM disk's, which stays for ever (pivot_root(2), EINVAL): the new
        // one comes to lie over it.
        Err(Errno::EINVAL) => {
            mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
            chroot(".")?;
        }
        Err(error) => return Err(error),
    }
    chdir("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\nbad:x:1\n";

    #[test]
    fn users() {
        let ids = |name: &str| User::find_in(name, PASSWD).map(|user| (user.uid.as_raw(), user.gid.as_raw()));
        assert_eq!(ids("nobody").unwrap(), (65534, 65533));
        assert_eq!(ids("1000:1001").unwrap(), (1000, 1001));
        for (name, error) in [
            ("root", "is not root's"),
            ("0:5", "is not root's"),
            ("5:0", "is not root's"),
            ("4294967295:5", "is not root's"),
            ("bad", "there is no user 'bad'"),
            ("x", "UID:GID"),
            ("", "UID:GID"),
            ("1000", "UID:GID"),
            ("1000:", "UID:GID"),
        ] {
            let text = ids(name).unwrap_err().to_string();
            assert!(text.contains(error), "{name}: {text}");
        }
    }

    #[test]
    fn only_root_makes_jails() {
        if !Uid::effective().is_root() {
            let error = prepare("nobody", None, || ()).unwrap_err().to_string();
            assert!(error.contains("needs root"), "{error}");
        }
    }
}
