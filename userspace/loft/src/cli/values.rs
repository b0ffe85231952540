// SPDX-License-Identifier: Apache-2.0
//! What options of the command line take that has parts: disks, directories, networks.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A disk on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskArg {
    /// The file.
    pub path: PathBuf,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Whether what the guest writes is thrown away.
    pub snapshot: bool,
    /// Its serial number.
    pub serial: Option<String>,
    /// Whether the guest is paused while the host has no space.
    pub stop: bool,
    /// Whether what the guest discards keeps its space on the host.
    pub keep_space: bool,
}

/// The longest serial number of a virtio disk.
const MAX_SERIAL: usize = 20;

impl std::str::FromStr for DiskArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut disk = Self {
            path: PathBuf::new(),
            read_only: false,
            snapshot: false,
            serial: None,
            stop: false,
            keep_space: false,
        };
        let mut path = text;
        // What is no option belongs to the name.
        while let Some((before, word)) = path.rsplit_once(',') {
            match (word, word.split_once('=')) {
                ("ro", _) => disk.read_only = true,
                ("rw", _) => disk.read_only = false,
                ("snapshot", _) => disk.snapshot = true,
                ("werror=stop", _) => disk.stop = true,
                ("discard=off", _) => disk.keep_space = true,
                (_, Some(("serial", serial))) if serial.len() > MAX_SERIAL => {
                    return Err(format!("a disk's serial number has at most {MAX_SERIAL} bytes"));
                }
                (_, Some(("serial", serial))) => disk.serial = Some(serial.to_owned()),
                _ => break,
            }
            path = before;
        }
        if path.is_empty() {
            return Err("the name of the file is missing; write FILE or FILE,ro".into());
        }
        if disk.read_only && disk.snapshot {
            return Err("a disk is read-only or a snapshot; leave out ro, or snapshot".into());
        }
        disk.path = path.into();
        Ok(disk)
    }
}

/// A directory for the guest on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareArg {
    /// The directory.
    pub path: PathBuf,
    /// What the guest mounts it by.
    pub tag: Option<String>,
    /// Whether the guest may not write.
    pub read_only: bool,
}

/// The longest tag of a virtio file system (5.11.4).
const MAX_TAG: usize = 36;

impl std::str::FromStr for ShareArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, read_only) = match text.rsplit_once(',') {
            Some((rest, "ro")) => (rest, true),
            Some((rest, "rw")) => (rest, false),
            _ => (text, false),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if path.is_empty() {
            return Err("the name of the directory is missing; write DIR, DIR:TAG or DIR,ro".into());
        }
        match tag {
            Some("" | "." | "..") => return Err(format!("'{rest}' has no tag after the colon; write DIR:TAG")),
            Some(tag) if tag.len() > MAX_TAG => {
                return Err(format!("the tag '{tag}' has {} bytes, and a tag has at most {MAX_TAG}", tag.len()));
            }
            _ => {}
        }
        Ok(Self { path: path.into(), tag: tag.map(str::to_owned), read_only })
    }
}

/// A network card on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetArg {
    /// No card.
    None,
    /// On a tap device.
    Tap(TapNet),
    /// On a network of the user's own.
    User(UserNet),
}

/// A card on a tap device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapNet {
    /// The tap device.
    pub name: String,
    /// The card's address.
    pub mac: Option<[u8; 6]>,
}

/// A card on a network of the user's own.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct UserNet {
    /// The card's address.
    pub mac: Option<[u8; 6]>,
    /// TCP ports of the host that lead to the guest.
    pub tcp: Vec<Forward>,
    /// UDP ports.
    pub udp: Vec<Forward>,
    /// Nobody has asked for it: a guest that cannot use it goes without.
    pub implied: bool,
}

/// A port of the host that leads to one of the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The host's address; unless it is given only the host itself gets there.
    pub address: Ipv4Addr,
    /// The host's port.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
}

impl std::str::FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no pair of ports such as 2222:22 or 192.0.2.1:2222:22");
        let port = |text: &str| text.parse().ok().filter(|port| *port > 0);
        let (rest, guest) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host) = match rest.split_once(':') {
            Some((address, host)) => (address.parse().map_err(|_| wrong())?, host),
            None => (Ipv4Addr::LOCALHOST, rest),
        };
        Ok(Self { address, host: port(host).ok_or_else(wrong)?, guest: port(guest).ok_or_else(wrong)? })
    }
}

const NET_KINDS: &str = "user, tap=NAME or none";

impl std::str::FromStr for NetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let kind = words.next().unwrap_or_default();
        let rest: Vec<(&str, &str)> = words
            .map(|word| word.split_once('=').ok_or(format!("'{word}' is no NAME=VALUE")))
            .collect::<Result<_, _>>()?;
        let mut mac = None;
        match kind.split_once('=') {
            Some(("tap", name)) if !name.is_empty() && name.len() < 16 => {
                for (key, value) in rest {
                    match key {
                        "mac" => mac = Some(parse_mac(value)?),
                        _ => {
                            return Err(format!(
                                "a tap has no '{key}'; write tap=NAME or tap=NAME,mac=52:54:00:12:34:56"
                            ))
                        }
                    }
                }
                Ok(Self::Tap(TapNet { name: name.to_owned(), mac }))
            }
            Some(("tap", _)) => Err("the name of a tap device has 1 to 15 characters".into()),
            None if kind == "user" => {
                let mut net = UserNet::default();
                for (key, value) in rest {
                    match key {
                        "mac" => net.mac = Some(parse_mac(value)?),
                        "tcp" => net.tcp.push(value.parse()?),
                        "udp" => net.udp.push(value.parse()?),
                        _ => return Err(format!("'{key}' is not known; write user,tcp=2222:22, or udp=, mac=")),
                    }
                }
                Ok(Self::User(net))
            }
            None if kind == "none" && rest.is_empty() => Ok(Self::None),
            _ => Err(format!("'{text}' is not known; write {NET_KINDS}")),
        }
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|part| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten()).collect();
    match bytes.and_then(|b| <[u8; 6]>::try_from(b).ok()) {
        Some(mac) if mac[0] & 1 == 0 => Ok(mac),
        Some(_) => Err(format!("'{text}' is a multicast address; the first byte must be even")),
        None => Err(format!("'{text}' is not a hardware address such as 52:54:00:12:34:56")),
    }
}
