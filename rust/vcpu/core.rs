// SPDX-License-Identifier: GPL-2.0

//! The part of a vCPU that moves between memory and the CPU: everything that a run of the guest needs.

use super::shared::{Interface, Shared};
use super::stolen::StolenTime;
use super::sysreg::QuickIds;
use crate::arch::el1::Saved;
use crate::arch::fp::Fp;
use crate::arch::frame::Frame;
use crate::arch::gic::{self, Sgi};
use crate::arch::world::{self, Control, HostWorld, Syndrome};
use crate::arch::{cpu, timer, tlb};
use crate::host::guest::{self, Resident};
use crate::host::machine;
use crate::host::sync::RawSpinLock;
use crate::model::esr::{Abort, Esr};
use crate::model::inject::{self, Before, Vector};
use crate::model::smccc::Firmware;
use crate::model::sysreg::regs::{CNT_CTL, CTR_EL0, HCR_EL2, ICH_HCR_EL2};
use crate::model::sysreg::table::Features;
use crate::model::sysreg::Reg;
use crate::model::timer::{Frequency, Timer};
use crate::model::vcpus::VcpuId;
use crate::model::vgic::{hcr, CpuIf, Frame as GicFrame, Line, LrFile};
use crate::vm::gic::{After, Map, Model};
use crate::vm::timers::TimerPpis;
use crate::vm::Vm;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

/// An alarm that is set for the emulated timer.
struct Alarm {
    /// When, by the guest's physical counter.
    due: u64,
    /// While this lives.
    _set: super::shared::AlarmSet,
}

/// A vCPU's state, as its own thread has it.
///
/// While it is loaded, part of it is in the CPU instead; `get` and `set` find a register where it is.
#[repr(C)]
pub(crate) struct Core {
    /// First, so that the vector's handlers find the rest behind it (`arch::world`).
    pub(crate) frame: Frame,
    pub(crate) fp: Fp,
    /// They are in the CPU.
    pub(crate) fp_is_here: bool,
    pub(crate) saved: Saved,
    control: Control,
    /// What the host had in the CPU; there while the vCPU is loaded.
    host: Option<HostWorld>,
    pub(crate) id: VcpuId,
    pub(crate) vm: Arc<Vm>,
    pub(crate) shared: Arc<Shared>,
    /// Which registers the guest has.
    pub(crate) features: Features,
    /// What the last synchronous exit was about.
    pub(crate) syndrome: Syndrome,
    /// The address of the last abort, where HPFAR_EL2 does not have it.
    pub(crate) walked_ipa: Option<u64>,

    /// The image of the list registers, and ICH_VMCR_EL2 while the vCPU is not loaded.
    pub(crate) lists: LrFile,
    /// The rest of the virtual CPU interface.
    pub(crate) interface: CpuIf,
    /// What userspace sees of the two.
    given: Interface,
    /// The physical interrupt behind the virtual timer has been acknowledged on this CPU and not deactivated yet.
    hw_active: bool,
    /// What the model takes the virtual timer's line for.
    timer_line: bool,
    /// What a fast exit could not do there: vCPUs to be woken, EOIs to be told of.
    pub(crate) after: After,

    /// CNTV_CTL_EL0 while the guest does not run, CNTV_CVAL_EL0 while the vCPU is not loaded.
    pub(crate) vtimer: Timer,
    /// The physical timer, which is emulated.
    pub(crate) ptimer: Timer,
    /// The emulated timer's line.
    ptimer_line: bool,
    /// What makes the vCPU exit when the emulated timer fires.
    alarm: Option<Alarm>,
    /// A virtual SError waits to be taken: HCR_EL2.VSE.
    pub(crate) serror: Option<u32>,

