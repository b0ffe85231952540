// SPDX-License-Identifier: GPL-2.0

//! vCPUs on threads of their own, with others that raise, route, and switch groups at the same time. Each interrupt is raised
//! again when it has come, so what is counted must come out even: nothing is lost, nothing comes twice. Nobody leaves the guest
//! unless it is kicked: a kick that is missing ends in a vCPU that waits for ever. The locks tell of a wrong order.

mod vgic;

use loft_model::model::sysreg::regs::{GICD_CTLR, GICD_ICFGR, GICD_IROUTER, GICD_ISENABLER};
use loft_model::model::timer::TimerSet;
use loft_model::model::vcpus::VcpuId;
use loft_model::model::vgic::{Error, Gic, GicConfig, GicFrame, Line, LpiConfig, Notify, SgiReg};
use std::sync::atomic::{fence, AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use vgic::cpu::{Cpu, SPURIOUS};
use vgic::lpis::lpi;
use vgic::machine::{id, vcpu};
use vgic::storage::{controller, redists, Heap};

const CPUS: usize = 3;
const SPIS: std::ops::Range<u32> = 40..43;
const LPIS: std::ops::Range<u32> = 8192..8195;
/// How often each is raised.
const TIMES: u32 = 150;

/// What others see of a vCPU, as in the module's `vcpu::shared`.
#[derive(Default)]
struct Peer {
    inside: AtomicBool,
    kicked: AtomicBool,
    holds: AtomicU32,
    /// How often it has acknowledged each SGI.
    sgis: [AtomicU32; CPUS],
}

struct Vm {
    gic: Gic<Heap>,
    peers: [Peer; CPUS],
    /// How often each was acknowledged, by anybody.
    spis: [AtomicU32; 3],
    lpis: [AtomicU32; 3],
    /// The distributor forwards nothing, and nobody has anything left.
    off: AtomicBool,
    stop: AtomicBool,
    /// Threads that have not raised all yet.
    left: AtomicU32,
}

struct Kicks<'a>(&'a Vm);

impl Notify for Kicks<'_> {
    fn kick(&mut self, vcpu: VcpuId) {
        self.0.kick(vcpu);
    }
}

impl Vm {
    fn new() -> Self {
        let mut config = GicConfig::default();
        config.set_nr_irqs(96).unwrap();
        let vm = Self {
            gic: controller(&config, redists(CPUS), config.spi_blocks()).unwrap(),
            peers: Default::default(),
            spis: Default::default(),
            lpis: Default::default(),
            off: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            left: AtomicU32::new(0),
        };
        vm.gic.add_lpis();
        for n in 0..CPUS {
            vm.write(GicFrame::Redist(vcpu(n)), 0, 1);
        }
        for n in LPIS {
            vm.gic.lpi_store().make_room(lpi(n));
            vm.gic.map_lpi(lpi(n), Some(vcpu(0))).unwrap();
            let config = LpiConfig {
                priority: 0x80,
                enabled: true,
            };
            vm.gic.configure_lpi(lpi(n), config).unwrap();
        }
        vm.write(GicFrame::Dist, GICD_CTLR::OFFSET, 3);
        vm.write(GicFrame::Dist, GICD_ISENABLER::at(1), u64::from(u32::MAX));
        // All of them edges.
        vm.write(GicFrame::Dist, GICD_ICFGR::at(2), 0xaaaa_aaaa);
        vm
    }

    fn kick(&self, vcpu: VcpuId) {
        self.peers[vcpu.index()].kicked.store(true, SeqCst);
    }

    /// As the module's: with those vCPUs out of the guest that are named.
    fn with_guests_out<T>(&self, attempt: impl Fn() -> Result<T, Error>) -> T {
        let mut out: Vec<usize> = Vec::new();
        let done = loop {
            match attempt() {
                Ok(done) => break done,
                Err(Error::NeedSync(stale)) => {
                    let others = stale.others.iter().map(VcpuId::index);
                    // Who makes the access is none of the vCPUs here.
                    for n in others.chain(stale.own.then_some(0)) {
                        if !out.contains(&n) {
                            self.peers[n].holds.fetch_add(1, SeqCst);
                            out.push(n);
                        }
                    }
                }
                Err(error) => panic!("{error:?}"),
            }
            for &n in &out {
                self.until(|| !self.peers[n].inside.load(SeqCst) && !self.gic.is_resident(vcpu(n)));
            }
        };
        for n in out {
            self.peers[n].holds.fetch_sub(1, SeqCst);
        }
        done
    }

    fn write(&self, frame: GicFrame, offset: u32, value: u64) {
        self.with_guests_out(|| {
            let mut kicks = Kicks(self);
            self.gic
                .mmio_write(vcpu(0), frame, offset, 4, value, &mut kicks)
        });
    }

