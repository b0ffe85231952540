// SPDX-License-Identifier: GPL-2.0

//! What others may do to a vCPU: interrupt it, wake it, ask something of it.
//!
//! The question of each kick is whether the vCPU has to be told. It is answered without a lock:
//!
//! ```text
//! vCPU's thread, interrupts off        somebody else
//!   mode := Guest        (A)             requests |= bit, or what the GIC has for it    (C)
//!   full barrier                         full barrier
//!   look at requests, GIC  (B)           look at mode     (D)
//!   enter the guest                      Guest: interrupt the CPU
//! ```
//!
//! This is the store-buffering litmus test: with full barriers between A and B, and between C and
//! D, it cannot be that B misses C and D misses A. If D sees Guest, the interrupt makes the CPU
//! leave, or arrives before the ERET, where it stays pending and makes the guest exit at once,
//! since interrupts are masked from A on. If D does not see it, B sees C.
//!
//! Of the interrupt controller, B reads words that say whether it has anything for this vCPU,
//! without a lock (`Gic::has_work`), and C writes them under the lock of what it changes. So the
//! locks play no part in this. They order the rest: if B sees C, the entry takes that lock, and has
//! all that was done under it. What is taken away from a vCPU needs no kick: that B still sees it
//! costs a look, that it does not costs nothing.
//!
//! A fast exit may take the interrupt back, if interrupts for the guest are all that is asked for
//! ([`VcpuHandle::take_interrupt`]): first the interrupt is cleared, which is complete before the
//! look at the requests; so what is asked after that look has an interrupt of its own, which is
//! still to come.

use super::vcpu_stats::Stats;
use crate::arch::cpu;
use crate::arch::gic::Sgi;
use crate::host::rcuwait::Waiter;
use crate::model::vcpus::VcpuId;
use crate::model::vgic::CpuIf;
use core::sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{new_spinlock, Arc, SpinLock};

/// Not in the guest, or on the way out. Any other mode: in the guest, or on the way in, on the CPU
/// that this SGI is for.
const OUTSIDE: u64 = 0;

/// What is asked of a vCPU before it next runs the guest.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Request {
    /// Look at the interrupts.
    Interrupt = 1 << 0,
    /// Look at the power state, and at what else is not about interrupts.
    Power = 1 << 1,
}

/// PSCI's view of a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Power {
    /// Runs, or would if its VMM let it.
    On,
    /// CPU_ON has been called for it, it has not started yet.
    OnPending(Start),
    /// Off, until CPU_ON.
    Off,
    /// KVM_MP_STATE_SUSPENDED: waits for an interrupt on the VMM's behalf.
    Suspended,
}

/// Where CPU_ON or a reset starts a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Start {
    pub(crate) pc: u64,
    pub(crate) context: u64,
    /// With data accesses as its starter's.
    pub(crate) big_endian: bool,
}

/// The virtual CPU interface of a vCPU that does not run.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// ICH_VMCR_EL2.
    pub(crate) vmcr: u64,
    pub(crate) registers: CpuIf,
}

impl Interface {
    /// Makes the interface out of reset.
    pub(crate) fn new() -> Self {
        Self {
            vmcr: 0,
            registers: CpuIf::new(cpu::features().vtr),
        }
    }
}

/// The part of a vCPU that all of the VM reaches.
#[pin_data]
pub(crate) struct VcpuHandle {
    /// Its index in the VM.
    pub(crate) id: VcpuId,
    /// The number that userspace gave it.
    pub(crate) number: u32,
    /// Its affinity, as in MPIDR_EL1.
    affinity: AtomicU64,
    mode: AtomicU64,
    requests: AtomicU32,
    /// How many want it out of the guest.
    holds: AtomicU32,
    /// Its thread is in KVM_RUN.
    running: AtomicBool,
    /// Its CPU interface, as of the end of the last KVM_RUN, or as userspace has set it since.
    #[pin]
    interface: SpinLock<Interface>,
    /// Userspace has set it, or the levels of lines.
    interface_set: AtomicBool,
    /// The lines of an interrupt controller in userspace: bits of HCR_EL2.
    lines: AtomicU64,
    /// Counted by its own thread, read by anyone.
    pub(crate) stats: Stats,
    #[pin]
    pub(crate) waiter: Waiter,
    #[pin]
    power: SpinLock<Power>,
}

