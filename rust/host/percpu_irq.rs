// SPDX-License-Identifier: GPL-2.0

//! What loft holds of the machine while it is loaded: three private interrupts of each CPU.
//!
//! The guest's timers and the GIC's maintenance interrupt arrive as exits and no handler of the host's ever runs,
//! but they have to be enabled at each CPU's redistributor, and that takes an owner.

use super::ffi;
use crate::model::timer::TimerId;
use core::ffi::{c_int, c_uint, c_void};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;

/// One private interrupt, requested on all CPUs.
struct Ppi {
    irq: c_uint,
    token: *mut c_void,
}

impl Ppi {
    fn request(irq: c_uint, name: &'static CStr, what: &str) -> Result<Self> {
        if irq == 0 {
            pr_err!("the firmware does not describe the {what} interrupt\n");
            return Err(ENXIO);
        }
        let mut token = core::ptr::null_mut();
        // SAFETY: The name is static, the handler is in this module, which frees the interrupt before it goes.
        let ret = unsafe { ffi::loft_request_ppi(irq, name.as_char_ptr().cast(), &mut token) };
        if ret != 0 {
            pr_err!(
                "the {what} interrupt has an owner, probably KVM: boot with kvm-arm.mode=none\n"
            );
            return Err(EBUSY);
        }
        Ok(Self { irq, token })
    }

    fn intid(&self) -> u32 {
        // SAFETY: The interrupt exists.
        u32::try_from(unsafe { ffi::loft_irq_intid(self.irq) }).unwrap_or(0)
    }
}

impl Drop for Ppi {
    fn drop(&mut self) {
        // SAFETY: Requested in `request`, disabled on all CPUs by then.
        unsafe { ffi::loft_free_ppi(self.irq, self.token) };
    }
}

/// Linux's numbers, for the hotplug callbacks.
static IRQS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
/// The GIC's, for the exits.
static INTIDS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

/// The INTID of the physical interrupt behind one of the guest's timers.
#[inline]
pub(crate) fn timer_intid(timer: TimerId) -> u64 {
    INTIDS[timer as usize].load(Ordering::Relaxed).into()
}

/// The timer that this INTID is of.
#[inline]
pub(crate) fn timer_of(intid: u64) -> Option<TimerId> {
    TimerId::ALL
        .into_iter()
        .find(|&timer| timer_intid(timer) == intid)
}

/// Makes a timer's physical interrupt active on this CPU, so that it is not signalled until it is deactivated. May be
/// called with interrupts off.
///
/// irq_set_irqchip_state() does the same, but looks the interrupt up under RCU, which does not watch a CPU that it takes to
/// be in a guest.
pub(crate) fn activate_timer(timer: TimerId) {
    // SAFETY: The interrupt is requested while any vCPU runs; it is per CPU, so this is about the current one.
    unsafe { ffi::loft_timer_set_active(timer as c_uint) };
}

/// The SGI that makes a CPU leave its guest: Linux's own for rescheduling (`asm/smp.h`; arm64's SGIs are its IPIs, in their
/// order). Its handler looks whether there is something to do, and does not mind if there is nothing.
pub(crate) const KICK: u32 = ffi::LOFT_IPI_RESCHEDULE;

/// Takes back a kick that is pending on this CPU. May be called with interrupts off.
pub(crate) fn clear_kick() {
    // SAFETY: What describes the interrupt was prepared before any vCPU; it is per CPU, so this is about the current one.
    unsafe { ffi::loft_clear_kick() };
}

/// The INTID of the maintenance interrupt.
#[inline]
pub(crate) fn maintenance_intid() -> u64 {
    INTIDS[2].load(Ordering::Relaxed).into()
}

extern "C" fn online(_cpu: c_uint) -> c_int {
    // SAFETY: Runs on the CPU that comes up, and on one at a time.
    unsafe { ffi::loft_note_branch_history() };
    for irq in &IRQS {
        // SAFETY: Requested; runs on the CPU that comes up.
        unsafe {
            kernel::bindings::enable_percpu_irq(
                irq.load(Ordering::Relaxed),
                kernel::bindings::IRQ_TYPE_NONE,
            )
        };
    }
    0
}

extern "C" fn offline(_cpu: c_uint) -> c_int {
    for irq in &IRQS {
        // SAFETY: Requested; runs on the CPU that goes down.
        unsafe { kernel::bindings::disable_percpu_irq(irq.load(Ordering::Relaxed)) };
    }
    0
}

/// The interrupts, enabled on each CPU that is online; the scheduler looks for preempt notifiers.
pub(crate) struct Machine {
    state: c_int,
    _timers: [Ppi; 2],
    _maintenance: Ppi,
    _notifiers: super::preempt_notifier::NotifiersOn,
}

// SAFETY: Made and dropped by module init and exit; nothing else uses it.
unsafe impl Send for Machine {}
// SAFETY: As above.
unsafe impl Sync for Machine {}

impl Machine {
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        // SAFETY: These read the firmware's tables.
        let [virtual_, physical, maintenance] = unsafe {
            [
                ffi::loft_timer_irq(TimerId::Virtual as c_uint),
                ffi::loft_timer_irq(TimerId::Physical as c_uint),
                ffi::loft_maintenance_irq(),
            ]
        };
        let virtual_ = Ppi::request(virtual_, c"loft-vtimer", "virtual timer")?;
        let physical = Ppi::request(physical, c"loft-ptimer", "physical timer")?;
        let maintenance = Ppi::request(maintenance, c"loft-gic", "GIC maintenance")?;
        for (n, ppi) in [&virtual_, &physical, &maintenance].into_iter().enumerate() {
            if let (Some(irq), Some(intid)) = (IRQS.get(n), INTIDS.get(n)) {
                irq.store(ppi.irq, Ordering::Relaxed);
                intid.store(ppi.intid(), Ordering::Relaxed);
            }
        }
        for (timer, ppi) in TimerId::ALL.into_iter().zip([&virtual_, &physical]) {
            // SAFETY: The interrupt is requested, so what describes it stays.
            if !unsafe { ffi::loft_timer_prepare(timer as c_uint, ppi.irq) } {
                pr_err!("the timers' interrupt controller is not a GIC\n");
                return Err(ENXIO);
            }
        }
        // SAFETY: The callbacks are in this module and are removed in `drop`.
        let state = unsafe { ffi::loft_cpuhp_online(Some(online), Some(offline)) };
        if state < 0 {
            return Err(Error::from_errno(state));
        }
        KBox::pin(
            Self {
                state,
                _timers: [virtual_, physical],
                _maintenance: maintenance,
                _notifiers: super::preempt_notifier::NotifiersOn::new(),
            },
            GFP_KERNEL,
        )
        .map_err(Into::into)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: Calls `offline` on each CPU, then the interrupts are freed.
        unsafe { ffi::loft_cpuhp_remove(self.state) };
    }
}
