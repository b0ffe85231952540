// SPDX-License-Identifier: GPL-2.0
//! The values of a VM's identification registers.
//!
//! They start from what the host kernel found on all CPUs ("sanitised"), lose everything that loft
//! does not virtualise ([`super::id_rules`] has one line per field that is left), and may then be
//! lowered by userspace until the VM runs.

use super::id_rules::{FieldRule, Safe, Take, RULES};
use super::regs;
use super::Encoding;

/// An identification register: op0 3, op1 0, CRn 0, CRm 1-7, and CTR, MIDR, REVIDR, AIDR. An index
/// into [`IdRegs`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct IdReg(u8);

const GROUP: usize = 56;
const OTHERS: [Encoding; 4] = [
    regs::CTR_EL0::ENCODING,
    regs::MIDR_EL1::ENCODING,
    regs::REVIDR_EL1::ENCODING,
    regs::AIDR_EL1::ENCODING,
];

impl IdReg {
    /// How many there are.
    pub const COUNT: usize = GROUP + OTHERS.len();
    /// CTR_EL0.
    pub const CTR: Self = Self::known(regs::CTR_EL0::ENCODING);
    /// MIDR_EL1.
    pub const MIDR: Self = Self::known(regs::MIDR_EL1::ENCODING);
    /// ID_AA64PFR0_EL1.
    pub const AA64PFR0: Self = Self::known(regs::ID_AA64PFR0_EL1::ENCODING);
    /// ID_AA64PFR1_EL1.
    pub const AA64PFR1: Self = Self::known(regs::ID_AA64PFR1_EL1::ENCODING);
    /// ID_AA64ISAR1_EL1.
    pub const AA64ISAR1: Self = Self::known(regs::ID_AA64ISAR1_EL1::ENCODING);
    /// ID_AA64ISAR2_EL1.
    pub const AA64ISAR2: Self = Self::known(regs::ID_AA64ISAR2_EL1::ENCODING);

    /// Returns the register with this encoding, in a constant.
    const fn known(encoding: Encoding) -> Self {
        match Self::new(encoding) {
            Some(id) => id,
            None => panic!("not an identification register"), // while compiling
        }
    }

    /// Returns the register with this encoding, if it is one.
    pub const fn new(encoding: Encoding) -> Option<Self> {
        const FIRST: u16 = Encoding::new(3, 0, 0, 1, 0).bits();
        const LAST: u16 = Encoding::new(3, 0, 0, 7, 7).bits();
        let bits = encoding.bits();
        if bits >= FIRST && bits <= LAST {
            return Some(Self((bits - FIRST) as u8));
        }
        let mut at = 0;
        while at < OTHERS.len() {
            if OTHERS[at].bits() == bits {
                return Some(Self((GROUP + at) as u8));
            }
            at += 1;
        }
        None
    }

    /// Returns its encoding.
    pub const fn encoding(self) -> Encoding {
        let at = self.0 as usize;
        if at < GROUP {
            Encoding::from_bits(Encoding::new(3, 0, 0, 1, 0).bits() + self.0 as u16)
        } else {
            // INVARIANT: `new` is the only constructor, so the index is below COUNT.
            OTHERS[(at - GROUP) % OTHERS.len()]
        }
    }

    /// Returns its place in a register file of [`Self::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns whether it describes AArch32 (CRm 1-3): zero without AArch32.
    pub const fn is_aarch32(self) -> bool {
        self.0 < 24
    }

    /// Returns whether it is one of those of AArch32 that a VM has, where the host has AArch32 at
    /// EL0: not the hidden (ID_AFR0, ID_DFR1) and unallocated ones, which take zero only.
    const fn is_aarch32_feature(self) -> bool {
        const AFR0: u8 = 3;
        const UNALLOCATED: u8 = 19;
        const DFR1: u8 = 21;
        const UNALLOCATED_TOO: u8 = 23;
        self.is_aarch32() && !matches!(self.0, AFR0 | UNALLOCATED | DFR1 | UNALLOCATED_TOO)
    }

    /// Returns whether it is one of MIDR, REVIDR, AIDR, which describe the implementation and not
    /// its features.
    pub const fn is_implementation(self) -> bool {
        self.0 as usize > GROUP
    }

    /// Returns those of AArch32 that a VM may have.
    pub fn aarch32_features() -> impl Iterator<Item = Self> {
        (0..24).map(Self).filter(|id| id.is_aarch32_feature())
    }

