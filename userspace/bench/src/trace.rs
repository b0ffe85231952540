// SPDX-License-Identifier: Apache-2.0
//! QEMU's log of what it executes (`-d in_asm,exec,nochain` with one instruction a block): a line for each instruction, and its
//! text the first time.

use std::{collections::HashMap, io::BufRead};

use anyhow::Result;

/// What the instructions are, by address; filled by one log after the other, since each only has what is new.
#[derive(Default)]
pub struct Code(HashMap<u64, String>);

impl Code {
    /// The instruction at `address`: its mnemonic and operands.
    pub fn text(&self, address: u64) -> Option<&str> {
        self.0.get(&address).map(String::as_str)
    }
}

/// Reads a log: the addresses that `cpu` executed, in order.
pub fn read(mut log: impl BufRead, cpu: u32, code: &mut Code) -> Result<Vec<u64>> {
    let mut executed = Vec::new();
    let mut line = String::new();
    while log.read_line(&mut line)? > 0 {
        if let Some(rest) = line.strip_prefix("Trace ") {
            if let Some((number, address)) = executed_by(rest) {
                if number == cpu {
                    executed.push(address);
                }
            }
        } else if line.starts_with("Stopped execution") {
            // It was announced, but its CPU's turn was over.
            let address = line.rsplit_once('[').and_then(|(_, rest)| hex(rest.split(']').next()?));
            if address.is_some() && address == executed.last().copied() {
                executed.pop();
            }
        } else if let Some(rest) = line.strip_prefix("0x") {
            if let Some((address, text)) = translated(rest) {
                code.0.insert(address, text);
            }
        }
        line.clear();
    }
    Ok(executed)
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// `1: 0x7f9270153cc0 [100800203309/ffff9d1112dd0400/00000071/ff022201]`
fn executed_by(line: &str) -> Option<(u32, u64)> {
    let (number, rest) = line.split_once(':')?;
    Some((number.parse().ok()?, hex(rest.split('/').nth(1)?)?))
}

/// `40001280:  52b00000  mov      w0, #-0x80000000`
fn translated(line: &str) -> Option<(u64, String)> {
    let (address, rest) = line.split_once(':')?;
    let mut words = rest.split_whitespace();
    words.next()?;
    Some((hex(address)?, words.collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
----------------
IN: 
0x40001284:  d4000002  hvc      #0

Trace 1: 0x7f9270153b80 [480840104004/0000000040001284/00001121/ff022201] 
Trace 0: 0x7f9270153c80 [480840104004/0000000040009999/00001121/ff022201] 
----------------
IN: el1_sync
0xffff9d1112dd0400:  a90007e0  stp      x0, x1, [sp]

Trace 1: 0x7f9270153cc0 [100800203309/ffff9d1112dd0400/00000071/ff022201] el1_sync
Trace 1: 0x7f9270153cc0 [100800203309/ffff9d1112dd0404/00000071/ff022201] el1_sync
Stopped execution of TB chain before 0x7f9270153cc0 [ffff9d1112dd0404] el1_sync
Trace 1: 0x7f9270153cc0 [100800203309/ffff9d1112dd0404/00000071/ff022201] el1_sync
";

    #[test]
    fn one_cpu_is_followed() {
        let mut code = Code::default();
        let executed = read(LOG.as_bytes(), 1, &mut code).unwrap();
        // What was stopped counts once, when it is executed.
        assert_eq!(executed, [0x40001284, 0xffff9d1112dd0400, 0xffff9d1112dd0404]);
        assert_eq!(code.text(0x40001284), Some("hvc #0"));
        assert_eq!(code.text(0xffff9d1112dd0400), Some("stp x0, x1, [sp]"));
        assert_eq!(read(LOG.as_bytes(), 0, &mut code).unwrap(), [0x40009999]);
    }
}
