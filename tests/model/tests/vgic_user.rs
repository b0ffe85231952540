// SPDX-License-Identifier: GPL-2.0

//! What userspace configures, saves and restores.

mod vgic;

use loft_model::model::sysreg::regs::*;
use loft_model::model::vgic::{CpuIf, Error, GicConfig, GicFrame};
use vgic::cpu::SPURIOUS;
use vgic::machine::{line, vcpu, Heard, Machine};
use vgic::storage::{controller, redists};

const DIST: GicFrame = GicFrame::Dist;
const SGI: u32 = 0x1_0000;

fn redist(n: usize) -> GicFrame {
    GicFrame::Redist(vcpu(n))
}

#[test]
fn numbers_of_interrupts() {
    let mut config = GicConfig::default();
    assert_eq!((config.nr_irqs(), config.spi_blocks()), (256, 7));
    for n in [0, 32, 63, 65, 991, 993, 1020, 1023, 1024, 1056, u32::MAX] {
        assert_eq!(config.set_nr_irqs(n), Err(Error::Invalid), "{n}");
    }
    assert_eq!(config.set_nr_irqs(96), Ok(()));
    assert_eq!((config.nr_irqs(), config.spi_blocks()), (96, 2));
    assert_eq!(config.set_nr_irqs(128), Err(Error::Busy));
    assert_eq!(config.set_nr_irqs(127), Err(Error::Invalid));
    assert_eq!(config.nr_irqs(), 96);
    let new = |vcpus, blocks| controller(&config, redists(vcpus), blocks);
    assert!(new(1, 3).is_err());
    assert!(new(0, 2).is_ok());
    assert!(new(513, 2).is_err());
    assert!(new(512, 2).is_ok());
}

#[test]
fn registers_that_userspace_can_save_come_with_the_number_of_interrupts() {
    let mut config = GicConfig::default();
    assert!(!config.is_sized());
    let there = |config: &GicConfig, offset| config.user_has(DIST, offset);
    assert!(
        there(&config, GICD_CTLR::OFFSET)
            && !there(&config, GICD_CTLR::OFFSET + 2)
            && !there(&config, 0x5000)
    );
    assert!(!there(&config, 0x1_0000));
    // GICD_ISENABLER0 is there, if for nothing.
    assert!(there(&config, GICD_ISENABLER::OFFSET) && !there(&config, GICD_ISENABLER::at(1)));
    assert!(config.user_has(redist(7), GICR_WAKER::OFFSET) && !config.user_has(redist(7), 0x1000));
    config.set_nr_irqs(96).unwrap();
    assert!(config.is_sized());
    assert!(there(&config, GICD_ISENABLER::at(2)) && !there(&config, GICD_ISENABLER::at(3)));
    let gic = controller(&config, redists(1), config.spi_blocks()).unwrap();
    for offset in (0..0x1_0004).step_by(2) {
        assert_eq!(
            gic.user_has(DIST, offset),
            there(&config, offset),
            "{offset:#x}"
        );
    }
}

