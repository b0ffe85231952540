// SPDX-License-Identifier: GPL-2.0

//! LPIs: their registers, their way to the guest, and what is peculiar to them.

mod vgic;

use loft_model::model::sysreg::regs::*;
use loft_model::model::vgic::{GicFrame, LpiConfig, LpiId, LpiWork, NotRaised};
use vgic::cpu::SPURIOUS;
use vgic::lpis::lpi;
use vgic::machine::{vcpu, Machine};

fn redist(n: usize) -> GicFrame {
    GicFrame::Redist(vcpu(n))
}

/// A machine with LPIs 8192 to 8192 + n, which go to vCPU 0 with priority 0x80.
fn machine(cpus: usize, list_registers: usize, n: u32) -> Machine {
    let mut m = Machine::new(cpus, list_registers);
    m.add_lpis();
    for intid in 8192..8192 + n {
        m.map_lpi(intid, Some(0));
        m.configure_lpi(intid, 0x80, true);
    }
    m
}

#[test]
fn numbers() {
    for intid in [0, 1023, 8191, 65536, u32::MAX] {
        assert_eq!(LpiId::new(intid), None, "{intid}");
    }
    for intid in [8192, 8192 + 127, 8192 + 128, 65535] {
        let id = lpi(intid);
        assert_eq!(id.get(), intid);
        let n = id.index() % LpiId::BLOCK;
        assert_eq!(LpiId::of_block(id.block(), n as u32), Some(id));
    }
    assert_eq!(LpiId::of_block(LpiId::BLOCKS, 0), None);
    assert_eq!(LpiId::of_block(0, LpiId::BLOCK as u32), None);
    assert_eq!(lpi(65535).block(), LpiId::BLOCKS - 1);
}

#[test]
fn all_of_them_come_however_few_list_registers_there_are() {
    for list_registers in [1, 4, 16] {
        let mut m = machine(1, list_registers, 300);
        m.exit(0);
        for n in 0..300 {
            // Priorities 0x08 to 0xf0, so that each has several.
            m.configure_lpi(8192 + n, ((n % 30 + 1) * 8) as u8, true);
            assert!(m.raise_lpi(8192 + n));
        }
        m.enter(0);
        let mut last = 0;
        for _ in 0..300 {
            let intid = m.handle(0);
            assert_ne!(intid, SPURIOUS);
            let priority = (intid - 8192) % 30;
            assert!(priority >= last, "less urgent than the one before");
            last = priority;
        }
        assert_eq!(m.handle(0), SPURIOUS);
    }
}

#[test]
fn one_is_never_active_so_it_may_come_again_before_its_end() {
    let mut m = machine(1, 4, 1);
    m.raise_lpi(8192);
    assert_eq!(m.acknowledge(0), 8192);
    m.bounce(0);
    // Its priority is active, so it waits for that to drop.
    m.raise_lpi(8192);
    assert_eq!(m.acknowledge(0), SPURIOUS);
    m.eoi(0, 8192);
    assert_eq!(m.handle(0), 8192);
    assert_eq!(m.handle(0), SPURIOUS);
    // Nothing is left of it that could end another one.
    m.set_level(0, 40, true);
    assert_eq!(m.acknowledge(0), 40);
    m.set_level(0, 40, false);
    m.eoi(0, 40);
}

#[test]
fn messages_for_nobody_raise_nothing() {
    let mut m = machine(2, 4, 1);
    assert_eq!(m.gic.raise_lpi(lpi(9000)), Err(NotRaised::Unmapped));
    m.map_lpi(9000, None);
    m.configure_lpi(9000, 0x80, true);
    assert_eq!(m.gic.raise_lpi(lpi(9000)), Err(NotRaised::Unmapped));
    m.route_lpi(9000, Some(1));
    m.write(1, redist(1), GICR_CTLR::OFFSET, 4, 0);
    assert_eq!(m.gic.raise_lpi(lpi(9000)), Err(NotRaised::Disabled));
    m.write(1, redist(1), GICR_CTLR::OFFSET, 4, 1);
    assert!(m.raise_lpi(9000));
    assert_eq!(m.handle(1), 9000);
}

