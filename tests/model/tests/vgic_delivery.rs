// SPDX-License-Identifier: GPL-2.0

//! The way of single interrupts through list registers, one situation at a time.

mod vgic;

use loft_model::model::sysreg::regs::*;
use loft_model::model::timer::{TimerId, TimerSet};
use loft_model::model::vgic::{hcr, lr, GicFrame, Line, LrFile, SgiReg};
use vgic::cpu::SPURIOUS;
use vgic::machine::{id, line, vcpu, Heard, Machine};

const LIST_REGISTERS: [usize; 4] = [1, 2, 4, 16];

#[test]
fn an_edge_is_delivered_once() {
    for lrs in LIST_REGISTERS {
        let mut m = Machine::new(1, lrs);
        m.set_edge(0, 40, true);
        m.set_level(0, 40, true);
        m.set_level(0, 40, false);
        assert_eq!(m.handle(0), 40);
        assert_eq!(m.handle(0), SPURIOUS);
        m.set_level(0, 40, true);
        m.set_level(0, 40, true);
        assert_eq!(m.handle(0), 40);
        assert_eq!(
            m.handle(0),
            SPURIOUS,
            "two edges before one acknowledge are one"
        );
    }
}

#[test]
fn an_edge_while_active_comes_after_the_end() {
    for lrs in LIST_REGISTERS {
        let mut m = Machine::new(1, lrs);
        m.set_edge(0, 40, true);
        m.set_level(0, 40, true);
        assert_eq!(m.acknowledge(0), 40);
        m.set_level(0, 40, true);
        assert_eq!(m.acknowledge(0), SPURIOUS);
        m.eoi(0, 40);
        assert_eq!(m.handle(0), 40);
        assert_eq!(m.handle(0), SPURIOUS);
    }
}

/// A device may be quicker than the guest that configures its interrupt.
#[test]
fn a_pulse_from_before_the_configuration_is_kept() {
    for edge in [true, false] {
        let mut m = Machine::off(1, 4);
        m.gic.pulse(line(0, 40)).unwrap();
        m.set_edge(0, 40, edge);
        m.write(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4, 2);
        m.write(0, GicFrame::Dist, GICD_IPRIORITYR::at(10), 4, 0x8080_8080);
        m.write_bit(0, GICD_ISENABLER::OFFSET, 0, 40);
        assert_eq!(m.handle(0), 40);
        assert_eq!(m.handle(0), SPURIOUS);
    }
}

/// The guest makes its timer's interrupt pending in the timer's own handler, when the timer is off already. The physical
/// interrupt, whose end is nobody's business but the hardware's, would not tell that this one may come.
#[test]
fn a_linked_timer_made_pending_while_active_comes_at_its_end() {
    for lrs in LIST_REGISTERS {
        for high in [false, true] {
            let mut m = Machine::new(1, lrs);
            m.link_timers();
            m.set_level(0, 27, true);
            assert_eq!(m.acknowledge(0), 27);
            m.set_level(0, 27, high);
            m.write_bit(0, GICD_ISPENDR::OFFSET, 0, 27);
            assert_eq!(m.acknowledge(0), SPURIOUS, "active");
            m.eoi(0, 27);
            assert_eq!(m.acknowledge(0), 27);
            m.set_level(0, 27, false);
            m.eoi(0, 27);
            assert_eq!(m.handle(0), SPURIOUS);
            assert!(!m.timer_active[0], "the timer can interrupt again");
        }
    }
}

#[test]
fn a_level_comes_again_while_the_line_is_high() {
    for lrs in LIST_REGISTERS {
        let mut m = Machine::new(1, lrs);
        m.set_level(0, 40, true);
        for _ in 0..3 {
            assert_eq!(m.handle(0), 40);
        }
        assert_eq!(m.acknowledge(0), 40);
        m.set_level(0, 40, false);
        m.eoi(0, 40);
        assert_eq!(m.handle(0), SPURIOUS);
        m.set_level(0, 40, true);
        assert_eq!(m.handle(0), 40);
    }
}

