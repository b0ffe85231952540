// SPDX-License-Identifier: GPL-2.0
//! Power State Coordination Interface (DEN0022), versions 0.1 to 1.3: what each call asks for.
//!
//! The model decides; the caller, who has the vCPUs and their locks, acts. `decide` needs no state
//! of another vCPU, so that nothing can change between the decision and the act: CPU_ON and
//! AFFINITY_INFO are completed by [`CpuOnOutcome::code`] and [`affinity_info`] under the caller's
//! lock.

use super::sysreg::regs::MPIDR_EL1;

/// A version of the interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // the numbers
pub enum Version {
    V0_1,
    V0_2,
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

impl Version {
    /// The newest: what a VM has unless userspace says otherwise.
    pub const LATEST: Self = Self::V1_3;

    /// Returns the major number in bits 31:16, the minor in 15:0.
    pub const fn bits(self) -> u32 {
        match self {
            Self::V0_1 => 1,
            Self::V0_2 => 2,
            Self::V1_0 => 0x1_0000,
            Self::V1_1 => 0x1_0001,
            Self::V1_2 => 0x1_0002,
            Self::V1_3 => 0x1_0003,
        }
    }

    /// Returns the version with these bits, if it exists.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            1 => Self::V0_1,
            2 => Self::V0_2,
            0x1_0000 => Self::V1_0,
            0x1_0001 => Self::V1_1,
            0x1_0002 => Self::V1_2,
            0x1_0003 => Self::V1_3,
            _ => return None,
        })
    }

    #[inline(always)]
    const fn has(self, least: Self) -> bool {
        self as u8 >= least as u8
    }
}

/// Function identifiers. The 64-bit form of a function has bit 30 set.
#[allow(missing_docs)] // DEN0022's names
pub mod function {
    pub const WIDE: u32 = 1 << 30;
    pub const PSCI_VERSION: u32 = 0x8400_0000;
    pub const CPU_SUSPEND: u32 = 0x8400_0001;
    pub const CPU_SUSPEND_64: u32 = CPU_SUSPEND | WIDE;
    pub const CPU_OFF: u32 = 0x8400_0002;
    pub const CPU_ON: u32 = 0x8400_0003;
    pub const CPU_ON_64: u32 = CPU_ON | WIDE;
    pub const AFFINITY_INFO: u32 = 0x8400_0004;
    pub const AFFINITY_INFO_64: u32 = AFFINITY_INFO | WIDE;
    pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
    pub const SYSTEM_OFF: u32 = 0x8400_0008;
    pub const SYSTEM_RESET: u32 = 0x8400_0009;
    pub const PSCI_FEATURES: u32 = 0x8400_000a;
    pub const SYSTEM_SUSPEND: u32 = 0x8400_000e;
    pub const SYSTEM_SUSPEND_64: u32 = SYSTEM_SUSPEND | WIDE;
    pub const SYSTEM_RESET2: u32 = 0x8400_0012;
    pub const SYSTEM_RESET2_64: u32 = SYSTEM_RESET2 | WIDE;
    pub const SYSTEM_OFF2: u32 = 0x8400_0015;
    pub const SYSTEM_OFF2_64: u32 = SYSTEM_OFF2 | WIDE;
    /// Version 0.1 has no fixed numbers; these are KVM's.
    pub const V0_1_CPU_SUSPEND: u32 = 0x95c1_ba5e;
    pub const V0_1_CPU_OFF: u32 = V0_1_CPU_SUSPEND + 1;
    pub const V0_1_CPU_ON: u32 = V0_1_CPU_SUSPEND + 2;
    pub const V0_1_MIGRATE: u32 = V0_1_CPU_SUSPEND + 3;
}

/// Return codes.
#[allow(missing_docs)] // DEN0022's names
pub mod code {
    pub const SUCCESS: i64 = 0;
    pub const NOT_SUPPORTED: i64 = -1;
    pub const INVALID_PARAMETERS: i64 = -2;
    pub const DENIED: i64 = -3;
    pub const ALREADY_ON: i64 = -4;
    pub const ON_PENDING: i64 = -5;
    pub const INTERNAL_FAILURE: i64 = -6;
    pub const NOT_PRESENT: i64 = -7;
    pub const DISABLED: i64 = -8;
    pub const INVALID_ADDRESS: i64 = -9;
}

/// AFFINITY_INFO's answers.
const AFFINITY_ON: i64 = 0;
const AFFINITY_OFF: i64 = 1;

/// MIGRATE_INFO_TYPE: there is no trusted OS that would have to migrate.
const TRUSTED_OS_NOT_PRESENT: i64 = 2;

/// SYSTEM_RESET2's architectural reset type, and where the vendor's begin.
const WARM_RESET: u32 = 0;
const VENDOR_RESETS: u32 = 0x8000_0000;

/// SYSTEM_OFF2's only type; as a feature bit and as an argument.
const HIBERNATE_OFF: i64 = 1;

