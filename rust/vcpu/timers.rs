// SPDX-License-Identifier: GPL-2.0

//! The guest's timers: their registers, which are the CPU's own while the guest runs, and the lines
//! by which they interrupt it.

use crate::arch::gic;
use crate::arch::timer::{self, Ctls};
use crate::host::{kvm, percpu_irq};
use crate::model::timer::{Offset, PerTimer, Timer, TimerId, TimerSet};
use crate::model::vgic::IntId;
use crate::vm::timers::TimerPpis;

/// Where the CVAL of a timer is.
#[derive(Clone, Copy)]
pub(super) enum Cval {
    /// In memory: the vCPU is not loaded.
    Memory,
    /// In the CPU.
    Cpu,
    /// In memory, and the CPU has one that does the same for its own counter: the guest's has this
    /// offset, which the CPU knows nothing of, and its accesses to the timer trap.
    Trapped(Offset),
}

/// What there is of a guest's timers beside the CPU's registers.
pub(super) struct Timers {
    /// CTL while the timers are off, and CVAL while the vCPU is not loaded. A timer that traps has
    /// its CVAL here always.
    saved: PerTimer<Timer>,
    /// Whether CTL is in the CPU: the guest is entered.
    on: bool,
    /// Those whose physical interrupts have been made active on this CPU and not been deactivated
    /// yet.
    active: TimerSet,
    /// Those whose lines the model of the interrupt controller takes to be up.
    lines: TimerSet,
    ppis: TimerPpis,
}

impl Timers {
    /// Makes the timers of a vCPU that is in no CPU.
    pub(super) fn new() -> Self {
        Self {
            saved: PerTimer::default(),
            on: false,
            active: TimerSet::NONE,
            lines: TimerSet::NONE,
            ppis: TimerPpis::NEW,
        }
    }

    /// Gives the timers their interrupts.
    pub(super) fn set_ppis(&mut self, ppis: TimerPpis) {
        self.ppis = ppis;
    }

    /// Turns the guest's timers on, as it is entered.
    pub(super) fn turn_on(&mut self) {
        Ctls::new(&self.saved).set();
        self.on = true;
    }

    /// Turns them off. Returns whose lines were up.
    pub(super) fn turn_off(&mut self) -> TimerSet {
        // One that fires between the look and the end would be nobody's: KVM's handler leaves its
        // interrupt active, which loft's own does not.
        let ctls = if kvm::is_on() {
            Ctls::mask()
        } else {
            Ctls::read()
        };
        Ctls::clear();
        ctls.save(&mut self.saved);
        self.on = false;
        ctls.lines()
    }

    /// Returns whose lines are up while they are on. The CPU compares: what has been written to
    /// their registers since the last exit may not count yet.
    #[inline]
    pub(super) fn lines_now(&self) -> TimerSet {
        Ctls::read().lines()
    }

    /// Takes over the lines from `levels`, those of the vCPU's private interrupts.
    pub(super) fn take_levels(&mut self, levels: u32) {
        let high = |timer| levels & 1_u32.wrapping_shl(self.ppis.of(timer).get()) != 0;
        self.lines = TimerSet::new(high(TimerId::Virtual), high(TimerId::Physical));
    }

    /// Returns a timer. `cval` says where the CVAL of it is.
    pub(super) fn get(&self, timer: TimerId, cval: Cval) -> Timer {
        let mut value = self.saved[timer];
        if matches!(cval, Cval::Cpu) {
            value.write_cval(timer::cval(timer));
        }
        if self.on {
            value.write_ctl(Ctls::read().of(timer));
        }
        value
    }

    /// Sets a timer. `cval` says where the CVAL of it is.
    pub(super) fn set(&mut self, timer: TimerId, value: Timer, cval: Cval) {
        self.saved[timer] = value;
        self.load(timer, cval);
        if self.on {
            timer::set_ctl(timer, value.ctl());
        }
    }

    /// Puts the CVAL of a timer into the CPU.
    pub(super) fn load(&self, timer: TimerId, cval: Cval) {
        let value = &self.saved[timer];
        let cval = match cval {
            Cval::Memory => return,
            Cval::Cpu => value.cval(),
            Cval::Trapped(offset) => value.cval_for(offset, timer::counter()),
        };
        timer::set_cval(timer, cval);
    }

    /// Takes the CVAL of a timer, which is off, out of the CPU.
    pub(super) fn save(&mut self, timer: TimerId, cval: Cval) {
        if matches!(cval, Cval::Cpu) {
            self.saved[timer].write_cval(timer::cval(timer));
        }
    }

    /// Returns the interrupt of a timer.
    pub(super) fn intid(&self, timer: TimerId) -> IntId {
        self.ppis.of(timer)
    }

    /// Returns whether the model of the interrupt controller takes a timer's line to be up.
    pub(super) fn is_up(&self, timer: TimerId) -> bool {
        self.lines.contains(timer)
    }

    /// Returns those that the model takes to be otherwise than in `lines`.
    #[inline]
    pub(super) fn changed(&self, lines: TimerSet) -> TimerSet {
        self.lines.changed(lines)
    }

    /// Notes of which lines the model is told that they are up.
    pub(super) fn set_lines(&mut self, lines: TimerSet) {
        self.lines = lines;
    }

    /// Returns those whose physical interrupts are active.
    pub(super) fn active(&self) -> TimerSet {
        self.active
    }

    /// Notes that the guest has deactivated the physical interrupts of these through its list
    /// registers.
    pub(super) fn deactivated(&mut self, timers: TimerSet) {
        self.active = self.active.without(timers);
    }

    /// Makes the pending physical interrupt of a timer active, so that it stays quiet until the
    /// guest has handled its own and deactivates both through the list register.
    ///
    /// Not by acknowledging it: between the look at ICC_HPPIR1_EL1 and a read of ICC_IAR1_EL1
    /// another interrupt may arrive, and would be taken from the host.
    pub(super) fn silence(&mut self, timer: TimerId) {
        if !self.active.contains(timer) {
            percpu_irq::activate_timer(timer);
            self.active = self.active.union(TimerSet::only(timer));
        }
    }

    /// Makes the physical interrupts active of the timers whose lines were up when the guest was
    /// left.
    ///
    /// The host must not take an interrupt that the GIC has still to take back: whoever owns it
    /// would leave it active (KVM does, for its own guests), and it would not be signalled again.
    #[inline]
    pub(super) fn silence_lines(&mut self, lines: TimerSet) {
        for timer in lines.without(self.active).iter() {
            self.silence(timer);
        }
    }

    /// Deactivates the physical interrupts of these timers.
    fn wake(&mut self, timers: TimerSet) {
        if timers.is_empty() {
            return;
        }
        for timer in timers.iter() {
            gic::deactivate(percpu_irq::timer_intid(timer));
        }
        self.active = self.active.without(timers);
    }

    /// Deactivates the physical interrupts of all timers.
    pub(super) fn wake_all(&mut self) {
        self.wake(self.active);
    }

    /// Deactivates the physical interrupts of timers that the guest has turned off before it took
    /// the interrupt. Those in `linked` have a list register.
    pub(super) fn wake_idle(&mut self, linked: TimerSet) {
        self.wake(self.active.without(linked.union(self.lines)));
    }
}