#[test]
fn a_level_that_is_low_again_costs_no_exit_at_its_end() {
    let mut m = Machine::new(1, 4);
    m.set_level(0, 40, true);
    assert_eq!(m.acknowledge(0), 40);
    m.set_level(0, 40, false);
    // The guest's access to the device brought it out.
    m.bounce(0);
    let before = m.exits;
    m.eoi(0, 40);
    assert_eq!(m.exits, before);
    // And when the line rises while it is being handled, the end is noticed.
    m.set_level(0, 40, true);
    assert_eq!(m.acknowledge(0), 40);
    m.set_level(0, 40, false);
    m.bounce(0);
    m.set_level(0, 40, true);
    m.eoi(0, 40);
    assert_eq!(m.handle(0), 40);
}

#[test]
fn the_end_of_a_watched_level_is_reported_at_once() {
    for lrs in LIST_REGISTERS {
        let mut m = Machine::new(1, lrs);
        let kick = m.gic.watch(line(0, 40), true).unwrap();
        assert_eq!(kick, None);
        m.set_level(0, 40, true);
        assert_eq!(m.acknowledge(0), 40);
        m.set_level(0, 40, false);
        m.bounce(0);
        assert!(m.deactivated.is_empty());
        m.eoi(0, 40);
        assert_eq!(m.deactivated, [40]);
        // A PPI and an edge are not reported.
        m.set_level(0, 20, true);
        m.set_edge(0, 41, true);
        m.set_level(0, 41, true);
        assert_eq!(m.acknowledge(0), 20);
        m.set_level(0, 20, false);
        m.eoi(0, 20);
        assert_eq!(m.handle(0), 41);
        m.bounce(0);
        assert_eq!(m.deactivated, [40]);
    }
}

#[test]
fn the_end_of_a_watched_level_outside_the_list_registers_is_reported_too() {
    for split in [false, true] {
        let mut m = Machine::new(1, 1);
        m.cpus[0].set_split_eoi(split);
        m.gic.watch(line(0, 40), true).unwrap();
        m.set_level(0, 40, true);
        assert_eq!(m.acknowledge(0), 40);
        m.set_level(0, 40, false);
        // Another one takes the only list register.
        m.set_edge(0, 41, true);
        m.set_level(0, 41, true);
        assert_eq!(m.cpus[0].held(40), 0);
        m.eoi(0, 40);
        if split {
            assert!(m.deactivated.is_empty());
            m.dir(0, 40);
            m.dir(0, 40);
        }
        assert_eq!(m.deactivated, [40]);
        m.exit(0);
        assert!(!m.gic.is_active(line(0, 40)));
    }
}

#[test]
fn the_guests_group_enables_decide_what_is_in_the_list_registers() {
    for urgent_group1 in [false, true] {
        let mut m = Machine::new(1, 1);
        m.set_edge(0, 40, true);
        m.set_edge(0, 41, true);
        m.set_priority(0, 0, 40, 0x20);
        m.set_group(0, 0, 40, urgent_group1);
        m.set_group(0, 0, 41, !urgent_group1);
        m.cpus[0].set_groups(urgent_group1, !urgent_group1);
        m.settle(0);
        m.set_level(0, 40, true);
        m.set_level(0, 41, true);
        assert_ne!(m.cpus[0].held(41), 0, "the urgent one is held back");
        m.cpus[0].set_groups(true, true);
        m.settle(0);
        assert_ne!(m.cpus[0].held(40), 0, "and comes when its group is enabled");
        m.cpus[0].set_groups(urgent_group1, !urgent_group1);
        m.settle(0);
        assert_eq!(m.handle(0), 41);
        assert_eq!(m.handle(0), SPURIOUS);
    }
}

#[test]
fn watching_an_interrupt_that_is_being_handled_asks_for_an_exit() {
    let mut m = Machine::new(1, 4);
    m.set_level(0, 40, true);
    assert_eq!(m.acknowledge(0), 40);
    m.set_level(0, 40, false);
    m.bounce(0);
    assert_eq!(m.gic.watch(line(0, 40), true).unwrap(), Some(vcpu(0)));
    m.bounce(0);
    m.eoi(0, 40);
    assert_eq!(m.deactivated, [40]);
}

