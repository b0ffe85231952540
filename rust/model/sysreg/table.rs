// SPDX-License-Identifier: GPL-2.0
//! The table of system registers: one row per register that a guest or its VMM can see, in the
//! order of the encodings.
//!
//! The row drives everything: what a trapped access does, where the value is, what reset makes of
//! it, whether ONE_REG and GET_REG_LIST have it. A register without a row is UNDEFINED for the
//! guest and unknown to userspace: that is how whatever loft does not virtualise is hidden (PMU,
//! SVE, SME, MTE, trace, activity monitors, MPAM, permission overlays, SCXTNUM, everything
//! implementation defined, EL2).

use super::context::Reg;
use super::idregs::{IdReg, IdRegs};
use super::regs;
use super::rows::TABLE;
use super::Encoding;
use crate::speculation;

/// One register.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The architecture's name.
    pub name: &'static str,
    /// Its encoding.
    pub encoding: Encoding,
    /// When the register exists at all; otherwise as if it had no row.
    pub when: When,
    /// Where its value is.
    pub storage: Storage,
    /// What a guest's access does, if it traps.
    pub guest: Guest,
    /// What userspace may do.
    pub user: User,
    /// Its value after reset, where that is not another's business (identification registers,
    /// timers, GIC).
    pub reset: Reset,
}

/// Where a register's value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// In the CPU while the vCPU is loaded, in the context otherwise.
    Loaded(Reg),
    /// In memory, and exchanged with the host's by each entry and exit: the pointer authentication
    /// key APIA, which the host's kernel uses.
    SwitchedAtEntry(Reg),
    /// In the context; in the CPU while the guest owns the debug registers.
    Debug(Reg),
    /// In the context only.
    Memory(Reg),
    /// In the VM's identification registers.
    Id(IdReg),
    /// The generic timer's.
    Timer(TimerReg),
    /// The interrupt controller's.
    Gic(GicReg),
    /// CCSIDR_EL1: the geometry of the cache that CSSELR_EL1 selects.
    CacheGeometry,
    /// OSLAR_EL1: bit 0 goes to OSLSR_EL1.OSLK.
    OsLock,
    /// Data cache maintenance by set/way.
    SetWay,
    /// FPMR, which is with the FP registers.
    Fpmr,
    /// Always this value.
    Const(u64),
}

/// A register of the generic timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the architecture's names
pub enum TimerReg {
    CntvCtl,
    CntvCval,
    CntvTval,
    Cntvct,
    CntpCtl,
    CntpCval,
    CntpTval,
    Cntpct,
}

/// A register of the GIC's CPU interface that traps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GicReg {
    /// ICC_SGI1R_EL1: send a group 1 SGI.
    Sgi1,
    /// ICC_ASGI1R_EL1: send an SGI of the other security state's group 1; with one security state,
    /// as group 0.
    Asgi1,
    /// ICC_SGI0R_EL1: send a group 0 SGI.
    Sgi0,
    /// ICC_SRE_EL1: reads as 7 (SRE, DFB, DIB), fixed.
    Sre,
    /// ICC_DIR_EL1: deactivate; traps only with ICH_HCR_EL2.TDIR.
    Dir,
}

/// What a trapped access of the guest does. An access that is not named is UNDEFINED.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guest {
    /// Reads and writes reach the value.
    ReadWrite,
    /// Reads reach the value.
    ReadOnly,
    /// Writes reach the value.
    WriteOnly,
    /// Reads reach the value, writes are ignored.
    WriteIgnored,
    /// Reads as zero, writes are ignored.
    RazWi,
    /// The register is there for userspace only.
    Undefined,
}

impl Guest {
    /// Returns whether this access is UNDEFINED.
    pub const fn is_undefined(self, write: bool) -> bool {
        match self {
            Self::ReadWrite | Self::WriteIgnored | Self::RazWi => false,
            Self::ReadOnly => write,
            Self::WriteOnly => !write,
            Self::Undefined => true,
        }
    }
}

