// SPDX-License-Identifier: GPL-2.0

//! What a vCPU keeps for a tracer while it is in the vector, where nobody may be told.

use crate::model::esr::Esr;
use crate::model::timer::TimerSet;

/// What a vCPU has to tell once it is out of the vector.
#[derive(Clone, Copy)]
pub(super) struct Untold {
    /// The exit that was answered there, if one was.
    pub(super) exit: Option<TracedExit>,
    /// The timers whose lines have changed.
    pub(super) timers: TimerSet,
}

impl Untold {
    /// What there is to tell of nothing.
    pub(super) const NOTHING: Self = Self {
        exit: None,
        timers: TimerSet::NONE,
    };
}

/// An exit, as the vector found it.
#[derive(Clone, Copy)]
pub(super) struct TracedExit {
    /// `None`: an interrupt.
    pub(super) esr: Option<Esr>,
    pub(super) pc: u64,
    pub(super) far: u64,
    pub(super) ipa: u64,
    pub(super) x0: u64,
    /// What a store stores.
    pub(super) stored: u64,
    /// The guest would have gone on from the vector.
    pub(super) fast: bool,
}