    /// SPSR_abt, _und, _irq and _fiq, which userspace saves and restores.
    pub(crate) spsr_aarch32: [u64; 4],
    /// The interrupt controller, and all vCPUs, in the order of their indices. Both are fixed when the vCPU first runs.
    pub(crate) gic: Option<Arc<RawSpinLock<Model>>>,
    frames: Option<Arc<Map>>,
    gicd_ctlr: Option<Arc<AtomicU32>>,
    pub(crate) peers: Option<Arc<KVec<Arc<Shared>>>>,
    /// What the VM's firmware calls answer.
    pub(crate) firmware: Firmware,
    /// See [`Vm::firmware`].
    firmware_changes: u32,
    /// The registers that tell one vCPU from another have been reset once: they may have been set since.
    pub(crate) identified: bool,
    /// The identification registers, for the vector.
    pub(crate) ids: QuickIds,
    /// What this VM's HCR_EL2 has beside every guest's.
    hcr: u64,
    /// The vector answers firmware calls: nobody in userspace has a say in them.
    pub(crate) quick_calls: bool,
    /// The timers' interrupts.
    timers: TimerPpis,
    pub(crate) stolen: StolenTime,
    /// Exits are answered in the vector where that is possible.
    pub(crate) fast: bool,
    /// What makes the CPU that the vCPU is loaded on leave its guest.
    pub(crate) kick: Sgi,
    /// How long a WFI looks for something to do before it sleeps.
    pub(super) polling: super::run::Polling,
    /// How many WFEs in a row have been skipped.
    wfes: u32,
}

impl Core {
    pub(crate) fn new(id: VcpuId, vm: Arc<Vm>, shared: Arc<Shared>) -> Self {
        let cpu = cpu::features();
        let (firmware, firmware_changes) = vm.firmware();
        let (vmid, translation) = vm.memory.translation();
        Self {
            frame: Frame::new(cpu.pauth),
            fp: Fp::new(),
            fp_is_here: false,
            saved: Saved::new(),
            control: Control {
                translation,
                vmid,
                virtual_offset: 0,
                trap_counter: false,
                midr: 0,
            },
            host: None,
            id,
            vm,
            shared,
            features: Features::default(),
            syndrome: Syndrome::default(),
            walked_ipa: None,
            lists: LrFile::new(cpu.list_registers),
            interface: CpuIf::new(cpu.vtr),
            given: Interface::new(),
            hw_active: false,
            timer_line: false,
            after: After::default(),
            vtimer: Timer::default(),
            ptimer: Timer::default(),
            ptimer_line: false,
            alarm: None,
            serror: None,
            spsr_aarch32: [0; 4],
            gic: None,
            frames: None,
            gicd_ctlr: None,
            peers: None,
            ids: QuickIds::new(),
            firmware,
            firmware_changes,
            identified: false,
            hcr: 0,
            quick_calls: false,
            timers: TimerPpis::NEW,
            stolen: StolenTime::default(),
            fast: crate::fast_exits(),
            kick: Sgi(0),
            polling: super::run::Polling::default(),
            wfes: 0,
        }
    }

    /// The value of a register of the context, wherever it is.
    pub(crate) fn get(&mut self, reg: Reg) -> u64 {
        match reg {
            Reg::ApiaKeyLo => self.frame.guest_key[0],
            Reg::ApiaKeyHi => self.frame.guest_key[1],
            _ => self
                .host
                .as_mut()
                .and_then(|host| world::in_cpu(host).get(reg))
                .unwrap_or_else(|| self.saved.get(reg)),
        }
    }

    /// Sets a register of the context, wherever it is.
    pub(crate) fn set(&mut self, reg: Reg, value: u64) {
        match reg {
            Reg::ApiaKeyLo => self.frame.guest_key[0] = value,
            Reg::ApiaKeyHi => self.frame.guest_key[1] = value,
            _ => {
                if let Some(host) = self.host.as_mut() {
                    if world::in_cpu(host).set(reg, value) {
                        return;
                    }
                }
                self.saved.set(reg, value);
            }
        }
    }

    /// General-purpose register `n`; 31 is XZR.
    pub(crate) fn x(&self, n: u8) -> u64 {
        self.frame.x.get(usize::from(n)).copied().unwrap_or(0)
    }

    /// Sets general-purpose register `n`; 31 is XZR.
    pub(crate) fn set_x(&mut self, n: u8, value: u64) {
        if let Some(x) = self.frame.x.get_mut(usize::from(n)) {
            *x = value;
        }
    }

