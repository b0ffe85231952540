// SPDX-License-Identifier: Apache-2.0
//! The packet pump, with a socket in the place of the tap: one packet for each read and write, as there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::{Arc, Mutex};

use virtio_bindings::virtio_net::*;

use super::driver::*;
use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::net::cable::Cable;
use crate::net::pump::Pump;
use crate::net::tap::Wire;
use crate::worker::Worker;
use crate::{bit, Net, NetError, NetOptions};

const RX: usize = 0;
const TX: usize = 1;

struct Card {
    wire: UnixDatagram,
    worker: Option<Worker>,
}

impl Device for Card {
    fn device_type(&self) -> u32 {
        1
    }
    fn features(&self) -> u64 {
        RING_FEATURES | bit(VIRTIO_NET_F_MRG_RXBUF)
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16, 16]
    }
    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}
    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let [rx, tx] = [activation.ring(0)?, activation.ring(1)?];
        let tap = Cable::Tap(File::from(OwnedFd::from(self.wire.try_clone()?)));
        let mut pump = Pump::new(tap, activation.mem, activation.features, rx, tx);
        self.worker = Some(Worker::spawn("net", activation.interrupt, move |stop| pump.run(stop))?);
        Ok(())
    }
    fn reset(&mut self) {
        self.worker = None;
    }
}

fn card(features: u64) -> (Guest, UnixDatagram) {
    let (wire, far) = UnixDatagram::pair().unwrap();
    wire.set_nonblocking(true).unwrap();
    far.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut guest = Guest::new(Card { wire, worker: None });
    guest.start(features);
    (guest, far)
}

/// A packet with its header.
fn packet(len: usize) -> Vec<u8> {
    let mut packet = vec![0; 12];
    packet.extend((0..len).map(|i| ((i * 31) >> 3) as u8));
    packet
}

#[test]
fn packets_are_sent_as_they_are() {
    let (mut guest, far) = card(u64::MAX);
    let sent = packet(1514);
    guest.put(BUFFERS, &sent[..12]);
    guest.put(BUFFERS + 0x1000, &sent[12..]);
    assert_eq!(guest.run(TX, &[readable(BUFFERS, 12), readable(BUFFERS + 0x1000, 1514)]), 0);
    let mut got = vec![0; 4096];
    let len = far.recv(&mut got).unwrap();
    assert_eq!(got[..len], sent);
}

#[test]
fn what_is_no_packet_is_not_sent() {
    let (mut guest, far) = card(u64::MAX);
    for chain in [readable(BUFFERS, 0), readable(BUFFERS, 12), readable(BUFFERS, 0x1_8000), writable(BUFFERS, 64)] {
        guest.run(TX, &[chain]);
    }
    guest.run(TX, &[readable(BUFFERS, 13)]);
    let mut got = vec![0; 0x2_0000];
    assert_eq!(far.recv(&mut got).unwrap(), 13, "an earlier one came through");
    assert!(!guest.needs_reset());
}

#[test]
fn packets_are_received_into_as_many_buffers_as_they_need() {
    let (mut guest, far) = card(u64::MAX);
    let sent = packet(2500);
    for index in 0..4 {
        guest.add(RX, &[writable(BUFFERS + 0x1000 * index, 1000)]);
    }
    guest.kick(RX);
    far.send(&sent).unwrap();
    let lens: Vec<_> = (0..3).map(|_| guest.wait_used(RX)).collect();
    assert_eq!(lens, [(0, 1000), (1, 1000), (2, 512)]);
    let got = [guest.get(BUFFERS, 1000), guest.get(BUFFERS + 0x1000, 1000), guest.get(BUFFERS + 0x2000, 512)].concat();
    assert_eq!(got[10..12], 3u16.to_le_bytes(), "num_buffers");
    assert_eq!(got[12..], sent[12..]);
    // The fourth buffer is for the next one.
    far.send(&packet(60)).unwrap();
    assert_eq!(guest.wait_used(RX), (3, 72));
    assert_eq!(guest.get(BUFFERS + 0x3000 + 10, 2), 1u16.to_le_bytes());
}

