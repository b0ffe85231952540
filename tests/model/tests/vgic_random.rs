// SPDX-License-Identifier: GPL-2.0

//! Random sequences of what guests and devices do, against a model that is too simple to be wrong.
//!
//! Compared at every acknowledge: the interrupt must be one of the most urgent that the reference would deliver there and
//! then, and there must be none if the reference has none. So nothing is lost, nothing comes twice, nothing is active
//! on two vCPUs, priorities hold. Compared besides: the registers that the guest reads, and who is woken from WFI.

mod vgic;

use loft_model::model::sysreg::regs::*;
use loft_model::model::vgic::{GicFrame, SgiReg};
use proptest::prelude::*;
use vgic::cpu::SPURIOUS;
use vgic::machine::{line, vcpu, Machine};
use vgic::reference::Reference;

/// SPIs that the tests use.
const SPIS: std::ops::Range<u32> = 32..48;
/// Those of the tests in which there are too many pending ones to look at each.
const CROWD: std::ops::Range<u32> = 36..96;
/// Edges and levels that devices raise: a few PPIs, the linked timer, the SPIs.
const PPIS: [u32; 3] = [20, 27, 30];

/// LPIs that the test uses: more than list registers, in two blocks.
const LPIS: std::ops::Range<u32> = 8310..8330;

/// Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Level {
        cpu: usize,
        n: usize,
        high: bool,
    },
    Sgi {
        from: usize,
        list: u8,
        n: u8,
        others: bool,
        reg: u8,
    },
    Acknowledge {
        cpu: usize,
    },
    Eoi {
        cpu: usize,
    },
    Dir {
        cpu: usize,
        n: usize,
    },
    Pmr {
        cpu: usize,
        pmr: u8,
    },
    Groups {
        cpu: usize,
        groups: u8,
    },
    Split {
        cpu: usize,
        split: bool,
    },
    Leave {
        cpu: usize,
    },
    Enter {
        cpu: usize,
    },
    Bounce {
        cpu: usize,
    },
    Enable {
        by: usize,
        cpu: usize,
        n: usize,
        on: bool,
    },
    Priority {
        by: usize,
        cpu: usize,
        n: usize,
        priority: u8,
    },
    Group {
        by: usize,
        cpu: usize,
        n: usize,
        group1: bool,
    },
    Config {
        by: usize,
        n: usize,
        edge: bool,
    },
    Route {
        by: usize,
        n: usize,
        to: usize,
    },
    Pend {
        by: usize,
        cpu: usize,
        n: usize,
        on: bool,
    },
    Activate {
        by: usize,
        cpu: usize,
        n: usize,
        on: bool,
    },
    Dist {
        by: usize,
        groups: u8,
    },
    Read {
        by: usize,
        cpu: usize,
        n: usize,
    },
    Message {
        n: usize,
    },
    LpiPending {
        n: usize,
        on: bool,
    },
    LpiConfig {
        n: usize,
        priority: u8,
        enabled: bool,
    },
    LpiRoute {
        n: usize,
        to: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let i = || 0..256usize;
    let b = any::<bool>;
    prop_oneof![
        12 => (i(), i(), prop::bool::weighted(0.7)).prop_map(|(cpu, n, high)| Op::Level { cpu, n, high }),
        4 => (i(), any::<u8>(), 0..16u8, prop::bool::weighted(0.1), 0..6u8)
            .prop_map(|(from, list, n, others, reg)| Op::Sgi { from, list, n, others, reg }),
        20 => i().prop_map(|cpu| Op::Acknowledge { cpu }),
        14 => i().prop_map(|cpu| Op::Eoi { cpu }),
        8 => (i(), i()).prop_map(|(cpu, n)| Op::Dir { cpu, n }),
        2 => (i(), prop_oneof![Just(0xff), any::<u8>()]).prop_map(|(cpu, pmr)| Op::Pmr { cpu, pmr }),
        1 => (i(), prop_oneof![Just(3), 0..4u8]).prop_map(|(cpu, groups)| Op::Groups { cpu, groups }),
        1 => (i(), b()).prop_map(|(cpu, split)| Op::Split { cpu, split }),
        1 => i().prop_map(|cpu| Op::Leave { cpu }),
        3 => i().prop_map(|cpu| Op::Enter { cpu }),
        2 => i().prop_map(|cpu| Op::Bounce { cpu }),
        2 => (i(), i(), i(), prop::bool::weighted(0.7)).prop_map(|(by, cpu, n, on)| Op::Enable { by, cpu, n, on }),
        5 => (i(), i(), i(), any::<u8>())
            .prop_map(|(by, cpu, n, priority)| Op::Priority { by, cpu, n, priority }),
        1 => (i(), i(), i(), prop::bool::weighted(0.7))
            .prop_map(|(by, cpu, n, group1)| Op::Group { by, cpu, n, group1 }),
        2 => (i(), i(), b()).prop_map(|(by, n, edge)| Op::Config { by, n, edge }),
        3 => (i(), i(), i()).prop_map(|(by, n, to)| Op::Route { by, n, to }),
        2 => (i(), i(), i(), b()).prop_map(|(by, cpu, n, on)| Op::Pend { by, cpu, n, on }),
        2 => (i(), i(), i(), b()).prop_map(|(by, cpu, n, on)| Op::Activate { by, cpu, n, on }),
        1 => (i(), prop_oneof![Just(3), 0..4u8]).prop_map(|(by, groups)| Op::Dist { by, groups }),
        3 => (i(), i(), i()).prop_map(|(by, cpu, n)| Op::Read { by, cpu, n }),
        10 => i().prop_map(|n| Op::Message { n }),
        1 => (i(), b()).prop_map(|(n, on)| Op::LpiPending { n, on }),
        3 => (i(), any::<u8>(), prop::bool::weighted(0.8))
            .prop_map(|(n, priority, enabled)| Op::LpiConfig { n, priority, enabled }),
        2 => (i(), i()).prop_map(|(n, to)| Op::LpiRoute { n, to }),
    ]
}

