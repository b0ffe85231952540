// SPDX-License-Identifier: GPL-2.0
//! Interrupts that the guest has acknowledged, and the order in which they end: nested ones, in the
//! list registers and outside of them, and with EOImode 1.

mod vgic;

use loft_model::model::sysreg::regs::*;
use vgic::cpu::SPURIOUS;
use vgic::machine::{line, vcpu, Heard, Machine};

const LIST_REGISTERS: [usize; 4] = [1, 2, 4, 16];

#[test]
fn nested_interrupts_outside_the_list_registers_are_ended_in_order() {
    for lrs in [1, 2, 4] {
        let mut m = Machine::new(1, lrs);
        let nested: Vec<u32> = (0..16).collect();
        for &n in &nested {
            m.set_edge(0, 32 + n, true);
            m.set_priority(0, 0, 32 + n, 0xf0 - n as u8 * 8);
        }
        for &n in &nested {
            m.set_level(0, 32 + n, true);
            assert_eq!(m.acknowledge(0), 32 + n);
        }
        for &n in nested.iter().rev() {
            // A second edge shows that each is really over, and no other.
            m.set_level(0, 32 + n, true);
            m.eoi(0, 32 + n);
            assert_eq!(m.handle(0), 32 + n, "{lrs} list registers");
        }
        assert_eq!(m.handle(0), SPURIOUS);
        m.exit(0);
        for &n in &nested {
            assert!(!m.gic.is_active(line(0, 32 + n)));
        }
    }
}

#[test]
fn rewritten_priorities_do_not_confuse_the_order_of_ends() {
    let mut m = Machine::new(1, 1);
    for n in 0..3 {
        m.set_edge(0, 40 + n, true);
        m.set_priority(0, 0, 40 + n, 0xc0 - n as u8 * 0x20);
        m.set_level(0, 40 + n, true);
        assert_eq!(m.acknowledge(0), 40 + n);
        // What was acknowledged first now looks most urgent.
        m.set_priority(0, 0, 40 + n, n as u8 * 8);
    }
    // One that was never acknowledged, and another that takes the list register.
    m.write_bit(0, GICD_ISACTIVER::OFFSET, 0, 60);
    m.set_priority(0, 0, 50, 0xf0);
    m.set_level(0, 50, true);
    for n in (0..3).rev() {
        m.eoi(0, 40 + n);
        m.exit(0);
        for k in 0..3 {
            assert_eq!(m.gic.is_active(line(0, 40 + k)), k < n, "end of {n}, {k}");
        }
        assert!(m.gic.is_active(line(0, 60)));
        m.enter(0);
    }
}

#[test]
fn what_was_acknowledged_ends_before_what_was_made_active() {
    for lrs in [1, 2, 4, 16] {
        let mut m = Machine::new(1, lrs);
        // More, and more urgent, than anybody looks at one by one.
        for n in 40..96 {
            m.set_priority(0, 0, n, 0);
            m.write_bit(0, GICD_ISACTIVER::OFFSET, 0, n);
        }
        // One of each priority but the two outermost.
        let nested: Vec<u32> = (0..8).chain(16..32).chain(34..40).collect();
        for (&n, priority) in nested.iter().zip((1..31).rev()) {
            m.set_priority(0, 0, n, priority * 8);
            m.write_bit(0, GICD_ISPENDR::OFFSET, 0, n);
            assert_eq!(m.acknowledge(0), n);
        }
        for (left, &n) in nested.iter().enumerate().rev() {
            m.eoi(0, n);
            m.exit(0);
            for (k, &other) in nested.iter().enumerate() {
                let active = m.gic.is_active(line(0, other));
                assert_eq!(
                    active,
                    k < left,
                    "{lrs} list registers, end of {n}: {other}"
                );
            }
            assert!((40..96).all(|n| m.gic.is_active(line(0, n))));
            m.enter(0);
        }
    }
}

#[test]
fn a_restored_nest_ends_by_priority() {
    for lrs in [1, 2, 4] {
        let mut m = Machine::new(1, lrs);
        let nested: Vec<u32> = [20, 40, 3, 60, 33, 9].to_vec();
        for (&n, priority) in nested.iter().zip((1..30).rev()) {
            m.set_priority(0, 0, n, priority * 8);
            m.write_bit(0, GICD_ISACTIVER::OFFSET, 0, n);
            let running = m.cpus[0].group_priority(true, priority * 8);
            m.cpus[0].active.push((true, running));
        }
        m.bounce(0);
        for (left, &n) in nested.iter().enumerate().rev() {
            m.eoi(0, n);
            m.exit(0);
            let active = |&n: &u32| m.gic.is_active(line(0, n));
            assert!(nested[..left].iter().all(active), "{lrs}: end of {n}");
            assert!(!nested[left..].iter().any(active), "{lrs}: end of {n}");
            m.enter(0);
        }
    }
}

#[test]
fn split_eoi_ends_in_any_order_and_on_any_vcpu() {
    for lrs in LIST_REGISTERS {
        let mut m = Machine::new(2, lrs);
        for cpu in 0..2 {
            m.cpus[cpu].set_split_eoi(true);
            m.bounce(cpu);
        }
        for n in 40..46 {
            m.set_edge(0, n, true);
            m.set_level(0, n, true);
            assert_eq!(m.acknowledge(0), n);
            m.eoi(0, n);
        }
        for n in [43, 40, 45, 41, 44, 42] {
            m.set_level(0, n, true);
            assert_eq!(m.acknowledge(0), SPURIOUS, "still active");
            m.dir(usize::from(n % 2 == 0), n);
            assert_eq!(m.acknowledge(0), n);
            m.eoi(0, n);
        }
    }
}

#[test]
fn the_eoi_mode_changes_without_an_exit() {
    // vCPU 1 selects EOImode 1 and ends what vCPU 0 has acknowledged before it ever leaves the guest.
    let mut m = Machine::new(2, 4);
    m.set_edge(0, 40, true);
    m.set_level(0, 40, true);
    for cpu in 0..2 {
        m.cpus[cpu].set_split_eoi(true);
    }
    assert_eq!(m.acknowledge(0), 40);
    m.eoi(0, 40);
    m.dir(1, 40);
    assert!(!m.read_bit(0, GICD_ISACTIVER::OFFSET, 0, 40));
}

#[test]
fn dir_means_nothing_without_split_eoi_or_without_interrupt() {
    let mut m = Machine::new(1, 4);
    m.set_edge(0, 40, true);
    m.set_level(0, 40, true);
    assert_eq!(m.acknowledge(0), 40);
    m.exit(0);
    let mut heard = Heard::default();
    m.gic.deactivate(vcpu(0), 40, 0, &mut heard).unwrap();
    assert!(m.gic.is_active(line(0, 40)));
    let split = ICH_VMCR_EL2::VEOIM.mask();
    for intid in [1020, 1023, 8192, 0xff_ffff] {
        m.gic.deactivate(vcpu(0), intid, split, &mut heard).unwrap();
    }
    m.gic.deactivate(vcpu(0), 40, split, &mut heard).unwrap();
    assert!(!m.gic.is_active(line(0, 40)));
}
