// SPDX-License-Identifier: GPL-2.0

//! A virtual CPU.
//!
//! [`Vcpu`] is the file that userspace has. [`context::VcpuContext`] is what moves into the CPU and
//! out of it. [`VcpuHandle`] is what the rest of the VM reaches. The run loop is in [`run`]; exits
//! are answered by [`exit::fast`] in the vector, else by [`exit::slow`], else by userspace.

pub(crate) mod context;
mod cpu_interface;
pub(crate) mod debug;
pub(crate) mod exit;
mod fpsimd;
mod frozen;
mod halt;
mod halt_poll;
mod registers;
pub(crate) mod run;
mod steal_time;
mod timers;
mod untold;

use self::context::StoppedVcpu;
use self::exit::Answer;
use self::fpsimd::Fpsimd;
use self::halt_poll::HaltPoll;
use crate::host::killable_mutex::KillableMutex;
use crate::host::preempt_notifier::Scheduled;
use crate::host::run_page::RunPage;
use crate::host::sigmask::SignalMask;
use crate::model::esr::FaultStatus;
use crate::model::sysreg::table;
use crate::model::vcpus::VcpuId;
use crate::vm::memory::VcpuTablePool;
use crate::vm::vcpu_handle::VcpuHandle;
use crate::vm::{VcpuFeatures, Vm};
use kernel::prelude::*;
use kernel::sync::{static_lock_class, Arc};

/// A vCPU, as userspace has it open.
#[pin_data]
pub(crate) struct Vcpu {
    pub(crate) vm: Arc<Vm>,
    pub(crate) handle: Arc<VcpuHandle>,
    pub(crate) run_page: RunPage,
    /// One ioctl at a time.
    #[pin]
    pub(crate) state: KillableMutex<State>,
}

/// What the ioctls of a vCPU work on.
pub(crate) struct State {
    context: Pin<KBox<Scheduled<StoppedVcpu>>>,
    fpsimd: Fpsimd,
    halt_poll: HaltPoll,
    cache: VcpuTablePool,
    /// What userspace has to have done before the guest goes on.
    answer: Answer,
    /// KVM_SET_SIGNAL_MASK.
    pub(crate) signals: Option<SignalMask>,
    /// KVM_ARM_VCPU_INIT's features; `None` before.
    pub(crate) features: Option<VcpuFeatures>,
    started: bool,
}

impl Vcpu {
    /// Makes a vCPU that userspace numbers `number`, for index `id`.
    pub(crate) fn new(vm: Arc<Vm>, id: VcpuId, number: u32) -> Result<Arc<Self>> {
        let mpidr = table::mpidr(number);
        let handle = VcpuHandle::new(id, number, mpidr & crate::model::psci::AFFINITY)?;
        let context = KBox::pin_init(
            Scheduled::new(StoppedVcpu::new(id, vm.clone(), handle.clone())),
            GFP_KERNEL_ACCOUNT,
        )?;
        let state = State {
            context,
            fpsimd: Fpsimd::new()?,
            halt_poll: HaltPoll::default(),
            cache: VcpuTablePool::new(),
            answer: Answer::None,
            signals: None,
            features: None,
            started: false,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                vm,
                handle,
                run_page: RunPage::new()?,
                state <- KillableMutex::new(state, c"loft::Vcpu::state", static_lock_class!()),
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

impl State {
    /// Returns the vCPU's registers, in memory.
    pub(crate) fn context(&mut self) -> &mut StoppedVcpu {
        self.context.as_mut().in_memory()
    }

    /// Resets the vCPU for KVM_ARM_VCPU_INIT. An access that userspace has not finished is dropped.
    pub(crate) fn reset(&mut self) {
        self.answer = Answer::None;
        self.context().reset(None);
    }

    /// Gives the guest an external abort for its last data access; an access that userspace has not
    /// finished is dropped.
    pub(crate) fn abort(&mut self) {
        self.answer = Answer::None;
        let context = self.context();
        context.inject_abort(false, FaultStatus::External, context.frame().syndrome.far);
    }

    /// Returns whether the VM has run with this vCPU.
    pub(crate) fn has_run(&self) -> bool {
        self.started
    }
}
