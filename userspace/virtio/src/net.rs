// SPDX-License-Identifier: Apache-2.0
//! The network card (5.1), on a tap interface of the host, or on a connection to a program that is
//! the network.
//!
//! For a tap the host's kernel moves the packets where it has vhost-net; else a thread here does.
//! Either way a packet carries the header of 5.1.6 from the guest to the tap and back as it is
//! (IFF_VNET_HDR), so checksums and segmentation that one side has left undone are done by whoever
//! needs them done.

pub(crate) mod cable;
pub(crate) mod pump;
mod tap;

use std::os::unix::net::UnixStream;

use ::vhost::net::VhostNet;
use ::vhost::vhost_kern::net::Net as Backend;
use ::vhost::VhostBackend;
use rustix::rand::{getrandom, GetRandomFlags};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net as net;

pub use tap::NetError;

use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::ring::Ring;
use crate::vhost::{prepare, LateMemory};
use crate::worker::Worker;
use crate::{bit, read_bytes};
use cable::{Cable, Stream};
use tap::Tap;

/// Receive, transmit.
const QUEUE_SIZES: [u16; 2] = [256, 256];

/// The offloads: what a side may leave undone because the tap passes it on.
const OFFLOADS: u64 = bit(net::VIRTIO_NET_F_CSUM)
    | bit(net::VIRTIO_NET_F_HOST_TSO4)
    | bit(net::VIRTIO_NET_F_HOST_TSO6)
    | bit(net::VIRTIO_NET_F_HOST_ECN)
    | bit(net::VIRTIO_NET_F_GUEST_CSUM)
    | bit(net::VIRTIO_NET_F_GUEST_TSO4)
    | bit(net::VIRTIO_NET_F_GUEST_TSO6)
    | bit(net::VIRTIO_NET_F_GUEST_ECN);

/// How a network card is made.
#[derive(Clone, Copy, Debug)]
pub struct NetOptions {
    /// The guest's address; a random one, locally administered, if there is none.
    pub mac: Option<[u8; 6]>,
    /// Use the host's vhost-net where it is there.
    pub vhost: bool,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self { mac: None, vhost: true }
    }
}

/// A network card.
pub struct Net {
    link: Link,
    mac: [u8; 6],
    worker: Option<Worker>,
}

/// The host's end.
enum Link {
    Tap(Tap, Option<Vhost>),
    Stream(Stream),
}

struct Vhost {
    backend: Backend<LateMemory>,
    mem: LateMemory,
    features: u64,
}

impl Net {
    /// Attaches to the tap interface `name`, which must exist.
    pub fn open(name: &str, options: &NetOptions) -> Result<Self, NetError> {
        let tap = Tap::open(name)?;
        // No vhost-net is no error: it only is slower without.
        let vhost = if options.vhost { Vhost::open() } else { None };
        Ok(Self { link: Link::Tap(tap, vhost), mac: mac(options)?, worker: None })
    }

    /// Connects to a program that speaks as passt(1) does: each frame after its length, 4 bytes,
    /// big-endian. `program` is what the user calls it.
    pub fn over(socket: UnixStream, program: &'static str, options: &NetOptions) -> Result<Self, NetError> {
        let stream = Stream::new(socket, program).map_err(NetError::Socket)?;
        Ok(Self { link: Link::Stream(stream), mac: mac(options)?, worker: None })
    }

    /// The guest's address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Whether the host's kernel moves the packets.
    pub fn uses_vhost(&self) -> bool {
        self.vhost().is_some()
    }

    fn vhost(&self) -> Option<&Vhost> {
        match &self.link {
            Link::Tap(_, vhost) => vhost.as_ref(),
            Link::Stream(_) => None,
        }
    }
}

impl Vhost {
    fn open() -> Option<Self> {
        let mem = LateMemory::default();
        let backend = Backend::new(mem.clone()).ok()?;
        let features = backend.get_features().ok()?;
        Some(Self { backend, mem, features })
    }
}

impl Device for Net {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        // What concerns the rings is vhost's to offer, if it serves them.
        let rings = RING_FEATURES | bit(net::VIRTIO_NET_F_MRG_RXBUF);
        let rings = rings & self.vhost().map_or(u64::MAX, |vhost| vhost.features);
        // A stream has no header in which to say what was left undone.
        let offloads = if matches!(self.link, Link::Tap(..)) { OFFLOADS } else { 0 };
        rings | bit(net::VIRTIO_NET_F_MAC) | offloads
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        // Of struct virtio_net_config (5.1.4) only the address is offered.
        read_bytes(&self.mac, offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let rings: [Ring; 2] = [activation.ring(0)?, activation.ring(1)?];
        let Activation { mem, features, interrupt, .. } = activation;
        let cable = match &self.link {
            Link::Tap(tap, None) => {
                tap.set_offloads(features)?;
                Cable::Tap(tap.try_clone()?)
            }
            Link::Tap(tap, Some(vhost)) => {
                tap.set_offloads(features)?;
                vhost.mem.set(&mem);
                let worker = prepare(&vhost.backend, "virtio-net", features, &mem, &interrupt, &rings)?;
                for index in 0..rings.len() {
                    vhost.backend.set_backend(index, Some(tap.file()))?;
                }
                self.worker = Some(worker);
                return Ok(());
            }
            Link::Stream(stream) => Cable::Stream(stream.clone()),
        };
        let [rx, tx] = rings;
        let mut pump = pump::Pump::new(cable, mem, features, rx, tx);
        self.worker = Some(Worker::spawn("virtio-net", interrupt, move |stop| pump.run(stop))?);
        Ok(())
    }

    fn reset(&mut self) {
        if let Some(vhost) = self.vhost() {
            for index in 0..QUEUE_SIZES.len() {
                // It waits until the kernel's worker has let go of the ring. An error means that it never had it.
                let _ = vhost.backend.set_backend(index, None);
            }
        }
        self.worker = None;
    }
}

fn mac(options: &NetOptions) -> Result<[u8; 6], NetError> {
    options.mac.map_or_else(random_mac, Ok)
}

fn random_mac() -> Result<[u8; 6], NetError> {
    let mut mac = [0; 6];
    // At most 256 bytes come whole or not at all.
    getrandom(&mut mac, GetRandomFlags::empty()).map_err(|error| NetError::Random(error.into()))?;
    // Locally administered, unicast.
    mac[0] = (mac[0] & !1) | 2;
    Ok(mac)
}
