// SPDX-License-Identifier: GPL-2.0

//! The guest's interrupt translation service (IHI 0069, chapter 5): it makes an LPI of a device's
//! message.
//!
//! A message is a pair of numbers: which device, and which of its events. Two tables lead from
//! there to an LPI and to a collection, a third from the collection to a vCPU. The guest fills them
//! by commands that it puts into a queue in its memory ([`command`]).
//!
//! The architecture leaves to an ITS what it keeps in the memory that the guest provides for its
//! tables. This one keeps nothing there while the guest runs: the translations are in
//! [`SortedMap`]s, where a message finds them without touching the guest's memory, in any context.
//! They are written to the guest's memory, and read from it, only when userspace saves or restores
//! the VM ([`table`]), in the layout of KVM's ABI revision 0
//! (Documentation/virt/kvm/devices/arm-vgic-its.rst), so that a VM can go from one hypervisor to
//! the other.
//!
//! Commands run when the guest writes GITS_CWRITER, before its write is complete. Everything in
//! here may sleep, and is called by one thread at a time; what messages need is in the maps' and
//! the LPIs' hands.

mod command;
mod registers;
mod table;

pub use registers::{RegisterError, FRAME_SIZE, TRANSLATER};
pub use table::TableError;

use super::vcpus::VcpuId;
use super::vgic::LpiId;

/// There is not enough memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// What an ITS needs of its VM. LPIs are those of the whole VM.
pub trait Env {
    /// Reads eight bytes of the guest's memory, little-endian. `None`: there is no memory.
    fn load(&mut self, ipa: u64) -> Option<u64>;
    /// Writes eight bytes of the guest's memory; false: there is none, or none that can be written.
    fn store(&mut self, ipa: u64, value: u64) -> bool;
    /// Returns whether the guest has memory at this address.
    fn is_memory(&mut self, ipa: u64) -> bool;
    /// Returns the vCPU with this GICR_TYPER.Processor_Number, if there is one.
    fn vcpu(&mut self, number: u32) -> Option<VcpuId>;
    /// Returns the first INTID beyond the guest's LPIs.
    fn lpi_limit(&mut self) -> u32;

    /// Notes that one more event stands for this LPI. If it is the first one, the LPI goes to
    /// `target`, and the guest's tables say how it is configured and whether it is pending; the
    /// latter they say no more. After an error it is as before.
    fn map(&mut self, lpi: LpiId, target: Option<VcpuId>) -> Result<(), TableError>;
    /// Notes that one event less stands for this LPI.
    fn unmap(&mut self, lpi: LpiId);
    /// Makes the guest's tables say again which LPIs are pending.
    fn keep_pending(&mut self);
    /// Routes this LPI to another vCPU.
    fn route(&mut self, lpi: LpiId, target: Option<VcpuId>);
    /// Takes a message for this LPI.
    fn raise(&mut self, lpi: LpiId);
    /// Makes this LPI not pending any more.
    fn clear(&mut self, lpi: LpiId);
    /// Reads again what the guest's table says of this LPI, which may have changed.
    fn reload(&mut self, lpi: LpiId);
    /// Does as [`Self::reload`] for all LPIs that go to one vCPU.
    fn reload_all(&mut self, vcpu: VcpuId);
    /// Routes all LPIs that go to one vCPU to another.
    fn move_all(&mut self, from: VcpuId, to: VcpuId);

    /// Returns whether to go on; called now and then in what takes long. False: nobody waits for it
    /// any more.
    fn may_go_on(&mut self) -> bool;
}

/// A sorted map.
pub trait SortedMap<K, V> {
    /// Returns the value of a key, if it has one.
    fn get(&self, key: K) -> Option<V>;
    /// Sets the value of a key.
    fn set(&mut self, key: K, value: V) -> Result<(), NoMemory>;
    /// Forgets a key.
    fn remove(&mut self, key: K);
    /// Returns the first key that is at least this one, and its value, if there is one.
    fn at_or_after(&self, key: K) -> Option<(K, V)>;
}

/// A device whose messages can be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The address of its interrupt translation table, 256 byte aligned.
    pub itt: u64,
    /// How many bits its events' numbers have, at most [`EVENT_BITS`].
    pub event_bits: u8,
}

