// SPDX-License-Identifier: GPL-2.0

//! The guest's EL1 and EL0 registers: in memory ([`El1Context`]) or in the CPU ([`InCpu`]).
//!
//! They are loaded when the vCPU's thread is scheduled in and saved when it is scheduled out. In
//! between the host does not use them: with VHE its kernel runs at EL2 and its user programs at EL0
//! with TGE = 1. What its user programs do use (the thread pointers, the keys) is exchanged with
//! theirs.

use super::cpu::features;
use super::dmb;
use crate::model::sysreg::{context_registers, Reg};

/// The registers of a vCPU in memory. While the vCPU is loaded, those that are in the CPU are stale
/// here; so this is only lent out as a whole while it is not. The APIA key never is here: it is in
/// the vCPU's `EntryFrame`.
pub(crate) struct El1Context([u64; Reg::COUNT]);

impl El1Context {
    pub(crate) const fn new() -> Self {
        Self([0; Reg::COUNT])
    }

    pub(crate) fn get(&self, reg: Reg) -> u64 {
        self.0.get(reg.index()).copied().unwrap_or(0)
    }

    /// Returns the value of the register that is `n` behind `first`: of those that come in a row.
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

/// Calls `$act!(group NAME)` for each register of the context.
macro_rules! each {
    ([$act:ident] $($group:ident { $($name:ident $(.$setting:ident $how:tt)*,)* })*) => {
        $($($act!($group $name);)*)*
    };
}

/// Is `$act!(group NAME)` of the register that `$reg` is.
macro_rules! one {
    ([$reg:ident, $act:ident] $($group:ident { $($name:ident $(.$setting:ident $how:tt)*,)* })*) => {
        match $reg {
            $($(Reg::$name => $act!($group $name),)*)*
        }
    };
}

/// Reads PAR_EL1.
///
/// Cortex-A77's erratum 1508412: near a load from a device, the read can hang the CPU, unless it
/// has a DMB on both sides.
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

macro_rules! host_user {
    (
        [] el12 $el12:tt plain $plain:tt
        exchanged { $($name:ident,)* }
        key { $($key:ident $(.$setting:ident $how:tt)*,)* }
        $($rest:tt)*
    ) => {
        /// What the host's thread had in the registers that it shares with the guest.
        #[derive(Default)]
        #[allow(non_snake_case)] // the architecture's names
        pub(crate) struct HostUser {
            $($name: u64,)*
            $($key: u64,)*
        }
    };
}
context_registers!(host_user);

/// Puts the guest's registers into the CPU, on the CPU that the thread will run on; returns what
/// they replace.
pub(crate) fn load(saved: &El1Context) -> HostUser {
    // A copy: to the compiler each MSR may change what is in memory.
    let cpu = *features();
    let mut host = HostUser::default();
    macro_rules! load {
        (el12 $name:ident) => { write_sysreg_el12!($name, saved.get(Reg::$name)) };
        (plain $name:ident) => { write_sysreg!($name, saved.get(Reg::$name)) };
        (exchanged $name:ident) => {
            host.$name = read_sysreg!($name);
            write_sysreg!($name, saved.get(Reg::$name));
        };
        (key $name:ident) => {
            if cpu.pauth {
                load!(exchanged $name);
            }
        };
        (own PAR_EL1) => { write_sysreg!(PAR_EL1, saved.get(Reg::PAR_EL1)) };
        (own DISR_EL1) => {
            if cpu.ras {
                write_sysreg!(VDISR_EL2, saved.get(Reg::DISR_EL1));
            }
        };
        (own MPIDR_EL1) => { write_sysreg!(VMPIDR_EL2, saved.get(Reg::MPIDR_EL1)) };
        (entry $name:ident) => {};
        (debug $name:ident) => {};
        (memory $name:ident) => {};
        // A group of a feature's, by the name that `CpuFeatures` has for it.
        ($feature:ident $name:ident) => {
            if cpu.$feature {
                load!(el12 $name);
            }
        };
    }
    context_registers!(each, load);
    // No ISB: the next use of any of these is after an ERET, or through `InCpu`, whose MSR and MRS
    // are in order.
    host
}

/// Takes the guest's registers from the CPU and gives the host's thread its own back.
pub(crate) fn save(saved: &mut El1Context, host: &HostUser) {
    // A copy, as in `load`.
    let cpu = *features();
    macro_rules! save {
        (el12 $name:ident) => { saved.set(Reg::$name, read_sysreg_el12!($name)) };
        (plain $name:ident) => { saved.set(Reg::$name, read_sysreg!($name)) };
        (exchanged $name:ident) => {
            saved.set(Reg::$name, read_sysreg!($name));
            write_sysreg!($name, host.$name);
        };
        (key $name:ident) => {
            if cpu.pauth {
                save!(exchanged $name);
            }
        };
        (own PAR_EL1) => { saved.set(Reg::PAR_EL1, read_par()) };
        (own DISR_EL1) => {
            if cpu.ras {
                saved.set(Reg::DISR_EL1, read_sysreg!(VDISR_EL2));
            }
        };
        // The guest cannot change it.
        (own MPIDR_EL1) => {};
        (entry $name:ident) => {};
        (debug $name:ident) => {};
        (memory $name:ident) => {};
        // A group of a feature's, by the name that `CpuFeatures` has for it.
        ($feature:ident $name:ident) => {
            if cpu.$feature {
                save!(el12 $name);
            }
        };
    }
    context_registers!(each, save);
}

/// The guest's registers that are in the CPU. Proof that the vCPU is loaded, and that the thread
/// stays here.
pub(crate) struct InCpu<'a>(pub(super) core::marker::PhantomData<&'a ()>);

