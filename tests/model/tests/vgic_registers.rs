// SPDX-License-Identifier: GPL-2.0

//! Each register of the distributor and the redistributors: what the guest reads, writes, and may not.

mod vgic;

use loft_model::model::sysreg::regs::*;
use loft_model::model::vgic::{Error, GicConfig, GicFrame};
use vgic::machine::{id, line, vcpu, Heard, Machine};
use vgic::storage::{controller, redists};

const DIST: GicFrame = GicFrame::Dist;
const SGI: u32 = 0x1_0000;

fn redist(n: usize) -> GicFrame {
    GicFrame::Redist(vcpu(n))
}

#[test]
fn out_of_reset() {
    let mut m = Machine::off(2, 4);
    let expected = [
        (DIST, GICD_CTLR::OFFSET, 0x50),
        (DIST, GICD_TYPER::OFFSET, (1 << 25) | (9 << 19) | 2),
        (DIST, GICD_IIDR::OFFSET, 0x4b00_343b),
        (DIST, GICD_TYPER2::OFFSET, 0),
        (DIST, GICD_STATUSR::OFFSET, 0),
        (DIST, GICD_IGROUPR::OFFSET, 0),
        (DIST, GICD_IGROUPR::at(1), 0xffff_ffff),
        (DIST, GICD_ISENABLER::at(1), 0),
        (DIST, GICD_ICENABLER::at(1), 0),
        (DIST, GICD_ISPENDR::at(1), 0),
        (DIST, GICD_ISACTIVER::at(1), 0),
        (DIST, GICD_IPRIORITYR::at(8), 0),
        (DIST, GICD_ICFGR::at(2), 0xaaaa_aaaa),
        (DIST, GICD_ICFGR::at(5), 0xaaaa_aaaa),
        (DIST, GICD_IROUTER::at(32), 0),
        (DIST, GICD_PIDR2::OFFSET, 0x3b),
        (DIST, GICD_PIDR4::OFFSET, 0),
        (redist(0), GICR_CTLR::OFFSET, 0b110),
        (redist(0), GICR_IIDR::OFFSET, 0x4b00_043b),
        (redist(0), GICR_STATUSR::OFFSET, 0),
        (redist(0), GICR_WAKER::OFFSET, 0),
        (redist(0), GICR_SYNCR::OFFSET, 0),
        (redist(0), GICR_PIDR2::OFFSET, 0x3b),
        (redist(0), GICR_IGROUPR0::OFFSET, 0xffff_ffff),
        (redist(0), GICR_ISENABLER0::OFFSET, 0x0000_ffff),
        (redist(0), GICR_IPRIORITYR::OFFSET, 0),
        (redist(0), GICR_ICFGR0::OFFSET, 0xaaaa_aaaa),
        (redist(0), GICR_ICFGR0::at(1), 0),
    ];
    for (frame, offset, value) in expected {
        let name = frame.register(offset);
        assert_eq!(m.read(0, frame, offset, 4), value, "{name:?} {offset:#x}");
    }
}

#[test]
fn the_number_of_interrupts_shows_in_typer() {
    for (n, lines) in [(64, 1), (256, 7), (992, 30)] {
        let mut config = GicConfig::default();
        config.set_nr_irqs(n).unwrap();
        let gic = controller(&config, redists(1), config.spi_blocks()).unwrap();
        let typer = gic.mmio_read(vcpu(0), DIST, GICD_TYPER::OFFSET, 4).unwrap();
        assert_eq!(typer & 0x1f, lines);
        // The last SPI is there.
        let last = n - 1;
        let (offset, bit) = (0x100 + last / 32 * 4, last % 32);
        gic.mmio_write(vcpu(0), DIST, offset, 4, 1 << bit, &mut Heard::default())
            .unwrap();
        let on = gic.mmio_read(vcpu(0), DIST, offset, 4).unwrap();
        assert_eq!(on, 1 << bit);
        // Beyond, nothing is.
        let mut heard = Heard::default();
        gic.mmio_write(vcpu(0), DIST, offset + 4, 4, u64::MAX, &mut heard)
            .unwrap();
        assert_eq!(gic.mmio_read(vcpu(0), DIST, offset + 4, 4), Ok(0));
    }
}

