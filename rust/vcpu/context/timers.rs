// SPDX-License-Identifier: GPL-2.0

//! The guest's timers: their registers, which are the CPU's own while the guest runs, and the lines
//! by which they interrupt it.

use super::{StoppedVcpu, VcpuContext};
use crate::arch::gic;
use crate::arch::timer::{self, Ctls};
use crate::host::bug::warn_on_once;
use crate::host::percpu_irq;
use crate::model::esr::Esr;
use crate::model::sysreg::table::TimerReg;
use crate::model::timer::{Offset, Timer, TimerId, TimerSet};
use crate::model::vgic::Line;
use core::sync::atomic::Ordering::Relaxed;

impl VcpuContext {
    /// The guest's virtual counter.
    pub(crate) fn virtual_counter(&self) -> u64 {
        timer::counter().wrapping_sub(self.vm.offsets.virtual_.load(Relaxed))
    }

    /// The guest's physical counter.
    pub(crate) fn physical_counter(&self) -> u64 {
        timer::counter().wrapping_sub(self.vm.offsets.physical.load(Relaxed))
    }

    /// Deactivates the physical interrupts of these timers.
    pub(in crate::vcpu) fn wake_timers(&mut self, timers: TimerSet) {
        if timers.is_empty() {
            return;
        }
        for timer in timers.iter() {
            gic::deactivate(percpu_irq::timer_intid(timer));
        }
        self.active_timers = self.active_timers.without(timers);
    }

    /// A timer's physical interrupt is pending. It is made active, so that it stays quiet until the
    /// guest has handled its own and deactivates both through the list register.
    ///
    /// Not by acknowledging it: between the look at ICC_HPPIR1_EL1 and a read of ICC_IAR1_EL1
    /// another interrupt may arrive, and would be taken from the host.
    pub(crate) fn silence_timer(&mut self, timer: TimerId) {
        if !self.active_timers.contains(timer) {
            percpu_irq::activate_timer(timer);
            self.active_timers = self.active_timers.union(TimerSet::only(timer));
        }
    }

    /// The guest has been left with the lines of these timers up. The host must not take an
    /// interrupt that the GIC has still to take back: whoever owns it would leave it active (KVM
    /// does, for its own guests), and it would not be signalled again.
    #[inline]
    pub(in crate::vcpu) fn silence_lines(&mut self, lines: TimerSet) {
        for timer in lines.without(self.active_timers).iter() {
            self.silence_timer(timer);
        }
    }

    /// In a fast exit: a timer's physical interrupt is pending, and becomes the guest's.
    pub(crate) fn timer_fired(&mut self, timer: TimerId) -> bool {
        self.silence_timer(timer);
        self.refresh_lists()
    }

    /// The model learns of the timers' lines: for WFI, and before the guest next runs.
    pub(crate) fn update_timers(&mut self) {
        self.set_timer_lines(TimerSet::new(
            self.timer(TimerId::Virtual).line(self.virtual_counter()),
            self.timer(TimerId::Physical).line(self.physical_counter()),
        ));
    }

    /// The model learns of the timers' lines, if they have changed.
    #[inline]
    pub(in crate::vcpu) fn set_timer_lines(&mut self, lines: TimerSet) {
        let changed = self.timer_lines.changed(lines);
        if !changed.is_empty() {
            self.timer_lines = lines;
            self.tell_timer_lines(changed);
        }
    }

    #[cold]
    pub(in crate::vcpu) fn tell_timer_lines(&mut self, changed: TimerSet) {
        let Some(gic) = &self.gic else { return };
        for timer in changed.iter() {
            let ppi = Line::private(self.id, self.timers.of(timer));
            let level = self.timer_lines.contains(timer);
            // Userspace gives a timer no other interrupt than a PPI.
            warn_on_once!(ppi.is_none_or(|ppi| gic.set_level(ppi, level).is_err()));
        }
    }

    /// A timer, wherever it is.
    pub(crate) fn timer(&self, timer: TimerId) -> Timer {
        let mut value = match timer {
            TimerId::Virtual => self.vtimer,
            TimerId::Physical => self.ptimer,
        };
        if self.guest.is_loaded() && self.foreign_offset(timer).is_none() {
            value.write_cval(timer::cval(timer));
        }
        if self.entered {
            value.write_ctl(Ctls::read().of(timer));
        }
        value
    }

    /// Reads a timer's register: for userspace, or where the physical timer traps.
    pub(crate) fn read_timer(&self, reg: TimerReg) -> u64 {
        let (virtual_now, physical_now) = (self.virtual_counter(), self.physical_counter());
        let (virtual_, physical) = (self.timer(TimerId::Virtual), self.timer(TimerId::Physical));
        match reg {
            TimerReg::CntvCtl => virtual_.read_ctl(virtual_now),
            TimerReg::CntvCval => virtual_.cval(),
            TimerReg::CntvTval => virtual_.read_tval(virtual_now),
            TimerReg::Cntvct => virtual_now,
            TimerReg::CntpCtl => physical.read_ctl(physical_now),
            TimerReg::CntpCval => physical.cval(),
            TimerReg::CntpTval => physical.read_tval(physical_now),
            TimerReg::Cntpct => physical_now,
        }
    }

    /// Changes a timer, wherever it is. What that does to its line is for
    /// [`VcpuContext::update_timers`] to find.
    pub(crate) fn change_timer(&mut self, timer: TimerId, change: impl FnOnce(&mut Timer)) {
        let mut value = self.timer(timer);
        change(&mut value);
        self.set_timer(timer, value);
    }

    pub(in crate::vcpu) fn set_timer(&mut self, timer: TimerId, value: Timer) {
        match timer {
            TimerId::Virtual => self.vtimer = value,
            TimerId::Physical => self.ptimer = value,
        }
        if self.guest.is_loaded() {
            let cval = match self.foreign_offset(timer) {
                Some(offset) => value.cval_for(offset, timer::counter()),
                None => value.cval(),
            };
            timer::set_cval(timer, cval);
        }
        if self.entered {
            timer::set_ctl(timer, value.ctl());
        }
    }

    /// An offset that the CPU knows nothing of, as it has one for the virtual timer only: then its
    /// CVAL is not the guest's, and the guest's registers trap.
    pub(in crate::vcpu) fn foreign_offset(&self, timer: TimerId) -> Option<Offset> {
        let offset = self.guest.control().physical_offset;
        (matches!(timer, TimerId::Physical) && offset != 0).then_some(Offset::new(offset))
    }

    /// Returns what the virtual counter shows when a WFIT or WFET ends that has trapped; `None` for
    /// WFI and WFE, which have no such time. Where the CPU does not say in which register the time
    /// is, it has come: such a wait may end at any time.
    pub(crate) fn end_of_wait(&self, esr: Esr) -> Option<u64> {
        let time = || esr.wfx_register().map_or(0, |rt| self.x(rt));
        esr.wfx().is_timed().then(time)
    }

    /// Returns in how many ticks the virtual counter shows `end`, 0 if it does or has.
    pub(crate) fn ticks_until(&self, end: u64) -> u64 {
        end.saturating_sub(self.virtual_counter())
    }
}

impl StoppedVcpu {
    /// In how many ticks the next of the two timers fires; `None` if neither will.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        let virtual_ = self
            .timer(TimerId::Virtual)
            .next_event(self.virtual_counter());
        let physical = self
            .timer(TimerId::Physical)
            .next_event(self.physical_counter());
        match (virtual_, physical) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The timers out of reset.
    pub(crate) fn reset_timers(&mut self) {
        for timer in TimerId::ALL {
            self.set_timer(timer, Timer::default());
        }
    }
}
