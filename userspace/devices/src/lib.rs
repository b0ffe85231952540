// SPDX-License-Identifier: Apache-2.0
//! The launcher's own small devices and its terminal: the MMIO bus, the 16550 serial port, the
//! PL031 clock, the PL061 with the power button, the terminal's raw mode and escape key.
#![forbid(unsafe_code)]

pub mod bus;
pub mod gpio;
pub mod rtc;
pub mod serial;
pub mod terminal;
pub mod watch;
