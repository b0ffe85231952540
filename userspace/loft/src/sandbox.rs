// SPDX-License-Identifier: Apache-2.0
//! The sandbox: which system calls a thread may still make once its guest is set up (seccomp(2),
//! PR_SET_NO_NEW_PRIVS(2const)).
//!
//! Whoever takes over a thread of the launcher from within the guest finds that it opens no file,
//! makes no socket and starts no program, and that no memory becomes executable. Each kind of
//! thread has a list of its own, which is what it was seen to need and what its libraries need at
//! times. A filter is inherited, so a thread that starts others has their calls as well: therefore
//! vCPUs have the devices' threads started by another one.
//!
//! A call that is not in the list ends the launcher with a message, or by SIGSYS where its thread
//! has blocked that: it is an attack, or a fault of the list.

use crate::{ending, output};
use anyhow::{Context, Result};
use libc::c_long;
use loft_devices::terminal;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use seccompiler::{
    apply_filter, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a thread is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Waits for the guest's end.
    Main,
    /// The poll loop between the user and the guest, which also takes the machine apart.
    Session,
    /// Answers requests at the guest's socket.
    Control,
    /// Runs a vCPU, emulates registers, starts and stops devices.
    Vcpu,
    /// Starts the devices' threads.
    Starter,
    /// Works on the rings of a disk.
    Disk,
    /// Works on the rings of a network card.
    Net,
    /// Has another program work on the rings of a file system.
    Fs,
    /// Works on the rings of any other device.
    Device,
    /// Serves a debugger.
    Gdb,
    /// Writes the console to a file.
    Log,
}

/// A system call that is allowed.
struct Call {
    number: c_long,
    /// Which of its arguments has to be what in the bits of a mask; one of them suffices, and
    /// without any every call is allowed.
    when: &'static [(u8, u64, u64)],
}

const fn any(number: c_long) -> Call {
    Call { number, when: &[] }
}

const fn when(number: c_long, when: &'static [(u8, u64, u64)]) -> Call {
    Call { number, when }
}

/// The whole of an argument.
const ALL: u64 = u64::MAX;
/// The bits of an ioctl's request that name its driver.
const DRIVER: u64 = 0xff00;
/// The driver vhost (linux/vhost.h).
const VHOST: u64 = 0xaf << 8;
/// KVM_RUN (linux/kvm.h).
const KVM_RUN: u64 = 0xae80;
/// KVM_IRQFD and KVM_SET_GSI_ROUTING (linux/kvm.h).
const KVM_IRQFD: u64 = 0x4020_ae76;
const KVM_SET_GSI_ROUTING: u64 = 0x4008_ae6a;
/// KVM_GET_ONE_REG, KVM_SET_ONE_REG and KVM_SET_GUEST_DEBUG (linux/kvm.h).
const KVM_GET_ONE_REG: u64 = 0x4010_aeab;
const KVM_SET_ONE_REG: u64 = 0x4010_aeac;
const KVM_SET_GUEST_DEBUG: u64 = 0x4208_ae9b;
/// VHOST_NET_SET_BACKEND (linux/vhost.h).
const VHOST_NET_SET_BACKEND: u64 = 0x4008_af30;
/// TUNSETOFFLOAD and TUNSETQUEUE (linux/if_tun.h).
const TUNSETOFFLOAD: u64 = 0x4004_54d0;
const TUNSETQUEUE: u64 = 0x4004_54d9;
const NOT_EXECUTABLE: &[(u8, u64, u64)] = &[(2, libc::PROT_EXEC as u64, 0)];

/// The signals of a crash, as an argument.
const SEGV: u64 = libc::SIGSEGV as u64;
const BUS: u64 = libc::SIGBUS as u64;
const ABRT: u64 = libc::SIGABRT as u64;

