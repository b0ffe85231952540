// SPDX-License-Identifier: GPL-2.0

//! Sets of small numbers.

use core::marker::PhantomData;

/// A number that a [`BitSet`] can have.
pub trait Member: Copy {
    /// Returns the number.
    fn number(self) -> usize;

    /// Returns the member with this number, if there is one.
    fn from_number(number: usize) -> Option<Self>;
}

/// A set of members below `64 * WORDS`; there are at most 16 words.
///
/// It has two levels of bitmap, so that to find the members costs what there are members, and an
/// empty set costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitSet<T, const WORDS: usize> {
    words: [u64; WORDS],
    /// Bit n: `words[n]` is not zero.
    summary: u16,
    _members: PhantomData<T>,
}

impl<T: Member, const WORDS: usize> BitSet<T, WORDS> {
    /// The set without members.
    pub const EMPTY: Self = {
        assert!(WORDS <= 16);
        Self {
            words: [0; WORDS],
            summary: 0,
            _members: PhantomData,
        }
    };

    /// Adds one member.
    pub fn insert(&mut self, member: T) {
        let n = member.number() / 64;
        if let Some(word) = self.words.get_mut(n) {
            *word |= 1 << (member.number() % 64);
            self.summary |= 1 << (n & 15);
        }
    }

    /// Takes one member out.
    pub fn remove(&mut self, member: T) {
        let n = member.number() / 64;
        if let Some(word) = self.words.get_mut(n) {
            *word &= !(1 << (member.number() % 64));
            if *word == 0 {
                self.summary &= !(1 << (n & 15));
            }
        }
    }

    /// Returns whether this is a member.
    pub fn contains(&self, member: T) -> bool {
        self.word(member.number() / 64) & 1 << (member.number() % 64) != 0
    }

    /// Returns whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.summary == 0
    }

    /// Returns how many members there are.
    #[inline(never)]
    pub fn len(&self) -> usize {
        bits(self.summary.into())
            .map(|n| self.word(n as usize).count_ones() as usize)
            .sum()
    }

    /// Returns whether the members are in more than one word.
    pub fn is_spread(&self) -> bool {
        self.summary & self.summary.wrapping_sub(1) != 0
    }

    /// Returns the members, lowest number first.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.common(self)
    }

    /// Returns the members that `other` has, too, lowest number first.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = T> + 'a {
        bits((self.summary & other.summary).into()).flat_map(move |n| {
            let word = self.word(n as usize) & other.word(n as usize);
            bits(word).filter_map(move |bit| T::from_number((n * 64 + bit) as usize))
        })
    }

    /// Returns the set of those members that `other` has, too, or of those that it has not.
    pub fn part(&self, other: &Self, within: bool) -> Self {
        let (flip, summary) = if within {
            (0, self.summary & other.summary)
        } else {
            (u64::MAX, self.summary)
        };
        let mut part = Self::EMPTY;
        for n in bits(summary.into()) {
            let common = self.word(n as usize) & (other.word(n as usize) ^ flip);
            if let Some(word) = part.words.get_mut(n as usize).filter(|_| common != 0) {
                *word = common;
                part.summary |= 1 << n;
            }
        }
        part
    }

    fn word(&self, n: usize) -> u64 {
        self.words.get(n).copied().unwrap_or(0)
    }
}

impl<T: Member, const WORDS: usize> Default for BitSet<T, WORDS> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Returns the numbers of the bits that are set in `word`, lowest first.
pub fn bits(word: u64) -> impl Iterator<Item = u32> {
    let mut rest = word;
    core::iter::from_fn(move || {
        let bit = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}
