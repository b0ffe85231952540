// SPDX-License-Identifier: GPL-2.0

//! A virtual machine: its memory, its interrupt controller, its vCPUs and its events.

pub(crate) mod debugfs;
pub(crate) mod events;
pub(crate) mod gic;
mod interrupts;
pub(crate) mod its;
pub(crate) mod lpi;
pub(crate) mod memory;
mod s2_mmu;
pub(crate) mod timers;
pub(crate) mod vcpu_handle;
pub(crate) mod vcpu_stats;
pub(crate) mod vm_stats;
pub(crate) mod vmid;

use crate::arch::cpu::{self, Flaws};
use crate::arch::{meltdown, spectre_bhb};
use crate::host::mmu_notifier::Registration;
use crate::host::module;
use crate::host::raw_spinlock::RawSpinLock;
use crate::model::psci;
use crate::model::smccc::filter::{Filter, FunctionRange, Ranges};
use crate::model::smccc::{self, Bitmaps, Firmware, Mitigation};
use crate::model::sysreg::idregs::{IdConfig, HOST_SOURCES};
use crate::model::sysreg::regs::ID_AA64PFR1_EL1;
use crate::model::sysreg::{IdReg, IdRegs};
use crate::model::vcpus::VcpuId;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use kernel::prelude::*;
use kernel::sync::{new_mutex, static_lock_class, Arc, Mutex, SetOnce};
use memory::GuestMemory;
use timers::TimerPpis;
use vcpu_handle::VcpuHandle;
use vm_stats::VmStats;

/// The IPA size of a VM whose maker does not say one, as KVM's.
pub(crate) const DEFAULT_IPA_BITS: u32 = 40;

/// One VM. The VM's file, its vCPUs' and its devices' files hold references.
#[pin_data]
pub(crate) struct Vm {
    /// Its memory, while the VMM's address space is followed.
    pub(crate) memory: Arc<GuestMemory>,
    _notifier: Pin<KBox<Registration<GuestMemory>>>,
    /// Held while a vCPU is made, so that one is at a time.
    #[pin]
    pub(crate) making_vcpu: Mutex<()>,
    /// What is set up before vCPUs run.
    #[pin]
    pub(crate) config: Mutex<VmConfig>,
    /// The vCPUs, in the order they were made; only ever added to. Also looked through in
    /// interrupts, by irqfds.
    #[pin]
    vcpus: RawSpinLock<Arc<KVec<Arc<VcpuHandle>>>>,
    /// The interrupt controller.
    #[pin]
    pub(crate) gic: gic::VmGic,
    /// What makes interrupts of messages.
    #[pin]
    pub(crate) its: its::ItsList,
    /// ioeventfds, irqfds and the routing of GSIs.
    #[pin]
    pub(crate) events: events::Events<Vm>,
    /// The identification registers, when the first vCPU has run and they can no longer change.
    pub(crate) ids: SetOnce<IdRegs>,
    /// The interrupts of the timers, fixed at the same time.
    pub(crate) timers: SetOnce<TimerPpis>,
    /// What userspace wants of firmware calls, fixed at the same time; empty where it wants
    /// nothing.
    pub(crate) smccc_filter: SetOnce<Filter<KVVec<FunctionRange>>>,
    /// How often userspace has changed the firmware: a vCPU that has seen fewer changes looks
    /// again.
    firmware_changes: AtomicU32,
    /// What the guest's counters are behind the machine's.
    pub(crate) offsets: Offsets,
    /// For each CPU of the host, which vCPU ran there last, plus one.
    last_ran: KVVec<AtomicU32>,
    /// KVM_CAP_ARM_NISV_TO_USER.
    tells_undescribed: AtomicBool,
    /// KVM_CAP_ARM_SEA_TO_USER.
    tells_errors: AtomicBool,
    /// How long its vCPUs wait awake.
    halt: HaltLimits,
    /// It was started without what it needs, and is of no more use.
    dead: AtomicBool,
    /// What tells it from all VMs that have been since the module was loaded.
    pub(crate) number: u64,
    /// What its counters are read from.
    pub(crate) stats: Arc<VmStats>,
    /// Its place among all VMs, and its directory in debugfs.
    listed: SetOnce<debugfs::Listed>,
}

