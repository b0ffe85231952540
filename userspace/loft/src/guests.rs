// SPDX-License-Identifier: Apache-2.0
//! The guests that run: a directory with a socket for each, which only its owner can use.
//!
//! A launcher that was killed leaves its socket behind, but nobody who listens there: such a socket is removed by whoever
//! meets it. A lock on the directory keeps that apart from somebody's taking the same name.

use anyhow::{bail, Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The most characters of a name.
const MAX_NAME: usize = 64;
const ENDING: &str = ".sock";

/// Checks a guest's name.
pub fn parse_name(text: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts || text.len() > MAX_NAME || !text.chars().all(known) {
        return Err(format!(
            "a guest's name has 1 to {MAX_NAME} letters, digits, '-', '_' and '.', and begins with a letter or a digit"
        ));
    }
    Ok(text.to_owned())
}

/// The name of the guest of the process `launcher` where none was given.
pub fn default_name(launcher: u32) -> String {
    format!("guest-{launcher}")
}

/// The directory of this user's guests: /run/loft, or `loft` where the user's own runtime files are.
pub fn directory() -> PathBuf {
    if let Some(given) = std::env::var_os("LOFT_RUNTIME_DIR") {
        return given.into();
    }
    let uid = nix::unistd::geteuid();
    match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if uid.is_root() => "/run/loft".into(),
        Some(runtime) => Path::new(&runtime).join("loft"),
        None => std::env::temp_dir().join(format!("loft-{uid}")),
    }
}

/// The directory, as long as nobody else changes what is in it.
struct Locked(#[allow(dead_code, reason = "it is held, not used")] Flock<File>);

impl Locked {
    /// Makes `directory` where it is missing, and waits for whoever has it.
    fn take(directory: &Path) -> Result<Self> {
        let show = directory.display();
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e).context(format!("cannot make {show}")),
            _ => {}
        }
        let facts = std::fs::symlink_metadata(directory).with_context(|| format!("cannot look at {show}"))?;
        // Whoever can write there can take the place of a guest.
        if !facts.is_dir() || facts.uid() != nix::unistd::geteuid().as_raw() || facts.mode() & 0o022 != 0 {
            bail!("{show} is not a directory of this user that nobody else can write to; remove it");
        }
        let file = File::open(directory).with_context(|| format!("cannot open {show}"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e);
        Ok(Self(lock.with_context(|| format!("cannot lock {show}"))?))
    }
}

/// A guest's name and its socket, for as long as it lives.
#[derive(Debug)]
pub struct Claim {
    /// The name.
    pub name: String,
    /// Where requests come in.
    pub listener: UnixListener,
    path: PathBuf,
}

impl Claim {
    /// Takes `name` in `directory`, or one that nobody else has.
    pub fn new(directory: &Path, name: Option<&str>) -> Result<Self> {
        let _locked = Locked::take(directory)?;
        let name = name.map_or_else(|| default_name(std::process::id()), str::to_owned);
        let path = directory.join(format!("{name}{ENDING}"));
        if connect(&path)?.is_some() {
            bail!("a guest named {name} runs already; stop it (loft stop {name}), or give another name");
        }
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot make the socket {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("cannot set the mode of {}", path.display()))?;
        Ok(Self { name, listener, path })
    }
}

impl Claim {
    /// Leaves it to whoever meets the socket to remove it when this process has ended.
    pub fn leave(&mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the socket still listens: nobody takes it for one that was left behind.
        if let Ok(_locked) = self.path.parent().context("no directory").and_then(Locked::take) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Connects to the guest `name`.
pub fn find(directory: &Path, name: &str) -> Result<UnixStream> {
    let found = if directory.exists() {
        let _locked = Locked::take(directory)?;
        connect(&directory.join(format!("{name}{ENDING}")))?
    } else {
        None
    };
    found.with_context(|| format!("there is no guest named {name}; `loft ps` shows those that run"))
}

/// Connects to every guest, in the order of their names.
pub fn all(directory: &Path) -> Result<Vec<(String, UnixStream)>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let _locked = Locked::take(directory)?;
    let mut guests = Vec::new();
    for entry in std::fs::read_dir(directory)?.flatten() {
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|f| f.strip_suffix(ENDING)) else { continue };
        if let Some(stream) = connect(&entry.path())? {
            guests.push((name.to_owned(), stream));
        }
    }
    guests.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(guests)
}

/// Connects to a socket; removes one at which nobody listens. The directory is locked.
///
/// One whose launcher has been stopped, and has not taken any of those that wait for it, is an
/// error: who waited for a place there would keep the directory locked.
fn connect(path: &Path) -> Result<Option<UnixStream>> {
    let show = path.display();
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).context("cannot make a socket")?;
    match socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => {
            let stream = UnixStream::from(socket);
            stream.set_nonblocking(false).with_context(|| format!("cannot use {show}"))?;
            Ok(Some(stream))
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ECONNREFUSED) => {
            std::fs::remove_file(path).with_context(|| format!("cannot remove {show}"))?;
            Ok(None)
        }
        Err(Errno::EAGAIN) => bail!("the launcher at {show} does not answer"),
        Err(e) => Err(e).with_context(|| format!("cannot connect to {show}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("loft-guests-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    fn names(directory: &Path) -> Vec<String> {
        all(directory).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn nobody_waits_for_a_launcher_that_takes_nobody() {
        let place = place("stopped");
        DirBuilder::new().mode(0o700).create(&place).unwrap();
        let path = place.join("a.sock");
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        socket::bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&socket, socket::Backlog::new(1).unwrap()).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match find(&place, "a") {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 10);
        };
        assert!(format!("{error:#}").contains("does not answer"), "{error:#}");
        assert!(!waiting.is_empty());
    }

    #[test]
    fn a_name_is_taken_as_long_as_its_guest_runs() {
        let place = place("taken");
        assert!(names(&place).is_empty());
        let [b, a] = ["b", "a"].map(|name| Claim::new(&place, Some(name)).unwrap());
        assert_eq!(names(&place), ["a", "b"]);
        assert!(Claim::new(&place, Some("a")).unwrap_err().to_string().contains("loft stop a"));
        assert!(find(&place, "a").is_ok());
        drop(a);
        assert!(find(&place, "a").unwrap_err().to_string().contains("no guest named a"));
        drop(Claim::new(&place, Some("a")).unwrap());
        assert_eq!(names(&place), ["b"]);
        drop(b);
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_launcher_left_is_removed() {
        let place = place("left");
        let left = || {
            Claim::new(&place, Some("dead")).unwrap().leave();
        };
        left();
        assert!(place.join("dead.sock").exists());
        assert!(names(&place).is_empty() && !place.join("dead.sock").exists());
        left();
        assert!(Claim::new(&place, Some("dead")).is_ok());
    }

    #[test]
    fn only_the_owner_has_access() {
        let place = place("mode");
        let claim = Claim::new(&place, None).unwrap();
        assert_eq!(claim.name, format!("guest-{}", std::process::id()));
        assert_eq!(std::fs::metadata(&place).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(&claim.path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(all(&place).unwrap_err().to_string().contains("nobody else"));
    }

    #[test]
    fn names_that_are_none() {
        for name in ["a", "web-1", "A.b_c", &"x".repeat(64)] {
            assert!(parse_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", ".a", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(parse_name(name).is_err(), "{name}");
        }
    }
}