#[test]
fn no_signal_is_lost() {
    let (mut guest, far) = card(u64::MAX);
    let sender = std::thread::spawn(move || {
        for _ in 0..3000 {
            far.send(&packet(100)).unwrap();
        }
        far
    });
    for round in 0..3000u64 {
        // Two buffers for each packet, the second one late.
        for _ in 0..2 {
            let before = guest.queues[RX].avail_idx;
            guest.add(RX, &[writable(BUFFERS + 0x100 * (round % 8), 60)]);
            guest.notify(RX, before);
        }
        assert_eq!(guest.sleep_until_used(RX).1, 60);
        assert_eq!(guest.sleep_until_used(RX).1, 52);
    }
    sender.join().unwrap();
}

#[test]
fn packets_wait_for_buffers() {
    let (mut guest, far) = card(u64::MAX);
    let sent = packet(1500);
    far.send(&sent).unwrap();
    far.send(&packet(100)).unwrap();
    guest.add(RX, &[writable(BUFFERS, 1000)]);
    guest.kick(RX);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(guest.used(RX), 0, "half a packet");
    guest.add(RX, &[writable(BUFFERS + 0x1000, 1000)]);
    guest.add(RX, &[writable(BUFFERS + 0x2000, 1000)]);
    guest.kick(RX);
    assert_eq!(guest.wait_used(RX), (0, 1000));
    assert_eq!(guest.wait_used(RX), (1, 512));
    assert_eq!(guest.wait_used(RX), (2, 112));
}

#[test]
fn without_merging_a_packet_that_does_not_fit_is_lost() {
    let (mut guest, far) = card(!bit(VIRTIO_NET_F_MRG_RXBUF));
    guest.add(RX, &[writable(BUFFERS, 500)]);
    guest.kick(RX);
    far.send(&packet(600)).unwrap();
    far.send(&packet(400)).unwrap();
    assert_eq!(guest.wait_used(RX), (0, 412));
    assert_eq!(guest.get(BUFFERS + 10, 2), 1u16.to_le_bytes());
}

#[test]
fn receive_buffers_that_hold_nothing_need_a_reset() {
    let (mut guest, far) = card(u64::MAX);
    for _ in 0..16 {
        guest.add(RX, &[writable(BUFFERS, 1)]);
    }
    guest.kick(RX);
    far.send(&packet(60)).unwrap();
    guest.until("DEVICE_NEEDS_RESET", Guest::needs_reset);
}

#[test]
fn a_flood_does_not_keep_the_card_from_stopping() {
    let (mut guest, far) = card(u64::MAX);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    far.set_nonblocking(true).unwrap();
    let flood = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = far.send(&packet(60));
        }
    });
    for round in 0..2000u64 {
        guest.add(RX, &[writable(BUFFERS + 128 * (round % 16), 128)]);
        guest.kick(RX);
        assert_eq!(guest.wait_used(RX).1, 72);
    }
    guest.write(STATUS, 0);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flood.join().unwrap();
}

#[test]
fn taps_that_are_none() {
    let options = NetOptions::default();
    for name in ["", "a/b", "..", "sixteen-bytes-xx"] {
        assert!(matches!(Net::open(name, &options), Err(NetError::BadName(_))), "{name}");
    }
    assert!(matches!(Net::open("nosuchtap", &options), Err(NetError::NoSuchTap(_))));
    if std::path::Path::new("/sys/class/net/lo").exists() {
        assert!(matches!(Net::open("lo", &options), Err(NetError::NotATap(_))));
    }
}

/// A card on a stream, and the stream's other end.
fn streamed() -> (Guest, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut guest = Guest::new(
        Net::over(near, "it", &NetOptions { mac: Some([2, 0, 0, 0, 0, 1]), ..NetOptions::default() }).unwrap(),
    );
    guest.start(u64::MAX);
    (guest, far)
}

/// The packet as it travels in the stream.
fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u32 - 12).to_be_bytes(), &packet[12..]].concat()
}

#[test]
fn a_stream_has_lengths_and_no_headers() {
    let (mut guest, mut far) = streamed();
    for len in [60, 1514] {
        let sent = packet(len);
        guest.put(BUFFERS, &sent);
        guest.run(TX, &[readable(BUFFERS, sent.len() as u32)]);
        let mut got = vec![0; 4 + len];
        far.read_exact(&mut got).unwrap();
        assert_eq!(got, framed(&sent));
    }
}

