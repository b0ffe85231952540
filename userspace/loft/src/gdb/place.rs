// SPDX-License-Identifier: Apache-2.0
//! Where a debugger connects.

use anyhow::{bail, Context, Result};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;

/// What `--gdb` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where to listen.
    pub address: Address,
    /// Whether the guest waits for a debugger before its first instruction.
    pub wait: bool,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port of the loopback interface.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, wait) = text.strip_suffix(",wait").map_or((text, false), |place| (place, true));
        let address = if place.bytes().all(|byte| byte.is_ascii_digit()) {
            let port = place.parse().ok().filter(|port| *port > 0);
            Address::Port(port.ok_or_else(|| format!("'{place}' is no port; a port is 1 to 65535, as in 1234"))?)
        } else if place.starts_with('-') || place.contains(',') || (place.contains(':') && !place.contains('/')) {
            return Err(format!("'{text}' is not known; write PORT (of the loopback interface) or SOCKET, and ,wait"));
        } else {
            Address::Socket(place.into())
        };
        Ok(Self { address, wait })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.address {
            Address::Port(port) => write!(to, "{port}")?,
            Address::Socket(path) => write!(to, "{}", path.display())?,
        }
        to.write_str(if self.wait { ",wait" } else { "" })
    }
}

impl Place {
    /// Removes the socket, if it is one at which nobody listens any more: where the launcher that
    /// has made it could not.
    pub fn clean_up(&self) {
        let Address::Socket(path) = &self.address else { return };
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|facts| facts.file_type().is_socket());
        if is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket on which debuggers are waited for.
pub struct Listener {
    socket: Socket,
    /// What is removed in the end.
    path: Option<PathBuf>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `address`. A socket is its owner's alone.
    pub fn new(address: &Address) -> Result<Self> {
        match address {
            Address::Port(port) => {
                let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, *port))
                    .with_context(|| format!("--gdb: cannot listen on port {port} of the loopback interface"))?;
                Ok(Self { socket: Socket::Tcp(socket), path: None })
            }
            Address::Socket(path) => {
                let show = path.display();
                let socket = match UnixListener::bind(path) {
                    Err(e) if e.kind() == ErrorKind::AddrInUse => {
                        bail!("--gdb: {show} exists already; remove it, or give another name")
                    }
                    other => other.with_context(|| format!("--gdb: cannot make the socket {show}"))?,
                };
                let listener = Self { socket: Socket::Unix(socket), path: Some(path.clone()) };
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
                    .with_context(|| format!("cannot set the mode of {show}"))?;
                Ok(listener)
            }
        }
    }

    /// Leaves it to another process to remove the socket, by [`Place::clean_up`].
    pub fn leave(&mut self) {
        self.path = None;
    }

    /// Takes the next connection.
    pub fn accept(&self) -> std::io::Result<OwnedFd> {
        match &self.socket {
            Socket::Tcp(socket) => Ok(socket.accept()?.0.into()),
            Socket::Unix(socket) => Ok(socket.accept()?.0.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let of = |text: &str| text.parse::<Place>();
        assert_eq!(of("1234"), Ok(Place { address: Address::Port(1234), wait: false }));
        assert_eq!(of("65535,wait"), Ok(Place { address: Address::Port(65535), wait: true }));
        let socket = Place { address: Address::Socket("/run/a:b,x/gdb".into()), wait: false };
        assert_ne!(of("/run/a:b,x/gdb"), Ok(socket), "a comma is an option's");
        for text in ["gdb.sock", "/run/a:b/gdb,wait", "1x"] {
            let place = of(text).unwrap();
            assert!(matches!(place.address, Address::Socket(_)) && place.to_string() == text, "{text}");
        }
        for text in ["", "0", "65536", "-1", ",wait", "1234,stop", ":1234", "tcp::1234", "localhost:1234", "x,y"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_there_already_is_left_alone() {
        let path = std::env::temp_dir().join(format!("loft-gdb-{}", std::process::id()));
        let address = Address::Socket(path.clone());
        std::fs::write(&path, "mine").unwrap();
        let said = Listener::new(&address).err().unwrap().to_string();
        assert!(said.contains("exists already"), "{said}");
        let place = Place { address: address.clone(), wait: false };
        place.clean_up();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        std::fs::remove_file(&path).unwrap();
        let listener = Listener::new(&address).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Listener::new(&address).is_err());
        place.clean_up();
        assert!(path.exists());
        drop(listener);
        assert!(!path.exists());
        // One that is left to others.
        let mut listener = Listener::new(&address).unwrap();
        listener.leave();
        drop(listener);
        assert!(path.exists());
        place.clean_up();
        assert!(!path.exists());
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let said = format!("{:#}", Listener::new(&Address::Port(port)).err().unwrap());
        assert!(said.contains(&format!("port {port}")) && said.contains("in use"), "{said}");
    }
}
