// SPDX-License-Identifier: GPL-2.0

//! Memory copies and sets (FEAT_MOPS) that are moved to another CPU while they run.
//!
//! A copy is three instructions: prologue, main and epilogue, which share three registers. The
//! architecture allows two layouts of these ("option A" and "option B"), and each CPU has one. A
//! thread that is moved from one kind to the other in the middle of a copy gets an exception (class
//! 0x27), and starts again at the prologue, with what is left to do in the registers. A guest has
//! not seen that its vCPU was moved, so with HCRX_EL2.MCE2 the exception comes to EL2 and the
//! restart is done there.
//!
//! DDI 0487, "Memory Copy and Memory Set exceptions", and "ISS encoding for an exception from the
//! Memory Copy and Memory Set instructions".

use super::esr::Esr;

/// The syndrome of such an exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryOperation(u32);

impl MemoryOperation {
    /// MemInst: a set, not a copy.
    const SET: u32 = 1 << 24;
    /// FromEpilogue: it came to the epilogue, not only to the main instruction.
    const EPILOGUE: u32 = 1 << 18;
    /// WrongOption: the registers are in the layout that this CPU has not.
    const WRONG_OPTION: u32 = 1 << 17;
    /// OptionA: this CPU has option A.
    const OPTION_A: u32 = 1 << 16;

    /// Takes it from an exception of class [`super::esr::ExceptionClass::MemoryOperation`].
    pub const fn new(esr: Esr) -> Self {
        Self(esr.iss())
    }

    const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    /// Returns the numbers of its destination, source and size registers; 31 is XZR.
    ///
    /// A set's second one has the byte to be written, which stays as it is.
    pub const fn registers(self) -> [u8; 3] {
        [
            (self.0 >> 10 & 31) as u8,
            (self.0 >> 5 & 31) as u8,
            (self.0 & 31) as u8,
        ]
    }

    /// Returns how many bytes the prologue is before the instruction that did not go on.
    pub const fn distance(self) -> u64 {
        if self.has(Self::EPILOGUE) {
            8
        } else {
            4
        }
    }

    /// Returns what the registers have to hold for the prologue to do the rest. `negative`:
    /// PSTATE.N.
    ///
    /// With option A a size below zero counts up to 0, and addresses are those of the end; what is
    /// not, a copy from the end downwards, looks as before the prologue. With option B the
    /// registers move along, and a copy with PSTATE.N set runs downwards from the end.
    pub const fn undone(self, [destination, source, size]: [u64; 3], negative: bool) -> [u64; 3] {
        let is_set = self.has(Self::SET);
        let counts_up = self.has(Self::OPTION_A) != self.has(Self::WRONG_OPTION);
        if counts_up && (is_set || (size as i64) < 0) {
            let source = if is_set {
                source
            } else {
                source.wrapping_add(size)
            };
            [destination.wrapping_add(size), source, size.wrapping_neg()]
        } else if !counts_up && !is_set && negative {
            [
                destination.wrapping_sub(size),
                source.wrapping_sub(size),
                size,
            ]
        } else {
            [destination, source, size]
        }
    }
}
