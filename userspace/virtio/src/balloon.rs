// SPDX-License-Identifier: Apache-2.0
//! The memory balloon (5.5): the guest gives memory back to the host.
//!
//! It does so in two ways. It reports what it does not use for the time being, without being asked
//! (free page reporting, 5.5.6.6), and takes that back by touching it. And it puts as much into the
//! balloon as the host asks for, which is nothing at first; where its own memory runs out it takes
//! back from there, too (VIRTIO_BALLOON_F_DEFLATE_ON_OOM).
//!
//! What was given back reads as zeroes when it is touched again. A guest that gives back what it
//! still uses harms itself alone.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::PollFlags;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, VolatileSlice};
use vmm_sys_util::eventfd::EventFd;

use crate::chain::{Buffers, Chain};
use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::interrupt::Interrupt;
use crate::ring::{Ring, RingError};
use crate::worker::{fd, wait, Worker};
use crate::{bit, read_bytes, Memory};

/// Feature bits (5.5.3); the bindings have none for this device.
pub(crate) const F_DEFLATE_ON_OOM: u32 = 2;
pub(crate) const F_REPORTING: u32 = 5;

/// The unit in which the balloon is counted (5.5.2), whatever the guest's pages.
pub const PAGE: u64 = 4096;
const PAGE_SHIFT: u32 = 12;

/// Inflate, deflate, reports. The queues of what is not offered are not there.
const QUEUE_SIZES: [u16; 3] = [128, 128, 32];
/// The most pages that one request of the first two queues may name. Linux names 256.
const MAX_PAGES: usize = 1024;

/// A balloon.
#[derive(Debug)]
pub struct Balloon {
    state: Arc<State>,
    /// Bytes of a page of the host. Asking for it may take a file, which is for before the sandbox.
    page: usize,
    worker: Option<Worker>,
}

/// Tells a balloon, wherever it is, how large it is to be.
#[derive(Clone, Debug)]
pub struct BalloonHandle(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// How many pages the host wants.
    wanted: AtomicU32,
    /// How many the driver says that it has put into it.
    actual: AtomicU32,
    /// Set while the device is running.
    interrupt: Mutex<Option<Interrupt>>,
}

impl Balloon {
    /// An empty balloon, and the handle to it.
    pub fn new() -> (Self, BalloonHandle) {
        let state = Arc::new(State::default());
        (Self { state: Arc::clone(&state), page: rustix::param::page_size(), worker: None }, BalloonHandle(state))
    }
}

impl BalloonHandle {
    /// Asks the guest for so many bytes, in whole pages; it gives them as far as it can.
    pub fn want(&self, bytes: u64) {
        let pages = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        self.0.wanted.store(pages, Ordering::SeqCst);
        if let Some(interrupt) = &*self.0.interrupt() {
            interrupt.config_changed();
        }
    }

    /// How many bytes the guest says are in the balloon. What it says need not be true.
    pub fn actual(&self) -> u64 {
        u64::from(self.0.actual.load(Ordering::SeqCst)) * PAGE
    }

    /// Whether the guest has a driver for it that runs.
    pub fn is_used(&self) -> bool {
        self.0.interrupt().is_some()
    }
}

impl State {
    fn interrupt(&self) -> MutexGuard<'_, Option<Interrupt>> {
        // A handle: there is no state of it that a panic could leave broken.
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// struct virtio_balloon_config (5.5.4).
    fn config(&self) -> [u8; 8] {
        let numbers = [&self.wanted, &self.actual].map(|it| u64::from(it.load(Ordering::SeqCst)));
        (numbers[0] | numbers[1] << 32).to_le_bytes()
    }
}

impl Device for Balloon {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn features(&self) -> u64 {
        RING_FEATURES | bit(F_DEFLATE_ON_OOM) | bit(F_REPORTING)
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.state.config(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let mut config = self.state.config();
        // It is written in any pieces, and only `actual`, the later half, is the driver's.
        for (at, byte) in (offset..).zip(data) {
            if let Some(place) = usize::try_from(at).ok().and_then(|at| config.get_mut(at)) {
                *place = *byte;
            }
        }
        self.state.actual.store((u64::from_le_bytes(config) >> 32) as u32, Ordering::SeqCst);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let rings = [activation.ring(0)?, activation.ring(1)?];
        // A driver that does not report has no queue for it.
        let reports = activation.ring(2).ok();
        let Activation { mem, interrupt, .. } = activation;
        let guest = Pages { mem, host_page: self.page };
        *self.state.interrupt() = Some(interrupt.clone());
        self.worker = Some(Worker::spawn("virtio-balloon", interrupt, move |stop| run(stop, &guest, rings, reports))?);
        Ok(())
    }

