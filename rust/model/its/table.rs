// SPDX-License-Identifier: GPL-2.0

//! The tables in the guest's memory, into which a VM's translations are saved, and from which they
//! are restored (Documentation/virt/kvm/devices/arm-vgic-its.rst, "ITS Table ABI REV0"). All
//! entries are 8 bytes, little-endian:
//!
//! ```text
//! device      V 63, next 62:49, ITT address [51:8] in 48:5, event bits less one 4:0
//! collection  V 63, vCPU's number 51:16, collection 15:0; in any order, the first that is not valid ends the table
//! event       next 63:48, LPI 47:16 (0: not valid), collection 15:0
//! ```
//!
//! `next` is the distance to the next entry that is valid, 0 for the last one; it may be less than
//! that, if it does not fit.

use super::command::has_event;
use super::registers::{GuestTable, ENTRY, PAGE};
use super::EVENT_BITS;
use super::{Collection, Device, Env, Event, Its, NoMemory, SortedMap, Translation};
use crate::model::sysreg::regs::{GITS_CTE, GITS_DTE, GITS_ITE, GITS_L1TE};
use crate::model::vgic::LpiId;

/// Why tables could not be saved or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The guest's memory is not there: EFAULT.
    Memory,
    /// What stands in the tables cannot be: EINVAL.
    Invalid,
    /// A collection is there already: EEXIST.
    Exists,
    /// There is not enough memory in the host, or nobody waits any more: ENOMEM.
    NoMemory,
}

impl From<NoMemory> for TableError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// A device's table begins at a multiple of 256 bytes; commands and entries have its address
/// without those bits.
pub(super) const ITT_SHIFT: u32 = 8;

/// How far the next device's or event's entry can be said to be.
const DEVICE_NEXT_MOST: u64 = GITS_DTE::Next.get(u64::MAX);
const EVENT_NEXT_MOST: u64 = GITS_ITE::Next.get(u64::MAX);

/// Returns the address of entry `id` of a table, `None` if it has no such entry.
pub(super) fn entry(env: &mut impl Env, table: GuestTable, id: u32) -> Option<u64> {
    let id = u64::from(id);
    if !table.is_indirect() {
        let offset = id * ENTRY;
        return (offset < table.size()).then(|| table.address().wrapping_add(offset));
    }
    const IN_PAGE: u64 = PAGE / ENTRY;
    let first = id / IN_PAGE * ENTRY;
    if first >= table.size() {
        return None;
    }
    let page = page(env.load(table.address().wrapping_add(first))?)?;
    Some(page.wrapping_add(id % IN_PAGE * ENTRY))
}

/// Returns the page of entries that an entry of an indirect table leads to, if it is valid.
fn page(entry: u64) -> Option<u64> {
    GITS_L1TE::Valid
        .is_set(entry)
        .then_some(entry & GITS_L1TE::Physical_Address.mask())
}

/// Returns where the entry of an event is, in its device's table.
pub(super) fn itt_entry(device: &Device, event: u32) -> u64 {
    device.itt.wrapping_add(u64::from(event) * ENTRY)
}

fn write(env: &mut impl Env, ipa: u64, value: u64) -> Result<(), TableError> {
    if env.store(ipa, value) {
        Ok(())
    } else {
        Err(TableError::Memory)
    }
}

/// Goes through `count` entries from `at` on, which are those of `id` and up. `each` says how far
/// the next one is, 0 for the end. True: the end was not among them.
fn scan<V: Env>(
    env: &mut V,
    at: u64,
    count: u64,
    id: u32,
    mut each: impl FnMut(&mut V, u32, u64) -> Result<u32, TableError>,
) -> Result<bool, TableError> {
    let mut n = 0;
    while n < count {
        if !env.may_go_on() {
            return Err(TableError::NoMemory);
        }
        let value = env
            .load(at.wrapping_add(n.wrapping_mul(ENTRY)))
            .ok_or(TableError::Memory)?;
        match each(env, id.wrapping_add(n as u32), value)? {
            0 => return Ok(false),
            next => n = n.saturating_add(next.into()),
        }
    }
    Ok(true)
}

