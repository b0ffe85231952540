// SPDX-License-Identifier: GPL-2.0

//! ioeventfds: stores of the guest's that signal an eventfd instead of going to userspace.

use crate::host::eventfd::EventFd;
use crate::host::preempt::PreemptDisabled;
use crate::host::rcu_arc::RcuArc;
use crate::host::sched;
use core::sync::atomic::{AtomicU32, Ordering::*};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Where stores come from. On arm64 there is only memory-mapped I/O; the others may be asked for,
/// but nothing arrives.
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
    /// Returns whether there are stores that both wait for.
    fn collides(&self, other: &Self) -> bool {
        let same_data = self.data.is_none() || other.data.is_none() || self.data == other.data;
        let same_store =
            self.size == 0 || other.size == 0 || (self.size == other.size && same_data);
        self.bus == other.bus && self.address == other.address && same_store
    }
}

/// What an ioeventfd signals. Whoever has found it in the list may come late, when it is
/// deassigned.
struct StoreTarget {
    event: EventFd,
    /// How many stores are signalling it right now; and [`StoreTarget::ENDED`].
    users: AtomicU32,
}

impl StoreTarget {
    const ENDED: u32 = 1 << 31;

    /// Signals the eventfd; false if it is deassigned. The thread is not preempted meanwhile.
    fn signal(&self, _preempt: PreemptDisabled<'_>) -> bool {
        // All is about one word, so that there is one order: either `end` comes first and is seen
        // here, or it sees this one.
        let there = self.users.fetch_add(1, Acquire) & Self::ENDED == 0;
        if there {
            self.event.signal();
        }
        self.users.fetch_sub(1, Release);
        there
    }

    /// Ends a target that is in the list no more: when this returns nobody signals it. Waits for
    /// those who do, each of which takes no longer than a signal.
    fn end(&self) {
        self.users.fetch_or(Self::ENDED, Relaxed);
        while self.users.load(Acquire) != Self::ENDED {
            sched::yield_now();
        }
    }
}

#[derive(Clone)]
struct Ioeventfd {
    key: Key,
    target: Arc<StoreTarget>,
}

/// A VM's ioeventfds, sorted by their keys, of which no two collide.
#[pin_data]
pub(super) struct Ioeventfds {
    #[pin]
    sorted: RcuArc<KVVec<Ioeventfd>>,
}

impl Ioeventfds {
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            sorted <- RcuArc::new(KVVec::new()),
        }? Error)
    }

    /// Signals the ioeventfd that waits for a store: see [`super::Events::store`].
    pub(super) fn store(
        &self,
        preempt: PreemptDisabled<'_>,
        ipa: u64,
        data: u64,
        size: u8,
        device: impl FnOnce() -> bool,
    ) -> bool {
        self.sorted.read_sched(preempt, |all| {
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
            found.is_some_and(|one| one.target.signal(preempt))
        })
    }

    /// Adds an ioeventfd: see [`super::Events::assign_ioeventfd`].
    pub(super) fn assign(&self, event: EventFd, key: Key) -> Result {
        let new = Ioeventfd {
            key,
            target: Arc::new(
                StoreTarget {
                    event,
                    users: AtomicU32::new(0),
                },
                GFP_KERNEL_ACCOUNT,
            )?,
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

    /// Takes an ioeventfd away: see [`super::Events::deassign_ioeventfd`].
    pub(super) fn deassign(&self, event: &EventFd, key: Key) -> Result {
        let mut target = None;
        self.sorted.update(|all| {
            let at = all
                .binary_search_by_key(&key, |one| one.key)
                .map_err(|_| ENOENT)?;
            let found = all.get(at).map(|one| one.target.clone());
            target = found.filter(|target| target.event == *event);
            if target.is_none() {
                return Err(ENOENT);
            }
            let mut next = KVVec::with_capacity(all.len(), GFP_KERNEL_ACCOUNT)?;
            next.extend_from_slice(all.get(..at).unwrap_or(&[]), GFP_KERNEL_ACCOUNT)?;
            next.extend_from_slice(
                all.get(at.saturating_add(1)..).unwrap_or(&[]),
                GFP_KERNEL_ACCOUNT,
            )?;
            Ok(next)
        })?;
        if let Some(target) = target {
            target.end();
        }
        Ok(())
    }
}
