// SPDX-License-Identifier: GPL-2.0

//! The guest's timers, as the rest of the vCPU has to do with them.

use super::{StoppedVcpu, VcpuContext};
use crate::arch::timer;
use crate::host::bug::warn_on_once;
use crate::host::trace;
use crate::model::esr::Esr;
use crate::model::sysreg::table::TimerReg;
use crate::model::timer::{Offset, Timer, TimerId, TimerSet};
use crate::model::vgic::{IntId, Line};
use crate::vcpu::timers::Cval;
use core::sync::atomic::Ordering::Relaxed;

impl VcpuContext {
    /// Returns the guest's virtual counter.
    pub(crate) fn virtual_counter(&self) -> u64 {
        timer::counter().wrapping_sub(self.vm.offsets.virtual_.load(Relaxed))
    }

    /// Returns the guest's physical counter.
    pub(crate) fn physical_counter(&self) -> u64 {
        timer::counter().wrapping_sub(self.vm.offsets.physical.load(Relaxed))
    }

    /// Makes the pending physical interrupt of a timer active: see [`Timers::silence`].
    pub(crate) fn silence_timer(&mut self, timer: TimerId) {
        self.timers.silence(timer);
    }

    /// Makes a timer's physical interrupt, which is pending, the guest's, in a fast exit. True if
    /// the guest may go on.
    pub(crate) fn timer_fired(&mut self, timer: TimerId) -> bool {
        self.timers.silence(timer);
        self.refresh_lists()
    }

    /// Tells the model of the timers' lines: for WFI, and before the guest next runs.
    pub(crate) fn update_timers(&mut self) {
        self.set_timer_lines(TimerSet::new(
            self.timer(TimerId::Virtual).line(self.virtual_counter()),
            self.timer(TimerId::Physical).line(self.physical_counter()),
        ));
    }

    /// Does what [`VcpuContext::update_timers`] does, in a fast exit that has changed no timer:
    /// with the CPU's own comparison.
    #[inline]
    pub(crate) fn take_timer_lines(&mut self) {
        self.set_timer_lines(self.timers.lines_now());
    }

    /// Tells the model of the timers' lines, if they have changed.
    #[inline]
    pub(super) fn set_timer_lines(&mut self, lines: TimerSet) {
        let changed = self.timers.changed(lines);
        if !changed.is_empty() {
            self.timers.set_lines(lines);
            self.tell_timer_lines(changed);
        }
    }

    #[cold]
    fn tell_timer_lines(&mut self, changed: TimerSet) {
        if trace::is_on() {
            self.untold.timers = self.untold.timers.union(changed);
        }
        let Some(gic) = self.frozen.gic() else { return };
        for timer in changed.iter() {
            let ppi = Line::private(self.id, self.timers.intid(timer));
            let level = self.timers.is_up(timer);
            // Userspace gives a timer no other interrupt than a PPI.
            warn_on_once!(ppi.is_none_or(|ppi| gic.set_level(ppi, level).is_err()));
        }
    }

    /// Returns a timer, wherever it is.
    pub(crate) fn timer(&self, timer: TimerId) -> Timer {
        self.timers.get(timer, self.cval_of(timer))
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

    /// Sets a timer, wherever it is.
    pub(super) fn set_timer(&mut self, timer: TimerId, value: Timer) {
        self.timers.set(timer, value, self.cval_of(timer));
    }

    /// Returns where the CVAL of a timer is.
    fn cval_of(&self, timer: TimerId) -> Cval {
        if self.guest.is_loaded() {
            self.loaded_cval(timer)
        } else {
            Cval::Memory
        }
    }

    /// Returns where the CVAL of a timer is while the vCPU is loaded. The CPU has an offset for the
    /// virtual timer only.
    fn loaded_cval(&self, timer: TimerId) -> Cval {
        match (timer, self.guest.control().physical_offset) {
            (TimerId::Virtual, _) | (TimerId::Physical, 0) => Cval::Cpu,
            (TimerId::Physical, offset) => Cval::Trapped(Offset::new(offset)),
        }
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
    /// Returns a timer's interrupt, and whether its line is up.
    pub(crate) fn timer_line(&self, timer: TimerId) -> (IntId, bool) {
        (self.timers.intid(timer), self.timers.is_up(timer))
    }

    /// Returns in how many ticks the next of the two timers fires; `None` if neither will.
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

    /// Resets the timers.
    pub(super) fn reset_timers(&mut self) {
        for timer in TimerId::ALL {
            self.set_timer(timer, Timer::default());
        }
    }

    /// Puts the timers' registers into the CPU, where the guest has been loaded. They are still
    /// off.
    pub(super) fn load_timers(&self) {
        for timer in TimerId::ALL {
            self.timers.load(timer, self.loaded_cval(timer));
        }
        if trace::is_on() {
            self.tell_saved_timers(trace::kvm_timer_restore_state);
        }
    }

    /// Takes the timers' registers out of the CPU, which the guest is about to lose.
    pub(super) fn save_timers(&mut self) {
        for timer in TimerId::ALL {
            let cval = self.loaded_cval(timer);
            self.timers.save(timer, cval);
        }
        if trace::is_on() {
            self.tell_saved_timers(trace::kvm_timer_save_state);
        }
    }

    /// Tells of each timer as it is in memory, while the timers are off.
    #[cold]
    fn tell_saved_timers(&self, event: fn(u64, u64, i32)) {
        for (timer, index) in TimerId::ALL.into_iter().zip(0..) {
            let value = self.timers.get(timer, Cval::Memory);
            event(value.ctl(), value.cval(), index);
        }
    }
}
