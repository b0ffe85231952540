// SPDX-License-Identifier: GPL-2.0

//! Finding out which memory is in use. The access flag is software's: cleared here, set by a fault
//! or by the CPU (VTCR_EL2.HA). Runs under the shared lock: nothing is freed, and every change is
//! one cmpxchg.

use super::platform::Platform;
use super::stale::Stale;
use super::visit::Work;
use super::Stage2;
use crate::model::types::Ipa;
use core::ops::{ControlFlow, Range};

/// What [`Stage2::age`] does to a mapping that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Nothing; it stops at the first one.
    Test,
    /// It is old from now on. A CPU that has it in its TLB can use it without making it young.
    Clear,
    /// It is old from now on, and all CPUs forget it.
    ClearAndFlush,
}

/// What [`Stage2::age`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the range may not be through"]
pub struct Aged {
    /// Whether something was used since it was last aged.
    pub young: bool,
    /// Where to go on, if there is more to look at. A test that has found something is through.
    pub next: Option<Ipa>,
}

impl<P: Platform> Stage2<P> {
    /// Tests, and as `what` says clears, the access flags in `range`, looking at about `limit`
    /// descriptors.
    ///
    /// Clearing the flag needs no break-before-make. What the CPUs have to forget is added to
    /// `stale`: one [`flush`](Stage2::flush), which does not need the lock, can do for many calls.
    /// Shared lock.
    pub fn age(&self, range: Range<Ipa>, what: Age, limit: usize, stale: &mut Stale) -> Aged {
        let mut young = false;
        let range = self.clamp(&range);
        let next = self.for_each_leaf(range, &mut Work::new(limit), |at, leaf, base, _| {
            if what == Age::Test {
                young |= leaf.attributes.young;
                return if young {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                };
            }
            if self
                .rewrite(at, leaf, |leaf| leaf.with_young(false))
                .is_some()
            {
                young = true;
                if what == Age::ClearAndFlush {
                    stale.add_leaf(P::GRANULE, base, at.level);
                }
            }
            ControlFlow::Continue(())
        });
        Aged { young, next }
    }
}
