// SPDX-License-Identifier: GPL-2.0

//! The guest's world in the CPU: the EL2 registers that make EL1 and EL0 a guest's.
//!
//! Three depths. [`load`]/[`put`] when the vCPU's thread gets a CPU and loses it: whatever the host's kernel at EL2 does
//! not feel. [`run`]: what it would feel, and so is exchanged around each run of the guest. `entry.S`: HCR_EL2, VBAR_EL2,
//! SP_EL0 and one key, exchanged last and first.

use super::cpu::features;
use super::debug::{self, Points};
use super::el1::{self, HostUser, InCpu, Saved};
use super::frame::{loft_enter, EntryFrame};
use super::tlb::GuestTranslation;
use super::{isb, mpam, timer};
use crate::host::context_tracking::InGuest;
use crate::host::ffi;
use crate::model::sysreg::{regs::*, Field};
use crate::vcpu::core::Core;
use crate::vcpu::exit::fast;
use core::marker::PhantomData;

/// What is the same for each run of a vCPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control {
    /// How its memory is translated.
    pub(crate) translation: GuestTranslation,
    /// The VMID that this has, with its generation.
    pub(crate) vmid: u64,
    /// CNTVOFF_EL2.
    pub(crate) virtual_offset: u64,
    /// What the guest's physical counter is behind the machine's. Unless that is nothing, the counter and its timer trap.
    pub(crate) physical_offset: u64,
    /// VPIDR_EL2: what the guest reads from MIDR_EL1.
    pub(crate) midr: u64,
    /// HCRX_EL2, where there is one ([`guest_hcrx`]).
    pub(crate) hcrx: u64,
}

/// What the host had where a loaded vCPU is.
#[derive(Default)]
pub(crate) struct HostWorld {
    user: HostUser,
    mdcr: u64,
    hcrx: u64,
    sre: u64,
}

/// CPTR_EL2 in its E2H layout is CPACR_EL1's, with two more traps: the trace unit is bit 28 in both, the activity
/// monitors are bit 30 (DDI 0487, D24.2.33).
const CPTR_TAM: Field = Field::new(30, 1);

/// HCR_EL2 while the guest runs. Whatever is not virtualised traps, so that it can be made UNDEFINED.
pub(crate) fn guest_hcr() -> u64 {
    let cpu = features();
    let mut hcr = HCR_EL2::E2H.mask()
        | HCR_EL2::RW.mask()
        | HCR_EL2::VM.mask()
        // Stage-1 walks of the guest's that reach device memory are faults, not accesses to a device.
        | HCR_EL2::PTW.mask()
        // Set/way invalidation would drop another's data: it becomes clean and invalidate, and traps.
        | HCR_EL2::SWIO.mask()
        | HCR_EL2::TSW.mask()
        // Maintenance that the guest means for one CPU is done on all: its vCPU may move.
        | HCR_EL2::FB.mask()
        | HCR_EL2::BSU.of(HCR_EL2::BSU_IS)
        | HCR_EL2::IMO.mask()
        | HCR_EL2::FMO.mask()
        | HCR_EL2::AMO.mask()
        | HCR_EL2::TWI.mask()
        | HCR_EL2::TWE.mask()
        | HCR_EL2::TSC.mask()
        | HCR_EL2::TIDCP.mask()
        | HCR_EL2::TACR.mask()
        | HCR_EL2::TLOR.mask()
        | HCR_EL2::TID1.mask()
        | HCR_EL2::TID3.mask();
    hcr |= if cpu.evt {
        HCR_EL2::TID4.mask()
    } else {
        HCR_EL2::TID2.mask()
    };
    if cpu.ras {
        hcr |= HCR_EL2::TEA.mask() | HCR_EL2::TERR.mask();
    }
    if cpu.fwb {
        hcr |= HCR_EL2::FWB.mask();
    }
    if cpu.mte {
        hcr |= HCR_EL2::TID5.mask();
    }
    hcr
}

/// What HCR_EL2 has in addition where the guest has pointer authentication: otherwise its instructions and keys trap.
pub(crate) fn pointer_auth_hcr() -> u64 {
    HCR_EL2::API.mask() | HCR_EL2::APK.mask()
}