    /// Moves past the instruction that trapped, outside of a fast exit.
    pub(crate) fn skip(&mut self) {
        self.frame.pc = self.frame.pc.wrapping_add(4);
        self.frame.pstate = inject::step_pstate(self.frame.pstate);
    }

    /// Makes the guest take an exception to EL1, outside of a fast exit. `far` where the syndrome has an address.
    pub(crate) fn inject(&mut self, esr: Esr, far: Option<u64>) {
        let before = Before {
            pc: self.frame.pc,
            pstate: self.frame.pstate,
            vbar: self.get(Reg::VbarEl1),
            sctlr: self.get(Reg::SctlrEl1),
        };
        let after = inject::enter_el1(&before, Vector::Sync);
        self.set(Reg::ElrEl1, after.elr);
        self.set(Reg::SpsrEl1, after.spsr);
        self.set(Reg::EsrEl1, esr.raw());
        if let Some(far) = far {
            self.set(Reg::FarEl1, far);
        }
        self.frame.pc = after.pc;
        self.frame.pstate = after.pstate;
    }

    /// Makes the instruction that trapped UNDEFINED.
    pub(crate) fn inject_undefined(&mut self) {
        self.inject(Esr::undefined(), None);
    }

    /// The guest's virtual counter.
    pub(crate) fn virtual_counter(&self) -> u64 {
        timer::counter().wrapping_sub(self.vm.offsets.virtual_.load(kernel::sync::atomic::Relaxed))
    }

    /// The guest's physical counter.
    pub(crate) fn physical_counter(&self) -> u64 {
        timer::counter().wrapping_sub(self.vm.offsets.physical.load(kernel::sync::atomic::Relaxed))
    }

    /// Before each run: what others may have changed about the VM. The vCPU may be loaded or not; interrupts on.
    pub(crate) fn refresh(&mut self) {
        if self.renew_control() && self.host.is_some() {
            world::set_control(&self.control);
        }
        self.frame.guest_hcr = world::guest_hcr() | self.hcr | self.shared.lines();
    }

    /// Whether the guest may run with what is in the CPU; with interrupts off.
    pub(crate) fn may_run(&self) -> bool {
        self.vm.memory.may_run_as(self.control.vmid)
    }

    /// Takes over what the VM has shared by all its vCPUs; whether anything is new.
    fn renew_control(&mut self) -> bool {
        let (vmid, translation) = self.vm.memory.translation();
        let new = Control {
            translation,
            vmid,
            virtual_offset: self.vm.offsets.virtual_.load(kernel::sync::atomic::Relaxed),
            trap_counter: self.vm.offsets.physical.load(kernel::sync::atomic::Relaxed) != 0,
            ..self.control
        };
        let changed = new != self.control;
        self.control = new;
        changed
    }

    /// Sets what does not change once the VM runs.
    pub(crate) fn start(&mut self) {
        self.control.midr = self.vm.midr();
        // The CPU's own CTR_EL0 is read without a trap, unless the guest's is another.
        let own_caches = self.cache_type() != cpu::id_register(CTR_EL0::ENCODING);
        self.hcr = if own_caches { HCR_EL2::TID2.mask() } else { 0 };
        if self.vm.has_pointer_auth() {
            self.hcr |= world::pointer_auth_hcr();
        }
        let filtered = self.vm.smccc_filter.as_ref();
        self.quick_calls = self.fast && filtered.is_none_or(|filter| filter.is_empty());
        self.timers = self.vm.timers.as_ref().copied().unwrap_or(TimerPpis::NEW);
        self.features = self
            .vm
            .with_ids(|ids| Features::new(ids, self.vm.gic.is_ready()));
        self.gic = self.vm.gic.model();
        self.frames = self.vm.gic.map_of_frames();
        self.gicd_ctlr = self.vm.gic.ctlr();
        self.peers = Some(self.vm.vcpus());
        self.ids = QuickIds::fill(self);
    }