    fn reset(&mut self) {
        *self.state.interrupt() = None;
        self.worker = None;
        self.state.actual.store(0, Ordering::SeqCst);
    }
}

fn run(stop: &EventFd, guest: &Pages, rings: [Ring; 2], mut reports: Option<Ring>) -> Result<(), RingError> {
    let [mut inflate, mut deflate] = rings;
    let mem = &guest.mem;
    loop {
        let third = reports.as_ref().map_or(stop, Ring::kick);
        let [stopped, ..] =
            wait([stop, inflate.kick(), deflate.kick(), third].map(|event| (fd(event), PollFlags::IN)))?;
        if stopped {
            return Ok(());
        }
        inflate.serve(mem, |chain| Ok(ControlFlow::Continue(guest.take_pages(chain)?)))?;
        // What is taken back out needs nothing: touching it is enough.
        deflate.serve(mem, |_| Ok(ControlFlow::Continue(0)))?;
        if let Some(reports) = &mut reports {
            reports.serve(mem, |chain| Ok(ControlFlow::Continue(guest.take_ranges(&chain.writable)?)))?;
        }
    }
}

/// The guest's memory, and the unit in which the host takes it.
struct Pages {
    mem: Memory,
    host_page: usize,
}

impl Pages {
    /// Takes the pages that a request of the first queue names.
    fn take_pages(&self, mut chain: Chain<'_>) -> Result<usize, RingError> {
        if chain.readable.len() > 4 * MAX_PAGES {
            return Err(RingError::Request("more pages than one request may name"));
        }
        // Pages that follow each other, in either direction, are one range.
        let mut range: Range<u64> = 0..0;
        while let Some(number) = chain.readable.read_array() {
            let start = u64::from(u32::from_le_bytes(number)) << PAGE_SHIFT;
            if start == range.end {
                range.end += PAGE;
            } else if start + PAGE == range.start {
                range.start = start;
            } else {
                self.take(&range)?;
                range = start..start + PAGE;
            }
        }
        self.take(&range)?;
        Ok(0)
    }

    /// Takes the ranges that a report is made of.
    fn take_ranges(&self, ranges: &Buffers<'_>) -> Result<usize, RingError> {
        ranges.slices().try_for_each(|slice| self.give_back(slice))?;
        Ok(0)
    }

    /// Takes a range of the guest's addresses. What is no memory was not there to be given.
    fn take(&self, range: &Range<u64>) -> io::Result<()> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        for slice in self.mem.get_slices(GuestAddress(range.start), length) {
            let Ok(slice) = slice else { break };
            self.give_back(&slice)?;
        }
        Ok(())
    }

    /// Whether the memory is a file's, which others may have mapped as well.
    fn is_file(&self, slice: &VolatileSlice<'_>) -> bool {
        let at = slice.ptr_guard().as_ptr();
        let holds = |region: &&_| GuestMemoryRegion::as_volatile_slice(*region).is_ok_and(|all| contains(&all, at));
        self.mem.iter().find(holds).is_some_and(|region| region.file_offset().is_some())
    }

    /// Gives the whole pages of `slice` back to the host; they read as zeroes then.
    fn give_back(&self, slice: &VolatileSlice<'_>) -> io::Result<()> {
        let (start, length) = (slice.ptr_guard_mut().as_ptr(), slice.len());
        let before = start.align_offset(self.host_page);
        let whole = length.saturating_sub(before) / self.host_page * self.host_page;
        if whole == 0 {
            return Ok(());
        }
        let advice = if self.is_file(slice) { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
        // SAFETY: 1. The range is inside of `slice`, which is guest memory, mapped as long as the
        // slice lives. 2. What happens to it is what a guest may do to its own memory at any time: it
        // becomes zeroes. That memory is only ever accessed as volatile, so nothing assumes that it
        // stays as it is.
        let result = unsafe { libc::madvise(start.wrapping_add(before).cast(), whole, advice) };
        if result < 0 {
            let error = io::Error::last_os_error();
            // Memory that is locked stays, and so does what its kind of pages cannot give.
            return if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) };
        }
        Ok(())
    }
}

fn contains(all: &VolatileSlice<'_>, at: *const u8) -> bool {
    let start = all.ptr_guard().as_ptr().addr();
    (start..start + all.len()).contains(&at.addr())
}