#[test]
fn more_pending_than_list_registers_drain_in_order() {
    for lrs in LIST_REGISTERS {
        for split in [false, true] {
            let mut m = Machine::new(1, lrs);
            m.cpus[0].set_split_eoi(split);
            m.bounce(0);
            for n in 0..40 {
                m.set_edge(0, 32 + n, true);
                // 32 priorities in a scrambled order.
                m.set_priority(0, 0, 32 + n, ((n * 7 % 31) * 8) as u8);
            }
            for n in 0..40 {
                m.set_level(0, 32 + n, true);
            }
            let mut last = 0;
            for _ in 0..40 {
                let intid = m.acknowledge(0);
                assert_ne!(intid, SPURIOUS);
                let priority = (intid - 32) * 7 % 31;
                assert!(priority >= last);
                last = priority;
                m.eoi(0, intid);
                if split {
                    m.dir(0, intid);
                }
            }
            assert_eq!(m.handle(0), SPURIOUS);
        }
    }
}

#[test]
fn an_overflow_costs_few_exits() {
    let mut m = Machine::new(1, 4);
    for n in 0..40 {
        m.set_edge(0, 32 + n, true);
    }
    for n in 0..40 {
        m.set_level(0, 32 + n, true);
    }
    let before = m.exits;
    for _ in 0..40 {
        assert_ne!(m.handle(0), SPURIOUS);
    }
    assert!(m.exits - before <= 14, "{} exits", m.exits - before);
}

#[test]
fn a_routed_interrupt_moves_but_an_active_one_stays() {
    let mut m = Machine::new(2, 4);
    m.set_edge(0, 40, true);
    m.set_level(0, 40, true);
    // Pending in a list register of vCPU 0; it moves when that vCPU comes out, for which it was kicked.
    m.route(0, 40, 1);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert_eq!(m.acknowledge(1), 40);
    m.route(0, 40, 0);
    m.set_level(0, 40, true);
    assert_eq!(m.acknowledge(0), SPURIOUS, "active on vCPU 1");
    m.eoi(1, 40);
    assert_eq!(m.acknowledge(1), SPURIOUS);
    assert_eq!(m.handle(0), 40);
    assert_eq!(m.handle(0), SPURIOUS);
}

#[test]
fn one_that_moves_while_the_distributor_is_off_is_told() {
    let mut m = Machine::new(2, 1);
    m.set_level(0, 40, true);
    assert_eq!(m.acknowledge(0), 40);
    m.write(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4, 0);
    m.route(0, 40, 1);
    // The machine's exit asserts that vCPU 1, which had nothing to do, is told of what it is given.
    m.eoi(0, 40);
    assert_eq!(m.acknowledge(1), SPURIOUS);
    m.write(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4, 3);
    assert_eq!(m.handle(1), 40);
}

#[test]
fn routed_to_nobody_it_waits() {
    let mut m = Machine::new(1, 4);
    m.set_edge(0, 40, true);
    m.route(0, 40, 0x55);
    m.set_level(0, 40, true);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert!(m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 40));
    m.route(0, 40, 0);
    assert_eq!(m.handle(0), 40);
}

#[test]
fn a_linked_timer_uses_the_physical_interrupt() {
    for lrs in LIST_REGISTERS {
        let mut m = Machine::new(1, lrs);
        m.link_timers();
        m.set_level(0, 27, true);
        let value = m.cpus[0].file.lr[0];
        assert_eq!(
            value & (lr::HW | lr::PENDING | lr::EOI),
            lr::HW | lr::PENDING
        );
        assert_eq!((value >> 32) & 0x1fff, 28);
        assert!(m.cpus[0].file.linked.contains(TimerId::Virtual));
        assert_eq!(m.acknowledge(0), 27);
        m.set_level(0, 27, false);
        assert!(m.timer_active[0]);
        let before = m.exits;
        m.eoi(0, 27);
        assert_eq!(m.exits, before, "the hardware ends it alone");
        assert!(!m.timer_active[0]);
        // Still high at the end: the physical interrupt fires again.
        m.set_level(0, 27, true);
        assert_eq!(m.handle(0), 27);
        assert_eq!(m.handle(0), 27);
    }
}

