// SPDX-License-Identifier: Apache-2.0
//! Directories of this machine in the guest, by virtiofsd: a process of the calling user for each.
//!
//! virtiofsd's own sandbox wants root, or a user namespace in which the owners of files are not
//! what they are. So it goes without, and Landlock (landlock(7)) keeps it to the directory: a guest
//! that takes it over reads and writes no other files but the system's.

use crate::cli::RunArgs;
use crate::program::Program;
use anyhow::{bail, Context, Result};
use landlock::{
    path_beneath_rules, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope, ABI,
};
use loft_agent::task;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its name.
pub const PROGRAM: &str = "virtiofsd";
/// Where it is, as it is in no PATH: Debian's and Fedora's place, and Arch's.
const PLACES: [&str; 3] = ["/usr/libexec", "/usr/lib", "/usr/lib/qemu"];
/// What it reads beside the directory: itself, its libraries, the limits of the kernel.
const SYSTEM: [&str; 6] = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/proc"];
/// The newest rights that Landlock is asked for.
const RIGHTS: ABI = ABI::V6;

/// A directory that a guest gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The directory, as it is called without symbolic links.
    pub directory: PathBuf,
    /// What the guest mounts it by.
    pub tag: String,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Where the guest has it; it is the root itself if nowhere.
    pub target: Option<String>,
}

impl Share {
    /// What the guest's first process mounts, if it is not the root.
    pub fn task(&self) -> Option<task::Share> {
        let (tag, target) = (self.tag.clone(), self.target.clone()?);
        Some(task::Share { tag, target, read_only: self.read_only })
    }
}

/// Checks the directories that were asked for. With `root` this machine's own root is the first.
pub fn plan(args: &RunArgs, root: bool) -> Result<Vec<Share>> {
    let mut shares = Vec::new();
    if root {
        shares.push(Share { directory: "/".into(), tag: "loft-root".into(), read_only: true, target: None });
    }
    let asked =
        args.shares.iter().map(|share| ("--share", share.path.as_path(), share.tag.as_deref(), share.read_only));
    let writable = args.writable.iter().map(|path| ("--rw", path.as_path(), None, false));
    for (option, path, tag, read_only) in asked.chain(writable) {
        let directory = check(option, path)?;
        let Some(name) = directory.to_str() else {
            bail!("the name of {} is no UTF-8, and so cannot be told to the guest", directory.display());
        };
        let target = match tag {
            Some(tag) => format!("/mnt/{tag}"),
            None if directory == Path::new("/") => {
                bail!("{option} {}: a guest has a root already; give it a place: --share /:TAG", path.display())
            }
            None => name.to_owned(),
        };
        let tag = tag.map_or_else(|| format!("loft-{}", shares.len()), str::to_owned);
        if shares.iter().any(|other: &Share| other.tag == tag) {
            bail!("two shared directories have the tag '{tag}'; give one of them another: --share DIR:TAG");
        }
        if shares.iter().any(|other| other.target.as_ref() == Some(&target)) {
            bail!("{} is shared twice with the guest, at {target}; leave one out", directory.display());
        }
        shares.push(Share { directory, tag, read_only, target: Some(target) });
    }
    let refused = [
        (args.huge, "--huge", "memory of huge pages cannot be shared with virtiofsd"),
        (args.jail.is_some(), "--jail", "a jail has no files"),
    ];
    if let Some((_, option, reason)) = refused.iter().find(|(given, ..)| *given && !shares.is_empty()) {
        bail!("{reason}: leave out {option}, or --share and --rw, or give a disk where there is none");
    }
    Ok(shares)
}

/// The directory `path` without symbolic links.
fn check(option: &str, path: &Path) -> Result<PathBuf> {
    let show = path.display();
    let is_directory = std::fs::metadata(path).map(|facts| facts.is_dir());
    match (is_directory, path.canonicalize()) {
        (Ok(false), _) => {
            bail!("{option} {show}: this is a file, and a directory is shared; give the one that it is in")
        }
        (Ok(true), Ok(directory)) => Ok(directory),
        (Err(e), _) | (_, Err(e)) if e.kind() == ErrorKind::NotFound => {
            bail!("{option} {show}: there is no such directory; make it: mkdir -p {show}")
        }
        (Err(e), _) | (_, Err(e)) => bail!("{option} {show}: {e}"),
    }
}