    fn rules(self) -> impl Iterator<Item = &'static FieldRule> {
        RULES
            .iter()
            .filter(move |rule| rule.register == self.encoding())
    }

    /// Returns the bits that userspace may change.
    pub fn writable(self) -> u64 {
        match self.encoding() {
            regs::MIDR_EL1::ENCODING => u64::from(u32::MAX),
            regs::REVIDR_EL1::ENCODING | regs::AIDR_EL1::ENCODING => u64::MAX,
            _ if self.is_aarch32_feature() => u64::from(u32::MAX),
            _ => self
                .rules()
                .filter(|rule| rule.writable)
                .fold(0, |mask, rule| mask | rule.field.mask()),
        }
    }
}

/// The registers whose value on the host [`IdRegs::for_guest`] uses: the only ones that the caller
/// must fill in, with [`IdReg::aarch32_features`]. MIDR, REVIDR and AIDR are the boot CPU's, the
/// others what `read_sanitised_ftr_reg` says.
pub const HOST_SOURCES: [IdReg; 18] = [
    IdReg::known(regs::ID_AA64PFR0_EL1::ENCODING),
    IdReg::known(regs::ID_AA64PFR1_EL1::ENCODING),
    IdReg::known(regs::ID_AA64PFR2_EL1::ENCODING),
    IdReg::known(regs::ID_AA64FPFR0_EL1::ENCODING),
    IdReg::known(regs::ID_AA64DFR0_EL1::ENCODING),
    IdReg::known(regs::ID_AA64ISAR0_EL1::ENCODING),
    IdReg::known(regs::ID_AA64ISAR1_EL1::ENCODING),
    IdReg::known(regs::ID_AA64ISAR2_EL1::ENCODING),
    IdReg::known(regs::ID_AA64ISAR3_EL1::ENCODING),
    IdReg::known(regs::ID_AA64MMFR0_EL1::ENCODING),
    IdReg::known(regs::ID_AA64MMFR1_EL1::ENCODING),
    IdReg::known(regs::ID_AA64MMFR2_EL1::ENCODING),
    IdReg::known(regs::ID_AA64MMFR3_EL1::ENCODING),
    IdReg::known(regs::ID_AA64MMFR4_EL1::ENCODING),
    IdReg::known(regs::CTR_EL0::ENCODING),
    IdReg::known(regs::MIDR_EL1::ENCODING),
    IdReg::known(regs::REVIDR_EL1::ENCODING),
    IdReg::known(regs::AIDR_EL1::ENCODING),
];

/// Returns whether that list has a register.
// Called while this is compiled only, which the lint does not see.
#[allow(dead_code)]
const fn is_host_source(encoding: Encoding) -> bool {
    let mut at = 0;
    while at < HOST_SOURCES.len() {
        if HOST_SOURCES[at].encoding().bits() == encoding.bits() {
            return true;
        }
        at += 1;
    }
    false
}

const _: () = {
    let mut at = 0;
    while at < RULES.len() {
        let rule = &RULES[at];
        assert!(
            !rule.take.needs_host() || is_host_source(rule.register),
            "a rule uses the host's value of a register that HOST_SOURCES has not"
        );
        at += 1;
    }
};

/// What the values depend on besides the host's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdConfig {
    /// The VM's vCPUs have pointer authentication (KVM_ARM_VCPU_PTRAUTH_*).
    pub pointer_auth: bool,
    /// The host has a GICv3, so that a VM may have one.
    pub gic: bool,
    /// No CPU of the host is affected by Spectre variant 2: the guest may see CSV2 although the CPU
    /// does not say so.
    pub spectre_v2_unaffected: bool,
    /// No CPU of the host is affected by Meltdown: the guest may see CSV3 although the CPU does not
    /// say so.
    pub meltdown_unaffected: bool,
}

/// Why userspace may not set a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdError {
    /// -EINVAL: more than the host has, or a field that cannot change, or a value below the least.
    Invalid,
    /// -EBUSY: the VM has run, the value is fixed.
    Fixed,
}

/// The identification registers of a VM (or of the host).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdRegs {
    values: [u64; IdReg::COUNT],
}

impl Default for IdRegs {
    fn default() -> Self {
        Self::new()
    }
}

impl IdRegs {
    /// Makes registers that are all zero, to be filled with [`Self::assign`].
    pub const fn new() -> Self {
        Self {
            values: [0; IdReg::COUNT],
        }
    }

    /// Returns the value that a read gives.
    pub fn get(&self, id: IdReg) -> u64 {
        self.values.get(id.index()).copied().unwrap_or(0)
    }

