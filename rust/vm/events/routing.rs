// SPDX-License-Identifier: GPL-2.0

//! GSIs: numbers for interrupts that userspace gives irqfds, and what they stand for.

use crate::model::vgic::{IntId, Line};
use crate::vm::its::Msi;
use kernel::prelude::*;

/// GSIs are smaller than this, and there are no more routes.
pub(crate) const MAX_ROUTES: u32 = 4096;

/// What a GSI stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// A pin of the interrupt controller: an SPI.
    Spi(Line),
    /// A message, for an ITS.
    Msi(Msi),
}

impl Route {
    /// Makes the route to a pin of the interrupt controller, whose pin 0 is its first SPI; `None`
    /// if it has no such pin.
    pub(crate) fn pin(pin: u32) -> Option<Self> {
        let id = IntId::new(pin.checked_add(IntId::PRIVATE)?)?;
        Line::spi(id).map(Self::Spi)
    }

    pub(super) fn line(self) -> Option<Line> {
        match self {
            Self::Spi(line) => Some(line),
            Self::Msi(_) => None,
        }
    }
}

/// What all GSIs stand for.
pub(crate) enum Routing {
    /// GSI n is pin n.
    Default,
    /// What KVM_SET_GSI_ROUTING said: sorted by GSI, each once. The others stand for nothing.
    Set(KVVec<(u32, Route)>),
}

impl Routing {
    /// Makes it from routes in any order. `EINVAL`: a GSI too large, or twice.
    pub(crate) fn new(mut routes: KVVec<(u32, Route)>) -> Result<Self> {
        routes.sort_unstable_by_key(|&(gsi, _)| gsi);
        if routes.last().is_some_and(|&(gsi, _)| gsi >= MAX_ROUTES) {
            return Err(EINVAL);
        }
        let twice = routes
            .iter()
            .zip(routes.iter().skip(1))
            .any(|(one, next)| one.0 == next.0);
        if twice {
            return Err(EINVAL);
        }
        Ok(Self::Set(routes))
    }

    pub(super) fn route(&self, gsi: u32) -> Option<Route> {
        match self {
            Self::Default => Route::pin(gsi),
            Self::Set(routes) => {
                let at = routes.binary_search_by_key(&gsi, |&(gsi, _)| gsi).ok()?;
                routes.get(at).map(|&(_, route)| route)
            }
        }
    }
}