/// The target on which the current directory of this process is the guest's as well, if one of
/// `shares` has it at the same path.
pub fn current_directory(shares: &[Share], current: &Path) -> Option<PathBuf> {
    let has = |share: &Share| match &share.target {
        None => true,
        Some(target) => Path::new(target) == share.directory && current.starts_with(&share.directory),
    };
    shares.iter().any(has).then(|| current.to_owned())
}

/// virtiofsd at work, until it is dropped.
pub struct Virtiofsd {
    program: Program,
    directory: PathBuf,
}

impl Virtiofsd {
    /// Starts it for `share`; returns the connection to it as well.
    ///
    /// # Errors
    /// If it cannot be started. One that has ended afterwards says why by [`Self::complaint`].
    pub fn start(share: &Share) -> Result<(Self, UnixStream)> {
        Self::start_program(&find(), share)
    }

    fn start_program(program: &Path, share: &Share) -> Result<(Self, UnixStream)> {
        let (listener, ours) = connection().context("cannot make a socket")?;
        let mut command = Command::new(program);
        command.args(arguments(share, listener.as_raw_fd()));
        let bounds = bounds(program, share).context("cannot set Landlock up")?;
        let missing = match share.target {
            Some(_) => "virtiofsd is not installed, which --share and --rw need: apt install virtiofsd",
            None => {
                "virtiofsd is not installed, which a command in this machine's own files needs: apt install virtiofsd; \
                 or give a disk with -d, or an initial RAM disk with -i"
            }
        };
        let program = Program::start(PROGRAM, command, listener.into(), Some(bounds), missing)?;
        Ok((Self { program, directory: share.directory.clone() }, ours))
    }

    /// Why it has ended.
    pub fn complaint(&mut self) -> anyhow::Error {
        self.program.complaint()
    }

    /// Warns from now on of what it complains of; tells `ended` when it has ended.
    pub fn listen(&mut self, ended: impl FnOnce(String) + Send + 'static) -> Result<()> {
        let directory = self.directory.display().to_string();
        self.program.listen(move || ended(format!("{PROGRAM} has ended, and so the guest has lost {directory}")))
    }
}

/// Whether it is installed.
pub fn is_installed() -> bool {
    find().is_file()
}

/// Where it is installed, or its name.
fn find() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(PLACES.iter().map(PathBuf::from));
    places.map(|place| place.join(PROGRAM)).find(|file| file.is_file()).unwrap_or_else(|| PROGRAM.into())
}

/// A socket that listens, and the one connection to it. It has no name any more when this returns,
/// and had none that others could use.
fn connection() -> std::io::Result<(UnixListener, UnixStream)> {
    let directory = nix::unistd::mkdtemp(&std::env::temp_dir().join("loft-share-XXXXXX"))?;
    let path = directory.join("socket");
    let connect = || -> std::io::Result<_> {
        let listener = UnixListener::bind(&path)?;
        let ours = UnixStream::connect(&path)?;
        Ok((listener, ours))
    };
    let result = connect();
    // Nothing is in it but for the socket, if that was made.
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_dir(&directory);
    result
}

fn arguments(share: &Share, fd: i32) -> Vec<OsString> {
    // Without handles of files, which root alone can open.
    let mut words = ["--sandbox", "none", "--inode-file-handles=never", "--log-level", "error", "--fd"]
        .map(OsString::from)
        .to_vec();
    words.push(fd.to_string().into());
    words.extend(["--shared-dir".into(), share.directory.clone().into()]);
    if share.read_only {
        words.push("--readonly".into());
    }
    // An overlay takes no file system in which others appear by themselves.
    words.push(if share.target.is_none() { "--no-announce-submounts" } else { "--announce-submounts" }.into());
    words
}

