// SPDX-License-Identifier: Apache-2.0
//! The command line.

mod values;

pub use values::{DiskArg, Forward, NetArg, ShareArg, UserNet};

use crate::{console_log, control, gdb, guests, node};
use clap::{Args, Parser, Subcommand, ValueEnum};
use loft_boot::layout;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Runs arm64 Linux guests on the loft hypervisor, or on KVM
#[derive(Debug, Parser)]
#[command(name = "loft", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a guest
    Run(Box<RunArgs>),
    /// List the guests that run, and VMs of other programs
    Ps(PsArgs),
    /// Show what the hypervisor has counted of guests that run
    Stat(StatArgs),
    /// Watch what guests do: the time in them, their exits, interrupts and waits
    Top(TopArgs),
    /// Switch guests off
    Stop(StopArgs),
    /// Restart a guest: loft ends with exit code 100, or starts it again where it was run with --on-reboot restart
    Reboot(NameArgs),
    /// Stop a guest's vCPUs for a while; its clock goes on
    Pause(NameArgs),
    /// Let a paused guest go on
    Resume(NameArgs),
    /// Have a guest give memory back to this machine, or take it again
    Memory(MemoryArgs),
    /// Use a guest's console, with those who use it already
    Console(NameArgs),
    /// Run a command in a guest that runs
    Exec(ExecArgs),
    /// Use ssh with a guest, by a port that leads to it or by vsock
    Ssh(SshArgs),
    /// Make a vsock port the input and output
    #[command(hide = true)]
    VsockConnect(VsockArgs),
    /// Say what this machine lacks to run guests, and what to do about it
    Doctor(DoctorArgs),
    /// Run a program that wants /dev/kvm, with loft in that place
    With(WithArgs),
    /// Print a manual page, for `man -l`: loft man >loft.1, loft man run >loft-run.1
    Man(ManArgs),
    /// Print what completes loft's options in a shell: source <(loft completions bash)
    Completions(CompletionsArgs),
}

/// What `loft man` takes.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command that it is about; without one, loft as a whole
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

/// What `loft completions` takes.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

const RUN_HELP: &str = "\
Command in the guest:
  With `-- CMD...` loft boots the kernel with an initial RAM disk of its own, in which loft itself is the first
  process: it loads the modules that are needed, mounts the first disk as root (or stays in what -i gave), runs CMD
  there as root, and switches the guest off. Nothing has to be installed in the guest. CMD gets a terminal if loft's input
  and output are one, else pipes; what it prints is all that is printed. --verbose shows the kernel's messages.
  Without CMD and without -i, the same brings up the disk's own /sbin/init. Of the kernel's messages warnings and
  errors are shown then, and all of them with --verbose, on a serial console, or where the kernel dies.

This machine's files:
  With `-- CMD...` and neither -d nor -i, the guest's root is this machine's own, as the calling user may read it. What
  is written there stays in the guest's memory and is gone with it, but for directories given with --rw (or --share).
  CMD runs as the calling user, in the current directory, with HOME, PATH, USER, LOGNAME and SHELL as they are here.
  /dev, /proc, /sys and /run are the guest's own.
  --share DIR shows a directory to any guest. Where loft is the guest's first process it mounts it, at the same path as
  here, or at /mnt/TAG where a TAG was given (1 to 36 bytes); if the current directory is in one at the same path, it is
  CMD's too. Another init mounts it itself: mount -t virtiofs TAG /mnt. A directory whose name ends in a colon and more,
  or in `,ro`, needs a TAG.
  Files are read and written by virtiofsd (apt install virtiofsd), a process of the calling user for each directory,
  which reaches nothing else (Landlock). It ends with the guest, and the guest with it.

Kernel modules:
  --modules names a tree such as /lib/modules/RELEASE, in which loft finds drivers that the kernel has not built in.
  Without it, /lib/modules/RELEASE of this machine and a directory `modules` beside the kernel are looked at.

