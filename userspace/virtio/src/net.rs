// SPDX-License-Identifier: Apache-2.0
//! The network card (5.1), on a tap interface of the host, or on a connection to a program that is
//! the network.
//!
//! For a tap the host's kernel moves the packets where it has vhost-net; else a thread here does.
//! Either way a packet carries the header of 5.1.6 from the guest to the tap and back as it is
//! (IFF_VNET_HDR), so checksums and segmentation that one side has left undone are done by whoever
//! needs them done.
//!
//! On a tap with several queues the card has several pairs of queues, each served on its own, of
//! which a driver uses as many as it says.

pub(crate) mod cable;
mod pairs;
pub(crate) mod pump;
pub(crate) mod tap;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::rand::{getrandom, GetRandomFlags};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net as net;
use vmm_sys_util::eventfd::EventFd;

pub use tap::NetError;

use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::worker::Worker;
use crate::{bit, read_bytes};
use cable::{Cable, Stream};
use pairs::{Pair, Pairs, Vhost};
use tap::{Tap, Wire};

/// The size of a queue for receiving or transmitting.
const QUEUE_SIZE: u16 = 256;
/// The size of the control queue.
const CONTROL_SIZE: u16 = 64;
/// The most pairs of queues of a card.
const MAX_PAIRS: u16 = 8;

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
    /// How many pairs of queues it has where the tap interface can have several: 1 to 8; more or
    /// fewer are as many.
    pub pairs: u16,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self { mac: None, vhost: true, pairs: 1 }
    }
}

/// A network card.
pub struct Net {
    link: Link,
    mac: [u8; 6],
    queue_sizes: Vec<u16>,
    work: Option<Work>,
}

/// The host's end.
enum Link {
    /// For each pair of queues one of the tap's, of which only the first is attached while no
    /// driver works, and vhost-net, if that is there.
    Taps(Vec<Arc<dyn Wire>>, Vec<Arc<Vhost>>),
    Stream(Stream),
}

/// A card at work. Dropping it stops it.
#[expect(dead_code, reason = "it is only kept")]
enum Work {
    /// There is nothing to watch and nothing to be told.
    Alone(Pairs),
    /// The thread that has the pairs.
    Watched(Worker),
}

impl Net {
    /// Attaches to the tap interface `name`, which must exist.
    pub fn open(name: &str, options: &NetOptions) -> Result<Self, NetError> {
        let taps = Tap::open(name, options.pairs.clamp(1, MAX_PAIRS))?;
        let vhost = || taps.iter().map(|_| Vhost::open().map(Arc::new)).collect();
        // No vhost-net is no error: it only is slower without.
        let vhosts: Option<Vec<_>> = if options.vhost { vhost() } else { None };
        let wires = taps.into_iter().map(|tap| Arc::new(tap) as Arc<dyn Wire>).collect();
        Self::new(Link::Taps(wires, vhosts.unwrap_or_default()), options)
    }

    /// Uses `wires`, at least one, of which the first is attached.
    #[cfg(test)]
    pub(crate) fn on(wires: Vec<Arc<dyn Wire>>, options: &NetOptions) -> Result<Self, NetError> {
        Self::new(Link::Taps(wires, Vec::new()), options)
    }

    /// Connects to a program that speaks as passt(1) does: each frame after its length, 4 bytes,
    /// big-endian. `program` is what the user calls it.
    pub fn over(socket: UnixStream, program: &'static str, options: &NetOptions) -> Result<Self, NetError> {
        let stream = Stream::new(socket, program).map_err(NetError::Socket)?;
        Self::new(Link::Stream(stream), options)
    }

    fn new(link: Link, options: &NetOptions) -> Result<Self, NetError> {
        let mut card = Self { link, mac: mac(options)?, queue_sizes: Vec::new(), work: None };
        card.queue_sizes = vec![QUEUE_SIZE; 2 * card.pairs()];
        if card.pairs() > 1 {
            card.queue_sizes.push(CONTROL_SIZE);
        }
        Ok(card)
    }

