// SPDX-License-Identifier: GPL-2.0
//! The VM attribute KVM_ARM_VM_SMCCC_FILTER: userspace takes hypercalls over, or denies them, range
//! by range.

use super::function;
use core::ops::Deref;

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterAction {
    /// The kernel answers it.
    Handle,
    /// NOT_SUPPORTED.
    Deny,
    /// KVM_EXIT_HYPERCALL.
    Forward,
}

impl FilterAction {
    /// Makes it from `kvm_smccc_filter.action`, if that is one.
    pub const fn new(action: u8) -> Option<Self> {
        match action {
            0 => Some(Self::Handle),
            1 => Some(Self::Deny),
            2 => Some(Self::Forward),
            _ => None,
        }
    }
}

/// Why a range cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterError {
    /// -EINVAL: no functions, or more than there are.
    Invalid,
    /// -EEXIST: it meets another range, or the architecture's own calls, which nobody may take
    /// over.
    Exists,
    /// -ENOMEM.
    NoMemory,
}

/// A range of functions, and what happens to a call of one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FunctionRange {
    first: u32,
    last: u32,
    action: FilterAction,
}

/// Where ranges are stored.
pub trait Ranges: Deref<Target = [FunctionRange]> {
    /// Puts `range` before the one at `place`, or behind all. False if there is no memory for it;
    /// then nothing has changed.
    fn put(&mut self, place: usize, range: FunctionRange) -> bool;
}

/// The architecture's calls, 32-bit and 64-bit: whether a guest is told of a speculation flaw is
/// not up to userspace.
const RESERVED: [(u32, u32); 2] = [
    (function::VERSION, function::VERSION | 0xffff),
    (
        function::VERSION | (1 << 30),
        function::VERSION | (1 << 30) | 0xffff,
    ),
];

/// A VM's filter: any number of ranges, which do not meet, in the order of their functions. So a
/// look at it takes logarithmic time. A new range moves those behind it, in one piece: a VM is set
/// up once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter<R> {
    ranges: R,
}

impl<R: Ranges> Filter<R> {
    /// Makes a filter without ranges: `ranges` has none.
    pub const fn new(ranges: R) -> Self {
        Self { ranges }
    }

    /// Returns whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns how many ranges end before `function`: where the one that it is in would be, or
    /// would have to be.
    fn place(&self, function: u32) -> usize {
        self.ranges.partition_point(|range| range.last < function)
    }

    /// Adds the `count` functions from `first` on. The VM must not have run.
    pub fn insert(
        &mut self,
        first: u32,
        count: u32,
        action: FilterAction,
    ) -> Result<(), FilterError> {
        let last = count
            .checked_sub(1)
            .and_then(|more| first.checked_add(more))
            .ok_or(FilterError::Invalid)?;
        let place = self.place(first);
        // The next one ends at `first` or later: it meets this one unless it begins behind it.
        let next_meets = self
            .ranges
            .get(place)
            .is_some_and(|next| next.first <= last);
        if next_meets || RESERVED.iter().any(|&(a, b)| first <= b && last >= a) {
            return Err(FilterError::Exists);
        }
        let range = FunctionRange {
            first,
            last,
            action,
        };
        if self.ranges.put(place, range) {
            Ok(())
        } else {
            Err(FilterError::NoMemory)
        }
    }

    /// Returns what happens to a call of this function.
    pub fn action(&self, function: u32) -> FilterAction {
        match self.ranges.get(self.place(function)) {
            Some(range) if range.first <= function => range.action,
            _ => FilterAction::Handle,
        }
    }
}
