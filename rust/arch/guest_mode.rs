// SPDX-License-Identifier: GPL-2.0

//! Guest mode: the EL2 registers that make EL1 and EL0 a guest's.
//!
//! Three depths. [`GuestState::load`] and [`GuestState::put`], when the vCPU's thread gets a CPU
//! and loses it: whatever the host's kernel at EL2 does not feel. [`execute`]: what it would feel,
//! and so is exchanged around each run of the guest. `entry.S`: HCR_EL2, VBAR_EL2, SP_EL0 and one
//! key, exchanged last and first.
//!
//! What a guest's exits are answered with is not decided here: the vector calls a [`FastExits`],
//! with a [`Live`] as the proof that the guest is in the CPU.

use super::cpu::features;
use super::debug::{self, External, Points};
use super::el1::{self, El1Context, HostUser, InCpu};
use super::fp::Fp;
use super::frame::{loft_enter, EntryFrame};
use super::tlb::GuestTranslation;
use super::{isb, mpam, timer};
use crate::host::bug::warn_on_once;
use crate::host::context_tracking::InGuest;
use crate::host::ffi;
use crate::host::preempt::PreemptDisabled;
use crate::host::preempt_notifier::ScheduledIn;
use crate::model::inject::{step_pstate, PER_INSTRUCTION};
use crate::model::sysreg::table::{GuestFeatures, When};
use crate::model::sysreg::{regs::*, Field, Reg};
use core::marker::PhantomData;
use kernel::types::NotThreadSafe;

/// Why the guest was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    /// A synchronous exit that needs the host.
    Sync,
    /// A store to what is neither mapped memory nor the interrupt controller: perhaps an ioeventfd
    /// waits for it. Otherwise it is like [`Leave::Sync`].
    Store,
    /// An interrupt for the host, or a vCPU that has to be told something.
    Interrupt,
    /// An SError.
    SError,
    /// The host took an exception in a fast exit: the guest cannot go on.
    HostException,
}

const _: () = assert!(Leave::Interrupt.code() == ffi::FRAME_LEAVE_INTERRUPT as u64);

impl Leave {
    const fn code(self) -> u64 {
        ffi::FRAME_LEAVE as u64 + self as u64
    }

    /// Makes it from what `loft_enter` returned.
    fn new(code: u64) -> Self {
        const SYNC: u64 = Leave::Sync.code();
        const STORE: u64 = Leave::Store.code();
        const INTERRUPT: u64 = Leave::Interrupt.code();
        const SERROR: u64 = Leave::SError.code();
        match code {
            SYNC => Self::Sync,
            STORE => Self::Store,
            INTERRUPT => Self::Interrupt,
            SERROR => Self::SError,
            _ => Self::HostException,
        }
    }
}

/// What the vector does after a fast exit.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Verdict(u64);

impl Verdict {
    /// Into the guest again; x19 to x28 are as it left them.
    pub(crate) const RESUME: Self = Self(ffi::FRAME_RESUME as u64);
    /// Into the guest again, with all registers from the frame.
    pub(crate) const RESUME_ALL: Self = Self(ffi::FRAME_RESUME_ALL as u64);

    /// Makes the verdict that leads out of the guest: [`execute`] returns `reason`.
    #[inline(always)]
    pub(crate) const fn leave(reason: Leave) -> Self {
        Self(reason.code())
    }

    /// Returns the verdict as `entry.S` wants it.
    #[inline(always)]
    pub(crate) const fn code(self) -> u64 {
        self.0
    }
}

/// Answers a guest's exits in the vector, with the guest still in the CPU and interrupts masked.
pub(crate) trait FastExits {
    /// Returns the debugger that the guest runs under, if there is one.
    fn debugger(&self) -> Option<&External>;
    /// Answers a synchronous exit with this ESR_EL2.
    fn sync(&mut self, live: Live<'_>, rcu: InGuest<'_>, esr: u64) -> Verdict;
    /// Answers an interrupt, which is still pending.
    fn irq(&mut self, live: Live<'_>, rcu: InGuest<'_>) -> Verdict;
    /// Answers an SError.
    fn serror(&mut self, live: Live<'_>, rcu: InGuest<'_>) -> Verdict;
}