    /// Puts in a value without any check.
    pub fn assign(&mut self, id: IdReg, value: u64) {
        if let Some(slot) = self.values.get_mut(id.index()) {
            *slot = value;
        }
    }

    /// Returns the field of the register with this encoding; zero if that is no identification
    /// register.
    pub fn field(&self, encoding: Encoding, field: super::Field) -> u64 {
        IdReg::new(encoding).map_or(0, |id| field.get(self.get(id)))
    }

    /// Returns whether FEAT_PAuth is there in any of its forms.
    pub fn has_pointer_auth(&self) -> bool {
        use regs::{ID_AA64ISAR1_EL1 as I1, ID_AA64ISAR2_EL1 as I2};
        let one = I1::APA.mask() | I1::API.mask() | I1::GPA.mask() | I1::GPI.mask();
        let two = I2::APA3.mask() | I2::GPA3.mask();
        self.get(IdReg::AA64ISAR1) & one != 0 || self.get(IdReg::AA64ISAR2) & two != 0
    }

    /// Returns whether AArch32 is there, at EL0.
    pub fn has_aarch32(&self) -> bool {
        use regs::ID_AA64PFR0_EL1 as P;
        P::EL0.get(self.get(IdReg::AA64PFR0)) == P::EL0_AARCH32
    }

    /// Returns whether FEAT_MOPS is there.
    pub fn has_mops(&self) -> bool {
        use regs::ID_AA64ISAR2_EL1 as I2;
        I2::MOPS.get(self.get(IdReg::AA64ISAR2)) != 0
    }

    /// Returns what a new VM sees on this host.
    pub fn for_guest(host: &Self, config: &IdConfig) -> Self {
        let mut guest = Self::new();
        for rule in RULES {
            if let Some(id) = IdReg::new(rule.register) {
                let value = rule.value(host.get(id), config);
                guest.assign(id, rule.field.with(guest.get(id), value));
            }
        }
        guest.assign(IdReg::CTR, guest.get(IdReg::CTR) | regs::CTR_EL0::RES1);
        if host.has_aarch32() {
            for id in IdReg::aarch32_features() {
                guest.assign(id, aarch32::of_host(id, host.get(id)));
            }
        }
        for encoding in OTHERS {
            if let Some(id) = IdReg::new(encoding).filter(|id| id.is_implementation()) {
                guest.assign(id, host.get(id));
            }
        }
        guest
    }

    /// Sets for userspace a feature register of a VM that has not run (`ran` is false) or has.
    /// `limit` is what [`Self::for_guest`] gave.
    ///
    /// A field that userspace may change takes the limit's value or a safer one; all others only
    /// the limit's. Where the host has no AArch32, most of its registers take anything and keep
    /// nothing.
    pub fn set(&mut self, limit: &Self, id: IdReg, value: u64, ran: bool) -> Result<(), IdError> {
        if id.is_aarch32_feature() && !limit.has_aarch32() {
            return Ok(());
        }
        if ran {
            return if value == self.get(id) {
                Ok(())
            } else {
                Err(IdError::Fixed)
            };
        }
        let value = forgive(id, value);
        let most = limit.get(id);
        if id.is_aarch32_feature() && !aarch32::allows(id, most, value) {
            return Err(IdError::Invalid);
        }
        if value & !id.writable() != most & !id.writable() {
            return Err(IdError::Invalid);
        }
        if id
            .rules()
            .any(|rule| rule.writable && !rule.allows(most, value))
        {
            return Err(IdError::Invalid);
        }
        self.assign(id, value);
        Ok(())
    }

    /// Sets MIDR, REVIDR or AIDR for userspace: any value if the VM made them writable
    /// (KVM_CAP_ARM_WRITABLE_IMP_ID_REGS) and has not run, else only the present one.
    pub fn set_implementation(
        &mut self,
        id: IdReg,
        value: u64,
        writable: bool,
        ran: bool,
    ) -> Result<(), IdError> {
        if value == self.get(id) {
            Ok(())
        } else if !writable {
            Err(IdError::Invalid)
        } else if ran {
            Err(IdError::Fixed)
        } else if value & !id.writable() != 0 {
            Err(IdError::Invalid)
        } else {
            self.assign(id, value);
            Ok(())
        }
    }

    /// Takes the last step before the VM first runs: whether it has an in-kernel GICv3 is known
    /// now, whatever userspace set.
    pub fn finalize(&mut self, gic: bool) {
        use regs::ID_AA64PFR0_EL1 as P;
        let value = if gic { P::GIC_IMP } else { P::GIC_NI };
        let pfr0 = self.get(IdReg::AA64PFR0);
        self.assign(IdReg::AA64PFR0, P::GIC.with(pfr0, value));
    }
}

