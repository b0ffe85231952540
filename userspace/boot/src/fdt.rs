// SPDX-License-Identifier: Apache-2.0
//! The device tree that tells the guest what it has.
//!
//! Bindings are those in the kernel's Documentation/devicetree/bindings; interrupt cells are the GICv3's: type (0 SPI,
//! 1 PPI), number, trigger (1 rising edge, 4 high level).

use crate::layout;
use vm_fdt::{FdtWriter, FdtWriterResult};

const SPI: u32 = 0;
const PPI: u32 = 1;
const EDGE: u32 = 1;
const LEVEL: u32 = 4;
const PHANDLE_GIC: u32 = 1;
const PHANDLE_CLOCK: u32 = 2;
const PHANDLE_GPIO: u32 = 3;
const PHANDLE_ITS: u32 = 4;
/// Memory of 32 bits, not prefetchable, as a PCI address begins (IEEE Std 1275-1994, PCI bus
/// binding 2.2.1.1).
const PCI_MEMORY_32: u32 = 0x0200_0000;
/// All devices of a bus, as numbers of functions.
const PCI_FUNCTIONS: u32 = 0x1_0000;
/// KEY_POWER (linux/input-event-codes.h).
const KEY_POWER: u32 = 116;
/// Architected timer PPIs: secure physical, physical, virtual, hypervisor (as PPI numbers, so INTID minus 16).
const TIMER_PPIS: [u32; 4] = [13, 14, 11, 10];

/// What the device tree describes.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    /// MPIDR_EL1 of each vCPU.
    pub mpidrs: &'a [u64],
    /// Bytes of RAM, from [`layout::RAM_BASE`].
    pub memory: u64,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The initial RAM disk: first byte and size.
    pub initrd: Option<(u64, u64)>,
    /// Number of virtio devices that have a window; see [`layout::virtio`].
    pub virtio: usize,
    /// Whether there is a PCI bus, on which devices are found by asking.
    pub pci: bool,
    /// Random bytes for the kernel's address space layout.
    pub kaslr_seed: u64,
    /// Random bytes for the kernel's generator.
    pub rng_seed: [u8; 64],
}

/// Writes the device tree.
pub fn build(machine: &Machine) -> FdtWriterResult<Vec<u8>> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    fdt.property_string("model", "loft")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", PHANDLE_GIC)?;
    fdt.property_null("dma-coherent")?;

    aliases(&mut fdt)?;
    chosen(&mut fdt, machine)?;
    memory(&mut fdt, machine)?;
    cpus(&mut fdt, machine)?;
    psci(&mut fdt)?;
    timer(&mut fdt)?;
    gic(&mut fdt, machine)?;
    clock(&mut fdt)?;
    uart(&mut fdt)?;
    rtc(&mut fdt)?;
    gpio(&mut fdt)?;
    button(&mut fdt)?;
    for n in 0..machine.virtio {
        virtio(&mut fdt, n)?;
    }
    if machine.pci {
        pci(&mut fdt)?;
    }
    fdt.end_node(root)?;
    fdt.finish()
}

fn aliases(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node("aliases")?;
    fdt.property_string("serial0", &uart_path())?;
    fdt.end_node(node)
}

fn chosen(fdt: &mut FdtWriter, machine: &Machine) -> FdtWriterResult<()> {
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", machine.cmdline)?;
    fdt.property_string("stdout-path", &uart_path())?;
    if let Some((start, size)) = machine.initrd {
        fdt.property_u64("linux,initrd-start", start)?;
        fdt.property_u64("linux,initrd-end", start + size)?;
    }
    fdt.property_u64("kaslr-seed", machine.kaslr_seed)?;
    fdt.property("rng-seed", &machine.rng_seed)?;
    if machine.pci {
        // BARs are where they are to be.
        fdt.property_u32("linux,pci-probe-only", 1)?;
    }
    fdt.end_node(node)
}

fn memory(fdt: &mut FdtWriter, machine: &Machine) -> FdtWriterResult<()> {
    let node = fdt.begin_node(&format!("memory@{:x}", layout::RAM_BASE))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[layout::RAM_BASE, machine.memory])?;
    fdt.end_node(node)
}

