// SPDX-License-Identifier: Apache-2.0
//! Register offsets (4.2.2), as the type in which offsets arrive.

use virtio_bindings::virtio_mmio as mmio;

use crate::transport::Register;

/// The value of MagicValue, "virt".
pub const MAGIC: u32 = 0x7472_6976;
/// The version of the register layout.
pub const LAYOUT_VERSION: u32 = 2;
/// The value of VendorID, "loft"; drivers look at it for quirks only.
pub const VENDOR: u32 = 0x7466_6f6c;

macro_rules! registers {
    ($($name:ident = $binding:ident),* $(,)?) => {
        $(pub const $name: u64 = mmio::$binding as u64;)*
    };
}

registers! {
    MAGIC_VALUE = VIRTIO_MMIO_MAGIC_VALUE,
    VERSION = VIRTIO_MMIO_VERSION,
    DEVICE_ID = VIRTIO_MMIO_DEVICE_ID,
    VENDOR_ID = VIRTIO_MMIO_VENDOR_ID,
    DEVICE_FEATURES = VIRTIO_MMIO_DEVICE_FEATURES,
    DEVICE_FEATURES_SEL = VIRTIO_MMIO_DEVICE_FEATURES_SEL,
    DRIVER_FEATURES = VIRTIO_MMIO_DRIVER_FEATURES,
    DRIVER_FEATURES_SEL = VIRTIO_MMIO_DRIVER_FEATURES_SEL,
    QUEUE_SEL = VIRTIO_MMIO_QUEUE_SEL,
    QUEUE_NUM_MAX = VIRTIO_MMIO_QUEUE_NUM_MAX,
    QUEUE_NUM = VIRTIO_MMIO_QUEUE_NUM,
    QUEUE_READY = VIRTIO_MMIO_QUEUE_READY,
    QUEUE_NOTIFY = VIRTIO_MMIO_QUEUE_NOTIFY,
    INTERRUPT_STATUS = VIRTIO_MMIO_INTERRUPT_STATUS,
    INTERRUPT_ACK = VIRTIO_MMIO_INTERRUPT_ACK,
    STATUS = VIRTIO_MMIO_STATUS,
    QUEUE_DESC_LOW = VIRTIO_MMIO_QUEUE_DESC_LOW,
    QUEUE_DESC_HIGH = VIRTIO_MMIO_QUEUE_DESC_HIGH,
    QUEUE_DRIVER_LOW = VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    QUEUE_DRIVER_HIGH = VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
    QUEUE_DEVICE_LOW = VIRTIO_MMIO_QUEUE_USED_LOW,
    QUEUE_DEVICE_HIGH = VIRTIO_MMIO_QUEUE_USED_HIGH,
    SHM_LEN_LOW = VIRTIO_MMIO_SHM_LEN_LOW,
    SHM_LEN_HIGH = VIRTIO_MMIO_SHM_LEN_HIGH,
    SHM_BASE_LOW = VIRTIO_MMIO_SHM_BASE_LOW,
    SHM_BASE_HIGH = VIRTIO_MMIO_SHM_BASE_HIGH,
    CONFIG_GENERATION = VIRTIO_MMIO_CONFIG_GENERATION,
    CONFIG = VIRTIO_MMIO_CONFIG,
}

/// What is written at `offset`, of what each transport has; none if that is something else.
pub fn writable(offset: u64) -> Option<Register> {
    Some(match offset {
        DEVICE_FEATURES_SEL => Register::DeviceFeaturesSel,
        DRIVER_FEATURES_SEL => Register::DriverFeaturesSel,
        DRIVER_FEATURES => Register::DriverFeatures,
        QUEUE_SEL => Register::QueueSel,
        QUEUE_NUM => Register::QueueSize,
        QUEUE_READY => Register::QueueReady,
        QUEUE_DESC_LOW => Register::DescriptorsLow,
        QUEUE_DESC_HIGH => Register::DescriptorsHigh,
        QUEUE_DRIVER_LOW => Register::AvailableLow,
        QUEUE_DRIVER_HIGH => Register::AvailableHigh,
        QUEUE_DEVICE_LOW => Register::UsedLow,
        QUEUE_DEVICE_HIGH => Register::UsedHigh,
        _ => return None,
    })
}