/// One event of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// DeviceID.
    pub device: u32,
    /// EventID.
    pub event: u32,
}

/// What an event stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The interrupt.
    pub lpi: LpiId,
    /// The collection. `None` once that has been unmapped: a message raises nothing.
    pub collection: Option<u16>,
}

/// The vCPU of a collection, by its number; `None`: it was named, but is not mapped yet.
pub type Collection = Option<u32>;

/// How many bits DeviceIDs have.
pub const DEVICE_BITS: u32 = 16;
/// How many bits EventIDs have.
pub const EVENT_BITS: u32 = 16;

/// More events than LPIs serve nobody, and a guest must not take any amount of the host's memory.
const MOST_EVENTS: u32 = (1 << LpiId::BITS) - LpiId::FIRST;

/// The registers, as they are when there is no ITS yet.
#[derive(Clone, Copy, Debug)]
struct Registers {
    enabled: bool,
    cbaser: u64,
    cwriter: u64,
    creadr: u64,
    /// GITS_BASER0 and GITS_BASER1.
    devices: u64,
    collections: u64,
}

/// One ITS.
#[derive(Debug)]
pub struct Its<D, C, E> {
    registers: Registers,
    devices: D,
    collections: C,
    events: E,
    nr_events: u32,
}

impl<D, C, E> Its<D, C, E>
where
    D: SortedMap<u32, Device>,
    C: SortedMap<u16, Collection>,
    E: SortedMap<Event, Translation>,
{
    /// Makes an ITS out of reset; the maps are empty.
    pub fn new(devices: D, collections: C, events: E) -> Self {
        Self {
            registers: Registers::new(),
            devices,
            collections,
            events,
            nr_events: 0,
        }
    }

    /// Returns whether messages are translated.
    pub fn is_enabled(&self) -> bool {
        self.registers.enabled
    }

    /// Serves KVM_DEV_ARM_ITS_CTRL_RESET: makes it as it was when it was made.
    pub fn reset(&mut self, env: &mut impl Env) {
        self.registers.reset();
        self.forget_devices(env);
        self.forget_collections();
    }

    /// Returns where a collection's LPIs go; `None` if nowhere.
    fn target(&self, env: &mut impl Env, collection: u16) -> Option<VcpuId> {
        self.collections
            .get(collection)
            .flatten()
            .and_then(|number| env.vcpu(number))
    }

    fn forget_events(&mut self, env: &mut impl Env, device: u32) {
        let mut at = Event { device, event: 0 };
        while let Some((event, translation)) = self.events.at_or_after(at) {
            if event.device != device {
                break;
            }
            self.forget_event(env, event, translation);
            at = event;
        }
    }

    fn forget_event(&mut self, env: &mut impl Env, event: Event, translation: Translation) {
        // First, so that no message finds it any more.
        self.events.remove(event);
        self.nr_events = self.nr_events.saturating_sub(1);
        env.unmap(translation.lpi);
        let _ = env.may_go_on();
    }

    fn forget_devices(&mut self, env: &mut impl Env) {
        while let Some((device, _)) = self.devices.at_or_after(0) {
            self.forget_events(env, device);
            self.devices.remove(device);
        }
    }

    fn forget_collections(&mut self) {
        while let Some((collection, _)) = self.collections.at_or_after(0) {
            self.collections.remove(collection);
        }
    }

    /// Maps an event.
    fn add_event(
        &mut self,
        env: &mut impl Env,
        event: Event,
        lpi: LpiId,
        collection: u16,
    ) -> Result<(), TableError> {
        if self.nr_events >= MOST_EVENTS {
            return Err(TableError::NoMemory);
        }
        let target = self.target(env, collection);
        let translation = Translation {
            lpi,
            collection: Some(collection),
        };
        // First, since mapping takes what is pending out of the guest's table: after it nothing may
        // fail.
        self.events.set(event, translation)?;
        if let Err(error) = env.map(lpi, target) {
            self.events.remove(event);
            return Err(error);
        }
        self.nr_events = self.nr_events.saturating_add(1);
        Ok(())
    }
}