/// How long a vCPU that waits keeps its CPU: the module's parameters, or KVM_CAP_HALT_POLL.
struct HaltLimits {
    /// In the vector, in ticks of the counter.
    vector_ticks: AtomicU64,
    /// Looking for something to do, in nanoseconds.
    poll_ns: AtomicU64,
}

impl HaltLimits {
    /// Nobody waits in the vector for longer, whatever a VMM says: as the module's parameter.
    const MAX_VECTOR_NS: u64 = 10_000_000;

    fn new(vector_ns: u64, poll_ns: u64) -> Self {
        let limits = Self {
            vector_ticks: AtomicU64::new(0),
            poll_ns: AtomicU64::new(0),
        };
        limits.set(vector_ns, poll_ns);
        limits
    }

    fn set(&self, vector_ns: u64, poll_ns: u64) {
        let hz = u64::from(crate::arch::cpu::features().counter_hz);
        let ticks = vector_ns.min(Self::MAX_VECTOR_NS).saturating_mul(hz) / 1_000_000_000;
        self.vector_ticks.store(ticks, Relaxed);
        self.poll_ns.store(poll_ns, Relaxed);
    }
}

/// What userspace has chosen for a vCPU (KVM_ARM_VCPU_INIT), the same for all vCPUs of a VM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct VcpuFeatures {
    /// PSCI 0.2 or later, rather than 0.1.
    pub(crate) psci_0_2: bool,
    /// Both halves of pointer authentication.
    pub(crate) pointer_auth: bool,
}

/// What of a VM may change until its first vCPU runs.
pub(crate) struct VmConfig {
    /// The identification registers as userspace has set them.
    pub(crate) ids: IdRegs,
    /// The most that it may set them to.
    pub(crate) limit: IdRegs,
    /// The features of the first KVM_ARM_VCPU_INIT, which all others must repeat.
    pub(crate) vcpu_features: Option<VcpuFeatures>,
    /// But for what [`VmConfig::firmware`] adds.
    firmware: Firmware,
    pub(crate) timers: TimerPpis,
    /// Until then; empty afterwards.
    pub(crate) smccc_filter: Filter<KVVec<FunctionRange>>,
    /// KVM_CAP_ARM_WRITABLE_IMP_ID_REGS: MIDR_EL1, REVIDR_EL1 and AIDR_EL1 may be set.
    pub(crate) writable_implementation: bool,
    pub(crate) dirty_log: ManualDirtyLog,
    /// A vCPU has run.
    pub(crate) started: bool,
}

impl Ranges for KVVec<FunctionRange> {
    fn put(&mut self, place: usize, range: FunctionRange) -> bool {
        // No warning where userspace asks for more than the kernel gives out at once.
        self.reserve(1, GFP_KERNEL_ACCOUNT | __GFP_NOWARN).is_ok()
            && self.insert_within_capacity(place, range).is_ok()
    }
}

/// KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: what userspace does itself of what KVM_GET_DIRTY_LOG would
/// do.
#[derive(Clone, Copy, Default)]
pub(crate) struct ManualDirtyLog {
    /// What KVM_GET_DIRTY_LOG reads stays, until KVM_CLEAR_DIRTY_LOG.
    pub(crate) clears: bool,
    /// A log begins with all pages in it, which are then cleared (and write-protected) bit by bit.
    pub(crate) initially_set: bool,
}

impl VmConfig {
    fn new() -> Self {
        let limit = guest_ids(false);
        Self {
            ids: limit.clone(),
            limit,
            vcpu_features: None,
            firmware: firmware(),
            timers: TimerPpis::NEW,
            smccc_filter: Filter::new(KVVec::new()),
            writable_implementation: false,
            dirty_log: ManualDirtyLog::default(),
            started: false,
        }
    }

    /// Returns what firmware calls answer to a guest with these identification registers.
    fn firmware(&self) -> Firmware {
        let pfr1 = self.ids.get(IdReg::AA64PFR1);
        Firmware {
            ssbs: ID_AA64PFR1_EL1::SSBS.get(pfr1) != 0,
            ..self.firmware
        }
    }

    /// Settles whether the vCPUs have pointer authentication.
    pub(crate) fn set_pointer_auth(&mut self, pointer_auth: bool) {
        self.limit = guest_ids(pointer_auth);
        self.ids = self.limit.clone();
    }
}

