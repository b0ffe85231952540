// SPDX-License-Identifier: Apache-2.0
//! The host bridge: one bus, and the configuration spaces of its functions in memory (ECAM; PCI
//! Express Base 5.0, 7.2.2).

use std::sync::Arc;

use super::PciTransport;

/// The most functions: 32 slots with 8 each.
pub const MAX_FUNCTIONS: usize = SLOTS * 8;
const SLOTS: usize = 32;
/// Bytes of each function's configuration space, and of all.
const SPACE: u64 = 0x1000;

/// The functions of a bus. The bridge itself is none of them.
#[derive(Default)]
pub struct PciHost(Vec<Arc<PciTransport>>);

impl PciHost {
    /// Bytes of all configuration spaces.
    pub const SIZE: u64 = MAX_FUNCTIONS as u64 * SPACE;

    /// A bus with these functions: see [`PciHost::function`].
    pub fn new(functions: Vec<Arc<PciTransport>>) -> Self {
        Self(functions)
    }

    /// The number by which device `n` is known on the bus, slot and function: each slot gets one
    /// before any gets another.
    pub const fn function(n: usize) -> u32 {
        ((n % SLOTS) << 3 | n / SLOTS) as u32
    }

    /// Whether the slot of device `n`, of `count`, has several functions.
    pub const fn is_shared(n: usize, count: usize) -> bool {
        n % SLOTS + SLOTS < count
    }

    fn find(&self, offset: u64) -> Option<&PciTransport> {
        let number = usize::try_from(offset / SPACE).ok().filter(|number| *number < MAX_FUNCTIONS)?;
        self.0.get((number & 7) * SLOTS + (number >> 3)).map(Arc::as_ref)
    }

    /// A guest's read. Where there is no function all is ones.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        match self.find(offset) {
            Some(function) => function.read_config(offset % SPACE, data),
            None => data.fill(0xff),
        }
    }

    /// A guest's write.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if let Some(function) = self.find(offset) {
            function.write_config(offset % SPACE, data);
        }
    }
}
