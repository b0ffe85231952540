// SPDX-License-Identifier: Apache-2.0
use super::facts::Access;
use super::*;

fn healthy() -> (Facts, Probe) {
    let facts = Facts {
        machine: "aarch64".into(),
        release: "7.2.12+deb13-arm64".into(),
        cpus: 4,
        cmdline: "root=/dev/sda1 kvm-arm.mode=none quiet".into(),
        interrupts: " 11:  5  6  GICv3  27 Level  arch_timer\n".into(),
        meminfo: "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n".into(),
        log: "6,1,2,-;CPU: All CPU(s) started at EL2\n6,1,2,-;CPU features: detected: Virtualization Host Extensions\n"
            .into(),
        module_loaded: true,
        kvm_present: false,
        tun: Access::Usable,
        vhost_net: Access::Usable,
        vhost_vsock: Access::Usable,
        passt: true,
        virtiofsd: true,
    };
    let probe = Probe::Open { lacks: vec![], vm: Ok(()), gic: Ok(()), vcpus: 512, ipa_bits: 48 };
    (facts, probe)
}

fn level(facts: &Facts, probe: &Probe, name: &str) -> Level {
    let findings = examine(facts, probe, Path::new("/dev/loft"));
    findings.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no finding '{name}' in {findings:?}")).level
}

#[test]
fn a_healthy_machine_has_nothing_to_say() {
    let (facts, probe) = healthy();
    for finding in examine(&facts, &probe, Path::new("/dev/loft")) {
        assert_eq!((finding.level, &finding.remedy), (Level::Ok, &None), "{finding:?}");
    }
}

#[test]
fn everything_that_is_not_ok_has_a_remedy() {
    let (mut facts, _) = healthy();
    facts.log = "CPU: All CPU(s) started at EL1".into();
    facts.interrupts.clear();
    facts.module_loaded = false;
    facts.release = "6.12.1".into();
    facts.meminfo = "MemAvailable: 1000 kB".into();
    facts.tun = Access::Absent;
    facts.vhost_net = Access::Denied;
    let probes = [
        Probe::Closed(libc::ENOENT),
        Probe::NotHypervisor(-1),
        Probe::Open { lacks: vec!["KVM_CAP_IRQFD"], vm: Ok(()), gic: Err("x".into()), vcpus: 1, ipa_bits: 40 },
        Probe::Open { lacks: vec![], vm: Err("x".into()), gic: Ok(()), vcpus: 1, ipa_bits: 40 },
    ];
    for probe in &probes {
        let findings = examine(&facts, probe, Path::new("/dev/loft"));
        assert!(findings.iter().all(|f| f.level == Level::Ok || f.remedy.is_some()), "{findings:?}");
        for name in ["vhe", "gic", "module"] {
            assert_eq!(level(&facts, probe, name), Level::Missing, "{name}");
        }
    }
    assert_eq!(level(&facts, &probes[0], "device"), Level::Missing);
    assert_eq!(level(&facts, &probes[1], "device"), Level::Missing);
    assert_eq!(level(&facts, &probes[2], "capabilities"), Level::Missing);
    assert_eq!(level(&facts, &probes[2], "vm"), Level::Missing);
    assert_eq!(level(&facts, &probes[3], "vm"), Level::Missing);
}

#[test]
fn what_is_optional_does_not_stop_guests() {
    let (mut facts, probe) = healthy();
    facts.tun = Access::Absent;
    facts.vhost_vsock = Access::Denied;
    facts.cmdline = "quiet".into();
    facts.kvm_present = true;
    let findings = examine(&facts, &probe, Path::new("/dev/loft"));
    assert!(findings.iter().all(|f| f.level != Level::Missing), "{findings:?}");
    for name in ["tun", "vhost-vsock"] {
        assert_eq!(level(&facts, &probe, name), Level::Note, "{name}");
    }
    assert_eq!(level(&facts, &probe, "kvm-mode"), Level::Ok);
}

#[test]
fn kvm_may_be_on_at_el2_only() {
    let (mut facts, probe) = healthy();
    for (mode, expected) in
        [("vhe", Level::Ok), ("nested", Level::Ok), ("nvhe", Level::Missing), ("protected", Level::Missing)]
    {
        facts.cmdline = format!("kvm-arm.mode={mode}");
        facts.kvm_present = true;
        assert_eq!(level(&facts, &probe, "kvm-mode"), expected, "{mode}");
    }
}

#[test]
fn vhe_is_told_by_the_log_or_by_a_working_hypervisor() {
    let (mut facts, probe) = healthy();
    facts.log = "CPU: All CPU(s) started at EL2\nkvm [1]: Hyp nVHE mode initialized successfully".into();
    assert_eq!(level(&facts, &probe, "vhe"), Level::Missing);
    facts.log.clear();
    assert_eq!(level(&facts, &probe, "vhe"), Level::Ok);
    assert_eq!(level(&facts, &Probe::Closed(libc::EACCES), "vhe"), Level::Note);
}

#[test]
fn another_machine_is_told_once() {
    let (mut facts, _) = healthy();
    facts.machine = "x86_64".into();
    let findings = examine(&facts, &Probe::Closed(libc::ENOENT), Path::new("/dev/loft"));
    assert!(findings.iter().all(|f| f.name != "vhe" && f.name != "gic"));
    assert_eq!(findings[0].level, Level::Missing);
}
