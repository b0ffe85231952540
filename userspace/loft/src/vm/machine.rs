// SPDX-License-Identifier: Apache-2.0
//! The whole machine: built from a [`Setup`], started once, ended once.

use super::{attach, boot, gic, kick, memory, stats::Counters, vcpu, Registers};
use crate::cli::TransportKind;
use crate::control::Gate;
use crate::ending::Ending;
use crate::gdb::{self, Hits};
use crate::sandbox::{self, Kind};
use anyhow::{anyhow, bail, Context, Result};
use kvm_bindings::{KVM_CAP_GUEST_DEBUG_HW_BPS, KVM_CAP_GUEST_DEBUG_HW_WPS, KVM_CAP_SET_GUEST_DEBUG};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use loft_boot::image::Kernel;
use loft_boot::{layout, size};
use loft_devices::bus::Bus;
use loft_devices::{gpio::Pl061, rtc::Pl031, serial::Uart};
use loft_virtio::{Device, Transport};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

/// How long a vCPU thread may take to notice that the machine ends.
const JOIN_LIMIT: Duration = Duration::from_secs(2);

/// Open files of the launcher that no vCPU, disk or card has, with some to spare: its ports have many, and so has whoever asks
/// something of the guest.
const FILES: u64 = 128;
/// The vCPU, its counters, and what a debugger has.
const FILES_OF_A_VCPU: u64 = 3;
/// The most that a device has, a card of 8 pairs of queues: an interrupt, for each pair the tap's
/// queue and the host's driver, for each queue a doorbell, a message and what tells of its end.
const FILES_OF_A_DEVICE: u64 = 92;

/// What a machine is made of.
pub struct Setup {
    /// The kernel.
    pub kernel: Kernel,
    /// Parts of the initial RAM disk, in order; each part's length is a multiple of 4.
    pub initrd: Vec<Vec<u8>>,
    /// The kernel's command line.
    pub cmdline: String,
    /// Bytes of RAM.
    pub memory: u64,
    /// Whether RAM is in huge pages that were set aside for such uses.
    pub huge: bool,
    /// Whether programs that serve devices share it.
    pub shared: bool,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// virtio devices, in the order of their windows or functions.
    pub devices: Vec<Box<dyn Device>>,
    /// What they are behind.
    pub transport: TransportKind,
    /// Where the serial port writes.
    pub serial_output: Box<dyn Write + Send>,
    /// Where the vCPUs wait while the guest is paused.
    pub gate: Arc<Gate>,
}

/// A machine.
pub struct Machine {
    // The order of the fields is the order of their end: first the device threads, which use the memory; the VM, whose
    // slot points into the memory; the memory.
    transports: Vec<Arc<dyn Transport>>,
    bus: Arc<Bus>,
    waiting: Vec<VcpuFd>,
    threads: Vec<JoinHandle<(VcpuFd, vcpu::Exits)>>,
    _gic: gic::Gic,
    _its: Option<gic::Its>,
    /// The hypervisor's counters. Their files keep the VM as well.
    pub counters: Arc<Counters>,
    vm: Arc<VmFd>,
    memory: GuestMemoryMmap<()>,
    /// The serial port, for input.
    pub uart: Arc<Uart>,
    /// Has the power button.
    pub gpio: Arc<Pl061>,
    /// Readable once the machine has ended: then [`Machine::ending`] has why.
    pub ended: EventFd,
    endings: (mpsc::Sender<Ending>, mpsc::Receiver<Ending>),
    stop: Arc<AtomicBool>,
    /// Where the vCPUs wait while the guest is paused.
    pub gate: Arc<Gate>,
    hits: Arc<Hits>,
}