/// Returns what a guest's identification registers can be at most on this host.
fn guest_ids(pointer_auth: bool) -> IdRegs {
    let mut host = IdRegs::new();
    for id in HOST_SOURCES {
        host.assign(id, cpu::id_register(id.encoding()));
    }
    for id in IdReg::aarch32_features() {
        host.assign(id, cpu::sanitised(id.encoding()));
    }
    let config = IdConfig {
        pointer_auth,
        gic: true,
        spectre_v2_unaffected: !Flaws::of_machine().branch_target(),
        meltdown_unaffected: meltdown::is_unaffected(),
    };
    IdRegs::for_guest(&host, &config)
}

/// Returns what firmware calls answer in a new VM; of the guest's own registers nothing is known
/// here.
fn firmware() -> Firmware {
    let flaws = Flaws::of_machine();
    let state = |affected, mitigated| match (affected, mitigated) {
        (false, _) => Mitigation::Unaffected,
        (true, true) => Mitigation::Mitigated,
        (true, false) => Mitigation::Vulnerable,
    };
    // A firmware that knows a workaround has the call, if only for CPUs other than this one.
    let knows = |function| cpu::workaround(function) >= 0;
    let spectre_v2 = state(
        flaws.branch_target(),
        knows(smccc::function::ARCH_WORKAROUND_1),
    );
    let ssbs = ID_AA64PFR1_EL1::SSBS.get(cpu::sanitised(ID_AA64PFR1_EL1::ENCODING)) != 0;
    Firmware {
        psci: psci::PsciConfig {
            version: psci::Version::LATEST,
            system_suspend: false,
        },
        bitmaps: Bitmaps::NEW,
        spectre_v2,
        spectre_v4: state(
            flaws.store_bypass(),
            ssbs || knows(smccc::function::ARCH_WORKAROUND_2),
        ),
        // With variant 2 open there is no point in closing this one.
        spectre_bhb: state(
            flaws.branch_history(),
            spectre_bhb::is_handled() && spectre_v2 != Mitigation::Vulnerable,
        ),
        bhb_by_firmware: knows(smccc::function::ARCH_WORKAROUND_3),
        ssbs: false,
    }
}

/// How many VMs there have been.
static MADE: AtomicU64 = AtomicU64::new(0);

/// The counters' offsets, one for all vCPUs: what a guest's counter is behind the machine's, in
/// ticks.
pub(crate) struct Offsets {
    pub(crate) virtual_: AtomicU64,
    pub(crate) physical: AtomicU64,
    /// KVM_ARM_SET_COUNTER_OFFSET was used: the single registers no longer move them.
    pub(crate) fixed: AtomicBool,
}