/// What ONE_REG does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum User {
    /// Not there: -ENOENT, not listed.
    Hidden,
    /// Get and set the value as it is.
    Plain,
    /// OSLSR_EL1: only OSLK may be changed ([`set_oslsr`]).
    OsLock,
    /// CLIDR_EL1: must suit CTR_EL0 ([`set_clidr`](super::cache::set_clidr)).
    Clidr,
    /// [`IdRegs::set`] decides.
    IdReg,
    /// MIDR, REVIDR, AIDR: only the present value, unless the VM made them writable
    /// ([`IdRegs::set_implementation`]).
    Implementation,
    /// Through the timer: setting a counter moves its offset, CTL's ISTATUS is ignored.
    Timer,
}

/// A register's value after reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// This value. What the architecture leaves UNKNOWN is zero.
    To(u64),
    /// [`mpidr`] of the vCPU's number.
    Mpidr,
    /// [`clidr`](super::cache::clidr) of CTR_EL0.
    Clidr,
    /// Not in this table.
    Elsewhere,
}

/// The condition for a register to exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// It always does.
    Always,
    /// FEAT_PAuth is in the guest's identification registers.
    PointerAuth,
    /// FEAT_RAS is.
    Ras,
    /// FEAT_LOR is.
    Lor,
    /// The VM has an in-kernel GICv3.
    Gic,
    /// FEAT_ECV is.
    SelfSynchronised,
    /// FEAT_RASv1p1 is.
    RasV1p1,
    /// FEAT_TCR2 is.
    Tcr2,
    /// FEAT_SCTLR2 is.
    Sctlr2,
    /// FEAT_S1PIE is.
    PermissionIndirection,
    /// FEAT_FPMR is.
    Fpmr,
}

/// What of [`When`] holds for a VM. Made once, when its identification registers can no longer
/// change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestFeatures(u16);

// The bits of `When` are below the three that are none of it.
const _: () = assert!(GuestFeatures::bit(When::Fpmr) < GuestFeatures::WFXT);

impl GuestFeatures {
    /// Reads the features from the guest's identification registers; `gic`: whether the VM has an
    /// in-kernel GICv3.
    pub fn new(ids: &IdRegs, gic: bool) -> Self {
        use regs::{
            ID_AA64ISAR2_EL1 as I2, ID_AA64MMFR0_EL1 as M0, ID_AA64MMFR1_EL1 as M1,
            ID_AA64MMFR2_EL1 as M2, ID_AA64MMFR3_EL1 as M3, ID_AA64PFR0_EL1 as P0,
            ID_AA64PFR1_EL1 as P1, ID_AA64PFR2_EL1 as P2,
        };
        let mut bits = Self::bit(When::Always);
        // Whatever is not zero has it.
        for (bit, register, field) in [
            (Self::bit(When::Ras), P0::ENCODING, P0::RAS),
            (Self::bit(When::Lor), M1::ENCODING, M1::LO),
            (Self::bit(When::SelfSynchronised), M0::ENCODING, M0::ECV),
            (Self::bit(When::Tcr2), M3::ENCODING, M3::TCRX),
            (Self::bit(When::Sctlr2), M3::ENCODING, M3::SCTLRX),
            (
                Self::bit(When::PermissionIndirection),
                M3::ENCODING,
                M3::S1PIE,
            ),
            (Self::bit(When::Fpmr), P2::ENCODING, P2::FPMR),
            (Self::WFXT, I2::ENCODING, I2::WFxT),
            (Self::IDST, M2::ENCODING, M2::IDS),
        ] {
            if ids.field(register, field) != 0 {
                bits |= bit;
            }
        }
        // Version 1.1 is known by either of two fields (DDI 0487, ID_AA64PFR1_EL1.RAS_frac).
        let ras = ids.field(P0::ENCODING, P0::RAS);
        if ras >= P0::RAS_V1P1 || ras != 0 && ids.field(P1::ENCODING, P1::RAS_frac) != 0 {
            bits |= Self::bit(When::RasV1p1);
        }
        if ids.has_pointer_auth() {
            bits |= Self::bit(When::PointerAuth);
        }
        if gic {
            bits |= Self::bit(When::Gic);
        }
        if ids.has_aarch32() {
            bits |= Self::AARCH32;
        }
        Self(bits)
    }

    const AARCH32: u16 = 1 << 13;
    const IDST: u16 = 1 << 12;
    const WFXT: u16 = 1 << 11;

    const fn bit(when: When) -> u16 {
        1 << when as u16
    }

