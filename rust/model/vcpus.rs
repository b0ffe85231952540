// SPDX-License-Identifier: GPL-2.0

//! vCPUs of one VM, by number.

/// Index of a vCPU within its VM: 0 for the first one created, without holes.
///
/// # Invariants
///
/// The index is below [`VcpuId::LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(u16);

impl VcpuId {
    /// No VM has more vCPUs than this.
    pub const LIMIT: usize = 512;

    /// The first vCPU of every VM.
    pub const FIRST: VcpuId = VcpuId(0);

    /// The vCPU with this index, if there can be one.
    pub const fn new(index: usize) -> Option<Self> {
        if index < Self::LIMIT {
            // INVARIANT: just checked.
            Some(Self(index as u16))
        } else {
            None
        }
    }

    /// The index, fit for a slice of vCPUs.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of vCPUs of one VM.
///
/// Two levels of bitmap, so that an empty set costs nothing and a small one little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuSet {
    words: [u64; VcpuId::LIMIT / 64],
    /// Bit n: `words[n]` is not zero.
    summary: u8,
}

impl VcpuSet {
    /// The set without members.
    pub const EMPTY: VcpuSet = VcpuSet {
        words: [0; VcpuId::LIMIT / 64],
        summary: 0,
    };

    /// Adds one vCPU.
    pub fn insert(&mut self, vcpu: VcpuId) {
        let n = vcpu.index() / 64;
        if let Some(word) = self.words.get_mut(n) {
            *word |= 1 << (vcpu.index() % 64);
            self.summary |= 1 << (n & 7);
        }
    }

    /// Takes one vCPU out.
    pub fn remove(&mut self, vcpu: VcpuId) {
        let n = vcpu.index() / 64;
        if let Some(word) = self.words.get_mut(n) {
            *word &= !(1 << (vcpu.index() % 64));
            if *word == 0 {
                self.summary &= !(1 << (n & 7));
            }
        }
    }

    /// Whether this vCPU is a member.
    pub fn contains(&self, vcpu: VcpuId) -> bool {
        let word = self.words.get(vcpu.index() / 64).copied().unwrap_or(0);
        word & (1 << (vcpu.index() % 64)) != 0
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.summary == 0
    }

    /// The members, lowest index first.
    pub fn iter(&self) -> impl Iterator<Item = VcpuId> + '_ {
        bits(self.summary.into()).flat_map(|n| {
            let word = self.words.get(n as usize).copied().unwrap_or(0);
            bits(word).filter_map(move |bit| VcpuId::new((n * 64 + bit) as usize))
        })
    }
}

/// The numbers of the bits that are set in `word`, lowest first.
pub fn bits(word: u64) -> impl Iterator<Item = u32> {
    let mut rest = word;
    core::iter::from_fn(move || {
        let bit = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}
