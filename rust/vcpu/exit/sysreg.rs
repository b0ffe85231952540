// SPDX-License-Identifier: GPL-2.0

//! Trapped system registers: the table's rows put into effect. Used by the fast exits and by the
//! slow ones alike.

use super::{gic, Outcome};
use crate::arch::cpu;
use crate::arch::guest_mode::Live;
use crate::host::trace;
use crate::model::esr::SysregAccess;
use crate::model::sysreg::table::{GicReg, Guest, Storage, TimerReg};
use crate::model::sysreg::{lookup, regs, IdReg, Reg};
use crate::model::timer::TimerId;
use crate::model::vgic::{CpuIf, SgiReg};
use crate::vcpu::context::{caches_are_on, StoppedVcpu, VcpuContext};

/// Does the access. `live`: there if this is a fast exit.
#[inline(always)]
pub(super) fn access(
    vcpu: &mut VcpuContext,
    live: Option<Live<'_>>,
    access: SysregAccess,
) -> Outcome {
    let write = !access.is_read();
    let Some(row) = lookup(access.encoding())
        .filter(|row| row.exists(vcpu.frozen.features()) && !row.guest.is_undefined(write))
    else {
        return Outcome::Undefined;
    };
    // What takes little is done without room for what takes more.
    if write {
        if matches!(row.guest, Guest::RazWi | Guest::WriteIgnored) {
            return Outcome::Done;
        }
        let value = vcpu.x(access.rt());
        match row.storage {
            // The debug registers are put into the CPU on the way into the guest, if they are in
            // use.
            Storage::Debug(reg) => debug_register(vcpu, reg, value),
            storage => store(vcpu, live, storage, value),
        }
    } else {
        let value = match row.storage {
            _ if row.guest == Guest::RazWi => 0,
            Storage::Const(value) => value,
            Storage::Debug(reg) | Storage::Memory(reg) => vcpu.in_memory(reg),
            storage => fetch(vcpu, storage),
        };
        vcpu.set_x(access.rt(), value);
        Outcome::Done
    }
}

#[inline(never)]
fn fetch(vcpu: &mut VcpuContext, storage: Storage) -> u64 {
    match storage {
        Storage::Loaded(reg)
        | Storage::SwitchedAtEntry(reg)
        | Storage::Debug(reg)
        | Storage::Memory(reg) => vcpu.get(reg),
        Storage::Id(id) => id_register(vcpu, id),
        Storage::Timer(reg) => vcpu.read_timer(reg),
        Storage::Gic(GicReg::Sre) => CpuIf::SRE,
        Storage::Gic(_) | Storage::OsLock | Storage::SetWay | Storage::Fpmr => 0,
        Storage::CacheGeometry => {
            let ctr = id_register(vcpu, IdReg::CTR);
            let csselr = vcpu.get(Reg::CSSELR_EL1);
            vcpu.cache_geometry(ctr, csselr)
        }
        Storage::Const(value) => value,
    }
}

fn id_register(vcpu: &VcpuContext, id: IdReg) -> u64 {
    vcpu.vm.ids.as_ref().map_or(0, |ids| ids.get(id))
}

#[inline(never)]
fn store(vcpu: &mut VcpuContext, live: Option<Live<'_>>, storage: Storage, value: u64) -> Outcome {
    match storage {
        Storage::Loaded(reg) if vcpu.watches_caches() => return store_watched(vcpu, reg, value),
        Storage::Loaded(reg) | Storage::SwitchedAtEntry(reg) | Storage::Memory(reg) => {
            vcpu.set(reg, value)
        }
        Storage::Debug(reg) => return debug_register(vcpu, reg, value),
        Storage::Timer(reg) => write_timer(vcpu, reg, value),
        Storage::OsLock => {
            let oslsr = regs::OSLSR_EL1::OSLK.with(vcpu.get(Reg::OSLSR_EL1), value & 1);
            return debug_register(vcpu, Reg::OSLSR_EL1, oslsr);
        }
        Storage::Gic(reg) => return interrupt_controller(vcpu, live, reg, value),
        // Set/way maintenance is about one CPU's caches; all that the guest may rely on is that its
        // memory is clean when it has turned its caches off. Where stage 2 makes all accesses
        // cacheable (FEAT_S2FWB) there is nothing to do. While the caches are watched they are off,
        // or were to be switched off: the memory is cleaned when they are switched.
        Storage::SetWay if cpu::features().fwb || vcpu.watches_caches() => {}
        Storage::SetWay => return Outcome::NeedsClean,
        Storage::Id(_) | Storage::CacheGeometry | Storage::Const(_) | Storage::Fpmr => {}
    }
    Outcome::Done
}