impl<D, C, E> Its<D, C, E>
where
    D: SortedMap<u32, Device>,
    C: SortedMap<u16, Collection>,
    E: SortedMap<Event, Translation>,
{
    /// Serves KVM_DEV_ARM_ITS_SAVE_TABLES: writes everything into the guest's tables.
    pub fn save(&self, env: &mut impl Env) -> Result<(), TableError> {
        if self.registers.device_table().is_valid() {
            self.save_devices(env)?;
        }
        if self.registers.collection_table().is_valid() {
            self.save_collections(env)?;
        }
        Ok(())
    }

    /// Returns the first device from `id` on that the guest has a place for, and where that is, if
    /// there is one.
    fn next_device(&self, env: &mut impl Env, mut id: u32) -> Option<(u32, Device, u64)> {
        while let Some((found, device)) = self.devices.at_or_after(id) {
            if let Some(place) = self.device_entry(env, found) {
                return Some((found, device, place));
            }
            id = found.checked_add(1)?;
        }
        None
    }

    fn save_devices(&self, env: &mut impl Env) -> Result<(), TableError> {
        let mut this = self.next_device(env, 0);
        while let Some((id, device, place)) = this {
            self.save_events(env, id, &device)?;
            this = self.next_device(env, id.saturating_add(1));
            let next = this.map_or(0, |(next, ..)| u64::from(next.wrapping_sub(id)));
            let value = GITS_DTE::Valid.of(1)
                | GITS_DTE::Next.of(next.min(DEVICE_NEXT_MOST))
                | GITS_DTE::ITT_addr.of(device.itt >> ITT_SHIFT)
                | GITS_DTE::Size.of(device.event_bits.saturating_sub(1).into());
            write(env, place, value)?;
        }
        Ok(())
    }

    fn save_events(&self, env: &mut impl Env, id: u32, device: &Device) -> Result<(), TableError> {
        let from = |event| {
            self.events
                .at_or_after(Event { device: id, event })
                .filter(|(event, _)| event.device == id)
        };
        let mut this = from(0);
        while let Some((Event { event, .. }, translation)) = this {
            if !env.may_go_on() {
                return Err(TableError::NoMemory);
            }
            this = from(event.saturating_add(1));
            let next = this.map_or(0, |(next, _)| u64::from(next.event.wrapping_sub(event)));
            // Without its collection it is not valid.
            let value = translation.collection.map_or(0, |collection| {
                GITS_ITE::Next.of(next.min(EVENT_NEXT_MOST))
                    | GITS_ITE::pINTID.of(translation.lpi.get().into())
                    | GITS_ITE::ICID.of(collection.into())
            });
            write(env, itt_entry(device, event), value)?;
        }
        Ok(())
    }

    fn save_collections(&self, env: &mut impl Env) -> Result<(), TableError> {
        let table = self.registers.collection_table();
        let mut at = 0;
        let mut this = self.collections.at_or_after(0);
        while let Some((id, collection)) = this {
            if at >= table.size() {
                return Err(TableError::Invalid);
            }
            let vcpu = collection.unwrap_or(u32::MAX);
            let value = GITS_CTE::Valid.of(1)
                | GITS_CTE::RDbase.of(vcpu.into())
                | GITS_CTE::ICID.of(id.into());
            write(env, table.address().wrapping_add(at), value)?;
            at = at.saturating_add(ENTRY);
            this = id
                .checked_add(1)
                .and_then(|next| self.collections.at_or_after(next));
        }
        if at < table.size() {
            write(env, table.address().wrapping_add(at), 0)?;
        }
        Ok(())
    }

    /// Serves KVM_DEV_ARM_ITS_RESTORE_TABLES: reads everything from the guest's tables. After an
    /// error nothing is mapped.
    pub fn restore(&mut self, env: &mut impl Env) -> Result<(), TableError> {
        let restored = self
            .restore_collections(env)
            .and_then(|()| self.restore_devices(env));
        if restored.is_err() {
            // What was taken out of them with the events that were mapped.
            env.keep_pending();
            self.forget_devices(env);
            self.forget_collections();
        }
        restored
    }

    fn restore_collections(&mut self, env: &mut impl Env) -> Result<(), TableError> {
        let table = self.registers.collection_table();
        if !table.is_valid() {
            return Ok(());
        }
        let count = table.size() / ENTRY;
        scan(env, table.address(), count, 0, |env, _, value| {
            if !GITS_CTE::Valid.is_set(value) {
                return Ok(0);
            }
            let vcpu = GITS_CTE::RDbase.get(value) as u32;
            let id = GITS_CTE::ICID.get(value) as u16;
            let collection = match vcpu {
                u32::MAX => None,
                vcpu => Some(env.vcpu(vcpu).map(|_| vcpu).ok_or(TableError::Invalid)?),
            };
            if self.collections.get(id).is_some() {
                return Err(TableError::Exists);
            }
            let place = entry(env, table, id.into());
            if !place.is_some_and(|place| env.is_memory(place)) {
                return Err(TableError::Invalid);
            }
            self.collections.set(id, collection)?;
            Ok(1)
        })?;
        Ok(())
    }

    fn restore_devices(&mut self, env: &mut impl Env) -> Result<(), TableError> {
        let table = self.registers.device_table();
        if !table.is_valid() {
            return Ok(());
        }
        let count = table.size() / ENTRY;
        if !table.is_indirect() {
            scan(env, table.address(), count, 0, |env, id, value| {
                self.restore_device(env, id, value)
            })?;
            return Ok(());
        }
        const IN_PAGE: u64 = PAGE / ENTRY;
        scan(env, table.address(), count, 0, |env, n, value| {
            let Some(page) = page(value) else {
                return Ok(1);
            };
            let first = n.saturating_mul(IN_PAGE as u32);
            let more = scan(env, page, IN_PAGE, first, |env, id, value| {
                self.restore_device(env, id, value)
            })?;
            Ok(more.into())
        })?;
        Ok(())
    }

    fn restore_device(
        &mut self,
        env: &mut impl Env,
        id: u32,
        value: u64,
    ) -> Result<u32, TableError> {
        if !GITS_DTE::Valid.is_set(value) {
            return Ok(1);
        }
        let device = Device {
            itt: GITS_DTE::ITT_addr.get(value) << ITT_SHIFT,
            event_bits: GITS_DTE::Size.get(value) as u8 + 1,
        };
        if u32::from(device.event_bits) > EVENT_BITS || self.device_entry(env, id).is_none() {
            return Err(TableError::Invalid);
        }
        self.forget_events(env, id);
        self.devices.set(id, device)?;
        let count = 1 << device.event_bits.min(31);
        scan(env, device.itt, count, 0, |env, event, value| {
            self.restore_event(env, Event { device: id, event }, &device, value)
        })?;
        Ok(GITS_DTE::Next.get(value) as u32)
    }

    fn restore_event(
        &mut self,
        env: &mut impl Env,
        event: Event,
        device: &Device,
        value: u64,
    ) -> Result<u32, TableError> {
        let lpi = GITS_ITE::pINTID.get(value) as u32;
        let collection = GITS_ITE::ICID.get(value) as u16;
        let next = GITS_ITE::Next.get(value);
        if lpi == 0 {
            return Ok(1);
        }
        let last = u64::from(event.event).saturating_add(next);
        if last >> device.event_bits.min(31) != 0
            || self.collections.get(collection).is_none()
            || !has_event(env, device, event.event)
        {
            return Err(TableError::Invalid);
        }
        let lpi = LpiId::new(lpi).ok_or(TableError::Invalid)?;
        if self.events.get(event).is_some() {
            return Err(TableError::Invalid);
        }
        self.add_event(env, event, lpi, collection)?;
        Ok(next as u32)
    }
}
