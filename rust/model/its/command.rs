// SPDX-License-Identifier: GPL-2.0

//! The commands that the guest gives (IHI 0069, section 5.3). One with a mistake in it is skipped,
//! as GITS_TYPER.SEIS = 0 lets an ITS do without telling.

use super::registers::GuestTable;
use super::table::ITT_SHIFT;
use super::{table, Collection, Device, Env, Event, Its, SortedMap, Translation};
use super::{DEVICE_BITS, EVENT_BITS};
use crate::model::sysreg::regs::{
    GITS_COMMAND_0, GITS_COMMAND_1, GITS_COMMAND_2, GITS_MAPD_1, GITS_MAPD_2, GITS_MOVALL_3,
};
use crate::model::vgic::LpiId;

/// Bytes of a command.
const SIZE: u64 = 32;

/// A command as it stands in the queue: its words.
struct Raw([u64; 4]);

impl Raw {
    fn event(&self) -> Event {
        Event {
            device: self.device(),
            event: GITS_COMMAND_1::EventID.get(self.0[1]) as u32,
        }
    }

    fn device(&self) -> u32 {
        GITS_COMMAND_0::DeviceID.get(self.0[0]) as u32
    }

    fn collection(&self) -> u16 {
        GITS_COMMAND_2::ICID.get(self.0[2]) as u16
    }

    /// Returns the redistributor's number.
    fn vcpu(&self) -> u32 {
        GITS_COMMAND_2::RDbase.get(self.0[2]) as u32
    }

    fn is_valid(&self) -> bool {
        GITS_COMMAND_2::V.is_set(self.0[2])
    }
}