/// The [`FastExits`] that the vector calls. [`vectors!`](vectors) says which.
///
/// # Safety
///
/// The type has its [`GuestState`] at offset 0, which `guest` returns, and the functions that
/// `entry.S` calls take the frame's address for that of a value of this type.
pub(crate) unsafe trait InVector: FastExits {
    /// Returns the state that [`execute`] runs.
    fn guest(&self) -> &GuestState;
}

/// Has a guest's exit answered. Returns what `entry.S` wants to know.
///
/// # Safety
///
/// Called by `entry.S` with the frame that [`execute`] passed, which is that of a `P`, interrupts
/// masked and the guest in the CPU.
#[inline(always)]
pub(crate) unsafe fn in_vector<P: InVector>(
    frame: *mut EntryFrame,
    answer: impl FnOnce(&mut P, Live<'_>, InGuest<'_>) -> Verdict,
) -> u64 {
    // SAFETY: By `InVector` the frame's address is that of the policy, which nobody else uses until
    // `execute` returns. Its caller has told RCU of the guest, and interrupts are masked as long.
    let (policy, live, rcu) =
        unsafe { (&mut *frame.cast::<P>(), Live::assume(), InGuest::assume()) };
    answer(policy, live, rcu).code()
}

/// Makes the functions that `entry.S` calls: `vectors!(TYPE, FIELD)`, where TYPE is a [`FastExits`]
/// and FIELD its [`GuestState`], which has to be at its beginning. They are there once in the
/// module.
macro_rules! vectors {
    ($policy:ty, $guest:ident) => {
        #[allow(unsafe_code)]
        const _: () = {
            use $crate::arch::frame::EntryFrame;
            use $crate::arch::guest_mode::{in_vector, FastExits, GuestState, InVector};

            assert!(::core::mem::offset_of!($policy, $guest) == 0);

            // SAFETY: The offset has just been looked at, and the functions below are those that
            // `entry.S` calls: there cannot be a second one of a name.
            unsafe impl InVector for $policy {
                #[inline(always)]
                fn guest(&self) -> &GuestState {
                    &self.$guest
                }
            }

            /// # Safety
            ///
            /// Called by `entry.S` with the frame that `execute` passed, interrupts masked and the
            /// guest in the CPU.
            #[no_mangle]
            unsafe extern "C" fn loft_fast_sync(frame: *mut EntryFrame, esr: u64) -> u64 {
                // SAFETY: By the requirement, and the offset above.
                unsafe {
                    in_vector(frame, |policy: &mut $policy, live, rcu| {
                        policy.sync(live, rcu, esr)
                    })
                }
            }

            /// # Safety
            ///
            /// As `loft_fast_sync`.
            #[no_mangle]
            unsafe extern "C" fn loft_fast_irq(frame: *mut EntryFrame) -> u64 {
                // SAFETY: By the requirement, and the offset above.
                unsafe {
                    in_vector(frame, |policy: &mut $policy, live, rcu| {
                        policy.irq(live, rcu)
                    })
                }
            }

            /// # Safety
            ///
            /// As `loft_fast_sync`.
            #[no_mangle]
            unsafe extern "C" fn loft_fast_serror(frame: *mut EntryFrame) -> u64 {
                // SAFETY: By the requirement, and the offset above.
                unsafe {
                    in_vector(frame, |policy: &mut $policy, live, rcu| {
                        policy.serror(live, rcu)
                    })
                }
            }
        };
    };
}
pub(crate) use vectors;

/// Proves that a guest is in the CPU, as it left: this is a fast exit.
///
/// Its PC and PSTATE are in ELR_EL2 and SPSR_EL2 then, not in the frame. It has no size: to pass it
/// by value costs nothing.
///
/// # Invariants
///
/// For as long as `'a` lasts this CPU is in the vector of a guest's exit, with interrupts masked
/// and HCR_EL2.TGE = 0.
#[derive(Clone, Copy)]
pub(crate) struct Live<'a>(PhantomData<&'a ()>, NotThreadSafe);

