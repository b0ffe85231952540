// SPDX-License-Identifier: Apache-2.0
//! `loft doctor`: what this machine lacks to run guests, and what to do about it.

mod facts;
mod probe;

use crate::cli::DoctorArgs;
use crate::output;
use anyhow::Result;
use facts::Facts;
use probe::Probe;
use serde::Serialize;
use std::path::Path;

/// How a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Something optional is missing, or could not be found out.
    Note,
    /// Guests cannot be run without it.
    Missing,
}

/// One line of the doctor's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// A stable name, for programs.
    name: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), remedy: None }
    }

    fn note(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, level: Level::Note, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn missing(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, level: Level::Missing, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at everything; the exit code says whether guests can be run.
pub fn main(args: &DoctorArgs) -> Result<u8> {
    let facts = Facts::gather();
    let probe = Probe::of(&args.device);
    let findings = examine(&facts, &probe, &args.device);
    let healthy = findings.iter().all(|f| f.level != Level::Missing);
    if args.json {
        print(&format!("{}\n", serde_json::json!({ "can_run_guests": healthy, "findings": findings })))?;
    } else {
        print(&table(&findings, healthy))?;
    }
    Ok(u8::from(!healthy))
}

fn print(text: &str) -> std::io::Result<()> {
    output::write_all(rustix::stdio::stdout(), text.as_bytes())
}

fn table(findings: &[Finding], healthy: bool) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => "ok     ",
            Level::Note => "note   ",
            Level::Missing => "MISSING",
        };
        lines.push(format!("{mark}  {}\n", finding.found));
        if let Some(remedy) = &finding.remedy {
            lines.push(format!("         -> {remedy}\n"));
        }
    }
    lines.push(if healthy { "guests can be run here\n".into() } else { "guests cannot be run here yet\n".into() });
    lines.concat()
}

fn examine(facts: &Facts, probe: &Probe, device: &Path) -> Vec<Finding> {
    let mut findings = vec![machine(facts)];
    if facts.machine == "aarch64" {
        findings.push(exception_level(facts, probe));
        findings.push(interrupt_controller(facts));
        findings.push(kernel(facts));
        if device == Path::new(crate::node::DEFAULT) {
            findings.push(module(facts));
            findings.push(kvm_mode(facts));
        }
    }
    findings.extend(hypervisor(probe, device));
    findings.push(memory(facts));
    findings.extend(optional(facts));
    findings
}

fn machine(facts: &Facts) -> Finding {
    match facts.machine.as_str() {
        "aarch64" => Finding::ok("machine", format!("64-bit Arm, {} CPUs", facts.cpus)),
        other => Finding::missing(
            "machine",
            format!("this machine is {other}"),
            "loft needs a 64-bit Arm server; on other machines use the emulated one (make run)",
        ),
    }
}

fn exception_level(facts: &Facts, probe: &Probe) -> Finding {
    const NAME: &str = "vhe";
    let need = "loft needs a CPU with VHE (Armv8.1 or later) whose firmware or hypervisor starts the kernel at EL2";
    if facts.log_has("started at EL1") {
        return Finding::missing(
            NAME,
            "the kernel was started at EL1: this is a virtual machine, or the firmware keeps EL2",
            need,
        );
    }
    if facts.log_has("started at EL2") {
        if facts.log_has("nVHE mode initialized") || facts.log_has("hVHE mode initialized") {
            return Finding::missing(
                NAME,
                "the kernel was started at EL2 but has left it (nVHE or protected KVM)",
                "boot with kvm-arm.mode=none; if that does not help the CPU has no VHE",
            );
        }
        if facts.log_has("VHE mode initialized") || facts.log_has("Virtualization Host Extensions") {
            return Finding::ok(NAME, "the kernel runs at EL2 with VHE");
        }
        return Finding::ok(NAME, "the kernel was started at EL2");
    }
    if probe.works() {
        return Finding::ok(NAME, "the hypervisor works, so the kernel runs at EL2");
    }
    Finding::note(
        NAME,
        "whether the kernel runs at EL2 with VHE is not known: its boot messages cannot be read",
        format!("run loft doctor as root soon after boot; {need}"),
    )
}

fn interrupt_controller(facts: &Facts) -> Finding {
    if facts.interrupts.contains("GICv3") {
        Finding::ok("gic", "the interrupt controller is a GICv3 or later")
    } else {
        Finding::missing("gic", "there is no GICv3 interrupt controller", "loft needs one; a GICv2 cannot serve")
    }
}

fn kernel(facts: &Facts) -> Finding {
    let known = ["7.2.", "7.3."].iter().any(|series| facts.release.starts_with(series));
    if known {
        Finding::ok("kernel", format!("Linux {}", facts.release))
    } else {
        Finding::note("kernel", format!("Linux {}", facts.release), "the loft module is made for Linux 7.2 and 7.3")
    }
}

