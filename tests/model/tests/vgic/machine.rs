// SPDX-License-Identifier: GPL-2.0

//! vCPUs around one model, with a host that does what the model asks for at once.

use super::cpu::{Cpu, Dir, SPURIOUS};
use super::lpis::lpi;
use super::storage::{controller, redists, Heap};
use loft_model::model::sysreg::regs::*;
use loft_model::model::timer::{TimerId, TimerSet};
use loft_model::model::vcpus::VcpuId;
use loft_model::model::vgic::{
    Error, Gic, GicConfig, GicFrame, IntId, Line, LpiConfig, LpiWork, LrFile, Notify, SgiReg,
    StaleLists,
};

/// The physical INTID of the timer that PPI 27 is linked to.
pub const PHYSICAL_TIMER: u16 = 28;

pub fn vcpu(n: usize) -> VcpuId {
    VcpuId::new(n).unwrap()
}

pub fn id(n: u32) -> IntId {
    IntId::new(n).unwrap()
}

pub fn line(cpu: usize, n: u32) -> Line {
    Line::seen_by(vcpu(cpu), id(n))
}

/// What the model said.
#[derive(Default)]
pub struct Heard {
    pub kicks: Vec<usize>,
    pub deactivated: Vec<u32>,
    pub lpis: Vec<LpiWork>,
}

impl Notify for Heard {
    fn kick(&mut self, vcpu: VcpuId) {
        self.kicks.push(vcpu.index());
    }

    fn deactivated(&mut self, spi: IntId) {
        self.deactivated.push(spi.get());
    }

    fn lpis(&mut self, work: LpiWork) {
        self.lpis.push(work);
    }
}

pub struct Machine {
    pub gic: Gic<Heap>,
    pub cpus: Vec<Cpu>,
    /// In the guest.
    pub running: Vec<bool>,
    /// The physical timer interrupt is active on the CPU that this vCPU runs on.
    pub timer_active: Vec<bool>,
    /// The level of the physical timer's line.
    pub timer_line: Vec<bool>,
    pub deactivated: Vec<u32>,
    /// What writes to the redistributors have asked for.
    pub lpi_work: Vec<LpiWork>,
    /// Exits, to judge what things cost.
    pub exits: usize,
}

impl Machine {
    /// vCPUs with KVM's affinities, all in the guest, the distributor on, 64 SPIs, level-sensitive, all interrupts enabled
    /// with priority 0x80.
    pub fn new(cpus: usize, list_registers: usize) -> Self {
        let mut machine = Self::off(cpus, list_registers);
        machine.write(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4, 3);
        for cpu in 0..cpus {
            let frame = GicFrame::Redist(vcpu(cpu));
            machine.write(0, frame, GICR_ISENABLER0::OFFSET, 4, 0xffff_ffff);
            for n in 0..8 {
                machine.write(0, frame, GICR_IPRIORITYR::at(n), 4, 0x8080_8080);
            }
        }
        for n in 0..4 {
            machine.write(0, GicFrame::Dist, GICD_ICFGR::at(2 + n), 4, 0);
        }
        for n in 0..2 {
            machine.write(0, GicFrame::Dist, GICD_ISENABLER::at(1 + n), 4, 0xffff_ffff);
        }
        for n in 0..16 {
            machine.write(
                0,
                GicFrame::Dist,
                GICD_IPRIORITYR::at(8 + n),
                4,
                0x8080_8080,
            );
        }
        machine
    }

    /// The same out of reset.
    pub fn off(cpus: usize, list_registers: usize) -> Self {
        let mut config = GicConfig::default();
        config.set_nr_irqs(96).unwrap();
        let mut machine = Self {
            gic: controller(&config, redists(cpus), config.spi_blocks()).unwrap(),
            cpus: (0..cpus).map(|_| Cpu::new(list_registers)).collect(),
            running: vec![false; cpus],
            timer_active: vec![false; cpus],
            timer_line: vec![false; cpus],
            deactivated: Vec::new(),
            lpi_work: Vec::new(),
            exits: 0,
        };
        for cpu in 0..cpus {
            machine.enter(cpu);
        }
        machine
    }

    /// Links PPI 27 of every vCPU to the physical timer.
    pub fn link_timers(&mut self) {
        for cpu in 0..self.cpus.len() {
            self.exit(cpu);
            self.gic
                .link_timer(vcpu(cpu), TimerId::Virtual, Some((id(27), PHYSICAL_TIMER)))
                .unwrap();
            self.enter(cpu);
        }
    }