/// The affinity fields of an MPIDR.
pub const AFFINITY: u64 = MPIDR_EL1::Aff3.mask()
    | MPIDR_EL1::Aff2.mask()
    | MPIDR_EL1::Aff1.mask()
    | MPIDR_EL1::Aff0.mask();

/// What a call asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing but this in x0.
    Return(i64),
    /// Wait as WFI does, keeping all state; then SUCCESS.
    Suspend,
    /// Stop this vCPU; SUCCESS if it should ever go on without a reset.
    CpuOff,
    /// Start the vCPU with affinity `target` at `entry` with `context` in x0 and the caller's
    /// endianness (SCTLR_EL1.EE); [`CpuOnOutcome::code`] is the answer.
    CpuOn {
        /// Affinity fields of its MPIDR.
        target: u64,
        /// PC.
        entry: u64,
        /// x0.
        context: u64,
    },
    /// [`affinity_info`] is the answer.
    AffinityInfo {
        /// The affinity fields that count.
        mask: u64,
        /// Their values.
        value: u64,
    },
    /// Stop all vCPUs and tell userspace; INTERNAL_FAILURE should the guest ever go on.
    System(SystemEvent),
    /// Tell userspace to suspend; registers stay as they are, userspace reads the arguments there.
    SystemSuspend,
}

/// How a guest ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SystemEvent {
    /// SYSTEM_OFF.
    Off,
    /// SYSTEM_OFF2: power off, with the state saved (KVM_SYSTEM_EVENT_SHUTDOWN_FLAG_PSCI_OFF2).
    Off2,
    /// SYSTEM_RESET.
    Reset,
    /// SYSTEM_RESET2 (KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2).
    Reset2,
}

/// What became of CPU_ON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuOnOutcome {
    /// It was off and starts.
    Started,
    /// It is on, or about to be.
    AlreadyOn,
    /// No vCPU has this affinity.
    NoSuchCpu,
}

impl CpuOnOutcome {
    /// Returns the value for x0.
    pub const fn code(self, version: Version) -> i64 {
        match self {
            Self::Started => code::SUCCESS,
            Self::AlreadyOn if version.has(Version::V0_2) => code::ALREADY_ON,
            Self::AlreadyOn | Self::NoSuchCpu => code::INVALID_PARAMETERS,
        }
    }
}

/// What the decision depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PsciConfig {
    /// The VM's version.
    pub version: Version,
    /// Userspace handles SYSTEM_SUSPEND (KVM_CAP_ARM_SYSTEM_SUSPEND).
    pub system_suspend: bool,
}

/// Returns whether a function identifier is PSCI's.
#[inline(always)]
pub const fn is_psci(function: u32) -> bool {
    number(function).is_some()
        || matches!(
            function,
            self::function::V0_1_CPU_SUSPEND..=self::function::V0_1_MIGRATE
        )
}

/// Returns the number of one of PSCI's functions, but for those of version 0.1: below 32 if it is
/// called with 32 bits, and 32 more with 64.
#[inline(always)]
pub const fn number(function: u32) -> Option<u32> {
    let wide = self::function::WIDE;
    if function & !(wide | 0x1f) == self::function::PSCI_VERSION {
        Some(function & 0x1f | (function & wide) >> 25)
    } else {
        None
    }
}

/// For each function, by its [`number`], the first version that has it.
static SINCE: [u8; 64] = {
    use self::function as f;
    const fn since(mut all: [u8; 64], version: Version, functions: &[u32]) -> [u8; 64] {
        let mut n = 0;
        while n < functions.len() {
            if let Some(number) = number(functions[n]) {
                all[number as usize] = version as u8;
            }
            n += 1;
        }
        all
    }
    let none = [NEVER; 64];
    let first = since(
        none,
        Version::V0_2,
        &[
            f::PSCI_VERSION,
            f::CPU_SUSPEND,
            f::CPU_SUSPEND_64,
            f::CPU_OFF,
            f::CPU_ON,
            f::CPU_ON_64,
            f::AFFINITY_INFO,
            f::AFFINITY_INFO_64,
            f::MIGRATE_INFO_TYPE,
            f::SYSTEM_OFF,
            f::SYSTEM_RESET,
        ],
    );
    let second = since(first, Version::V1_0, &[f::PSCI_FEATURES]);
    let third = since(
        second,
        Version::V1_1,
        &[f::SYSTEM_RESET2, f::SYSTEM_RESET2_64],
    );
    since(third, Version::V1_3, &[f::SYSTEM_OFF2, f::SYSTEM_OFF2_64])
};

/// In [`SINCE`]: none has it, or whether a VM has it is not a matter of the version alone.
const NEVER: u8 = u8::MAX;

impl PsciConfig {
    /// Returns whether a VM has the function with this [`number`].
    #[inline(always)]
    fn has(&self, number: u32) -> bool {
        let suspend = self::function::SYSTEM_SUSPEND & 0x1f;
        SINCE[number as usize % SINCE.len()] <= self.version as u8
            || number & 0x1f == suspend && self.system_suspend && self.version.has(Version::V1_0)
    }
}

