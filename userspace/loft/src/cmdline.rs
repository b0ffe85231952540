// SPDX-License-Identifier: Apache-2.0
//! The kernel's command line.

use crate::cli::ConsoleKind;

/// The most bytes that an arm64 kernel takes (COMMAND_LINE_SIZE, less the NUL): it cuts what is longer without a word.
pub const LIMIT: usize = 2047;
/// Below this much memory a guest does without an area for contiguous allocations. Debian's kernels set 64 MiB aside for it,
/// which may leave too little for anything else; none of loft's devices needs it.
const SMALL: u64 = 256 << 20;

/// What decides loft's own parameters.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The main console.
    pub console: ConsoleKind,
    /// Whether a command runs, so that the kernel should keep quiet.
    pub command: bool,
    /// Whether the kernel's messages are to be seen in any case.
    pub verbose: bool,
    /// The first process in the initial RAM disk, if it is loft's.
    pub rdinit: Option<&'a str>,
    /// Bytes of memory.
    pub memory: u64,
    /// The user's parameters.
    pub append: &'a str,
}

/// Puts the command line together. The user's parameters come last: of two that contradict the kernel takes the last.
pub fn build(wish: Wish) -> String {
    let user = |name: &str| wish.append.split_whitespace().any(|p| p.starts_with(name));
    let mut words: Vec<String> = Vec::new();
    let mut add = |word: &str| words.push(word.to_owned());
    // A panic becomes a reset at once, so that the launcher learns of it.
    add("panic=-1");
    if !user("console=") {
        match (wish.command, wish.console) {
            // The serial port shows everything until the virtio console takes over; the launcher then hides it.
            (false, ConsoleKind::Hvc0) => {
                add("earlycon");
                add("keep_bootcon");
                add("console=hvc0");
            }
            (false, ConsoleKind::Serial) => {
                add("earlycon");
                add("console=ttyS0");
            }
            (true, _) => {
                add("earlycon");
                add("console=ttyS0");
            }
        }
    }
    if !wish.verbose && !user("loglevel=") && !user("quiet") && !user("debug") {
        match (wish.command, wish.console) {
            (true, _) => add("quiet"),
            // Until there is a virtio console every character of the log is an exit. Warnings are shown, and where the kernel
            // dies all of the log (PANIC_PRINT_ALL_PRINTK_MSG). Not `quiet`: to systemd that means to be quiet as well.
            (false, ConsoleKind::Hvc0) => {
                add("loglevel=5");
                add("panic_print=0x20");
            }
            (false, ConsoleKind::Serial) => {}
        }
    }
    if wish.memory < SMALL && !user("cma=") {
        add("cma=0");
    }
    if let Some(init) = wish.rdinit {
        add(&format!("rdinit=/{init}"));
    }
    let own = words.join(" ");
    match wish.append.trim() {
        "" => own,
        more => format!("{own} {more}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Wish = Wish {
        console: ConsoleKind::Serial,
        command: false,
        verbose: false,
        rdinit: None,
        memory: 512 << 20,
        append: "",
    };

    #[test]
    fn consoles() {
        assert_eq!(build(PLAIN), "panic=-1 earlycon console=ttyS0");
    }

    #[test]
    fn the_virtio_console_has_no_log_unless_it_is_asked_for() {
        let hvc0 = Wish { console: ConsoleKind::Hvc0, ..PLAIN };
        let all = "panic=-1 earlycon keep_bootcon console=hvc0";
        assert_eq!(build(hvc0), format!("{all} loglevel=5 panic_print=0x20"));
        assert_eq!(build(Wish { verbose: true, ..hvc0 }), all);
        for append in ["loglevel=7", "debug", "quiet"] {
            assert_eq!(build(Wish { append, ..hvc0 }), format!("{all} {append}"));
        }
    }

    #[test]
    fn the_user_has_the_last_word() {
        assert_eq!(
            build(Wish { append: " console=ttyS0,9600 panic=0 ", ..PLAIN }),
            "panic=-1 console=ttyS0,9600 panic=0"
        );
    }

    #[test]
    fn a_small_guest_sets_nothing_aside() {
        let small = Wish { memory: SMALL - 4096, ..PLAIN };
        assert_eq!(build(small), "panic=-1 earlycon console=ttyS0 cma=0");
        assert_eq!(build(Wish { append: "cma=8M", ..small }), "panic=-1 earlycon console=ttyS0 cma=8M");
        assert!(!build(Wish { memory: SMALL, ..small }).contains("cma="));
    }

    #[test]
    fn a_command_wants_quiet() {
        let command = Wish { command: true, rdinit: Some(".loft/init"), ..PLAIN };
        assert_eq!(build(command), "panic=-1 earlycon console=ttyS0 quiet rdinit=/.loft/init");
        assert!(!build(Wish { verbose: true, ..command }).contains("quiet"));
        assert!(!build(Wish { append: "loglevel=7", ..command }).contains("quiet"));
    }
}
