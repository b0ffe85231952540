// SPDX-License-Identifier: GPL-2.0

//! The generic timer. Both of the guest's timers are the hardware's EL1 timers: a host that runs at
//! EL2 with E2H uses the EL2 one.
//!
//! Where the guest's physical counter is not the machine's, its physical timer's registers trap,
//! and the comparison is made with the machine's counter. CNTPOFF_EL2 (FEAT_ECV) would do without
//! the trap; but few CPUs have it, and few guests an offset and a use for this timer.

use super::isb;
use crate::model::sysreg::regs::*;
use crate::model::timer::{PerTimer, Timer, TimerId, TimerSet};

/// Returns the counter, without any offset: at EL2 with E2H = 1, CNTVOFF_EL2 does not count (DDI
/// 0487, D12.2.2). The ISB keeps the read from being done early.
pub(crate) fn counter() -> u64 {
    isb();
    read_sysreg!(CNTVCT_EL0)
}

/// Sets CNTVOFF_EL2, what the guest's virtual counter is behind the physical one.
pub(crate) fn set_offset(offset: u64) {
    write_sysreg!(CNTVOFF_EL2, offset);
}

/// Lets the guest have the physical counter (CNTPCTSS_EL0 too) and timer, or traps them. It always
/// has the virtual ones: KVM may have left them trapping, on CPUs where it cannot do without or for
/// a guest that is a hypervisor.
pub(crate) fn trap_physical(trap: bool) {
    let open = CNTHCTL_EL2::EL1PCTEN.mask() | CNTHCTL_EL2::EL1PTEN.mask();
    let traps = CNTHCTL_EL2::EL1TVT.mask()
        | CNTHCTL_EL2::EL1TVCT.mask()
        | CNTHCTL_EL2::EL1NVPCT.mask()
        | CNTHCTL_EL2::EL1NVVCT.mask();
    let value = read_sysreg!(CNTHCTL_EL2) & !traps;
    write_sysreg!(CNTHCTL_EL2, if trap { value & !open } else { value | open });
}

/// The CTL registers of the guest.
pub(crate) struct Ctls(PerTimer<u64>);

impl Ctls {
    /// Returns those of timers that are not in the CPU.
    pub(crate) fn new(timers: &PerTimer<Timer>) -> Self {
        Self(PerTimer::new(|timer| timers[timer].ctl()))
    }

    /// Reads the registers as they are in the CPU.
    #[inline]
    pub(crate) fn read() -> Self {
        Self(PerTimer::new(|timer| match timer {
            TimerId::Virtual => read_sysreg_el12!(CNTV_CTL_EL0),
            TimerId::Physical => read_sysreg_el12!(CNTP_CTL_EL0),
        }))
    }

    /// Masks them in the CPU, and returns what they were before. Whoever has interrupted until
    /// then, and nobody can later, is among [`Ctls::lines`].
    pub(crate) fn mask() -> Self {
        let before = Self::read();
        for timer in TimerId::ALL {
            set_ctl(timer, before.of(timer) | CNT_CTL::IMASK.mask());
        }
        isb();
        let after = Self::read();
        Self(PerTimer::new(|timer| {
            before.of(timer) | after.of(timer) & CNT_CTL::ISTATUS.mask()
        }))
    }

    /// Puts them into the CPU: from here on the timers may fire.
    pub(crate) fn set(&self) {
        for timer in TimerId::ALL {
            set_ctl(timer, self.of(timer));
        }
    }

    /// Returns the register of one timer.
    pub(crate) fn of(&self, timer: TimerId) -> u64 {
        self.0[timer]
    }

    /// Turns all off.
    pub(crate) fn clear() {
        Self(PerTimer::default()).set();
    }

    /// Puts them where they are while the guest does not run.
    pub(crate) fn save(&self, timers: &mut PerTimer<Timer>) {
        for timer in TimerId::ALL {
            timers[timer].write_ctl(self.of(timer));
        }
    }

    /// Returns which timers assert their lines. ISTATUS is the hardware's comparison.
    #[inline]
    pub(crate) fn lines(&self) -> TimerSet {
        let line = |ctl| {
            const BITS: u64 =
                CNT_CTL::ENABLE.mask() | CNT_CTL::IMASK.mask() | CNT_CTL::ISTATUS.mask();
            ctl & BITS == BITS & !CNT_CTL::IMASK.mask()
        };
        TimerSet::new(
            line(self.of(TimerId::Virtual)),
            line(self.of(TimerId::Physical)),
        )
    }
}

/// Sets CTL of one of the guest's timers.
pub(crate) fn set_ctl(timer: TimerId, value: u64) {
    match timer {
        TimerId::Virtual => write_sysreg_el12!(CNTV_CTL_EL0, value),
        TimerId::Physical => write_sysreg_el12!(CNTP_CTL_EL0, value),
    }
}

/// Returns CVAL of one of the guest's timers.
pub(crate) fn cval(timer: TimerId) -> u64 {
    match timer {
        TimerId::Virtual => read_sysreg_el12!(CNTV_CVAL_EL0),
        TimerId::Physical => read_sysreg_el12!(CNTP_CVAL_EL0),
    }
}

/// Sets CVAL of one of the guest's timers.
pub(crate) fn set_cval(timer: TimerId, value: u64) {
    match timer {
        TimerId::Virtual => write_sysreg_el12!(CNTV_CVAL_EL0, value),
        TimerId::Physical => write_sysreg_el12!(CNTP_CVAL_EL0, value),
    }
}