fn cpus(fdt: &mut FdtWriter, machine: &Machine) -> FdtWriterResult<()> {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 0)?;
    for mpidr in machine.mpidrs {
        // "reg" holds the affinity fields only (bindings/arm/cpus.yaml).
        let affinity = mpidr & 0xff_00ff_ffff;
        let cpu = fdt.begin_node(&format!("cpu@{affinity:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_string("enable-method", "psci")?;
        fdt.property_u64("reg", affinity)?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)
}

fn psci(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node("psci")?;
    fdt.property_string_list("compatible", vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()])?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(node)
}

fn timer(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    let cells: Vec<u32> = TIMER_PPIS.iter().flat_map(|ppi| [PPI, *ppi, LEVEL]).collect();
    fdt.property_array_u32("interrupts", &cells)?;
    fdt.property_null("always-on")?;
    fdt.end_node(node)
}

fn gic(fdt: &mut FdtWriter, machine: &Machine) -> FdtWriterResult<()> {
    let redistributors = machine.mpidrs.len() as u64 * layout::GICR_STRIDE;
    let node = fdt.begin_node(&format!("intc@{:x}", layout::GICD.0))?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_array_u64("reg", &[layout::GICD.0, layout::GICD.1, layout::GICR_BASE, redistributors])?;
    // The maintenance interrupt, which a hypervisor inside the guest would use.
    fdt.property_array_u32("interrupts", &[PPI, 9, LEVEL])?;
    fdt.property_phandle(PHANDLE_GIC)?;
    if machine.pci {
        fdt.property_null("ranges")?;
        its(fdt)?;
    }
    fdt.end_node(node)
}

fn its(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node(&format!("its@{:x}", layout::GITS.0))?;
    fdt.property_string("compatible", "arm,gic-v3-its")?;
    fdt.property_null("msi-controller")?;
    fdt.property_u32("#msi-cells", 1)?;
    fdt.property_array_u64("reg", &[layout::GITS.0, layout::GITS.1])?;
    fdt.property_phandle(PHANDLE_ITS)?;
    fdt.end_node(node)
}

fn clock(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", 24_000_000)?;
    fdt.property_string("clock-output-names", "clk24mhz")?;
    fdt.property_phandle(PHANDLE_CLOCK)?;
    fdt.end_node(node)
}

fn uart_path() -> String {
    format!("/serial@{:x}", layout::UART.0)
}

fn uart(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node(&format!("serial@{:x}", layout::UART.0))?;
    fdt.property_string("compatible", "ns16550a")?;
    fdt.property_array_u64("reg", &[layout::UART.0, layout::UART.1])?;
    fdt.property_array_u32("interrupts", &[SPI, layout::UART_SPI, EDGE])?;
    fdt.property_u32("clock-frequency", 1_843_200)?;
    fdt.end_node(node)
}

fn rtc(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node(&format!("rtc@{:x}", layout::RTC.0))?;
    fdt.property_string_list("compatible", vec!["arm,pl031".into(), "arm,primecell".into()])?;
    fdt.property_array_u64("reg", &[layout::RTC.0, layout::RTC.1])?;
    fdt.property_u32("clocks", PHANDLE_CLOCK)?;
    fdt.property_string("clock-names", "apb_pclk")?;
    fdt.end_node(node)
}

fn gpio(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node(&format!("gpio@{:x}", layout::GPIO.0))?;
    fdt.property_string_list("compatible", vec!["arm,pl061".into(), "arm,primecell".into()])?;
    fdt.property_array_u64("reg", &[layout::GPIO.0, layout::GPIO.1])?;
    fdt.property_array_u32("interrupts", &[SPI, layout::GPIO_SPI, EDGE])?;
    fdt.property_null("gpio-controller")?;
    fdt.property_u32("#gpio-cells", 2)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 2)?;
    fdt.property_u32("clocks", PHANDLE_CLOCK)?;
    fdt.property_string("clock-names", "apb_pclk")?;
    fdt.property_phandle(PHANDLE_GPIO)?;
    fdt.end_node(node)
}

