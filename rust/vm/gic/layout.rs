// SPDX-License-Identifier: GPL-2.0

//! Where the guest sees the interrupt controller: the rules for the addresses that userspace sets
//! (Documentation/virt/kvm/devices/arm-vgic-v3.rst), and the way back from an address to a frame.
//!
//! Redistributors are given out in one order: vCPU n, in the order that the vCPUs were made, has
//! the n-th place of the regions, these in the order of their indices. Which vCPUs have a
//! redistributor follows from the numbers of places and of vCPUs alone.

use crate::arch::speculation;
use crate::model::vcpus::{VcpuId, VcpuSet};
use crate::model::vgic::GicFrame;
use kernel::prelude::*;

/// Sizes of the frames in the guest's memory map, in bytes.
const DIST_SIZE: u64 = 0x1_0000;
const REDIST_SIZE: u64 = 0x2_0000;

/// What the addresses of frames and regions are multiples of.
const ALIGN: u64 = 0x1_0000;

/// Contiguous redistributors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) base: u64,
    /// How many fit; `None`: as many as there are vCPUs (KVM_VGIC_V3_ADDR_TYPE_REDIST).
    pub(crate) count: Option<u32>,
}

impl Region {
    /// Returns how many places it has if there are `vcpus`.
    fn places(&self, vcpus: u32) -> u32 {
        self.count.unwrap_or(vcpus)
    }

    /// Returns how many bytes it has if there are `vcpus`.
    fn size(&self, vcpus: u32) -> u64 {
        u64::from(self.places(vcpus)).wrapping_mul(REDIST_SIZE)
    }
}

/// The addresses as far as they are set.
pub(crate) struct Layout {
    pub(crate) dist: Option<u64>,
    /// By index.
    pub(crate) regions: KVec<Region>,
}

impl Layout {
    pub(crate) const fn new() -> Self {
        Self {
            dist: None,
            regions: KVec::new(),
        }
    }

    /// Sets the distributor's address, below `limit`. It may lie over redistributors: only a run
    /// finds that.
    ///
    /// Errors: `EEXIST` if it is set, and those of [`check_range`].
    pub(crate) fn set_dist(&mut self, base: u64, limit: u64) -> Result {
        if self.dist.is_some() {
            return Err(EEXIST);
        }
        check_range(base, DIST_SIZE, limit)?;
        self.dist = Some(base);
        Ok(())
    }

