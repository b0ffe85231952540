// SPDX-License-Identifier: GPL-2.0

//! ioeventfds: stores of the guest's that signal an eventfd instead of going to userspace.

use crate::host::event::EventFd;
use crate::host::rcu::Published;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Where stores come from. On arm64 there is only memory-mapped I/O; the others may be asked for, but nothing arrives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Bus {
    Mmio,
    Pio,
    VirtioCcw,
}

/// Which stores an ioeventfd waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) bus: Bus,
    pub(crate) address: u64,
    /// The store's size in bytes; 0: any.
    pub(crate) size: u32,
    /// What is stored; `None`: anything.
    pub(crate) data: Option<u64>,
}

impl Key {
    /// Whether there are stores that both wait for.
    fn collides(&self, other: &Self) -> bool {
        let same_data = self.data.is_none() || other.data.is_none() || self.data == other.data;
        let same_store =
            self.size == 0 || other.size == 0 || (self.size == other.size && same_data);
        self.bus == other.bus && self.address == other.address && same_store
    }
}

#[derive(Clone)]
struct Ioeventfd {
    key: Key,
    event: Arc<EventFd>,
}

/// A VM's ioeventfds, sorted by their keys, of which no two collide.
#[pin_data]
pub(super) struct Ioeventfds {
    #[pin]
    sorted: Published<KVVec<Ioeventfd>>,
}

impl Ioeventfds {
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            sorted <- Published::new(KVVec::new()),
        }? Error)
    }

    /// See [`super::Events::store`].
    pub(super) fn store(
        &self,
        ipa: u64,
        data: u64,
        size: u8,
        device: impl FnOnce() -> bool,
    ) -> bool {
        self.sorted.read(|all| {
            let first =
                all.partition_point(|one| (one.key.bus, one.key.address) < (Bus::Mmio, ipa));
            let from = all.get(first..).unwrap_or(&[]);
            // Most stores that come here are for a device in userspace.
            if from
                .first()
                .is_none_or(|one| (one.key.bus, one.key.address) != (Bus::Mmio, ipa))
            {
                return false;
            }
            // At most one of these is there: they collide.
            let wanted = [(0, None), (size.into(), None), (size.into(), Some(data))];
            let found = wanted.into_iter().find_map(|(size, data)| {
                let key = Key {
                    bus: Bus::Mmio,
                    address: ipa,
                    size,
                    data,
                };
                from.get(from.binary_search_by_key(&key, |one| one.key).ok()?)
            });
            let found = found.filter(|_| device());
            found.inspect(|one| one.event.signal()).is_some()
        })
    }

    /// See [`super::Events::assign_ioeventfd`].
    pub(super) fn assign(&self, event: EventFd, key: Key) -> Result {
        let new = Ioeventfd {
            key,
            event: Arc::new(event, GFP_KERNEL_ACCOUNT)?,
        };
        self.sorted.update(|all| {
            if all.iter().any(|one| one.key.collides(&key)) {
                return Err(EEXIST);
            }
            let at = all.partition_point(|one| one.key < key);
            let mut next = KVVec::with_capacity(all.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;
            next.extend_from_slice(all.get(..at).unwrap_or(&[]), GFP_KERNEL_ACCOUNT)?;
            next.push(new, GFP_KERNEL_ACCOUNT)?;
            next.extend_from_slice(all.get(at..).unwrap_or(&[]), GFP_KERNEL_ACCOUNT)?;
            Ok(next)
        })
    }

    /// See [`super::Events::deassign_ioeventfd`].
    pub(super) fn deassign(&self, event: &EventFd, key: Key) -> Result {
        self.sorted.update(|all| {
            let at = all
                .binary_search_by_key(&key, |one| one.key)
                .map_err(|_| ENOENT)?;
            if !all.get(at).is_some_and(|one| *one.event == *event) {
                return Err(ENOENT);
            }
            let mut next = KVVec::with_capacity(all.len(), GFP_KERNEL_ACCOUNT)?;
            next.extend_from_slice(all.get(..at).unwrap_or(&[]), GFP_KERNEL_ACCOUNT)?;
            next.extend_from_slice(
                all.get(at.saturating_add(1)..).unwrap_or(&[]),
                GFP_KERNEL_ACCOUNT,
            )?;
            Ok(next)
        })
    }
}
