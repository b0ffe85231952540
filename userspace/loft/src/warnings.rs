// SPDX-License-Identifier: Apache-2.0
//! What the devices warn of, for the user.

use crate::output;
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::atomic::{AtomicU32, Ordering};

/// A guest can cause some of them as often as it likes.
const MOST: u32 = 20;

struct Warnings(AtomicU32);

static WARNINGS: Warnings = Warnings(AtomicU32::new(0));

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= LevelFilter::Warn
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // The terminal may be in raw mode, in which a line does not begin at the left by itself.
        match self.0.fetch_add(1, Ordering::Relaxed) {
            n if n < MOST => output::message(&format!("loft: {}\r", record.args())),
            MOST => output::message("loft: further warnings are not shown\r"),
            // The count does not come round.
            _ => self.0.store(MOST + 1, Ordering::Relaxed),
        }
    }

    fn flush(&self) {}
}

/// Shows them from now on.
pub fn show() {
    if log::set_logger(&WARNINGS).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}
