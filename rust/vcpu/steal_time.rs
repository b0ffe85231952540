// SPDX-License-Identifier: GPL-2.0

//! Stolen time (DEN0057): the guest reads in its memory how long a vCPU could have run and had no
//! CPU.

use crate::host::time;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// The structure's size and alignment in bytes: revision and attributes (32 bits each), the time in
/// nanoseconds (64 bits), padding. All little-endian.
const SIZE: u64 = 64;
/// Where in it the time is.
const TIME: u64 = 8;

/// A vCPU's stolen time.
#[derive(Clone, Copy, Default)]
pub(crate) struct StealTime {
    /// Where in the guest's memory it is, once userspace has said (KVM_ARM_VCPU_PVTIME_IPA).
    ipa: Option<u64>,
    /// How long the thread had waited for a CPU, in nanoseconds, when the guest's memory was last
    /// updated.
    seen: Option<u64>,
}

impl StealTime {
    /// Returns the structure's address; `None` until userspace has set it.
    pub(crate) fn ipa(&self) -> Option<u64> {
        self.ipa
    }

    /// Sets the structure's address for userspace, once. `EINVAL`: not aligned, or not memory of
    /// the guest's; `EEXIST`: it is set.
    pub(crate) fn set_ipa(&mut self, vm: &Vm, ipa: u64) -> Result {
        if ipa % SIZE != 0 {
            return Err(EINVAL);
        }
        if self.ipa.is_some() {
            return Err(EEXIST);
        }
        vm.memory.address(ipa, true).ok_or(EINVAL)?;
        self.ipa = Some(ipa);
        Ok(())
    }

    /// Returns whether the guest's memory has to be updated: this thread has waited since.
    pub(super) fn is_due(&self) -> bool {
        self.ipa.is_some() && self.seen != Some(time::run_delay_ns())
    }

    /// Begins to count, for PV_TIME_ST; returns the structure's address. In the thread that runs
    /// the vCPU; may sleep.
    pub(super) fn begin(&mut self, vm: &Vm) -> Option<u64> {
        let ipa = self.ipa?;
        self.seen = Some(time::run_delay_ns());
        if let Some(address) = vm.memory.address(ipa, true) {
            // What the guest gave away in the meantime is its own loss.
            let _ = UserSlice::new(UserPtr::from_addr(address), SIZE as usize)
                .writer()
                .write(&[0u8; SIZE as usize]);
            vm.memory.note_dirty(ipa);
        }
        Some(ipa)
    }

    /// Adds the time since the last update. In the thread that runs the vCPU; may sleep.
    pub(super) fn update(&mut self, vm: &Vm) {
        let Some(ipa) = self.ipa else { return };
        let now = time::run_delay_ns();
        let seen = self.seen.replace(now).unwrap_or(now);
        if let Some(address) = vm.memory.address(ipa.wrapping_add(TIME), true) {
            let _ = add(address, now.wrapping_sub(seen));
            vm.memory.note_dirty(ipa);
        }
    }
}

fn add(address: usize, ns: u64) -> Result {
    let (mut reader, mut writer) =
        UserSlice::new(UserPtr::from_addr(address), size_of::<u64>()).reader_writer();
    let before: u64 = reader.read()?;
    writer.write(&u64::from_le(before).wrapping_add(ns).to_le())
}