#[test]
fn frames_are_received_however_they_are_cut() {
    let (mut guest, mut far) = streamed();
    let frames: Vec<u8> = (0..40).flat_map(|n| framed(&packet(60 + n))).collect();
    let writer = std::thread::spawn(move || {
        for part in frames.chunks(37) {
            far.write_all(part).unwrap();
            std::thread::yield_now();
        }
        far
    });
    for n in 0..40 {
        guest.add(RX, &[writable(BUFFERS, 2000)]);
        guest.kick(RX);
        assert_eq!(guest.wait_used(RX).1, 72 + n);
        assert_eq!(guest.get(BUFFERS + 12, 60 + n as usize), packet(60 + n as usize)[12..]);
    }
    writer.join().unwrap();
}

#[test]
fn many_frames_at_once_wait_for_their_turn() {
    let (mut guest, mut far) = streamed();
    // More than are received in one go, all of them in the card's own buffer.
    far.write_all(&(0..200).flat_map(|_| framed(&packet(60))).collect::<Vec<u8>>()).unwrap();
    for _ in 0..200 {
        guest.add(RX, &[writable(BUFFERS, 2000)]);
        guest.kick(RX);
        assert_eq!(guest.wait_used(RX).1, 72);
    }
}

#[test]
fn nothing_is_lost_where_the_network_is_slow() {
    let (mut guest, mut far) = streamed();
    let sent = packet(1514);
    guest.put(BUFFERS, &sent);
    let reader = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let mut got = vec![0; 4 + 1514];
        for _ in 0..1000 {
            far.read_exact(&mut got).unwrap();
            assert!(got == framed(&packet(1514)));
        }
        far
    });
    for _ in 0..1000 {
        guest.run(TX, &[readable(BUFFERS, sent.len() as u32)]);
    }
    let _far = reader.join().unwrap();
    assert!(!guest.needs_reset());
}

#[test]
fn a_network_that_makes_no_sense_needs_a_reset() {
    for nonsense in [&u32::MAX.to_be_bytes()[..], &[0; 4]] {
        let (mut guest, mut far) = streamed();
        guest.add(RX, &[writable(BUFFERS, 2000)]);
        guest.kick(RX);
        far.write_all(nonsense).unwrap();
        guest.until("DEVICE_NEEDS_RESET", Guest::needs_reset);
    }
}

#[test]
fn what_is_sent_to_a_network_that_has_ended_is_lost() {
    let (mut guest, far) = streamed();
    drop(far);
    let sent = packet(1514);
    guest.put(BUFFERS, &sent);
    for _ in 0..100 {
        guest.run(TX, &[readable(BUFFERS, sent.len() as u32)]);
    }
    assert!(!guest.needs_reset());
}

/// What queues of a tap were told: which, and whether it is to be attached.
type Told = Arc<Mutex<Vec<(usize, bool)>>>;

/// A queue of a tap, with a socket in its place.
struct TapQueue {
    number: usize,
    file: File,
    told: Told,
    refuses: bool,
}

impl Wire for TapQueue {
    fn file(&self) -> &File {
        &self.file
    }
    fn set_offloads(&self, _features: u64) -> io::Result<()> {
        Ok(())
    }
    fn attach(&self, attach: bool) -> io::Result<()> {
        if attach && self.refuses {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.told.lock().unwrap().push((self.number, attach));
        Ok(())
    }
}

/// A card with several pairs of queues, which its driver has not started, and the other ends of its
/// wires.
pub struct Several {
    pub guest: Guest,
    far: Vec<UnixDatagram>,
    told: Told,
}

impl Several {
    /// With `pairs` of them, of which that with the number `refusing` cannot be attached.
    pub fn new(pairs: usize, refusing: Option<usize>) -> Self {
        let (card, far, told) = several(pairs, refusing);
        Self { guest: Guest::new(card), far, told }
    }

    /// What the wires were told since the last time.
    fn told(&self) -> Vec<(usize, bool)> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    /// The answer to a command in the queue `control`.
    fn command(&mut self, control: usize, command: &[u8]) -> u8 {
        self.guest.put(BUFFERS, command);
        self.guest.put(BUFFERS + 0x1000, &[0xee]);
        let chain = [readable(BUFFERS, command.len() as u32), writable(BUFFERS + 0x1000, 1)];
        assert_eq!(self.guest.run(control, &chain), 1);
        self.guest.get(BUFFERS + 0x1000, 1)[0]
    }

    /// The answer to the driver's wish to use `count` pairs.
    fn set(&mut self, count: u16) -> u8 {
        let [low, high] = count.to_le_bytes();
        self.command(2 * self.far.len(), &[4, 0, low, high])
    }