impl<D, C, E> Its<D, C, E>
where
    D: SortedMap<u32, Device>,
    C: SortedMap<u16, Collection>,
    E: SortedMap<Event, Translation>,
{
    /// Does what is in the queue. The queue has at most 32,768 commands, and nobody adds to it
    /// meanwhile.
    pub(super) fn run_commands(&mut self, env: &mut impl Env) {
        while self.registers.enabled
            && self.registers.creadr != self.registers.cwriter
            && env.may_go_on()
        {
            let at = self.registers.queue().wrapping_add(self.registers.creadr);
            let mut words = [0, 8, 16, 24].map(|word| env.load(at.wrapping_add(word)));
            if let [Some(a), Some(b), Some(c), Some(d)] = &mut words {
                let _ = self.command(env, &Raw([*a, *b, *c, *d]));
            }
            let next = self.registers.creadr.wrapping_add(SIZE);
            self.registers.creadr = if next >= self.registers.queue_size() {
                0
            } else {
                next
            };
        }
    }

    /// Executes one command. `None`: there was something wrong with it, and nothing has happened.
    fn command(&mut self, env: &mut impl Env, raw: &Raw) -> Option<()> {
        match GITS_COMMAND_0::Command.get(raw.0[0]) {
            GITS_COMMAND_0::Command_MOVI => self.movi(env, raw),
            GITS_COMMAND_0::Command_INT => {
                let translation = self.translate(raw.event())?;
                self.target(env, translation.collection?)?;
                env.raise(translation.lpi);
                Some(())
            }
            GITS_COMMAND_0::Command_CLEAR => {
                env.clear(self.events.get(raw.event())?.lpi);
                Some(())
            }
            // Every command is done when the next one begins.
            GITS_COMMAND_0::Command_SYNC => Some(()),
            GITS_COMMAND_0::Command_MAPD => self.mapd(env, raw),
            GITS_COMMAND_0::Command_MAPC => self.mapc(env, raw),
            GITS_COMMAND_0::Command_MAPTI => {
                self.map(env, raw, GITS_COMMAND_1::pINTID.get(raw.0[1]) as u32)
            }
            GITS_COMMAND_0::Command_MAPI => self.map(env, raw, raw.event().event),
            GITS_COMMAND_0::Command_INV => {
                env.reload(self.events.get(raw.event())?.lpi);
                Some(())
            }
            GITS_COMMAND_0::Command_INVALL => {
                let vcpu = self.target(env, raw.collection())?;
                env.reload_all(vcpu);
                Some(())
            }
            GITS_COMMAND_0::Command_MOVALL => {
                let to = GITS_MOVALL_3::RDbase2.get(raw.0[3]) as u32;
                let (from, to) = (env.vcpu(raw.vcpu())?, env.vcpu(to)?);
                if from != to {
                    env.move_all(from, to);
                }
                Some(())
            }
            GITS_COMMAND_0::Command_DISCARD => self.discard(env, raw),
            _ => None,
        }
    }

    /// Returns what an event of a mapped collection stands for; `None` for another event.
    fn translate(&self, event: Event) -> Option<Translation> {
        let translation = self.events.get(event)?;
        self.collections.get(translation.collection?)??;
        Some(translation)
    }

    /// Returns whether a collection's number fits into the table that the guest has provided.
    fn has_place(&self, env: &mut impl Env, collection: u16) -> bool {
        let place = table::entry(env, self.registers.collection_table(), collection.into());
        place.is_some_and(|place| env.is_memory(place))
    }

    /// Returns where a device's entry belongs in the guest's table, if that has a place for it.
    pub(super) fn device_entry(&self, env: &mut impl Env, device: u32) -> Option<u64> {
        if device >> DEVICE_BITS != 0 {
            return None;
        }
        let table: GuestTable = self.registers.device_table();
        table::entry(env, table, device).filter(|&place| env.is_memory(place))
    }

    /// Executes MAPD: a device has a table of so many events, or none any more.
    fn mapd(&mut self, env: &mut impl Env, raw: &Raw) -> Option<()> {
        let id = raw.device();
        let place = self.device_entry(env, id)?;
        let event_bits = GITS_MAPD_1::Size.get(raw.0[1]) as u32 + 1;
        if raw.is_valid() && event_bits > EVENT_BITS {
            return None;
        }
        // Mapped again, it begins anew.
        self.forget_events(env, id);
        self.devices.remove(id);
        if !raw.is_valid() {
            // Not to be found by who restores the tables.
            env.store(place, 0);
            return Some(());
        }
        let device = Device {
            itt: GITS_MAPD_2::ITT_addr.get(raw.0[2]) << ITT_SHIFT,
            event_bits: event_bits as u8,
        };
        self.devices.set(id, device).ok()
    }

    /// Executes MAPC: a collection belongs to a vCPU, or does not exist any more.
    fn mapc(&mut self, env: &mut impl Env, raw: &Raw) -> Option<()> {
        let id = raw.collection();
        if !raw.is_valid() {
            self.each_event(env, |_, its, event, translation| {
                if translation.collection == Some(id) {
                    its.orphan(event, translation);
                }
            });
            self.collections.remove(id);
            return Some(());
        }
        let number = raw.vcpu();
        let vcpu = env.vcpu(number)?;
        if self.collections.get(id).is_none() && !self.has_place(env, id) {
            return None;
        }
        self.collections.set(id, Some(number)).ok()?;
        self.each_event(env, |env, _, _, translation| {
            if translation.collection == Some(id) {
                env.route(translation.lpi, Some(vcpu));
            }
        });
        Some(())
    }

    /// Executes MAPTI, and MAPI, where the event's number is the LPI's: an event stands for an LPI,
    /// in a collection.
    fn map(&mut self, env: &mut impl Env, raw: &Raw, lpi: u32) -> Option<()> {
        let (event, collection) = (raw.event(), raw.collection());
        let device = self.devices.get(event.device)?;
        if !has_event(env, &device, event.event) {
            return None;
        }
        let lpi = LpiId::new(lpi).filter(|lpi| lpi.get() < env.lpi_limit())?;
        // To map it twice is UNPREDICTABLE: the first one counts.
        if self.events.get(event).is_some() {
            return None;
        }
        if self.collections.get(collection).is_none() {
            if !self.has_place(env, collection) {
                return None;
            }
            self.collections.set(collection, None).ok()?;
        }
        self.add_event(env, event, lpi, collection).ok()
    }

    /// Executes MOVI: an event is in another collection.
    fn movi(&mut self, env: &mut impl Env, raw: &Raw) -> Option<()> {
        let event = raw.event();
        let old = self.translate(event)?;
        let target = self.target(env, raw.collection())?;
        let new = Translation {
            collection: Some(raw.collection()),
            ..old
        };
        self.events.set(event, new).ok()?;
        env.route(old.lpi, Some(target));
        Some(())
    }

    /// Executes DISCARD: an event stands for nothing any more.
    fn discard(&mut self, env: &mut impl Env, raw: &Raw) -> Option<()> {
        let event = raw.event();
        let translation = self.translate(event)?;
        let device = self.devices.get(event.device)?;
        self.forget_event(env, event, translation);
        env.store(table::itt_entry(&device, event.event), 0);
        Some(())
    }

    fn orphan(&mut self, event: Event, translation: Translation) {
        let orphan = Translation {
            collection: None,
            ..translation
        };
        // The key is there: nothing has to be allocated.
        let _ = self.events.set(event, orphan);
    }

    /// Takes all events out of their collections: all of those go.
    pub(super) fn orphan_events(&mut self, env: &mut impl Env) {
        self.each_event(env, |_, its, event, translation| {
            its.orphan(event, translation)
        });
    }

    fn each_event<V: Env>(
        &mut self,
        env: &mut V,
        mut each: impl FnMut(&mut V, &mut Self, Event, Translation),
    ) {
        let mut at = Event {
            device: 0,
            event: 0,
        };
        while let Some((event, translation)) = self.events.at_or_after(at) {
            each(env, self, event, translation);
            let _ = env.may_go_on();
            // Events have fewer bits than their numbers' type.
            at = Event {
                event: event.event.saturating_add(1),
                ..event
            };
        }
    }
}

/// Returns whether a device has this event, and the guest memory for its entry.
pub(super) fn has_event(env: &mut impl Env, device: &Device, event: u32) -> bool {
    event >> device.event_bits.min(31) == 0 && env.is_memory(table::itt_entry(device, event))
}