struct Test {
    m: Machine,
    spis: std::ops::Range<u32>,
    reference: Reference,
    /// What each vCPU has acknowledged and not yet dropped the priority of.
    nested: Vec<Vec<u32>>,
    /// What was dropped and not yet deactivated (EOImode 1).
    dropped: Vec<(usize, u32)>,
    /// Whether the guest changes active states behind its own back. In EOImode 0 it must not, if there are more
    /// interrupts than list registers: the hardware only counts what is ended.
    activates: bool,
}

impl Test {
    fn new(
        cpus: usize,
        list_registers: usize,
        split: Option<bool>,
        spis: std::ops::Range<u32>,
    ) -> Self {
        let mut m = Machine::new(cpus, list_registers);
        m.link_timers();
        m.add_lpis();
        let mut reference = Reference::new(cpus, spis.clone());
        reference.add_lpis(LPIS);
        for intid in LPIS {
            m.map_lpi(intid, Some(0));
            m.configure_lpi(intid, 0x80, true);
        }
        for cpu in 0..cpus {
            if split == Some(true) {
                m.cpus[cpu].set_split_eoi(true);
                m.bounce(cpu);
            }
        }
        Self {
            m,
            spis,
            reference,
            nested: vec![Vec::new(); cpus],
            dropped: Vec::new(),
            activates: split == Some(true),
        }
    }

    fn cpu(&self, n: usize) -> usize {
        n % self.nested.len()
    }

    /// Any interrupt.
    fn any(&self, n: usize) -> u32 {
        let all = 16 + PPIS.len() + self.spis.len();
        match n % all {
            n @ 0..16 => n as u32,
            n @ 16..19 => PPIS[n - 16],
            n => self.spis.start + n as u32 - 19,
        }
    }

    fn lpi(n: usize) -> u32 {
        LPIS.start + (n % LPIS.len()) as u32
    }

    fn spi(&self, n: usize) -> u32 {
        self.spis.start + (n % self.spis.len()) as u32
    }

    /// Whether a vCPU in the guest has it pending in a list register.
    fn in_lr_pending(&self, intid: u32, bank: Option<usize>) -> bool {
        (0..self.m.cpus.len())
            .filter(|&cpu| bank.is_none_or(|b| b == cpu) && self.m.running[cpu])
            .any(|cpu| self.m.cpus[cpu].held(intid) & (1 << 62) != 0)
    }

    /// An interrupt may have stopped being pending without anybody being told.
    fn may_haunt(&mut self, cpu: usize, intid: u32) {
        let irq = self.reference.irq(cpu, intid).clone();
        if !irq.edge && !irq.pending() && self.in_lr_pending(intid, irq.bank) {
            self.reference.irq(cpu, intid).ghost = true;
        }
    }