#[test]
fn one_that_is_disabled_waits() {
    let mut m = machine(1, 4, 1);
    m.configure_lpi(8192, 0x80, false);
    assert!(m.raise_lpi(8192));
    assert!(m.lpi_is_pending(8192));
    assert_eq!(m.handle(0), SPURIOUS);
    m.configure_lpi(8192, 0x80, true);
    assert_eq!(m.handle(0), 8192);
}

#[test]
fn it_stays_mapped_as_long_as_any_event_stands_for_it() {
    let mut m = machine(2, 4, 0);
    assert!(m.map_lpi(8192, Some(0)), "the first one");
    assert!(!m.map_lpi(8192, Some(1)), "the second one");
    m.configure_lpi(8192, 0x80, true);
    m.unmap_lpi(8192);
    assert!(m.raise_lpi(8192));
    assert_eq!(m.handle(0), 8192);
    // What is pending when the last one goes is gone with it.
    m.raise_lpi(8192);
    m.unmap_lpi(8192);
    assert_eq!(m.handle(0), SPURIOUS);
    assert!(!m.raise_lpi(8192));
    assert!(m.map_lpi(8192, Some(1)));
    assert!(!m.lpi_is_pending(8192));
    assert!(m.raise_lpi(8192), "mapped, but not enabled");
    assert_eq!(m.handle(1), SPURIOUS);
}

#[test]
fn without_an_its_there_are_none() {
    let mut m = Machine::new(1, 4);
    assert_eq!(
        m.read(0, GicFrame::Dist, GICD_TYPER::OFFSET, 4) >> 17 & 0x7f,
        9 << 2,
        "10 bits"
    );
    assert_eq!(m.read(0, redist(0), GICR_TYPER::OFFSET, 4) & 1, 0);
    m.write(0, redist(0), GICR_CTLR::OFFSET, 4, 1);
    assert_eq!(m.read(0, redist(0), GICR_CTLR::OFFSET, 4), 6);
    m.write(0, redist(0), GICR_PROPBASER::OFFSET, 8, u64::MAX);
    m.write(0, redist(0), GICR_PENDBASER::OFFSET, 8, u64::MAX);
    assert_eq!(m.read(0, redist(0), GICR_PROPBASER::OFFSET, 8), 0);
    let at_reset = 1 << 10 | 3 << 7;
    assert_eq!(
        m.read(0, redist(0), GICR_PENDBASER::OFFSET, 8),
        at_reset,
        "as KVM's"
    );
    assert!(m.lpi_work.is_empty());
    m.gic.add_lpis();
    assert_eq!(
        m.read(0, GicFrame::Dist, GICD_TYPER::OFFSET, 4) >> 17 & 0x7f,
        15 << 2 | 1
    );
    assert_eq!(m.read(0, redist(0), GICR_TYPER::OFFSET, 4) & 1, 1);
    assert_eq!(
        m.read(0, redist(0), GICR_CTLR::OFFSET, 4),
        6,
        "LPIs are disabled"
    );
    assert_eq!(m.read(0, redist(0), GICR_PROPBASER::OFFSET, 8), at_reset);
    assert_eq!(m.read(0, redist(0), GICR_PENDBASER::OFFSET, 8), at_reset);
}

