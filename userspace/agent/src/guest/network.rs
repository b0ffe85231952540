// SPDX-License-Identifier: Apache-2.0
//! The guest's network interfaces (netdevice(7)).

use super::{log, Result};
use crate::task::Network;
use nix::mount::{mount, umount2, MntFlags, MsFlags};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a card may take to appear.
const CARD_LIMIT: Duration = Duration::from_secs(5);
const RESOLVER: &str = "/etc/resolv.conf";
const OWN_RESOLVER: &str = "/run/loft-resolv.conf";

/// The file that was made to be mounted over.
static MADE: OnceLock<PathBuf> = OnceLock::new();

/// Switches the loopback interface on; programs expect that.
pub fn loopback() {
    if let Ok(socket) = UdpSocket::bind("0.0.0.0:0") {
        let _ = up(&socket, "lo");
    }
}

/// Sets up the card of `network`.
pub fn set_up(network: &Network) -> Result<()> {
    match configure(network) {
        Err(e) if !network.required => {
            log(&e);
            Ok(())
        }
        result => result,
    }
}

fn configure(network: &Network) -> Result<()> {
    let name = find(network.mac, if network.required { CARD_LIMIT } else { Duration::ZERO })?;
    let configure = || -> io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        set_address(&socket, &name, libc::SIOCSIFADDR, network.address.into())?;
        let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix)).unwrap_or(0);
        set_address(&socket, &name, libc::SIOCSIFNETMASK, mask.into())?;
        up(&socket, &name)?;
        default_route(&socket, network.gateway.into())
    };
    configure().map_err(|e| format!("the network card {name} cannot be set up: {e}"))?;
    if let Err(e) = name_server(network.dns.into()) {
        log(&format!("{RESOLVER} cannot be set up: {e}"));
    }
    Ok(())
}

/// The name of the card with this address.
fn find(mac: [u8; 6], limit: Duration) -> Result<String> {
    let wanted = mac.map(|byte| format!("{byte:02x}")).join(":");
    let deadline = Instant::now() + limit;
    loop {
        for entry in std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
            let address = std::fs::read_to_string(entry.path().join("address")).unwrap_or_default();
            if address.trim_end() == wanted {
                return Ok(entry.file_name().to_string_lossy().into_owned());
            }
        }
        if Instant::now() >= deadline {
            return Err("the network card did not appear; the kernel has no driver for it (virtio_net): \
                        give its modules with --modules, or do without (-n none)"
                .to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Tells programs the name server, in the place of what the root file system has, which is left as
/// it is. Where it has nothing an empty file is made, for [`undo`] to remove.
fn name_server(address: Ipv4Addr) -> io::Result<()> {
    std::fs::write(OWN_RESOLVER, format!("nameserver {address}\n"))?;
    let mut target = Path::new(RESOLVER).to_path_buf();
    if let Ok(link) = std::fs::read_link(&target) {
        target = Path::new("/etc").join(link);
    }
    if !target.exists() {
        make(&target)?;
    }
    Ok(mount(Some(OWN_RESOLVER), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Makes an empty file. Directories for it are made only where they do not stay, as in /run.
fn make(target: &Path) -> io::Result<()> {
    let parent = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let there = parent.ancestors().find(|directory| directory.exists()).ok_or(io::ErrorKind::NotFound)?;
    let stays = std::fs::metadata(there)?.dev() == std::fs::metadata("/")?.dev();
    if !stays {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::File::create_new(target)?;
    if stays {
        let _ = MADE.set(target.to_owned());
    }
    Ok(())
}

/// Removes what was made on the root file system, unless somebody has given it content.
pub fn undo() {
    let Some(made) = MADE.get() else { return };
    // It may have been unmounted.
    let _ = umount2(made, MntFlags::MNT_DETACH);
    if std::fs::symlink_metadata(made).is_ok_and(|file| file.is_file() && file.len() == 0) {
        let _ = std::fs::remove_file(made);
    }
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    // struct sockaddr_in: the port, then the address, in network byte order.
    let mut data = [0; 14];
    for (to, from) in data[2..].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn up(socket: &UdpSocket, name: &str) -> io::Result<()> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, and this is one.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) })
}

fn set_address(socket: &UdpSocket, name: &str, what: libc::Ioctl, address: Ipv4Addr) -> io::Result<()> {
    let mut request = request(name);
    request.ifr_ifru.ifru_addr = socket_address(address);
    // SAFETY: both requests that this is called for read an ifreq, and this is one.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), what as _, &request) })
}

fn default_route(socket: &UdpSocket, gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: an all-zero rtentry is a valid one: numbers, and a pointer to a name that may be
    // null.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: SIOCADDRT reads an rtentry, and this is one.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &route) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
