// SPDX-License-Identifier: Apache-2.0
//! A tap interface: the host's end of the guest's network cable.
//!
//! One that was made with `multi_queue` has several queues of packets. Each is a descriptor; the
//! host gives packets only to those that are attached, all of a flow to the one by which the guest
//! has sent for it.

use std::ffi::OsStr;
use std::fs::{read_dir, read_to_string, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use virtio_bindings::virtio_net as net;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref, ioctl_with_val};
use vmm_sys_util::ioctl_iow_nr;

use crate::bit;

const TUN: &str = "/dev/net/tun";
/// The `_IOC` type of the tun driver's ioctls.
const TUN_IOC: u32 = b'T' as u32;

ioctl_iow_nr!(TUNSETIFF, TUN_IOC, 202, libc::c_int);
ioctl_iow_nr!(TUNSETOFFLOAD, TUN_IOC, 208, libc::c_uint);
ioctl_iow_nr!(TUNSETVNETHDRSZ, TUN_IOC, 216, libc::c_int);
ioctl_iow_nr!(TUNSETQUEUE, TUN_IOC, 217, libc::c_int);
ioctl_iow_nr!(TUNSETVNETLE, TUN_IOC, 220, libc::c_int);

// linux/if_tun.h: what the reader of a tap can do with unfinished packets.
const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_TSO_ECN: u32 = 0x08;

/// The length of the header in front of every packet (5.1.6.1), with `num_buffers`, which virtio 1 always has.
pub const HEADER_BYTES: usize = 12;

/// Why there is no network card.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The name is longer than the 15 bytes of an interface's name, empty, or has a slash in it.
    #[error("network: '{0}' is not the name of an interface")]
    BadName(String),
    /// There is none of that name.
    #[error("network: there is no tap interface '{0}'; make one with: ip tuntap add {0} mode tap user $USER && ip link set {0} up")]
    NoSuchTap(String),
    /// It is another kind of interface.
    #[error("network: '{0}' is not a tap interface; make one with: ip tuntap add NAME mode tap")]
    NotATap(String),
    /// Somebody else has attached to it.
    #[error("network: the tap interface '{0}' is in use by another process; make one for this guest")]
    InUse(String),
    /// It belongs to somebody else.
    #[error("network: no permission for the tap interface '{0}'; run as root, or make it yours: ip tuntap add {0} mode tap user $USER")]
    Permission(String),
    /// The host's kernel has no taps.
    #[error("network: {TUN}: {0}; load it with: modprobe tun")]
    Tun(io::Error),
    /// Anything else.
    #[error("network: the tap interface '{name}': {reason}")]
    Io {
        /// The interface.
        name: String,
        /// What the host said.
        reason: io::Error,
    },
    /// The connection to the program that is the network.
    #[error("network: {0}")]
    Socket(io::Error),
    /// No random address.
    #[error("network: no random address: {0}")]
    Random(io::Error),
}

/// A queue of packets of the host's. Reads and writes of its file do not block and are one packet
/// each, header first.
pub trait Wire: Send + Sync {
    /// The queue.
    fn file(&self) -> &File;

    /// Lets the host leave undone what the guest has agreed to finish, on all queues.
    fn set_offloads(&self, features: u64) -> io::Result<()>;

    /// Attaches it, or detaches it: then it has no packets, and what is written to it is lost.
    fn attach(&self, attach: bool) -> io::Result<()>;
}

/// A queue of an open tap interface.
#[derive(Debug)]
pub struct Tap(File);