    /// A packet goes each way through the pair `pair`.
    fn works(&mut self, pair: usize) {
        let sent = packet(60 + pair);
        self.guest.put(BUFFERS + 0x2000, &sent);
        self.guest.run(2 * pair + 1, &[readable(BUFFERS + 0x2000, sent.len() as u32)]);
        let mut got = vec![0; 200];
        assert_eq!(self.far[pair].recv(&mut got).unwrap(), sent.len());
        assert_eq!(got[..sent.len()], sent);
        self.guest.add(2 * pair, &[writable(BUFFERS + 0x3000, 200)]);
        self.guest.kick(2 * pair);
        self.far[pair].send(&sent).unwrap();
        assert_eq!(self.guest.wait_used(2 * pair).1, sent.len() as u32);
    }

    /// No packet goes through it, whatever is there.
    fn rests(&mut self, pair: usize) {
        let used = |guest: &Guest| (guest.used(2 * pair), guest.used(2 * pair + 1));
        let before = used(&self.guest);
        self.guest.add(2 * pair, &[writable(BUFFERS + 0x3000, 200)]);
        self.guest.add(2 * pair + 1, &[readable(BUFFERS + 0x2000, 72)]);
        for queue in [2 * pair, 2 * pair + 1] {
            self.guest.kick(queue);
        }
        self.far[pair].send(&packet(60)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(used(&self.guest), before);
    }
}

/// A card, the other ends of its wires, and what those were told.
pub fn several(pairs: usize, refusing: Option<usize>) -> (Net, Vec<UnixDatagram>, Told) {
    let told = Told::default();
    let (mut wires, mut far) = (Vec::new(), Vec::new());
    for number in 0..pairs {
        let (near, theirs) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let file = File::from(OwnedFd::from(near));
        let wire = TapQueue { number, file, told: told.clone(), refuses: refusing == Some(number) };
        wires.push(Arc::new(wire) as Arc<dyn Wire>);
        far.push(theirs);
    }
    (Net::on(wires, &NetOptions::default()).unwrap(), far, told)
}

#[test]
fn a_card_has_a_pair_for_each_queue_of_its_tap() {
    let both = bit(VIRTIO_NET_F_MQ) | bit(VIRTIO_NET_F_CTRL_VQ);
    for (pairs, queues, offered, shown) in [(1, 2, 0, 0), (2, 5, both, 2u16), (8, 17, both, 8)] {
        let card = Several::new(pairs, None);
        assert_eq!(card.guest.transport.kicks().len(), queues);
        assert_eq!(card.guest.offered() & both, offered);
        assert_eq!(card.guest.config(8), shown.to_le_bytes());
        assert_eq!((card.guest.config(6), card.guest.config(10)), ([0; 2], [0; 4]));
    }
}

#[test]
fn a_driver_uses_as_many_pairs_as_it_says() {
    let mut card = Several::new(3, None);
    card.guest.start(u64::MAX);
    card.works(0);
    card.rests(1);
    card.rests(2);
    assert_eq!(card.told(), []);
    assert_eq!(card.set(2), 0);
    assert_eq!(card.told(), [(1, true)]);
    // What has waited goes its way without another word.
    card.guest.wait_used(2);
    card.guest.wait_used(3);
    card.far[1].recv(&mut [0; 200]).unwrap();
    for pair in [0, 1] {
        card.works(pair);
    }
    assert_eq!(card.guest.used(5), 0);
    assert_eq!(card.set(1), 0);
    assert_eq!(card.told(), [(1, false)]);
    card.rests(1);
    card.works(0);
    assert_eq!(card.set(3), 0);
    assert_eq!(card.told(), [(1, true), (2, true)]);
    for pair in [1, 2] {
        card.guest.wait_used(2 * pair);
        card.guest.wait_used(2 * pair + 1);
        card.far[pair].recv(&mut [0; 200]).unwrap();
    }
    for pair in [2, 0, 1] {
        card.works(pair);
    }
    // As it is already.
    assert_eq!(card.set(3), 0);
    assert_eq!(card.told(), []);
    assert_eq!(card.set(1), 0);
    assert_eq!(card.told(), [(2, false), (1, false)]);
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let mut card = Several::new(3, None);
    card.guest.start(u64::MAX);
    assert_eq!(card.set(2), 0);
    card.told();
    for count in [0, 4, 0x102, 0x8001, u16::MAX] {
        assert_eq!(card.set(count), 1, "{count}");
    }
    for command in [
        &[4, 0, 3][..],
        &[4, 0],
        &[4],
        &[4, 0, 3, 0, 0],
        &[4, 1, 3, 0],
        &[4, 2, 3, 0],
        &[0, 0, 1],
        &[1, 1, 2, 0, 0, 0, 0, 1],
        &[2, 0, 1, 0],
        &[3, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xff; 100],
    ] {
        assert_eq!(card.command(6, command), 1, "{command:?}");
    }
    // Without a place for the answer nothing is done; a large one has one byte of answer.
    card.guest.put(BUFFERS, &[4, 0, 3, 0]);
    assert_eq!(card.guest.run(6, &[readable(BUFFERS, 4)]), 0);
    assert_eq!(card.guest.run(6, &[readable(BUFFERS, 4), writable(BUFFERS + 0x1000, 0)]), 0);
    assert_eq!(card.guest.run(6, &[writable(BUFFERS + 0x1000, 64)]), 1);
    assert_eq!(card.told(), []);
    for pair in [0, 1] {
        card.works(pair);
    }
    assert!(!card.guest.needs_reset());
    // However it is cut.
    let chain = [readable(BUFFERS, 1), readable(BUFFERS + 1, 2), readable(BUFFERS + 3, 1), writable(BUFFERS, 1)];
    card.guest.put(BUFFERS, &[4, 0, 3, 0]);
    assert_eq!(card.guest.run(6, &chain), 1);
    assert_eq!((card.guest.get(BUFFERS, 1), card.told()), (vec![0], vec![(2, true)]));
}

#[test]
fn a_reset_goes_back_to_one_pair() {
    let mut card = Several::new(3, None);
    card.guest.start(u64::MAX);
    assert_eq!(card.set(3), 0);
    card.told();
    card.guest.write(STATUS, 0);
    assert_eq!(card.told(), [(2, false), (1, false)]);
    card.guest.start(u64::MAX);
    card.works(0);
    card.rests(1);
    assert_eq!(card.set(2), 0);
    assert_eq!(card.told(), [(1, true)]);
}

#[test]
fn a_driver_without_the_feature_has_one_pair() {
    // Its control queue is the third (5.1.2), and has nothing to say of pairs.
    let mut card = Several::new(3, None);
    card.guest.start(!bit(VIRTIO_NET_F_MQ));
    for count in [1, 2] {
        assert_eq!(card.command(2, &[4, 0, count, 0]), 1);
    }
    card.works(0);
    // Without that queue nobody is asked.
    card.guest.start(!bit(VIRTIO_NET_F_CTRL_VQ));
    card.works(0);
    card.guest.add(6, &[readable(BUFFERS, 4), writable(BUFFERS + 0x1000, 1)]);
    card.guest.kick(6);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!((card.guest.used(6), card.told()), (0, vec![]));
}

#[test]
fn a_pair_that_is_not_set_up_cannot_be_used() {
    let mut card = Several::new(3, None);
    card.guest.prepare(u64::MAX);
    card.guest.write(0x30, 5);
    card.guest.write(0x44, 0);
    card.guest.write(STATUS, DRIVER_OK);
    assert_eq!((card.set(3), card.set(2)), (1, 0));
    assert_eq!(card.told(), [(1, true)]);
    card.works(1);
    // Nor one behind it.
    card.guest.prepare(u64::MAX);
    card.guest.write(0x30, 2);
    card.guest.write(0x44, 0);
    card.guest.write(STATUS, DRIVER_OK);
    card.told();
    assert_eq!((card.set(3), card.set(2), card.set(1)), (1, 1, 0));
    assert_eq!(card.told(), []);
    card.works(0);
    // Nor can a card without the first.
    card.guest.prepare(u64::MAX);
    card.guest.write(0x30, 1);
    card.guest.write(0x44, 0);
    card.guest.write(STATUS, DRIVER_OK);
    assert!(card.guest.needs_reset());
}

#[test]
fn pairs_that_the_host_refuses_are_not_used() {
    let mut card = Several::new(4, Some(2));
    card.guest.start(u64::MAX);
    assert_eq!(card.set(4), 1);
    assert_eq!(card.told(), [(1, true), (1, false)], "it has what it had before");
    card.works(0);
    assert_eq!(card.set(2), 0);
    assert_eq!((card.set(3), card.told()), (1, vec![(1, true)]));
    card.works(1);
    assert!(!card.guest.needs_reset());
}