/// Every thread: memory, locks, files that are open, its own end, and what tells of a fault: the
/// restored terminal, the libraries' messages, the signals that end the process.
const COMMON: &[Call] = &[
    any(libc::SYS_read),
    any(libc::SYS_write),
    any(libc::SYS_close),
    any(libc::SYS_ppoll),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_poll),
    any(libc::SYS_futex),
    any(libc::SYS_brk),
    when(libc::SYS_mmap, NOT_EXECUTABLE),
    when(libc::SYS_mprotect, NOT_EXECUTABLE),
    any(libc::SYS_mremap),
    any(libc::SYS_munmap),
    any(libc::SYS_madvise),
    any(libc::SYS_clock_gettime),
    any(libc::SYS_clock_nanosleep),
    any(libc::SYS_getrandom),
    any(libc::SYS_sched_yield),
    any(libc::SYS_sched_getaffinity),
    any(libc::SYS_restart_syscall),
    any(libc::SYS_rt_sigreturn),
    any(libc::SYS_rt_sigprocmask),
    any(libc::SYS_sigaltstack),
    any(libc::SYS_getpid),
    any(libc::SYS_gettid),
    any(libc::SYS_exit),
    any(libc::SYS_exit_group),
    when(libc::SYS_ioctl, &[(1, ALL, libc::TCSETSW)]),
    any(libc::SYS_writev),
    when(libc::SYS_rt_sigaction, &[(0, ALL, SEGV), (0, ALL, BUS), (0, ALL, ABRT)]),
    when(libc::SYS_tgkill, &[(2, ALL, ABRT)]),
];

/// To start a thread of this process; not a process.
const START: &[Call] = &[
    when(libc::SYS_clone, &[(0, libc::CLONE_THREAD as u64, libc::CLONE_THREAD as u64)]),
    // Its flags are in memory, where no filter sees them. But the seccomp filter is the child's,
    // too.
    any(libc::SYS_clone3),
    any(libc::SYS_rseq),
    any(libc::SYS_set_robust_list),
    when(libc::SYS_prctl, &[(0, ALL, libc::PR_SET_NAME as u64)]),
];

/// To enter a sandbox that is smaller.
const ENTER: &[Call] = &[any(libc::SYS_seccomp), when(libc::SYS_prctl, &[(0, ALL, libc::PR_SET_NO_NEW_PRIVS as u64)])];

/// To kick a vCPU.
const KICK: &[Call] = &[any(libc::SYS_tgkill)];

/// Connections that are open.
const SOCKET: &[Call] = &[any(libc::SYS_recvfrom), any(libc::SYS_sendto), any(libc::SYS_shutdown)];

/// Connections over which descriptors are passed.
const MESSAGES: &[Call] = &[any(libc::SYS_recvmsg), any(libc::SYS_sendmsg)];

const DISK: &[Call] = &[
    any(libc::SYS_preadv),
    any(libc::SYS_pwritev),
    any(libc::SYS_pwrite64),
    any(libc::SYS_fdatasync),
    any(libc::SYS_fallocate),
];

/// To start and stop devices, vhost's among them, which are the kernel's.
const DEVICES: &[Call] = &[
    any(libc::SYS_eventfd2),
    any(libc::SYS_dup),
    when(libc::SYS_fcntl, &[(1, ALL, libc::F_DUPFD_CLOEXEC as u64)]),
    when(libc::SYS_ioctl, &[(1, DRIVER, VHOST), (1, ALL, TUNSETOFFLOAD)]),
];

/// To take pairs of a card's queues into use and out of it, and to have their threads started.
const NET: &[Call] = &[
    any(libc::SYS_eventfd2),
    any(libc::SYS_dup),
    when(libc::SYS_fcntl, &[(1, ALL, libc::F_DUPFD_CLOEXEC as u64)]),
    when(libc::SYS_ioctl, &[(1, ALL, TUNSETQUEUE), (1, ALL, VHOST_NET_SET_BACKEND)]),
];

/// Also to connect the messages of a device on PCI to the guest's interrupt controller.
const VCPU: &[Call] =
    &[when(libc::SYS_ioctl, &[(1, ALL, KVM_RUN), (1, ALL, KVM_IRQFD), (1, ALL, KVM_SET_GSI_ROUTING)])];

const SESSION: &[Call] = &[
    any(libc::SYS_pread64),
    any(libc::SYS_wait4),
    any(libc::SYS_waitid),
    any(libc::SYS_kill),
    when(libc::SYS_ioctl, &[(1, ALL, libc::TIOCGWINSZ), (1, ALL, libc::TCGETS), (1, ALL, libc::FIONBIO)]),
];