impl Live<'_> {
    /// Takes it for granted that a guest is in the CPU.
    ///
    /// # Safety
    ///
    /// The type's invariant holds for the lifetime that the caller gives the result.
    #[inline(always)]
    pub(crate) unsafe fn assume<'a>() -> Live<'a> {
        // INVARIANT: By the requirement.
        Live(PhantomData, NotThreadSafe)
    }

    /// Returns FAR_EL2. What has left the vector finds it in the frame.
    #[inline(always)]
    pub(crate) fn far(self) -> u64 {
        read_sysreg!(FAR_EL2)
    }

    /// Returns HPFAR_EL2. What has left the vector finds it in the frame.
    #[inline(always)]
    pub(crate) fn hpfar(self) -> u64 {
        read_sysreg!(HPFAR_EL2)
    }

    /// Returns ELR_EL2: the guest's PC.
    #[inline(always)]
    pub(crate) fn pc(self) -> u64 {
        read_sysreg!(ELR_EL2)
    }

    /// Returns SPSR_EL2: the guest's PSTATE.
    #[inline(always)]
    pub(crate) fn pstate(self) -> u64 {
        read_sysreg!(SPSR_EL2)
    }

    /// Makes the guest's PSTATE this.
    pub(crate) fn set_pstate(self, pstate: u64) {
        write_sysreg!(SPSR_EL2, pstate);
    }

    /// Moves the guest past the instruction that trapped.
    #[inline(always)]
    pub(crate) fn skip(self) {
        write_sysreg!(ELR_EL2, read_sysreg!(ELR_EL2).wrapping_add(4));
        let pstate = read_sysreg!(SPSR_EL2);
        if pstate & PER_INSTRUCTION != 0 {
            write_sysreg!(SPSR_EL2, step_pstate(pstate));
        }
    }

    /// Translates the guest's virtual address `far` to an IPA: stage 1 is walked again, as a read
    /// of EL1's.
    /// `None` if it no longer translates. The guest's PAR_EL1 is kept.
    pub(crate) fn translate(self, far: u64) -> Option<u64> {
        let par = el1::read_par();
        // SAFETY: By the invariant the instruction walks the guest's tables, and it writes PAR_EL1
        // only.
        unsafe { core::arch::asm!("at s1e1r, {}", in(reg) far, options(nostack, preserves_flags)) };
        isb();
        let walked = el1::read_par();
        write_sysreg!(PAR_EL1, par);
        const OFFSET: u64 = 0xfff;
        (!PAR_EL1::F.is_set(walked)).then_some(walked & PAR_EL1::PA.mask() | far & OFFSET)
    }
}

/// All of a guest that the CPU knows: in memory, or while it is loaded in part in this CPU.
#[repr(C)]
pub(crate) struct GuestState {
    /// First: the vector has its address.
    pub(crate) frame: EntryFrame,
    pub(crate) fp: Fp,
    saved: El1Context,
    control: Control,
    /// What the host had in the CPU; there while the guest is loaded.
    host: Option<HostState>,
}

const _: () = assert!(core::mem::offset_of!(GuestState, frame) == 0);

impl GuestState {
    /// Makes it, with all registers 0.
    pub(crate) fn new(control: Control) -> Self {
        Self {
            frame: EntryFrame::new(features().pauth),
            fp: Fp::new(),
            saved: El1Context::new(),
            control,
            host: None,
        }
    }

    /// Returns whether the guest is in this CPU.
    #[inline]
    pub(crate) fn is_loaded(&self) -> bool {
        self.host.is_some()
    }

    /// Returns the value of a register of the context, wherever it is.
    pub(crate) fn get(&mut self, reg: Reg) -> u64 {
        match reg {
            // This key is always there, not only while the guest is in the CPU.
            Reg::APIAKEYLO_EL1 => self.frame.guest_key[0],
            Reg::APIAKEYHI_EL1 => self.frame.guest_key[1],
            _ => self
                .host
                .as_mut()
                .and_then(|host| host.in_cpu().get(reg))
                .unwrap_or_else(|| self.saved.get(reg)),
        }
    }

