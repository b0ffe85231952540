// SPDX-License-Identifier: Apache-2.0
//! The user's terminal: raw mode that is always undone, and the escape key.

use nix::sys::termios::{self, SetArg, Termios};
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

/// What the terminal was like before; taken by whoever restores it, so that it happens once.
static BEFORE: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// Raw mode for as long as it lives.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Puts the terminal on standard input into raw mode; `None` where standard input is no terminal.
    pub fn enter() -> std::io::Result<Option<Self>> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let fd = stdin.as_fd().try_clone_to_owned()?;
        let before = termios::tcgetattr(&fd)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        let mut saved = BEFORE.lock().unwrap_or_else(|e| e.into_inner());
        termios::tcsetattr(&fd, SetArg::TCSANOW, &raw)?;
        *saved = Some((fd, before));
        Ok(Some(Self(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Undoes raw mode if it is on. For the ways out that run no destructors: a panic in another thread, `exit`.
pub fn restore() {
    // The lock is not held meanwhile: should tcsetattr be forbidden, that calls this once more.
    let before = BEFORE.lock().unwrap_or_else(|e| e.into_inner()).take();
    if let Some((fd, before)) = before {
        // Nothing can be done about a terminal that has gone away.
        let _ = termios::tcsetattr(&fd, SetArg::TCSADRAIN, &before);
    }
}

/// The escape key: Ctrl-a.
pub const ESCAPE: u8 = 1;

/// What the user has asked of the launcher itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    #[default]
    Nothing,
    /// Which keys there are: Ctrl-a h, Ctrl-a ?.
    Help,
    /// To end: Ctrl-a x.
    End,
}

/// Takes the escape key out of what the user types.
#[derive(Debug, Default)]
pub struct EscapeFilter {
    escaped: bool,
}

impl EscapeFilter {
    /// Appends to `out` what is meant for the guest; says what is meant for the launcher. Nothing counts after the wish to end.
    /// Ctrl-a Ctrl-a is one Ctrl-a; Ctrl-a and any other key is both keys.
    pub fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> Asked {
        let mut asked = Asked::Nothing;
        for byte in input {
            match (std::mem::take(&mut self.escaped), *byte) {
                (false, ESCAPE) => self.escaped = true,
                (true, b'x' | b'X') => return Asked::End,
                (true, b'h' | b'H' | b'?') => asked = Asked::Help,
                (true, ESCAPE) => out.push(ESCAPE),
                (true, other) => out.extend([ESCAPE, other]),
                (false, other) => out.push(other),
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut filter = EscapeFilter::default();
        let mut out = Vec::new();
        let ended = parts.iter().any(|p| filter.filter(p, &mut out) == Asked::End);
        (out, ended)
    }

    #[test]
    fn ctrl_a_x_ends_even_in_two_reads() {
        assert_eq!(run(&[b"ab\x01x never"]), (b"ab".to_vec(), true));
        assert_eq!(run(&[b"ab\x01", b"x"]), (b"ab".to_vec(), true));
    }

    #[test]
    fn ctrl_a_twice_is_one() {
        assert_eq!(run(&[b"\x01\x01x"]), (b"\x01x".to_vec(), false));
        assert_eq!(run(&[b"\x01", b"\x01", b"x"]), (b"\x01x".to_vec(), false));
    }

    #[test]
    fn ctrl_a_h_asks_for_help_and_the_rest_passes() {
        let mut out = Vec::new();
        for input in [&b"a\x01hb"[..], b"a\x01?b"] {
            assert_eq!(EscapeFilter::default().filter(input, &mut out), Asked::Help);
        }
        assert_eq!(out, b"abab");
        assert_eq!(EscapeFilter::default().filter(b"h?", &mut out), Asked::Nothing);
    }

    #[test]
    fn other_keys_pass() {
        assert_eq!(run(&[b"x\x01b\x00\xff"]), (b"x\x01b\x00\xff".to_vec(), false));
    }
}