/// Also to read counters.
const CONTROL: &[Call] =
    &[any(libc::SYS_accept4), any(libc::SYS_pread64), when(libc::SYS_fcntl, &[(1, ALL, libc::F_DUPFD_CLOEXEC as u64)])];

const GDB: &[Call] = &[
    any(libc::SYS_accept4),
    when(libc::SYS_ioctl, &[(1, ALL, KVM_GET_ONE_REG), (1, ALL, KVM_SET_ONE_REG), (1, ALL, KVM_SET_GUEST_DEBUG)]),
];

/// To begin a file anew.
const LOG: &[Call] = &[any(libc::SYS_pread64), any(libc::SYS_ftruncate)];

/// To give the guest's name back.
const MAIN: &[Call] = &[
    any(libc::SYS_geteuid),
    any(libc::SYS_mkdirat),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_mkdir),
    any(libc::SYS_statx),
    any(libc::SYS_newfstatat),
    any(libc::SYS_openat),
    any(libc::SYS_flock),
    any(libc::SYS_unlinkat),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_unlink),
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Session => "session",
            Self::Control => "control",
            Self::Vcpu => "vCPU",
            Self::Starter => "starter",
            Self::Disk => "disk",
            Self::Net => "net",
            Self::Fs => "file system",
            Self::Device => "device",
            Self::Gdb => "gdb",
            Self::Log => "log",
        }
    }

    /// The kind of the devices' thread `name`.
    pub fn of_device(name: &str) -> Self {
        match name {
            "starter" => Self::Starter,
            "virtio-blk" => Self::Disk,
            "virtio-net" => Self::Net,
            "virtio-fs" => Self::Fs,
            _ => Self::Device,
        }
    }

    fn calls(self) -> impl Iterator<Item = &'static Call> {
        let more: &[&[Call]] = match self {
            Self::Main => &[MAIN],
            Self::Session => &[SESSION, SOCKET, DEVICES, KICK],
            Self::Control => &[CONTROL, SOCKET, START, KICK],
            Self::Vcpu => &[VCPU, DEVICES, KICK],
            Self::Starter => &[START, ENTER, DISK, NET, SOCKET, MESSAGES, KICK],
            Self::Disk => &[DISK, KICK],
            Self::Net => &[NET, SOCKET],
            Self::Fs => &[MESSAGES],
            Self::Device => &[],
            Self::Gdb => &[GDB, KICK],
            Self::Log => &[LOG],
        };
        std::iter::once(COMMON).chain(more.iter().copied()).flatten()
    }

    fn filter(self) -> Result<BpfProgram> {
        let mut rules: BTreeMap<_, Vec<SeccompRule>> = BTreeMap::new();
        let always: BTreeSet<_> = self.calls().filter(|call| call.when.is_empty()).map(|call| call.number).collect();
        for call in self.calls() {
            let list = rules.entry(call.number).or_default();
            for (argument, mask, value) in call.when.iter().filter(|_| !always.contains(&call.number)) {
                let is = SeccompCmpOp::MaskedEq(*mask);
                let condition = SeccompCondition::new(*argument, SeccompCmpArgLen::Qword, is, *value)?;
                list.push(SeccompRule::new(vec![condition])?);
            }
        }
        let architecture = std::env::consts::ARCH.try_into()?;
        let filter = SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, architecture)?;
        Ok(filter.try_into()?)
    }
}

/// Whether threads enter the sandbox.
static ON: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What this thread is for, once it is in the sandbox.
    static KIND: Cell<Option<Kind>> = const { Cell::new(None) };
}

/// Prepares the process, before its threads: it gains no privileges, nobody attaches to it or reads
/// its memory, and what is forbidden is told.
pub fn prepare() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().context("cannot set no_new_privs")?;
    nix::sys::prctl::set_dumpable(false).context("cannot become undumpable")?;
    // One arena for all threads: the end of another one looks into /proc.
    // SAFETY: mallopt takes two numbers, and no other thread runs yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    let action = SigAction::new(SigHandler::SigAction(on_forbidden), SaFlags::SA_ONSTACK, SigSet::all());
    // SAFETY: the handler relies on nothing that its thread may have left half done; see there.
    unsafe { sigaction(Signal::SIGSYS, &action) }.context("cannot install a signal handler")?;
    ON.store(true, Ordering::Relaxed);
    Ok(())
}