    /// Ghosts are gone as soon as no list register has them.
    fn exorcise(&mut self) {
        for n in 0..self.reference.irqs.len() {
            let irq = &self.reference.irqs[n];
            if irq.ghost && !self.in_lr_pending(irq.intid, irq.bank) {
                self.reference.irqs[n].ghost = false;
            }
        }
    }

    fn acknowledge(&mut self, cpu: usize) -> u32 {
        let before = &self.m.cpus[cpu];
        let best = self
            .reference
            .forwarded(cpu)
            .filter(|irq| before.signals(irq.group1, irq.priority))
            .map(|irq| irq.priority)
            .min();
        let could: Vec<u32> = self
            .reference
            .forwarded(cpu)
            .filter(|irq| before.signals(irq.group1, irq.priority) && Some(irq.priority) == best)
            .map(|irq| irq.intid)
            .collect();
        // A group that is on may have a more urgent interrupt than one that cannot be signalled.
        let shadow = self
            .reference
            .forwarded(cpu)
            .filter(|irq| before.group_on(irq.group1))
            .map(|irq| irq.priority)
            .min();
        let haunted = self.reference.irqs.iter().any(|irq| {
            irq.ghost
                && irq.bank.is_none_or(|b| b == cpu)
                && before.held(irq.intid) & (1 << 62) != 0
        });
        let intid = self.m.acknowledge(cpu);
        if intid == SPURIOUS {
            // The highest pending one decides, even if it does not preempt but a less urgent one of the other group does.
            if best.is_some() && best == shadow && !haunted {
                panic!("vCPU {cpu}: nothing, expected one of {could:?}");
            }
            return intid;
        }
        let irq = self.reference.irq(cpu, intid);
        if irq.ghost && !could.contains(&intid) {
            assert!(!irq.active);
        } else {
            assert!(
                could.contains(&intid),
                "vCPU {cpu}: got {irq:?}, expected one of {could:?}"
            );
        }
        irq.ghost = false;
        irq.latch = false;
        // LPIs have no active state.
        irq.active = intid < 8192;
        self.nested[cpu].push(intid);
        intid
    }

    fn eoi(&mut self, cpu: usize) {
        let Some(intid) = self.nested[cpu].pop() else {
            return;
        };
        if self.m.cpus[cpu].split_eoi() && intid < 8192 {
            self.dropped.push((cpu, intid));
        } else {
            self.reference.irq(cpu, intid).active = false;
        }
        self.m.eoi(cpu, intid);
    }

    fn dir(&mut self, cpu: usize, n: usize) {
        if self.dropped.is_empty() {
            return;
        }
        let n = n % self.dropped.len();
        let (owner, intid) = self.dropped[n];
        // An SPI may be deactivated on any vCPU that is in EOImode 1.
        let by = if intid < 32 || !self.m.cpus[cpu].split_eoi() {
            owner
        } else {
            cpu
        };
        if !self.m.running[by] || !self.m.cpus[by].split_eoi() {
            return;
        }
        self.dropped.remove(n);
        self.reference.irq(owner, intid).active = false;
        self.m.dir(by, intid);
    }

