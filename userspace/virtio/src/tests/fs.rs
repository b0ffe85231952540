// SPDX-License-Identifier: Apache-2.0
//! The file system device, with a program at the other end that speaks vhost-user and gives each
//! request the same answer.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::driver::{readable, writable, Guest, BASE, BUFFERS, SIZE};
use crate::fs::{Fs, FsError, MAX_TAG};
use crate::{bit, Memory};

/// Requests (vhost-user.rst), with what is answered to those that are questions.
const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_ADDR: u32 = 9;
const GET_VRING_BASE: u32 = 11;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const GET_PROTOCOL_FEATURES: u32 = 15;
const SET_VRING_ENABLE: u32 = 18;
const VERSION: u32 = 1;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;
const PROTOCOL_FEATURES: u64 = bit(30);
const REPLY_ACK: u64 = bit(3);
const ANSWER: &[u8] = b"the answer";

/// What the program was told.
#[derive(Default)]
struct Told {
    features: u64,
    memory: Memory,
    addresses: Vec<[u64; 3]>,
    kicks: Vec<EventFd>,
    calls: Vec<EventFd>,
    enabled: Vec<u32>,
    /// The rings that were taken back.
    taken: Vec<u32>,
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn event(file: Option<File>) -> EventFd {
    // SAFETY: the descriptor came with a message and is nobody else's.
    unsafe { EventFd::from_raw_fd(file.unwrap().into_raw_fd()) }
}

/// Speaks with the launcher until it hangs up, and answers one request once both rings are on. The
/// features are what it offers; it refuses those of the rings if `refuse`.
fn program(socket: UnixStream, features: u64, protocol: u64, refuse: bool) -> JoinHandle<Told> {
    std::thread::spawn(move || {
        let mut told = Told::default();
        let mut header = [0; 12];
        while let Ok((12, file)) = socket.recv_with_fd(&mut header) {
            let (request, flags, length) = (word(&header, 0), word(&header, 4), word(&header, 8));
            let mut body = vec![0; length as usize];
            (&socket).read_exact(&mut body).unwrap();
            let answer = match request {
                GET_FEATURES => Some(features),
                GET_PROTOCOL_FEATURES => Some(protocol),
                GET_VRING_BASE => {
                    told.taken.push(word(&body, 0));
                    Some(u64::from(word(&body, 0)))
                }
                _ if flags & NEED_REPLY != 0 => Some(u64::from(refuse && request == SET_VRING_ADDR)),
                _ => None,
            };
            match request {
                SET_FEATURES => told.features = long(&body, 0),
                SET_MEM_TABLE => {
                    let (count, start, size) = (word(&body, 0), long(&body, 8), long(&body, 16));
                    // An address of the guest stands for itself.
                    assert_eq!((count, long(&body, 24)), (1, start));
                    let file = FileOffset::new(file.unwrap(), long(&body, 32));
                    let range = (GuestAddress(start), size as usize, Some(file));
                    told.memory = Memory::from_ranges_with_files(&[range]).unwrap();
                }
                SET_VRING_ADDR => told.addresses.push([long(&body, 8), long(&body, 16), long(&body, 24)]),
                SET_VRING_KICK => told.kicks.push(event(file)),
                SET_VRING_CALL => told.calls.push(event(file)),
                SET_VRING_ENABLE => told.enabled.push(word(&body, 0)),
                _ => {}
            }
            if let Some(answer) = answer {
                let message = [request, VERSION | REPLY, 8].map(u32::to_le_bytes).concat();
                let message = [message, answer.to_le_bytes().to_vec()].concat();
                (&socket).write_all(&message).unwrap();
            }
            if request == SET_VRING_ENABLE && told.enabled == [0, 1] {
                serve_one(&told);
            }
        }
        told
    })
}

/// Answers the next request at the second ring.
fn serve_one(told: &Told) {
    let [descriptors, used, available] = told.addresses[1];
    let mut queue = Queue::new(256).unwrap();
    let half = |address: u64| (Some(address as u32), Some((address >> 32) as u32));
    queue.set_desc_table_address(half(descriptors).0, half(descriptors).1);
    queue.set_used_ring_address(half(used).0, half(used).1);
    queue.set_avail_ring_address(half(available).0, half(available).1);
    queue.set_ready(true);
    while queue.avail_idx(&told.memory, std::sync::atomic::Ordering::Acquire).unwrap().0 == 0 {
        let mut kick =
            [rustix::event::PollFd::from_borrowed_fd(crate::worker::fd(&told.kicks[1]), rustix::event::PollFlags::IN)];
        crate::worker::wait_for(&mut kick).unwrap();
        let _ = told.kicks[1].read();
    }
    let mut chain = queue.pop_descriptor_chain(&told.memory).unwrap();
    let head = chain.head_index();
    let question = chain.next().unwrap();
    let mut bytes = vec![0; question.len() as usize];
    told.memory.read_slice(&mut bytes, question.addr()).unwrap();
    assert_eq!(bytes, b"a question");
    told.memory.write_slice(ANSWER, chain.next().unwrap().addr()).unwrap();
    queue.add_used(&told.memory, head, ANSWER.len() as u32).unwrap();
    told.calls[1].write(1).unwrap();
}

/// A guest's memory that others can share.
fn shared() -> Memory {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    ftruncate(&file, SIZE).unwrap();
    let range = (GuestAddress(BASE), SIZE as usize, Some(FileOffset::new(file, 0)));
    Memory::from_ranges_with_files(&[range]).unwrap()
}

const OFFERED: u64 = bit(VIRTIO_F_VERSION_1) | PROTOCOL_FEATURES;

#[test]
fn a_request_goes_to_the_program_and_back() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let program = program(theirs, OFFERED | 1 << 26, REPLY_ACK | 1, false);
    let fs = Fs::over(ours, "src").unwrap();
    let mut guest = Guest::with_memory(fs, shared());
    assert_eq!((guest.config::<4>(0), guest.config::<4>(32)), (*b"src\0", [0; 4]));
    assert_eq!(guest.config::<4>(36), 1u32.to_le_bytes());
    guest.start(u64::MAX);
    guest.put(BUFFERS, b"a question");
    let chain = [readable(BUFFERS, 10), writable(BUFFERS + 0x100, 64)];
    guest.add(1, &chain);
    guest.kick(1);
    assert_eq!(guest.sleep_until_used(1).1, ANSWER.len() as u32);
    assert_eq!(guest.get(BUFFERS + 0x100, ANSWER.len()), ANSWER);
    guest.transport.reset();
    drop(guest);
    let told = program.join().unwrap();
    // What the program alone offers is not the driver's.
    assert_eq!(told.features, OFFERED);
    assert_eq!((told.enabled, told.taken), (vec![0, 1], vec![0, 1]));
}