#[test]
fn without_the_physical_interrupt_a_linked_timer_is_an_ordinary_level() {
    let mut m = Machine::new(1, 4);
    m.link_timers();
    m.exit(0);
    m.gic.set_level(line(0, 27), true).unwrap();
    m.gic.flush(vcpu(0), &mut m.cpus[0].file, TimerSet::NONE);
    let value = m.cpus[0].file.lr[0];
    assert_eq!(value & (lr::HW | lr::EOI), lr::EOI);
    assert!(!m.cpus[0].file.linked.contains(TimerId::Virtual));
}

#[test]
fn sgis_reach_whom_they_name() {
    let aff = |n: u64| (n & 0xf, n >> 4);
    for target in [0, 1, 15, 16, 31, 33] {
        let mut m = Machine::new(34, 4);
        let (bit, aff1) = aff(target);
        let value = (1 << bit) | (5 << 24) | (aff1 << 16);
        assert_eq!(m.sgi(3, SgiReg::Sgi1, value), [target as usize]);
        for cpu in 0..34 {
            let expected = if cpu == target as usize { 5 } else { SPURIOUS };
            assert_eq!(m.handle(cpu), expected);
        }
    }
    let mut m = Machine::new(34, 4);
    assert_eq!(m.sgi(0, SgiReg::Sgi1, 0xffff), (0..16).collect::<Vec<_>>());
    assert_eq!(m.sgi(0, SgiReg::Sgi1, 0xffff | (2 << 16)), [32, 33]);
    let all_but: Vec<_> = (0..34).filter(|&n| n != 7).collect();
    assert_eq!(m.sgi(7, SgiReg::Sgi1, (9 << 24) | (1 << 40)), all_but);
    assert_eq!(m.sgi(0, SgiReg::Sgi1, 0xffff | (1 << 32)), [], "no Aff2");
    assert_eq!(m.sgi(0, SgiReg::Sgi1, 0xffff | (1 << 48)), [], "no Aff3");
    assert_eq!(
        m.sgi(0, SgiReg::Sgi1, 0xffff | (1 << 44)),
        [],
        "no Aff0 of 16"
    );
    m.handle(0);
    // 16 SGIs, each its own.
    for n in 0..16 {
        m.sgi(0, SgiReg::Sgi1, 1 | (n << 24));
    }
    let mut seen: Vec<_> = (0..16).map(|_| m.handle(0)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..16).collect::<Vec<_>>());
}

#[test]
fn sgis_find_unusual_affinities() {
    let mut m = Machine::new(3, 4);
    m.gic.set_affinity(vcpu(0), 0x010203);
    m.gic.set_affinity(vcpu(1), 0x010214);
    m.gic.set_affinity(vcpu(2), 0x000001);
    assert_eq!(m.gic.by_affinity(0x010203), Some(vcpu(0)));
    assert_eq!(m.gic.by_affinity(1), Some(vcpu(2)));
    assert_eq!(m.gic.by_affinity(0), None);
    let cluster = (2 << 16) | (1 << 32);
    assert_eq!(m.sgi(2, SgiReg::Sgi1, cluster | (1 << 3)), [0]);
    assert_eq!(m.sgi(2, SgiReg::Sgi1, cluster | (1 << 4)), []);
    assert_eq!(
        m.sgi(2, SgiReg::Sgi1, cluster | (1 << 4) | (1 << 44)),
        [1],
        "range selector 1"
    );
    assert_eq!(m.sgi(2, SgiReg::Sgi1, 0b11), [2]);
    m.route(0, 40, 0x010214);
    m.set_edge(0, 40, true);
    m.set_level(0, 40, true);
    m.handle(1);
    assert_eq!(m.handle(1), 40);
}