#[inline(always)]
fn debug_register(vcpu: &mut VcpuContext, reg: Reg, value: u64) -> Outcome {
    if vcpu.set_debug(reg, value) {
        Outcome::Reload
    } else {
        Outcome::Done
    }
}

/// Writes a register of the guest's MMU, while its caches are watched.
fn store_watched(vcpu: &mut VcpuContext, reg: Reg, value: u64) -> Outcome {
    let before = caches_are_on(vcpu.get(Reg::SCTLR_EL1));
    if reg == Reg::SCTLR_EL1 && caches_are_on(value) != before {
        return Outcome::NeedsClean;
    }
    vcpu.set(reg, value);
    if before {
        // They are on: userspace has set SCTLR_EL1, or what was done by set and way was not for
        // switching them off.
        vcpu.watch_caches(false);
        return Outcome::Reload;
    }
    Outcome::Done
}

/// Does the access that [`Outcome::NeedsClean`] was said of. What remains is to clean the guest's
/// memory.
pub(super) fn before_clean(vcpu: &mut StoppedVcpu, access: SysregAccess) {
    let pc = vcpu.frame().pc;
    let was_on = caches_are_on(vcpu.get(Reg::SCTLR_EL1));
    match lookup(access.encoding()).map(|row| row.storage) {
        Some(Storage::Loaded(reg)) => {
            let value = vcpu.x(access.rt());
            vcpu.set(reg, value);
            let on = caches_are_on(vcpu.get(Reg::SCTLR_EL1));
            vcpu.watch_caches(!on);
            if trace::is_on() {
                trace::kvm_toggle_cache(pc, was_on, on);
            }
        }
        // By set and way: the caches are about to be switched off, or have been.
        _ => {
            vcpu.watch_caches(true);
            if trace::is_on() {
                trace::kvm_set_way_flush(pc, was_on);
            }
        }
    }
}

fn interrupt_controller(
    vcpu: &mut VcpuContext,
    live: Option<Live<'_>>,
    reg: GicReg,
    value: u64,
) -> Outcome {
    let sgi = match reg {
        GicReg::Sgi1 => SgiReg::Sgi1,
        GicReg::Asgi1 => SgiReg::Asgi1,
        GicReg::Sgi0 => SgiReg::Sgi0,
        GicReg::Sre => return Outcome::Done,
        GicReg::Dir => return deactivate(vcpu, live, value),
    };
    gic::send_sgi(vcpu, live, sgi, value)
}

/// Does a write to ICC_DIR_EL1, which traps while the model has to know of deactivations.
fn deactivate(vcpu: &mut VcpuContext, live: Option<Live<'_>>, value: u64) -> Outcome {
    if vcpu.frozen.gic().is_none() {
        return Outcome::Undefined;
    }
    if let Some(live) = live {
        vcpu.give_lists_back(live);
    }
    let vmcr = vcpu.vmcr();
    let done = gic::deactivate(vcpu, value, vmcr);
    // Back into the list registers, where the fast exit has them.
    vcpu.after.kicks.insert(vcpu.id);
    match done {
        Ok(()) => Outcome::Done,
        Err(_) => Outcome::NeedsOthers { deactivate: value },
    }
}

/// Writes the physical timer's register where it traps.
fn write_timer(vcpu: &mut VcpuContext, reg: TimerReg, value: u64) {
    let now = vcpu.physical_counter();
    vcpu.change_timer(TimerId::Physical, |timer| match reg {
        TimerReg::CntpCtl => timer.write_ctl(value),
        TimerReg::CntpCval => timer.write_cval(value),
        TimerReg::CntpTval => timer.write_tval(value, now),
        // No write traps: the counters are read-only, and the virtual timer is the guest's own.
        TimerReg::Cntpct | TimerReg::Cntvct => {}
        TimerReg::CntvCtl | TimerReg::CntvCval | TimerReg::CntvTval => {}
    });
    vcpu.update_timers();
    vcpu.after.kicks.insert(vcpu.id);
}
