// SPDX-License-Identifier: Apache-2.0
//! Putting virtio devices where the guest finds them: each in a window of its own, or on a PCI bus.

use super::msi::{Routes, Sender};
use anyhow::{Context, Result};
use kvm_ioctls::{IoEventAddress, VmFd};
use loft_boot::layout;
use loft_devices::bus::{Bus, MmioDevice};
use loft_virtio::pci::{Bar, Place, BAR_SIZE, MAX_FUNCTIONS};
use loft_virtio::{Device, MmioTransport, PciHost, PciTransport, Transport};
use std::sync::Arc;
use vm_memory::GuestMemoryMmap;

/// A virtio-mmio transport on the bus.
struct Window(Arc<MmioTransport>);

impl MmioDevice for Window {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.0.read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.write(offset, data);
    }
}

/// Puts each device into a window, with an interrupt of its own.
pub fn windows(
    vm: &VmFd,
    memory: &GuestMemoryMmap<()>,
    bus: &mut Bus,
    devices: Vec<Box<dyn Device>>,
) -> Result<Vec<Arc<dyn Transport>>> {
    let mut transports: Vec<Arc<dyn Transport>> = Vec::with_capacity(devices.len());
    for (n, device) in devices.into_iter().enumerate() {
        let (base, spi) = layout::virtio(n);
        let transport = Arc::new(MmioTransport::new(device, memory.clone()).context("cannot make a virtio device")?);
        vm.register_irqfd(transport.irq(), spi)
            .with_context(|| format!("the hypervisor refused the interrupt of virtio device {n}"))?;
        for (queue, kick) in transport.kicks().iter().enumerate() {
            vm.register_ioevent(kick, &IoEventAddress::Mmio(base + MmioTransport::NOTIFY), queue as u32)
                .with_context(|| refused_doorbell(n))?;
        }
        bus.insert(base, MmioTransport::SIZE, Arc::new(Window(transport.clone())))?;
        transports.push(transport);
    }
    Ok(transports)
}

fn refused_doorbell(device: usize) -> String {
    format!("the hypervisor refused the doorbell of virtio device {device}")
}

/// The configuration spaces of a PCI bus.
struct Ecam(PciHost);

impl MmioDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.0.read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.write(offset, data);
    }
}

/// A BAR of a function.
struct BarWindow(Arc<PciTransport>, Bar);

impl MmioDevice for BarWindow {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.0.read_memory(self.1, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.write_memory(self.1, offset, data);
    }
}

/// Makes each device a function of a PCI bus, whose messages go to the ITS.
pub fn functions(
    vm: &Arc<VmFd>,
    memory: &GuestMemoryMmap<()>,
    bus: &mut Bus,
    devices: Vec<Box<dyn Device>>,
) -> Result<Vec<Arc<dyn Transport>>> {
    let (count, routes) = (devices.len(), Routes::new(vm.clone()));
    let (mut all, mut messages) = (Vec::with_capacity(count), 0);
    for (n, device) in devices.into_iter().enumerate() {
        let [registers, table] = layout::pci(n);
        let place = Place { registers, messages: table, shared: PciHost::is_shared(n, count) };
        let sender = Sender::new(routes.clone(), messages, PciHost::function(n));
        messages += PciTransport::message_count(device.queue_sizes().len());
        let function = PciTransport::new(device, memory.clone(), place, Box::new(sender));
        let function = Arc::new(function.context("cannot make a virtio device")?);
        for (queue, kick) in function.kicks().iter().enumerate() {
            // A driver writes the queue's index, with 2 bytes (VIRTIO 1.2, 4.1.5.2).
            vm.register_ioevent(kick, &IoEventAddress::Mmio(registers + PciTransport::notify(queue)), queue as u16)
                .with_context(|| refused_doorbell(n))?;
        }
        for (bar, base) in [(Bar::Registers, registers), (Bar::Messages, table)] {
            bus.insert(base, BAR_SIZE, Arc::new(BarWindow(function.clone(), bar)))?;
        }
        all.push(function);
    }
    let transports = all.iter().map(|function| function.clone() as Arc<dyn Transport>).collect();
    bus.insert(layout::ECAM.0, layout::ECAM.1, Arc::new(Ecam(PciHost::new(all))))?;
    Ok(transports)
}

const _: () = {
    assert!(PciHost::SIZE == layout::ECAM.1 && 2 * BAR_SIZE == layout::PCI_STRIDE);
    assert!(layout::MAX_VIRTIO <= MAX_FUNCTIONS);
};