#[test]
fn redist_typer_tells_who_it_is() {
    let mut m = Machine::off(18, 4);
    m.gic.set_last(vcpu(17), true);
    let typer = m.read(0, redist(17), GICR_TYPER::OFFSET, 8);
    assert_eq!(typer, (0x0101 << 32) | (17 << 8) | (1 << 4));
    assert_eq!(
        m.read(0, redist(17), GICR_TYPER::OFFSET, 4),
        typer & 0xffff_ffff
    );
    assert_eq!(
        m.read(0, redist(17), GICR_TYPER::OFFSET + 4, 4),
        typer >> 32
    );
    assert_eq!(
        m.read(0, redist(16), GICR_TYPER::OFFSET, 8),
        (0x0100 << 32) | (16 << 8)
    );
    m.gic.set_last(vcpu(17), false);
    assert_eq!(m.read(0, redist(17), GICR_TYPER::OFFSET, 8) & (1 << 4), 0);
    m.write(0, redist(17), GICR_TYPER::OFFSET, 8, 0);
    assert_eq!(m.read(0, redist(17), GICR_TYPER::OFFSET, 8) >> 32, 0x0101);
}

#[test]
fn bits_are_set_and_cleared_one_by_one() {
    let mut m = Machine::off(2, 4);
    for (set, clear) in [(0x100, 0x180), (0x200, 0x280), (0x300, 0x380)] {
        for (frame, base, first) in [
            (DIST, 4, 0u64),
            (redist(1), SGI, 0xffff),
            (redist(0), SGI, 0xffff),
        ] {
            let at = |offset| base + offset;
            // SGIs are enabled out of reset.
            let first = if set == 0x100 { first } else { 0 };
            assert_eq!(m.read(0, frame, at(set), 4), first);
            m.write(0, frame, at(set), 4, 0x8000_0001);
            m.write(0, frame, at(set), 4, 0x0010_0000);
            m.write(0, frame, at(set), 4, 0);
            assert_eq!(m.read(0, frame, at(set), 4), 0x8010_0001 | first);
            assert_eq!(m.read(1, frame, at(clear), 4), 0x8010_0001 | first);
            m.write(0, frame, at(clear), 4, 0x8000_0001);
            m.write(0, frame, at(clear), 4, 0);
            assert_eq!(m.read(0, frame, at(set), 4), (0x0010_0000 | first) & !1);
            m.write(0, frame, at(clear), 4, 0xffff_ffff);
            assert_eq!(m.read(0, frame, at(clear), 4), 0);
        }
    }
}

#[test]
fn redistributors_are_separate() {
    let mut m = Machine::off(2, 4);
    m.write(0, redist(1), GICR_ISPENDR0::OFFSET, 4, 0x80);
    assert_eq!(m.read(1, redist(0), GICR_ISPENDR0::OFFSET, 4), 0);
    assert_eq!(m.read(0, redist(1), GICR_ISPENDR0::OFFSET, 4), 0x80);
    assert_eq!(
        m.read(0, DIST, GICD_ISPENDR::OFFSET, 4),
        0,
        "the distributor has no private ones"
    );
    m.write(0, DIST, GICD_ISENABLER::OFFSET, 4, 0xffff_ffff);
    m.write(0, DIST, GICD_IPRIORITYR::OFFSET, 4, 0xffff_ffff);
    m.write(0, DIST, GICD_ICFGR::at(1), 4, 0xffff_ffff);
    m.write(0, DIST, GICD_IROUTER::OFFSET, 8, 1);
    assert_eq!(m.read(0, redist(0), GICR_ISENABLER0::OFFSET, 4), 0xffff);
    assert_eq!(m.read(0, redist(0), GICR_IPRIORITYR::OFFSET, 4), 0);
    assert_eq!(m.read(0, redist(0), GICR_ICFGR0::at(1), 4), 0);
    assert_eq!(m.read(0, DIST, GICD_IROUTER::OFFSET, 8), 0);
}

