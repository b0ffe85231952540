// SPDX-License-Identifier: GPL-2.0

//! A virtual CPU.
//!
//! [`Vcpu`] is the file that userspace has. [`core::Core`] is what moves into the CPU and out of it. [`shared::Shared`] is
//! what the rest of the VM reaches. The run loop is in [`run`]; exits are answered by [`fast`] in the vector, else by
//! [`slow`], else by userspace.

pub(crate) mod core;
pub(crate) mod debugger;
pub(crate) mod fast;
mod halt;
mod mmio;
pub(crate) mod onereg;
mod run;
pub(crate) mod shared;
mod slow;
mod smc;
pub(crate) mod stats;
pub(crate) mod stolen;
mod sysreg;

use self::core::Core;
use crate::arch::cpu;
use crate::arch::fp::Fp;
use crate::host::fpsimd::HostFp;
use crate::host::killable_mutex::KillableMutex;
use crate::host::preempt_notifier::Scheduled;
use crate::host::run_page::RunPage;
use crate::host::sigmask::SignalMask;
use crate::model::esr::FaultStatus;
use crate::model::sysreg::regs::SCTLR_EL1;
use crate::model::sysreg::Reg;
use crate::model::sysreg::{cache, table};
use crate::model::vcpus::VcpuId;
use crate::vm::memory::VcpuTablePool;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::sync::{static_lock_class, Arc};
use shared::{Power, Shared, Start};

/// A vCPU, as userspace has it open.
#[pin_data]
pub(crate) struct Vcpu {
    pub(crate) vm: Arc<Vm>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) run_page: RunPage,
    /// One ioctl at a time.
    #[pin]
    pub(crate) state: KillableMutex<State>,
}

/// What the ioctls of a vCPU work on.
pub(crate) struct State {
    core: Pin<KBox<Scheduled<Core>>>,
    fp: Pin<KBox<HostFp>>,
    /// Whether the guest is likely to use its floating point registers.
    fp_use: run::FpUse,
    cache: VcpuTablePool,
    /// What userspace has to have done before the guest goes on.
    answer: run::Answer,
    /// KVM_SET_SIGNAL_MASK.
    pub(crate) signals: Option<SignalMask>,
    /// KVM_ARM_VCPU_INIT's features; `None` before.
    pub(crate) features: Option<u32>,
    started: bool,
}

impl Vcpu {
    /// A vCPU that userspace numbers `number`, for index `id`.
    pub(crate) fn new(vm: Arc<Vm>, id: VcpuId, number: u32) -> Result<Arc<Self>> {
        let mpidr = table::mpidr(number);
        let shared = Shared::new(id, number, mpidr & crate::model::psci::AFFINITY)?;
        let core = KBox::pin_init(
            Scheduled::new(Core::new(id, vm.clone(), shared.clone())),
            GFP_KERNEL_ACCOUNT,
        )?;
        let state = State {
            core,
            fp: KBox::pin(HostFp::new(), GFP_KERNEL_ACCOUNT)?,
            fp_use: run::FpUse::default(),
            cache: VcpuTablePool::new(),
            answer: run::Answer::None,
            signals: None,
            features: None,
            started: false,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                vm,
                shared,
                run_page: RunPage::new()?,
                state <- KillableMutex::new(state, c"loft::Vcpu::state", static_lock_class!()),
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

impl State {
    /// The vCPU's registers, in memory.
    pub(crate) fn core(&mut self) -> &mut Core {
        self.core.as_mut().in_memory()
    }

    /// KVM_ARM_VCPU_INIT: out of reset. An access that userspace has not finished is dropped.
    pub(crate) fn reset(&mut self) {
        self.answer = run::Answer::None;
        self.core().reset(None);
    }

    /// Gives the guest an external abort for its last data access; an access that userspace has not finished is dropped.
    pub(crate) fn abort(&mut self) {
        self.answer = run::Answer::None;
        let core = self.core();
        core.inject_abort(false, FaultStatus::External, core.frame.syndrome.far);
    }

    /// Whether the VM has run with this vCPU.
    pub(crate) fn has_run(&self) -> bool {
        self.started
    }
}

impl Core {
    /// Out of reset. Where to start comes from CPU_ON, or is userspace's to set.
    pub(crate) fn reset(&mut self, start: Option<Start>) {
        self.frame.x = [0; 31];
        self.frame.sp_el0 = 0;
        // Nothing of the one before is to be seen, although the architecture would allow it.
        self.fp = Fp::new();
        self.spsr_aarch32 = [0; 4];
        self.frame.pc = start.map_or(0, |start| start.pc);
        self.frame.pstate = table::RESET_PSTATE;
        if let (Some(start), Some(x0)) = (start, self.frame.x.first_mut()) {
            *x0 = start.context;
        }
        // What identifies the vCPU stays as userspace has set it.
        let values = table::reset_values(self.shared.number, self.cache_type(), !self.identified);
        for (reg, value) in values {
            self.set(reg, value);
        }
        if start.is_some_and(|start| start.big_endian) {
            let sctlr = self.get(Reg::SCTLR_EL1);
            self.set(Reg::SCTLR_EL1, SCTLR_EL1::EE.with(sctlr, 1));
        }
        self.watch_caches(!cpu::features().fwb);
        self.reset_timers();
        self.serror = None;
        self.identified = true;
    }

    /// CTR_EL0 as the guest sees it.
    pub(crate) fn cache_type(&self) -> u64 {
        use crate::model::sysreg::{regs::CTR_EL0, IdReg};
        IdReg::new(CTR_EL0::ENCODING).map_or(0, |id| self.vm.with_ids(|ids| ids.get(id)))
    }

    /// CCSIDR_EL1 of the cache `csselr`, where CTR_EL0 is `ctr`.
    pub(crate) fn cache_geometry(&self, ctr: u64, csselr: u64) -> u64 {
        match &self.caches {
            Some(caches) => caches.get(ctr, csselr),
            None => cache::ccsidr(ctr, csselr),
        }
    }
}

/// Whether PSCI takes this state for on.
pub(crate) fn counts_as_on(power: Power) -> bool {
    !matches!(power, Power::Off)
}