fn button(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let keys = fdt.begin_node("gpio-keys")?;
    fdt.property_string("compatible", "gpio-keys")?;
    let node = fdt.begin_node("power")?;
    fdt.property_string("label", "Power button")?;
    fdt.property_u32("linux,code", KEY_POWER)?;
    // Pressed is high.
    fdt.property_array_u32("gpios", &[PHANDLE_GPIO, layout::BUTTON, 0])?;
    fdt.end_node(node)?;
    fdt.end_node(keys)
}

fn virtio(fdt: &mut FdtWriter, n: usize) -> FdtWriterResult<()> {
    let (base, spi) = layout::virtio(n);
    let node = fdt.begin_node(&format!("virtio_mmio@{base:x}"))?;
    fdt.property_string("compatible", "virtio,mmio")?;
    fdt.property_array_u64("reg", &[base, 0x200])?;
    fdt.property_array_u32("interrupts", &[SPI, spi, EDGE])?;
    fdt.property_null("dma-coherent")?;
    fdt.end_node(node)
}

fn pci(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let (base, size) = layout::PCI_MEMORY;
    let halves = |value: u64| [(value >> 32) as u32, value as u32];
    let node = fdt.begin_node(&format!("pcie@{:x}", layout::ECAM.0))?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_array_u64("reg", &[layout::ECAM.0, layout::ECAM.1])?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_array_u32("bus-range", &[0, 0])?;
    fdt.property_u32("linux,pci-domain", 0)?;
    // The same address on the bus as for a CPU.
    let ranges = [&[PCI_MEMORY_32][..], &halves(base), &halves(base), &halves(size)].concat();
    fdt.property_array_u32("ranges", &ranges)?;
    // The ITS knows a device by its function's number.
    fdt.property_array_u32("msi-map", &[0, PHANDLE_ITS, 0, PCI_FUNCTIONS])?;
    fdt.property_null("dma-coherent")?;
    fdt.end_node(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::fdt::node::FdtNode;
    use ::fdt::Fdt;

    fn tree(cpus: usize, virtio: usize) -> Vec<u8> {
        tree_of(cpus, virtio, false)
    }

    fn tree_of(cpus: usize, virtio: usize, pci: bool) -> Vec<u8> {
        let mpidrs: Vec<u64> = (0..cpus as u64).map(|i| 0x8000_0000 | (i & 0xf) | ((i >> 4) << 8)).collect();
        build(&Machine {
            mpidrs: &mpidrs,
            memory: 1 << 30,
            cmdline: "console=ttyS0 quiet",
            initrd: Some((0x8400_0000, 0x1234)),
            virtio,
            pci,
            kaslr_seed: 0x0123_4567_89ab_cdef,
            rng_seed: [7; 64],
        })
        .unwrap()
    }

    fn cells(node: &FdtNode, name: &str) -> Vec<u32> {
        let value = node.property(name).unwrap().value;
        value.chunks_exact(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect()
    }

    #[test]
    fn chosen_holds_what_the_kernel_starts_from() {
        let blob = tree(1, 0);
        let fdt = Fdt::new(&blob).unwrap();
        assert_eq!(fdt.chosen().bootargs(), Some("console=ttyS0 quiet"));
        let chosen = fdt.find_node("/chosen").unwrap();
        assert_eq!(cells(&chosen, "linux,initrd-start"), [0, 0x8400_0000]);
        assert_eq!(cells(&chosen, "linux,initrd-end"), [0, 0x8400_1234]);
        assert_eq!(cells(&chosen, "kaslr-seed"), [0x0123_4567, 0x89ab_cdef]);
        assert_eq!(chosen.property("rng-seed").unwrap().value, [7; 64]);
        let path = chosen.property("stdout-path").unwrap().as_str().unwrap();
        assert!(fdt.find_node(path).unwrap().compatible().unwrap().all().any(|c| c == "ns16550a"));
    }

    #[test]
    fn cpus_have_their_affinity_only() {
        let blob = tree(18, 0);
        let fdt = Fdt::new(&blob).unwrap();
        let regs: Vec<Vec<u32>> = fdt.find_node("/cpus").unwrap().children().map(|c| cells(&c, "reg")).collect();
        assert_eq!(regs.len(), 18);
        assert_eq!(
            (&regs[0][..], &regs[15][..], &regs[16][..], &regs[17][..]),
            (&[0, 0][..], &[0, 15][..], &[0, 0x100][..], &[0, 0x101][..])
        );
    }

    #[test]
    fn gic_covers_every_redistributor() {
        let blob = tree(3, 0);
        let gic = Fdt::new(&blob).unwrap().find_compatible(&["arm,gic-v3"]).map(|n| cells(&n, "reg")).unwrap();
        assert_eq!(gic, [0, 0x0800_0000, 0, 0x1_0000, 0, 0x1000_0000, 0, 0x6_0000]);
    }

    #[test]
    fn each_virtio_device_has_its_window_and_its_interrupt() {
        let blob = tree(1, 5);
        let fdt = Fdt::new(&blob).unwrap();
        let nodes: Vec<(Vec<u32>, Vec<u32>)> = fdt
            .all_nodes()
            .filter(|n| n.name.starts_with("virtio_mmio@"))
            .map(|n| (cells(&n, "reg"), cells(&n, "interrupts")))
            .collect();
        assert_eq!(nodes.len(), 5);
        assert_eq!(nodes[4], (vec![0, 0x0a00_4000, 0, 0x200], vec![0, 20, 1]));
    }

    #[test]
    fn a_pci_bus_sends_its_messages_to_the_its() {
        let blob = tree_of(2, 0, true);
        let fdt = Fdt::new(&blob).unwrap();
        let its = fdt.find_compatible(&["arm,gic-v3-its"]).unwrap();
        assert_eq!(cells(&its, "reg"), [0, 0x0808_0000, 0, 0x2_0000]);
        assert_eq!(cells(&its, "#msi-cells"), [1]);
        // It is the interrupt controller's, in whose addresses its own are.
        let gic = fdt.find_compatible(&["arm,gic-v3"]).unwrap();
        assert!(gic.children().any(|child| child.name == its.name) && gic.property("ranges").is_some());
        let pci = fdt.find_compatible(&["pci-host-ecam-generic"]).unwrap();
        assert_eq!(cells(&pci, "reg"), [0, 0x3000_0000, 0, 0x10_0000]);
        assert_eq!(cells(&pci, "ranges"), [0x0200_0000, 0, 0x4000_0000, 0, 0x4000_0000, 0, 0x0100_0000]);
        assert_eq!(cells(&pci, "msi-map"), [0, cells(&its, "phandle")[0], 0, 0x1_0000]);
        assert_eq!(cells(&fdt.find_node("/chosen").unwrap(), "linux,pci-probe-only"), [1]);
        // And without one there is none of that.
        let blob = tree(2, 1);
        let fdt = Fdt::new(&blob).unwrap();
        assert!(fdt.find_compatible(&["arm,gic-v3-its", "pci-host-ecam-generic"]).is_none());
        assert!(fdt.find_node("/chosen").unwrap().property("linux,pci-probe-only").is_none());
    }

    #[test]
    fn the_button_is_at_a_line_of_the_controller() {
        let blob = tree(1, 0);
        let fdt = Fdt::new(&blob).unwrap();
        let gpio = fdt.find_compatible(&["arm,pl061"]).unwrap();
        let power = fdt.find_node("/gpio-keys/power").unwrap();
        assert_eq!(cells(&power, "gpios"), [cells(&gpio, "phandle")[0], 3, 0]);
        assert_eq!((cells(&power, "linux,code"), cells(&gpio, "interrupts")), (vec![116], vec![0, 1, 1]));
    }

    #[test]
    fn the_largest_machine_fits() {
        assert!((tree(layout::MAX_VCPUS as usize, layout::MAX_VIRTIO).len() as u64) < layout::FDT_MAX);
    }
}
