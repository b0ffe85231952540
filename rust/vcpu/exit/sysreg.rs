// SPDX-License-Identifier: GPL-2.0

//! Trapped system registers: the table's rows put into effect. Used by the fast exits and by the slow ones alike.

use super::{gic, Outcome};
use crate::arch::cpu;
use crate::model::esr::SysregAccess;
use crate::model::sysreg::table::{GicReg, Guest, Storage, TimerReg};
use crate::model::sysreg::{lookup, regs, IdReg, Reg};
use crate::model::timer::TimerId;
use crate::model::vgic::{CpuIf, SgiReg};
use crate::vcpu::core::{caches_are_on, Core};

/// Does the access.
pub(super) fn access(core: &mut Core, access: SysregAccess) -> Outcome {
    let write = !access.is_read();
    let Some(row) = lookup(access.encoding())
        .filter(|row| row.exists(core.features) && !row.guest.is_undefined(write))
    else {
        return Outcome::Undefined;
    };
    if write {
        if matches!(row.guest, Guest::RazWi | Guest::WriteIgnored) {
            return Outcome::Done;
        }
        let value = core.x(access.rt());
        store(core, row.storage, value)
    } else {
        let value = if row.guest == Guest::RazWi {
            0
        } else {
            fetch(core, row.storage)
        };
        core.set_x(access.rt(), value);
        Outcome::Done
    }
}

fn fetch(core: &mut Core, storage: Storage) -> u64 {
    match storage {
        Storage::Loaded(reg)
        | Storage::SwitchedAtEntry(reg)
        | Storage::Debug(reg)
        | Storage::Memory(reg) => core.get(reg),
        Storage::Id(id) => id_register(core, id),
        Storage::Timer(reg) => read_timer(core, reg),
        Storage::Gic(GicReg::Sre) => CpuIf::SRE,
        Storage::Gic(_) | Storage::OsLock | Storage::SetWay => 0,
        Storage::CacheGeometry => {
            let ctr = id_register(core, IdReg::CTR);
            let csselr = core.get(Reg::CSSELR_EL1);
            core.cache_geometry(ctr, csselr)
        }
        Storage::Const(value) => value,
    }
}

fn id_register(core: &Core, id: IdReg) -> u64 {
    core.vm.ids.as_ref().map_or(0, |ids| ids.get(id))
}

fn store(core: &mut Core, storage: Storage, value: u64) -> Outcome {
    match storage {
        Storage::Loaded(reg) if core.watches_caches() => return store_watched(core, reg, value),
        Storage::Loaded(reg) | Storage::SwitchedAtEntry(reg) | Storage::Memory(reg) => {
            core.set(reg, value)
        }
        // The debug registers are put into the CPU on the way into the guest, if they are in use.
        Storage::Debug(reg) => {
            core.set(reg, value);
            return Outcome::Reload;
        }
        Storage::Timer(reg) => write_timer(core, reg, value),
        Storage::OsLock => {
            let oslsr = regs::OSLSR_EL1::OSLK.with(core.get(Reg::OSLSR_EL1), value & 1);
            core.set(Reg::OSLSR_EL1, oslsr);
            return Outcome::Reload;
        }
        Storage::Gic(reg) => return interrupt_controller(core, reg, value),
        // Set/way maintenance is about one CPU's caches; all that the guest may rely on is that its memory is clean when it
        // has turned its caches off. Where stage 2 makes all accesses cacheable (FEAT_S2FWB) there is nothing to do.
        // While the caches are watched they are off, or were to be switched off: the memory is cleaned when they are switched.
        Storage::SetWay if cpu::features().fwb || core.watches_caches() => {}
        Storage::SetWay => return Outcome::NeedsClean,
        Storage::Id(_) | Storage::CacheGeometry | Storage::Const(_) => {}
    }
    Outcome::Done
}

/// A register of the guest's MMU, while its caches are watched.
fn store_watched(core: &mut Core, reg: Reg, value: u64) -> Outcome {
    let before = caches_are_on(core.get(Reg::SCTLR_EL1));
    if reg == Reg::SCTLR_EL1 && caches_are_on(value) != before {
        return Outcome::NeedsClean;
    }
    core.set(reg, value);
    if before {
        // They are on: userspace has set SCTLR_EL1, or what was done by set and way was not for switching them off.
        core.watch_caches(false);
        return Outcome::Reload;
    }
    Outcome::Done
}

/// Does the access that [`Outcome::NeedsClean`] was said of. What remains is to clean the guest's memory.
pub(super) fn before_clean(core: &mut Core, access: SysregAccess) {
    match lookup(access.encoding()).map(|row| row.storage) {
        Some(Storage::Loaded(reg)) => {
            let value = core.x(access.rt());
            core.set(reg, value);
            let on = caches_are_on(core.get(Reg::SCTLR_EL1));
            core.watch_caches(!on);
        }
        // By set and way: the caches are about to be switched off, or have been.
        _ => core.watch_caches(true),
    }
}

fn interrupt_controller(core: &mut Core, reg: GicReg, value: u64) -> Outcome {
    let sgi = match reg {
        GicReg::Sgi1 => SgiReg::Sgi1,
        GicReg::Asgi1 => SgiReg::Asgi1,
        GicReg::Sgi0 => SgiReg::Sgi0,
        GicReg::Sre => return Outcome::Done,
        GicReg::Dir => return deactivate(core, value),
    };
    gic::send_sgi(core, sgi, value)
}

/// ICC_DIR_EL1, which traps while the model has to know of deactivations.
fn deactivate(core: &mut Core, value: u64) -> Outcome {
    if core.gic.is_none() {
        return Outcome::Undefined;
    }
    let vmcr = core.give_lists_back();
    let done = gic::deactivate(core, value, vmcr);
    // Back into the list registers, where the fast exit has them.
    core.after.kicks.insert(core.id);
    match done {
        Ok(()) => Outcome::Done,
        Err(_) => Outcome::NeedsOthers { deactivate: value },
    }
}

/// Reads a timer's register: for userspace, or where the physical timer traps.
pub(in crate::vcpu) fn read_timer(core: &mut Core, reg: TimerReg) -> u64 {
    let (virtual_now, physical_now) = (core.virtual_counter(), core.physical_counter());
    let (virtual_, physical) = (core.timer(TimerId::Virtual), core.timer(TimerId::Physical));
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

/// Writes the physical timer's register where it traps.
fn write_timer(core: &mut Core, reg: TimerReg, value: u64) {
    let now = core.physical_counter();
    core.change_timer(TimerId::Physical, |timer| match reg {
        TimerReg::CntpCtl => timer.write_ctl(value),
        TimerReg::CntpCval => timer.write_cval(value),
        TimerReg::CntpTval => timer.write_tval(value, now),
        // No write traps: the counters are read-only, and the virtual timer is the guest's own.
        TimerReg::Cntpct | TimerReg::Cntvct => {}
        TimerReg::CntvCtl | TimerReg::CntvCval | TimerReg::CntvTval => {}
    });
    core.update_timers();
    core.after.kicks.insert(core.id);
}