/// HCRX_EL2 while a guest runs. `mops`: it has FEAT_MOPS.
///
/// Without MSCEn the instructions of FEAT_MOPS are UNDEFINED at EL1 and EL0. With MCE2 a copy that began on a CPU with the
/// other layout of its registers is an exit, not an exception of the guest's, which need not know that its vCPU has moved.
/// Nothing else that the register enables is virtualised. The VMM's own programs, which run with this
/// while the vCPU stays loaded, do not feel it: with HCR_EL2.{E2H, TGE} = {1, 1} SCTLR_EL2 decides
/// about EL0 (DDI 0487, HCRX_EL2).
pub(crate) fn guest_hcrx(mops: bool) -> u64 {
    if mops {
        HCRX_EL2::MSCEn.mask() | HCRX_EL2::MCE2.mask()
    } else {
        0
    }
}

/// Whether a guest of KVM's has been in this CPU since [`put`]: KVM leaves its tables in VTTBR_EL2.
/// Not loaded.
pub(crate) fn kvm_was_here() -> bool {
    read_sysreg!(VTTBR_EL2) != 0
}

/// Puts a guest into this CPU; the thread must stay here until [`put`], so preemption is off or a preempt notifier set.
/// `debugged`: debug exceptions are not the guest's but go to EL2, BRK too.
pub(crate) fn load(
    frame: &mut EntryFrame,
    control: &Control,
    saved: &Saved,
    debugged: bool,
) -> HostWorld {
    let cpu = features();
    let mut host = HostWorld {
        user: el1::load(saved, cpu.pauth, cpu.ras),
        mdcr: read_sysreg!(MDCR_EL2),
        sre: read_sysreg!(ICC_SRE_EL2),
        hcrx: 0,
    };
    frame.host_vbar = read_sysreg!(VBAR_EL2);
    frame.host_hcr = read_sysreg!(HCR_EL2);
    // SAFETY: The frame stays in place until `put`, as part of the pinned vCPU.
    unsafe { ffi::loft_set_loaded_frame((&raw mut *frame).cast()) };

    // Debug, the PMU, statistical profiling and trace are the host's. HPMN says how many counters the host has.
    let mdcr = MDCR_EL2::HPMN.mask() & host.mdcr
        | MDCR_EL2::TPM.mask()
        | MDCR_EL2::TPMCR.mask()
        | MDCR_EL2::TPMS.mask()
        | MDCR_EL2::TTRF.mask()
        | MDCR_EL2::TDRA.mask()
        | MDCR_EL2::TDOSA.mask()
        | MDCR_EL2::TDE.of(debugged.into())
        | MDCR_EL2::TDA.mask();
    write_sysreg!(MDCR_EL2, mdcr);
    if cpu.profiling {
        // The host's profile is not of its guests: E1SPE and E0SPE are UNKNOWN out of reset (DDI 0487, PMSCR_EL1), and nobody
        // else sets them: the guest's accesses trap, the host's own are to PMSCR_EL2.
        write_sysreg_el12!(PMSCR_EL1, 0);
    }
    if cpu.hcx {
        host.hcrx = read_sysreg!(HCRX_EL2);
        write_sysreg!(HCRX_EL2, control.hcrx);
    }
    if cpu.fgt {
        // Zero traps nothing that is older than the fine-grained traps, and all that came after (the `n` bits).
        write_sysreg!(HFGRTR_EL2, 0);
        write_sysreg!(HFGWTR_EL2, HFGWTR_EL2::TCR_EL1.of(cpu.hidden_hafdbs.into()));
        write_sysreg!(HFGITR_EL2, 0);
        write_sysreg!(HDFGRTR_EL2, 0);
        write_sysreg!(HDFGWTR_EL2, 0);
    }
    if cpu.fgt2 {
        write_sysreg!(HFGRTR2_EL2, 0);
        write_sysreg!(HFGWTR2_EL2, 0);
        write_sysreg!(HFGITR2_EL2, 0);
        write_sysreg!(HDFGRTR2_EL2, 0);
        write_sysreg!(HDFGWTR2_EL2, 0);
    }
    mpam::load();
    write_sysreg!(ICC_SRE_EL2, host.sre & !ICC_SRE_EL2::Enable.mask());
    set_control(control);
    host
}

