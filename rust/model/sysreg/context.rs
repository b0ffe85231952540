// SPDX-License-Identifier: GPL-2.0
//! The registers that a vCPU's context has room for: one list, from which all that handles them is
//! made.

/// Calls `$then! { [arguments] group { NAME.setting(..)., ... } ... }` with the registers of a
/// vCPU's context, by what the world switch does with them.
///
/// [`Reg`], the rows of [`TABLE`](super::TABLE), and what loads, saves, reads and writes the
/// registers in the CPU are made from this list: a register is added by a line here, and
/// `rust/arch/el1.rs` does not compile while it has no code for a group, or for a register of the
/// group `own`. A line is the name and, where the register is not an ordinary one
/// ([`Row::context`](super::Row)), how it differs.
macro_rules! context_registers {
    ($then:ident $(, $argument:ident)*) => {
        $then! {
            [$($argument),*]
            // In the CPU while the vCPU is loaded: the guest's copy, which the host at EL2 reaches
            // by the name that ends in _EL12.
            el12 {
                ELR_EL1.core(),
                SPSR_EL1.core(),
                SCTLR_EL1.reset(Reset::To(RESET_SCTLR)),
                CPACR_EL1,
                TTBR0_EL1,
                TTBR1_EL1,
                TCR_EL1,
                ESR_EL1,
                AFSR0_EL1,
                AFSR1_EL1,
                FAR_EL1,
                MAIR_EL1,
                AMAIR_EL1,
                VBAR_EL1,
                CONTEXTIDR_EL1,
                CNTKCTL_EL1,
            }
            // The same: a register that the host at EL2 does not use.
            plain {
                SP_EL1.core(),
                TPIDR_EL1,
            }
            // The same: a register that the host's thread has its own value in.
            exchanged {
                TPIDR_EL0,
                TPIDRRO_EL0,
            }
            // The same, where the CPU has pointer authentication.
            key {
                APIBKEYLO_EL1.when(When::PointerAuth),
                APIBKEYHI_EL1.when(When::PointerAuth),
                APDAKEYLO_EL1.when(When::PointerAuth),
                APDAKEYHI_EL1.when(When::PointerAuth),
                APDBKEYLO_EL1.when(When::PointerAuth),
                APDBKEYHI_EL1.when(When::PointerAuth),
                APGAKEYLO_EL1.when(When::PointerAuth),
                APGAKEYHI_EL1.when(When::PointerAuth),
            }
            // As the first group, where the CPU has the feature after which a group is called in
            // `CpuFeatures`. FEAT_TCR2:
            tcr2 {
                TCR2_EL1.when(When::Tcr2),
            }
            // FEAT_SCTLR2:
            sctlr2 {
                SCTLR2_EL1.when(When::Sctlr2),
            }
            // FEAT_S1PIE:
            indirection {
                PIRE0_EL1.when(When::PermissionIndirection),
                PIR_EL1.when(When::PermissionIndirection),
            }
            // In the CPU while the vCPU is loaded, each in a way of its own.
            own {
                PAR_EL1,
                // In VDISR_EL2: with HCR_EL2.AMO set, DISR_EL1 at EL1 is that register.
                DISR_EL1,
                // In VMPIDR_EL2.
                MPIDR_EL1.guest(Guest::ReadOnly).reset(Reset::Mpidr),
            }
            // Exchanged by each entry and exit, as the host's kernel uses it. Never in the context.
            entry {
                APIAKEYLO_EL1.when(When::PointerAuth),
                APIAKEYHI_EL1.when(When::PointerAuth),
            }
            // In memory; in the CPU while the guest owns the debug registers.
            debug {
                MDSCR_EL1,
                MDCCINT_EL1,
                DBGBVR0_EL1, DBGBVR1_EL1, DBGBVR2_EL1, DBGBVR3_EL1,
                DBGBVR4_EL1, DBGBVR5_EL1, DBGBVR6_EL1, DBGBVR7_EL1,
                DBGBVR8_EL1, DBGBVR9_EL1, DBGBVR10_EL1, DBGBVR11_EL1,
                DBGBVR12_EL1, DBGBVR13_EL1, DBGBVR14_EL1, DBGBVR15_EL1,
                DBGBCR0_EL1, DBGBCR1_EL1, DBGBCR2_EL1, DBGBCR3_EL1,
                DBGBCR4_EL1, DBGBCR5_EL1, DBGBCR6_EL1, DBGBCR7_EL1,
                DBGBCR8_EL1, DBGBCR9_EL1, DBGBCR10_EL1, DBGBCR11_EL1,
                DBGBCR12_EL1, DBGBCR13_EL1, DBGBCR14_EL1, DBGBCR15_EL1,
                DBGWVR0_EL1, DBGWVR1_EL1, DBGWVR2_EL1, DBGWVR3_EL1,
                DBGWVR4_EL1, DBGWVR5_EL1, DBGWVR6_EL1, DBGWVR7_EL1,
                DBGWVR8_EL1, DBGWVR9_EL1, DBGWVR10_EL1, DBGWVR11_EL1,
                DBGWVR12_EL1, DBGWVR13_EL1, DBGWVR14_EL1, DBGWVR15_EL1,
                DBGWCR0_EL1, DBGWCR1_EL1, DBGWCR2_EL1, DBGWCR3_EL1,
                DBGWCR4_EL1, DBGWCR5_EL1, DBGWCR6_EL1, DBGWCR7_EL1,
                DBGWCR8_EL1, DBGWCR9_EL1, DBGWCR10_EL1, DBGWCR11_EL1,
                DBGWCR12_EL1, DBGWCR13_EL1, DBGWCR14_EL1, DBGWCR15_EL1,
            }
            // In memory only.
            memory {
                // Its OSLK bit is what OSLAR_EL1 writes.
                OSLSR_EL1.guest(Guest::ReadOnly).user(User::OsLock).reset(Reset::To(RESET_OSLSR)),
                ACTLR_EL1.guest(Guest::WriteIgnored),
                CSSELR_EL1,
                CLIDR_EL1.guest(Guest::ReadOnly).user(User::Clidr).reset(Reset::Clidr),
                // AArch32 state that no guest has, but userspace lists, saves and restores.
                DBGVCR32_EL2.guest(Guest::Undefined),
                DACR32_EL2.guest(Guest::Undefined),
                IFSR32_EL2.guest(Guest::Undefined),
                FPEXC32_EL2.guest(Guest::Undefined).reset(Reset::To(0x700)),
            }
        }
    };
}
pub(crate) use context_registers;

macro_rules! define {
    ([] $($group:ident { $($name:ident $(.$setting:ident $how:tt)*,)* })*) => {
        /// A register in a vCPU's context: the index into `[u64; Reg::COUNT]`.
        ///
        /// The breakpoints' and watchpoints' registers are in a row, each kind by its numbers.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, non_camel_case_types)] // the architecture's names
        pub enum Reg {
            $($($name,)*)*
        }

        impl Reg {
            /// How many there are.
            pub const COUNT: usize = [$($(Self::$name),*),*].len();

            /// Returns the register's place in the context.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}
context_registers!(define);

const _: () = {
    const fn follow(first: Reg, last: Reg) -> bool {
        last.index() - first.index() == 15
    }
    assert!(follow(Reg::DBGBVR0_EL1, Reg::DBGBVR15_EL1));
    assert!(follow(Reg::DBGBCR0_EL1, Reg::DBGBCR15_EL1));
    assert!(follow(Reg::DBGWVR0_EL1, Reg::DBGWVR15_EL1));
    assert!(follow(Reg::DBGWCR0_EL1, Reg::DBGWCR15_EL1));
};
