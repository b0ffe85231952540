// SPDX-License-Identifier: GPL-2.0

//! A VM's interrupt translation services: where the guest sees each, and the way of a message
//! through it.

use super::gic::{self, VmGic};
use crate::host::preempt::PreemptDisabled;
use crate::host::raw_spinlock::RawSpinLock;
use crate::host::rcu_arc::RcuArc;
use crate::model::its::{
    self, Collection, Device, Env, Event, NoMemory, RegisterError, SortedMap, TableError,
    Translation, FRAME_SIZE, TRANSLATER,
};
use crate::model::vcpus::VcpuId;
use crate::model::vgic::NotRaised;
use kernel::prelude::*;
use kernel::rbtree::{RBTree, RBTreeNode};
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, static_lock_class, Arc, Mutex};

/// What is kept of an ITS by one thread at a time.
struct SortedTree<K, V>(RBTree<K, V>);

impl<K: Ord + Copy, V: Copy> SortedMap<K, V> for SortedTree<K, V> {
    fn get(&self, key: K) -> Option<V> {
        self.0.get(&key).copied()
    }

    fn set(&mut self, key: K, value: V) -> core::result::Result<(), NoMemory> {
        self.0
            .try_create_and_insert(key, value, GFP_KERNEL_ACCOUNT)
            .map_err(|_| NoMemory)?;
        Ok(())
    }

    fn remove(&mut self, key: K) {
        self.0.remove(&key);
    }

    fn at_or_after(&self, key: K) -> Option<(K, V)> {
        let cursor = self.0.cursor_lower_bound(&key)?;
        let (key, value) = cursor.current();
        Some((*key, *value))
    }
}

/// The translations, which messages look up in any context: changed by one thread at a time, under
/// a lock that lets others look meanwhile.
#[derive(Clone)]
struct TranslationTree(Arc<RawSpinLock<RBTree<Event, Translation>>>);

impl TranslationTree {
    fn new() -> Result<Self> {
        let tree = RawSpinLock::new(RBTree::new(), c"loft::Its::events", static_lock_class!());
        Ok(Self(Arc::pin_init(tree, GFP_KERNEL_ACCOUNT)?))
    }
}

impl SortedMap<Event, Translation> for TranslationTree {
    fn get(&self, key: Event) -> Option<Translation> {
        self.0.lock().get(&key).copied()
    }

    fn set(&mut self, key: Event, value: Translation) -> core::result::Result<(), NoMemory> {
        if let Some(old) = self.0.lock().get_mut(&key) {
            *old = value;
            return Ok(());
        }
        let node = RBTreeNode::new(key, value, GFP_KERNEL_ACCOUNT).map_err(|_| NoMemory)?;
        // Nobody else adds one, so there is none to be replaced, nor to be freed under the lock.
        let replaced = self.0.lock().insert(node);
        drop(replaced);
        Ok(())
    }

    fn remove(&mut self, key: Event) {
        let removed = self.0.lock().remove_node(&key);
        drop(removed);
    }

    fn at_or_after(&self, key: Event) -> Option<(Event, Translation)> {
        let tree = self.0.lock();
        let cursor = tree.cursor_lower_bound(&key)?;
        let (key, value) = cursor.current();
        Some((*key, *value))
    }
}

type ItsModel = its::Its<SortedTree<u32, Device>, SortedTree<u16, Collection>, TranslationTree>;

/// The address of an ITS that has none.
pub(crate) const NOWHERE: u64 = u64::MAX;

/// One ITS.
#[pin_data]
pub(crate) struct VmIts {
    /// Where the guest sees it; set once.
    base: Atomic<u64>,
    /// As the model says, for messages to look at.
    enabled: Atomic<bool>,
    events: TranslationTree,
    #[pin]
    model: Mutex<ItsModel>,
}

/// A message of a device's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Msi {
    /// The address that it is written to.
    pub(crate) address: u64,
    /// What is written: the event.
    pub(crate) data: u32,
    /// Who writes it; `None`: it was not said.
    pub(crate) device: Option<u32>,
}

/// Says that a message has raised an interrupt, or that this was pending already.
pub(crate) struct Raised {
    /// The vCPU that has to be kicked for it.
    pub(crate) kick: Option<VcpuId>,
}