    pub fn enter(&mut self, cpu: usize) {
        if self.running[cpu] {
            return;
        }
        // A line that is high makes the physical interrupt active: the host has acknowledged it and left it so.
        self.timer_active[cpu] |= self.timer_line[cpu];
        let file = &mut self.cpus[cpu].file;
        let quiet = (!self.gic.has_work(vcpu(cpu))).then(|| {
            let mut quiet = file.clone();
            quiet.flush_nothing();
            quiet
        });
        let active = TimerSet::new(self.timer_active[cpu], false);
        self.gic.flush(vcpu(cpu), file, active);
        if let Some(quiet) = quiet {
            let what = |file: &LrFile| (file.count, file.to_write, file.hcr, file.linked);
            assert_eq!(what(&quiet), what(file));
            let written = usize::from(file.to_write);
            assert_eq!(quiet.lr[..written], file.lr[..written]);
        }
        if file.linked.is_empty() && !self.timer_line[cpu] {
            self.timer_active[cpu] = false;
        }
        self.running[cpu] = true;
        assert!(
            !self.cpus[cpu].maintenance(),
            "the guest would never run: {:x?}",
            self.cpus[cpu].file
        );
    }

    pub fn exit(&mut self, cpu: usize) {
        if !self.running[cpu] {
            return;
        }
        self.exits += 1;
        self.running[cpu] = false;
        let mut heard = Heard::default();
        let others = (0..self.cpus.len()).filter(|&other| other != cpu);
        let quiet: Vec<_> = others.filter(|&n| !self.gic.has_work(vcpu(n))).collect();
        let ended = !self.cpus[cpu].physically_ended.is_empty();
        let report = self
            .gic
            .sync(vcpu(cpu), &mut self.cpus[cpu].file, &mut heard);
        assert_eq!(report.deactivated, TimerSet::new(ended, false));
        self.cpus[cpu].physically_ended.clear();
        assert!(!heard.kicks.contains(&cpu), "kicked by its own sync");
        for other in quiet {
            let told = heard.kicks.contains(&other) || !self.gic.has_work(vcpu(other));
            assert!(told, "vCPU {other} was given something and not told");
        }
        self.hear(heard);
    }

    /// Does what was asked for: a kicked vCPU that is in the guest leaves it and comes back.
    pub fn hear(&mut self, heard: Heard) {
        self.deactivated.extend(heard.deactivated);
        self.lpi_work.extend(heard.lpis);
        for cpu in heard.kicks {
            self.bounce(cpu);
        }
    }

    pub fn bounce(&mut self, cpu: usize) {
        if self.running[cpu] {
            self.exit(cpu);
            self.enter(cpu);
        }
    }

    /// After something that the guest did by itself: what the hardware interrupts the guest for.
    pub fn settle(&mut self, cpu: usize) {
        for physical in &self.cpus[cpu].physically_ended {
            assert_eq!(*physical, u32::from(PHYSICAL_TIMER));
            self.timer_active[cpu] = false;
        }
        let timer_fires = self.timer_line[cpu] && !self.timer_active[cpu];
        if self.running[cpu] && (self.cpus[cpu].maintenance() || timer_fires) {
            self.bounce(cpu);
        }
        assert!(!self.running[cpu] || !self.cpus[cpu].maintenance());
    }

    fn resolve(&mut self, by: usize, stale: StaleLists) -> Vec<usize> {
        let others: Vec<usize> = stale.others.iter().map(VcpuId::index).collect();
        assert!(!others.contains(&by));
        assert!(stale.own || !others.is_empty());
        let mut out = others;
        if stale.own {
            out.push(by);
        }
        for &cpu in &out {
            assert!(
                self.gic.is_resident(vcpu(cpu)),
                "asked for one that is not in the guest"
            );
            self.exit(cpu);
        }
        out
    }

    pub fn read(&mut self, by: usize, frame: GicFrame, offset: u32, size: u8) -> u64 {
        let mut out = Vec::new();
        let value = loop {
            // What a fast exit sees of it: the same, or nothing.
            let look = self.gic.mmio_look(frame, offset, size);
            match self.gic.mmio_read(vcpu(by), frame, offset, size) {
                Ok(value) => {
                    let unused = 64 - 8 * u32::from(size);
                    assert_eq!(look.map(|look| look << unused >> unused), Some(value));
                    break value;
                }
                Err(Error::NeedSync(stale)) => {
                    assert_eq!(look, None);
                    out.extend(self.resolve(by, stale));
                }
                Err(error) => panic!("{error:?}"),
            }
        };
        for cpu in out {
            self.enter(cpu);
        }
        value
    }

