// SPDX-License-Identifier: Apache-2.0
//! Messages of devices as interrupts (KVM_SET_GSI_ROUTING, KVM_IRQFD): each message that a guest
//! has set up is the route of a number of its own, to which the message's eventfd is connected.

use kvm_bindings::{
    kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip, kvm_irq_routing_msi,
    kvm_irq_routing_msi__bindgen_ty_1, KvmIrqRouting, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI,
    KVM_MSI_VALID_DEVID,
};
use kvm_ioctls::VmFd;
use loft_boot::layout;
use loft_virtio::pci::{Message, Messages};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// The first number that is no line.
const FIRST: u32 = layout::VIRTIO_SPI;

/// The routes of a VM's interrupts.
pub struct Routes {
    vm: Arc<VmFd>,
    /// The messages by their numbers, each with the device that sends it.
    messages: Mutex<BTreeMap<u32, (u32, Message)>>,
}

impl Routes {
    /// Routes without any message: each number is the line of that number.
    pub fn new(vm: Arc<VmFd>) -> Arc<Self> {
        Arc::new(Self { vm, messages: Mutex::new(BTreeMap::new()) })
    }

    /// Has the number `gsi` be `message` of `device`.
    fn set(&self, gsi: u32, device: u32, message: Message) -> io::Result<()> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.get(&gsi) == Some(&(device, message)) {
            return Ok(());
        }
        let mut wanted = messages.clone();
        wanted.insert(gsi, (device, message));
        // All of them are set at once, the lines too.
        let lines = [layout::UART_SPI, layout::GPIO_SPI].into_iter().map(line);
        let all: Vec<_> =
            lines.chain(wanted.iter().map(|(gsi, (device, message))| entry(*gsi, *device, *message))).collect();
        let table = KvmIrqRouting::from_entries(&all).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.vm.set_gsi_routing(&table).map_err(as_io)?;
        *messages = wanted;
        Ok(())
    }
}

/// One device's way to the routes.
pub struct Sender {
    routes: Arc<Routes>,
    /// The number of its first message.
    first: u32,
    /// How the ITS knows it.
    device: u32,
}

impl Sender {
    /// The way of `device`, which is the one behind `before` messages of others.
    pub fn new(routes: Arc<Routes>, before: usize, device: u32) -> Self {
        Self { routes, first: FIRST + before as u32, device }
    }
}

impl Messages for Sender {
    fn connect(&self, vector: usize, event: &EventFd, message: Message) -> io::Result<()> {
        let gsi = self.first + vector as u32;
        self.routes.set(gsi, self.device, message)?;
        self.routes.vm.register_irqfd(event, gsi).map_err(as_io)
    }

    fn disconnect(&self, vector: usize, event: &EventFd) -> io::Result<()> {
        self.routes.vm.unregister_irqfd(event, self.first + vector as u32).map_err(as_io)
    }
}

fn as_io(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

fn line(number: u32) -> kvm_irq_routing_entry {
    let u = kvm_irq_routing_entry__bindgen_ty_1 { irqchip: kvm_irq_routing_irqchip { irqchip: 0, pin: number } };
    kvm_irq_routing_entry { gsi: number, type_: KVM_IRQ_ROUTING_IRQCHIP, u, ..Default::default() }
}

fn entry(gsi: u32, device: u32, message: Message) -> kvm_irq_routing_entry {
    let msi = kvm_irq_routing_msi {
        address_lo: message.address as u32,
        address_hi: (message.address >> 32) as u32,
        data: message.data,
        __bindgen_anon_1: kvm_irq_routing_msi__bindgen_ty_1 { devid: device },
    };
    let u = kvm_irq_routing_entry__bindgen_ty_1 { msi };
    kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, flags: KVM_MSI_VALID_DEVID, u, ..Default::default() }
}