    /// Interrupts that some vCPU is handling.
    fn busy(&self, cpu: usize, intid: u32) -> bool {
        let here = |c: usize| intid >= 32 || c == cpu;
        (0..self.nested.len()).any(|c| here(c) && self.nested[c].contains(&intid))
            || self.dropped.iter().any(|&(c, n)| here(c) && n == intid)
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Level { cpu, n, high } => {
                let cpu = self.cpu(cpu);
                let intid = self.any(16 + n % (PPIS.len() + self.spis.len()));
                let irq = self.reference.irq(cpu, intid);
                if irq.edge {
                    irq.latch |= high;
                } else {
                    irq.line = high;
                }
                self.m.set_level(cpu, intid, high);
                self.may_haunt(cpu, intid);
            }
            Op::Sgi {
                from,
                list,
                n,
                others,
                reg,
            } => {
                let from = self.cpu(from);
                let reg = [SgiReg::Sgi0, SgiReg::Asgi1, SgiReg::Sgi1][usize::from(reg).min(2)];
                for cpu in 0..self.nested.len() {
                    let named = if others {
                        cpu != from
                    } else {
                        (list >> cpu) & 1 != 0
                    };
                    let irq = self.reference.irq(cpu, n.into());
                    irq.latch |= named && (reg == SgiReg::Sgi1 || !irq.group1);
                }
                let value = u64::from(list) | (u64::from(n) << 24) | (u64::from(others) << 40);
                self.m.sgi(from, reg, value);
            }
            Op::Acknowledge { cpu } => {
                let cpu = self.cpu(cpu);
                if self.m.running[cpu] {
                    self.acknowledge(cpu);
                }
            }
            Op::Eoi { cpu } => {
                let cpu = self.cpu(cpu);
                if self.m.running[cpu] {
                    self.eoi(cpu);
                }
            }
            Op::Dir { cpu, n } => {
                let cpu = self.cpu(cpu);
                self.dir(cpu, n);
            }
            Op::Pmr { cpu, pmr } => {
                let cpu = self.cpu(cpu);
                if self.m.running[cpu] {
                    self.m.cpus[cpu].set_pmr(pmr & 0xf8);
                    self.m.settle(cpu);
                }
            }
            Op::Groups { cpu, groups } => {
                let cpu = self.cpu(cpu);
                if self.m.running[cpu] {
                    self.m.cpus[cpu].set_groups(groups & 1 != 0, groups & 2 != 0);
                    self.m.settle(cpu);
                }
            }
            Op::Split { cpu, split } => {
                let cpu = self.cpu(cpu);
                let idle = self.nested[cpu].is_empty() && self.dropped.is_empty();
                // The guest changes its EOI mode while nothing is active.
                if idle && !self.activates && self.m.running[cpu] {
                    self.m.cpus[cpu].set_split_eoi(split);
                    self.m.settle(cpu);
                }
            }
            Op::Leave { cpu } => {
                let cpu = self.cpu(cpu);
                self.m.exit(cpu);
                let own = &self.m.cpus[cpu];
                let wakes = self
                    .reference
                    .forwarded(cpu)
                    .any(|irq| own.group_on(irq.group1) && irq.priority < own.pmr());
                let vmcr = own.file.vmcr;
                assert_eq!(self.m.gic.has_pending(vcpu(cpu), vmcr), wakes);
            }
            Op::Enter { cpu } => {
                let cpu = self.cpu(cpu);
                self.m.enter(cpu);
            }
            Op::Bounce { cpu } => {
                let cpu = self.cpu(cpu);
                self.m.bounce(cpu);
            }
            Op::Enable { by, cpu, n, on } => {
                let (by, cpu, intid) = (self.cpu(by), self.cpu(cpu), self.any(n));
                self.reference.irq(cpu, intid).enabled = on;
                let register = if on {
                    GICD_ISENABLER::OFFSET
                } else {
                    GICD_ICENABLER::OFFSET
                };
                self.m.write_bit(by, register, cpu, intid);
                assert_eq!(self.m.read_bit(by, GICD_ISENABLER::OFFSET, cpu, intid), on);
            }
            Op::Priority {
                by,
                cpu,
                n,
                priority,
            } => {
                let (by, cpu, intid) = (self.cpu(by), self.cpu(cpu), self.any(n));
                self.reference.irq(cpu, intid).priority = priority & 0xf8;
                self.m.set_priority(by, cpu, intid, priority);
            }
            Op::Group { by, cpu, n, group1 } => {
                let (by, cpu, intid) = (self.cpu(by), self.cpu(cpu), self.any(n));
                self.reference.irq(cpu, intid).group1 = group1;
                self.m.set_group(by, cpu, intid, group1);
            }
            Op::Config { by, n, edge } => {
                let (by, intid) = (self.cpu(by), self.spi(n));
                self.reference.irq(by, intid).edge = edge;
                self.m.set_edge(by, intid, edge);
            }
            Op::Route { by, n, to } => {
                let (by, intid) = (self.cpu(by), self.spi(n));
                // Now and then nobody.
                let affinity = to % (self.nested.len() + 1);
                self.reference.irq(by, intid).target =
                    (affinity < self.nested.len()).then_some(affinity);
                self.m.route(by, intid, affinity as u64);
            }
            Op::Pend { by, cpu, n, on } => {
                let (by, cpu, intid) = (self.cpu(by), self.cpu(cpu), self.any(n));
                self.reference.irq(cpu, intid).latch = on;
                let register = if on {
                    GICD_ISPENDR::OFFSET
                } else {
                    GICD_ICPENDR::OFFSET
                };
                self.m.write_bit(by, register, cpu, intid);
            }
            Op::Activate { by, cpu, n, on } => {
                let (by, cpu, intid) = (self.cpu(by), self.cpu(cpu), self.any(n));
                // Not those that are being handled: their end would find nothing to end.
                if self.activates && !self.busy(cpu, intid) && intid != 27 {
                    self.reference.irq(cpu, intid).active = on;
                    let register = if on {
                        GICD_ISACTIVER::OFFSET
                    } else {
                        GICD_ICACTIVER::OFFSET
                    };
                    self.m.write_bit(by, register, cpu, intid);
                }
            }
            Op::Dist { by, groups } => {
                let by = self.cpu(by);
                self.reference.groups = [groups & 1 != 0, groups & 2 != 0];
                self.m
                    .write(by, GicFrame::Dist, GICD_CTLR::OFFSET, 4, groups.into());
            }
            Op::Read { by, cpu, n } => {
                let (by, cpu, intid) = (self.cpu(by), self.cpu(cpu), self.any(n));
                let irq = self.reference.irq(cpu, intid).clone();
                assert_eq!(
                    self.m.read_bit(by, GICD_ISPENDR::OFFSET, cpu, intid),
                    irq.pending(),
                    "{irq:?}"
                );
                assert_eq!(
                    self.m.read_bit(by, GICD_ISACTIVER::OFFSET, cpu, intid),
                    irq.active,
                    "{irq:?}"
                );
            }
            Op::Message { n } => {
                let intid = Self::lpi(n);
                let irq = self.reference.irq(0, intid);
                irq.latch |= irq.target.is_some();
                let raised = irq.target.is_some();
                assert_eq!(self.m.raise_lpi(intid), raised);
            }
            Op::LpiPending { n, on } => {
                let intid = Self::lpi(n);
                self.reference.irq(0, intid).latch = on;
                self.m.set_lpi_pending(intid, on);
                // Of one that goes nowhere nothing can be asked.
                let known = self.reference.irq(0, intid).target.is_some();
                assert_eq!(self.m.lpi_is_pending(intid), on && known);
            }
            Op::LpiConfig {
                n,
                priority,
                enabled,
            } => {
                let intid = Self::lpi(n);
                let irq = self.reference.irq(0, intid);
                (irq.priority, irq.enabled) = (priority & 0xf8, enabled);
                self.m.configure_lpi(intid, priority & 0xf8, enabled);
            }
            Op::LpiRoute { n, to } => {
                let intid = Self::lpi(n);
                let to = to % (self.nested.len() + 1);
                let target = (to < self.nested.len()).then_some(to);
                self.reference.irq(0, intid).target = target;
                self.m.route_lpi(intid, target);
            }
        }
        self.exorcise();
        self.check_exclusive();
    }

    /// No shared interrupt is in the list registers of two vCPUs, or twice in one's.
    fn check_exclusive(&self) {
        for intid in self.spis.clone().chain(LPIS) {
            let times: usize = self
                .m
                .cpus
                .iter()
                .map(|cpu| {
                    let slots = &cpu.file.lr[..cpu.file.count.into()];
                    slots
                        .iter()
                        .filter(|&&v| v as u32 == intid && v >> 62 != 0)
                        .count()
                })
                .enumerate()
                .map(|(cpu, n)| if self.m.running[cpu] { n } else { 0 })
                .sum();
            assert!(times <= 1, "{intid} is in {times} list registers");
        }
    }

    /// Lets the guest finish everything: what the reference still wants delivered must come.
    fn drain(&mut self) {
        self.step(&Op::Dist { by: 0, groups: 3 });
        for cpu in 0..self.nested.len() {
            self.m.enter(cpu);
            self.m.cpus[cpu].set_groups(true, true);
            self.m.cpus[cpu].set_pmr(0xf8);
            self.m.settle(cpu);
            while !self.nested[cpu].is_empty() {
                self.eoi(cpu);
            }
        }
        while let Some(&(cpu, _)) = self.dropped.last() {
            let n = self.dropped.len() - 1;
            self.dir(cpu, n);
        }
        for cpu in 0..self.nested.len() {
            loop {
                let intid = self.acknowledge(cpu);
                if intid == SPURIOUS {
                    break;
                }
                // The driver quiets its device.
                if (16..8192).contains(&intid) {
                    self.step(&Op::Level {
                        cpu,
                        n: self.device(intid),
                        high: false,
                    });
                }
                self.eoi(cpu);
                while let Some(&(owner, _)) = self.dropped.last() {
                    self.dir(owner, 0);
                }
            }
        }
        for cpu in 0..self.nested.len() {
            let left: Vec<_> = self
                .reference
                .forwarded(cpu)
                .filter(|irq| irq.priority < 0xf8)
                .collect();
            assert!(left.is_empty(), "never delivered: {left:?}");
        }
        for cpu in 0..self.nested.len() {
            self.m.exit(cpu);
        }
        for cpu in 0..self.nested.len() {
            for irq in self
                .reference
                .irqs
                .iter()
                .filter(|irq| irq.bank.is_none_or(|b| b == cpu) && irq.intid < 8192)
            {
                assert_eq!(
                    self.m.gic.is_active(line(cpu, irq.intid)),
                    irq.active,
                    "{irq:?}"
                );
            }
        }
    }

    /// The inverse of what [`Op::Level`] does with `n`.
    fn device(&self, intid: u32) -> usize {
        match PPIS.iter().position(|&ppi| ppi == intid) {
            Some(n) => n,
            None => PPIS.len() + (intid - self.spis.start) as usize,
        }
    }
}