impl InCpu<'_> {
    /// Returns the value of a register; `None` for one that is not in the CPU.
    pub(crate) fn get(&self, reg: Reg) -> Option<u64> {
        macro_rules! get {
            (el12 $name:ident) => {
                Some(read_sysreg_el12!($name))
            };
            (plain $name:ident) => {
                Some(read_sysreg!($name))
            };
            (exchanged $name:ident) => {
                Some(read_sysreg!($name))
            };
            (key $name:ident) => {
                features().pauth.then(|| read_sysreg!($name))
            };
            (own PAR_EL1) => {
                Some(read_par())
            };
            // Without FEAT_RAS there is no such register, and it is kept in memory.
            (own DISR_EL1) => {
                features().ras.then(|| read_sysreg!(VDISR_EL2))
            };
            (own MPIDR_EL1) => {
                Some(read_sysreg!(VMPIDR_EL2))
            };
            (entry $name:ident) => {
                None
            };
            (debug $name:ident) => {
                None
            };
            (memory $name:ident) => {
                None
            };
            ($feature:ident $name:ident) => {
                features().$feature.then(|| read_sysreg_el12!($name))
            };
        }
        context_registers!(one, reg, get)
    }

    /// Sets a register; `false` if it is not in the CPU.
    pub(crate) fn set(&mut self, reg: Reg, value: u64) -> bool {
        macro_rules! set {
            (el12 $name:ident) => {{
                write_sysreg_el12!($name, value);
                true
            }};
            (plain $name:ident) => {{
                write_sysreg!($name, value);
                true
            }};
            (exchanged $name:ident) => {{
                write_sysreg!($name, value);
                true
            }};
            (key $name:ident) => {
                features().pauth && {
                    write_sysreg!($name, value);
                    true
                }
            };
            (own PAR_EL1) => {{
                write_sysreg!(PAR_EL1, value);
                true
            }};
            (own DISR_EL1) => {
                features().ras && {
                    write_sysreg!(VDISR_EL2, value);
                    true
                }
            };
            // Userspace's only, which has the vCPU in memory.
            (own MPIDR_EL1) => {
                false
            };
            (entry $name:ident) => {
                false
            };
            (debug $name:ident) => {
                false
            };
            (memory $name:ident) => {
                false
            };
            ($feature:ident $name:ident) => {
                features().$feature && {
                    write_sysreg_el12!($name, value);
                    true
                }
            };
        }
        context_registers!(one, reg, set)
    }
}
