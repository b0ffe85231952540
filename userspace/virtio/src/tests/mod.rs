// SPDX-License-Identifier: Apache-2.0
//! The devices seen from a driver: everything goes through the registers, the rings and the interrupt, as a guest's does.

mod balloon;
mod block;
mod console;
mod disk;
mod driver;
mod fs;
mod malformed;
mod net;
mod pci;
mod ports;
mod rng;
mod transport;