    /// KVM_RUN begins: the CPU interface comes along, with what userspace has set.
    pub(crate) fn take_interface(&mut self) {
        if let Some(interface) = self.shared.take_interface() {
            self.lists.vmcr = interface.vmcr;
            self.interface = interface.registers.clone();
            self.given = interface;
        }
    }

    /// KVM_RUN ends: userspace may look at the CPU interface. The vCPU is not loaded.
    pub(crate) fn give_interface(&mut self) {
        // It seldom changes from one exit to userspace to the next.
        if self.given.vmcr != self.lists.vmcr || self.given.registers != self.interface {
            self.given = Interface {
                vmcr: self.lists.vmcr,
                registers: self.interface.clone(),
            };
            self.shared.give_interface(self.given.clone());
        }
    }

    /// Takes over what userspace has changed about the firmware; not loaded.
    pub(crate) fn renew_firmware(&mut self) {
        if self.vm.firmware_has_changed(self.firmware_changes) {
            (self.firmware, self.firmware_changes) = self.vm.firmware();
        }
    }

    /// Everything that has to be in the CPU just before the guest runs; interrupts are off.
    pub(crate) fn prepare(&mut self) {
        timer::set_virtual_ctl(self.vtimer.ctl());
        if let Some(syndrome) = self.serror {
            self.frame.guest_hcr |= HCR_EL2::VSE.mask();
            if cpu::features().ras {
                world::set_serror_syndrome(syndrome);
            }
        }
        self.update_ptimer();
        self.set_alarm();
        self.fill_lists();
        gic::write_lists(&self.lists);
    }

    /// Moves what is pending into the list registers' image.
    fn fill_lists(&mut self) {
        let Some(mut model) = self.gic.as_ref().map(|gic| gic.lock()) else {
            // No interrupt controller: each access to its registers traps, and is UNDEFINED.
            // EN is 0, or what another vCPU has left in the list registers could interrupt.
            self.lists.hcr = hcr::TDIR | NO_GIC;
            return;
        };
        model.flush(self.id, &mut self.lists, self.hw_active);
        drop(model);
        if self.hw_active && !self.lists.hw_mapped && !self.timer_line {
            // The guest has turned the timer off before it took the interrupt.
            gic::deactivate(machine::timer_intid());
            self.hw_active = false;
        }
    }

    /// Takes back from the CPU what the host would feel; interrupts are off.
    pub(crate) fn retire(&mut self) {
        let ctl = timer::virtual_ctl();
        timer::set_virtual_ctl(0);
        self.vtimer.write_ctl(ctl);
        self.take_lists(output(ctl));
        gic::stop();
        if self.serror.is_some() && !world::serror_is_pending(&self.frame) {
            self.serror = None;
            self.frame.guest_hcr &= !HCR_EL2::VSE.mask();
        }
    }

    /// Folds the list registers back into the model. `line`: the virtual timer's.
    fn take_lists(&mut self, line: bool) {
        self.set_timer_line(line);
        let Some(mut model) = self.gic.as_ref().map(|gic| gic.lock()) else {
            return;
        };
        gic::read_lists(&mut self.lists);
        let report = model.sync(self.id, &mut self.lists, &mut self.after);
        if report.hw_deactivated {
            self.hw_active = false;
        }
    }

    /// In a fast exit: what is new goes into the list registers at once. True if the guest may go on.
    pub(crate) fn refresh_lists(&mut self) -> bool {
        if self.gic.is_none() {
            return false;
        }
        self.take_lists(output(timer::virtual_ctl()));
        self.after.kicks.remove(self.id);
        if !self.after.is_empty() {
            return false;
        }
        self.fill_lists();
        gic::write_lists(&self.lists);
        true
    }

    /// The list registers' contents go back to the model, if the guest has them; returns ICH_VMCR_EL2.
    pub(crate) fn give_lists_back(&mut self) -> u64 {
        let resident = self
            .vm
            .gic
            .lock()
            .is_some_and(|model| model.is_resident(self.id));
        if resident {
            self.take_lists(output(timer::virtual_ctl()));
        }
        self.lists.vmcr
    }

