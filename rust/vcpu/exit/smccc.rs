// SPDX-License-Identifier: GPL-2.0

//! Firmware calls (SMCCC): those that the vector did not answer.

use super::{leave, mmio, DeferredWork, Exit, Next};
use crate::host::time;
use crate::model::esr::{Esr, ExceptionClass};
use crate::model::psci::{self, code, Action, CpuOnOutcome};
use crate::model::smccc::{self, filter, trng, Call, Counter};
use crate::model::vcpus::VcpuId;
use crate::vcpu::context::StoppedVcpu;
use crate::vm::vcpu_handle::{Power, Start};

/// Handles a call by HVC or SMC; the PC is behind the instruction.
pub(super) fn call(vcpu: &mut StoppedVcpu) -> Next {
    let [function, x1, x2, x3, ..] = *vcpu.xs();
    match vcpu
        .vm
        .smccc_filter
        .as_ref()
        .map_or(filter::FilterAction::Handle, |filter| {
            filter.action(function as u32)
        }) {
        filter::FilterAction::Handle => {}
        filter::FilterAction::Deny => {
            set_result(vcpu, [smccc::NOT_SUPPORTED, 0, 0, 0]);
            return Next::Resume;
        }
        filter::FilterAction::Forward => {
            return leave(Exit::Hypercall {
                function: function as u32,
                smc: Esr::new(vcpu.frame().syndrome.esr).class() == ExceptionClass::Smc,
            });
        }
    }
    let stolen_time = vcpu.steal_time.ipa().is_some();
    let answer = match smccc::decide(&vcpu.firmware, function as u32, [x1, x2, x3], stolen_time) {
        Call::Return(values) => values,
        Call::Psci(action) => return power(vcpu, action),
        Call::Random { bits, wide } => {
            let mut entropy = [0; 3];
            crate::host::random::fill(&mut entropy);
            trng::random(bits, wide, entropy)
        }
        Call::StolenTime => {
            set_result(vcpu, [smccc::NOT_SUPPORTED, 0, 0, 0]);
            return Next::Defer(DeferredWork::StolenTime);
        }
        Call::Ptp(counter) => {
            let offset = match counter {
                Counter::Virtual => &vcpu.vm.offsets.virtual_,
                Counter::Physical => &vcpu.vm.offsets.physical,
            };
            let offset = offset.load(core::sync::atomic::Ordering::Relaxed);
            time::real_with_counter().map_or([smccc::NOT_SUPPORTED, 0, 0, 0], |(ns, now)| {
                smccc::ptp(ns, now.wrapping_sub(offset))
            })
        }
        Call::Workaround(function) => {
            crate::arch::cpu::run_workaround(function);
            [smccc::SUCCESS, 0, 0, 0]
        }
    };
    set_result(vcpu, answer);
    Next::Resume
}

fn set_result(vcpu: &mut StoppedVcpu, values: [u64; 4]) {
    for (x, value) in vcpu.xs().iter_mut().zip(values) {
        *x = value;
    }
}

fn value(vcpu: &mut StoppedVcpu, code: i64) -> Next {
    set_result(vcpu, [code as u64, 0, 0, 0]);
    Next::Resume
}

fn power(vcpu: &mut StoppedVcpu, action: Action) -> Next {
    match action {
        Action::Return(code) => value(vcpu, code),
        Action::Suspend => {
            set_result(vcpu, [code::SUCCESS as u64, 0, 0, 0]);
            Next::Defer(DeferredWork::Wait { end: None })
        }
        Action::CpuOff => {
            vcpu.handle.set_power(Power::Off);
            value(vcpu, code::SUCCESS)
        }
        Action::CpuOn {
            target,
            entry,
            context,
        } => {
            let big_endian = mmio::is_big_endian(vcpu);
            let outcome = match vcpu.vm.vcpu_by_affinity(target) {
                None => CpuOnOutcome::NoSuchCpu,
                Some(vcpu)
                    if vcpu.power_on(Start {
                        pc: entry,
                        context,
                        big_endian,
                    }) =>
                {
                    CpuOnOutcome::Started
                }
                Some(_) => CpuOnOutcome::AlreadyOn,
            };
            let code = outcome.code(vcpu.firmware.psci.version);
            value(vcpu, code)
        }
        Action::AffinityInfo {
            mask,
            value: affinity,
        } => {
            let vm = vcpu.vm.clone();
            let vcpus = (0..).map_while(|index| VcpuId::new(index).and_then(|id| vm.vcpu(id)));
            let code = psci::affinity_info(
                mask,
                affinity,
                vcpus.map(|vcpu| (vcpu.affinity(), vcpu.power() != Power::Off)),
            );
            value(vcpu, code)
        }
        Action::System(event) => {
            vcpu.vm.for_each_vcpu(|vcpu| vcpu.set_power(Power::Off));
            set_result(vcpu, [code::INTERNAL_FAILURE as u64, 0, 0, 0]);
            leave(Exit::System(event))
        }
        Action::SystemSuspend => leave(Exit::Suspend),
    }
}