/// Takes a PMU that is not PMUv3 for none: it has always been shown as such by mistake.
fn forgive(id: IdReg, value: u64) -> u64 {
    use regs::{ID_AA64DFR0_EL1 as D, ID_DFR0_EL1 as D32};
    match id.encoding() {
        D::ENCODING if D::PMUVer.get(value) == D::PMUVer_IMP_DEF => {
            D::PMUVer.with(value, D::PMUVer_NI)
        }
        D32::ENCODING if D32::PerfMon.get(value) == D32::PerfMon_IMPDEF => {
            D32::PerfMon.with(value, 0)
        }
        _ => value,
    }
}

/// The registers of AArch32. Whether a guest has any of it is in ID_AA64PFR0_EL1.EL0; what else
/// there is to hide is little, so that they have no rules: a VM has the host's.
mod aarch32 {
    use super::IdReg;
    use crate::model::sysreg::{regs, Field};
    use regs::{ID_DFR0_EL1 as D, ID_MMFR0_EL1 as M0, ID_MMFR4_EL1 as M4};

    /// Returns what a new VM has where the host has `host`.
    pub(super) fn of_host(id: IdReg, host: u64) -> u64 {
        match id.encoding() {
            // No PMU, and what comes after the one for self-hosted debug is for others.
            D::ENCODING => {
                let debug = D::CopDbg.get(host).min(D::CopDbg_Debugv8p8);
                D::CopDbg.with(D::PerfMon.with(host, 0), debug)
            }
            // Cache geometry has the older format.
            M4::ENCODING => M4::CCIDX.with(host, 0),
            _ => host,
        }
    }

    /// Returns whether userspace may set `value`, where `most` is there: no field is to be more,
    /// as a number.
    pub(super) fn allows(id: IdReg, most: u64, value: u64) -> bool {
        value <= u64::from(u32::MAX)
            && (0..8).all(|at| {
                let field = Field::new(4 * at, 4);
                let (had, has) = (field.get(most), field.get(value));
                had == has
                    || match (id.encoding(), field.shift()) {
                        (D::ENCODING, CP_DEBUG) => has >= D::CopDbg_Armv8 && has < had,
                        (D::ENCODING, PERFMON) => has == 0,
                        (M4::ENCODING, SPEC_SEI) => has > had,
                        (M0::ENCODING, INNER | OUTER) => (has + 8 & 15) < (had + 8 & 15),
                        _ => has < had,
                    }
            })
    }

    const CP_DEBUG: u32 = D::CopDbg.shift();
    const PERFMON: u32 = D::PerfMon.shift();
    const SPEC_SEI: u32 = M4::SpecSEI.shift();
    /// Numbers with a sign: "ignored" is -1.
    const INNER: u32 = M0::InnerShr.shift();
    const OUTER: u32 = M0::OuterShr.shift();
}

impl FieldRule {
    /// Returns the field's bits in a new VM, on a host whose register is `host`.
    fn value(&self, host: u64, config: &IdConfig) -> u64 {
        let raw = self.field.get(host);
        match self.take {
            Take::Host => raw,
            Take::AtMost(most) => {
                if self.field.number(host) > most as i64 {
                    most
                } else {
                    raw
                }
            }
            Take::Fixed(value) => value,
            Take::PointerAuth => {
                if config.pointer_auth {
                    raw
                } else {
                    0
                }
            }
            Take::Gic => config.gic.into(),
            Take::Csv2 => csv(raw, config.spectre_v2_unaffected),
            Take::Csv3 => csv(raw, config.meltdown_unaffected),
        }
    }

    /// Returns whether userspace may give the field its value in `new`, where at most its value in
    /// `limit` is there.
    fn allows(&self, limit: u64, new: u64) -> bool {
        let (most, value) = (self.field.number(limit), self.field.number(new));
        value == most
            || value >= i64::from(self.least)
                && match self.safe {
                    Safe::Lower => value < most,
                    Safe::Higher => value > most,
                    Safe::Exactly(safe) => value == i64::from(safe),
                }
    }
}

/// Returns CSV2 or CSV3: 1 at most (CSV2's 2 promises SCXTNUM_EL1), 1 also where the host knows
/// better than the CPU.
fn csv(host: u64, unaffected: bool) -> u64 {
    u64::from(unaffected || host != 0)
}