#[test]
fn priorities_have_five_bits_and_bytes() {
    let mut m = Machine::off(1, 4);
    m.write(0, DIST, GICD_IPRIORITYR::at(8), 4, 0xff07_a9c8);
    assert_eq!(m.read(0, DIST, GICD_IPRIORITYR::at(8), 4), 0xf800_a8c8);
    assert_eq!(m.read(0, DIST, GICD_IPRIORITYR::at(8) + 1, 1), 0xa8);
    m.write(0, DIST, GICD_IPRIORITYR::at(8) + 1, 1, 0x55);
    assert_eq!(m.read(0, DIST, GICD_IPRIORITYR::at(8), 4), 0xf800_50c8);
    m.write(0, redist(0), GICR_IPRIORITYR::at(7) + 3, 1, 0xf0);
    assert_eq!(m.read(0, redist(0), GICR_IPRIORITYR::at(7), 4), 0xf000_0000);
    // Half-words are not a size that it has.
    m.write(0, DIST, GICD_IPRIORITYR::at(8), 2, 0);
    assert_eq!(m.read(0, DIST, GICD_IPRIORITYR::at(8), 2), 0);
    assert_eq!(m.read(0, DIST, GICD_IPRIORITYR::at(8), 4), 0xf800_50c8);
}

#[test]
fn configuration_is_for_shared_interrupts() {
    let mut m = Machine::off(1, 4);
    m.write(0, DIST, GICD_ICFGR::at(2), 4, 0xc000_0006);
    assert_eq!(
        m.read(0, DIST, GICD_ICFGR::at(2), 4),
        0x8000_0002,
        "bit 0 of each is reserved"
    );
    m.write(0, redist(0), GICR_ICFGR0::OFFSET, 4, 0);
    m.write(0, redist(0), GICR_ICFGR0::at(1), 4, 0xffff_ffff);
    assert_eq!(m.read(0, redist(0), GICR_ICFGR0::OFFSET, 4), 0xaaaa_aaaa);
    assert_eq!(m.read(0, redist(0), GICR_ICFGR0::at(1), 4), 0);
}

#[test]
fn routes_are_affinities_without_the_fourth_level() {
    let mut m = Machine::off(2, 4);
    m.write(0, DIST, GICD_IROUTER::at(32), 8, u64::MAX);
    assert_eq!(m.read(0, DIST, GICD_IROUTER::at(32), 8), 0xff_ffff);
    assert_eq!(m.read(0, DIST, GICD_IROUTER::at(32), 4), 0xff_ffff);
    assert_eq!(m.read(0, DIST, GICD_IROUTER::at(32) + 4, 4), 0);
    m.write(0, DIST, GICD_IROUTER::at(32), 4, 1);
    m.write(0, DIST, GICD_IROUTER::at(32) + 4, 4, 1);
    assert_eq!(m.read(0, DIST, GICD_IROUTER::at(32), 8), 1);
    assert_eq!(m.read(0, DIST, GICD_IROUTER::at(33), 8), 0);
}

#[test]
fn groups_are_writable() {
    let mut m = Machine::off(1, 4);
    m.write(0, DIST, GICD_IGROUPR::at(1), 4, 0x1234_5678);
    assert_eq!(m.read(0, DIST, GICD_IGROUPR::at(1), 4), 0x1234_5678);
    m.write(0, redist(0), GICR_IGROUPR0::OFFSET, 4, 0x8765_4321);
    assert_eq!(m.read(0, redist(0), GICR_IGROUPR0::OFFSET, 4), 0x8765_4321);
}

#[test]
fn ctlr_keeps_the_group_enables_only() {
    let mut m = Machine::off(1, 4);
    m.write(0, DIST, GICD_CTLR::OFFSET, 4, 0xffff_ffff);
    assert_eq!(m.read(0, DIST, GICD_CTLR::OFFSET, 4), 0x53);
    m.write(0, DIST, GICD_CTLR::OFFSET, 4, 2);
    assert_eq!(m.read(0, DIST, GICD_CTLR::OFFSET, 4), 0x52);
}

#[test]
fn read_only_and_reserved_registers_ignore_writes() {
    let mut m = Machine::off(1, 4);
    let offsets = [
        (
            DIST,
            vec![
                0x4, 0x8, 0xc, 0x40, 0x48, 0x800, 0x820, 0xd04, 0xe00, 0xf00, 0xf10, 0xf20, 0x1000,
                0xc000, 0xffe8,
            ],
        ),
        (
            redist(0),
            vec![
                0x0,
                0x4,
                0x14,
                0x40,
                0x70,
                0x78,
                0xa0,
                0xb0,
                0xc0,
                0xffe8,
                SGI + 0xd00,
                SGI + 0xe00,
                SGI + 0xffe8,
            ],
        ),
    ];
    for (frame, offsets) in offsets {
        for offset in offsets {
            let before = m.read(0, frame, offset, 4);
            m.write(0, frame, offset, 4, 0xffff_ffff);
            assert_eq!(m.read(0, frame, offset, 4), before, "{offset:#x}");
        }
    }
}

