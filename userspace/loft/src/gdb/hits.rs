// SPDX-License-Identifier: Apache-2.0
//! What vCPU threads tell the debugger's thread.

use std::io;
use std::sync::{Mutex, MutexGuard};
use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

/// That a vCPU has left the guest for a debugger (KVM_EXIT_DEBUG).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The vCPU.
    pub vcpu: usize,
    /// ESR_EL2 of the exception.
    pub syndrome: u32,
    /// FAR_EL2: what a watchpoint has seen.
    pub address: u64,
}

/// Those that nobody has looked at yet.
pub struct Hits {
    /// Readable when there is one.
    pub event: EventFd,
    queue: Mutex<Vec<Hit>>,
}

impl Hits {
    /// None yet. Fails where no eventfd can be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?, queue: Mutex::default() })
    }

    /// Adds one.
    pub fn push(&self, hit: Hit) {
        self.locked().push(hit);
        let _ = self.event.write(1);
    }

    /// Takes all, in the order in which they came.
    pub fn take(&self) -> Vec<Hit> {
        let _ = self.event.read();
        std::mem::take(&mut self.locked())
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Hit>> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}
