// SPDX-License-Identifier: GPL-2.0

//! WFI: polling for an interrupt, then sleeping.

use super::context::StoppedVcpu;
use crate::arch::cpu::features;
use crate::host::preempt_notifier::Loaded;
use crate::host::{entry_virt, rcuwait, sched, time, trace};
use crate::model::timer::Frequency;
use crate::vm::vcpu_handle::VcpuHandle;
use crate::vm::Vm;
use kernel::prelude::*;

/// How long a waiting vCPU polls before it gives its CPU away: to sleep and to be woken takes
/// longer than many waits. What could wait in the vector has done so already ([`super::halt`]).
#[derive(Clone, Copy, Default)]
pub(super) struct HaltPoll {
    /// In nanoseconds; 0: not at all.
    ns: i64,
}

impl HaltPoll {
    /// The shortest time that it is worth, in nanoseconds.
    const FIRST: i64 = 5_000;

    /// Returns whether it polls at all.
    fn polls(self) -> bool {
        self.ns > 0
    }

    /// Polls for its time, but not beyond `deadline` (CLOCK_MONOTONIC). True: there is something to
    /// do.
    fn poll(self, handle: &VcpuHandle, begun: i64, deadline: i64) -> bool {
        let until = begun.saturating_add(self.ns).min(deadline);
        while time::monotonic_ns() < until
            && sched::has_no_other_thread()
            && !entry_virt::work_pending()
        {
            // Whoever has something for this vCPU says so here, too.
            if handle.has_requests() {
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    /// Returns the time for the next wait, after one of `waited` nanoseconds that this time was too
    /// short for: a longer one would have done, or none will do.
    fn after(self, waited: i64, most: i64) -> Self {
        let ns = if waited > most {
            0
        } else {
            self.ns.saturating_mul(2).max(Self::FIRST).min(most)
        };
        Self { ns }
    }

    /// Does a WFI: sleeps until the guest has an interrupt or its vCPU a request, having polled for
    /// that first; WFIT also until the guest's virtual counter shows `end`. `EINTR`: there is a
    /// signal.
    pub(super) fn wait(
        &mut self,
        vm: &Vm,
        handle: &VcpuHandle,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        end: Option<u64>,
    ) -> Result {
        // The VMM may have lowered it.
        let most = i64::try_from(vm.max_poll_ns()).unwrap_or(i64::MAX);
        self.ns = self.ns.min(most);
        let polls = self.polls();
        let (left, timer) = loaded.with(|vcpu| {
            let left = end.map(|end| vcpu.ticks_until(end));
            (left, vcpu.next_timer())
        });
        // Who does not poll asks for an interrupt on its way to sleep.
        if left == Some(0)
            || handle.has_requests()
            || polls && loaded.with(StoppedVcpu::has_interrupt)
        {
            if trace::is_on() {
                trace::kvm_vcpu_wakeup(0, false);
            }
            return Ok(());
        }
        let begun = time::monotonic_ns();
        let deadline = {
            let ticks = [left, timer].into_iter().flatten().min();
            let hz = Frequency::new(features().counter_hz);
            match (ticks, hz) {
                (Some(ticks), Some(hz)) => begun.saturating_add_unsigned(hz.to_ns(ticks)),
                _ => rcuwait::NEVER,
            }
        };
        let stats = &handle.stats;
        let mut looked = 0;
        if polls {
            let found = self.poll(handle, begun, deadline);
            looked = time::monotonic_ns().saturating_sub(begun);
            if found {
                stats.polled(looked.unsigned_abs(), true);
                if trace::is_on() {
                    trace::kvm_vcpu_wakeup(looked.unsigned_abs(), false);
                }
                return Ok(());
            }
        }
        let (mut questions, mut done) = (0_u32, false);
        stats.waits(true);
        let result = handle.waiter.block(deadline, || {
            questions = questions.saturating_add(1);
            done = handle.has_requests() || loaded.with(StoppedVcpu::has_interrupt);
            done
        });
        stats.waits(false);
        // Not if there was something, or a signal, when it was first asked for.
        let slept = questions > 1 || !done && result.is_ok();
        let waited = if slept || polls {
            time::monotonic_ns().saturating_sub(begun)
        } else {
            0
        };
        if polls {
            stats.polled(looked.unsigned_abs(), !slept);
        }
        if slept {
            let ns = waited.saturating_sub(looked).unsigned_abs();
            stats.slept(ns, result.is_ok());
        }
        if trace::is_on() {
            trace::kvm_vcpu_wakeup(waited.unsigned_abs(), slept);
        }
        if slept || polls {
            *self = self.after(waited, most);
        }
        // The way into the guest looks at the interrupts, so it need not be asked to.
        handle.take_interrupt();
        result
    }
}