impl VmIts {
    /// Makes an ITS that no VM has yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let events = TranslationTree::new()?;
        let model = ItsModel::new(
            SortedTree(RBTree::new()),
            SortedTree(RBTree::new()),
            events.clone(),
        );
        Arc::pin_init(
            pin_init!(Self {
                base: Atomic::new(NOWHERE),
                enabled: Atomic::new(false),
                events,
                model <- new_mutex!(model, "loft::Its::model"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns where the guest sees it, or [`NOWHERE`].
    pub(crate) fn base(&self) -> u64 {
        self.base.load(Relaxed)
    }

    fn with_model<R>(&self, body: impl FnOnce(&mut ItsModel) -> R) -> R {
        let mut model = self.model.lock();
        let result = body(&mut model);
        self.enabled.store(model.is_enabled(), Relaxed);
        result
    }

    /// Reads a register for the guest.
    pub(crate) fn read(&self, offset: u32, size: u8) -> u64 {
        self.model.lock().read(offset, size)
    }

    /// Writes a register for the guest, in the thread of a vCPU.
    pub(crate) fn write(&self, env: &mut impl Env, offset: u32, size: u8, value: u64) {
        self.with_model(|model| model.write(env, offset, size, value));
    }

    /// Checks that userspace can save the register.
    pub(crate) fn user_has(offset: u64) -> Result {
        ItsModel::user_has(offset).map_err(register_errno)
    }

    /// Reads a register for userspace; no vCPU runs.
    pub(crate) fn user_read(&self, offset: u64) -> Result<u64> {
        self.model.lock().user_read(offset).map_err(register_errno)
    }

    /// Sets a register for userspace; no vCPU runs.
    pub(crate) fn user_write(&self, env: &mut impl Env, offset: u64, value: u64) -> Result {
        self.with_model(|model| model.user_write(env, offset, value))
            .map_err(register_errno)
    }

    /// Serves KVM_DEV_ARM_ITS_CTRL_RESET; no vCPU runs.
    pub(crate) fn reset(&self, env: &mut impl Env) {
        self.with_model(|model| model.reset(env));
    }

    /// Serves KVM_DEV_ARM_ITS_SAVE_TABLES; no vCPU runs.
    pub(crate) fn save(&self, env: &mut impl Env) -> Result {
        self.model.lock().save(env).map_err(table_errno)
    }

    /// Serves KVM_DEV_ARM_ITS_RESTORE_TABLES; no vCPU runs.
    pub(crate) fn restore(&self, env: &mut impl Env) -> Result {
        self.with_model(|model| model.restore(env))
            .map_err(table_errno)
    }
}

fn register_errno(error: RegisterError) -> Error {
    match error {
        RegisterError::Alignment | RegisterError::Value => EINVAL,
        RegisterError::NoRegister => ENXIO,
        RegisterError::Enabled => EBUSY,
    }
}

fn table_errno(error: TableError) -> Error {
    match error {
        TableError::Memory => EFAULT,
        TableError::Invalid => EINVAL,
        TableError::Exists => EEXIST,
        TableError::NoMemory => ENOMEM,
    }
}

/// A VM's ITSes, in the order that they were made. They stay until the VM ends.
#[pin_data]
pub(crate) struct ItsList {
    #[pin]
    all: RcuArc<KVec<Arc<VmIts>>>,
}

/// More than any machine has.
const MOST: usize = 64;

impl ItsList {
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            all <- RcuArc::new(KVec::new()),
        }? Error)
    }

    /// Returns the ITS with this number.
    pub(crate) fn get(&self, number: usize) -> Option<Arc<VmIts>> {
        self.all.read(|all| all.get(number).cloned())
    }

    /// Returns which ITS is at `ipa`, by its number, and where in it that is.
    pub(crate) fn find(&self, preempt: PreemptDisabled<'_>, ipa: u64) -> Option<(usize, u32)> {
        self.all.read_sched(preempt, |all| {
            all.iter().enumerate().find_map(|(number, its)| {
                let offset = ipa.checked_sub(its.base())?;
                (offset < FRAME_SIZE).then_some((number, offset as u32))
            })
        })
    }

    /// Adds an ITS, and with it LPIs to `gic`; the caller holds `config`. `ENOSPC`: there are
    /// enough.
    pub(crate) fn add(&self, its: Arc<VmIts>, gic: &VmGic) -> Result {
        self.all.update(|all| {
            if all.len() >= MOST {
                return Err(ENOSPC);
            }
            let mut next = KVec::with_capacity(all.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;
            for one in all {
                next.push(one.clone(), GFP_KERNEL_ACCOUNT)?;
            }
            next.push(its, GFP_KERNEL_ACCOUNT)?;
            gic.add_lpis()?;
            Ok(next)
        })
    }

    /// Returns whether there is an ITS.
    pub(crate) fn any(&self) -> bool {
        self.all.read(|all| !all.is_empty())
    }

    /// Sets where the guest sees an ITS, below `limit`; the caller holds `config`.
    ///
    /// Errors: `EEXIST` if it is set; `EINVAL` if it is not aligned, or lies over another ITS;
    /// `E2BIG` beyond the VM's addresses.
    pub(crate) fn place(&self, its: &VmIts, base: u64, limit: u64) -> Result {
        if its.base() != NOWHERE {
            return Err(EEXIST);
        }
        gic::check_range(base, FRAME_SIZE, limit)?;
        let taken = self.all.read(|all| {
            all.iter()
                .any(|one| one.base() != NOWHERE && one.base().abs_diff(base) < FRAME_SIZE)
        });
        if taken {
            return Err(EINVAL);
        }
        its.base.store(base, Relaxed);
        Ok(())
    }

    /// Takes a message: raises its interrupt in `gic`, and returns which vCPU to kick for it;
    /// `None` if it raises nothing. In any context.
    ///
    /// Errors: `ENODEV` without an ITS, `EINVAL` if nothing takes messages at that address or the
    /// device was not said, `EBUSY` if the ITS or the vCPU's LPIs are disabled.
    pub(crate) fn signal(&self, gic: &VmGic, msi: Msi) -> Result<Option<Raised>> {
        let its = self.all.read(|all| {
            if all.is_empty() {
                return Err(ENODEV);
            }
            msi.device.ok_or(EINVAL)?;
            let found = all
                .iter()
                .find(|its| its.base() != NOWHERE && its.base() + TRANSLATER == msi.address);
            found.cloned().ok_or(EINVAL)
        })?;
        if !its.enabled.load(Relaxed) {
            return Err(EBUSY);
        }
        let event = Event {
            device: msi.device.ok_or(EINVAL)?,
            event: msi.data,
        };
        // Raised under the translation's lock: once that is gone, nothing comes any more.
        let events = its.events.0.lock();
        let Some(translation) = events
            .get(&event)
            .filter(|translation| translation.collection.is_some())
        else {
            return Ok(None);
        };
        match gic.model().ok_or(EBUSY)?.raise_lpi(translation.lpi) {
            Ok(kick) => Ok(Some(Raised { kick })),
            Err(NotRaised::Unmapped) => Ok(None),
            Err(NotRaised::Disabled) => Err(EBUSY),
        }
    }
}
