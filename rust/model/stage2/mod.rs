// SPDX-License-Identifier: GPL-2.0

//! Stage-2 translation tables.

#![forbid(unsafe_code)]

mod age;
mod attributes;
mod bbm;
mod descriptor;
mod geometry;
mod level;
mod map;
mod platform;
mod protect;
mod split;
mod stale;
mod unmap;
mod visit;
mod walk;

pub use age::{Age, Aged};
pub use attributes::{Attributes, Leaf, MemType, Perm};
pub use descriptor::Format;
pub use geometry::{Geometry, GeometryError, MAX_ADDRESS_BITS, MIN_IPA_BITS};
pub use level::{Level, PAGE_SHIFT, PAGE_SIZE};
pub use map::{MapError, Mapped, Mapping};
pub use platform::{Cache, Coherency, Memory, Platform, Slot, Table, Tlb};
pub use split::Split;
pub use stale::Stale;

/// The stage-2 translation of one VM.
///
/// Lives in a reader-writer lock: what takes `&self` runs under the shared lock, by several vCPUs at once; what takes
/// `&mut self` runs alone.
///
/// # Invariants
///
/// - A table is linked from exactly one descriptor, or from none if it is a part of the root.
/// - Under the exclusive lock no descriptor is locked, and outside of one call none is dead.
pub struct Stage2<P> {
    platform: P,
    geometry: Geometry,
    root: Table,
    format: Format,
}

impl<P: Platform> Stage2<P> {
    /// An empty translation. The root is `geometry.root_size()` bytes of zeroes, and stays the caller's.
    ///
    /// `None` if the root is not aligned to its size.
    pub fn new(platform: P, geometry: Geometry, root: Table, format: Format) -> Option<Self> {
        root.pa().is_aligned(geometry.root_size()).then_some(Self {
            platform,
            geometry,
            root,
            format,
        })
    }

    /// The shape of the translation.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What VTTBR_EL2.BADDR is to hold.
    pub fn root(&self) -> Table {
        self.root
    }

    /// The machine that the tables live on.
    pub fn platform(&self) -> &P {
        &self.platform
    }
}