#[test]
fn the_revision_is_agreed_on_first() {
    let mut config = GicConfig::default();
    assert_eq!(config.user_read(GICD_IIDR::OFFSET), Ok(0x4b00_343b));
    assert_eq!(config.user_read(GICD_TYPER2::OFFSET), Ok(0));
    assert_eq!(config.user_read(GICD_CTLR::OFFSET), Err(Error::Busy));
    assert_eq!(config.user_write(GICD_CTLR::OFFSET, 0), Err(Error::Busy));
    assert_eq!(config.user_write(GICD_TYPER2::OFFSET, 0), Ok(()));
    assert_eq!(
        config.user_write(GICD_TYPER2::OFFSET, 0x100),
        Err(Error::Invalid)
    );
    for bad in [0x4b00_143b, 0x4b00_443b, 0x4c00_343b, 0x4b00_343a, 0] {
        assert_eq!(
            config.user_write(GICD_IIDR::OFFSET, bad),
            Err(Error::Invalid),
            "{bad:#x}"
        );
    }
    assert_eq!(config.user_write(GICD_IIDR::OFFSET, 0x4b00_243b), Ok(()));
    let gic = controller(&config, redists(1), config.spi_blocks()).unwrap();
    assert_eq!(gic.user_read(DIST, GICD_IIDR::OFFSET), Ok(0x4b00_243b));
    assert_eq!(
        gic.user_read(redist(0), GICR_CTLR::OFFSET),
        Ok(0),
        "revision 2 has no CES and IR"
    );
    assert_eq!(
        gic.user_write(DIST, GICD_IIDR::OFFSET, 0x4b00_343b, &mut Heard::default()),
        Ok(())
    );
    assert_eq!(gic.user_read(redist(0), GICR_CTLR::OFFSET), Ok(6));
    assert_eq!(
        gic.user_write(DIST, GICD_IIDR::OFFSET, 0x4b00_143b, &mut Heard::default()),
        Err(Error::Invalid)
    );
    assert_eq!(
        gic.user_write(DIST, GICD_TYPER2::OFFSET, 0, &mut Heard::default()),
        Ok(())
    );
    assert_eq!(
        gic.user_write(DIST, GICD_TYPER2::OFFSET, 0x100, &mut Heard::default()),
        Err(Error::Busy)
    );
}

#[test]
fn the_latch_is_apart_from_the_line() {
    let mut m = Machine::off(1, 4);
    m.set_edge(0, 40, false);
    m.gic.set_level(line(0, 40), true).unwrap();
    assert_eq!(m.gic.user_read(DIST, GICD_ISPENDR::at(1)), Ok(0));
    assert_eq!(m.gic.level_info(vcpu(0), 32), Ok(1 << 8));
    m.gic
        .user_write(DIST, GICD_ISPENDR::at(1), 0x300, &mut Heard::default())
        .unwrap();
    assert_eq!(m.gic.user_read(DIST, GICD_ISPENDR::at(1)), Ok(0x300));
    m.gic
        .user_write(DIST, GICD_ISPENDR::at(1), 0x200, &mut Heard::default())
        .unwrap();
    assert_eq!(
        m.gic.user_read(DIST, GICD_ISPENDR::at(1)),
        Ok(0x200),
        "zeroes are written too"
    );
    assert_eq!(m.read(0, DIST, GICD_ISPENDR::at(1), 4), 0x300);
    m.gic
        .user_write(DIST, GICD_ICPENDR::at(1), 0x300, &mut Heard::default())
        .unwrap();
    assert_eq!(m.gic.user_read(DIST, GICD_ICPENDR::at(1)), Ok(0));
    assert_eq!(m.gic.user_read(DIST, GICD_ISPENDR::at(1)), Ok(0x200));
    m.gic
        .user_write(
            redist(0),
            GICR_ISPENDR0::OFFSET,
            0x0010_0001,
            &mut Heard::default(),
        )
        .unwrap();
    assert_eq!(
        m.gic.user_read(redist(0), GICR_ISPENDR0::OFFSET),
        Ok(0x0010_0001)
    );
}