/// Has nobody attach to the process or read its memory, if it is prepared: once more after it has
/// become another user, which makes of that what the host's fs.suid_dumpable says.
pub fn hide() -> Result<()> {
    if ON.load(Ordering::Relaxed) {
        nix::sys::prctl::set_dumpable(false).context("cannot become undumpable")?;
    }
    Ok(())
}

/// Leaves the calling thread what one of its kind needs, if the process is prepared. Where that
/// cannot be done the process ends.
pub fn enter(kind: Kind) {
    if !ON.load(Ordering::Relaxed) {
        return;
    }
    KIND.set(Some(kind));
    let entered = kind.filter().and_then(|filter| Ok(apply_filter(&filter)?));
    if let Err(error) = entered {
        terminal::restore();
        output::message(&format!("loft: the sandbox cannot be set up: {error:#}; --no-sandbox does without"));
        std::process::exit(ending::FAILED.into());
    }
}

/// The same for a device's thread called `name`.
pub fn enter_device(name: &str) {
    enter(Kind::of_device(name));
}

/// `si_syscall` of a SIGSYS: the second int after the call's address (siginfo_t, sigaction(2)).
const SYSCALL: usize = 6;

/// Tells which call was forbidden, and ends the process. The signal is synchronous: its thread was
/// in a system call, and in none of those that are made here.
extern "C" fn on_forbidden(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let number = info.cast::<libc::c_int>().wrapping_add(SYSCALL);
    // SAFETY: 1. The kernel gives a siginfo_t of a SIGSYS, which has 128 bytes and the alignment of
    // an int. 2. The number is at this place on every 64-bit architecture.
    let number = unsafe { number.read() };
    terminal::restore();
    let kind = KIND.get().map_or("unknown", Kind::name);
    output::message(&format!(
        "loft: the sandbox ended the guest: its {kind} thread wanted system call {number}, which it has no use for. \
         This is an attack, or a fault of loft; --no-sandbox does without"
    ));
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(ending::FAILED.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{waitpid, WaitStatus};
    use nix::unistd::{fork, ForkResult};
    use std::fs::File;
    use std::io::Read;

    const ALL_KINDS: [Kind; 11] = [
        Kind::Main,
        Kind::Session,
        Kind::Control,
        Kind::Vcpu,
        Kind::Starter,
        Kind::Disk,
        Kind::Net,
        Kind::Fs,
        Kind::Device,
        Kind::Gdb,
        Kind::Log,
    ];

    /// How a process ends that enters the sandbox of `kind` and then does `act`, and its message.
    fn ended(kind: Kind, act: fn()) -> (WaitStatus, String) {
        let (ours, theirs) = nix::unistd::pipe().unwrap();
        // SAFETY: the child makes system calls and allocates, which glibc allows after fork, and
        // ends with _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let _ = nix::unistd::dup2_stderr(&theirs);
                if prepare().is_ok() {
                    enter(kind);
                    act();
                }
                // SAFETY: ends the child without running the test program's own exit handlers.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let mut said = String::new();
                File::from(ours).read_to_string(&mut said).unwrap();
                (waitpid(child, None).unwrap(), said)
            }
        }
    }

    fn is_ended(kind: Kind, act: fn()) {
        let (status, said) = ended(kind, act);
        assert!(matches!(status, WaitStatus::Exited(_, 125)), "{kind:?}: {status:?} {said}");
        assert!(said.contains(&format!("its {} thread wanted system call", kind.name())), "{said}");
    }

    fn goes_on(kind: Kind, act: fn()) {
        let (status, said) = ended(kind, act);
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{kind:?}: {status:?} {said}");
    }

    #[test]
    fn no_kind_makes_sockets_programs_or_code() {
        for kind in ALL_KINDS {
            goes_on(kind, || drop(vec![1u8; 1 << 20]));
            is_ended(kind, || drop(std::net::UdpSocket::bind("127.0.0.1:0")));
            is_ended(kind, || _ = nix::unistd::execv(c"/bin/true", &[c"true"]));
            is_ended(kind, || {
                // SAFETY: a new mapping, which nobody uses.
                unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        4096,
                        libc::PROT_EXEC,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    )
                };
            });
            is_ended(kind, || {
                // SAFETY: leaves no namespace.
                unsafe { libc::syscall(libc::SYS_unshare, 0) };
            });
        }
    }

    #[test]
    fn only_the_main_thread_opens_files() {
        for kind in ALL_KINDS.into_iter().filter(|kind| *kind != Kind::Main) {
            is_ended(kind, || drop(File::open("/dev/null")));
        }
    }

    #[test]
    fn a_crash_is_one() {
        for kind in ALL_KINDS {
            let (status, said) = ended(kind, || std::process::abort());
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGABRT, _)), "{kind:?}: {status:?} {said}");
            // SAFETY: the page at 8 is not mapped, and the process is to end of that.
            let (status, said) = ended(kind, || unsafe { _ = std::ptr::without_provenance::<u64>(8).read_volatile() });
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGSEGV, _)), "{kind:?}: {status:?} {said}");
        }
    }

    #[test]
    fn each_has_its_own() {
        let write_at = || {
            // SAFETY: one byte is written where the descriptor is none of a file.
            unsafe { libc::pwrite(2, c"x".as_ptr().cast(), 1, 0) };
        };
        goes_on(Kind::Disk, write_at);
        is_ended(Kind::Device, write_at);
        let read_at = || {
            // SAFETY: nothing is read where the descriptor is none of a file.
            unsafe { libc::pread(2, [0u8].as_mut_ptr().cast(), 1, 0) };
        };
        goes_on(Kind::Control, read_at);
        is_ended(Kind::Vcpu, read_at);
        let kvm_run = || {
            // SAFETY: an ioctl without an argument, on a descriptor that knows none such.
            unsafe { libc::ioctl(2, 0xae80, 0) };
        };
        goes_on(Kind::Vcpu, kvm_run);
        is_ended(Kind::Disk, kvm_run);
        let route = || {
            let nothing = [0u64; 4];
            for request in [0x4020_ae76, 0x4008_ae6a] {
                // SAFETY: an ioctl that reads the array, on a descriptor that knows none such.
                unsafe { libc::ioctl(2, request, &nothing) };
            }
        };
        goes_on(Kind::Vcpu, route);
        is_ended(Kind::Session, route);
        let pairs = || {
            let nothing = [0u64; 5];
            for request in [0x4004_54d9, 0x4008_af30] {
                // SAFETY: an ioctl that reads the array, on a descriptor that knows none such.
                unsafe { libc::ioctl(2, request, &nothing) };
            }
        };
        goes_on(Kind::Net, pairs);
        is_ended(Kind::Vcpu, pairs);
        is_ended(Kind::Disk, pairs);
        is_ended(Kind::Net, || {
            // SAFETY: VHOST_SET_OWNER has no argument, and the descriptor knows none such.
            unsafe { libc::ioctl(2, 0xaf01, 0) };
        });
        let one_reg = || {
            let register = [0u64; 2];
            // SAFETY: an ioctl that reads the array, on a descriptor that knows none such.
            unsafe { libc::ioctl(2, 0x4010_aeab, &register) };
        };
        goes_on(Kind::Gdb, one_reg);
        is_ended(Kind::Vcpu, one_reg);
        is_ended(Kind::Gdb, kvm_run);
        let start = || drop(std::thread::spawn(|| ()).join());
        goes_on(Kind::Starter, start);
        goes_on(Kind::Control, start);
        // The library starts threads with all signals blocked, so nothing can be said.
        for kind in [Kind::Vcpu, Kind::Net, Kind::Session] {
            let (status, _) = ended(kind, start);
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGSYS, _)), "{kind:?}: {status:?}");
        }
    }

    #[test]
    fn a_starter_has_what_it_starts() {
        let numbers = |kind: Kind| kind.calls().map(|call| call.number).collect::<BTreeSet<_>>();
        for kind in [Kind::Disk, Kind::Net, Kind::Fs, Kind::Device] {
            assert!(numbers(kind).is_subset(&numbers(Kind::Starter)), "{kind:?}");
        }
    }
}