fn module(facts: &Facts) -> Finding {
    if facts.module_loaded {
        Finding::ok("module", "the loft module is loaded")
    } else {
        Finding::missing("module", "the loft module is not loaded", "sudo insmod loft.ko; dmesg says why if it refuses")
    }
}

fn kvm_mode(facts: &Facts) -> Finding {
    let mode = facts.cmdline.split_whitespace().rev().find_map(|p| p.strip_prefix("kvm-arm.mode="));
    match (mode, facts.kvm_present) {
        (Some("none"), _) => Finding::ok("kvm-mode", "KVM is off (kvm-arm.mode=none)"),
        (_, false) => Finding::ok("kvm-mode", "KVM is not active"),
        (Some(mode @ ("nvhe" | "protected")), true) => Finding::missing(
            "kvm-mode",
            format!("KVM is on with kvm-arm.mode={mode}, where the kernel does not run at EL2"),
            "boot without that parameter",
        ),
        (_, true) => {
            Finding::ok("kvm-mode", "KVM is on: loft runs beside KVM, and perf asks KVM alone for samples in guests")
        }
    }
}

fn hypervisor(probe: &Probe, device: &Path) -> Vec<Finding> {
    let name = device.display();
    match probe {
        Probe::Closed(errno) => {
            let error = crate::node::open_error(device, *errno).to_string();
            let (found, remedy) = error.split_once("; ").unwrap_or((&error, "see loft run --help"));
            vec![Finding::missing("device", found, remedy)]
        }
        Probe::NotHypervisor(version) => vec![Finding::missing(
            "device",
            format!("{name} does not speak KVM's interface (version {version})"),
            "give /dev/loft or /dev/kvm to --device",
        )],
        Probe::Open { lacks, vm, gic, vcpus, ipa_bits } => {
            let mut findings =
                vec![Finding::ok("device", format!("{name} can be opened and speaks KVM's interface, version 12"))];
            findings.push(if lacks.is_empty() {
                Finding::ok(
                    "capabilities",
                    format!("{name} has what loft needs; up to {vcpus} vCPUs, {ipa_bits} bits of guest address"),
                )
            } else {
                Finding::missing("capabilities", format!("{name} lacks {}", lacks.join(", ")), "use a newer hypervisor")
            });
            findings.push(match (vm, gic) {
                (Err(e), _) => {
                    Finding::missing("vm", format!("{name} cannot create a virtual machine: {e}"), "dmesg may say why")
                }
                (Ok(()), Err(e)) => Finding::missing(
                    "vm",
                    format!("{name} has no GICv3 for guests: {e}"),
                    "the host needs a GICv3 or later",
                ),
                (Ok(()), Ok(())) => Finding::ok("vm", "a virtual machine with a GICv3 can be created"),
            });
            findings
        }
        #[cfg(not(target_arch = "aarch64"))]
        Probe::Unknown => vec![],
    }
}

fn memory(facts: &Facts) -> Finding {
    let available = crate::memory::value(&facts.meminfo, "MemAvailable:").unwrap_or(0);
    let shown = format!("{} of memory available", loft_boot::size::show(available));
    if available >= 512 << 20 {
        Finding::ok("memory", shown)
    } else {
        Finding::note("memory", shown, "the default guest has 512 MiB: give less with -m, or free some")
    }
}

fn optional(facts: &Facts) -> Vec<Finding> {
    [
        ("tun", facts.tun, "/dev/net/tun", "network cards on tap devices (-n tap=) need it: modprobe tun"),
        ("vhost-net", facts.vhost_net, "/dev/vhost-net", "those network cards are faster with it: modprobe vhost_net"),
        ("vhost-vsock", facts.vhost_vsock, "/dev/vhost-vsock", "--vsock needs it: modprobe vhost_vsock"),
    ]
    .into_iter()
    .map(|(name, access, path, remedy)| match access {
        facts::Access::Usable => Finding::ok(name, format!("{path} can be used")),
        facts::Access::Denied => {
            Finding::note(name, format!("{path} may not be opened"), "run as root, or change its permissions")
        }
        facts::Access::Absent => Finding::note(name, format!("{path} does not exist"), remedy),
    })
    .chain([
        if facts.passt {
            Finding::ok("passt", "passt is installed: guests have a network without root")
        } else {
            Finding::note("passt", "passt is not installed", "for a network without root: apt install passt")
        },
        if facts.virtiofsd {
            Finding::ok("virtiofsd", "virtiofsd is installed: guests can have this machine's files")
        } else {
            Finding::note(
                "virtiofsd",
                "virtiofsd is not installed",
                "for a command without a disk, --share and --rw: apt install virtiofsd",
            )
        },
    ])
    .collect()
}

#[cfg(test)]
mod tests;