Network:
  user[,tcp=[ADDRESS:]PORT:PORT][,udp=...][,mac=MAC]
      passt (apt install passt) turns the guest's connections into the user's own. The guest is 10.0.2.15; its DHCP, DNS
      (10.0.2.3) and gateway are there, and at 10.0.2.2 this machine's loopback interface. Where loft runs CMD it sets the
      guest's card up itself. tcp= and udp=, as often as wanted, lead from a port here to one of the guest's; only from this
      machine, if no ADDRESS is given. It is the default where passt is installed; what nobody has asked for does not
      lead to this machine's loopback interface, and is left out with a note where passt does not work.
  tap=NAME[,mac=MAC]
      A tap device, which has to be there (ip tuntap add NAME mode tap), with the host's vhost-net if it has that. On one
      that was made with multi_queue (... mode tap multi_queue) the card has a pair of queues for each vCPU, up to 8.
  none
      No network card.

Debugger:
  With `--gdb 1234,wait` and then `gdb vmlinux -ex 'target remote :1234'` gdb has a thread for each vCPU, with its
  registers, also the system's (info registers system). Breakpoints (break, hbreak), watchpoints, steps, Ctrl-C, detach and
  kill work as with QEMU. Addresses are those of the vCPU's own tables. A step holds interrupts back. Give the guest `nokaslr`
  (-p), or its kernel is not where vmlinux says. One gdb at a time; who may use the socket, or that port, owns the guest.

Keys on a terminal:
  Ctrl-a x ends the guest at once, Ctrl-a Ctrl-a sends one Ctrl-a, Ctrl-a h (or ?) shows these keys.

Signals:
  SIGUSR1 prints the hypervisor's counters so far, why and how often the vCPUs were left, as a line of JSON on
  standard error. SIGINT, SIGTERM, SIGHUP and SIGQUIT end the guest.

Running guests:
  Every guest has a name, by which `loft ps`, `stat`, `stop`, `reboot`, `pause`, `resume`, `console` and `exec` reach it:
  guest-PID, if none was given. With --detach its console is read with `loft console` only.

Exit codes:
  0    the guest switched itself off
  100  the guest rebooted, and was not to be started again (--on-reboot)
  101  the guest crashed: a kernel panic, or a vCPU that cannot go on
  102  ended with Ctrl-a x, or with `loft stop --force`
  103  the guest switched itself off before CMD had ended
  125  loft failed; the message says why    2  wrong usage    128+N  ended by signal N
  141  nobody reads loft's output any more (128 + SIGPIPE)
  With CMD its own exit code: 126 it cannot be executed, 127 it was not found, 128+N it was ended by signal N.

Examples:
  loft run -k vmlinuz -d disk.img                            boot a disk
  loft run -k vmlinuz -d disk.img -- uname -a                run a command, get its exit code
  loft run -k vmlinuz -d disk.img,snapshot -c 4 -m 2G -- make test        and the disk stays as it is
  loft run -c 4 -m 2G --rw . -- make test                    in this machine's own files, written here only
  loft run -k vmlinuz -d disk.img --share ~/src:src,ro       and a directory of this machine
  loft run -k Image -i initrd.img -p 'rdinit=/bin/sh'        boot an initial RAM disk
  loft run -k vmlinuz -d disk.img -n user,tcp=2222:22        its port 22 is port 2222 here
  loft run -k vmlinuz -d disk.img -n tap=tap0 --device /dev/kvm";

/// What `loft run` takes.
#[derive(Debug, Args)]
#[command(after_long_help = RUN_HELP, args_override_self = true)]
pub struct RunArgs {
    /// The kernel: an arm64 Image, raw or compressed, or the vmlinuz of a distribution. Without it,
    /// this machine's own: /boot/vmlinuz-RELEASE
    #[arg(short, long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// The initial RAM disk
    #[arg(short, long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// A disk: a raw image or a block device. ",ro" makes it read-only; with ",snapshot" what the
    /// guest writes is thrown away; with ",werror=stop" the guest is paused while the host has no
    /// space for what it writes, until `loft resume`, though not for a flush that fails;
    /// ",discard=off" keeps the space of what the guest discards, which else is this machine's again;
    /// ",serial=TEXT" is its serial number. The first is /dev/vda
    #[arg(short, long = "disk", value_name = "FILE[,ro|,snapshot]")]
    pub disks: Vec<DiskArg>,

    /// A directory of this machine, by virtio-fs: it is at the same path in the guest, with ":TAG"
    /// at /mnt/TAG. ",ro" keeps the guest from writing
    #[arg(long = "share", value_name = "DIR[:TAG][,ro]")]
    pub shares: Vec<ShareArg>,