    /// Sets a register of the context, wherever it is.
    pub(crate) fn set(&mut self, reg: Reg, value: u64) {
        match reg {
            Reg::APIAKEYLO_EL1 => self.frame.guest_key[0] = value,
            Reg::APIAKEYHI_EL1 => self.frame.guest_key[1] = value,
            _ => {
                let value = match reg {
                    // Not even for a VMM that restores it: see `hidden_hafdbs`.
                    Reg::TCR_EL1 if features().hidden_hafdbs => {
                        value & !(TCR_EL1::HA.mask() | TCR_EL1::HD.mask())
                    }
                    _ => value,
                };
                if let Some(host) = self.host.as_mut() {
                    if host.in_cpu().set(reg, value) {
                        return;
                    }
                }
                self.saved.set(reg, value);
            }
        }
    }

    /// Returns what is the same for each run of the guest.
    #[inline]
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Replaces that, in the CPU too if the guest is loaded. Returns whether that changes what is
    /// in the CPU.
    pub(crate) fn set_control(&mut self, control: Control) -> bool {
        let changed = self.control != control && self.is_loaded();
        self.control = control;
        if changed {
            self.control.set();
        }
        changed
    }

    /// Returns whether the virtual SError that HCR_EL2.VSE asked for still waits: the CPU clears
    /// the bit when the guest takes it. It is looked for in what the vector saved when the guest
    /// was left.
    pub(crate) fn serror_is_pending(&self) -> bool {
        HCR_EL2::VSE.is_set(self.frame.left_hcr)
    }

    /// Returns the value of a register of the context that is never in the CPU alone.
    #[inline]
    pub(crate) fn in_memory(&self, reg: Reg) -> u64 {
        self.saved.get(reg)
    }

    /// Sets a register of the context that is never in the CPU alone. What the CPU has of it is for
    /// the next run to bring up to date.
    #[inline]
    pub(crate) fn set_in_memory(&mut self, reg: Reg, value: u64) {
        self.saved.set(reg, value);
    }

    /// Returns whether the guest debugs itself, so that its debug registers are in the CPU while it
    /// runs, unless an outer debugger's are.
    #[inline]
    pub(crate) fn debugs_itself(&self) -> bool {
        debug::wanted(&self.saved).is_some()
    }

    /// Puts the guest into this CPU, as a part of what moves into it. `debugged`: debug exceptions
    /// are not the guest's but go to EL2, BRK too.
    pub(crate) fn load(&mut self, debugged: bool, _arrival: ScheduledIn<'_>) {
        let host = load(&mut self.frame, &self.control, &self.saved, debugged);
        self.host = Some(host);
    }

    /// Takes the guest out of this CPU, if it is there.
    pub(crate) fn put(&mut self, _preempt: PreemptDisabled<'_>) {
        if let Some(host) = self.host.take() {
            put(&mut self.saved, &host);
        }
    }
}

/// What is the same for each run of a vCPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control {
    /// How its memory is translated.
    pub(crate) translation: GuestTranslation,
    /// The VMID that this has, with its generation.
    pub(crate) vmid: u64,
    /// CNTVOFF_EL2.
    pub(crate) virtual_offset: u64,
    /// What the guest's physical counter is behind the machine's. Unless that is nothing, the
    /// counter and its timer trap.
    pub(crate) physical_offset: u64,
    /// VPIDR_EL2: what the guest reads from MIDR_EL1.
    pub(crate) midr: u64,
    /// HCRX_EL2, where there is one ([`guest_hcrx`]).
    pub(crate) hcrx: u64,
    /// Of HFGRTR_EL2 and HFGWTR_EL2, where there are, what does not trap ([`untrapped`]).
    pub(crate) untrapped: u64,
}

/// What the host had where a loaded vCPU is.
#[derive(Default)]
struct HostState {
    user: HostUser,
    mdcr: u64,
    hcrx: u64,
    sre: u64,
}

/// CPTR_EL2 in its E2H layout is CPACR_EL1's, with two more traps: the trace unit is bit 28 in
/// both, the activity monitors are bit 30 (DDI 0487, D24.2.33).
const CPTR_TAM: Field = Field::new(30, 1);

