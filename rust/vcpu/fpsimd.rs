// SPDX-License-Identifier: GPL-2.0

//! Whose the CPU's FP/SIMD registers are: the guest's only during those runs in which it is likely
//! to use them, and never while the host's code may sleep.

use super::context::StoppedVcpu;
use crate::host::fpsimd::HostFp;
use crate::host::preempt::PreemptDisabled;
use crate::host::preempt_notifier::Loaded;
use kernel::prelude::*;

/// Decides when a guest's FP/SIMD registers are loaded: a guest that has used them will do so
/// again, mostly.
pub(super) struct Fpsimd {
    host: Pin<KBox<HostFp>>,
    /// For so many more runs the guest is taken to use them. Then it is tried again without.
    likely_runs: u8,
}

impl Fpsimd {
    const RUNS: u8 = 32;

    /// Has the guest run without its registers first.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            host: KBox::pin(HostFp::new(), GFP_KERNEL_ACCOUNT)?,
            likely_runs: 0,
        })
    }

    /// Notes that the guest was stopped for want of its registers.
    pub(super) fn note_use(&mut self) {
        self.likely_runs = Self::RUNS;
    }

    /// Calls `body` with preemption off, and with the guest's registers in the CPU if it is likely
    /// to use them.
    pub(super) fn run<R>(
        &mut self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        body: impl FnOnce(&mut StoppedVcpu, PreemptDisabled<'_>) -> R,
    ) -> R {
        if self.likely_runs == 0 {
            return loaded.with_token(body);
        }
        self.likely_runs -= 1;
        self.host.as_mut().with(|owned| {
            loaded.with_token(|vcpu, preempt| {
                vcpu.fp_mut().load(owned);
                let ret = body(vcpu, preempt);
                vcpu.fp_mut().save(owned);
                ret
            })
        })
    }
}
