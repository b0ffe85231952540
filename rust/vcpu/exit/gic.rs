// SPDX-License-Identifier: GPL-2.0

//! The guest's accesses to the interrupt controller: its registers in memory, SGIs, deactivations. Each is
//! here once, for fast and slow exits.

use super::mmio::extend;
use super::{GicAccess, Outcome};
use crate::host::preempt_notifier::Loaded;
use crate::model::esr::Abort;
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::model::vgic::{Error as GicError, GicFrame, Notify, SgiReg};
use crate::vcpu::core::Core;
use crate::vcpu::Vcpu;
use crate::vm::gic::After;
use crate::vm::vcpu_handle::VcpuHandle;
use crate::vm::vcpu_stats::Count;
use kernel::prelude::*;
use kernel::sync::Arc;

/// For how many vCPUs a fast exit raises an SGI: interrupts are off until all of them are told. The host
/// does it for more with interrupts on, between one vCPU and the next.
const SGIS_AT_ONCE: usize = 64;

/// Does an access to a register in memory; the PC stays at the instruction. `order` turns a value from the
/// device's byte order to the guest's, or back. Nothing has been done if this fails.
#[inline(always)]
pub(super) fn access(
    core: &mut Core,
    abort: &Abort,
    frame: GicFrame,
    offset: u32,
    order: impl FnOnce(&mut Core, u64) -> u64,
) -> Result<(), GicError> {
    let (id, rt, size) = (core.id, abort.register(), abort.size());
    if abort.is_write() {
        let value = core.x(rt);
        let value = order(core, value);
        let gic = core.gic.as_ref().ok_or(GicError::NoRegister)?;
        gic.mmio_write(id, frame, offset, size, value, &mut core.after)
    } else {
        let gic = core.gic.as_ref().ok_or(GicError::NoRegister)?;
        let value = gic.mmio_read(id, frame, offset, size)?;
        let value = order(core, value);
        core.set_x(rt, extend(value, abort));
        Ok(())
    }
}

/// Sends the SGI that a write of `value` to `reg` asks for. Who has to be told is in `core.after`.
pub(super) fn send_sgi(core: &mut Core, reg: SgiReg, value: u64) -> Outcome {
    let Some(gic) = &core.gic else {
        return Outcome::Done;
    };
    if core.is_entered() && gic.most_targets(value) > SGIS_AT_ONCE {
        return Outcome::NeedsHost;
    }
    gic.sgi(core.id, reg, value, &mut core.after);
    Outcome::Done
}

/// Sends the SGI that a write of `value` to ICC_SGI1R_EL1 asks for as [`send_sgi`] does, in a fast exit.
/// Those who run are told while it goes on.
#[inline(always)]
pub(super) fn send_sgi1_fast(core: &mut Core, value: u64) -> Outcome {
    let (Some(gic), Some(peers)) = (&core.gic, &core.peers) else {
        return Outcome::NeedsHost;
    };
    if gic.most_targets(value) > SGIS_AT_ONCE {
        return Outcome::NeedsHost;
    }
    let mut tell = Tell {
        from: core.id,
        peers,
        after: &mut core.after,
    };
    gic.sgi(core.id, SgiReg::Sgi1, value, &mut tell);
    Outcome::Done
}

/// Tells the vCPUs that an SGI goes to, each as soon as it has it; who cannot be told in a fast exit is
/// told after it.
struct Tell<'a> {
    from: VcpuId,
    peers: &'a [Arc<VcpuHandle>],
    after: &'a mut After,
}

impl Notify for Tell<'_> {
    #[inline]
    fn kick(&mut self, vcpu: VcpuId) {
        let told = vcpu != self.from
            && self
                .peers
                .get(vcpu.index())
                .is_some_and(|peer| peer.interrupt_running());
        if !told {
            self.after.kicks.insert(vcpu);
        }
    }
}

/// Does a write of `intid` to ICC_DIR_EL1, where the CPU interface's ICH_VMCR_EL2 is `vmcr`. Fails with the
/// vCPUs that have the interrupt in their list registers.
pub(super) fn deactivate(core: &mut Core, intid: u64, vmcr: u64) -> Result<(), VcpuSet> {
    let Some(gic) = &core.gic else { return Ok(()) };
    match gic.deactivate(core.id, intid, vmcr, &mut core.after) {
        Err(GicError::NeedSync(stale)) if !stale.others.is_empty() => Err(stale.others),
        _ => Ok(()),
    }
}

impl GicAccess {
    /// Does it, if no other vCPU has in its list registers what it is about; else says which have.
    fn attempt(self, core: &mut Core) -> Result<(), VcpuSet> {
        match self {
            Self::Register {
                abort,
                frame,
                offset,
            } => {
                let order = |core: &mut Core, value| {
                    super::mmio::guest_order(core, core.frame.pstate, value, abort.size())
                };
                match access(core, &abort, frame, offset, order) {
                    Ok(()) => {}
                    Err(GicError::NeedSync(stale)) if !stale.others.is_empty() => {
                        return Err(stale.others)
                    }
                    // Not a register, or not with this size: as KVM, which ignores it.
                    Err(_) if !abort.is_write() => core.set_x(abort.register(), 0),
                    Err(_) => {}
                }
                core.count(Count::MmioKernel);
                core.skip();
                Ok(())
            }
            Self::Deactivate { intid } => {
                let vmcr = core.lists.vmcr;
                deactivate(core, intid, vmcr)
            }
        }
    }
}

impl Vcpu {
    /// Does an access to state that may be in another vCPU's list registers: those vCPUs are kept out of
    /// the guest for it.
    pub(in crate::vcpu) fn serve_gic(&self, loaded: &mut Loaded<'_, Core>, access: GicAccess) {
        self.vm
            .with_guests_out(|| loaded.with(|core| access.attempt(core)));
    }
}