impl Machine {
    /// Builds the machine, ready to start.
    pub fn new(kvm: &Kvm, mut setup: Setup) -> Result<Self> {
        kick::install()?;
        check_limits(kvm, &setup)?;
        let vm = Arc::new(create_vm(kvm, setup.memory)?);
        let memory = memory::create(&vm, setup.memory, setup.huge, setup.shared)?;

        let devices = std::mem::take(&mut setup.devices);
        let pci = setup.transport == TransportKind::Pci;
        // Windows are as many as devices that are not found by asking.
        let windows = if pci { 0 } else { devices.len() };
        let irqs = layout::gic_irqs(windows);
        let vcpus = (0..setup.vcpus).map(|id| vcpu::create(&vm, id)).collect::<Result<Vec<_>>>()?;
        let gic = gic::Gic::create(&vm, vcpus.len(), irqs)?;
        gic.init()?;
        let its = pci.then(|| gic::Its::create(&vm)).transpose()?;

        let mut bus = Bus::new();
        let uart_irq = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).context("cannot make an eventfd")?;
        vm.register_irqfd(&uart_irq, layout::UART_SPI).context("the hypervisor refused the serial port's interrupt")?;
        let output = std::mem::replace(&mut setup.serial_output, Box::new(std::io::sink()));
        let uart = Arc::new(Uart::new(uart_irq, output));
        bus.insert(layout::UART.0, layout::UART.1, uart.clone())?;
        bus.insert(layout::RTC.0, layout::RTC.1, Arc::new(Pl031::new()))?;
        let gpio_irq = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).context("cannot make an eventfd")?;
        vm.register_irqfd(&gpio_irq, layout::GPIO_SPI)
            .context("the hypervisor refused the power button's interrupt")?;
        let gpio = Arc::new(Pl061::new(gpio_irq));
        bus.insert(layout::GPIO.0, layout::GPIO.1, gpio.clone())?;

        let transports = match setup.transport {
            TransportKind::Mmio => attach::windows(&vm, &memory, &mut bus, devices)?,
            TransportKind::Pci => attach::functions(&vm, &memory, &mut bus, devices)?,
        };

        let mpidrs = vcpus.iter().map(vcpu::mpidr).collect::<Result<Vec<_>>>()?;
        let place = boot::load(&memory, &mut setup, &mpidrs, windows)?;
        let first = vcpus.first().context("a machine without vCPUs")?;
        vcpu::set_entry(first, place.kernel, place.fdt)?;

        let counters = Arc::new(Counters::open(&vm, &vcpus));

        Ok(Self {
            transports,
            bus: Arc::new(bus),
            waiting: vcpus,
            threads: Vec::new(),
            _gic: gic,
            _its: its,
            counters,
            vm,
            memory,
            uart,
            gpio,
            ended: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).context("cannot make an eventfd")?,
            endings: mpsc::channel(),
            stop: Arc::new(AtomicBool::new(false)),
            gate: setup.gate,
            hits: Arc::new(Hits::new().context("cannot make an eventfd")?),
        })
    }

    /// What a debugger needs of it. To be called before it is started.
    pub fn debugged(&self) -> Result<gdb::Target> {
        let limit = |cap: u32| self.vm.check_extension_raw(cap.into()).max(0) as usize;
        if limit(KVM_CAP_SET_GUEST_DEBUG) == 0 {
            bail!("--gdb: this hypervisor has no KVM_CAP_SET_GUEST_DEBUG");
        }
        let limits = (limit(KVM_CAP_GUEST_DEBUG_HW_BPS), limit(KVM_CAP_GUEST_DEBUG_HW_WPS));
        let vcpus = self.waiting.iter().map(Registers::of).collect::<Result<_>>()?;
        Ok(gdb::Target::new(vcpus, self.memory.clone(), self.gate.clone(), self.hits.clone(), limits))
    }

    /// Starts the vCPUs, each in a thread of its own.
    pub fn start(&mut self) -> Result<()> {
        for (id, vcpu) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let (bus, stop, gate) = (self.bus.clone(), self.stop.clone(), self.gate.clone());
            let (hits, counters) = (self.hits.clone(), self.counters.clone());
            let end = self.ender()?;
            let thread = std::thread::Builder::new()
                .name(format!("vcpu-{id}"))
                .spawn(move || {
                    sandbox::enter(Kind::Vcpu);
                    counters.is_run_here(id);
                    vcpu::run(vcpu, id as u32, &bus, &stop, &gate, &hits, &end)
                })
                .with_context(|| format!("cannot start the thread of vCPU {id}; is the process limit reached?"))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// What ends the machine; of several endings the first counts.
    pub fn ender(&self) -> Result<impl Fn(Ending) + Send + 'static> {
        let sender = self.endings.0.clone();
        let ended = self.ended.try_clone().context("cannot duplicate an eventfd")?;
        Ok(move |why| {
            // Once the machine is gone nobody wants to know.
            let _ = sender.send(why);
            let _ = ended.write(1);
        })
    }

    /// Why the machine ended, once it has.
    pub fn ending(&self) -> Option<Ending> {
        self.endings.1.try_recv().ok()
    }

    /// Stops the vCPUs and the devices. Returns how often the guest had to be left, by reason.
    pub fn stop(&mut self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Release);
        self.gate.remove();
        let deadline = Instant::now() + JOIN_LIMIT;
        let mut totals = self.counters.read();
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                kick::kick(&thread);
                std::thread::sleep(Duration::from_millis(1));
            }
            // A thread that is stuck in a write to a full pipe ends with the process.
            if !thread.is_finished() {
                continue;
            }
            if let Ok((_vcpu, exits)) = thread.join() {
                *totals.entry("launcher_mmio".into()).or_default() += exits.mmio;
                *totals.entry("launcher_other".into()).or_default() += exits.other;
            }
        }
        for transport in &self.transports {
            transport.reset();
        }
        totals
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn check_limits(kvm: &Kvm, setup: &Setup) -> Result<()> {
    let most = kvm.get_max_vcpus().min(layout::MAX_VCPUS as usize) as u32;
    if setup.vcpus == 0 || setup.vcpus > most {
        bail!("{} vCPUs cannot be had: this hypervisor and loft allow 1 to {most}", setup.vcpus);
    }
    if setup.devices.len() > layout::MAX_VIRTIO {
        bail!("{} devices are too many: loft has room for {}", setup.devices.len(), layout::MAX_VIRTIO);
    }
    Ok(())
}