    pub fn write(&mut self, by: usize, frame: GicFrame, offset: u32, size: u8, value: u64) {
        let mut out = Vec::new();
        let mut heard = Heard::default();
        let before = self.gic.ctlr();
        let keeps = frame.is_ctlr(offset, size) && self.gic.keeps_ctlr(value);
        loop {
            match self
                .gic
                .mmio_write(vcpu(by), frame, offset, size, value, &mut heard)
            {
                Ok(()) => break,
                Err(_) if keeps => panic!("GICD_CTLR stays as it is"),
                Err(Error::NeedSync(stale)) => out.extend(self.resolve(by, stale)),
                Err(error) => panic!("{error:?}"),
            }
        }
        for cpu in out {
            self.enter(cpu);
        }
        if frame.is_ctlr(offset, size) {
            assert_eq!(self.gic.ctlr() == before, keeps);
        }
        self.hear(heard);
        let ctlr = self.read(by, GicFrame::Dist, GICD_CTLR::OFFSET, 4);
        assert_eq!(u64::from(self.gic.ctlr()), ctlr);
    }

    /// Writes one interrupt's bit of a register like ISENABLER, which for SPIs is in the distributor.
    pub fn write_bit(&mut self, by: usize, register: u32, cpu: usize, n: u32) {
        let (frame, offset) = place(cpu, register, n / 32 * 4);
        self.write(by, frame, offset, 4, 1 << (n % 32));
    }

    pub fn read_bit(&mut self, by: usize, register: u32, cpu: usize, n: u32) -> bool {
        let (frame, offset) = place(cpu, register, n / 32 * 4);
        (self.read(by, frame, offset, 4) >> (n % 32)) & 1 != 0
    }

    pub fn set_priority(&mut self, by: usize, cpu: usize, n: u32, priority: u8) {
        let (frame, offset) = place(cpu, GICD_IPRIORITYR::OFFSET, n);
        self.write(by, frame, offset, 1, priority.into());
    }

    pub fn set_edge(&mut self, by: usize, n: u32, edge: bool) {
        let (frame, offset) = place(0, GICD_ICFGR::OFFSET, n / 16 * 4);
        let old = self.read(by, frame, offset, 4);
        let bit = 2 << (n % 16 * 2);
        let new = if edge { old | bit } else { old & !bit };
        self.write(by, frame, offset, 4, new);
    }

    pub fn set_group(&mut self, by: usize, cpu: usize, n: u32, group1: bool) {
        let (frame, offset) = place(cpu, GICD_IGROUPR::OFFSET, n / 32 * 4);
        let old = self.read(by, frame, offset, 4);
        let bit = 1 << (n % 32);
        let new = if group1 { old | bit } else { old & !bit };
        self.write(by, frame, offset, 4, new);
    }

    pub fn route(&mut self, by: usize, n: u32, affinity: u64) {
        self.write(by, GicFrame::Dist, GICD_IROUTER::at(n), 8, affinity);
    }

    pub fn set_level(&mut self, cpu: usize, n: u32, high: bool) {
        if n == 27 {
            self.timer_line[cpu] = high;
        }
        let kick = self.gic.set_level(line(cpu, n), high).unwrap();
        if let Some(cpu) = kick {
            self.bounce(cpu.index());
        }
    }

    pub fn sgi(&mut self, from: usize, reg: SgiReg, value: u64) -> Vec<usize> {
        let mut heard = Heard::default();
        self.gic.sgi(vcpu(from), reg, value, &mut heard);
        let mut kicks = heard.kicks.clone();
        kicks.sort_unstable();
        self.hear(heard);
        kicks
    }

    pub fn acknowledge(&mut self, cpu: usize) -> u32 {
        assert!(self.running[cpu]);
        let intid = self.cpus[cpu].acknowledge();
        self.settle(cpu);
        intid
    }

    pub fn eoi(&mut self, cpu: usize, intid: u32) {
        assert!(self.running[cpu]);
        self.cpus[cpu].eoi(intid);
        self.settle(cpu);
    }

    pub fn dir(&mut self, cpu: usize, intid: u32) {
        assert!(self.running[cpu]);
        if self.cpus[cpu].dir(intid) == Dir::Trapped {
            self.trapped_dir(cpu, intid);
        }
        self.settle(cpu);
    }

