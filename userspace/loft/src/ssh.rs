// SPDX-License-Identifier: Apache-2.0
//! `loft ssh NAME`: the user's own ssh, to the SSH server in a guest.
//!
//! The way there is a port of this machine that leads to the guest's port 22, or else the guest's
//! vsock, to which loft itself connects as ssh's proxy.

use crate::cli::{SshArgs, VsockArgs};
use crate::client;
use anyhow::{anyhow, bail, Context, Result};
use nix::sys::socket::{connect, socket, AddressFamily, SockFlag, SockType, VsockAddr};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The port of an SSH server.
pub const PORT: u16 = 22;
/// How long the server may take to say what it is.
const LIMIT: Duration = Duration::from_secs(10);

/// The ways to a guest's SSH server.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ways {
    /// What leads to its port 22.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<SocketAddrV4>,
    /// Its vsock address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<u32>,
}

impl Ways {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Runs ssh.
pub fn main(args: &SshArgs) -> Result<u8> {
    let (user, name) = match args.name.split_once('@') {
        Some((user, name)) => (Some(user), name),
        None => (None, args.name.as_str()),
    };
    let ways = client::status(name)?.ssh;
    let words = match ways {
        Ways { tcp: Some(address), .. } => {
            let stream = TcpStream::connect_timeout(&address.into(), LIMIT);
            let limit = |stream: TcpStream| stream.set_read_timeout(Some(LIMIT)).map(|()| stream);
            greets(stream.and_then(limit)).with_context(|| nobody(name))?;
            over_tcp(name, user, address, &args.command)
        }
        Ways { vsock: Some(cid), .. } => {
            greets(vsock(cid, PORT.into())).with_context(|| nobody(name))?;
            let own = std::env::current_exe().context("cannot tell where loft itself is")?;
            over_vsock(name, user, &own, cid, &args.command)?
        }
        _ => bail!(
            "no port of this machine leads to port {PORT} of {name}, and it has no vsock: run it with \
             -n user,tcp=2222:{PORT} or --vsock CID; `loft exec {name}` needs neither"
        ),
    };
    let error = Command::new("ssh").args(words).exec();
    match error.kind() {
        io::ErrorKind::NotFound => bail!("ssh is not installed: apt install openssh-client"),
        _ => Err(error).context("cannot run ssh"),
    }
}

fn nobody(name: &str) -> String {
    format!(
        "no SSH server answers at port {PORT} of {name}: is one installed there (apt install openssh-server), and up?"
    )
}

/// Whether an SSH server is at the other end (RFC 4253, 4.2: it speaks first).
fn greets(stream: io::Result<impl Read>) -> Result<()> {
    let mut line = [0; 4];
    stream.context("it cannot be connected to")?.read_exact(&mut line).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow!("nobody is there"),
        io::ErrorKind::WouldBlock => anyhow!("it says nothing for {} s", LIMIT.as_secs()),
        _ => error.into(),
    })?;
    if &line != b"SSH-" {
        bail!("what answers is something else");
    }
    Ok(())
}

/// The host as ssh is to know it: guests share addresses, not keys.
fn destination(name: &str, user: Option<&str>, host: &str) -> Vec<OsString> {
    let host = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
    vec!["-o".into(), format!("HostKeyAlias=loft-{name}").into(), host.into()]
}

fn over_tcp(name: &str, user: Option<&str>, address: SocketAddrV4, command: &[OsString]) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["-p".into(), address.port().to_string().into()];
    words.extend(destination(name, user, &address.ip().to_string()));
    words.extend_from_slice(command);
    words
}

fn over_vsock(name: &str, user: Option<&str>, own: &Path, cid: u32, command: &[OsString]) -> Result<Vec<OsString>> {
    let own = own.to_str().context("loft's own path is no UTF-8")?;
    // ssh gives it to a shell, after it has replaced what begins with a per cent sign.
    let quoted = format!("'{}'", own.replace('\'', r"'\''").replace('%', "%%"));
    let mut words: Vec<OsString> =
        vec!["-o".into(), format!("ProxyCommand=exec {quoted} vsock-connect {cid} {PORT}").into()];
    words.extend(destination(name, user, &format!("loft-{name}")));
    words.extend_from_slice(command);
    Ok(words)
}

/// The address here that leads to the guest where ports of this machine are `forwarded`: pairs of
/// an address and the guest's port.
pub fn leads_to(forwarded: impl IntoIterator<Item = (SocketAddrV4, u16)>) -> Option<SocketAddrV4> {
    let (mut address, _) = forwarded.into_iter().find(|(_, guest)| *guest == PORT)?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST);
    }
    Some(address)
}

/// Connects to a vsock port.
fn vsock(cid: u32, port: u32) -> io::Result<File> {
    let fd = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &VsockAddr::new(cid, port))?;
    Ok(fd.into())
}

/// Makes a vsock port this program's input and output, for ssh.
pub fn connect_vsock(args: &VsockArgs) -> Result<u8> {
    let stream = vsock(args.cid, args.port).context("cannot connect")?;
    // Of what kind the socket is does not matter to the calls that are made of it here.
    let stream = UnixStream::from(std::os::fd::OwnedFd::from(stream));
    let theirs = stream.try_clone().context("cannot duplicate a socket")?;
    std::thread::spawn(move || {
        let _ = copy(io::stdin().lock(), &theirs);
        let _ = theirs.shutdown(std::net::Shutdown::Write);
    });
    copy(&stream, io::stdout().lock())?;
    Ok(0)
}

fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                to.flush()?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_ssh_is_called_with() {
        let command: Vec<OsString> = ["ls", "-l"].map(OsString::from).to_vec();
        let address = leads_to([("0.0.0.0:80".parse().unwrap(), 8080), ("0.0.0.0:2222".parse().unwrap(), 22)]).unwrap();
        assert_eq!(
            over_tcp("web", Some("me"), address, &command),
            ["-p", "2222", "-o", "HostKeyAlias=loft-web", "me@127.0.0.1", "ls", "-l"]
        );
        assert_eq!(leads_to([("127.0.0.1:22".parse().unwrap(), 80)]), None);
        assert_eq!(
            over_vsock("web", None, Path::new("/opt/it's 5%/loft"), 7, &[]).unwrap(),
            [
                "-o",
                r"ProxyCommand=exec '/opt/it'\''s 5%%/loft' vsock-connect 7 22",
                "-o",
                "HostKeyAlias=loft-web",
                "loft-web"
            ]
        );
    }

    #[test]
    fn only_an_ssh_server_is_one() {
        let said = |answer: &'static [u8]| {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = server.local_addr().unwrap();
            let thread = std::thread::spawn(move || server.accept().unwrap().0.write_all(answer).unwrap());
            let result = greets(TcpStream::connect(address));
            thread.join().unwrap();
            result.map_err(|error| error.to_string())
        };
        assert_eq!(said(b"SSH-2.0-x\r\n"), Ok(()));
        assert_eq!(said(b""), Err("nobody is there".into()));
        assert_eq!(said(b"HTTP/1.1 400"), Err("what answers is something else".into()));
    }
}
