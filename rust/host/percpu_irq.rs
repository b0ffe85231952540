// SPDX-License-Identifier: GPL-2.0

//! What loft holds of the machine while it is loaded: three private interrupts of each CPU.
//!
//! The guest's timers and the GIC's maintenance interrupt arrive as exits and no handler of the
//! host's ever runs, but they have to be enabled at each CPU's redistributor, and that takes an
//! owner. Where KVM is on it is the owner, and has them enabled as long as it is held on.
//!
//! C headers: [`include/linux/interrupt.h`](srctree/include/linux/interrupt.h) and
//! [`include/linux/irq.h`](srctree/include/linux/irq.h)
//!
//! # Examples
//!
//! ```
//! struct Registers;
//!
//! impl PrepareCpu for Registers {
//!     fn prepare() {
//!         write_what_each_cpu_needs();
//!     }
//! }
//!
//! let machine = Machine::new::<Registers>()?;
//! ```

use super::bug::warn_on_once;
use super::{ffi, kvm, platform};
use crate::model::timer::TimerId;
use core::arch::asm;
use core::ffi::{c_int, c_uint, c_void};
use core::num::NonZero;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::bindings::{
    self, irq_data, irqchip_irq_state_IRQCHIP_STATE_ACTIVE as STATE_ACTIVE,
    irqchip_irq_state_IRQCHIP_STATE_PENDING as STATE_PENDING,
};
use kernel::prelude::*;
use kernel::sync::SetOnce;
use kernel::types::Opaque;

/// One private interrupt, requested on all CPUs.
///
/// # Invariants
///
/// `irq` is requested: with `token`, a per-CPU variable that is this one's to free, or, without
/// one, by KVM, which is built in and keeps it.
struct Ppi {
    irq: c_uint,
    token: Option<NonNull<c_void>>,
}

impl Ppi {
    /// Requests `irq` under `name`; `what` it is stands in messages. Where it has an owner that is
    /// KVM, and `kvm` can hold that on, the interrupt is shared with it.
    ///
    /// # Errors
    ///
    /// `ENXIO` if there is no such interrupt, `EBUSY` if somebody else than KVM has it.
    fn request(
        irq: Option<NonZero<c_uint>>,
        name: &'static CStr,
        what: &str,
        kvm: &mut Option<kvm::HeldOn>,
    ) -> Result<Self> {
        let Some(irq) = irq.map(NonZero::get) else {
            pr_err!("the firmware does not describe the {what} interrupt\n");
            return Err(ENXIO);
        };
        // SAFETY: Any number may be asked about.
        if unsafe { bindings::irq_has_action(irq) } {
            if kvm.is_none() {
                *kvm = Some(kvm::HeldOn::new().map_err(|error| {
                    pr_err!("the {what} interrupt has an owner, and /dev/kvm is no KVM that can be held on: {error:?}\n");
                    EBUSY
                })?);
            }
            // INVARIANT: It has an owner, which is KVM if anybody's.
            return Ok(Self { irq, token: None });
        }
        // What tells the handlers of one interrupt apart has to be a per-CPU variable.
        // SAFETY: May sleep; any size and alignment may be asked for.
        let token = unsafe {
            bindings::pcpu_alloc_noprof(
                size_of::<c_int>(),
                align_of::<c_int>(),
                false,
                bindings::GFP_KERNEL,
            )
        };
        let token = NonNull::new(token).ok_or(ENOMEM)?;
        // SAFETY: The name is static; the handler is in this module, and looks at no token. `drop`
        // frees the interrupt before the module goes.
        let ret =
            unsafe { ffi::loft_request_percpu_irq(irq, name.as_char_ptr().cast(), token.as_ptr()) };
        if ret != 0 {
            // SAFETY: It was allocated above, and nobody has it.
            unsafe { bindings::free_percpu(token.as_ptr()) };
            return Err(Error::from_errno(ret));
        }
        // INVARIANT: It has been requested above.
        Ok(Self {
            irq,
            token: Some(token),
        })
    }

    /// Returns what describes the interrupt in its outermost domain.
    fn data(&self) -> *mut irq_data {
        // SAFETY: Any number may be asked for.
        unsafe { bindings::irq_get_irq_data(self.irq) }
    }

    /// Returns the GIC's number of the interrupt: that in the innermost domain.
    fn intid(&self) -> u32 {
        let mut data = self.data();
        let mut intid = 0;
        // SAFETY: By the invariant the interrupt is requested, so what describes it stays.
        while let Some(this) = unsafe { data.as_ref() } {
            (intid, data) = (this.hwirq, this.parent_data);
        }
        // A GIC's are far smaller: what is none is no pending interrupt's.
        u32::try_from(intid).unwrap_or(0)
    }