#[test]
fn levels_are_saved_and_restored() {
    let mut m = Machine::new(2, 4);
    for cpu in 0..2 {
        m.exit(cpu);
    }
    assert_eq!(m.gic.level_info(vcpu(0), 8), Err(Error::Invalid));
    assert_eq!(m.gic.set_level_info(vcpu(0), 40, 0), Err(Error::Invalid));
    m.gic.set_level_info(vcpu(1), 0, u32::MAX).unwrap();
    assert_eq!(m.gic.level_info(vcpu(1), 0), Ok(0xffff_0000), "not SGIs");
    assert_eq!(m.gic.level_info(vcpu(0), 0), Ok(0), "private");
    m.gic.set_level_info(vcpu(1), 64, 0x8000_0001).unwrap();
    assert_eq!(m.gic.level_info(vcpu(0), 64), Ok(0x8000_0001));
    m.gic.set_level_info(vcpu(0), 96, u32::MAX).unwrap();
    assert_eq!(m.gic.level_info(vcpu(0), 96), Ok(0), "beyond the last");
    m.gic
        .set_level_info(vcpu(0), u32::MAX - 31, u32::MAX)
        .unwrap();
    // The level of an edge is kept, so that the order of restoring does not matter, but not shown.
    m.set_edge(0, 64, true);
    assert_eq!(m.gic.level_info(vcpu(0), 64), Ok(0x8000_0000));
    m.set_edge(0, 64, false);
    assert_eq!(m.gic.level_info(vcpu(0), 64), Ok(0x8000_0001));
    m.gic.set_level_info(vcpu(0), 64, 0).unwrap();
    assert_eq!(m.gic.level_info(vcpu(0), 64), Ok(0));
}

#[test]
fn the_set_of_registers_is_kvms() {
    let m = Machine::off(1, 4);
    let present = [
        (
            DIST,
            vec![
                0, 4, 8, 0xc, 0x10, 0x80, 0x84, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380, 0x400,
                0x45c, 0x800, 0xc00, 0xd00, 0x6100, 0x6104, 0xffd0, 0xffe8,
            ],
        ),
        (
            redist(0),
            vec![
                0,
                4,
                8,
                0xc,
                0x10,
                0x14,
                0x70,
                0x74,
                0x78,
                0xa0,
                0xb0,
                0xc0,
                0xffe8,
                SGI + 0x80,
                SGI + 0x100,
                SGI + 0x180,
                SGI + 0x200,
                SGI + 0x280,
                SGI + 0x300,
                SGI + 0x380,
                SGI + 0x400,
                SGI + 0x41c,
                SGI + 0xc00,
                SGI + 0xc04,
                SGI + 0xd00,
                SGI + 0xe00,
            ],
        ),
    ];
    for (frame, offsets) in present {
        for offset in offsets {
            assert!(m.gic.user_has(frame, offset), "{frame:?} {offset:#x}");
        }
    }
    let absent = [
        (
            DIST,
            vec![
                0x14, 0x40, 0x8c, 0x460, 0xc18, 0xe00, 0xf00, 0xf10, 0xf20, 0x6300, 0x1_0000, 2,
                0x82,
            ],
        ),
        (
            redist(0),
            vec![
                0x18,
                0x40,
                0xc4,
                SGI,
                SGI + 0x84,
                SGI + 0x104,
                SGI + 0x420,
                SGI + 0xc08,
                0x2_0000,
            ],
        ),
        (redist(1), vec![0]),
    ];
    for (frame, offsets) in absent {
        for offset in offsets {
            assert!(!m.gic.user_has(frame, offset), "{frame:?} {offset:#x}");
        }
    }
    // As with KVM, what is not there reads as zero all the same.
    assert_eq!(m.gic.user_read(DIST, GICD_SGIR::OFFSET), Ok(0));
    assert_eq!(
        m.gic
            .user_write(DIST, GICD_SGIR::OFFSET, 1, &mut Heard::default()),
        Ok(())
    );
    assert_eq!(
        m.gic.user_read(redist(1), GICR_CTLR::OFFSET),
        Err(Error::NoVcpu)
    );
}