impl VcpuHandle {
    pub(crate) fn new(id: VcpuId, number: u32, affinity: u64) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                id,
                number,
                affinity: AtomicU64::new(affinity),
                mode: AtomicU64::new(OUTSIDE),
                requests: AtomicU32::new(0),
                holds: AtomicU32::new(0),
                running: AtomicBool::new(false),
                interface <- new_spinlock!(Interface::new(), "loft::VcpuHandle::interface"),
                interface_set: AtomicBool::new(false),
                lines: AtomicU64::new(0),
                stats: Stats::new(),
                waiter <- Waiter::new(),
                power <- new_spinlock!(Power::On, "loft::VcpuHandle::power"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the affinity fields of its MPIDR_EL1.
    pub(crate) fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Notes that userspace has set MPIDR_EL1.
    pub(crate) fn set_affinity(&self, affinity: u64) {
        self.affinity.store(affinity, Ordering::Relaxed);
    }

    /// Notes that the vCPU is about to enter the guest on the CPU that `kick` is for; interrupts
    /// are off. What was asked before is seen after this.
    #[inline]
    pub(crate) fn entering(&self, kick: Sgi) {
        self.mode.store(kick.0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Notes that the vCPU has left the guest, or did not enter it.
    #[inline]
    pub(crate) fn left(&self) {
        self.mode.store(OUTSIDE, Ordering::Release);
    }

    /// Asks for something; the vCPU leaves the guest or wakes up for it.
    pub(crate) fn request(&self, request: Request) {
        self.requests.fetch_or(request as u32, Ordering::Relaxed);
        self.tell();
    }

    /// Tells the vCPU that something changed that it looks at on its way into the guest.
    fn tell(&self) {
        fence(Ordering::SeqCst);
        match self.mode.load(Ordering::Relaxed) {
            OUTSIDE => self.waiter.wake(),
            kick => Sgi(kick).send(),
        }
    }

    /// Tells the vCPU that it has a new interrupt.
    pub(crate) fn interrupt(&self) {
        self.request(Request::Interrupt);
    }

    /// Tells the vCPU that it has a new interrupt, in a fast exit of another one, where nobody can
    /// be woken: true if this vCPU is in a guest and has been interrupted, false if it needs
    /// [`VcpuHandle::interrupt`].
    pub(crate) fn interrupt_running(&self) -> bool {
        self.requests
            .fetch_or(Request::Interrupt as u32, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        match self.mode.load(Ordering::Relaxed) {
            OUTSIDE => false,
            kick => {
                Sgi(kick).send();
                true
            }
        }
    }

    /// Asks for [`Request::Power`] in the vCPU's own thread: it may be anywhere, but is not in the
    /// guest.
    pub(crate) fn note_power(&self) {
        self.requests
            .fetch_or(Request::Power as u32, Ordering::Relaxed);
    }

    /// Returns whether anything is asked for.
    #[inline]
    pub(crate) fn has_requests(&self) -> bool {
        self.requests.load(Ordering::Relaxed) | self.holds.load(Ordering::Relaxed) != 0
    }

    /// Returns, in a fast exit, whether all that is asked for is a look at the interrupts, which is
    /// the caller's to do now.
    #[inline]
    pub(crate) fn take_interrupt(&self) -> bool {
        let only = Request::Interrupt as u32;
        if self.holds.load(Ordering::Relaxed) != 0 {
            return false;
        }
        match self
            .requests
            .compare_exchange(only, 0, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => true,
            // Nothing: somebody else's, or one that has been seen already.
            Err(requests) => requests == 0,
        }
    }

    /// Takes what is asked for, as bits of [`Request`]; it is the caller's to do now.
    pub(crate) fn take_requests(&self) -> u32 {
        self.requests.swap(0, Ordering::Acquire)
    }

    /// Keeps the vCPU out of the guest until [`VcpuHandle::release`]; it may still be on its way
    /// out.
    pub(crate) fn hold(&self) {
        self.holds.fetch_add(1, Ordering::Relaxed);
        self.tell();
    }

    /// Undoes one [`VcpuHandle::hold`].
    pub(crate) fn release(&self) {
        self.holds.fetch_sub(1, Ordering::Release);
        self.waiter.wake();
    }

    /// Notes that the vCPU's thread enters KVM_RUN, or leaves it. After it has entered, it is seen
    /// to run by whoever holds it, or sees itself held before it gets to the guest: the litmus test
    /// above, with the hold for the request.
    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Returns whether the vCPU's thread is in KVM_RUN; asked by who holds it.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Takes the CPU interface as KVM_RUN begins, if userspace has set it or the levels of lines
    /// since [`VcpuHandle::give_interface`].
    pub(crate) fn take_interface(&self) -> Option<Interface> {
        self.interface_set
            .swap(false, Ordering::Acquire)
            .then(|| self.interface.lock().clone())
    }

    /// Gives the CPU interface back as KVM_RUN ends, for userspace to look at.
    pub(crate) fn give_interface(&self, interface: Interface) {
        *self.interface.lock() = interface;
    }

    /// Returns the CPU interface, while the vCPU is not in KVM_RUN.
    pub(crate) fn interface(&self) -> Interface {
        self.interface.lock().clone()
    }

    /// Sets the CPU interface, while the vCPU is not in KVM_RUN.
    pub(crate) fn set_interface(&self, interface: Interface) {
        *self.interface.lock() = interface;
        self.interface_set.store(true, Ordering::Release);
    }

    /// Notes that userspace has set the levels of this vCPU's lines, while it is not in KVM_RUN.
    pub(crate) fn note_levels(&self) {
        self.interface_set.store(true, Ordering::Release);
    }

    /// Raises or lowers these lines (HCR_EL2.VI and VF) for an interrupt controller in userspace.
    pub(crate) fn set_lines(&self, lines: u64, high: bool) {
        if high {
            self.lines.fetch_or(lines, Ordering::Relaxed);
        } else {
            self.lines.fetch_and(!lines, Ordering::Relaxed);
        }
        self.request(Request::Power);
    }

    /// Returns the lines that an interrupt controller in userspace has raised, as bits of HCR_EL2.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Returns whether the vCPU is not in the guest, nor on the way in; it may still be on its way
    /// out.
    pub(crate) fn is_outside(&self) -> bool {
        self.mode.load(Ordering::Acquire) == OUTSIDE
    }

    /// Returns whether somebody keeps the vCPU out of the guest.
    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(Ordering::Acquire) != 0
    }

    /// Returns the power state.
    pub(crate) fn power(&self) -> Power {
        *self.power.lock()
    }

    /// Sets the power state and tells the vCPU.
    pub(crate) fn set_power(&self, power: Power) {
        *self.power.lock() = power;
        self.request(Request::Power);
    }

    /// Serves CPU_ON: false if the vCPU is on already, or about to be.
    pub(crate) fn power_on(&self, start: Start) -> bool {
        {
            let mut power = self.power.lock();
            if *power != Power::Off {
                return false;
            }
            *power = Power::OnPending(start);
        }
        self.request(Request::Power);
        true
    }

    /// Turns the vCPU on if CPU_ON was called, and returns where that said it starts.
    pub(crate) fn take_start(&self) -> Option<Start> {
        let mut power = self.power.lock();
        match *power {
            Power::OnPending(start) => {
                *power = Power::On;
                Some(start)
            }
            _ => None,
        }
    }
}