    /// Returns what describes the interrupt where its controller's state can be read and set, as
    /// irq_set_irqchip_state() looks for it.
    fn state_data(&self) -> Option<StateData> {
        let mut data = self.data();
        loop {
            // SAFETY: By the invariant the interrupt is requested, so what describes it stays, with
            // the chip of each of its domains.
            let this = unsafe { data.as_ref() }?;
            // SAFETY: The interrupt is requested, so the chip of each of its domains stays, too.
            if let Some(chip) = unsafe { this.chip.as_ref() } {
                if let Some(set) = chip.irq_set_irqchip_state {
                    let get = chip.irq_get_irqchip_state?;
                    let data = Opaque::new(*this);
                    return Some(StateData { data, set, get });
                }
            }
            data = this.parent_data;
        }
    }
}

impl Drop for Ppi {
    fn drop(&mut self) {
        let Some(token) = self.token else { return };
        // SAFETY: By the invariant; the hotplug callbacks have disabled it on all CPUs.
        unsafe {
            bindings::free_percpu_irq(self.irq, token.as_ptr());
            bindings::free_percpu(token.as_ptr());
        }
    }
}

/// An interrupt at the controller that has its state.
///
/// # Invariants
///
/// `data` describes a private interrupt of a GIC, and the functions are that GIC's for it.
struct StateData {
    data: Opaque<irq_data>,
    set: unsafe extern "C" fn(*mut irq_data, bindings::irqchip_irq_state, bool) -> c_int,
    get: unsafe extern "C" fn(*mut irq_data, bindings::irqchip_irq_state, *mut bool) -> c_int,
}

// SAFETY: The GIC's functions only read `data`, and are called on any CPU.
unsafe impl Send for StateData {}
// SAFETY: The GIC's functions only read `data`, and are called on any CPU.
unsafe impl Sync for StateData {}

impl StateData {
    fn set(&self, state: bindings::irqchip_irq_state, value: bool) {
        // SAFETY: By the invariant. What the GIC's function says is whether it knows the state.
        unsafe { (self.set)(self.data.get(), state, value) };
    }

    fn get(&self, state: bindings::irqchip_irq_state) -> bool {
        let mut value = false;
        // SAFETY: By the invariant; `value` is valid for writes.
        unsafe { (self.get)(self.data.get(), state, &mut value) };
        value
    }

    /// Returns SGI `hwirq` of the same GIC, of which Linux keeps the description to itself.
    fn sgi(&self, hwirq: u32) -> Self {
        // SAFETY: It was written when this was made, and is only read since.
        let mut data = unsafe { *self.data.get() };
        data.hwirq = hwirq as bindings::irq_hw_number_t;
        // INVARIANT: The GIC's functions look only at the number and at what all interrupts share.
        Self {
            data: Opaque::new(data),
            ..*self
        }
    }
}

/// What the exits need at the GIC, once it is known.
struct Prepared {
    timers: [StateData; 2],
    kick: StateData,
}

static PREPARED: SetOnce<Prepared> = SetOnce::new();

/// Returns what was prepared; no vCPU comes before.
#[inline]
fn prepared() -> Option<&'static Prepared> {
    let prepared = PREPARED.as_ref();
    warn_on_once!(prepared.is_none());
    prepared
}

/// Linux's numbers, for the hotplug callbacks.
static IRQS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
/// The GIC's, for the exits.
static INTIDS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

/// Returns the INTID of the physical interrupt behind one of the guest's timers.
#[inline]
pub(crate) fn timer_intid(timer: TimerId) -> u64 {
    INTIDS[timer as usize].load(Ordering::Relaxed).into()
}

/// Returns the timer that this INTID is of.
#[inline]
pub(crate) fn timer_of(intid: u64) -> Option<TimerId> {
    TimerId::ALL
        .into_iter()
        .find(|&timer| timer_intid(timer) == intid)
}

/// Makes a timer's physical interrupt active on this CPU, so that it is not signalled until it is
/// deactivated. May be called with interrupts off.
///
/// irq_set_irqchip_state() does the same, but looks the interrupt up under RCU, which does not
/// watch a CPU that it takes to be in a guest.
pub(crate) fn activate_timer(timer: TimerId) {
    let Some(prepared) = prepared() else { return };
    let [virtual_, physical] = &prepared.timers;
    match timer {
        TimerId::Virtual => virtual_,
        TimerId::Physical => physical,
    }
    .set(STATE_ACTIVE, true);
    // The call above has read a device.
    // SAFETY: It is a barrier.
    unsafe { ffi::loft_dmb_before_guest() };
}

/// Makes the timers' physical interrupts inactive on this CPU: KVM leaves one active whose virtual
/// interrupt its guest had not handled when its thread lost the CPU, and says so anew when it gets
/// it back. May be called with interrupts off.
pub(crate) fn forget_active_timers() {
    let Some(prepared) = prepared() else { return };
    for timer in &prepared.timers {
        timer.set(STATE_ACTIVE, false);
    }
}

/// The SGI that makes a CPU leave its guest: Linux's own for rescheduling (`asm/smp.h`; arm64's
/// SGIs are its IPIs, in their order). Its handler looks whether there is something to do, and does
/// not mind if there is nothing.
pub(crate) const KICK: u32 = ffi::LOFT_IPI_RESCHEDULE;