#[test]
fn a_refusal_is_told_to_the_driver() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let program = program(theirs, OFFERED, REPLY_ACK, true);
    let mut guest = Guest::with_memory(Fs::over(ours, "src").unwrap(), shared());
    guest.start(u64::MAX);
    guest.until("the refusal", Guest::needs_reset);
    drop(guest);
    program.join().unwrap();
}

#[test]
fn memory_that_is_no_file_cannot_be_shared() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let program = program(theirs, OFFERED, REPLY_ACK, false);
    let guest = Guest::started(Fs::over(ours, "src").unwrap());
    guest.until("the refusal", Guest::needs_reset);
    drop(guest);
    assert!(program.join().unwrap().addresses.is_empty());
}

#[test]
fn the_end_of_the_program_is_no_fault_of_the_driver() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let other = theirs.try_clone().unwrap();
    let program = program(theirs, OFFERED, REPLY_ACK, false);
    let mut guest = Guest::with_memory(Fs::over(ours, "src").unwrap(), shared());
    guest.start(u64::MAX);
    guest.put(BUFFERS, b"a question");
    guest.add(1, &[readable(BUFFERS, 10), writable(BUFFERS + 0x100, 64)]);
    guest.kick(1);
    guest.wait_used(1);
    other.shutdown(std::net::Shutdown::Both).unwrap();
    program.join().unwrap();
    assert!(!guest.needs_reset());
    guest.transport.reset();
}

#[test]
fn programs_and_tags_that_will_not_do() {
    let over = |features, protocol, tag: &str| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let program = program(theirs, features, protocol, false);
        let result = Fs::over(ours, tag).map(drop);
        program.join().unwrap();
        result.map_err(|error| matches!(error, FsError::Lacks(_)))
    };
    assert_eq!(over(OFFERED, REPLY_ACK, &"x".repeat(MAX_TAG)), Ok(()));
    assert_eq!(over(OFFERED, REPLY_ACK, &"x".repeat(MAX_TAG + 1)), Err(false));
    assert_eq!(over(OFFERED, REPLY_ACK, ""), Err(false));
    assert_eq!(over(OFFERED, 1, "x"), Err(true));
    assert_eq!(over(bit(VIRTIO_F_VERSION_1), REPLY_ACK, "x"), Err(true));
    // Nobody is there any more.
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(Fs::over(ours, "x"), Err(FsError::Vhost(_))));
}
