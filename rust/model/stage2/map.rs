// SPDX-License-Identifier: GPL-2.0

//! Mapping a page or block, and adding permissions to one: what a stage-2 fault asks for. Runs
//! under the shared lock.

use super::attributes::{Attributes, Leaf, MemType, Perm};
use super::descriptor::Entry;
use super::level::Level;
use super::platform::{Platform, TablePool};
use super::visit::Position;
use super::Stage2;
use crate::model::types::{HostPa, Ipa};

/// A page or block that a guest should see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where the guest sees it, aligned to the level's size.
    pub ipa: Ipa,
    /// Where it is, aligned to the level's size.
    pub pa: HostPa,
    /// How large it is.
    pub level: Level,
    /// What the guest may do. Something, and execution from Normal memory only.
    pub perm: Perm,
    /// Its memory type.
    pub mem: MemType,
}

impl Mapping {
    fn leaf(&self) -> Leaf {
        Leaf {
            level: self.level,
            pa: self.pa,
            attributes: Attributes {
                perm: self.perm,
                mem: self.mem,
                young: true,
            },
        }
    }
}

/// How a mapping came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// Nothing was mapped there.
    New,
    /// It was there, perhaps as a part of a larger block: another vCPU was quicker, or this CPU's
    /// TLB had an old entry.
    Already,
    /// It was there and allowed less.
    Relaxed,
    /// Something else was there.
    Replaced,
}

/// Why there is no such mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// A table is needed: fill the pool, without the lock, and come again.
    PoolEmpty,
    /// Another vCPU is changing the same descriptor: let the guest try again; it faults again if it
    /// must.
    Busy,
    /// A table is where the block should be. Map a smaller piece, or [`unmap`](Stage2::unmap) all
    /// of the block's addresses first.
    TableInTheWay,
    /// An address is not aligned to the level's size.
    Misaligned,
    /// The guest's address is outside the IPA space.
    IpaTooLarge,
    /// The host's address cannot be put into a descriptor.
    PaTooLarge,
    /// Level 0 maps nothing, and there is no level 1 if the root is at level 2.
    BadLevel,
    /// No permission at all, or execution from memory that is not Normal.
    BadPerm,
}

/// How often a descriptor may change under our hands before it is the guest that tries again. Every
/// change is someone's progress; four levels and two splits of a lonely vCPU need ten.
const ATTEMPTS: usize = 32;

/// What was made of one descriptor.
enum Step {
    Done(Mapped),
    /// Read the same descriptor again: it is, or may be, different now.
    Again,
}

impl<P: Platform> Stage2<P> {
    /// Makes the guest see `want`.
    ///
    /// A larger block that is there already with the same output is kept if it allows what is
    /// wanted; else it is split, and the other parts stay mapped. Whatever else is there is
    /// replaced. Permissions are only ever added.
    ///
    /// The caller holds the shared lock and has checked, under it, that the host still maps
    /// `want.pa` there.
    pub fn map(
        &self,
        pool: &mut impl TablePool<P::Table>,
        want: &Mapping,
    ) -> Result<Mapped, MapError> {
        self.check(want)?;
        let mut at = self.read_root(want.ipa);
        for _ in 0..ATTEMPTS {
            let step = match at.entry {
                Entry::Table(table) => match at.level.next() {
                    Some(level) if at.level < want.level => {
                        at = self.read(level, table, P::GRANULE.index(level, want.ipa));
                        continue;
                    }
                    _ => return Err(MapError::TableInTheWay),
                },
                Entry::Leaf(leaf) => self.map_over(pool, want, &at, leaf)?,
                Entry::Empty if at.level < want.level => self.grow(pool, &at)?,
                Entry::Empty => self.fill(&at, want),
                Entry::Locked | Entry::Dead(_) => return Err(MapError::Busy),
            };
            match step {
                Step::Done(mapped) => return Ok(mapped),
                Step::Again => at = self.read_again(&at),
            }
        }
        Err(MapError::Busy)
    }

    /// Sets the access flag of the leaf that maps `ipa`: all that an access flag fault needs.
    /// `false` if there is none.
    ///
    /// No TLB maintenance: an entry with the flag clear is never cached (DDI 0487, "The Access
    /// flag"). Shared lock.
    pub fn make_young(&self, ipa: Ipa) -> bool {
        let at = self.descend(ipa, Level::L3);
        match at.entry {
            Entry::Leaf(leaf) if ipa < self.geometry.end() => {
                self.rewrite(&at, leaf, |leaf| leaf.with_young(true));
                self.platform.publish();
                true
            }
            _ => false,
        }
    }