#[test]
fn sizes_and_alignment_are_enforced() {
    let mut m = Machine::off(1, 4);
    for (offset, size) in [
        (0, 1),
        (0, 2),
        (0, 8),
        (4, 8),
        (0x6100, 2),
        (0x6101, 4),
        (0x6104, 8),
        (0x106, 4),
    ] {
        assert_eq!(m.read(0, DIST, offset, size), 0, "{offset:#x} {size}");
        m.write(0, DIST, offset, size, 3);
    }
    assert_eq!(m.read(0, DIST, GICD_CTLR::OFFSET, 4), 0x50);
    let mut heard = Heard::default();
    for (frame, offset, size) in [
        (DIST, 0x1_0000, 4),
        (redist(0), 0x2_0000, 4),
        (DIST, GICD_CTLR::OFFSET, 3),
        (DIST, GICD_CTLR::OFFSET, 0),
        (DIST, GICD_CTLR::OFFSET, 16),
    ] {
        assert_eq!(
            m.gic.mmio_read(vcpu(0), frame, offset, size),
            Err(Error::BadAccess)
        );
        assert_eq!(
            m.gic
                .mmio_write(vcpu(0), frame, offset, size, 0, &mut heard),
            Err(Error::BadAccess)
        );
    }
    assert_eq!(
        m.gic.mmio_read(vcpu(0), redist(1), GICR_CTLR::OFFSET, 4),
        Err(Error::NoVcpu)
    );
}

#[test]
fn pending_reads_the_line_and_the_latch() {
    let mut m = Machine::off(1, 4);
    m.set_edge(0, 40, false);
    m.gic.set_level(line(0, 40), true).unwrap();
    assert!(m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 40));
    m.write_bit(0, GICD_ICPENDR::OFFSET, 0, 40);
    assert!(
        m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 40),
        "the line is still high"
    );
    m.write_bit(0, GICD_ISPENDR::OFFSET, 0, 40);
    m.gic.set_level(line(0, 40), false).unwrap();
    assert!(m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 40), "latched");
    m.write_bit(0, GICD_ICPENDR::OFFSET, 0, 40);
    assert!(!m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 40));
}

#[test]
fn status_is_written_by_ones_and_restored_whole() {
    let mut m = Machine::off(1, 4);
    for frame in [DIST, redist(0)] {
        m.gic
            .user_write(
                frame,
                GICR_STATUSR::OFFSET,
                0xffff_ffff,
                &mut Heard::default(),
            )
            .unwrap();
        assert_eq!(m.read(0, frame, GICR_STATUSR::OFFSET, 4), 0xf);
        m.write(0, frame, GICR_STATUSR::OFFSET, 4, 5);
        assert_eq!(m.read(0, frame, GICR_STATUSR::OFFSET, 4), 0xa);
        m.gic
            .user_write(frame, GICR_STATUSR::OFFSET, 1, &mut Heard::default())
            .unwrap();
        assert_eq!(m.gic.user_read(frame, GICR_STATUSR::OFFSET), Ok(1));
    }
}

#[test]
fn a_group_is_off_when_all_have_given_its_interrupts_back() {
    let mut m = Machine::new(3, 4);
    m.route(0, 40, 1);
    m.set_edge(0, 40, true);
    m.set_level(0, 40, true);
    let mut heard = Heard::default();
    let mut write = |m: &mut Machine, by, value| {
        m.gic
            .mmio_write(vcpu(by), DIST, GICD_CTLR::OFFSET, 4, value, &mut heard)
    };
    assert!(m.gic.keeps_ctlr(3));
    assert!(matches!(write(&mut m, 0, 0), Err(Error::NeedSync(_))));
    // It reads so, but is not yet.
    assert_eq!(m.gic.ctlr(), 0x8000_0050);
    assert!(!m.gic.keeps_ctlr(0));
    assert!(matches!(write(&mut m, 2, 0), Err(Error::NeedSync(_))));
    m.exit(1);
    assert_eq!(write(&mut m, 0, 0), Ok(()));
    assert_eq!(m.gic.ctlr(), 0x50);
    assert!(m.gic.keeps_ctlr(0));
    // What has been enabled meanwhile is not called complete by a write of something else.
    assert_eq!(write(&mut m, 0, 3), Ok(()));
    m.enter(1);
    assert!(matches!(write(&mut m, 0, 1), Err(Error::NeedSync(_))));
    assert_eq!(write(&mut m, 2, 3), Ok(()));
    assert_eq!(m.gic.ctlr(), 0x53);
}