/// A VM that was saved register by register goes on where it was.
#[test]
fn a_saved_machine_goes_on() {
    let mut m = Machine::new(2, 4);
    for n in 40..46 {
        m.set_edge(0, n, n % 2 == 0);
        m.set_priority(0, 0, n, (n as u8 - 36) * 8);
        m.route(0, n, u64::from(n % 2));
    }
    for n in [40, 41, 42, 43] {
        m.set_level(0, n, true);
    }
    m.set_level(1, 20, true);
    assert_eq!(m.acknowledge(0), 40);
    assert_eq!(m.acknowledge(1), 41);
    m.set_level(0, 40, true);
    for cpu in 0..2 {
        m.exit(cpu);
    }

    let mut copy = Machine::off(2, 4);
    for cpu in 0..2 {
        copy.exit(cpu);
    }
    let mut registers = vec![(DIST, GICD_CTLR::OFFSET)];
    registers.extend((0x80..0xffd0).step_by(4).map(|offset| (DIST, offset)));
    for cpu in 0..2 {
        registers.extend(
            (SGI..SGI + 0xe00)
                .step_by(4)
                .map(|offset| (redist(cpu), offset)),
        );
    }
    registers.retain(|&(frame, offset)| m.gic.user_has(frame, offset));
    for (frame, offset) in registers {
        // Enables and active states are restored by clearing and setting.
        let value = m.gic.user_read(frame, offset).unwrap();
        let value = match frame.register(offset).unwrap() {
            name if name.contains("ICENABLER") || name.contains("ICACTIVER") => !value,
            _ => value,
        };
        copy.gic
            .user_write(frame, offset, value, &mut Heard::default())
            .unwrap();
    }
    for cpu in 0..2 {
        for first in [0, 32, 64] {
            let levels = m.gic.level_info(vcpu(cpu), first).unwrap();
            copy.gic.set_level_info(vcpu(cpu), first, levels).unwrap();
        }
        copy.cpus[cpu].file.vmcr = m.cpus[cpu].file.vmcr;
        copy.cpus[cpu].active = m.cpus[cpu].active.clone();
    }

    for mut m in [m, copy] {
        for cpu in 0..2 {
            m.enter(cpu);
        }
        assert_eq!(m.acknowledge(0), SPURIOUS);
        m.eoi(0, 40);
        assert_eq!(m.handle(0), 40, "it had come again");
        assert_eq!(m.handle(0), 42);
        assert_eq!(m.handle(0), SPURIOUS);
        m.eoi(1, 41);
        assert_eq!(m.acknowledge(1), 41, "a level");
        m.set_level(1, 41, false);
        m.set_level(1, 43, false);
        m.eoi(1, 41);
        assert_eq!(m.handle(1), 20);
    }
}

const VTR: u64 = (4 << 29) | (4 << 26) | (1 << 23) | (1 << 21) | 3;

fn icc(crn: u16, crm: u16, op2: u16) -> u16 {
    (3 << 14) | (crn << 7) | (crm << 3) | op2
}