/// Raises the soft limit on open files as far as it goes; refuses a machine that needs more. To be called before the first
/// device is opened.
pub fn allow_files(vcpus: u32, devices: usize) -> Result<()> {
    let needed = FILES + FILES_OF_A_VCPU * u64::from(vcpus) + FILES_OF_A_DEVICE * devices as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(most) = limit.maximum.filter(|most| *most < needed) {
        bail!(
            "a guest of this size needs {needed} open files and this process may have {most}; \
             raise the limit (ulimit -Hn {needed}, as root), or give fewer vCPUs or devices"
        );
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit on open files")
}

fn create_vm(kvm: &Kvm, memory: u64) -> Result<VmFd> {
    let needed = layout::ipa_bits(memory);
    let limit = if kvm.check_extension(Cap::ArmVmIPASize) { kvm.get_host_ipa_limit().max(0) as u32 } else { 40 };
    if needed > limit {
        bail!(
            "{} of memory need {needed} bits of guest address and this CPU has {limit}; give at most -m {}G",
            size::show(memory),
            ((1u64 << limit) - layout::RAM_BASE) >> 30
        );
    }
    // 0 asks for the default of 40 bits, which every hypervisor knows and small CPUs have not got.
    let bits = needed.max(40).min(limit);
    let vm = if bits == 40 { kvm.create_vm() } else { kvm.create_vm_with_ipa_size(bits) };
    vm.map_err(|e| anyhow!("the hypervisor could not create a virtual machine: {e}"))
}
