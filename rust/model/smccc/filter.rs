// SPDX-License-Identifier: GPL-2.0
//! The VM attribute KVM_ARM_VM_SMCCC_FILTER: userspace takes hypercalls over, or denies them, range by range.

use super::function;

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The kernel answers it.
    Handle,
    /// NOT_SUPPORTED.
    Deny,
    /// KVM_EXIT_HYPERCALL.
    Forward,
}

impl Action {
    /// From `kvm_smccc_filter.action`.
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
    /// -EEXIST: it meets another range, or the architecture's own calls, which nobody may take over.
    Exists,
    /// -ENOMEM: too many ranges.
    Full,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    first: u32,
    last: u32,
    action: Action,
}

/// How many ranges a filter holds.
const CAPACITY: usize = 32;

/// The architecture's calls, 32-bit and 64-bit: whether a guest is told of a speculation flaw is not up to userspace.
const RESERVED: [(u32, u32); 2] = [
    (function::VERSION, function::VERSION | 0xffff),
    (
        function::VERSION | (1 << 30),
        function::VERSION | (1 << 30) | 0xffff,
    ),
];

/// A VM's filter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    ranges: [Option<Range>; CAPACITY],
}

impl Filter {
    /// Without ranges.
    pub const fn new() -> Self {
        Self {
            ranges: [None; CAPACITY],
        }
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.ranges.iter().all(Option::is_none)
    }

    /// Adds the `count` functions from `first` on. The VM must not have run.
    pub fn insert(&mut self, first: u32, count: u32, action: Action) -> Result<(), FilterError> {
        let last = count
            .checked_sub(1)
            .and_then(|more| first.checked_add(more))
            .ok_or(FilterError::Invalid)?;
        let meets = |other_first, other_last| first <= other_last && last >= other_first;
        if RESERVED.iter().any(|&(a, b)| meets(a, b))
            || self.ranges.iter().flatten().any(|r| meets(r.first, r.last))
        {
            return Err(FilterError::Exists);
        }
        let slot = self
            .ranges
            .iter_mut()
            .find(|slot| slot.is_none())
            .ok_or(FilterError::Full)?;
        *slot = Some(Range {
            first,
            last,
            action,
        });
        Ok(())
    }

    /// What happens to a call of this function.
    pub fn action(&self, function: u32) -> Action {
        let range = self
            .ranges
            .iter()
            .flatten()
            .find(|range| (range.first..=range.last).contains(&function));
        range.map_or(Action::Handle, |range| range.action)
    }
}