#[test]
fn sgi_registers_respect_groups() {
    let mut m = Machine::new(1, 4);
    assert_eq!(m.sgi(0, SgiReg::Sgi0, 1 | (1 << 24)), []);
    assert_eq!(m.sgi(0, SgiReg::Asgi1, 1 | (1 << 24)), []);
    assert_eq!(m.sgi(0, SgiReg::Sgi1, 1 | (1 << 24)), [0]);
    m.set_group(0, 0, 2, false);
    assert_eq!(m.sgi(0, SgiReg::Sgi0, 1 | (2 << 24)), [0]);
    m.set_group(0, 0, 3, false);
    assert_eq!(m.sgi(0, SgiReg::Asgi1, 1 | (3 << 24)), [0]);
    m.set_group(0, 0, 4, false);
    assert_eq!(m.sgi(0, SgiReg::Sgi1, 1 | (4 << 24)), [0]);
}

#[test]
fn repeated_events_kick_once() {
    let mut m = Machine::new(2, 4);
    m.exit(1);
    assert_eq!(m.sgi(0, SgiReg::Sgi1, 2), [1]);
    assert_eq!(m.sgi(0, SgiReg::Sgi1, 2), [], "already pending");
    m.route(0, 40, 1);
    assert_eq!(m.gic.set_level(line(0, 40), true).unwrap(), Some(vcpu(1)));
    assert_eq!(m.gic.set_level(line(0, 40), true).unwrap(), None);
    assert_eq!(m.gic.set_level(line(0, 40), false).unwrap(), None);
    assert_eq!(m.gic.pulse(line(0, 40)).unwrap(), Some(vcpu(1)));
}

#[test]
fn nothing_is_forwarded_while_the_distributor_is_off() {
    let mut m = Machine::off(1, 4);
    m.write(0, GicFrame::Dist, GICD_ISENABLER::at(1), 4, 0xffff_ffff);
    assert_eq!(m.gic.set_level(line(0, 40), true).unwrap(), None);
    assert!(!m.gic.has_pending(vcpu(0), m.cpus[0].file.vmcr));
    m.set_group(0, 0, 41, false);
    assert_eq!(m.gic.set_level(line(0, 41), true).unwrap(), None);
    m.write(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4, 2);
    assert_eq!(m.acknowledge(0), 40);
    assert_eq!(m.acknowledge(0), SPURIOUS, "group 0 is off");
    m.set_level(0, 40, false);
    m.eoi(0, 40);
    m.write(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4, 1);
    assert_eq!(m.acknowledge(0), 41);
    // Disabling takes effect on what is in list registers of running vCPUs.
    m.eoi(0, 41);
    m.write(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4, 0);
    assert_eq!(m.acknowledge(0), SPURIOUS);
}

#[test]
fn a_disabled_interrupt_is_gone_when_the_write_returns() {
    let mut m = Machine::new(2, 4);
    m.set_edge(0, 40, true);
    m.set_level(0, 40, true);
    // Pending in a list register of vCPU 0, disabled by vCPU 1.
    m.write_bit(1, GICD_ICENABLER::OFFSET, 0, 40);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    assert!(m.read_bit(1, GICD_ISPENDR::OFFSET, 0, 40), "still pending");
    m.write_bit(1, GICD_ISENABLER::OFFSET, 0, 40);
    assert_eq!(m.handle(0), 40);
}

#[test]
fn waking_from_wfi_respects_masks_and_groups() {
    let mut m = Machine::new(1, 4);
    m.set_priority(0, 0, 40, 0x40);
    m.exit(0);
    m.gic.set_level(line(0, 40), true).unwrap();
    let check = |m: &mut Machine, pmr: u8, group0: bool, group1: bool| {
        m.cpus[0].set_pmr(pmr);
        m.cpus[0].set_groups(group0, group1);
        let vmcr = m.cpus[0].file.vmcr;
        m.gic.has_pending(vcpu(0), vmcr)
    };
    assert!(check(&mut m, 0xff, true, true));
    assert!(check(&mut m, 0x48, true, true));
    assert!(!check(&mut m, 0x40, true, true));
    assert!(!check(&mut m, 0xff, true, false));
    assert!(check(&mut m, 0xff, false, true));
    m.enter(0);
    m.cpus[0].set_pmr(0xff);
    m.settle(0);
    assert_eq!(m.acknowledge(0), 40);
    m.exit(0);
    assert!(!check(&mut m, 0xff, true, true), "active");
}