/// Takes the guest out of this CPU.
pub(crate) fn put(saved: &mut Saved, host: &HostWorld) {
    let cpu = features();
    el1::save(saved, &host.user, cpu.pauth, cpu.ras);
    // As the host has it: with E2H and TGE the bits have no effect, Linux leaves them set.
    timer::trap_physical(false);
    write_sysreg!(MDCR_EL2, host.mdcr);
    write_sysreg!(ICC_SRE_EL2, host.sre);
    if cpu.hcx {
        write_sysreg!(HCRX_EL2, host.hcrx);
    }
    mpam::put();
    // No guest of this VMID is in the CPU any more, so nothing may walk its tables speculatively either.
    write_sysreg!(VTTBR_EL2, 0);
    // SAFETY: As in `load`.
    unsafe { ffi::loft_set_loaded_frame(core::ptr::null_mut()) };
    isb();
}

/// The guest's registers in the CPU, for as long as the borrow lives.
pub(crate) fn in_cpu<'a>(_loaded: &'a mut HostWorld) -> InCpu<'a> {
    InCpu(PhantomData)
}

/// Runs the guest of `core`, which is loaded on this CPU, until an exit that the vector does not answer; interrupts are
/// masked, and RCU and the accounting of CPU time know, as the witness says. Returns the reason.
pub(crate) fn run_core(core: &mut Core, _guest: InGuest<'_>) -> u64 {
    // Debug exceptions and SErrors too: the guest's MDSCR_EL1 must not single-step the host, and an SError while the
    // worlds change would find neither. An exception from the guest sets all of DAIF, so this holds until the end.
    // SAFETY: Interrupts are off; undone below.
    unsafe { ffi::loft_local_daif_mask() };
    let cptr = read_sysreg!(CPTR_EL2);
    let mdscr = read_sysreg!(MDSCR_EL1);
    let dit = if features().dit { read_sysreg!(DIT) } else { 0 };
    // Without its floating point registers in the CPU the guest's first access to them traps.
    let fp = if core.fp.is_loaded() { 3 } else { 0 };
    write_sysreg!(
        CPTR_EL2,
        CPACR_EL1::FPEN.of(fp) | CPACR_EL1::TTA.mask() | CPTR_TAM.mask()
    );
    // The host's breakpoints and single step are not the guest's.
    let debug = match (&core.debugger, debug::wanted(&core.saved)) {
        (Some(debugger), _) => {
            let external = &debugger.external;
            Some(debug::load(&external.points, external.mdscr()))
        }
        (None, Some(mdscr)) => Some(debug::load(&Points::of_guest(&core.saved), mdscr)),
        (None, None) => {
            if mdscr != 0 {
                write_sysreg!(MDSCR_EL1, 0);
            }
            None
        }
    };
    mpam::enter();
    core.control().translation.set_again();
    let core: *mut Core = core;
    // SAFETY: The frame is the first field of `core`, and its address carries access to all of it, for the handlers
    // below. `core` is borrowed mutably by the caller, and nobody else uses it until this returns.
    let reason = unsafe { loft_enter(core.cast()) };
    write_sysreg!(CPTR_EL2, cptr);
    match debug {
        Some(host) => debug::put(&host),
        None if mdscr != 0 => write_sysreg!(MDSCR_EL1, mdscr),
        None => {}
    }
    if features().dit {
        // The guest's PSTATE.DIT is not what the host's constant-time code counts on.
        write_sysreg!(DIT, dit);
    }
    isb();
    // SAFETY: As above; interrupts stay off.
    unsafe { ffi::loft_local_daif_restore_noirq() };
    reason
}

const _: () = assert!(core::mem::offset_of!(Core, frame) == 0);

/// The vector's handlers: the one place where the CPU calls up into the floor above.
///
/// # Safety
///
/// Called by `entry.S` with the frame that [`run_core`] passed, interrupts masked and the guest in the CPU.
#[no_mangle]
unsafe extern "C" fn loft_fast_sync(frame: *mut EntryFrame, esr: u64) -> u64 {
    // SAFETY: See `run_core`: the frame's address is the core's, which nobody else uses now. Whoever
    // called `run_core` has told RCU of the guest, and interrupts are masked until it returns.
    let (core, guest) = unsafe { (&mut *frame.cast::<Core>(), InGuest::assume()) };
    fast::sync(core, esr, guest)
}