    /// A directory that the guest writes to where this machine's files are its root: as --share DIR
    #[arg(long = "rw", value_name = "DIR")]
    pub writable: Vec<PathBuf>,

    /// A network card: "user" needs no root but passt, and is there unless something else is said;
    /// "tap=NAME" is one on a tap device; "none" is none. ",mac=MAC" is its address, ",tcp=2222:22"
    /// for "user" leads from this machine to the guest
    #[arg(short, long = "net", value_name = "NETWORK")]
    pub nets: Vec<NetArg>,

    /// Number of vCPUs
    #[arg(short, long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = vcpus())]
    pub cpus: u32,

    /// Memory, with a unit: 512M, 2G
    #[arg(short, long, value_name = "SIZE", default_value = "512M", allow_negative_numbers = true, value_parser = loft_boot::size::parse)]
    pub memory: u64,

    /// A memory balloon (virtio): what the guest does not use for the time being it gives back to this
    /// machine by itself, and more if `loft memory` asks for it
    #[arg(long)]
    pub balloon: bool,

    /// Memory in huge pages that this machine has set aside (sysctl vm.nr_hugepages): none of it is
    /// shared, swapped or given back. Without that huge pages are used as far as there are any
    #[arg(long, conflicts_with = "balloon")]
    pub huge: bool,

    /// More kernel parameters, after loft's own
    #[arg(short = 'p', long = "append", value_name = "PARAMETERS", allow_hyphen_values = true)]
    pub append: Vec<String>,

    /// A tree of kernel modules for the guest's kernel
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,

    /// The hypervisor
    #[arg(long, value_name = "PATH", default_value = node::DEFAULT)]
    pub device: PathBuf,

    /// The guest's vsock address (3 or more); the host is 2
    #[arg(long, value_name = "CID")]
    pub vsock: Option<u32>,

    /// Where the guest finds its virtio devices: each in a window of its own, or on a PCI bus,
    /// where each of a device's queues has an interrupt of its own. A kernel needs drivers for it:
    /// virtio_mmio, or pci_host_generic and virtio_pci. The default is a PCI bus where loft brings
    /// up the guest and finds these in its kernel or its modules; with -i it is windows
    #[arg(long, value_name = "KIND", value_enum)]
    pub transport: Option<TransportKind>,

    /// The guest's main console: the virtio one (hvc0), or the serial port (ttyS0), which needs no module
    #[arg(long, value_name = "KIND", value_enum)]
    pub console: Option<ConsoleKind>,

    /// Write the guest's console to a file as well, after what is there. With ",limit=SIZE" a file
    /// that has SIZE becomes FILE.1, in the place of what was there, and begins anew
    #[arg(long, value_name = "FILE[,limit=SIZE]")]
    pub console_log: Option<console_log::LogArg>,

    /// The guest's name, for `loft ps` and the others
    #[arg(long, value_name = "NAME", value_parser = guests::parse_name)]
    pub name: Option<String>,

    /// Print the guest's name when it has been started, and leave it to itself
    #[arg(long)]
    pub detach: bool,

    /// What a reboot of the guest does
    #[arg(long, value_name = "WHAT", value_enum, default_value = "exit")]
    pub on_reboot: OnReboot,

    /// Wait for gdb at a port of the loopback interface, or at a Unix socket that is made; with
    /// ",wait" the guest does not run before gdb lets it
    #[arg(long, value_name = "PORT|SOCKET[,wait]")]
    pub gdb: Option<gdb::Place>,

    /// Do without the sandbox, which leaves each thread the system calls that it needs: for
    /// debuggers
    #[arg(long)]
    pub no_sandbox: bool,

    /// Take options from a file: TOML with the flags' names as keys, `disk` and others as lists,
    /// CMD as the list `command`. What is on the command line counts
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the options in force as a file for --config, and do nothing else
    #[arg(long)]
    pub print_config: bool,

    /// Be USER when the guest runs (a name, or UID:GID), in an empty file system and a cgroup of its own.
    /// loft has to be started as root, and is root until all is open that the guest needs
    #[arg(long, value_name = "USER")]
    pub jail: Option<String>,

    /// Print how the run ended, and how long the parts of its boot took, as JSON, on the last line
    /// of standard error
    #[arg(long)]
    pub json: bool,

    /// Show the kernel's messages: with CMD on standard error, else on the console
    #[arg(short, long)]
    pub verbose: bool,