    /// Adds LPIs, and enables them for all vCPUs.
    pub fn add_lpis(&mut self) {
        self.gic.add_lpis();
        for cpu in 0..self.cpus.len() {
            self.write(cpu, GicFrame::Redist(vcpu(cpu)), 0, 4, 1);
        }
        self.lpi_work.clear();
    }

    pub fn map_lpi(&mut self, intid: u32, cpu: Option<usize>) -> bool {
        self.gic.lpi_store().make_room(lpi(intid));
        self.gic.map_lpi(lpi(intid), cpu.map(vcpu)).unwrap()
    }

    /// An operation on LPIs: who has to leave the guest for it leaves, who is kicked is kicked.
    fn lpi_op(&mut self, op: impl Fn(&Gic<Heap>) -> Result<Option<VcpuId>, Error>) {
        let mut out = Vec::new();
        let kick = loop {
            match op(&self.gic) {
                Ok(kick) => break kick,
                Err(Error::NeedSync(stale)) => {
                    for cpu in stale.others.iter() {
                        assert!(self.gic.is_resident(cpu));
                        self.exit(cpu.index());
                        out.push(cpu.index());
                    }
                }
                Err(error) => panic!("{error:?}"),
            }
        };
        for cpu in out {
            self.enter(cpu);
        }
        if let Some(cpu) = kick {
            self.bounce(cpu.index());
        }
    }

    pub fn unmap_lpi(&mut self, intid: u32) {
        self.lpi_op(|gic| gic.unmap_lpi(lpi(intid)).map(|()| None));
    }

    pub fn configure_lpi(&mut self, intid: u32, priority: u8, enabled: bool) {
        let config = LpiConfig { priority, enabled };
        self.lpi_op(|gic| gic.configure_lpi(lpi(intid), config));
    }

    pub fn route_lpi(&mut self, intid: u32, cpu: Option<usize>) {
        self.lpi_op(|gic| gic.route_lpi(lpi(intid), cpu.map(vcpu)));
    }

    pub fn set_lpi_pending(&mut self, intid: u32, pending: bool) {
        self.lpi_op(|gic| gic.set_lpi_pending(lpi(intid), pending));
    }

    /// A message; false if it raised nothing.
    pub fn raise_lpi(&mut self, intid: u32) -> bool {
        match self.gic.raise_lpi(lpi(intid)) {
            Ok(kick) => {
                if let Some(cpu) = kick {
                    self.bounce(cpu.index());
                }
                true
            }
            Err(_) => false,
        }
    }

    pub fn lpi_is_pending(&mut self, intid: u32) -> bool {
        let pending = core::cell::Cell::new(false);
        self.lpi_op(|gic| {
            let state = gic.lpi_state(lpi(intid))?;
            pending.set(state.is_some_and(|(_, pending)| pending));
            Ok(None)
        });
        pending.get()
    }

    fn trapped_dir(&mut self, cpu: usize, intid: u32) {
        let mut heard = Heard::default();
        let mut out = Vec::new();
        let vmcr = self.cpus[cpu].file.vmcr;
        loop {
            match self
                .gic
                .deactivate(vcpu(cpu), intid.into(), vmcr, &mut heard)
            {
                Ok(()) => break,
                Err(Error::NeedSync(stale)) => out.extend(self.resolve(cpu, stale)),
                Err(error) => panic!("{error:?}"),
            }
        }
        for cpu in out {
            self.enter(cpu);
        }
        self.hear(heard);
        // The host looks after a timer that is no longer in a list register.
        self.bounce(cpu);
    }

    /// Acknowledges and ends one interrupt.
    pub fn handle(&mut self, cpu: usize) -> u32 {
        let intid = self.acknowledge(cpu);
        if intid != SPURIOUS {
            self.eoi(cpu, intid);
        }
        intid
    }
}

/// Where a register with a field for interrupt `n` of `cpu` is.
pub fn place(cpu: usize, register: u32, within: u32) -> (GicFrame, u32) {
    // Whether it is private is seen from the distance into the register array.
    let private = match register {
        0x400 => within < 32,
        0xc00 => within < 8,
        _ => within < 4,
    };
    if private {
        (GicFrame::Redist(vcpu(cpu)), 0x1_0000 + register + within)
    } else {
        (GicFrame::Dist, register + within)
    }
}