impl Tap {
    /// Opens the interface `name`, with as many queues as it can have, but at most `most`. Only the
    /// first is attached.
    pub fn open(name: &str, most: u16) -> Result<Vec<Self>, NetError> {
        // The last byte of a request's name stays zero.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(NetError::BadName(name.to_owned()));
        }
        // TUNSETIFF would make an interface that is not there: with nothing on the other end, which is never what was meant.
        let known = Path::new("/sys/class/net").join(name);
        if !known.exists() {
            return Err(NetError::NoSuchTap(name.to_owned()));
        }
        let flags = read_to_string(known.join("tun_flags")).map_err(|_| NetError::NotATap(name.to_owned()))?;
        let several = has_several(&flags);
        let count = if several { most.max(1) } else { 1 };
        let taps = (0..count).map(|_| Self::open_queue(name, several)).collect::<Result<Vec<_>, _>>()?;
        let failed = |reason| NetError::Io { name: name.to_owned(), reason };
        // The host lets others have queues as well, but each would have a part of the packets.
        if several && attached(&known).map_err(failed)? > taps.len() {
            return Err(NetError::InUse(name.to_owned()));
        }
        if let Some(Self(first)) = taps.first() {
            set(first, TUNSETVNETHDRSZ(), HEADER_BYTES as libc::c_int).map_err(failed)?;
            // Virtio 1 headers are little endian on any host.
            set(first, TUNSETVNETLE(), 1).map_err(failed)?;
        }
        // The last one first: into the gap of another the host puts the last.
        for tap in taps.iter().skip(1).rev() {
            tap.attach(false).map_err(failed)?;
        }
        Ok(taps)
    }

    fn open_queue(name: &str, several: bool) -> Result<Self, NetError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(TUN)
            .map_err(NetError::Tun)?;
        let queues = if several { libc::IFF_MULTI_QUEUE } else { 0 };
        let mut request = request(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues);
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the kernel reads and writes one `struct ifreq`, which `request` is and which outlives the call.
        let result = unsafe { ioctl_with_mut_ref(&file, TUNSETIFF(), &mut request) };
        checked(result).map_err(|reason| match reason.raw_os_error() {
            // E2BIG: all that it can have are taken.
            Some(libc::EBUSY | libc::E2BIG) => NetError::InUse(name.to_owned()),
            Some(libc::EPERM | libc::EACCES) => NetError::Permission(name.to_owned()),
            Some(libc::EINVAL) => NetError::NotATap(name.to_owned()),
            _ => NetError::Io { name: name.to_owned(), reason },
        })?;
        Ok(Self(file))
    }
}

impl Wire for Tap {
    fn file(&self) -> &File {
        &self.0
    }

    fn set_offloads(&self, features: u64) -> io::Result<()> {
        let has = |feature| features & bit(feature) != 0;
        let mut offloads = 0;
        // All others rest on this one (5.1.3.1).
        if has(net::VIRTIO_NET_F_GUEST_CSUM) {
            offloads |= TUN_F_CSUM;
            for (feature, flag) in
                [(net::VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4), (net::VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6)]
            {
                if has(feature) {
                    offloads |= flag;
                }
            }
            if has(net::VIRTIO_NET_F_GUEST_ECN) && offloads & (TUN_F_TSO4 | TUN_F_TSO6) != 0 {
                offloads |= TUN_F_TSO_ECN;
            }
        }
        // SAFETY: the ioctl takes a number.
        checked(unsafe { ioctl_with_val(&self.0, TUNSETOFFLOAD(), offloads.into()) })
    }

    fn attach(&self, attach: bool) -> io::Result<()> {
        let request = request(if attach { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE });
        // SAFETY: the kernel reads one `struct ifreq`, which `request` is. It outlives the call.
        checked(unsafe { ioctl_with_ref(&self.0, TUNSETQUEUE(), &request) })
    }
}

/// A request with these flags and without a name.
fn request(flags: libc::c_int) -> libc::ifreq {
    // SAFETY: all of `ifreq` is integers, arrays and unions of them, for which zeroes are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    request
}

/// Whether an interface whose `tun_flags` in sysfs are `flags` can have several queues.
fn has_several(flags: &str) -> bool {
    let flags = flags.trim().strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
    flags.is_some_and(|flags| flags & libc::IFF_MULTI_QUEUE as u32 != 0)
}

/// How many queues of the interface at `known` in sysfs are attached, whoever has them.
fn attached(known: &Path) -> io::Result<usize> {
    // What the host sends on a tap is received from it.
    let sends = |name: &OsStr| name.as_encoded_bytes().starts_with(b"tx-");
    read_dir(known.join("queues"))?.try_fold(0, |count, entry| Ok(count + usize::from(sends(&entry?.file_name()))))
}

fn set(file: &File, request: libc::c_ulong, value: libc::c_int) -> io::Result<()> {
    // SAFETY: these ioctls read one `int`, which outlives the call.
    checked(unsafe { ioctl_with_ref(file, request, &value) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
