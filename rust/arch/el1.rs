// SPDX-License-Identifier: GPL-2.0

//! The guest's EL1 and EL0 registers: in memory ([`Saved`]) or in the CPU ([`InCpu`]).
//!
//! They are loaded when the vCPU's thread is scheduled in and saved when it is scheduled out. In between the host does
//! not use them: with VHE its kernel runs at EL2 and its user programs at EL0 with TGE = 1. What its user programs do
//! use (the thread pointers, the keys) is exchanged with theirs.

use super::cpu::features;
use super::dmb;
use crate::model::sysreg::Reg;

/// The registers of a vCPU in memory. While the vCPU is loaded, those before [`Reg::LOADED`] and the pointer
/// authentication keys are stale here; so this is only lent out as a whole while it is not. The APIA key never is here: it is
/// in the vCPU's `EntryFrame`.
pub(crate) struct Saved([u64; Reg::COUNT]);

impl Saved {
    pub(crate) const fn new() -> Self {
        Self([0; Reg::COUNT])
    }

    pub(crate) fn get(&self, reg: Reg) -> u64 {
        self.0.get(reg.index()).copied().unwrap_or(0)
    }

    /// The register that is `n` behind `first`: of those that come in a row.
    pub(crate) fn nth(&self, first: Reg, n: usize) -> u64 {
        self.0
            .get(first.index().wrapping_add(n))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn set(&mut self, reg: Reg, value: u64) {
        if let Some(slot) = self.0.get_mut(reg.index()) {
            *slot = value;
        }
    }
}

/// Calls `$guest!(Reg, NAME)` for the registers that have a guest copy (`_EL12`), `$plain!(Reg, NAME)` for those that
/// only the guest uses while it is loaded.
macro_rules! each {
    ($guest:ident, $plain:ident) => {
        $plain!(SpEl1, SP_EL1);
        $guest!(ElrEl1, ELR_EL1);
        $guest!(SpsrEl1, SPSR_EL1);
        $guest!(SctlrEl1, SCTLR_EL1);
        $guest!(CpacrEl1, CPACR_EL1);
        $guest!(Ttbr0El1, TTBR0_EL1);
        $guest!(Ttbr1El1, TTBR1_EL1);
        $guest!(TcrEl1, TCR_EL1);
        $guest!(EsrEl1, ESR_EL1);
        $guest!(Afsr0El1, AFSR0_EL1);
        $guest!(Afsr1El1, AFSR1_EL1);
        $guest!(FarEl1, FAR_EL1);
        $guest!(MairEl1, MAIR_EL1);
        $guest!(AmairEl1, AMAIR_EL1);
        $guest!(VbarEl1, VBAR_EL1);
        $guest!(ContextidrEl1, CONTEXTIDR_EL1);
        $guest!(CntkctlEl1, CNTKCTL_EL1);
        $plain!(TpidrEl1, TPIDR_EL1);
        $plain!(TpidrEl0, TPIDR_EL0);
        $plain!(TpidrroEl0, TPIDRRO_EL0);
    };
}

/// The same for the keys other than APIA, which the world switch itself exchanges.
macro_rules! each_key {
    ($do:ident) => {
        $do!(ApibKeyLo, APIBKEYLO_EL1);
        $do!(ApibKeyHi, APIBKEYHI_EL1);
        $do!(ApdaKeyLo, APDAKEYLO_EL1);
        $do!(ApdaKeyHi, APDAKEYHI_EL1);
        $do!(ApdbKeyLo, APDBKEYLO_EL1);
        $do!(ApdbKeyHi, APDBKEYHI_EL1);
        $do!(ApgaKeyLo, APGAKEYLO_EL1);
        $do!(ApgaKeyHi, APGAKEYHI_EL1);
    };
}

/// Reads PAR_EL1.
///
/// Cortex-A77's erratum 1508412: near a load from a device, the read can hang the CPU, unless it has a DMB on both sides.
#[inline]
pub(super) fn read_par() -> u64 {
    if !features().par_deadlock {
        return read_sysreg!(PAR_EL1);
    }
    dmb();
    let par = read_sysreg!(PAR_EL1);
    dmb();
    par
}

/// What the host's thread had in the registers that it shares with the guest.
#[derive(Default)]
pub(crate) struct HostUser {
    tpidr_el0: u64,
    tpidrro_el0: u64,
    keys: [u64; 8],
}

/// Puts the guest's registers into the CPU, on the CPU that the thread will run on; returns what they replace.
pub(crate) fn load(saved: &Saved, pauth: bool, ras: bool) -> HostUser {
    let mut host = HostUser {
        tpidr_el0: read_sysreg!(TPIDR_EL0),
        tpidrro_el0: read_sysreg!(TPIDRRO_EL0),
        keys: [0; 8],
    };
    macro_rules! guest {
        ($reg:ident, $name:ident) => {
            write_sysreg_el12!($name, saved.get(Reg::$reg))
        };
    }
    macro_rules! plain {
        ($reg:ident, $name:ident) => {
            write_sysreg!($name, saved.get(Reg::$reg))
        };
    }
    each!(guest, plain);
    write_sysreg!(PAR_EL1, saved.get(Reg::ParEl1));
    write_sysreg!(VMPIDR_EL2, saved.get(Reg::MpidrEl1));
    if ras {
        write_sysreg!(VDISR_EL2, saved.get(Reg::DisrEl1));
    }
    if pauth {
        let mut keys = host.keys.iter_mut();
        macro_rules! key {
            ($reg:ident, $name:ident) => {
                if let Some(key) = keys.next() {
                    *key = read_sysreg!($name);
                }
                write_sysreg!($name, saved.get(Reg::$reg));
            };
        }
        each_key!(key);
    }
    // No ISB: the next use of any of these is after an ERET, or through `InCpu`, whose MSR and MRS are in order.
    host
}

/// Takes the guest's registers from the CPU and gives the host's thread its own back.
pub(crate) fn save(saved: &mut Saved, host: &HostUser, pauth: bool, ras: bool) {
    macro_rules! guest {
        ($reg:ident, $name:ident) => {
            saved.set(Reg::$reg, read_sysreg_el12!($name))
        };
    }
    macro_rules! plain {
        ($reg:ident, $name:ident) => {
            saved.set(Reg::$reg, read_sysreg!($name))
        };
    }
    each!(guest, plain);
    saved.set(Reg::ParEl1, read_par());
    if ras {
        saved.set(Reg::DisrEl1, read_sysreg!(VDISR_EL2));
    }
    write_sysreg!(TPIDR_EL0, host.tpidr_el0);
    write_sysreg!(TPIDRRO_EL0, host.tpidrro_el0);
    if pauth {
        let mut keys = host.keys.iter();
        macro_rules! key {
            ($reg:ident, $name:ident) => {
                saved.set(Reg::$reg, read_sysreg!($name));
                write_sysreg!($name, keys.next().copied().unwrap_or(0));
            };
        }
        each_key!(key);
    }
}

/// The guest's registers that are in the CPU. Proof that the vCPU is loaded, and that the thread stays here.
pub(crate) struct InCpu<'a>(pub(super) core::marker::PhantomData<&'a ()>);