    fn check(&self, want: &Mapping) -> Result<(), MapError> {
        let size = P::GRANULE.size(want.level);
        if !P::GRANULE.maps(want.level) || want.level < self.geometry.start_level() {
            Err(MapError::BadLevel)
        } else if !want.ipa.is_aligned(size) || !want.pa.is_aligned(size) {
            Err(MapError::Misaligned)
        } else if want.ipa >= self.geometry.end() {
            Err(MapError::IpaTooLarge)
        } else if !self.geometry.can_output(want.pa, size) {
            Err(MapError::PaTooLarge)
        } else if want.perm == Perm::NONE || (want.perm.x && want.mem != MemType::Normal) {
            Err(MapError::BadPerm)
        } else {
            Ok(())
        }
    }

    /// Maps `want` where there is a leaf at `at`, which is where `want` should be or above.
    fn map_over<'a>(
        &'a self,
        pool: &mut impl TablePool<P::Table>,
        want: &Mapping,
        at: &Position<'a, P>,
        leaf: Leaf,
    ) -> Result<Step, MapError> {
        let same = leaf.output(P::GRANULE, want.ipa) == want.pa && leaf.attributes.mem == want.mem;
        if same && (at.level == want.level || leaf.attributes.perm.contains(want.perm)) {
            return Ok(self.add(at, leaf, want.perm, want.ipa));
        }
        if at.level == want.level {
            return Ok(self.swap_leaf(at, leaf, want));
        }
        // Part of a block. The rest of it is still right if this part is, and is worth keeping.
        let table = pool.take().ok_or(MapError::PoolEmpty)?;
        if let Err(table) = self.swap_block_for_table(at, leaf, want.ipa, table, same) {
            pool.put(table);
        }
        Ok(Step::Again)
    }

    /// Puts an empty table where nothing is.
    fn grow<'a>(
        &'a self,
        pool: &mut impl TablePool<P::Table>,
        at: &Position<'a, P>,
    ) -> Result<Step, MapError> {
        let table = pool.take().ok_or(MapError::PoolEmpty)?;
        // Release: whoever sees the descriptor, CPU or walker, sees the table's zeroes.
        if let Err(table) = self.platform.link(at.at, at.raw, table) {
            pool.put(table);
        }
        Ok(Step::Again)
    }

    /// Maps `want` where nothing is.
    ///
    /// The descriptor is locked meanwhile so that of several vCPUs that fault on a block only one
    /// cleans its caches.
    fn fill<'a>(&'a self, at: &Position<'a, P>, want: &Mapping) -> Step {
        if !self.lock(at) {
            return Step::Again;
        }
        self.make_coherent(want);
        self.unlock(at, self.format.leaf(want.leaf()));
        Step::Done(Mapped::New)
    }

    /// Maps `want` in place of `old`, which has the same size: break, then make.
    fn swap_leaf<'a>(&'a self, at: &Position<'a, P>, old: Leaf, want: &Mapping) -> Step {
        if !self.lock(at) {
            return Step::Again;
        }
        self.flush_leaf(old.level, want.ipa);
        self.make_coherent(want);
        self.unlock(at, self.format.leaf(want.leaf()));
        Step::Done(Mapped::Replaced)
    }

    /// Adds permissions, and the access flag: in place, since neither needs break-before-make.
    fn add<'a>(&'a self, at: &Position<'a, P>, leaf: Leaf, perm: Perm, ipa: Ipa) -> Step {
        let attributes = leaf.attributes;
        let new = leaf.with_perm(attributes.perm.union(perm)).with_young(true);
        let relaxed = new.attributes.perm != attributes.perm;
        if perm.x && !attributes.perm.x {
            self.platform
                .before_exec(leaf.pa, P::GRANULE.size(leaf.level));
        }
        if new != leaf {
            if self
                .platform
                .cmpxchg(at.at, at.raw, self.format.leaf(new))
                .is_err()
            {
                return Step::Again;
            }
            self.platform.publish();
        }
        // Even if nothing was changed: it may be an old entry in this CPU's TLB, after another vCPU
        // added permissions, that made this one fault, and it would fault for ever.
        self.platform
            .flush_local(ipa.align_down(P::GRANULE.size(leaf.level)), leaf.level);
        Step::Done(if relaxed {
            Mapped::Relaxed
        } else {
            Mapped::Already
        })
    }

    fn make_coherent(&self, want: &Mapping) {
        let size = P::GRANULE.size(want.level);
        if want.mem == MemType::Normal {
            self.platform.before_data(want.pa, size);
        }
        if want.perm.x {
            self.platform.before_exec(want.pa, size);
        }
    }
}
