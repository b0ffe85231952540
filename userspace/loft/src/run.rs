// SPDX-License-Identifier: Apache-2.0
//! `loft run`: from the command line to a machine, and from its ending to an exit code.

use crate::cli::{ConsoleKind, NetArg, RunArgs, TransportKind, UserNet};
use crate::share::{self, Share};
use crate::{cmdline, disks, ending::Ending, guest, initrd, memory, passt};
use anyhow::{bail, Context, Result};
use loft_agent::task::{Action, Command, Root, Task, User, SHARE_FILE_SYSTEM};
use loft_boot::image::Kernel;
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What boots, decided before any device exists.
pub struct Plan {
    pub kernel: Kernel,
    pub initrd: Vec<Vec<u8>>,
    pub cmdline: String,
    pub console: ConsoleKind,
    /// The command has a terminal.
    pub terminal: bool,
    pub transport: TransportKind,
    /// The network cards.
    pub nets: Vec<NetArg>,
    /// Directories of this machine.
    pub shares: Vec<Share>,
    /// loft itself is the guest's first process.
    pub own_init: bool,
}

/// Checks what the user gave and decides what boots, with `nets` as its network cards.
pub fn plan(args: &RunArgs, nets: Vec<NetArg>) -> Result<Plan> {
    memory::check(args.memory, &std::fs::read_to_string("/proc/meminfo").unwrap_or_default())?;
    let kernel_path = kernel_path(args)?;
    let kernel = Kernel::open(&kernel_path)?;
    let found = args.disks.iter().map(disks::check).collect::<Result<Vec<_>>>()?;
    let append = args.append.join(" ");
    let initrd = args.initrd.as_deref().map(|path| initrd::read(path, &append)).transpose()?;

    let command = !args.command.is_empty();
    let manages_itself = ["root=", "rdinit="].iter().any(|p| append.split_whitespace().any(|w| w.starts_with(p)));
    if !command && initrd.is_none() && args.disks.is_empty() && !manages_itself {
        bail!(
            "there is nothing to boot from: give a disk with -d, an initial RAM disk with -i \
             (for a kernel that brings its own: -p rdinit=/init), or a command for this machine's own files: -- bash"
        );
    }
    let own_init = command || (initrd.is_none() && !args.disks.is_empty() && !manages_itself);
    if !own_init && args.modules.is_some() {
        bail!(
            "--modules is of no use here: the initial RAM disk given with -i brings its own modules; \
             leave one of the two out, or give a command"
        );
    }
    let console = args.console.unwrap_or(if own_init { ConsoleKind::Hvc0 } else { ConsoleKind::Serial });
    let terminal = command && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();

    let host_root = command && initrd.is_none() && args.disks.is_empty();
    let shares = share::plan(args, host_root)?;
    let mut parts = Vec::new();
    let mut transport = args.transport.unwrap_or(TransportKind::Mmio);
    if own_init {
        let root = match (args.disks.first(), found.first()) {
            (Some(arg), Some(found)) => match disks::root(arg, found) {
                Ok(root) => Some(root),
                // What -i gave can be the root as well.
                Err(_) if initrd.is_some() => None,
                Err(error) => return Err(error),
            },
            _ => shares.first().filter(|_| host_root).map(|share| Root::Host { tag: share.tag.clone() }),
        };
        let modules = guest::find_modules(args.modules.as_deref(), &kernel, &kernel_path)?;
        transport = args.transport.map_or_else(|| guest::transport(&kernel, modules.as_ref()), Ok)?;
        let mut drivers =
            guest::drivers(transport, !args.disks.is_empty(), !nets.is_empty(), args.vsock.is_some(), args.balloon);
        if !shares.is_empty() {
            drivers.push(SHARE_FILE_SYSTEM);
        }
        let task = Task {
            modules: Vec::new(),
            root,
            shares: shares.iter().filter_map(Share::task).collect(),
            network: network(&nets),
            action: action(args, console, terminal, &shares)?,
        };
        parts.push(guest::archive(modules.as_ref(), &drivers, task)?);
    }
    parts.extend(initrd);
    let first = guest::first_process();
    let cmdline = cmdline::build(cmdline::Wish {
        console,
        command,
        verbose: args.verbose,
        rdinit: own_init.then_some(first.as_str()),
        memory: args.memory,
        append: &append,
    });
    if cmdline.len() > cmdline::LIMIT {
        bail!(
            "the kernel's parameters have {} bytes, loft's own included, and the kernel takes {}; shorten what -p gives",
            cmdline.len(),
            cmdline::LIMIT
        );
    }
    Ok(Plan { kernel, initrd: parts, cmdline, console, terminal, transport, nets, shares, own_init })
}

/// The kernel that was given, or this machine's own.
fn kernel_path(args: &RunArgs) -> Result<PathBuf> {
    if let Some(path) = &args.kernel {
        return Ok(path.clone());
    }
    let release = nix::sys::utsname::uname().context("this machine's kernel has no release")?;
    let path = Path::new("/boot").join(format!("vmlinuz-{}", release.release().to_string_lossy()));
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(e) => bail!("this machine's own kernel, {}, cannot be read: {e}; give one with -k", path.display()),
    }
}

/// The network cards that the guest gets where `given` were asked for and `passt` is installed.
pub fn nets(given: &[NetArg], passt: bool) -> Result<Vec<NetArg>> {
    match given {
        [] if passt => return Ok(vec![NetArg::User(UserNet { implied: true, ..UserNet::default() })]),
        [NetArg::None] => return Ok(Vec::new()),
        _ => {}
    }
    if given.contains(&NetArg::None) {
        bail!("-n none is no network at all; leave it out, or the other ones");
    }
    if given.iter().filter(|net| matches!(net, NetArg::User(_))).count() > 1 {
        bail!("one network of the kind `user` is all that a guest can use; leave the others out");
    }
    Ok(given.to_vec())
}