#[test]
fn who_has_to_come_out_is_named() {
    let mut m = Machine::new(3, 4);
    m.route(0, 40, 1);
    m.set_edge(0, 40, true);
    m.set_level(0, 40, true);
    let stale = |result: Result<u64, Error>| match result {
        Err(Error::NeedSync(stale)) => {
            let others: Vec<_> = stale.others.iter().map(|v| v.index()).collect();
            (stale.own, others)
        }
        other => panic!("{other:?}"),
    };
    for offset in [0x204, 0x284, 0x304, 0x384] {
        assert_eq!(
            stale(m.gic.mmio_read(vcpu(0), DIST, offset, 4)),
            (false, vec![1])
        );
        assert_eq!(
            stale(m.gic.mmio_read(vcpu(1), DIST, offset, 4)),
            (true, vec![])
        );
        // Another word is not concerned.
        assert!(m.gic.mmio_read(vcpu(0), DIST, offset + 4, 4).is_ok());
    }
    let mut heard = Heard::default();
    for offset in [0x184, 0x204, 0x284, 0x304, 0x384] {
        let write = |m: &mut Machine, value, heard: &mut Heard| {
            m.gic.mmio_write(vcpu(0), DIST, offset, 4, value, heard)
        };
        assert!(
            matches!(write(&mut m, 1 << 8, &mut heard), Err(Error::NeedSync(_))),
            "{offset:#x}"
        );
        assert_eq!(write(&mut m, 1 << 9, &mut heard), Ok(()), "{offset:#x}");
    }
    // Priority, group, route and enabling take effect at the next exit, which is asked for.
    for (offset, value) in [(0x84, 0), (0x428, 0x20), (0x6140, 2)] {
        let mut heard = Heard::default();
        m.gic
            .mmio_write(vcpu(0), DIST, offset, 4, value, &mut heard)
            .unwrap();
        assert_eq!(heard.kicks, [1], "{offset:#x}");
    }
    // Userspace waits as well.
    assert!(matches!(
        m.gic.user_read(DIST, GICD_ISPENDR::at(1)),
        Err(Error::NeedSync(_))
    ));
    assert!(matches!(
        m.gic
            .user_write(DIST, GICD_ISPENDR::at(1), 0, &mut Heard::default()),
        Err(Error::NeedSync(_))
    ));
    // A failed access has changed nothing.
    m.exit(1);
    assert!(m.read_bit(0, GICD_ISPENDR::OFFSET, 0, 40));
    assert!(!m.read_bit(0, GICD_ISACTIVER::OFFSET, 0, 40));
    // What only is active there can be disabled at once.
    m.route(0, 40, 1);
    m.write(0, DIST, GICD_IGROUPR::at(1), 4, u64::MAX);
    m.enter(1);
    assert_eq!(m.acknowledge(1), 40);
    m.bounce(1);
    assert_eq!(
        m.gic.mmio_write(
            vcpu(0),
            DIST,
            GICD_ICENABLER::at(1),
            4,
            1 << 8,
            &mut Heard::default()
        ),
        Ok(())
    );
}

#[test]
fn names_for_traces() {
    assert_eq!(DIST.register(0x104), Some("GICD_ISENABLER"));
    assert_eq!(redist(0).register(SGI + 0x100), Some("GICR_ISENABLER0"));
    assert_eq!(redist(0).register(SGI + 0x104), None);
    assert_eq!(DIST.register(0x7ff8), Some("GICD_IROUTER"));
    assert_eq!(id(1019).get(), 1019);
}