    /// What the guest reads in GICD_CTLR.
    #[inline]
    pub(crate) fn gicd_ctlr(&self) -> Option<u32> {
        Some(self.gicd_ctlr.as_ref()?.load(Ordering::Relaxed))
    }

    /// Which frame of the interrupt controller, and where in it, an access at `ipa` is.
    #[inline]
    pub(crate) fn gic_frame(&self, ipa: u64) -> Option<(GicFrame, u32)> {
        self.frames.as_ref()?.find(ipa)
    }

    /// What a fast exit, or another, could not do there, if there is something.
    pub(crate) fn take_after(&mut self) -> Option<After> {
        (!self.after.is_empty()).then(|| core::mem::take(&mut self.after))
    }

    /// Whether a WFE may be skipped in the vector: a few in a row, then the host gets to look for somebody else to run.
    pub(crate) fn spare_wfe(&mut self) -> bool {
        const IN_A_ROW: u32 = 64;
        self.wfes = self.wfes.wrapping_add(1) % IN_A_ROW;
        self.wfes != 0
    }

    /// The virtual timer's physical interrupt is pending. It is made active, so that it stays quiet until the guest has
    /// handled its own and deactivates both through the list register.
    ///
    /// Not by acknowledging it: between the look at ICC_HPPIR1_EL1 and a read of ICC_IAR1_EL1 another interrupt may arrive,
    /// and would be taken from the host.
    pub(crate) fn silence_timer(&mut self) {
        if !self.hw_active {
            machine::activate_timer();
            self.hw_active = true;
        }
    }

    /// In a fast exit: a kick is pending. True if the guest may go on: all that was asked for was to take new interrupts.
    ///
    /// Linux sends the same SGI, when the scheduler or a signal wants this thread. It says so in the thread's flags first,
    /// and they are looked at after the clearing.
    pub(crate) fn kicked(&mut self) -> bool {
        machine::clear_kick();
        !guest::work_pending() && self.shared.take_interrupt() && self.refresh_lists()
    }

    /// In a fast exit: the virtual timer's physical interrupt is pending, and becomes the guest's.
    pub(crate) fn timer_fired(&mut self) -> bool {
        self.silence_timer();
        self.refresh_lists()
    }

    /// In a fast exit, before a look at the private interrupts: their lines are the timers'.
    pub(crate) fn update_lines(&mut self) {
        self.set_timer_line(output(timer::virtual_ctl()));
        self.update_ptimer();
    }

    /// The model learns of the virtual timer's line, if it has changed.
    fn set_timer_line(&mut self, line: bool) {
        if line != self.timer_line {
            self.timer_line = line;
            if let (Some(mut model), Some(ppi)) = (
                self.gic.as_ref().map(|gic| gic.lock()),
                Line::private(self.id, self.timers.virtual_),
            ) {
                let _ = model.set_level(ppi, line);
            }
        }
    }

    /// The emulated timer's line follows its counter.
    pub(crate) fn update_ptimer(&mut self) {
        let line = self.ptimer.line(self.physical_counter());
        if line != self.ptimer_line {
            self.ptimer_line = line;
            if let (Some(mut model), Some(ppi)) = (
                self.gic.as_ref().map(|gic| gic.lock()),
                Line::private(self.id, self.timers.physical),
            ) {
                let _ = model.set_level(ppi, line);
            }
        }
    }

    /// The emulated timer fires while the guest runs: its alarm makes it exit. Interrupts are off.
    fn set_alarm(&mut self) {
        let now = self.physical_counter();
        let wanted = self.ptimer.next_event(now).filter(|&ticks| ticks > 0);
        let Some(ticks) = wanted else {
            self.alarm = None;
            return;
        };
        let due = now.wrapping_add(ticks);
        // It need not be set again, unless it has rung: too early, for the clocks do not run alike.
        if self.alarm.as_ref().is_some_and(|alarm| alarm.due == due) && !self.shared.has_rung() {
            return;
        }
        self.alarm = None;
        let Some(hz) = Frequency::new(cpu::features().counter_hz) else {
            return;
        };
        let ns = i64::try_from(hz.to_ns(ticks)).unwrap_or(i64::MAX);
        self.alarm = Some(Alarm {
            due,
            _set: self.shared.clone().ring_in(ns),
        });
    }