    /// The guest's address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Whether the host's kernel moves the packets.
    pub fn uses_vhost(&self) -> bool {
        self.vhost().is_some()
    }

    /// How many pairs of queues there are.
    fn pairs(&self) -> usize {
        match &self.link {
            Link::Taps(wires, _) => wires.len(),
            Link::Stream(_) => 1,
        }
    }

    fn vhost(&self) -> Option<&Vhost> {
        match &self.link {
            Link::Taps(_, vhosts) => vhosts.first().map(|vhost| &**vhost),
            Link::Stream(_) => None,
        }
    }
}

impl Device for Net {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        // What concerns the rings is vhost's to offer, if it serves them.
        let rings = RING_FEATURES | bit(net::VIRTIO_NET_F_MRG_RXBUF);
        let rings = rings & self.vhost().map_or(u64::MAX, Vhost::features);
        // A stream has no header in which to say what was left undone.
        let offloads = if matches!(self.link, Link::Taps(..)) { OFFLOADS } else { 0 };
        let several = if self.pairs() > 1 { bit(net::VIRTIO_NET_F_MQ) | bit(net::VIRTIO_NET_F_CTRL_VQ) } else { 0 };
        rings | bit(net::VIRTIO_NET_F_MAC) | offloads | several
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        // struct virtio_net_config (5.1.4): the address, no status, how many pairs there can be.
        let pairs = if self.pairs() > 1 { self.pairs() as u16 } else { 0 };
        let ([a, b, c, d, e, f], [low, high]) = (self.mac, pairs.to_le_bytes());
        read_bytes(&[a, b, c, d, e, f, 0, 0, low, high], offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let has = |feature| activation.features & bit(feature) != 0;
        let (several, control) = (has(net::VIRTIO_NET_F_MQ), has(net::VIRTIO_NET_F_CTRL_VQ));
        let most = if several { self.pairs() } else { 1 };
        let mut rings = vec![[activation.ring(0)?, activation.ring(1)?]];
        // A driver may leave other pairs alone. Behind all of them is the control queue (5.1.2).
        for pair in 1..most {
            let (Ok(rx), Ok(tx)) = (activation.ring(2 * pair), activation.ring(2 * pair + 1)) else { break };
            rings.push([rx, tx]);
        }
        let control = if control { activation.ring(2 * most).ok() } else { None };
        let Activation { mem, features, interrupt, .. } = activation;

        let (mut pairs, mut failures) = (Vec::new(), Vec::new());
        match &self.link {
            Link::Taps(wires, vhosts) => {
                wires.first().map_or(Ok(()), |wire| wire.set_offloads(features))?;
                for (index, (wire, rings)) in wires.iter().zip(rings).enumerate() {
                    let pair = if let Some(vhost) = vhosts.get(index) {
                        failures.extend(vhost.prepare(features, &mem, &interrupt, &rings)?);
                        Pair::with_vhost(vhost.clone(), wire.clone(), rings)
                    } else {
                        let cable = Cable::Tap(wire.file().try_clone()?);
                        Pair::pumped(cable, &mem, features, rings, &interrupt)
                    };
                    pairs.push(if index == 0 { pair } else { pair.attached_while_used(wire.clone()) });
                }
            }
            Link::Stream(stream) => {
                let pumped = |rings| Pair::pumped(Cable::Stream(stream.clone()), &mem, features, rings, &interrupt);
                pairs.extend(rings.into_iter().map(pumped));
            }
        }
        let mut pairs = Pairs::start(pairs)?;
        self.work = Some(if failures.is_empty() && control.is_none() {
            Work::Alone(pairs)
        } else {
            let body = move |stop: &EventFd| pairs.watch(stop, &failures, control, several, &mem);
            Work::Watched(Worker::spawn("virtio-net", interrupt, body)?)
        });
        Ok(())
    }

    fn reset(&mut self) {
        self.work = None;
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