    /// The command to run in the guest, and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

fn vcpus() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=layout::MAX_VCPUS.into())
}

/// The guest's main console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConsoleKind {
    /// virtio-console.
    Hvc0,
    /// The 16550.
    Serial,
}

/// Where the guest finds its virtio devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TransportKind {
    /// Windows that the device tree names (virtio-mmio).
    Mmio,
    /// A PCI bus.
    Pci,
}

/// What a reboot of the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnReboot {
    /// loft ends.
    Exit,
    /// The guest is started again.
    Restart,
}

const PS_HELP: &str = "\
Columns:
  STATE    running, paused, restarting; or foreign: another program's, such as QEMU's, on /dev/loft. Its name is
           that program's, in brackets, with the VM's descriptor where the program has several. A user sees the
           VMs of the own programs, root all
  UPTIME   since the guest was started; a foreign one's program
  EXITS/s  exits that left the guest, on average since then
";

/// What `loft ps` takes.
#[derive(Debug, Args)]
#[command(after_long_help = format!("{PS_HELP}\n{}", control::PROTOCOL))]
pub struct PsArgs {
    /// Print one JSON object for each guest
    #[arg(long)]
    pub json: bool,
}

const STAT_HELP: &str = "\
Counters:
  Those of KVM_GET_STATS_FD: the sum over the vCPUs and, where there are at most 8, what each has.
  Added are the times of the vCPUs' threads: guest_time_ms, that in the guest; user_time_ms, which
  has that in it; system_time_ms; steal_time_ms, in which a thread was ready and had no CPU. What
  the hypervisor or this machine does not count is left out. Without NAME the VMs of other programs
  are there as well (loft ps --help), with the sums and the times of their processes.";

/// What `loft stat` takes.
#[derive(Debug, Args)]
#[command(after_long_help = STAT_HELP)]
pub struct StatArgs {
    /// The guest; without it, all
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// Print a JSON object for the guest, or a list of those for all
    #[arg(long)]
    pub json: bool,
}

const TOP_HELP: &str = "\
Pictures:
  On a terminal one replaces another until q or Ctrl-c; elsewhere they follow one another. A line
  is a guest, with the sums over its vCPUs, or a vCPU; or the VM of another program (loft ps --help),
  of which GUEST% is the whole process's. What is not counted, or has just begun, is a dash.

Columns:
  GUEST%    of the time, what its thread was in the guest
  EXITS/s   exits that left the guest
  FAST/s    exits that were answered without leaving it
  IRQS/s    exits by an interrupt
  FAULTS/s  pages that it got
  WAITS/s   waits for an interrupt that its thread slept in
  STEAL%    of the time, what its thread was ready and had no CPU";

/// What `loft top` takes.
#[derive(Debug, Args)]
#[command(after_long_help = TOP_HELP)]
pub struct TopArgs {
    /// How many seconds are between two pictures
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub delay: Duration,

    /// How many pictures there are; without it they do not end
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "give seconds from 0.1 to 86400".to_owned())
}

/// What `loft stop` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "A guest is asked to switch itself off, as with `poweroff`, and waited for. \
In one that loft has not brought up (-i without CMD) the power button is pressed: systemd goes by that, a shell does not. \
One that takes too long is left alone, or ended with --force. Exit codes: 0 all are off, 125 one is not.")]
pub struct StopArgs {
    /// The guests
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,

    /// End a guest at once that cannot be asked, or is not off in time
    #[arg(short, long)]
    pub force: bool,

    /// How many seconds it has
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

/// What is done with one guest.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The guest
    #[arg(value_name = "NAME")]
    pub name: String,
}

const MEMORY_HELP: &str = "\
The guest puts the rest of its memory into its balloon (run it with --balloon), as far as it can, and takes back from there
what it cannot do without. `loft ps --json` says how much has been given.";

/// What `loft memory` takes.
#[derive(Debug, Args)]
#[command(after_long_help = MEMORY_HELP)]
pub struct MemoryArgs {
    /// The guest
    #[arg(value_name = "NAME")]
    pub name: String,

    /// What it is to keep, with a unit: 512M, 2G
    #[arg(value_name = "SIZE", value_parser = loft_boot::size::parse)]
    pub size: u64,
}