/// Takes back a kick that is pending on this CPU, before anybody has acknowledged it. May be called
/// with interrupts off.
///
/// What comes after the clearing is another kick: the read back waits until the clearing is done,
/// the barrier until the read is.
pub(crate) fn clear_kick() {
    let Some(prepared) = prepared() else { return };
    prepared.kick.set(STATE_PENDING, false);
    let _ = prepared.kick.get(STATE_PENDING);
    // SAFETY: It is a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Returns the INTID of the maintenance interrupt.
#[inline]
pub(crate) fn maintenance_intid() -> u64 {
    INTIDS[2].load(Ordering::Relaxed).into()
}

/// What has to be done on each CPU before it may run a guest.
pub(crate) trait PrepareCpu {
    /// Does it on this CPU; on one CPU at a time.
    fn prepare();
}

extern "C" fn online<P: PrepareCpu>(_cpu: c_uint) -> c_int {
    P::prepare();
    if kvm::is_on() {
        return 0; // it has enabled them
    }
    for irq in &IRQS {
        // SAFETY: The interrupt is requested; this runs on the CPU that comes up.
        unsafe {
            bindings::enable_percpu_irq(irq.load(Ordering::Relaxed), bindings::IRQ_TYPE_NONE)
        };
    }
    0
}

extern "C" fn offline(_cpu: c_uint) -> c_int {
    if kvm::is_on() {
        return 0;
    }
    for irq in &IRQS {
        // SAFETY: The interrupt is requested; this runs on the CPU that goes down.
        unsafe { bindings::disable_percpu_irq(irq.load(Ordering::Relaxed)) };
    }
    0
}

/// Keeps the interrupts enabled on each CPU that is online, and has the scheduler look for preempt
/// notifiers, while it lives.
///
/// # Invariants
///
/// `state` is that of the hotplug callbacks, which are registered.
pub(crate) struct Machine {
    state: c_int,
    _timers: [Ppi; 2],
    _maintenance: Ppi,
    _notifiers: super::preempt_notifier::NotifiersOn,
    /// Last: it is needed as long as a guest can run.
    _kvm: Option<kvm::HeldOn>,
}

// SAFETY: Made and dropped by module init and exit; nothing else uses it.
unsafe impl Send for Machine {}
// SAFETY: A `&Machine` gives access to nothing.
unsafe impl Sync for Machine {}

impl Machine {
    /// Takes the interrupts, and has each CPU prepared; once, when the module is loaded.
    ///
    /// # Errors
    ///
    /// `ENXIO` if the machine has not got what is needed, `EBUSY` if somebody else has it.
    pub(crate) fn new<P: PrepareCpu>() -> Result<Pin<KBox<Self>>> {
        let mut kvm = None;
        let mut request = |irq, name, what| Ppi::request(irq, name, what, &mut kvm);
        let timer = platform::timer_irq;
        let virtual_ = request(timer(TimerId::Virtual), c"loft-vtimer", "virtual timer")?;
        let physical = request(timer(TimerId::Physical), c"loft-ptimer", "physical timer")?;
        let maintenance = platform::maintenance_irq();
        let maintenance = request(maintenance, c"loft-gic", "GIC maintenance")?;
        let ppis = [&virtual_, &physical, &maintenance];
        if kvm.is_some() && ppis.iter().any(|ppi| ppi.token.is_some()) {
            pr_err!("KVM has some of the timers' and the GIC's interrupts, and not all of them\n");
            return Err(EBUSY);
        }
        for (n, ppi) in ppis.into_iter().enumerate() {
            if let (Some(irq), Some(intid)) = (IRQS.get(n), INTIDS.get(n)) {
                irq.store(ppi.irq, Ordering::Relaxed);
                intid.store(ppi.intid(), Ordering::Relaxed);
            }
        }
        let (Some(one), Some(other)) = (virtual_.state_data(), physical.state_data()) else {
            pr_err!("the timers' interrupt controller is not a GIC\n");
            return Err(ENXIO);
        };
        PREPARED.populate(Prepared {
            kick: one.sgi(KICK),
            timers: [one, other],
        });
        // SAFETY: The callbacks are in this module and are removed in `drop`.
        let state = unsafe {
            bindings::__cpuhp_setup_state(
                bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN,
                c"virt/loft:online".as_char_ptr().cast(),
                true,
                Some(online::<P>),
                Some(offline),
                false,
            )
        };
        if state < 0 {
            return Err(Error::from_errno(state));
        }
        // INVARIANT: They have been registered above.
        KBox::pin(
            Self {
                state,
                _timers: [virtual_, physical],
                _maintenance: maintenance,
                _notifiers: super::preempt_notifier::NotifiersOn::new(),
                _kvm: kvm,
            },
            GFP_KERNEL,
        )
        .map_err(Into::into)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: Calls `offline` on each CPU, then the interrupts are freed.
        unsafe { bindings::__cpuhp_remove_state(self.state, true) };
    }
}