    /// Returns whether the guest has FEAT_IDST: how a read of a missing identification register is
    /// reported ([`crate::model::esr::Esr::undefined_sysreg`]).
    pub const fn idst(self) -> bool {
        self.0 & Self::IDST != 0
    }

    /// Returns whether the guest has AArch32 at EL0.
    pub const fn aarch32(self) -> bool {
        self.0 & Self::AARCH32 != 0
    }

    /// Returns whether the guest has FEAT_WFxT: WFIT and WFET.
    pub const fn timed_waits(self) -> bool {
        self.0 & Self::WFXT != 0
    }

    /// Returns whether the condition holds.
    pub const fn has(self, when: When) -> bool {
        matches!(when, When::Always) || self.0 & Self::bit(when) != 0
    }
}

impl Row {
    pub(super) const fn new(
        name: &'static str,
        encoding: Encoding,
        storage: Storage,
        guest: Guest,
        user: User,
    ) -> Self {
        Self {
            name,
            encoding,
            when: When::Always,
            storage,
            guest,
            user,
            reset: Reset::Elsewhere,
        }
    }

    pub(super) const fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    pub(super) const fn reset(self, reset: Reset) -> Self {
        Self { reset, ..self }
    }

    pub(super) const fn guest(self, guest: Guest) -> Self {
        Self { guest, ..self }
    }

    pub(super) const fn user(self, user: User) -> Self {
        Self { user, ..self }
    }

    /// Makes the row of a register of the context that the guest may write, and that userspace
    /// saves and restores; zero after reset.
    pub(super) const fn stored(name: &'static str, encoding: Encoding, storage: Storage) -> Self {
        Self::new(name, encoding, storage, Guest::ReadWrite, User::Plain).reset(Reset::To(0))
    }

    /// Makes it the row of a register of the context that never traps, and that userspace has among
    /// the core registers (KVM_REG_ARM_CORE).
    pub(super) const fn core(self) -> Self {
        self.guest(Guest::Undefined).user(User::Hidden)
    }

    pub(super) const fn raz_wi(name: &'static str, encoding: Encoding) -> Self {
        Self::new(
            name,
            encoding,
            Storage::Const(0),
            Guest::RazWi,
            User::Hidden,
        )
    }

    pub(super) const fn write_only(
        name: &'static str,
        encoding: Encoding,
        storage: Storage,
    ) -> Self {
        Self::new(name, encoding, storage, Guest::WriteOnly, User::Hidden)
    }

    pub(super) const fn id(name: &'static str, encoding: Encoding, user: User) -> Self {
        match IdReg::new(encoding) {
            Some(id) => Self::new(name, encoding, Storage::Id(id), Guest::ReadOnly, user),
            None => panic!("not an identification register"),
        }
    }

    pub(super) const fn timer(
        name: &'static str,
        encoding: Encoding,
        reg: TimerReg,
        user: User,
    ) -> Self {
        let guest = match reg {
            TimerReg::Cntvct | TimerReg::Cntpct => Guest::ReadOnly,
            _ => Guest::ReadWrite,
        };
        Self::new(name, encoding, Storage::Timer(reg), guest, user)
    }

    /// Returns the register of the context that holds the value, if one does.
    pub const fn context(&self) -> Option<Reg> {
        match self.storage {
            Storage::Loaded(reg)
            | Storage::SwitchedAtEntry(reg)
            | Storage::Debug(reg)
            | Storage::Memory(reg) => Some(reg),
            _ => None,
        }
    }

    /// Returns whether a VM with `features` has the register.
    pub const fn exists(&self, features: GuestFeatures) -> bool {
        features.has(self.when)
    }

    /// Returns whether ONE_REG reaches the register.
    pub fn is_listed(&self, features: GuestFeatures) -> bool {
        self.user != User::Hidden && self.exists(features)
    }
}

/// Returns the row of an encoding; `None` is UNDEFINED for the guest and -ENOENT for userspace.
/// Whether the VM has the register: [`Row::exists`].
#[inline(always)]
pub fn lookup(encoding: Encoding) -> Option<&'static Row> {
    let bits = usize::from(encoding.bits());
    let page = INDEX.page[speculation::wrap::<GROUPS>(bits / GROUP)];
    let rows = &INDEX.rows[usize::from(page) % PAGES];
    TABLE.get(usize::from(rows[speculation::wrap::<GROUP>(bits)]))
}