/// # Safety
///
/// As [`loft_fast_sync`].
#[no_mangle]
unsafe extern "C" fn loft_fast_irq(frame: *mut EntryFrame) -> u64 {
    // SAFETY: See `run_core`: the frame's address is the core's, which nobody else uses now. Whoever
    // called `run_core` has told RCU of the guest, and interrupts are masked until it returns.
    let (core, guest) = unsafe { (&mut *frame.cast::<Core>(), InGuest::assume()) };
    fast::irq(core, guest)
}

/// # Safety
///
/// As [`loft_fast_sync`].
#[no_mangle]
unsafe extern "C" fn loft_fast_serror(frame: *mut EntryFrame) -> u64 {
    // SAFETY: As above.
    fast::serror(unsafe { &mut *frame.cast::<Core>() })
}

/// Puts these into the CPU, where the guest is being loaded or is.
///
/// They are in force when this returns, not only with the ERET: where a speculative AT may use the guest's regime as soon as
/// HCR_EL2.TGE is 0 (erratum 1165522 and its like), it must not find another VM's VTTBR_EL2 then.
pub(crate) fn set_control(control: &Control) {
    control.translation.set();
    write_sysreg!(VPIDR_EL2, control.midr);
    timer::set_offset(control.virtual_offset);
    timer::trap_physical(control.physical_offset != 0);
    isb();
}

/// The syndrome that a virtual SError brings.
pub(crate) fn set_serror_syndrome(iss: u32) {
    write_sysreg!(VSESR_EL2, iss.into());
}

/// Whether the virtual SError that HCR_EL2.VSE asked for still waits: the CPU clears the bit when the guest takes it.
/// Called when the guest has been left, so the bit is looked for in what the vector saved.
pub(crate) fn serror_is_pending(frame: &EntryFrame) -> bool {
    HCR_EL2::VSE.is_set(frame.left_hcr)
}

/// FAR_EL2, in a fast exit. What has left the vector finds it in the frame.
#[inline(always)]
pub(crate) fn far() -> u64 {
    read_sysreg!(FAR_EL2)
}

/// HPFAR_EL2, in a fast exit. What has left the vector finds it in the frame.
#[inline(always)]
pub(crate) fn hpfar() -> u64 {
    read_sysreg!(HPFAR_EL2)
}

/// Moves the guest past the instruction that trapped, in a fast exit.
#[inline(always)]
pub(crate) fn skip_instruction() {
    write_sysreg!(ELR_EL2, read_sysreg!(ELR_EL2).wrapping_add(4));
    // The instruction has been executed, so a BTYPE that it would have cleared is cleared, and a step taken.
    let spsr = read_sysreg!(SPSR_EL2);
    const BTYPE_SS: u64 = SPSR_EL1::BTYPE.mask() | SPSR_EL1::SS.mask();
    if spsr & BTYPE_SS != 0 {
        write_sysreg!(SPSR_EL2, spsr & !BTYPE_SS);
    }
}

/// SPSR_EL2 in a fast exit: the guest's PSTATE.
#[inline(always)]
pub(crate) fn pstate() -> u64 {
    read_sysreg!(SPSR_EL2)
}

/// Makes the guest's PSTATE this, in a fast exit.
pub(crate) fn set_pstate(pstate: u64) {
    write_sysreg!(SPSR_EL2, pstate);
}

/// The IPA that the guest's virtual address `far` translates to, in a fast exit: stage 1 is walked again, as a read of
/// EL1's. `None` if it no longer translates. The guest's PAR_EL1 is kept.
pub(crate) fn translate(far: u64) -> Option<u64> {
    let par = el1::read_par();
    // SAFETY: With HCR_EL2.TGE = 0 the instruction walks the guest's tables and writes PAR_EL1 only.
    unsafe { core::arch::asm!("at s1e1r, {}", in(reg) far, options(nostack, preserves_flags)) };
    isb();
    let walked = el1::read_par();
    write_sysreg!(PAR_EL1, par);
    const OFFSET: u64 = 0xfff;
    (!PAR_EL1::F.is_set(walked)).then_some(walked & PAR_EL1::PA.mask() | far & OFFSET)
}
