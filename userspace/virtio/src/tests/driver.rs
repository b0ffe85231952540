// SPDX-License-Identifier: Apache-2.0
//! A driver: finds a device through its transport, sets it up and passes buffers to it.

use std::sync::atomic::{fence, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use virtio_bindings::virtio_config::*;
use vm_memory::{Bytes, GuestAddress};

use crate::mmio::MmioTransport;
use crate::worker::fd;
use crate::{Device, Memory};

/// Where the guest's memory starts.
pub const BASE: u64 = 0x4000_0000;
/// Its size: two regions, one right behind the other.
pub const REGION: u64 = 1 << 20;
pub const SIZE: u64 = 2 * REGION;
/// Where buffers may be: before it are the queues.
pub const BUFFERS: u64 = BASE + 0x8_0000;
/// How much room each queue has, and how many places at most.
const QUEUE_ROOM: u64 = 0x4000;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

pub const STATUS: u64 = 0x70;
pub const INTERRUPT_STATUS: u64 = 0x60;
pub const INTERRUPT_ACK: u64 = 0x64;
pub const FEATURES_OK: u32 = 11;
pub const DRIVER_OK: u32 = 15;

/// How long anything that is going to happen takes at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// One descriptor as the driver writes it.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// Something that the device reads.
pub fn readable(addr: u64, len: u32) -> Descriptor {
    Descriptor { addr, len, flags: 0, next: 0 }
}

/// Something that the device writes.
pub fn writable(addr: u64, len: u32) -> Descriptor {
    Descriptor { addr, len, flags: WRITE, next: 0 }
}

/// The driver's side of one queue.
pub struct DriverQueue {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    pub avail_idx: u16,
    pub used_idx: u16,
    free: u16,
}

/// A guest with one device.
pub struct Guest {
    pub mem: Memory,
    pub transport: MmioTransport,
    pub queues: Vec<DriverQueue>,
}

impl Guest {
    /// A guest that has not touched its device yet.
    pub fn new(device: impl Device + 'static) -> Self {
        let regions = [(GuestAddress(BASE), REGION as usize), (GuestAddress(BASE + REGION), REGION as usize)];
        Self::with_memory(device, Memory::from_ranges(&regions).unwrap())
    }

    /// The same with memory that is made in another way.
    pub fn with_memory(device: impl Device + 'static, mem: Memory) -> Self {
        let transport = MmioTransport::new(Box::new(device), mem.clone()).unwrap();
        Self { mem, transport, queues: Vec::new() }
    }

    /// A guest whose device works, with every feature that it offers.
    pub fn started(device: impl Device + 'static) -> Self {
        let mut guest = Self::new(device);
        guest.start(u64::MAX);
        guest
    }

    pub fn read(&self, offset: u64) -> u32 {
        let mut data = [0xee; 4];
        self.transport.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub fn write(&self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    pub fn config<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0xee; N];
        self.transport.read(0x100 + offset, &mut data);
        data
    }

    pub fn offered(&self) -> u64 {
        self.write(0x14, 1);
        let high = u64::from(self.read(0x10));
        self.write(0x14, 0);
        (high << 32) | u64::from(self.read(0x10))
    }

    pub fn accept(&self, features: u64) {
        for half in [0, 1] {
            self.write(0x24, half);
            self.write(0x20, (features >> (32 * half)) as u32);
        }
    }

    /// Goes up to DRIVER_OK with those of `features` that are offered, and all queues.
    pub fn start(&mut self, features: u64) {
        self.prepare(features);
        self.write(STATUS, DRIVER_OK);
    }

    /// Everything before DRIVER_OK.
    pub fn prepare(&mut self, features: u64) {
        self.write(STATUS, 0);
        self.write(STATUS, 1);
        self.write(STATUS, 3);
        self.accept(self.offered() & features);
        self.write(STATUS, FEATURES_OK);
        assert_eq!(self.read(STATUS), FEATURES_OK, "the device does not take the features");
        self.queues.clear();
        for index in 0..self.transport.kicks().len() {
            self.set_up_queue(index as u32);
        }
    }

    fn set_up_queue(&mut self, index: u32) {
        self.write(0x30, index);
        let size = self.read(0x34) as u16;
        let descriptors = BASE + u64::from(index) * QUEUE_ROOM;
        let available = descriptors + 16 * u64::from(size);
        let used = (available + 6 + 2 * u64::from(size) + 3) & !3;
        assert!(used + 6 + 8 * u64::from(size) <= descriptors + QUEUE_ROOM);
        self.mem.write_slice(&[0; QUEUE_ROOM as usize], GuestAddress(descriptors)).unwrap();
        self.write(0x38, u32::from(size));
        for (offset, address) in [(0x80, descriptors), (0x90, available), (0xa0, used)] {
            self.write(offset, address as u32);
            self.write(offset + 4, (address >> 32) as u32);
        }
        self.write(0x44, 1);
        self.queues.push(DriverQueue { size, descriptors, available, used, avail_idx: 0, used_idx: 0, free: 0 });
    }

    pub fn put(&self, addr: u64, bytes: &[u8]) {
        self.mem.write_slice(bytes, GuestAddress(addr)).unwrap();
    }

    pub fn get(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.mem.read_slice(&mut bytes, GuestAddress(addr)).unwrap();
        bytes
    }

    /// Writes one descriptor at `table`.
    pub fn put_descriptor(&self, table: u64, index: u16, descriptor: Descriptor) {
        let at = table + 16 * u64::from(index);
        self.put(at, &descriptor.addr.to_le_bytes());
        self.put(at + 8, &descriptor.len.to_le_bytes());
        self.put(at + 12, &descriptor.flags.to_le_bytes());
        self.put(at + 14, &descriptor.next.to_le_bytes());
    }

    /// Writes `chain` to the table at `table` from `first` on, each descriptor pointing to the next.
    pub fn put_chain(&self, table: u64, first: u16, chain: &[Descriptor]) {
        for (index, descriptor) in (first..).zip(chain) {
            let last = usize::from(index - first) + 1 == chain.len();
            let flags = if last { descriptor.flags } else { descriptor.flags | NEXT };
            self.put_descriptor(table, index, Descriptor { flags, next: index + 1, ..*descriptor });
        }
    }

    /// Puts a head into the available ring.
    pub fn offer(&mut self, queue: usize, head: u16) {
        let q = &mut self.queues[queue];
        let slot = q.available + 4 + 2 * u64::from(q.avail_idx % q.size);
        q.avail_idx = q.avail_idx.wrapping_add(1);
        let (available, idx) = (q.available, q.avail_idx);
        self.put(slot, &head.to_le_bytes());
        fence(Ordering::SeqCst);
        self.put(available + 2, &idx.to_le_bytes());
    }

    /// Makes a chain available and returns its head. There is no more than one ring's worth of descriptors on the way.
    pub fn add(&mut self, queue: usize, chain: &[Descriptor]) -> u16 {
        let q = &mut self.queues[queue];
        assert!(chain.len() <= usize::from(q.size));
        if usize::from(q.free) + chain.len() > usize::from(q.size) {
            q.free = 0;
        }
        let (table, head) = (q.descriptors, q.free);
        q.free += chain.len() as u16;
        self.put_chain(table, head, chain);
        self.offer(queue, head);
        head
    }

    /// With nothing on the way: the next chain is at the start of the table again.
    pub fn restart_table(&mut self, queue: usize) {
        self.queues[queue].free = 0;
    }

    pub fn kick(&self, queue: usize) {
        self.write(0x50, queue as u32);
    }

    /// Kicks if the device has asked for it (VIRTIO_F_EVENT_IDX) since the available index was `before`.
    pub fn notify(&self, queue: usize, before: u16) {
        fence(Ordering::SeqCst);
        let q = &self.queues[queue];
        let bytes = self.get(q.used + 4 + 8 * u64::from(q.size), 2);
        let event = u16::from_le_bytes([bytes[0], bytes[1]]);
        if q.avail_idx.wrapping_sub(event).wrapping_sub(1) < q.avail_idx.wrapping_sub(before) {
            self.kick(queue);
        }
    }

    /// As [`Self::wait_used`], asleep until the device says that there is one.
    pub fn sleep_until_used(&mut self, queue: usize) -> (u32, u32) {
        while self.used(queue) == self.queues[queue].used_idx {
            self.wait_interrupt();
        }
        self.wait_used(queue)
    }

    /// The device's index in the used ring.
    pub fn used(&self, queue: usize) -> u16 {
        let bytes = self.get(self.queues[queue].used + 2, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// Waits for the next used chain: its head, and how much was written to it.
    pub fn wait_used(&mut self, queue: usize) -> (u32, u32) {
        let idx = self.queues[queue].used_idx;
        self.until("a chain to be used", |guest| guest.used(queue) != idx);
        let q = &mut self.queues[queue];
        let slot = q.used + 4 + 8 * u64::from(idx % q.size);
        q.used_idx = idx.wrapping_add(1);
        // VIRTIO_F_EVENT_IDX: interrupt me for the one after that.
        let (event, next) = (q.available + 4 + 2 * u64::from(q.size), q.used_idx);
        self.put(event, &next.to_le_bytes());
        // Before the next look at the used ring.
        fence(Ordering::SeqCst);
        let bytes = self.get(slot, 8);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }

    /// Makes a chain available, kicks, waits until it is used: how much was written to it.
    pub fn run(&mut self, queue: usize, chain: &[Descriptor]) -> u32 {
        let head = self.add(queue, chain);
        self.kick(queue);
        let (id, len) = self.wait_used(queue);
        assert_eq!(id, u32::from(head));
        len
    }

    pub fn needs_reset(&self) -> bool {
        self.read(STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET != 0
    }

    /// Waits for an edge on the interrupt line and returns the reasons.
    pub fn wait_interrupt(&self) -> u32 {
        let mut line = [PollFd::from_borrowed_fd(fd(self.transport.irq()), PollFlags::IN)];
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        assert_eq!(poll(&mut line, Some(&patience)).unwrap(), 1, "no interrupt came");
        self.transport.irq().read().unwrap();
        let reasons = self.read(INTERRUPT_STATUS);
        self.write(INTERRUPT_ACK, reasons);
        reasons
    }

    /// Whether an edge has come.
    pub fn interrupted(&self) -> bool {
        self.transport.irq().read().is_ok()
    }

    pub fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
