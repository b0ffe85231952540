// SPDX-License-Identifier: Apache-2.0
//! A network without root: passt(1), a program that makes of a guest's packets the sockets of the
//! user who runs it.
//!
//! The guest's side is a network of its own with the same addresses every time. passt tells them by
//! DHCP; where loft is the guest's first process it sets them itself.

use crate::cli::{Forward, UserNet};
use crate::program::Program;
use anyhow::{Context, Result};
use loft_agent::task::Network;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// Its name.
pub const PROGRAM: &str = "passt";
/// How long it may take to answer for the first time. One that takes longer is taken to be slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// The card's address, where none was given: no two guests meet on such a network.
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The host, as the guest sees it. In a network that was asked for, what it connects to there is
/// the host's own loopback interface.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// What the host's resolver is under.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const PREFIX: u8 = 24;
/// The Ethernet type of ARP.
const ARP: [u8; 2] = [8, 6];

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
pub struct Passt(Program);

/// passt at work and the connection to it.
pub type Started = (Passt, UnixStream);

impl Passt {
    /// Starts it for `net` and waits until it answers; returns the connection to it as well. No
    /// thread is made.
    ///
    /// # Errors
    /// If it is not there, or has ended: with its own words.
    pub fn start(net: &UserNet) -> Result<Started> {
        Self::start_program(PROGRAM, net)
    }

    fn start_program(program: &str, net: &UserNet) -> Result<Started> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        let mut command = Command::new(program);
        command.args(arguments(net, theirs.as_raw_fd()));
        let missing = format!("{PROGRAM} is not installed, which -n user needs: apt install passt");
        let mut passt = Program::start(PROGRAM, command, theirs.into(), None, &missing)?;
        if !answers(&ours, net)? {
            return Err(passt.complaint());
        }
        Ok((Self(passt), ours))
    }

    /// Makes warnings of its complaints from now on, in a thread of their own.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn listen(&mut self) -> Result<()> {
        self.0.listen(|| ())
    }
}

/// Asks for the gateway's hardware address at `socket`, as the guest's card would, and waits for
/// the answer. False if nobody is there any more; one who is slow may still come.
fn answers(mut socket: &UnixStream, net: &UserNet) -> Result<bool> {
    let deadline = Instant::now() + ANSWER_LIMIT;
    let is_over = |error: &io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
    };
    let mut ask = || {
        socket.write_all(&question(net))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            socket.set_read_timeout(Some(left))?;
            let mut length = [0; 4];
            // Without a single byte nothing has been taken that the card would miss.
            let begun = match socket.read(&mut length) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            socket.read_exact(length.get_mut(begun..).unwrap_or_default())?;
            let mut frame = Vec::new();
            let length = u32::from_be_bytes(length).into();
            if socket.take(length).read_to_end(&mut frame)? as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Whatever else comes that early nobody waits for.
            if is_answer(&frame) {
                return Ok(());
            }
        }
    };
    let answered = match ask() {
        Err(error) if is_over(&error) => false,
        result => result.map(|()| true).with_context(|| format!("{PROGRAM} does not answer"))?,
    };
    socket.set_read_timeout(None).context("cannot take back a time limit")?;
    Ok(answered)
}

/// Makes a frame, after its length: an ARP request (RFC 826) from the guest for the gateway.
fn question(net: &UserNet) -> Vec<u8> {
    let mac = mac(net);
    // Ethernet, IPv4, lengths of their addresses, request.
    let what = [0, 1, 8, 0, 6, 4, 0, 1];
    let (from, to) = (ADDRESS.octets(), GATEWAY.octets());
    let parts: [&[u8]; 8] = [&[0xff; 6], &mac, &ARP, &what, &mac, &from, &[0; 6], &to];
    let frame = parts.concat();
    [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat()
}

/// Tells whether `frame` is an ARP reply.
fn is_answer(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ARP) && frame.get(20..22) == Some(&[0, 2])
}

fn arguments(net: &UserNet, fd: i32) -> Vec<OsString> {
    let mut words = vec!["--foreground".to_owned(), "--quiet".into(), "--fd".into(), fd.to_string()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option("--address", ADDRESS.to_string());
    option("--netmask", PREFIX.to_string());
    option("--gateway", GATEWAY.to_string());
    // To the first name server of the host. DHCP tells those of the host themselves, or this where
    // the host's is on its loopback interface.
    option("--dns-forward", DNS.to_string());
    for (name, forwards) in [("--tcp-ports", &net.tcp), ("--udp-ports", &net.udp)] {
        for Forward { address, host, guest } in forwards {
            option(name, format!("{address}/{host}:{guest}"));
        }
    }
    if net.implied {
        // Nobody has said that this guest may use what the host serves to itself, by IPv4 or IPv6.
        words.push("--no-map-gw".into());
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
        let text = |net: &UserNet| arguments(net, 7).join(std::ffi::OsStr::new(" ")).into_string().unwrap();
        let implied = text(&UserNet { implied: true, ..UserNet::default() });
        assert!(implied.contains("--no-map-gw") && implied.contains("--dns-forward 10.0.2.3"), "{implied}");
        let text = text(&net);
        assert!(text.contains("--fd 7 --address 10.0.2.15"), "{text}");
        assert!(text.ends_with("--tcp-ports 127.0.0.1/2222:22 --tcp-ports 0.0.0.0/80:8080"), "{text}");
    }

    #[test]
    fn one_that_ends_is_heard() {
        let error = |program| Passt::start_program(program, &UserNet::default()).map(drop).unwrap_err().to_string();
        // A program that knows none of the options, and says so.
        assert!(error("ls").contains("has ended: ls:") && error("ls").contains("--foreground"), "{}", error("ls"));
        assert!(error("false").ends_with("has ended at once"), "{}", error("false"));
        assert!(error("no-such-program").contains("apt install passt"));
    }

    #[test]
    fn the_answer_is_waited_for() {
        let net = UserNet::default();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let network = std::thread::spawn(move || {
            let mut asked = [0; 46];
            theirs.read_exact(&mut asked).unwrap();
            assert!(asked[..4] == [0, 0, 0, 42] && asked[4 + 38..] == [10, 0, 2, 2] && !is_answer(&asked[4..]));
            asked[4 + 21] = 2;
            // Something else first, the answer in two parts, and a frame for the card.
            theirs.write_all(&[0, 0, 0, 3, 1, 2, 3]).unwrap();
            theirs.write_all(&asked[..2]).unwrap();
            theirs.write_all(&asked[2..]).unwrap();
            theirs.write_all(b"next").unwrap();
            theirs
        });
        assert!(answers(&ours, &net).unwrap());
        let theirs = network.join().unwrap();
        let mut next = [0; 4];
        (&ours).read_exact(&mut next).unwrap();
        assert_eq!(&next, b"next");
        drop(theirs);
        assert!(!answers(&ours, &net).unwrap());
    }
}
