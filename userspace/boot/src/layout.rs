// SPDX-License-Identifier: Apache-2.0
//! The guest's physical address space.
//!
//! ```text
//! 0x0800_0000  GICv3 distributor, 64 KiB
//! 0x0808_0000  GICv3 ITS, 128 KiB                     where there is PCI
//! 0x0900_0000  16550 serial port          SPI 0
//! 0x0901_0000  PL031 clock
//! 0x0902_0000  PL061 with the power button             SPI 1
//! 0x0a00_0000  virtio-mmio windows, 4 KiB apart     SPI 16 + n
//! 0x1000_0000  GICv3 redistributors, 128 KiB for each vCPU
//! 0x3000_0000  PCI configuration spaces (ECAM), 1 MiB
//! 0x4000_0000  PCI memory, 32 KiB for each device
//! 0x8000_0000  RAM: kernel, initial RAM disk, ..., device tree in the last 2 MiB
//! ```

/// GICv3 distributor: address and size in bytes.
pub const GICD: (u64, u64) = (0x0800_0000, 0x1_0000);
/// GICv3 ITS: address and size in bytes.
pub const GITS: (u64, u64) = (0x0808_0000, 0x2_0000);
/// The first GICv3 redistributor.
pub const GICR_BASE: u64 = 0x1000_0000;
/// Bytes that each vCPU's redistributor takes.
pub const GICR_STRIDE: u64 = 0x2_0000;
/// The serial port: address and size in bytes.
pub const UART: (u64, u64) = (0x0900_0000, 0x1000);
/// The serial port's shared peripheral interrupt.
pub const UART_SPI: u32 = 0;
/// The PL031: address and size in bytes.
pub const RTC: (u64, u64) = (0x0901_0000, 0x1000);
/// The PL061: address and size in bytes.
pub const GPIO: (u64, u64) = (0x0902_0000, 0x1000);
/// The PL061's shared peripheral interrupt.
pub const GPIO_SPI: u32 = 1;
/// The line of it at which the power button is.
pub const BUTTON: u32 = 3;
/// The first virtio-mmio window.
pub const VIRTIO_BASE: u64 = 0x0a00_0000;
/// Bytes from one virtio-mmio window to the next.
pub const VIRTIO_STRIDE: u64 = 0x1000;
/// The first virtio device's shared peripheral interrupt.
pub const VIRTIO_SPI: u32 = 16;
/// The configuration spaces of a PCI bus: address and size in bytes.
pub const ECAM: (u64, u64) = (0x3000_0000, 0x10_0000);
/// The memory of PCI devices: address and size in bytes.
pub const PCI_MEMORY: (u64, u64) = (0x4000_0000, 0x0100_0000);
/// Bytes that each PCI device has there: two BARs of half of that each.
pub const PCI_STRIDE: u64 = 0x8000;
/// More virtio devices than this are refused.
pub const MAX_VIRTIO: usize = 240;
/// More vCPUs than this are refused.
pub const MAX_VCPUS: u32 = 512;
/// Where RAM begins.
pub const RAM_BASE: u64 = 0x8000_0000;
/// The largest device tree that the arm64 boot protocol allows, and its alignment here.
pub const FDT_MAX: u64 = 2 << 20;
/// The least memory that a guest gets.
pub const MIN_MEMORY: u64 = 64 << 20;

const ALIGN: u64 = 2 << 20;

/// The interrupts that the GIC is configured with (SGIs, PPIs and SPIs) for `virtio` devices that
/// have one: a multiple of 32.
pub fn gic_irqs(virtio: usize) -> u32 {
    (32 + VIRTIO_SPI + virtio as u32).next_multiple_of(32)
}

/// Bits of guest physical address that `memory` bytes of RAM need.
pub fn ipa_bits(memory: u64) -> u32 {
    64 - (RAM_BASE + memory - 1).leading_zeros()
}

