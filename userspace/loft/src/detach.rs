// SPDX-License-Identifier: Apache-2.0
//! `loft run --detach`: the guest runs on when the program that was called has ended.
//!
//! The launcher forks before it has threads. The parent waits until the guest runs, or until it is known that it cannot; until
//! then what goes wrong is printed where the user is.

use crate::ending::FAILED;
use crate::output;
use anyhow::{anyhow, Context, Result};
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::{fork, setsid, ForkResult};
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::stdio;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

/// The launcher in the background.
pub struct Detached {
    tell: File,
    null: File,
}

/// Goes into the background. `Err` with the exit code is the process that was called, which has nothing more to do.
pub fn start() -> Result<Result<Detached, u8>> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context("cannot open /dev/null")?;
    // SAFETY: this process has no other thread yet, so the child may do whatever its parent may.
    let child = match unsafe { fork() }.context("cannot make a process for the background")? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(read);
            setsid().context("cannot make a session")?;
            stdio::dup2_stdin(&null).context("cannot close the input")?;
            stdio::dup2_stdout(&null).context("cannot close the output")?;
            return Ok(Ok(Detached { tell: write.into(), null }));
        }
    };
    drop(write);
    let mut name = Vec::new();
    File::from(read).read_to_end(&mut name).context("cannot wait for the guest")?;
    if !name.is_empty() {
        output::write_all(stdio::stdout(), &name)?;
        return Ok(Err(0));
    }
    match waitpid(child, None).map_err(|e| anyhow!("cannot wait for the guest: {e}"))? {
        WaitStatus::Exited(_, code) => Ok(Err(code as u8)),
        _ => Ok(Err(FAILED)),
    }
}

impl Detached {
    /// Leaves it to another process, of which this one is a copy, to say that the guest runs.
    pub fn leave(self) {
        let _ = stdio::dup2_stderr(&self.null);
    }

    /// The guest `name` runs: whoever called may go on.
    pub fn ready(mut self, name: &str) -> Result<()> {
        stdio::dup2_stderr(&self.null).context("cannot close the error output")?;
        // Nobody has to wait for it.
        let _ = self.tell.write_all(format!("{name}\n").as_bytes());
        Ok(())
    }
}