/// Returns the value of HCR_EL2 to run the guest with. Whatever is not virtualised traps, so that
/// it can be made UNDEFINED.
pub(crate) fn guest_hcr() -> u64 {
    let cpu = features();
    let mut hcr = HCR_EL2::E2H.mask()
        | HCR_EL2::RW.mask()
        | HCR_EL2::VM.mask()
        // Stage-1 walks of the guest's that reach device memory are faults, not accesses to a
        // device.
        | HCR_EL2::PTW.mask()
        // Set/way invalidation would drop another's data: it becomes clean and invalidate, and
        // traps.
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

/// Returns what HCR_EL2 has in addition where the guest has pointer authentication: otherwise its
/// instructions and keys trap.
pub(crate) fn pointer_auth_hcr() -> u64 {
    HCR_EL2::API.mask() | HCR_EL2::APK.mask()
}

/// Returns the value of HCRX_EL2 for a guest with these features. `mops`: with FEAT_MOPS.
///
/// Without MSCEn the instructions of FEAT_MOPS are UNDEFINED at EL1 and EL0. With MCE2 a copy that
/// began on a CPU with the other layout of its registers is an exit, not an exception of the
/// guest's, which need not know that its vCPU has moved. Without TCR2En, SCTLR2En and EnFPM the
/// registers that they are about are taken for zero. Nothing else that the register enables is
/// virtualised. The VMM's own programs, which run with this while the vCPU stays loaded, do not
/// feel it: with HCR_EL2.{E2H, TGE} = {1, 1} SCTLR_EL2 decides about EL0 (DDI 0487, HCRX_EL2).
pub(crate) fn guest_hcrx(guest: GuestFeatures, mops: bool) -> u64 {
    HCRX_EL2::MSCEn.of(mops.into())
        | HCRX_EL2::MCE2.of(mops.into())
        | HCRX_EL2::TCR2En.of(guest.has(When::Tcr2).into())
        | HCRX_EL2::SCTLR2En.of(guest.has(When::Sctlr2).into())
        | HCRX_EL2::EnFPM.of(guest.has(When::Fpmr).into())
}

/// Returns which of the fine-grained traps with an `n` are off for a guest with these features.
pub(crate) fn untrapped(guest: GuestFeatures) -> u64 {
    let indirection = guest.has(When::PermissionIndirection);
    HFGRTR_EL2::nPIR_EL1.of(indirection.into()) | HFGRTR_EL2::nPIRE0_EL1.of(indirection.into())
}

// HFGWTR_EL2 has these bits in the same places.
const _: () = assert!(
    HFGRTR_EL2::nPIR_EL1.mask() == HFGWTR_EL2::nPIR_EL1.mask()
        && HFGRTR_EL2::nPIRE0_EL1.mask() == HFGWTR_EL2::nPIRE0_EL1.mask()
);

/// Puts the guest into this CPU: see [`GuestState::load`].
fn load(
    frame: &mut EntryFrame,
    control: &Control,
    saved: &El1Context,
    debugged: bool,
) -> HostState {
    let cpu = features();
    let mut host = HostState {
        user: el1::load(saved),
        mdcr: read_sysreg!(MDCR_EL2),
        sre: read_sysreg!(ICC_SRE_EL2),
        hcrx: 0,
    };
    frame.host_vbar = read_sysreg!(VBAR_EL2);
    frame.host_hcr = read_sysreg!(HCR_EL2);
    // SAFETY: The frame stays in place until `put`, as part of the pinned vCPU.
    unsafe { ffi::loft_set_loaded_frame((&raw mut *frame).cast()) };

    // Debug, the PMU, statistical profiling and trace are the host's. HPMN says how many counters
    // the host has.
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
        // The host's profile is not of its guests: E1SPE and E0SPE are UNKNOWN out of reset (DDI
        // 0487, PMSCR_EL1), and nobody else sets them: the guest's accesses trap, the host's own
        // are to PMSCR_EL2.
        write_sysreg_el12!(PMSCR_EL1, 0);
    }
    if cpu.hcx {
        host.hcrx = read_sysreg!(HCRX_EL2);
        write_sysreg!(HCRX_EL2, control.hcrx);
    }
    if cpu.fgt {
        // Zero traps nothing that is older than the fine-grained traps, and all that came after
        // (the `n` bits).
        write_sysreg!(HFGRTR_EL2, control.untrapped);
        let hidden_hafdbs = HFGWTR_EL2::TCR_EL1.of(cpu.hidden_hafdbs.into());
        write_sysreg!(HFGWTR_EL2, control.untrapped | hidden_hafdbs);
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
    control.set();
    host
}

/// Takes the guest out of this CPU: see [`GuestState::put`].
fn put(saved: &mut El1Context, host: &HostState) {
    let cpu = features();
    el1::save(saved, &host.user);
    // As the host has it: with E2H and TGE the bits have no effect, Linux leaves them set.
    timer::trap_physical(false);
    write_sysreg!(MDCR_EL2, host.mdcr);
    write_sysreg!(ICC_SRE_EL2, host.sre);
    if cpu.hcx {
        write_sysreg!(HCRX_EL2, host.hcrx);
    }
    mpam::put();
    // No guest of this VMID is in the CPU any more, so nothing may walk its tables speculatively
    // either.
    write_sysreg!(VTTBR_EL2, 0);
    // SAFETY: As in `load`.
    unsafe { ffi::loft_set_loaded_frame(core::ptr::null_mut()) };
    isb();
}

/// Runs the guest until an exit that `policy` does not answer in the vector. Interrupts are off,
/// and RCU and the accounting of CPU time know, as the witness says. Returns the reason for
/// leaving.
///
/// A guest that is loaded is so on this CPU: see [`ScheduledIn`]. One that is not is not run, with
/// a warning.
pub(crate) fn execute<P: InVector>(policy: &mut P, _guest: InGuest<'_>) -> Leave {
    if !policy.guest().is_loaded() {
        return not_loaded();
    }
    // Debug exceptions and SErrors too: the guest's MDSCR_EL1 must not single-step the host, and an
    // SError while the worlds change would find neither. An exception from the guest sets all of
    // DAIF, so this holds until the end.
    // SAFETY: Interrupts are off; undone below.
    unsafe { ffi::loft_local_daif_mask() };
    let cptr = read_sysreg!(CPTR_EL2);
    let mdscr = read_sysreg!(MDSCR_EL1);
    let dit = if features().dit { read_sysreg!(DIT) } else { 0 };
    // Without its floating point registers in the CPU the guest's first access to them traps.
    let fp = if policy.guest().fp.is_loaded() { 3 } else { 0 };
    write_sysreg!(
        CPTR_EL2,
        CPACR_EL1::FPEN.of(fp) | CPACR_EL1::TTA.mask() | CPTR_TAM.mask()
    );
    // The host's breakpoints and single step are not the guest's.
    let saved = &policy.guest().saved;
    let debug = match (policy.debugger(), debug::wanted(saved)) {
        (Some(external), _) => Some(debug::load(&external.points, external.mdscr())),
        (None, Some(mdscr)) => Some(debug::load(&Points::of_guest(saved), mdscr)),
        (None, None) => {
            if mdscr != 0 {
                write_sysreg!(MDSCR_EL1, 0);
            }
            None
        }
    };
    mpam::enter();
    policy.guest().control.translation.set_again();
    let policy: *mut P = policy;
    // SAFETY: By `InVector` the frame is at the beginning of `policy`, whose address carries access
    // to all of it, for the handlers of the same type. It is borrowed mutably by the caller, and
    // nobody else uses it until this returns.
    let reason = unsafe { loft_enter(policy.cast()) };
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
    Leave::new(reason)
}

/// Warns that a guest was to be run that is not loaded.
#[cold]
#[inline(never)]
fn not_loaded() -> Leave {
    warn_on_once!(true);
    Leave::HostException
}

impl Control {
    /// Puts these into the CPU, where the guest is being loaded or is.
    ///
    /// They are in force when this returns, not only with the ERET: where a speculative AT may use
    /// the guest's regime as soon as HCR_EL2.TGE is 0 (erratum 1165522 and its like), it must not
    /// find another VM's VTTBR_EL2 then.
    fn set(&self) {
        self.translation.set();
        write_sysreg!(VPIDR_EL2, self.midr);
        timer::set_offset(self.virtual_offset);
        timer::trap_physical(self.physical_offset != 0);
        isb();
    }
}

impl HostState {
    /// Returns the guest's registers in the CPU, for as long as the borrow lives.
    fn in_cpu(&mut self) -> InCpu<'_> {
        InCpu(PhantomData)
    }
}

/// Sets the syndrome that a virtual SError brings.
pub(crate) fn set_serror_syndrome(iss: u32) {
    write_sysreg!(VSESR_EL2, iss.into());
}
