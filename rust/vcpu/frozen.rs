// SPDX-License-Identifier: GPL-2.0

//! What a vCPU has for good once its VM runs.

use crate::model::esr::SysregAccess;
use crate::model::sysreg::table::{Guest, GuestFeatures, Storage};
use crate::model::sysreg::{lookup, Encoding, IdRegs};

/// The constant ones of the registers that TID3 traps (op0 = 3, op1 = 0, CRn = 0, CRm from 1 to 7): a
/// guest's kernel and its programs read them all the time.
pub(crate) struct FastIds {
    values: [u64; FastIds::COUNT],
    /// Bit n: `values[n]` is what the guest reads.
    known: u64,
}

impl FastIds {
    const COUNT: usize = 64;

    /// None of them.
    pub(super) const fn new() -> Self {
        Self {
            values: [0; Self::COUNT],
            known: 0,
        }
    }

    /// Those of a vCPU with these features, whose VM has these identification registers for good.
    pub(super) fn fill(features: GuestFeatures, ids: &IdRegs) -> Self {
        let mut this = Self::new();
        for (n, slot) in (8u8..).zip(this.values.iter_mut().skip(8)) {
            let encoding = Encoding::new(3, 0, 0, n >> 3, n & 7);
            let Some(row) = lookup(encoding)
                .filter(|row| row.exists(features) && !row.guest.is_undefined(false))
            else {
                continue;
            };
            *slot = match row.storage {
                _ if row.guest == Guest::RazWi => 0,
                Storage::Id(id) => ids.get(id),
                Storage::Const(value) => value,
                _ => continue,
            };
            this.known |= 1 << n;
        }
        this
    }

    /// The value of a register that an access reads, if it is one of these.
    #[inline(always)]
    pub(super) fn read(&self, access: SysregAccess) -> Option<u64> {
        let n = access.feature_id()?;
        if self.known >> n & 1 == 0 {
            return None;
        }
        self.values.get(usize::from(n)).copied()
    }
}