    /// Waits, but not for ever.
    fn until(&self, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            if begun.elapsed() > Duration::from_secs(100) {
                self.stop.store(true, SeqCst);
                panic!("it does not come");
            }
            thread::yield_now();
        }
    }

    fn run(&self, n: usize) {
        let (me, mut cpu) = (&self.peers[n], Cpu::new(2));
        let mut sent = [0; CPUS];
        let mut busy = true;
        while !self.stop.load(SeqCst) {
            me.inside.store(true, SeqCst);
            fence(SeqCst);
            if me.holds.load(SeqCst) != 0 {
                me.inside.store(false, SeqCst);
                thread::yield_now();
                continue;
            }
            me.kicked.swap(false, SeqCst);
            let filled = self.gic.has_work(vcpu(n));
            if filled {
                self.gic.flush(vcpu(n), &mut cpu.file, TimerSet::NONE);
            } else {
                cpu.file.flush_nothing();
            }
            while !me.kicked.load(SeqCst)
                && me.holds.load(SeqCst) == 0
                && !self.stop.load(SeqCst)
                && !cpu.maintenance()
            {
                let intid = cpu.acknowledge();
                if intid != SPURIOUS {
                    assert!(!self.off.load(SeqCst), "{intid} while nothing is forwarded");
                    self.note(n, intid);
                    cpu.eoi(intid);
                    continue;
                }
                if busy && !self.send(n, &mut sent) {
                    busy = false;
                    self.left.fetch_sub(1, SeqCst);
                }
                thread::yield_now();
            }
            me.inside.store(false, SeqCst);
            if filled {
                self.gic.sync(vcpu(n), &mut cpu.file, &mut Kicks(self));
            }
        }
    }

    fn note(&self, n: usize, intid: u32) {
        let count = match intid {
            0..16 => &self.peers[n].sgis[intid as usize],
            32..1020 => &self.spis[(intid - SPIS.start) as usize],
            _ => &self.lpis[(intid - LPIS.start) as usize],
        };
        count.fetch_add(1, SeqCst);
    }

    /// SGI `from` to those who have had the last one; false: all have had all.
    fn send(&self, from: usize, sent: &mut [u32; CPUS]) -> bool {
        let mut more = false;
        for to in (0..CPUS).filter(|&to| to != from) {
            let had = self.peers[to].sgis[from].load(SeqCst);
            assert!(
                had <= sent[to],
                "SGI {from} came {had} times of {}",
                sent[to]
            );
            more |= had < TIMES;
            if had == sent[to] && had < TIMES {
                sent[to] += 1;
                let value = (from as u64) << 24 | 1 << to;
                self.gic
                    .sgi(vcpu(from), SgiReg::Sgi1, value, &mut Kicks(self));
            }
        }
        more
    }

    /// Raises it again each time that it has come.
    fn raise(&self, count: &AtomicU32, raise: impl Fn() -> Option<VcpuId>) {
        for n in 0..TIMES {
            if let Some(vcpu) = raise() {
                self.kick(vcpu);
            }
            self.until(|| count.load(SeqCst) > n);
            assert_eq!(count.load(SeqCst), n + 1);
        }
        self.left.fetch_sub(1, SeqCst);
    }

    fn done(&self) -> bool {
        self.left.load(SeqCst) == 0 || self.stop.load(SeqCst)
    }

    fn route(&self) {
        for n in 0.. {
            if self.done() {
                return;
            }
            let spi = SPIS.start + n % 3;
            self.write(
                GicFrame::Dist,
                GICD_IROUTER::at(spi),
                u64::from(n / 3) % CPUS as u64,
            );
            let to = Some(vcpu((n as usize / 2) % CPUS));
            let kick = self.with_guests_out(|| self.gic.route_lpi(lpi(LPIS.start + n % 3), to));
            if let Some(vcpu) = kick {
                self.kick(vcpu);
            }
            thread::yield_now();
        }
    }

    fn switch(&self) {
        while !self.done() {
            self.write(GicFrame::Dist, GICD_CTLR::OFFSET, 0);
            self.off.store(true, SeqCst);
            thread::yield_now();
            self.off.store(false, SeqCst);
            self.write(GicFrame::Dist, GICD_CTLR::OFFSET, 3);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    let vm = Vm::new();
    vm.left
        .store((CPUS + SPIS.len() + LPIS.len()) as u32, SeqCst);
    thread::scope(|scope| {
        for n in 0..CPUS {
            scope.spawn({
                let vm = &vm;
                move || vm.run(n)
            });
        }
        for (n, count) in SPIS.zip(&vm.spis) {
            let line = Line::spi(id(n)).unwrap();
            let vm = &vm;
            scope.spawn(move || vm.raise(count, || vm.gic.pulse(line).unwrap()));
        }
        for (n, count) in LPIS.zip(&vm.lpis) {
            let vm = &vm;
            scope.spawn(move || vm.raise(count, || vm.gic.raise_lpi(lpi(n)).unwrap()));
        }
        scope.spawn(|| vm.route());
        scope.spawn(|| vm.switch());
        vm.until(|| vm.done());
        vm.stop.store(true, SeqCst);
    });
}