#[test]
fn the_cpu_interface_is_a_view_of_vmcr() {
    let mut cpu = CpuIf::new(VTR);
    let mut vmcr = 0;
    let (pmr, bpr0, bpr1) = (icc(4, 6, 0), icc(12, 8, 3), icc(12, 12, 3));
    let (ctlr, sre) = (icc(12, 12, 4), icc(12, 12, 5));
    let (grp0, grp1) = (icc(12, 12, 6), icc(12, 12, 7));
    cpu.user_set(&mut vmcr, pmr, 0x1f0).unwrap();
    cpu.user_set(&mut vmcr, bpr0, 2).unwrap();
    cpu.user_set(&mut vmcr, bpr1, 5).unwrap();
    cpu.user_set(&mut vmcr, grp1, 1).unwrap();
    // VPMR, VBPR0, VBPR1, VFIQEn, VENG1.
    assert_eq!(
        vmcr,
        (0xf0 << 24) | (2 << 21) | (5 << 18) | (1 << 3) | (1 << 1)
    );
    let get = |cpu: &CpuIf, vmcr, register| cpu.user_get(vmcr, register).unwrap();
    assert_eq!(get(&cpu, vmcr, pmr), 0xf0);
    assert_eq!(get(&cpu, vmcr, bpr0), 2);
    assert_eq!(get(&cpu, vmcr, bpr1), 5);
    assert_eq!((get(&cpu, vmcr, grp0), get(&cpu, vmcr, grp1)), (0, 1));
    assert_eq!(get(&cpu, vmcr, sre), 7);
    assert_eq!(get(&cpu, vmcr, ctlr), (4 << 8) | (1 << 11) | (1 << 15));
    // CBPR and EOImode.
    cpu.user_set(&mut vmcr, ctlr, (4 << 8) | (1 << 11) | (1 << 15) | 3)
        .unwrap();
    assert_eq!(vmcr & ((1 << 9) | (1 << 4)), (1 << 9) | (1 << 4));
    assert_eq!(get(&cpu, vmcr, bpr1), 3, "BPR0 + 1");
    cpu.user_set(&mut vmcr, bpr1, 7).unwrap();
    cpu.user_set(&mut vmcr, bpr0, 7).unwrap();
    assert_eq!(get(&cpu, vmcr, bpr1), 7);
    cpu.user_set(&mut vmcr, ctlr, (4 << 8) | (1 << 11) | (1 << 15))
        .unwrap();
    assert_eq!(get(&cpu, vmcr, bpr1), 5, "unwritable while CBPR was set");
    assert_eq!(cpu.user_set(&mut vmcr, sre, 0), Err(Error::Invalid));
    assert_eq!(cpu.user_set(&mut vmcr, sre, 7), Ok(()));
    assert_eq!(cpu.user_get(vmcr, icc(12, 12, 0)), Err(Error::NoRegister));
    assert_eq!(cpu.user_set(&mut vmcr, 0, 0), Err(Error::NoRegister));
    assert!(CpuIf::user_has(pmr) && !CpuIf::user_has(icc(12, 12, 1)));
}

#[test]
fn a_cpu_interface_that_this_host_is_not_is_refused() {
    let mut cpu = CpuIf::new(VTR);
    let mut vmcr = 0;
    let ctlr = icc(12, 12, 4);
    let host = (4 << 8) | (1 << 11) | (1 << 15);
    // More priority bits, more INTID bits, SEIS, no A3V.
    for bad in [
        host + (1 << 8),
        host + (1 << 11),
        host | (1 << 14),
        host & !(1 << 15),
    ] {
        assert_eq!(
            cpu.user_set(&mut vmcr, ctlr, bad),
            Err(Error::Invalid),
            "{bad:#x}"
        );
    }
    let fewer = (3 << 8) | (1 << 15);
    cpu.user_set(&mut vmcr, ctlr, fewer).unwrap();
    assert_eq!(cpu.user_get(vmcr, ctlr), Ok(fewer));
    assert_eq!(cpu.user_set(&mut vmcr, ctlr, host), Err(Error::Invalid));
}

#[test]
fn active_priorities_follow_the_number_of_bits() {
    for (bits, last) in [(5u64, 0u16), (6, 1), (7, 3)] {
        let mut cpu = CpuIf::new(((bits - 1) << 29) | ((bits - 1) << 26));
        assert_eq!(CpuIf::nr_apr((bits - 1) << 26), usize::from(last) + 1);
        let mut vmcr = 0;
        for (crm, base, group) in [(8, 4, 0), (9, 0, 1)] {
            for n in 0..4 {
                let register = icc(12, crm, base + n);
                let value = 0x100 + u64::from(n);
                let expected = if n <= last {
                    Ok(())
                } else {
                    Err(Error::Invalid)
                };
                assert_eq!(cpu.user_set(&mut vmcr, register, value), expected);
                assert_eq!(cpu.user_get(vmcr, register), expected.map(|()| value));
                let stored = if group == 0 { cpu.ap0r } else { cpu.ap1r };
                assert_eq!(stored[usize::from(n)], if n <= last { value } else { 0 });
            }
        }
    }
}
