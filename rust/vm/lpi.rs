// SPDX-License-Identifier: GPL-2.0

//! The guest's tables of LPIs, which say what is enabled and what is pending.
//!
//! All of it runs in the VMM's process and may sleep, so without the interrupt controller's locks;
//! those are taken for one LPI at a time.

use super::gic::GicModel;
use super::Vm;
use crate::host::sched;
use crate::model::its::{Env, TableError};
use crate::model::vcpus::VcpuId;
use crate::model::vgic::{Error as GicError, LpiConfig, LpiId, LpiWork};
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// What LPIs and ITSes need of their VM, in the thread of a vCPU or of an ioctl.
pub(crate) struct LpiTables<'a>(pub(crate) &'a Vm);

impl LpiTables<'_> {
    /// Does one operation on the model, with those vCPUs out of the guest that have in their list
    /// registers what it is about. `None`: it failed, or there is no model.
    fn with_model<R>(&self, mut body: impl FnMut(&GicModel) -> Result<R, GicError>) -> Option<R> {
        let model = self.0.gic.model()?;
        self.0.with_guests_out(|| match body(model) {
            Ok(value) => Ok(Some(value)),
            Err(GicError::NeedSync(stale)) => Err(stale.others),
            Err(_) => Ok(None),
        })
    }

    /// Does one operation on the model as `with_model` does, where it ends in a vCPU to be kicked.
    fn change(&self, body: impl FnMut(&GicModel) -> Result<Option<VcpuId>, GicError>) {
        if let Some(vcpu) = self.with_model(body).flatten() {
            self.0.kick(vcpu);
        }
    }

    /// Calls `each` for all mapped LPIs, or those of one vCPU.
    fn each_lpi(&mut self, of: Option<VcpuId>, mut each: impl FnMut(&mut Self, LpiId)) {
        let Some(model) = self.0.gic.model().cloned() else {
            return;
        };
        for block in 0..model.lpi_store().end() {
            let mut set = model.lpis_of_block(block, of);
            while set != 0 {
                if let Some(id) = LpiId::of_block(block, set.trailing_zeros()) {
                    each(self, id);
                }
                set &= set.wrapping_sub(1);
            }
            if !self.may_go_on() {
                return;
            }
        }
    }

    /// Reads a byte of the guest's memory; `None` where it has none. `EFAULT`: it cannot be read.
    fn byte(&self, ipa: u64) -> Result<Option<u8>> {
        let Some(address) = self.0.memory.address(ipa, false) else {
            return Ok(None);
        };
        let mut reader = UserSlice::new(UserPtr::from_addr(address), 1).reader();
        reader.read().map(Some)
    }

    fn set_byte(&self, ipa: u64, byte: u8) -> Result {
        let address = self.0.memory.address(ipa, true).ok_or(EFAULT)?;
        UserSlice::new(UserPtr::from_addr(address), 1)
            .writer()
            .write(&byte)?;
        self.0.memory.note_dirty(ipa);
        Ok(())
    }

    /// Sets the latch of an LPI that goes to `vcpu` as that one's pending table says; with `take`
    /// the table says so no more.
    fn load_pending(&self, lpi: LpiId, vcpu: VcpuId, take: bool) -> Result {
        let tables = self.0.gic.model().map(|model| model.lpi_tables(vcpu));
        let Some((_, Some(table))) = tables else {
            return Ok(());
        };
        let (at, bit) = pending_bit(table, lpi);
        let Some(byte) = self.byte(at)? else {
            return Ok(());
        };
        // What the table does not know of may have arrived as a message in the meantime.
        if byte & bit != 0 {
            if take {
                self.set_byte(at, byte & !bit)?;
            }
            self.change(|model| model.set_lpi_pending(lpi, true));
        }
        Ok(())
    }

    /// Configures an LPI as the table says.
    fn load_config(&self, lpi: LpiId) -> Result {
        let gic = self.0.gic.model();
        let tables = gic.map(|model| model.lpi_tables(VcpuId::FIRST));
        let Some((table, _)) = tables else {
            return Ok(());
        };
        if let Some(byte) = self.byte(table.wrapping_add(lpi.index() as u64))? {
            self.change(|model| model.configure_lpi(lpi, LpiConfig::new(byte)));
        }
        Ok(())
    }

    /// Serves KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES: the pending tables say what is pending.
    /// `EFAULT`: they are not there.
    pub(crate) fn save_pending(&mut self) -> Result {
        let mut result = Ok(());
        self.each_lpi(None, |this, lpi| {
            let state = this.with_model(|model| model.lpi_state(lpi)).flatten();
            let Some((vcpu, pending)) = state else { return };
            let tables = this.0.gic.model().map(|model| model.lpi_tables(vcpu));
            let Some((_, Some(table))) = tables else {
                return;
            };
            let (at, bit) = pending_bit(table, lpi);
            let saved = this
                .byte(at)
                .and_then(|old| old.ok_or(EFAULT))
                .and_then(|old| {
                    let new = if pending { old | bit } else { old & !bit };
                    if new == old {
                        Ok(())
                    } else {
                        this.set_byte(at, new)
                    }
                });
            result = result.and(saved);
        });
        result
    }

    /// Does what a write to a redistributor's registers asked for.
    pub(crate) fn work(&mut self, work: LpiWork) {
        match work {
            LpiWork::Enabled(vcpu) => self.each_lpi(Some(vcpu), |this, lpi| {
                let _ = this.load_pending(lpi, vcpu, false);
            }),
            LpiWork::Disabled(vcpu) => self.each_lpi(Some(vcpu), |this, lpi| this.clear(lpi)),
            LpiWork::Invalidate(lpi) => self.reload(lpi),
            LpiWork::InvalidateAll(vcpu) => self.reload_all(vcpu),
        }
    }
}