impl InCpu<'_> {
    /// The value of a register before [`Reg::LOADED`], or of a key; `None` for one that is not in the CPU.
    pub(crate) fn get(&self, reg: Reg) -> Option<u64> {
        macro_rules! guest {
            ($reg:ident, $name:ident) => {
                if reg == Reg::$reg {
                    return Some(read_sysreg_el12!($name));
                }
            };
        }
        macro_rules! plain {
            ($reg:ident, $name:ident) => {
                if reg == Reg::$reg {
                    return Some(read_sysreg!($name));
                }
            };
        }
        each!(guest, plain);
        if features().pauth {
            each_key!(plain);
        }
        match reg {
            Reg::ParEl1 => Some(read_par()),
            Reg::MpidrEl1 => Some(read_sysreg!(VMPIDR_EL2)),
            Reg::DisrEl1 if features().ras => Some(read_sysreg!(VDISR_EL2)),
            _ => None,
        }
    }

    /// Sets such a register; `false` if it is not in the CPU.
    pub(crate) fn set(&mut self, reg: Reg, value: u64) -> bool {
        macro_rules! guest {
            ($reg:ident, $name:ident) => {
                if reg == Reg::$reg {
                    write_sysreg_el12!($name, value);
                    return true;
                }
            };
        }
        macro_rules! plain {
            ($reg:ident, $name:ident) => {
                if reg == Reg::$reg {
                    write_sysreg!($name, value);
                    return true;
                }
            };
        }
        each!(guest, plain);
        if features().pauth {
            each_key!(plain);
        }
        match reg {
            Reg::ParEl1 => write_sysreg!(PAR_EL1, value),
            // Without FEAT_RAS there is no such register, and it is kept in memory.
            Reg::DisrEl1 if features().ras => write_sysreg!(VDISR_EL2, value),
            _ => return false,
        }
        true
    }
}