/// Where things are put in RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The kernel's first byte; the vCPU starts here.
    pub kernel: u64,
    /// The initial RAM disk's first byte.
    pub initrd: u64,
    /// The device tree's first byte.
    pub fdt: u64,
}

/// Places a kernel that takes `kernel_size` bytes in memory, and an initial RAM disk of `initrd_size` bytes, in
/// `memory` bytes of RAM. On error, the bytes of RAM that would do.
pub fn place(memory: u64, text_offset: u64, kernel_size: u64, initrd_size: u64) -> Result<Placement, u64> {
    let kernel = RAM_BASE + text_offset;
    let initrd = (kernel + kernel_size).next_multiple_of(ALIGN);
    let initrd_end = (initrd + initrd_size).next_multiple_of(ALIGN);
    // The kernel unpacks the initial RAM disk before it frees it, and needs memory to come up and run a program: Debian's 7.2
    // panics with 30 % of its own size, and comes up with 40 %.
    let working = initrd_size + kernel_size / 2;
    let needed = (initrd_end + FDT_MAX + working - RAM_BASE).max(MIN_MEMORY);
    if memory < needed {
        return Err(needed);
    }
    Ok(Placement { kernel, initrd, fdt: (RAM_BASE + memory - FDT_MAX) & !(ALIGN - 1) })
}

/// Where virtio device `n` is, and which shared peripheral interrupt it has.
pub fn virtio(n: usize) -> (u64, u32) {
    (VIRTIO_BASE + n as u64 * VIRTIO_STRIDE, VIRTIO_SPI + n as u32)
}

/// Where the two BARs of PCI device `n` are.
pub fn pci(n: usize) -> [u64; 2] {
    let first = PCI_MEMORY.0 + n as u64 * PCI_STRIDE;
    [first, first + PCI_STRIDE / 2]
}

const _: () = {
    assert!(GICD.0 + GICD.1 <= GITS.0 && GITS.0 + GITS.1 <= UART.0);
    assert!(GICR_BASE + MAX_VCPUS as u64 * GICR_STRIDE <= ECAM.0 && ECAM.0 + ECAM.1 <= PCI_MEMORY.0);
    assert!(PCI_MEMORY.0 + PCI_MEMORY.1 <= RAM_BASE && MAX_VIRTIO as u64 * PCI_STRIDE <= PCI_MEMORY.1);
    assert!(VIRTIO_BASE + MAX_VIRTIO as u64 * VIRTIO_STRIDE <= GICR_BASE);
    assert!(32 + VIRTIO_SPI as usize + MAX_VIRTIO <= 1020);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_does_not_overlap() {
        let p = place(512 << 20, 0, 48 << 20, 30 << 20).unwrap();
        assert_eq!(p.kernel, RAM_BASE);
        assert!(p.initrd >= p.kernel + (48 << 20) && p.initrd % ALIGN == 0);
        assert!(p.fdt >= p.initrd + (30 << 20));
        assert!(p.fdt + FDT_MAX <= RAM_BASE + (512 << 20));
    }

    #[test]
    fn too_little_memory_says_how_much() {
        let needed = place(64 << 20, 0, 60 << 20, 10 << 20).unwrap_err();
        assert!(place(needed, 0, 60 << 20, 10 << 20).is_ok());
        assert!(place(needed - 1, 0, 60 << 20, 10 << 20).is_err());
        // An odd size still leaves the device tree whole and inside.
        let p = place(needed + 4096, 0, 60 << 20, 10 << 20).unwrap();
        assert!(p.fdt % ALIGN == 0 && p.fdt >= p.initrd + (10 << 20));
    }

    #[test]
    fn irqs_and_ipa() {
        assert_eq!(gic_irqs(0), 64);
        assert_eq!(gic_irqs(16), 64);
        assert_eq!(gic_irqs(17), 96);
        assert_eq!(ipa_bits(1 << 30), 32);
        assert_eq!(ipa_bits(2 << 30), 32);
        assert_eq!(ipa_bits((2 << 30) + 1), 33);
    }
}