/// Returns what the call asks for. `arguments`: x1 to x3.
#[inline(always)]
pub fn decide(config: &PsciConfig, function: u32, arguments: [u64; 3]) -> Action {
    use self::function as f;
    let Some(number) = number(function) else {
        return match function {
            f::V0_1_CPU_OFF if config.version == Version::V0_1 => Action::CpuOff,
            f::V0_1_CPU_ON if config.version == Version::V0_1 => cpu_on(arguments),
            _ => Action::Return(code::NOT_SUPPORTED),
        };
    };
    if !config.has(number) {
        return Action::Return(code::NOT_SUPPORTED);
    }
    let wide = function & f::WIDE != 0;
    let argument = |n: usize| {
        let mask = if wide { u64::MAX } else { u32::MAX.into() };
        arguments[n % arguments.len()] & mask
    };
    const fn is(function: u32) -> u32 {
        function & 0x1f
    }
    const VERSION: u32 = is(f::PSCI_VERSION);
    const SUSPEND: u32 = is(f::CPU_SUSPEND);
    const OFF: u32 = is(f::CPU_OFF);
    const ON: u32 = is(f::CPU_ON);
    const INFO: u32 = is(f::AFFINITY_INFO);
    const MIGRATE: u32 = is(f::MIGRATE_INFO_TYPE);
    const SYSTEM_OFF: u32 = is(f::SYSTEM_OFF);
    const RESET: u32 = is(f::SYSTEM_RESET);
    const FEATURES: u32 = is(f::PSCI_FEATURES);
    const SYSTEM_SUSPEND: u32 = is(f::SYSTEM_SUSPEND);
    const RESET2: u32 = is(f::SYSTEM_RESET2);
    const OFF2: u32 = is(f::SYSTEM_OFF2);
    match is(number) {
        VERSION => Action::Return(config.version.bits().into()),
        SUSPEND => Action::Suspend,
        OFF => Action::CpuOff,
        ON => cpu_on([argument(0), argument(1), argument(2)]),
        INFO => decide_affinity_info(argument(0), argument(1)),
        MIGRATE => Action::Return(TRUSTED_OS_NOT_PRESENT),
        SYSTEM_OFF => Action::System(SystemEvent::Off),
        RESET => Action::System(SystemEvent::Reset),
        FEATURES => Action::Return(features(config, argument(0) as u32)),
        SYSTEM_SUSPEND => Action::SystemSuspend,
        RESET2 => match argument(0) as u32 {
            WARM_RESET | VENDOR_RESETS.. => Action::System(SystemEvent::Reset2),
            _ => Action::Return(code::INVALID_PARAMETERS),
        },
        OFF2 => match (argument(0) as u32, argument(1)) {
            (0 | 1, 0) => Action::System(SystemEvent::Off2),
            _ => Action::Return(code::INVALID_PARAMETERS),
        },
        _ => Action::Return(code::NOT_SUPPORTED),
    }
}

/// Returns the answer to PSCI_FEATURES: SUCCESS or the function's feature bits.
#[inline(always)]
pub fn features(config: &PsciConfig, function: u32) -> i64 {
    match number(function) {
        Some(number) if config.has(number) => {
            if function & !self::function::WIDE == self::function::SYSTEM_OFF2 {
                HIBERNATE_OFF
            } else {
                code::SUCCESS
            }
        }
        None if function == super::smccc::function::VERSION => code::SUCCESS,
        _ => code::NOT_SUPPORTED,
    }
}

#[inline(always)]
const fn cpu_on([target, entry, context]: [u64; 3]) -> Action {
    if target & !AFFINITY != 0 {
        Action::Return(code::INVALID_PARAMETERS)
    } else {
        Action::CpuOn {
            target,
            entry,
            context,
        }
    }
}

#[inline(always)]
const fn decide_affinity_info(target: u64, lowest_level: u64) -> Action {
    // Of the affinities, those from the given level up count; level 3 is Aff3 alone, at bit 32.
    let mask = match lowest_level {
        0 => AFFINITY,
        1 => AFFINITY & !0xff,
        2 => AFFINITY & !0xffff,
        3 => AFFINITY & !0xff_ffff,
        _ => return Action::Return(code::INVALID_PARAMETERS),
    };
    if target & !AFFINITY != 0 {
        Action::Return(code::INVALID_PARAMETERS)
    } else {
        Action::AffinityInfo {
            mask,
            value: target & mask,
        }
    }
}

/// Returns AFFINITY_INFO's answer: on if any vCPU that matches is on. `vcpus`: each one's MPIDR and
/// whether it is on.
pub fn affinity_info(mask: u64, value: u64, vcpus: impl IntoIterator<Item = (u64, bool)>) -> i64 {
    let mut answer = code::INVALID_PARAMETERS;
    for (mpidr, on) in vcpus {
        if mpidr & mask == value {
            if on {
                return AFFINITY_ON;
            }
            answer = AFFINITY_OFF;
        }
    }
    answer
}