/// What virtiofsd may reach, as far as this kernel can keep it to that.
fn bounds(program: &Path, share: &Share) -> Result<RulesetCreated> {
    let (all, read) = (AccessFs::from_all(RIGHTS), AccessFs::from_read(RIGHTS));
    let system = SYSTEM.iter().map(Path::new).chain([program]);
    let of_share = if share.read_only { read } else { all };
    Ok(Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?
        .create()?
        .add_rules(path_beneath_rules(system, read))?
        .add_rules(path_beneath_rules([&share.directory], of_share))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command as Subcommand};
    use clap::Parser;
    use std::io::Read;

    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("loft-share-{}-{name}", std::process::id()));
            std::fs::create_dir_all(path.join("one")).unwrap();
            std::fs::write(path.join("file"), "outside").unwrap();
            std::os::unix::fs::symlink("one", path.join("link")).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn planned(words: &[&str], root: bool) -> Result<Vec<Share>, String> {
        let all = ["loft", "run", "-k", "x"].iter().chain(words);
        let Subcommand::Run(args) = Cli::try_parse_from(all).unwrap().command else { panic!() };
        plan(&args, root).map_err(|e| e.to_string())
    }

    #[test]
    fn what_was_asked_for() {
        let dir = Temporary::new("plan");
        let (one, link) = (dir.0.join("one"), dir.0.join("link"));
        let (one, link) = (one.to_str().unwrap(), link.to_str().unwrap());
        let tagged = format!("{link}:src,ro");
        let shares = planned(&["--share", &tagged, "--rw", link], true).unwrap();
        let share = |tag: &str, read_only, target: &str| Share {
            directory: one.into(),
            tag: tag.into(),
            read_only,
            target: Some(target.into()),
        };
        assert_eq!(shares[1..], [share("src", true, "/mnt/src"), share("loft-2", false, one)]);
        assert_eq!((shares[0].directory.as_path(), shares[0].read_only), (Path::new("/"), true));
        assert_eq!(shares[0].task(), None);
        assert_eq!(shares[2].task().unwrap().target, one);
        assert_eq!(planned(&[], false).unwrap(), []);

        let inside = Path::new(one).join("deep");
        assert_eq!(current_directory(&shares[2..], &inside), Some(inside.clone()));
        assert_eq!(current_directory(&shares[..1], &inside), Some(inside.clone()));
        assert_eq!(current_directory(&shares[1..2], &inside), None);
        assert_eq!(current_directory(&shares[2..], &dir.0), None);
    }

    #[test]
    fn mistakes_are_refused() {
        let dir = Temporary::new("refused");
        let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
        let error = |words: &[&str]| planned(words, true).unwrap_err();
        assert!(error(&["--share", &at("none")]).contains("no such directory"));
        assert!(error(&["--rw", &at("none")]).starts_with("--rw "));
        assert!(error(&["--share", &at("file")]).contains("is a file"));
        let (a, b) = (at("one") + ":a", at("") + ":a");
        assert!(error(&["--share", &a, "--share", &b]).contains("the tag 'a'"));
        assert!(error(&["--share", &at("one"), "--rw", &at("link")]).contains("shared twice"));
        assert!(
            error(&["--huge"]).contains("leave out --huge")
                && error(&["--jail", "nobody"]).contains("leave out --jail")
        );
        assert!(planned(&["--huge", "--jail", "nobody"], false).is_ok());
        assert!(error(&["--rw", "/"]).contains("--share /:TAG"));
        assert!(planned(&["--share", "/:all,ro"], false).is_ok());
    }

    #[test]
    fn what_it_is_called_with() {
        let text = |share: &Share| arguments(share, 7).join(std::ffi::OsStr::new(" ")).into_string().unwrap();
        let mut share = Share { directory: "/a b".into(), tag: "t".into(), read_only: true, target: None };
        assert!(text(&share).ends_with("--fd 7 --shared-dir /a b --readonly --no-announce-submounts"));
        share = Share { read_only: false, target: Some("/x".into()), ..share };
        assert!(text(&share).ends_with("--fd 7 --shared-dir /a b --announce-submounts"));
    }

    #[test]
    fn one_that_ends_is_heard() {
        let share = Share { directory: "/tmp".into(), tag: "t".into(), read_only: false, target: Some("/tmp".into()) };
        let (mut ended, mut socket) = Virtiofsd::start_program(Path::new("/bin/ls"), &share).unwrap();
        assert!(matches!(socket.read(&mut [0]), Ok(0) | Err(_)));
        let said = ended.complaint().to_string();
        assert!(said.contains("has ended: /bin/ls:") && said.contains("--sandbox"), "{said}");
        let error = |target: Option<&str>| {
            let share = Share { target: target.map(str::to_owned), ..share.clone() };
            Virtiofsd::start_program(Path::new("/no/such/program"), &share).map(drop).unwrap_err().to_string()
        };
        assert!(error(Some("/tmp")).contains("--share and --rw need: apt install virtiofsd"));
        assert!(error(None).contains("apt install virtiofsd; or give a disk"));
    }

    #[test]
    fn nobody_else_connects() {
        let (listener, ours) = connection().unwrap();
        let path = listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
        assert!(!path.exists() && !path.parent().unwrap().exists());
        std::io::Write::write_all(&mut &ours, b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