/// The network that loft sets up in the guest.
fn network(nets: &[NetArg]) -> Option<loft_agent::task::Network> {
    nets.iter().find_map(|net| if let NetArg::User(net) = net { Some(passt::network(net)) } else { None })
}

fn action(args: &RunArgs, console: ConsoleKind, terminal: bool, shares: &[Share]) -> Result<Action> {
    if args.command.is_empty() {
        let console = match console {
            ConsoleKind::Hvc0 => "/dev/hvc0",
            ConsoleKind::Serial => "/dev/ttyS0",
        };
        // Only who types on a terminal has a type of terminal to tell.
        let names: &[&str] = if std::io::stdin().is_terminal() { &["TERM", "COLORTERM"] } else { &[] };
        return Ok(Action::Init { console: console.into(), env: environment(names) });
    }
    let mut env = environment(&["TERM", "LANG", "COLORTERM"]);
    // In this machine's own files everybody is who they are here.
    let mut user = None;
    if shares.iter().any(|share| share.target.is_none()) {
        env.extend(environment(&["HOME", "PATH", "USER", "LOGNAME", "SHELL"]));
        user = Some(calling_user()?);
    }
    let current = std::env::current_dir().ok().and_then(|path| share::current_directory(shares, &path));
    Ok(Action::Command(Command {
        argv: args.command.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env,
        terminal: if terminal { Some(crate::session::window().unwrap_or((80, 24))) } else { None },
        user,
        directory: current.map(|path| path.into_os_string().into_vec()),
    }))
}

/// Who has started loft.
fn calling_user() -> Result<User> {
    let groups = nix::unistd::getgroups().context("this user's groups cannot be had")?;
    Ok(User {
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        groups: groups.into_iter().map(|group| group.as_raw()).collect(),
    })
}

/// Those of this program's own variables that are set.
pub fn environment(names: &[&str]) -> Vec<(String, Vec<u8>)> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?.as_bytes().to_vec()))).collect()
}

/// The result for `--json`.
pub fn report(ending: &Ending, code: u8, status: Option<u8>, facts: serde_json::Value) -> String {
    let mut report = serde_json::json!({
        "ending": ending.name(),
        "detail": ending.detail(),
        "exit_code": code,
        "command_exit_code": status,
    });
    if let (Some(report), serde_json::Value::Object(facts)) = (report.as_object_mut(), facts) {
        report.extend(facts);
    }
    report.to_string()
}

#[cfg(not(target_arch = "aarch64"))]
pub fn main(args: &RunArgs, _begun: std::time::Instant) -> Result<u8> {
    let _ = plan(args, nets(&args.nets, passt::is_installed())?)?;
    bail!("guests can be run on arm64 machines only")
}

#[cfg(target_arch = "aarch64")]
pub use crate::launch::main;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Cli};
    use clap::Parser;

    /// The error of a plan with a kernel that is none but for its header.
    fn error(args: &[&str]) -> String {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let kernel = std::env::temp_dir().join(format!("loft-run-{}-{n}", std::process::id()));
        let mut image = vec![0; 4096];
        image[56..60].copy_from_slice(b"ARM\x64");
        std::fs::write(&kernel, image).unwrap();
        let all = ["loft", "run", "-k", kernel.to_str().unwrap()].into_iter().chain(args.iter().copied());
        let cli::Command::Run(args) = Cli::try_parse_from(all).unwrap().command else { panic!() };
        let result = plan(&args, Vec::new());
        std::fs::remove_file(&kernel).unwrap();
        result.map(drop).map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn the_network() {
        let of = |words: &[&str], passt| {
            let given: Vec<NetArg> = words.iter().map(|w| w.parse().unwrap()).collect();
            nets(&given, passt).map(|nets| nets.len()).map_err(|e| e.to_string())
        };
        assert_eq!((of(&[], true), of(&[], false), of(&["none"], true)), (Ok(1), Ok(0), Ok(0)));
        assert_eq!(of(&["user", "tap=a", "tap=b"], false), Ok(3));
        assert!(of(&["none", "tap=a"], true).is_err() && of(&["user", "user"], true).is_err());
        let user = nets(&["tap=a,mac=02:00:00:00:00:01".parse().unwrap(), "user".parse().unwrap()], false).unwrap();
        assert_eq!(network(&user).unwrap().mac, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(network(&user[..1]), None);
    }

    #[test]
    fn nothing_to_boot_from() {
        assert!(error(&["-m", "64M"]).contains("-d"));
        assert_eq!(error(&["-m", "64M", "-p", "rdinit=/init"]), "");
        assert_eq!(error(&["-m", "64M", "-p", "root=/dev/nfs"]), "");
    }

    #[test]
    fn parameters_that_the_kernel_would_cut() {
        let more = |n: usize| format!("rdinit=/init {}", "x".repeat(n));
        let own = cmdline::build(cmdline::Wish {
            console: ConsoleKind::Serial,
            command: false,
            verbose: false,
            rdinit: None,
            memory: 64 << 20,
            append: &more(0),
        })
        .len();
        // The space before the last word is trimmed where there is none.
        let fits = cmdline::LIMIT - own - 1;
        assert_eq!(error(&["-m", "64M", "-p", &more(fits)]), "");
        assert!(error(&["-m", "64M", "-p", &more(fits + 1)]).contains("2048 bytes"));
    }
}
