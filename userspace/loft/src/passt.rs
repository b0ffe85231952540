// SPDX-License-Identifier: Apache-2.0
//! A network without root: passt(1), a program that makes of a guest's packets the sockets of the
//! user who runs it.
//!
//! The guest's side is a network of its own with the same addresses every time. passt tells them by
//! DHCP; where loft is the guest's first process it sets them itself.

use crate::cli::{Forward, UserNet};
use anyhow::{anyhow, Context, Result};
use loft_agent::task::Network;
use nix::sys::signal::SigSet;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = "passt";
/// The card's address, where none was given: no two guests meet on such a network.
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The host, as the guest sees it: what it connects to there is the host's own loopback interface.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// What the host's resolver is under.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const PREFIX: u8 = 24;

/// Whether passt is installed.
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(PROGRAM).is_file())
}

/// The address of the card of `net`.
pub fn mac(net: &UserNet) -> [u8; 6] {
    net.mac.unwrap_or(MAC)
}

/// What the guest sets for `net`.
pub fn network(net: &UserNet) -> Network {
    Network {
        mac: mac(net),
        address: ADDRESS.octets(),
        prefix: PREFIX,
        gateway: GATEWAY.octets(),
        dns: DNS.octets(),
        required: !net.implied,
    }
}

/// passt at work, until it is dropped.
pub struct Passt(Child);

impl Passt {
    /// Starts it for `net`; returns the connection to it as well. Its complaints go to standard
    /// error, or nowhere if `quiet`.
    pub fn start(net: &UserNet, quiet: bool) -> Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        let fd = theirs.as_raw_fd();
        let mut command = Command::new(PROGRAM);
        command.args(arguments(net, fd)).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        command.stderr(if quiet { Stdio::null() } else { Stdio::inherit() });
        // What loft takes as a signalfd is blocked here.
        // SAFETY: between fork and exec the closure makes two system calls, both async-signal-safe,
        // and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                SigSet::empty().thread_set_mask()?;
                Ok(rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?)
            })
        };
        let child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                anyhow!("{PROGRAM} is not installed, which -n user needs: apt install passt")
            }
            _ => anyhow!("{PROGRAM} cannot be started: {e}"),
        })?;
        Ok((Self(child), ours))
    }
}

impl Drop for Passt {
    fn drop(&mut self) {
        // It may have ended with its connection.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn arguments(net: &UserNet, fd: i32) -> Vec<OsString> {
    let mut words = vec!["--foreground".to_owned(), "--quiet".into(), "--fd".into(), fd.to_string()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option("--address", ADDRESS.to_string());
    option("--netmask", PREFIX.to_string());
    option("--gateway", GATEWAY.to_string());
    // To the first name server of the host. DHCP tells those of the host themselves.
    option("--dns-forward", DNS.to_string());
    for (name, forwards) in [("--tcp-ports", &net.tcp), ("--udp-ports", &net.udp)] {
        for Forward { address, host, guest } in forwards {
            option(name, format!("{address}/{host}:{guest}"));
        }
    }
    words.into_iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_called_with() {
        let forward = |text: &str| text.parse::<Forward>().unwrap();
        let net = UserNet { tcp: vec![forward("2222:22"), forward("0.0.0.0:80:8080")], ..UserNet::default() };
        let words: Vec<String> = arguments(&net, 7).into_iter().map(|w| w.into_string().unwrap()).collect();
        let text = words.join(" ");
        assert!(text.contains("--fd 7 --address 10.0.2.15"), "{text}");
        assert!(text.ends_with("--tcp-ports 127.0.0.1/2222:22 --tcp-ports 0.0.0.0/80:8080"), "{text}");
    }
}