    /// Adds a region, all of it below `limit`, as number `index`; there are `vcpus`.
    ///
    /// Errors: `EEXIST` for a second one without a count; `EINVAL` for one with a count beside one
    /// without, an index other than the next, and one that overlaps with another, or with the
    /// distributor if a vCPU has its redistributor there or there is no count; and those of
    /// [`check_range`].
    pub(crate) fn add(&mut self, index: usize, region: Region, vcpus: u32, limit: u64) -> Result {
        let size = region.size(vcpus);
        region.base.checked_add(size).ok_or(EINVAL)?;
        match (self.regions.last(), region.count) {
            (Some(Region { count: None, .. }), None) => return Err(EEXIST),
            (Some(last), _) if last.count.is_some() != region.count.is_some() => {
                return Err(EINVAL)
            }
            _ if index != self.regions.len() => return Err(EINVAL),
            _ => {}
        }
        if region.count.is_none()
            && self
                .dist
                .is_some_and(|dist| overlap((dist, DIST_SIZE), (region.base, size)))
        {
            return Err(EINVAL);
        }
        if self.overlaps((region.base, size), vcpus) {
            return Err(EINVAL);
        }
        check_range(region.base, size, limit)?;
        let homeless = self.places(vcpus) < vcpus;
        self.regions.push(region, GFP_KERNEL_ACCOUNT)?;
        if homeless && !self.is_sound(vcpus, limit) {
            let _ = self.regions.pop();
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Checks that another vCPU can be made, after `vcpus`. `EINVAL`: it would have a redistributor
    /// in a region that is not [sound](Self::is_sound).
    pub(crate) fn admit(&self, vcpus: u32, limit: u64) -> Result {
        let next = vcpus.saturating_add(1);
        if self.places(next) >= next && !self.is_sound(vcpus, limit) {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Returns the finished map. `ENXIO` if the distributor or some vCPU's redistributor has no
    /// address, `EINVAL` if they overlap or are not all below `limit`.
    pub(crate) fn map(&self, vcpus: u32, limit: u64) -> Result<FrameMap> {
        let dist = self.dist.ok_or(ENXIO)?;
        if self.places(vcpus) < vcpus {
            return Err(ENXIO);
        }
        if !self.is_sound(vcpus, limit) {
            return Err(EINVAL);
        }
        let mut redists = KVec::new();
        for (first, used, region) in self.uses(vcpus).filter(|(_, used, _)| *used > 0) {
            redists.push(
                RedistRange {
                    base: region.base,
                    first,
                    count: used,
                },
                GFP_KERNEL_ACCOUNT,
            )?;
        }
        Ok(FrameMap { dist, redists })
    }

    /// Returns the vCPUs whose redistributor is the last one of those that lie side by side:
    /// GICR_TYPER.Last.
    pub(crate) fn last(&self, vcpus: u32) -> VcpuSet {
        let mut last = VcpuSet::EMPTY;
        for (first, used, region) in self.uses(vcpus).filter(|(_, used, _)| *used > 0) {
            let end = region.base.saturating_add(region.size(vcpus));
            let full = region.count == Some(used);
            if full
                && self
                    .uses(vcpus)
                    .any(|(_, used, next)| used > 0 && next.base == end)
            {
                continue;
            }
            if let Some(vcpu) = VcpuId::new(first.saturating_add(used).saturating_sub(1) as usize) {
                last.insert(vcpu);
            }
        }
        last
    }

    /// Returns each region with the first vCPU that is in it, or would be, and the number of those
    /// that are.
    fn uses(&self, vcpus: u32) -> impl Iterator<Item = (u32, u32, Region)> + '_ {
        self.regions.iter().scan(0u32, move |first, region| {
            let here = *first;
            let places = region.places(vcpus);
            *first = here.saturating_add(places);
            Some((here, vcpus.saturating_sub(here).min(places), *region))
        })
    }

    /// Returns how many redistributors there is a place for.
    fn places(&self, vcpus: u32) -> u32 {
        self.regions.iter().fold(0, |sum: u32, region| {
            sum.saturating_add(region.places(vcpus))
        })
    }

    /// Returns whether all regions are below `limit` and none lies over the distributor.
    fn is_sound(&self, vcpus: u32, limit: u64) -> bool {
        self.regions
            .iter()
            .all(|region| check_range(region.base, region.size(vcpus), limit).is_ok())
            && self
                .dist
                .is_none_or(|dist| !self.overlaps((dist, DIST_SIZE), vcpus))
    }

    /// Returns whether a region lies over this one.
    fn overlaps(&self, one: (u64, u64), vcpus: u32) -> bool {
        self.regions
            .iter()
            .any(|region| overlap(one, (region.base, region.size(vcpus))))
    }
}

/// Returns whether two ranges of (base, size) have addresses in common.
fn overlap(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0.saturating_add(a.1) > b.0 && a.0 < b.0.saturating_add(b.1)
}

/// Checks a range: `EINVAL` unless it is aligned, and does not end behind the end of all addresses;
/// `E2BIG` unless it is below `limit`.
pub(crate) fn check_range(base: u64, size: u64, limit: u64) -> Result {
    if base % ALIGN != 0 {
        return Err(EINVAL);
    }
    let end = base.checked_add(size).ok_or(EINVAL)?;
    if base >= limit || end > limit {
        return Err(E2BIG);
    }
    Ok(())
}

/// Redistributors side by side, of vCPUs one after the other.
struct RedistRange {
    base: u64,
    first: u32,
    count: u32,
}

/// The frames' places in the guest's memory, fixed when the first vCPU runs.
pub(crate) struct FrameMap {
    dist: u64,
    redists: KVec<RedistRange>,
}

impl FrameMap {
    /// Returns where the redistributor of a vCPU is.
    pub(crate) fn redist(&self, vcpu: VcpuId) -> Option<u64> {
        self.redists.iter().find_map(|range| {
            let index = (vcpu.index() as u32).checked_sub(range.first)?;
            let offset = u64::from(index).saturating_mul(REDIST_SIZE);
            (index < range.count).then(|| range.base.saturating_add(offset))
        })
    }

    /// Returns which frame, and where in it, an access at `ipa` is.
    #[inline]
    pub(crate) fn find(&self, ipa: u64) -> Option<(GicFrame, u32)> {
        let offset = ipa.wrapping_sub(self.dist);
        if offset < DIST_SIZE {
            return Some((GicFrame::Dist, offset as u32));
        }
        self.redists.iter().find_map(|range| {
            let offset = ipa.wrapping_sub(range.base);
            let index = u32::try_from(offset / REDIST_SIZE).ok()?;
            if index >= range.count {
                return None;
            }
            // All that is looked up for this vCPU has the guest's address to thank for it.
            let index = speculation::clamp(index as usize, range.count as usize) as u32;
            let vcpu = VcpuId::new(range.first.checked_add(index)? as usize)?;
            Some((GicFrame::Redist(vcpu), (offset % REDIST_SIZE) as u32))
        })
    }
}