/// How many registers have op0, op1 and CRn in common, at most, and how many such groups there are.
const GROUP: usize = 1 << 7;
const GROUPS: usize = 1 << 9;
/// How many of them have rows, at most; the first page is of those without.
const PAGES: usize = 32;

/// Where the rows of [`TABLE`] are: a guest's access is not to cost a search.
struct RowIndex {
    page: [u8; GROUPS],
    /// For each CRm and op2 the row, or a number that none has.
    rows: [[u8; GROUP]; PAGES],
}

static INDEX: RowIndex = {
    assert!(TABLE.len() < u8::MAX as usize);
    let mut index = RowIndex {
        page: [0; GROUPS],
        rows: [[u8::MAX; GROUP]; PAGES],
    };
    let (mut pages, mut n) = (1, 0);
    while n < TABLE.len() {
        let bits = TABLE[n].encoding.bits() as usize;
        if index.page[bits / GROUP] == 0 {
            index.page[bits / GROUP] = pages;
            pages += 1;
        }
        index.rows[index.page[bits / GROUP] as usize][bits % GROUP] = n as u8;
        n += 1;
    }
    index
};

/// Returns the registers of a vCPU's context with their values after reset: `number` is the vCPU's,
/// `ctr` the guest's CTR_EL0. Without `identity`, those that tell which vCPU it is are left out:
/// MPIDR_EL1 and CLIDR_EL1, which userspace may have set.
pub fn reset_values(number: u32, ctr: u64, identity: bool) -> impl Iterator<Item = (Reg, u64)> {
    TABLE.iter().filter_map(move |row| {
        let value = match row.reset {
            Reset::To(value) => value,
            Reset::Mpidr if identity => mpidr(number),
            Reset::Clidr if identity => super::cache::clidr(ctr),
            Reset::Mpidr | Reset::Clidr | Reset::Elsewhere => return None,
        };
        Some((row.context()?, value))
    })
}

/// PSTATE after reset: EL1h, with debug exceptions, SError, IRQ and FIQ masked.
pub const RESET_PSTATE: u64 = regs::SPSR_EL1::M_EL1h
    | regs::SPSR_EL1::D.mask()
    | regs::SPSR_EL1::A.mask()
    | regs::SPSR_EL1::I.mask()
    | regs::SPSR_EL1::F.mask();

/// SCTLR_EL1 after reset: MMU and caches off, little endian, and ones where a CPU without the later
/// features has RES1.
pub const RESET_SCTLR: u64 = regs::SCTLR_EL1::SA.mask()
    | regs::SCTLR_EL1::SA0.mask()
    | regs::SCTLR_EL1::CP15BEN.mask()
    | regs::SCTLR_EL1::nAA.mask()
    | regs::SCTLR_EL1::nTWI.mask()
    | regs::SCTLR_EL1::nTWE.mask()
    | regs::SCTLR_EL1::EIS.mask()
    | regs::SCTLR_EL1::SPAN.mask();

/// OSLSR_EL1 after reset: the OS lock is implemented (OSLM is 0b10) and open.
pub const RESET_OSLSR: u64 = regs::OSLSR_EL1::OSLM1.mask();

/// Returns MPIDR_EL1 of a vCPU: 16 vCPUs per Aff0, because an SGI's target list has 16 bits; 256
/// Aff0 groups per Aff1.
pub const fn mpidr(vcpu: u32) -> u64 {
    regs::MPIDR_EL1::RES1
        | regs::MPIDR_EL1::Aff0.of((vcpu & 15) as u64)
        | regs::MPIDR_EL1::Aff1.of(((vcpu >> 4) & 255) as u64)
        | regs::MPIDR_EL1::Aff2.of(((vcpu >> 12) & 255) as u64)
}

/// Returns what OSLSR_EL1 becomes when userspace sets it to `value`; `None` is -EINVAL: only OSLK
/// can change.
pub const fn set_oslsr(value: u64) -> Option<u64> {
    if (value ^ RESET_OSLSR) & !regs::OSLSR_EL1::OSLK.mask() == 0 {
        Some(value)
    } else {
        None
    }
}