/// Returns where in a pending table an LPI's bit is: the byte's address, and its mask.
fn pending_bit(table: u64, lpi: LpiId) -> (u64, u8) {
    (
        table.wrapping_add(u64::from(lpi.get() / 8)),
        1 << (lpi.get() % 8),
    )
}

impl Env for LpiTables<'_> {
    fn load(&mut self, ipa: u64) -> Option<u64> {
        // Eight bytes that are aligned are in one page, and so in one slot.
        let address = self.0.memory.address(ipa & !7, false)?;
        let value: u64 = UserSlice::new(UserPtr::from_addr(address), size_of::<u64>())
            .reader()
            .read()
            .ok()?;
        Some(u64::from_le(value))
    }

    fn store(&mut self, ipa: u64, value: u64) -> bool {
        let Some(address) = self.0.memory.address(ipa & !7, true) else {
            return false;
        };
        let written = UserSlice::new(UserPtr::from_addr(address), size_of::<u64>())
            .writer()
            .write(&value.to_le());
        self.0.memory.note_dirty(ipa);
        written.is_ok()
    }

    fn is_memory(&mut self, ipa: u64) -> bool {
        self.0.memory.address(ipa, false).is_some()
    }

    fn vcpu(&mut self, number: u32) -> Option<VcpuId> {
        self.0.vcpu_by_number(number).map(|vcpu| vcpu.id)
    }

    fn lpi_limit(&mut self) -> u32 {
        self.0.gic.model().map_or(0, |model| model.lpi_limit())
    }

    fn map(&mut self, lpi: LpiId, target: Option<VcpuId>) -> Result<(), TableError> {
        let model = self.0.gic.model().ok_or(TableError::NoMemory)?;
        {
            let _one_at_a_time = self.0.gic.making_lpis.lock();
            model.lpi_store().make_block(lpi)?;
        }
        let first = model.map_lpi(lpi, target);
        if first.map_err(|_| TableError::NoMemory)? {
            let loaded = self
                .load_config(lpi)
                .and_then(|()| target.map_or(Ok(()), |vcpu| self.load_pending(lpi, vcpu, true)));
            loaded.map_err(|_| {
                self.unmap(lpi);
                TableError::Memory
            })?;
        }
        Ok(())
    }

    fn unmap(&mut self, lpi: LpiId) {
        let _ = self.with_model(|model| model.unmap_lpi(lpi));
    }

    fn keep_pending(&mut self) {
        let _ = self.save_pending();
    }

    fn route(&mut self, lpi: LpiId, target: Option<VcpuId>) {
        self.change(|model| model.route_lpi(lpi, target));
    }

    fn raise(&mut self, lpi: LpiId) {
        let _ = self.0.raise_lpi(lpi);
    }

    fn clear(&mut self, lpi: LpiId) {
        self.change(|model| model.set_lpi_pending(lpi, false));
    }

    fn reload(&mut self, lpi: LpiId) {
        let _ = self.load_config(lpi);
    }

    fn reload_all(&mut self, vcpu: VcpuId) {
        self.each_lpi(Some(vcpu), |this, lpi| this.reload(lpi));
    }

    fn move_all(&mut self, from: VcpuId, to: VcpuId) {
        self.each_lpi(Some(from), |this, lpi| this.route(lpi, Some(to)));
    }

    fn may_go_on(&mut self) -> bool {
        sched::cond_resched();
        !sched::is_dying()
    }
}