fn run(cpus: usize, list_registers: usize, split: Option<bool>, ops: &[Op]) {
    let mut test = Test::new(cpus, list_registers, split, SPIS);
    for op in ops {
        test.step(op);
    }
    test.drain();
}

/// As [`run`], with nearly all of many shared interrupts pending from the start, of these priorities
/// and groups, and some of them active: what the guest has written so and does not end.
fn run_crowd(list_registers: usize, split: Option<bool>, kinds: &[(u8, bool, bool)], ops: &[Op]) {
    let mut test = Test::new(2, list_registers, split, CROWD);
    for (n, &(priority, group1, active)) in kinds.iter().enumerate() {
        if active {
            let intid = test.spi(n);
            test.reference.irq(0, intid).active = true;
            test.m.write_bit(0, GICD_ISACTIVER::OFFSET, 0, intid);
        }
        let (by, cpu, device) = (0, 0, 16 + PPIS.len() + n);
        let kind = [
            Op::Priority {
                by,
                cpu,
                n: device,
                priority,
            },
            Op::Group {
                by,
                cpu,
                n: device,
                group1,
            },
            Op::Level {
                cpu,
                n: PPIS.len() + n,
                high: true,
            },
        ];
        kind.iter().for_each(|op| test.step(op));
    }
    for op in ops {
        test.step(op);
    }
    test.drain();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_vcpu(lrs in prop::sample::select(vec![1, 2, 4, 16]), ops in prop::collection::vec(op(), 1..300)) {
        run(1, lrs, None, &ops);
    }

    #[test]
    fn several_vcpus(cpus in 2..5usize, lrs in prop::sample::select(vec![1, 2, 4, 16]), ops in prop::collection::vec(op(), 1..400)) {
        run(cpus, lrs, None, &ops);
    }

    #[test]
    fn many_pending(
        lrs in prop::sample::select(vec![1, 2, 4, 16]),
        split in prop::sample::select(vec![None, Some(true)]),
        kinds in prop::collection::vec((any::<u8>(), prop::bool::weighted(0.6), Just(false)), CROWD.len()),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        run_crowd(lrs, split, &kinds, &ops);
    }

    #[test]
    fn many_active(
        lrs in prop::sample::select(vec![1, 2, 4, 16]),
        split in prop::sample::select(vec![None, Some(true)]),
        active in prop::sample::select(vec![0.2, 0.5, 0.95]),
        seed in prop::collection::vec((any::<u8>(), prop::bool::weighted(0.6), 0.0..1.0), CROWD.len()),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let kinds: Vec<_> = seed.iter().map(|&(priority, group1, n)| (priority, group1, n < active)).collect();
        run_crowd(lrs, split, &kinds, &ops);
    }

    #[test]
    fn split_eoi(cpus in 1..4usize, lrs in prop::sample::select(vec![1, 2, 4, 16]), ops in prop::collection::vec(op(), 1..300)) {
        run(cpus, lrs, Some(true), &ops);
    }
}