const EXEC_HELP: &str = "\
CMD gets a terminal if loft's input and output are one, else pipes. Its exit code is loft's. It has ended when its outputs
are closed as well, as with ssh. If loft ends before, so does CMD. Up to 4 commands run at the same time. A guest can do
this if loft itself was its first process: it was started from a disk without -i, or for a command.";

/// What `loft exec` takes.
#[derive(Debug, Args)]
#[command(after_long_help = EXEC_HELP)]
pub struct ExecArgs {
    /// The guest
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

const SSH_HELP: &str = "\
The user's own ssh is run. It gets to the guest by the port of this machine that leads to the guest's port 22
(loft run -n user,tcp=2222:22), else by vsock (--vsock), where the SSH server has to listen as well, as systemd has it do.
ssh knows the host by the name loft-NAME. `loft exec` needs neither an SSH server nor a network.";

/// What `loft ssh` takes.
#[derive(Debug, Args)]
#[command(after_long_help = SSH_HELP)]
pub struct SshArgs {
    /// The guest, and who to be there
    #[arg(value_name = "[USER@]NAME")]
    pub name: String,

    /// What to run, as ssh has it
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What `loft vsock-connect` takes.
#[derive(Debug, Args)]
pub struct VsockArgs {
    /// The guest's address
    pub cid: u32,
    /// The port
    pub port: u32,
}

/// What `loft doctor` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "Exit codes: 0 guests can be run, 1 something that is needed is missing.")]
pub struct DoctorArgs {
    /// The hypervisor
    #[arg(long, value_name = "PATH", default_value = node::DEFAULT)]
    pub device: PathBuf,

    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

const WITH_HELP: &str = "\
CMD sees /dev/loft under the name /dev/kvm; nothing changes for other programs. This works without root where user
namespaces are allowed. /dev/kvm must exist; if KVM is off, load the module with `kvm_node=1` or as root let loft make
a private /dev.

Example:
  loft with -- qemu-system-aarch64 -M virt -accel kvm -cpu host ...";

/// What `loft with` takes.
#[derive(Debug, Args)]
#[command(after_long_help = WITH_HELP)]
pub struct WithArgs {
    /// The hypervisor
    #[arg(long, value_name = "PATH", default_value = node::DEFAULT)]
    pub device: PathBuf,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::values::TapNet;
    use super::*;
    use clap::CommandFactory;
    use std::net::Ipv4Addr;

    fn run(args: &[&str]) -> Result<RunArgs, clap::Error> {
        let all = ["loft", "run"].iter().chain(args);
        Cli::try_parse_from(all).map(|cli| match cli.command {
            Command::Run(args) => *args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shell_completes_the_options() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "loft", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("on-reboot") && script.contains("restart"), "{shell}");
        }
    }

    #[test]
    fn everything_at_once() {
        let args = run(&[
            "-k",
            "Image",
            "-i",
            "initrd",
            "-d",
            "a.img",
            "-d",
            "b,c.img,ro",
            "-n",
            "tap=t0,mac=52:54:00:00:00:01",
            "-c",
            "4",
            "-m",
            "2G",
            "-p",
            "-x y",
            "-p",
            "z",
            "--vsock",
            "5",
            "--json",
            "--device",
            "/dev/kvm",
            "--",
            "ls",
            "-k",
            "/",
        ])
        .unwrap();
        assert_eq!(
            args.disks[0],
            DiskArg {
                path: "a.img".into(),
                read_only: false,
                snapshot: false,
                serial: None,
                stop: false,
                keep_space: false
            }
        );
        assert_eq!(
            args.disks[1],
            DiskArg {
                path: "b,c.img".into(),
                read_only: true,
                snapshot: false,
                serial: None,
                stop: false,
                keep_space: false
            }
        );
        let disk: DiskArg = "a,b,werror=stop,snapshot,discard=off,serial=X1".parse().unwrap();
        assert!(disk.stop && disk.keep_space);
        assert_eq!((disk.path, disk.snapshot, disk.serial), ("a,b".into(), true, Some("X1".to_owned())));
        assert_eq!(args.nets[0], NetArg::Tap(TapNet { name: "t0".into(), mac: Some([0x52, 0x54, 0, 0, 0, 1]) }));
        assert_eq!((args.cpus, args.memory, args.vsock), (4, 2 << 30, Some(5)));
        assert_eq!(args.append, ["-x y", "z"]);
        assert_eq!(args.command, ["ls", "-k", "/"]);
        assert_eq!(args.device, PathBuf::from("/dev/kvm"));
    }