#[test]
fn an_idle_entry_programs_nothing_but_the_control_register() {
    let mut m = Machine::new(1, 4);
    m.bounce(0);
    let file = &m.cpus[0].file;
    assert_eq!(
        (file.count, file.to_write, file.hcr),
        (0, 0, hcr::EN | hcr::TDIR)
    );
    m.set_level(0, 40, true);
    assert_eq!((m.cpus[0].file.count, m.cpus[0].file.to_write), (1, 1));
    m.handle(0);
    m.set_level(0, 40, false);
    m.bounce(0);
    let file = &m.cpus[0].file;
    assert_eq!((file.count, file.lr[0]), (0, 0));
    m.bounce(0);
    assert_eq!(m.cpus[0].file.to_write, 0);
}

#[test]
fn list_registers_are_cleared_when_they_are_no_longer_used() {
    let mut m = Machine::new(1, 4);
    for n in 40..43 {
        m.set_edge(0, n, true);
        m.set_level(0, n, true);
    }
    assert_eq!(m.cpus[0].file.count, 3);
    for _ in 0..3 {
        m.handle(0);
    }
    m.bounce(0);
    assert_eq!((m.cpus[0].file.count, m.cpus[0].file.to_write), (0, 3));
    assert_eq!(m.cpus[0].file.lr, [0; 16]);
}

#[test]
fn another_vcpus_list_registers_are_overwritten() {
    // Two vCPUs that share a CPU with four list registers.
    let mut m = Machine::new(2, 4);
    let mut hardware = [0; 16];
    for (cpu, n) in [(0, 40), (1, 41), (0, 42)] {
        m.exit(cpu);
        m.route(0, n, cpu as u64);
        m.set_level(cpu, n, true);
        m.cpus[cpu].file.moved(false);
        m.enter(cpu);
        let file = &m.cpus[cpu].file;
        let write = usize::from(file.to_write);
        hardware[..write].copy_from_slice(&file.lr[..write]);
        assert_eq!(hardware, file.lr);
    }
    assert_eq!(m.cpus[0].file.count, 2);
    // The first entry of all does not trust the hardware either.
    let mut file = LrFile::new(4);
    m.exit(1);
    m.gic.flush(vcpu(1), &mut file, TimerSet::NONE);
    assert_eq!(file.to_write, 4);
}

#[test]
fn flush_and_sync_out_of_turn_do_nothing() {
    let mut m = Machine::new(1, 4);
    m.set_edge(0, 40, true);
    m.set_level(0, 40, true);
    let before = m.cpus[0].file.lr;
    m.gic.flush(vcpu(0), &mut m.cpus[0].file, TimerSet::NONE);
    assert_eq!(m.cpus[0].file.lr, before);
    m.exit(0);
    let mut heard = Heard::default();
    m.gic.sync(vcpu(0), &mut m.cpus[0].file, &mut heard);
    m.gic.flush(vcpu(9), &mut m.cpus[0].file, TimerSet::NONE);
    m.gic.sync(vcpu(9), &mut m.cpus[0].file, &mut heard);
    m.enter(0);
    assert_eq!(m.handle(0), 40);
}

#[test]
fn lines_that_do_not_exist_are_refused() {
    let mut m = Machine::new(1, 4);
    assert!(m.gic.set_level(line(0, 3), true).is_err());
    assert!(m.gic.set_level(line(0, 96), true).is_err());
    assert!(m.gic.set_level(line(1, 27), true).is_err());
    assert!(m.gic.watch(line(0, 96), true).is_err());
    assert_eq!(Line::spi(id(31)), None);
    assert_eq!(Line::private(vcpu(0), id(32)), None);
    let link =
        |m: &mut Machine, cpu, ppi| m.gic.link_timer(cpu, TimerId::Virtual, Some((id(ppi), 30)));
    assert!(link(&mut m, vcpu(0), 15).is_err());
    assert!(link(&mut m, vcpu(1), 27).is_err());
}

