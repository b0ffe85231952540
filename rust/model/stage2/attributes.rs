// SPDX-License-Identifier: GPL-2.0

//! What a mapping allows, in the hypervisor's own words; [`super::descriptor`] has the
//! architecture's.

use super::level::{Granule, Level};
use crate::model::types::{HostPa, Ipa};

/// What a guest may do with a page. Stage 1 can only take away from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Perm {
    /// Read.
    pub r: bool,
    /// Write.
    pub w: bool,
    /// Execute, at EL1 and at EL0.
    pub x: bool,
}

impl Perm {
    /// Nothing.
    pub const NONE: Perm = Perm::new(false, false, false);
    /// Read.
    pub const R: Perm = Perm::new(true, false, false);
    /// Read and write.
    pub const RW: Perm = Perm::new(true, true, false);
    /// Read and execute.
    pub const RX: Perm = Perm::new(true, false, true);
    /// All.
    pub const RWX: Perm = Perm::new(true, true, true);

    /// Makes these permissions: to read, to write, to execute.
    pub const fn new(r: bool, w: bool, x: bool) -> Self {
        Self { r, w, x }
    }

    /// Returns what either of the two allows.
    pub const fn union(self, other: Perm) -> Perm {
        Perm::new(self.r || other.r, self.w || other.w, self.x || other.x)
    }

    /// Returns whether everything that `other` allows is allowed here.
    pub const fn contains(self, other: Perm) -> bool {
        (self.r || !other.r) && (self.w || !other.w) && (self.x || !other.x)
    }
}

/// The memory type that stage 2 gives to a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemType {
    /// Normal, write-back cacheable, inner shareable: RAM.
    Normal,
    /// Normal, non-cacheable: a device's memory that tolerates write combining.
    NormalNc,
    /// Device-nGnRE: a device's registers.
    Device,
}

/// The attributes of a block or page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// What the guest may do.
    pub perm: Perm,
    /// The memory type.
    pub mem: MemType,
    /// The access flag: clear in a mapping that was not used since it was last aged. The first
    /// access then faults.
    pub young: bool,
}

/// A valid block or page descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// Which of the two, and how large.
    pub level: Level,
    /// Where it leads, aligned to the level's size.
    pub pa: HostPa,
    /// Its attributes.
    pub attributes: Attributes,
}

impl Leaf {
    /// Returns where `ipa`, which this leaf translates, leads.
    pub const fn output(&self, granule: Granule, ipa: Ipa) -> HostPa {
        self.pa
            .wrapping_add(ipa.offset_in(granule.size(self.level)))
    }

    /// Returns the same leaf with other permissions.
    pub(super) const fn with_perm(mut self, perm: Perm) -> Self {
        self.attributes.perm = perm;
        self
    }

    /// Returns the same leaf with the access flag as given.
    pub(super) const fn with_young(mut self, young: bool) -> Self {
        self.attributes.young = young;
        self
    }
}