    #[test]
    fn the_last_one_counts() {
        let args = run(&["-k", "a", "-c", "2", "-k", "b", "-c", "3", "-d", "x", "-d", "y"]).unwrap();
        assert_eq!((args.kernel, args.cpus, args.disks.len()), (Some("b".into()), 3, 2));
    }

    #[test]
    fn forwarded_ports() {
        let args = run(&["-k", "x", "-n", "user,tcp=2222:22,tcp=0.0.0.0:80:8080,udp=53:53"]).unwrap();
        let NetArg::User(net) = &args.nets[0] else { panic!() };
        assert_eq!(net.tcp[0], Forward { address: Ipv4Addr::LOCALHOST, host: 2222, guest: 22 });
        assert_eq!(net.tcp[1], Forward { address: Ipv4Addr::UNSPECIFIED, host: 80, guest: 8080 });
        assert_eq!((net.udp.len(), net.mac), (1, None));
    }

    #[test]
    fn defaults() {
        let args = run(&["-k", "Image"]).unwrap();
        assert_eq!((args.cpus, args.memory), (1, 512 << 20));
        assert_eq!(args.device, PathBuf::from("/dev/loft"));
        assert!(args.command.is_empty() && !args.json);
        assert_eq!(run(&["--", "true"]).unwrap().kernel, None);
    }

    #[test]
    fn shares() {
        let share = |text: &str| text.parse::<ShareArg>();
        let is = |text: &str, path: &str, tag: Option<&str>, read_only| {
            let tag = tag.map(str::to_owned);
            assert_eq!(share(text), Ok(ShareArg { path: path.into(), tag, read_only }), "{text}");
        };
        is("/a", "/a", None, false);
        is("/a:src,ro", "/a", Some("src"), true);
        is("a,b,rw", "a,b", None, false);
        is("a:b/c,ro", "a:b/c", None, true);
        is("a:b:c,d", "a:b", Some("c,d"), false);
        assert!(share(&format!("/a:{}", "x".repeat(36))).is_ok());
        assert!(share(&format!("/a:{}", "x".repeat(37))).unwrap_err().contains("at most 36"));
        for wrong in ["", ",ro", ":tag", "/a:", "/a:,ro", "/a:.", "/a:.."] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        let args = run(&["--rw", "a", "--rw", "b", "--share", "c", "--", "true"]).unwrap();
        assert_eq!((args.writable, args.shares.len()), (vec!["a".into(), "b".into()], 1));
    }

    #[test]
    fn mistakes_are_refused() {
        assert!(run(&["-k", "x", "-m", "12Q"]).is_err());
        let text = |args: &[&str]| run(args).unwrap_err().to_string();
        assert!(text(&["-k", "x", "-m", "512"]).contains("512M"));
        assert!(text(&["-k", "x", "-m", "-1"]).contains("not a size"));
        for cpus in ["0", "-1", "513", "many"] {
            assert!(text(&["-k", "x", "-c", cpus]).contains(cpus), "{cpus}");
        }
        for disk in [",ro", "x,ro,snapshot", "x,serial=0123456789abcdefghijk"] {
            assert!(run(&["-k", "x", "-d", disk]).is_err(), "{disk}");
        }
        assert!(run(&["-k", "x", "--name", "a/b"]).is_err());
        for net in [
            "eth0",
            "tap=",
            "tap=0123456789abcdef",
            "tap=a,mac=1:2:3:4:5:6",
            "tap=a,mac=01:00:00:00:00:00",
            "mac=52:54:00:00:00:01",
            "none,mac=52:54:00:00:00:01",
            "tap=a,tcp=1:2",
            "user,tcp=22",
            "user,tcp=0:22",
            "user,tcp=x:1:2",
            "user,udp=1:65536",
            "user,ssh",
        ] {
            assert!(run(&["-k", "x", "-n", net]).is_err(), "{net}");
        }
        assert!(Cli::try_parse_from(["loft", "with"]).is_err());
        for delay in ["0", "0.09", "-1", "86401", "nan", "inf", "x"] {
            assert!(Cli::try_parse_from(["loft", "top", "-d", delay]).is_err(), "{delay}");
        }
        assert!(Cli::try_parse_from(["loft", "top", "-n", "0"]).is_err());
    }
}
