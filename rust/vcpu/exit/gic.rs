// SPDX-License-Identifier: GPL-2.0

//! The guest's accesses to the interrupt controller: its registers in memory, SGIs, deactivations.
//! Each is here once, for fast and slow exits.

use super::mmio::{extend, guest_order, is_big_endian};
use super::{GicAccess, Outcome};
use crate::arch::guest_mode::Live;
use crate::host::preempt_notifier::Loaded;
use crate::model::esr::Abort;
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::model::vgic::{Error as GicError, GicFrame, Notify, SgiReg};
use crate::vcpu::context::{StoppedVcpu, VcpuContext};
use crate::vcpu::Vcpu;
use crate::vm::gic::After;
use crate::vm::vcpu_handle::VcpuHandle;
use crate::vm::vcpu_stats::Count;
use kernel::prelude::*;
use kernel::sync::Arc;

/// For how many vCPUs a fast exit raises an SGI: interrupts are off until all of them are told. The
/// host does it for more with interrupts on, between one vCPU and the next.
const SGIS_AT_ONCE: usize = 64;

/// Reads a register in memory for a load; the PC stays at the instruction. `order` turns a value
/// from the device's byte order to the guest's. Nothing has been done if this fails.
#[inline(always)]
pub(super) fn read(
    vcpu: &mut VcpuContext,
    abort: &Abort,
    frame: GicFrame,
    offset: u32,
    order: impl FnOnce(u64) -> u64,
) -> Result<(), GicError> {
    let gic = vcpu.frozen.gic().ok_or(GicError::NoRegister)?;
    let value = gic.mmio_read(vcpu.id, frame, offset, abort.size())?;
    vcpu.set_x(abort.register(), extend(order(value), abort));
    Ok(())
}

/// Writes a register in memory for a store, as [`read`] reads it; `order` turns a value back.
#[inline(always)]
pub(super) fn write(
    vcpu: &mut VcpuContext,
    abort: &Abort,
    frame: GicFrame,
    offset: u32,
    order: impl FnOnce(u64) -> u64,
) -> Result<(), GicError> {
    let value = order(vcpu.x(abort.register()));
    let gic = vcpu.frozen.gic().ok_or(GicError::NoRegister)?;
    let (id, size) = (vcpu.id, abort.size());
    gic.mmio_write(id, frame, offset, size, value, &mut vcpu.after)
}

/// Sends the SGI that a write of `value` to `reg` asks for. Who has to be told is in `vcpu.after`.
/// `live`: there if this is a fast exit.
pub(super) fn send_sgi(
    vcpu: &mut VcpuContext,
    live: Option<Live<'_>>,
    reg: SgiReg,
    value: u64,
) -> Outcome {
    let Some(gic) = vcpu.frozen.gic() else {
        return Outcome::Done;
    };
    if live.is_some() && gic.most_targets(value) > SGIS_AT_ONCE {
        return Outcome::NeedsHost;
    }
    gic.sgi(vcpu.id, reg, value, &mut vcpu.after);
    Outcome::Done
}

/// Sends the SGI that a write of `value` to ICC_SGI1R_EL1 asks for as [`send_sgi`] does, in a fast
/// exit. Those who run are told while it goes on.
#[inline(always)]
pub(super) fn send_sgi1_fast(vcpu: &mut VcpuContext, value: u64) -> Outcome {
    let (Some(gic), Some(peers)) = (vcpu.frozen.gic(), vcpu.frozen.peers()) else {
        return Outcome::NeedsHost;
    };
    if gic.most_targets(value) > SGIS_AT_ONCE {
        return Outcome::NeedsHost;
    }
    let mut tell = Tell {
        from: vcpu.id,
        peers,
        after: &mut vcpu.after,
    };
    gic.sgi(vcpu.id, SgiReg::Sgi1, value, &mut tell);
    Outcome::Done
}

/// Tells the vCPUs that an SGI goes to, each as soon as it has it; who cannot be told in a fast
/// exit is told after it.
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

/// Does a write of `intid` to ICC_DIR_EL1, where the CPU interface's ICH_VMCR_EL2 is `vmcr`. Fails
/// with the vCPUs that have the interrupt in their list registers.
pub(super) fn deactivate(vcpu: &mut VcpuContext, intid: u64, vmcr: u64) -> Result<(), VcpuSet> {
    let Some(gic) = vcpu.frozen.gic() else {
        return Ok(());
    };
    match gic.deactivate(vcpu.id, intid, vmcr, &mut vcpu.after) {
        Err(GicError::NeedSync(stale)) if !stale.others.is_empty() => Err(stale.others),
        _ => Ok(()),
    }
}

impl GicAccess {
    /// Does it, if no other vCPU has in its list registers what it is about; else says which have.
    fn attempt(self, vcpu: &mut StoppedVcpu) -> Result<(), VcpuSet> {
        match self {
            Self::Register {
                abort,
                frame,
                offset,
            } => {
                let big_endian = is_big_endian(vcpu);
                let order = |value| guest_order(value, abort.size(), big_endian);
                let done = if abort.is_write() {
                    write(vcpu, &abort, frame, offset, order)
                } else {
                    read(vcpu, &abort, frame, offset, order)
                };
                match done {
                    Ok(()) => {}
                    Err(GicError::NeedSync(stale)) if !stale.others.is_empty() => {
                        return Err(stale.others)
                    }
                    // Not a register, or not with this size: as KVM, which ignores it.
                    Err(_) if !abort.is_write() => vcpu.set_x(abort.register(), 0),
                    Err(_) => {}
                }
                vcpu.count(Count::MmioKernel);
                vcpu.skip();
                Ok(())
            }
            Self::Deactivate { intid } => {
                let vmcr = vcpu.vmcr();
                deactivate(vcpu, intid, vmcr)
            }
        }
    }
}

impl Vcpu {
    /// Does an access to state that may be in another vCPU's list registers: those vCPUs are kept
    /// out of the guest for it.
    pub(in crate::vcpu) fn serve_gic(
        &self,
        loaded: &mut Loaded<'_, StoppedVcpu>,
        access: GicAccess,
    ) {
        self.vm
            .with_guests_out(|| loaded.with(|vcpu| access.attempt(vcpu)));
    }
}
