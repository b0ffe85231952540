// SPDX-License-Identifier: GPL-2.0

//! What a vCPU has for good once its VM runs.

use crate::model::esr::SysregAccess;
use crate::model::sysreg::table::{Guest, GuestFeatures, Storage};
use crate::model::sysreg::{lookup, Encoding, IdRegs};
use crate::model::vcpus::VcpuId;
use crate::model::vgic::GicFrame;
use crate::vm::gic::{FrameMap, GicModel};
use crate::vm::vcpu_handle::VcpuHandle;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::sync::Arc;

/// An address that no guest has, nor any near it.
const NOWHERE: u64 = 1 << 63;

/// What [`Frozen::of`] finds when the vCPU first runs, so that nobody has to ask the VM again.
pub(crate) struct Frozen {
    features: GuestFeatures,
    ids: FastIds,
    fast_calls: bool,
    gic: Option<Arc<GicModel>>,
    frames: Option<Arc<FrameMap>>,
    /// Where the vCPU's own redistributor is, and which that is.
    redist: (u64, GicFrame),
    peers: Option<Arc<KVec<Arc<VcpuHandle>>>>,
}

impl Frozen {
    /// Makes that of a vCPU which has not run yet: nothing.
    pub(super) fn new() -> Self {
        Self {
            features: GuestFeatures::default(),
            ids: FastIds::new(),
            fast_calls: false,
            gic: None,
            frames: None,
            redist: (NOWHERE, GicFrame::Dist),
            peers: None,
        }
    }

    /// Takes it from a VM that runs, for its vCPU `id`. `fast`: exits are answered in the vector.
    pub(super) fn of(vm: &Vm, id: VcpuId, fast: bool) -> Self {
        let frames = vm.gic.map_of_frames();
        let redist = frames.as_ref().and_then(|frames| frames.redist(id));
        let features = vm.with_ids(|ids| GuestFeatures::new(ids, vm.gic.is_ready()));
        let filtered = vm.smccc_filter.as_ref();
        Self {
            features,
            ids: match vm.ids.as_ref() {
                Some(ids) => FastIds::fill(features, ids),
                None => FastIds::new(),
            },
            fast_calls: fast && filtered.is_none_or(|filter| filter.is_empty()),
            gic: vm.gic.model().cloned(),
            redist: (redist.unwrap_or(NOWHERE), GicFrame::Redist(id)),
            frames,
            peers: Some(vm.vcpus()),
        }
    }

    /// Returns which registers the guest has.
    #[inline(always)]
    pub(crate) fn features(&self) -> GuestFeatures {
        self.features
    }

    /// Returns the identification registers, for the vector.
    #[inline(always)]
    pub(super) fn ids(&self) -> &FastIds {
        &self.ids
    }

    /// Returns whether the vector answers firmware calls: nobody in userspace has a say in them.
    #[inline(always)]
    pub(super) fn has_fast_calls(&self) -> bool {
        self.fast_calls
    }

    /// Returns the model of the interrupt controller, if the VM has one.
    #[inline(always)]
    pub(super) fn gic(&self) -> Option<&Arc<GicModel>> {
        self.gic.as_ref()
    }

    /// Returns which frame of the interrupt controller, and where in it, an access at `ipa` is.
    #[inline(always)]
    pub(super) fn gic_frame(&self, ipa: u64) -> Option<(GicFrame, u32)> {
        // Its own redistributor is what a vCPU accesses most.
        let (own, frame) = self.redist;
        let offset = ipa.wrapping_sub(own);
        if offset < u64::from(frame.size()) {
            return Some((frame, offset as u32));
        }
        self.frames.as_ref()?.find(ipa)
    }

    /// Returns all vCPUs, in the order of their indices.
    #[inline(always)]
    pub(super) fn peers(&self) -> Option<&Arc<KVec<Arc<VcpuHandle>>>> {
        self.peers.as_ref()
    }
}

/// The constant ones of the registers that TID3 traps (op0 = 3, op1 = 0, CRn = 0, CRm from 1 to 7):
/// a guest's kernel and its programs read them all the time.
pub(crate) struct FastIds {
    values: [u64; FastIds::COUNT],
    /// Bit n: `values[n]` is what the guest reads.
    known: u64,
}

impl FastIds {
    const COUNT: usize = 64;

    /// Makes it with none of them.
    pub(super) const fn new() -> Self {
        Self {
            values: [0; Self::COUNT],
            known: 0,
        }
    }

    /// Makes it with those of a vCPU with these features, whose VM has these identification
    /// registers for good.
    pub(super) fn fill(features: GuestFeatures, ids: &IdRegs) -> Self {
        let mut this = Self::new();
        for (n, slot) in (8u8..).zip(this.values.iter_mut().skip(8)) {
            let encoding = Encoding::new(3, 0, 0, n >> 3, n & 7);
            let Some(row) = lookup(encoding)
                .filter(|row| row.exists(features) && !row.guest.is_undefined(false))
            else {
                continue;
            };
            *slot = match row.storage {
                _ if row.guest == Guest::RazWi => 0,
                Storage::Id(id) => ids.get(id),
                Storage::Const(value) => value,
                _ => continue,
            };
            this.known |= 1 << n;
        }
        this
    }

    /// Returns the value of a register that an access reads, if it is one of these.
    #[inline(always)]
    pub(super) fn read(&self, access: SysregAccess) -> Option<u64> {
        let n = access.feature_id()?;
        if self.known >> n & 1 == 0 {
            return None;
        }
        self.values.get(usize::from(n)).copied()
    }
}