#[test]
fn the_redistributor_says_what_is_to_be_done_with_the_tables() {
    let mut m = Machine::new(2, 4);
    m.gic.add_lpis();
    // Attributes that nobody would use: not shared, not cacheable.
    m.write(1, redist(1), GICR_PROPBASER::OFFSET, 8, 0x1234_5000 | 15);
    m.write(1, redist(1), GICR_PENDBASER::OFFSET, 4, 0x8765_ffff);
    m.write(1, redist(1), GICR_PENDBASER::OFFSET + 4, 4, 0x4000_0001);
    assert_eq!(
        m.read(0, redist(0), GICR_PROPBASER::OFFSET, 8),
        0x1234_5000 | 3 << 7 | 15
    );
    assert_eq!(
        m.read(0, redist(1), GICR_PENDBASER::OFFSET, 8),
        0x1_8765_0000 | 3 << 10 | 7 << 7,
        "GICR_PENDBASER.PTZ reads as zero"
    );
    assert_eq!(m.gic.lpi_limit(), 1 << 16);
    assert_eq!(m.gic.lpi_tables(vcpu(1)), (0x1234_5000, None));

    m.write(0, redist(1), GICR_INVLPIR::OFFSET, 8, 8192);
    m.write(0, redist(1), GICR_INVALLR::OFFSET, 8, 0);
    assert!(
        m.lpi_work.is_empty(),
        "there is nothing to be invalidated yet"
    );
    m.write(0, redist(1), GICR_CTLR::OFFSET, 4, 1);
    m.write(0, redist(1), GICR_CTLR::OFFSET, 4, 1);
    assert!(m.lpi_work.is_empty(), "PTZ: all zeroes, nothing to load");
    assert_eq!(m.read(0, redist(1), GICR_CTLR::OFFSET, 4), 7);
    // But what is pending is saved there.
    assert_eq!(
        m.gic.lpi_tables(vcpu(1)),
        (0x1234_5000, Some(0x1_8765_0000))
    );
    m.write(0, redist(1), GICR_PROPBASER::OFFSET, 8, 0);
    m.write(0, redist(1), GICR_PENDBASER::OFFSET, 8, 0);
    assert_eq!(
        m.read(0, redist(1), GICR_PROPBASER::OFFSET, 8) & 0xffff_f000,
        0x1234_5000
    );
    assert_eq!(
        m.read(0, redist(1), GICR_PENDBASER::OFFSET, 8) & 0xffff_0000,
        0x8765_0000
    );

    m.lpi_work.clear();
    m.write(0, redist(1), GICR_INVLPIR::OFFSET, 8, 8192);
    m.write(0, redist(1), GICR_INVLPIR::OFFSET, 8, 8191);
    m.write(0, redist(1), GICR_INVALLR::OFFSET, 4, 0);
    // What is written to the upper halves does nothing.
    m.write(0, redist(1), GICR_INVLPIR::OFFSET + 4, 4, 8192);
    m.write(0, redist(1), GICR_INVALLR::OFFSET + 4, 4, 0);
    m.write(0, redist(1), GICR_CTLR::OFFSET, 4, 0);
    assert_eq!(
        m.lpi_work,
        [
            LpiWork::Invalidate(lpi(8192)),
            LpiWork::InvalidateAll(vcpu(1)),
            LpiWork::Disabled(vcpu(1))
        ]
    );
    m.lpi_work.clear();
    m.write(0, redist(1), GICR_PENDBASER::OFFSET, 8, 0x8765_0000);
    m.write(0, redist(1), GICR_CTLR::OFFSET, 4, 1);
    assert_eq!(m.lpi_work, [LpiWork::Enabled(vcpu(1))]);
    assert_eq!(m.gic.lpi_tables(vcpu(1)), (0x1234_5000, Some(0x8765_0000)));
}

#[test]
fn disabling_takes_back_what_is_in_list_registers() {
    let mut m = machine(2, 4, 2);
    m.raise_lpi(8192);
    m.write(1, redist(0), GICR_CTLR::OFFSET, 4, 0);
    assert_eq!(m.handle(0), SPURIOUS);
    // Not until they are cleared, which is the caller's work, are they gone.
    m.set_lpi_pending(8192, false);
    m.write(1, redist(0), GICR_CTLR::OFFSET, 4, 1);
    assert_eq!(m.handle(0), SPURIOUS);
    m.raise_lpi(8193);
    assert_eq!(m.handle(0), 8193);
}

#[test]
fn those_of_a_block_can_be_listed() {
    let mut m = machine(2, 4, 0);
    for (intid, cpu) in [
        (8192, Some(0)),
        (8200, Some(1)),
        (8319, None),
        (8320, Some(0)),
    ] {
        m.map_lpi(intid, cpu);
    }
    assert_eq!(m.gic.lpis_of_block(0, None), 1 | 1 << 8 | 1 << 127);
    assert_eq!(m.gic.lpis_of_block(0, Some(vcpu(0))), 1);
    assert_eq!(m.gic.lpis_of_block(1, Some(vcpu(0))), 1);
    assert_eq!(m.gic.lpis_of_block(2, None), 0);
    assert_eq!(m.gic.lpis_of_block(LpiId::BLOCKS, None), 0);
}

#[test]
fn a_table_entry_is_a_byte() {
    assert_eq!(
        LpiConfig::new(0xa3),
        LpiConfig {
            priority: 0xa0,
            enabled: true
        }
    );
    assert!(!LpiConfig::new(0xfe).enabled);
}