    /// The virtual timer's line while the vCPU is not in the guest: for WFI, and before the guest next runs.
    pub(crate) fn update_vtimer(&mut self) {
        self.set_timer_line(self.virtual_timer().line(self.virtual_counter()));
    }

    /// The virtual timer while the vCPU is not in the guest.
    pub(crate) fn virtual_timer(&self) -> Timer {
        if self.host.is_some() {
            Timer::new(self.vtimer.ctl(), timer::virtual_cval())
        } else {
            self.vtimer
        }
    }

    /// In how many ticks the next of the two timers fires; `None` if neither will.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        let virtual_ = self.virtual_timer().next_event(self.virtual_counter());
        let physical = self.ptimer.next_event(self.physical_counter());
        match (virtual_, physical) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether the guest would take an interrupt, outside of the guest.
    pub(crate) fn has_interrupt(&mut self) -> bool {
        self.update_vtimer();
        self.update_ptimer();
        let vmcr = self.lists.vmcr;
        self.shared.lines() != 0
            || self
                .vm
                .gic
                .lock()
                .is_some_and(|mut model| model.has_pending(self.id, vmcr))
    }

    /// Keeps what the exit was about, before interrupts are unmasked.
    pub(crate) fn note_syndrome(&mut self) {
        self.syndrome = Syndrome::read();
    }

    /// The address of the last abort.
    pub(crate) fn fault_ipa(&self) -> u64 {
        self.walked_ipa
            .unwrap_or_else(|| Abort::ipa(self.syndrome.hpfar, self.syndrome.far).raw())
    }

    /// The timers out of reset.
    pub(crate) fn reset_timers(&mut self) {
        self.vtimer = Timer::default();
        self.ptimer = Timer::default();
        if self.host.is_some() {
            timer::set_virtual_cval(0);
        }
    }

    /// Runs the guest once; interrupts are off. Returns the reason for leaving.
    pub(crate) fn run_guest(&mut self) -> u64 {
        world::run_core(self)
    }
}

impl Resident for Core {
    fn load(&mut self) {
        let cpu_number = crate::host::cpu::current();
        self.kick = Sgi::to_this_cpu(machine::KICK);
        let _ = self.renew_control();
        self.frame.guest_key = [
            self.saved.get(Reg::ApiaKeyLo),
            self.saved.get(Reg::ApiaKeyHi),
        ];
        if self.vm.last_ran(cpu_number, self.id) {
            tlb::flush_local_stage1(self.control.translation);
        }
        self.host = Some(world::load(&mut self.frame, &self.control, &self.saved));
        gic::load(self.lists.vmcr, &self.interface);
        // The list registers here are another vCPU's.
        self.lists.moved();
        if self.stolen.is_due() {
            self.shared.note_power();
        }
        timer::set_virtual_cval(self.vtimer.cval());
    }

    fn put(&mut self) {
        self.vtimer.write_cval(timer::virtual_cval());
        gic::save(&mut self.lists.vmcr, &mut self.interface);
        if self.hw_active {
            gic::deactivate(machine::timer_intid());
            self.hw_active = false;
        }
        if let Some(host) = self.host.take() {
            world::put(&mut self.saved, &host);
        }
        self.saved.set(Reg::ApiaKeyLo, self.frame.guest_key[0]);
        self.saved.set(Reg::ApiaKeyHi, self.frame.guest_key[1]);
    }
}

/// ICH_HCR_EL2's traps for everything: group 0, group 1 and what they share.
const NO_GIC: u64 = ICH_HCR_EL2::TALL0.mask() | ICH_HCR_EL2::TALL1.mask() | ICH_HCR_EL2::TC.mask();

/// Whether a timer with this CTL asserts its line: ISTATUS is the hardware's comparison.
fn output(ctl: u64) -> bool {
    CNT_CTL::ENABLE.is_set(ctl) && CNT_CTL::ISTATUS.is_set(ctl) && !CNT_CTL::IMASK.is_set(ctl)
}
