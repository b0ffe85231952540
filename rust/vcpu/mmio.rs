// SPDX-License-Identifier: GPL-2.0

//! Accesses to addresses that are not memory: what is left for the VMM, and putting its answer into the register.

use super::core::Core;
use crate::model::esr::Abort;

/// A load that userspace answers.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) abort: Abort,
}

impl Load {
    /// The value has come: it goes into the register, and the guest goes on behind the instruction.
    pub(crate) fn complete(self, core: &mut Core, value: u64) {
        core.set_x(self.abort.register(), extend(value, &self.abort));
        core.skip();
    }
}

/// What the register holds after loading `value`: cut to the access's size, and sign-extended if the instruction does.
pub(crate) fn extend(value: u64, abort: &Abort) -> u64 {
    let unused = 64u32.saturating_sub(u32::from(abort.size()).saturating_mul(8)).min(63);
    let value = if abort.is_sign_extended() {
        ((value << unused) as i64 >> unused) as u64
    } else {
        value << unused >> unused
    };
    if abort.is_64bit() {
        value
    } else {
        value & u64::from(u32::MAX)
    }
}
