// SPDX-License-Identifier: Apache-2.0
//! The common configuration (4.1.4.3): what each device has, at its places of this transport.
//!
//! A field is accessed as wide as it is; one of 64 bits also in halves (4.1.3.1). Other accesses
//! read as zero and write nothing.

use super::{put, value};
use crate::interrupt::{Source, NO_VECTOR};
use crate::transport::{Front, Register};

/// One of the fields.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// What has the same meaning in each transport.
    Plain(Register),
    /// An address: its lower half, its upper one.
    Address(Register, Register),
    ConfigVector,
    QueueCount,
    Status,
    Generation,
    QueueVector,
    NotifyOffset,
}

/// The field of `size` bytes at `offset`.
fn field(offset: u64, size: usize) -> Option<Field> {
    use Register::*;
    Some(match (offset, size) {
        (0, 4) => Field::Plain(DeviceFeaturesSel),
        (4, 4) => Field::Plain(DeviceFeatures),
        (8, 4) => Field::Plain(DriverFeaturesSel),
        (12, 4) => Field::Plain(DriverFeatures),
        (16, 2) => Field::ConfigVector,
        (18, 2) => Field::QueueCount,
        (20, 1) => Field::Status,
        (21, 1) => Field::Generation,
        (22, 2) => Field::Plain(QueueSel),
        (24, 2) => Field::Plain(QueueSize),
        (26, 2) => Field::QueueVector,
        (28, 2) => Field::Plain(QueueReady),
        (30, 2) => Field::NotifyOffset,
        (32, 4) => Field::Plain(DescriptorsLow),
        (36, 4) => Field::Plain(DescriptorsHigh),
        (32, 8) => Field::Address(DescriptorsLow, DescriptorsHigh),
        (40, 4) => Field::Plain(AvailableLow),
        (44, 4) => Field::Plain(AvailableHigh),
        (40, 8) => Field::Address(AvailableLow, AvailableHigh),
        (48, 4) => Field::Plain(UsedLow),
        (52, 4) => Field::Plain(UsedHigh),
        (48, 8) => Field::Address(UsedLow, UsedHigh),
        _ => return None,
    })
}

/// A read of the field at `offset`; `data` is all zeroes where there is none.
pub fn read(front: &Front, offset: u64, data: &mut [u8]) {
    let Some(field) = field(offset, data.len()) else { return };
    let vector = |source: Option<Source>| source.map_or(NO_VECTOR, |source| front.interrupt().vector(source));
    put(
        data,
        match field {
            Field::Plain(register) => front.read(register).into(),
            Field::Address(low, high) => (u64::from(front.read(high)) << 32) | u64::from(front.read(low)),
            Field::ConfigVector => vector(Some(Source::Config)).into(),
            Field::QueueCount => front.kicks().len() as u64,
            Field::Status => front.status().into(),
            Field::Generation => front.interrupt().generation().into(),
            Field::QueueVector => vector(front.selected().map(Source::Queue)).into(),
            // Each queue has a place of its own for its kicks.
            Field::NotifyOffset => front.selected().unwrap_or(0) as u64,
        },
    );
}

/// A write to the field at `offset`.
pub fn write(front: &Front, offset: u64, data: &[u8]) {
    let Some(field) = field(offset, data.len()) else { return };
    let value = value(data);
    match field {
        // Only a reset takes a queue away (4.1.4.3.2).
        Field::Plain(Register::QueueReady) if value != 1 => {}
        Field::Plain(register) => front.write(register, value as u32),
        Field::Address(low, high) => {
            front.write(low, value as u32);
            front.write(high, (value >> 32) as u32);
        }
        Field::ConfigVector => front.set_vector(Some(Source::Config), value as u16),
        Field::Status => front.write_status(value as u32),
        Field::QueueVector => front.set_vector(None, value as u16),
        Field::QueueCount | Field::Generation | Field::NotifyOffset => {}
    }
}