#[test]
fn reset_leaves_the_lines_alone() {
    let mut m = Machine::new(2, 4);
    m.set_level(0, 40, true);
    m.set_level(1, 20, true);
    m.sgi(0, SgiReg::Sgi1, 2);
    assert_eq!(m.acknowledge(0), 40);
    for cpu in 0..2 {
        m.exit(cpu);
    }
    m.gic.reset();
    for cpu in 0..2 {
        m.enter(cpu);
        m.cpus[cpu].active.clear();
        assert_eq!(m.cpus[cpu].file.count, 0);
    }
    assert_eq!(m.read(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4), 0x50);
    assert!(!m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 40), "an edge again");
    m.set_edge(0, 40, false);
    assert!(m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 40));
    assert!(m.read_bit(0, GICD_ISPENDR::OFFSET, 1, 20));
    assert!(!m.read_bit(0, GICD_ISPENDR::OFFSET, 1, 0));
    assert!(!m.read_bit(0, GICD_ISACTIVER::OFFSET, 0, 40));
    m.write(0, GicFrame::Dist, GICD_CTLR::OFFSET, 4, 2);
    m.write_bit(0, GICD_ISENABLER::OFFSET, 0, 40);
    assert!(m.cpus[0].held(40) != 0);
}

#[test]
fn one_redistributor_can_be_reset() {
    let mut m = Machine::new(2, 4);
    m.set_level(0, 20, true);
    m.sgi(1, SgiReg::Sgi1, 3);
    m.set_level(0, 40, true);
    m.exit(0);
    m.gic.reset_vcpu(vcpu(0));
    m.enter(0);
    assert_eq!(m.handle(1), 0);
    assert_eq!(m.handle(0), 40, "shared interrupts stay");
    assert_eq!(m.cpus[0].held(20) | m.cpus[0].held(0), 0);
    assert!(
        m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 20),
        "the line is still high"
    );
}

/// Both timers may wait at the same time; each is linked to its own physical interrupt, and only while that is active.
#[test]
fn two_linked_timers() {
    let mut m = Machine::new(1, 4);
    m.exit(0);
    for (timer, ppi, physical) in [(TimerId::Virtual, 27, 27), (TimerId::Physical, 30, 26)] {
        m.gic
            .link_timer(vcpu(0), timer, Some((id(ppi), physical)))
            .unwrap();
        m.gic.set_level(line(0, ppi), true).unwrap();
    }
    let mut file = LrFile::new(4);
    file.vmcr = m.cpus[0].file.vmcr;
    m.gic.flush(vcpu(0), &mut file, TimerSet::new(true, true));
    assert_eq!(file.linked, TimerSet::new(true, true));
    let physical = |value: u64| (value >> lr::PHYSICAL_SHIFT) & 0x1fff;
    let mut links: Vec<_> = file.lr[..2]
        .iter()
        .map(|&v| (v as u32, physical(v)))
        .collect();
    links.sort();
    assert_eq!(links, [(27, 27), (30, 26)]);
    // The guest handles the second one.
    let second = file.lr.iter_mut().find(|v| **v as u32 == 30).unwrap();
    *second &= !lr::STATE;
    let report = m.gic.sync(vcpu(0), &mut file, &mut Heard::default());
    assert_eq!(report.deactivated, TimerSet::only(TimerId::Physical));
    // The physical timer's line is up still, its physical interrupt is not active any more: no link, or its end would be nobody's.
    m.gic
        .flush(vcpu(0), &mut file, TimerSet::only(TimerId::Virtual));
    assert_eq!(file.linked, TimerSet::only(TimerId::Virtual));
    let second = file.lr.iter().find(|v| **v as u32 == 30).unwrap();
    assert_eq!(second & lr::HW, 0);
}