impl Vm {
    /// Makes a VM of the current process with an IPA space of `ipa_bits` bits.
    pub(crate) fn new(ipa_bits: u32) -> Result<Arc<Self>> {
        let memory = GuestMemory::new(ipa_bits)?;
        let notifier = Registration::current(memory.clone())?;
        let now = crate::arch::timer::counter();
        let no_vcpus = Arc::new(KVec::new(), GFP_KERNEL_ACCOUNT)?;
        let mut last_ran = KVVec::new();
        for _ in 0..kernel::cpu::nr_cpu_ids() {
            last_ran.push(AtomicU32::new(0), GFP_KERNEL_ACCOUNT)?;
        }
        Arc::pin_init(
            try_pin_init!(Self {
                number: MADE.fetch_add(1, Relaxed),
                stats: VmStats::new(memory.clone(), no_vcpus.clone())?,
                listed: SetOnce::new(),
                memory,
                _notifier: notifier,
                making_vcpu <- new_mutex!((), "loft::Vm::making_vcpu"),
                config <- new_mutex!(VmConfig::new(), "loft::Vm::config"),
                vcpus <- RawSpinLock::new(no_vcpus, c"loft::Vm::vcpus", static_lock_class!()),
                gic <- gic::VmGic::new(),
                its <- its::ItsList::new(),
                last_ran,
                tells_undescribed: AtomicBool::new(false),
                tells_errors: AtomicBool::new(false),
                halt: HaltLimits::new(module::max_wait_ns(), module::max_poll_ns()),
                dead: AtomicBool::new(false),
                events <- events::Events::new(),
                ids: SetOnce::new(),
                timers: SetOnce::new(),
                smccc_filter: SetOnce::new(),
                firmware_changes: AtomicU32::new(0),
                offsets: Offsets {
                    virtual_: AtomicU64::new(now),
                    physical: AtomicU64::new(0),
                    fixed: AtomicBool::new(false),
                },
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Lists the VM among `all`, if there is memory for that; once, before userspace has its
    /// descriptor `fd`.
    pub(crate) fn list(&self, all: &Arc<debugfs::AllVms>, fd: u32) {
        if let Ok(listed) = debugfs::Listed::new(&self.stats, all, fd) {
            self.listed.populate(listed);
        }
    }

    /// Sets for how many nanoseconds its vCPUs keep their CPUs while they wait, in either way
    /// (KVM_CAP_HALT_POLL); 0 is not at all.
    pub(crate) fn limit_halts(&self, ns: u32) {
        self.halt.set(ns.into(), ns.into());
    }

    /// Returns for how many ticks of the counter a WFI waits in the vector, at most.
    pub(crate) fn halt_ticks(&self) -> u64 {
        self.halt.vector_ticks.load(Relaxed)
    }

    /// Returns for how many nanoseconds a vCPU that waits looks for something to do, at most.
    pub(crate) fn max_poll_ns(&self) -> u64 {
        self.halt.poll_ns.load(Relaxed)
    }

    /// Returns whether the current process may use the VM's files: it is the VMM, and the VM can
    /// still run.
    pub(crate) fn is_mine(&self) -> bool {
        self.memory.is_mine() && !self.dead.load(Relaxed)
    }

    /// Returns how many vCPUs there are.
    pub(crate) fn vcpu_count(&self) -> usize {
        self.vcpus.lock().len()
    }

    /// Adds a vCPU; the caller holds `config`, so that indices are given out one at a time.
    pub(crate) fn add_vcpu(&self, handle: Arc<VcpuHandle>) -> Result {
        let old = self.vcpus();
        let mut list = KVec::with_capacity(old.len().saturating_add(1), GFP_KERNEL_ACCOUNT)?;
        for vcpu in old.iter() {
            list.push_within_capacity(vcpu.clone())?;
        }
        list.push_within_capacity(handle)?;
        let list = Arc::new(list, GFP_KERNEL_ACCOUNT)?;
        let replaced = core::mem::replace(&mut *self.vcpus.lock(), list.clone());
        drop(replaced);
        self.stats.note_vcpus(list);
        Ok(())
    }

    /// Initialises the interrupt controller, for all vCPUs that there are; the caller holds
    /// `config`. Nothing if that has been done.
    pub(crate) fn init_gic(&self) -> Result {
        self.gic.init(self.vcpus())?;
        if let Some(model) = self.gic.model() {
            self.stats.note_gic(model);
        }
        Ok(())
    }

    /// Returns the vCPUs that there are.
    pub(crate) fn vcpus(&self) -> Arc<KVec<Arc<VcpuHandle>>> {
        self.vcpus.lock().clone()
    }

    /// Returns the vCPU with this index.
    pub(crate) fn vcpu(&self, id: VcpuId) -> Option<Arc<VcpuHandle>> {
        self.vcpus.lock().get(id.index()).cloned()
    }

    /// Returns the vCPU that userspace made under this number.
    pub(crate) fn vcpu_by_number(&self, number: u32) -> Option<Arc<VcpuHandle>> {
        self.vcpus
            .lock()
            .iter()
            .find(|vcpu| vcpu.number == number)
            .cloned()
    }

    /// Returns the vCPU with this MPIDR_EL1 affinity.
    pub(crate) fn vcpu_by_affinity(&self, affinity: u64) -> Option<Arc<VcpuHandle>> {
        self.vcpus
            .lock()
            .iter()
            .find(|vcpu| vcpu.affinity() == affinity)
            .cloned()
    }

    /// Calls `each` for every vCPU.
    pub(crate) fn for_each_vcpu(&self, each: impl FnMut(&VcpuHandle)) {
        self.vcpus().iter().map(|vcpu| &**vcpu).for_each(each);
    }

    /// Returns whether the guest has pointer authentication.
    pub(crate) fn has_pointer_auth(&self) -> bool {
        self.with_ids(IdRegs::has_pointer_auth)
    }

    /// Calls `read` with the identification registers as they are now.
    pub(crate) fn with_ids<R>(&self, read: impl FnOnce(&IdRegs) -> R) -> R {
        match self.ids.as_ref() {
            Some(ids) => read(ids),
            None => read(&self.config.lock().ids),
        }
    }

    /// Starts the VM, as a vCPU is about to run: from now on the identification registers are
    /// fixed.
    pub(crate) fn start(&self) -> Result {
        if self.ids.as_ref().is_some() {
            return Ok(());
        }
        let mut config = self.config.lock();
        if config.started {
            return Ok(());
        }
        if let Err(error) = self.gic.map(self.vcpu_count(), self.memory.end()) {
            // As in KVM, that was the only attempt. But want of memory passes, and nothing was
            // mapped by halves.
            if error != ENOMEM {
                self.dead.store(true, Relaxed);
            }
            return Err(error);
        }
        config
            .timers
            .connect(self.gic.model().map(|model| &**model), self.vcpu_count())?;
        config.started = true;
        self.timers.populate(config.timers);
        let filter = core::mem::replace(&mut config.smccc_filter, Filter::new(KVVec::new()));
        self.smccc_filter.populate(filter);
        let mut ids = config.ids.clone();
        ids.finalize(self.gic.is_ready());
        config.ids = ids.clone();
        self.ids.populate(ids);
        Ok(())
    }

    /// Returns what firmware calls answer, and a number that is another one when that has changed.
    pub(crate) fn firmware(&self) -> (Firmware, u32) {
        let config = self.config.lock();
        (config.firmware(), self.firmware_changes.load(Relaxed))
    }

    /// Returns whether the firmware has changed since [`Vm::firmware`] gave this number.
    pub(crate) fn firmware_has_changed(&self, since: u32) -> bool {
        self.firmware_changes.load(Relaxed) != since
    }

    /// Changes what firmware calls answer; the vCPUs learn of it when they next enter KVM_RUN.
    pub(crate) fn change_firmware<R>(
        &self,
        config: &mut VmConfig,
        change: impl FnOnce(&mut Firmware) -> R,
    ) -> R {
        let mut firmware = config.firmware();
        let result = change(&mut firmware);
        config.firmware = firmware;
        self.firmware_changes.fetch_add(1, Relaxed);
        result
    }

    /// Runs `body` while no vCPU is in KVM_RUN; `EBUSY` if one is. The caller holds `config`, so
    /// that none is added.
    pub(crate) fn while_stopped<R>(&self, body: impl FnOnce() -> R) -> Result<R> {
        let mut busy = false;
        self.for_each_vcpu(|vcpu| {
            vcpu.hold();
            busy |= vcpu.is_running();
        });
        let result = if busy { Err(EBUSY) } else { Ok(body()) };
        self.for_each_vcpu(VcpuHandle::release);
        result
    }

    /// Returns MIDR_EL1 as the guest reads it.
    pub(crate) fn midr(&self) -> u64 {
        self.with_ids(|ids| ids.get(IdReg::MIDR))
    }

    /// Notes that `vcpu` runs on `cpu` now; returns whether another vCPU of this VM ran there last.
    pub(crate) fn last_ran(&self, cpu: u32, vcpu: VcpuId) -> bool {
        let Some(last) = self.last_ran.get(cpu as usize) else {
            return true;
        };
        let me = vcpu.index() as u32 + 1;
        let before = last.load(Relaxed);
        last.store(me, Relaxed);
        before != me && before != 0
    }

    /// Returns whether userspace wants accesses that the CPU does not describe
    /// (KVM_CAP_ARM_NISV_TO_USER).
    pub(crate) fn tells_undescribed(&self) -> bool {
        self.tells_undescribed.load(Relaxed)
    }

    pub(crate) fn tell_undescribed(&self) {
        self.tells_undescribed.store(true, Relaxed);
    }

    /// Returns whether userspace wants the guest's external aborts (KVM_CAP_ARM_SEA_TO_USER).
    pub(crate) fn tells_errors(&self) -> bool {
        self.tells_errors.load(Relaxed)
    }

    pub(crate) fn tell_errors(&self) {
        self.tells_errors.store(true, Relaxed);
    }
}
