// SPDX-License-Identifier: Apache-2.0
//! Requests to a guest that runs, over its socket: one JSON object a line, and an answer to each, one line as well.
//! [`PROTOCOL`] describes them.

mod agents;
mod gate;
mod hub;
mod mailbox;
mod server;

pub use agents::Agents;
pub use gate::{Gate, Held};
pub use hub::Hub;
pub use mailbox::{Mailbox, Message};
pub use server::{serve, Balloon, Counted, Guest, Running};

use crate::ssh::Ways;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// For the help and the manual page.
pub const PROTOCOL: &str = "\
Socket:
  Every guest has a socket, NAME.sock in /run/loft (root), $XDG_RUNTIME_DIR/loft, or /tmp/loft-UID; $LOFT_RUNTIME_DIR is
  another place. Only its owner can use it. A request is a JSON object on one line, so is the answer:
  {\"ok\":true}, or {\"ok\":false,\"error\":\"TEXT\"}.
    {\"request\":\"status\"}     the answer has \"status\": name, pid, state (running, paused, restarting), vcpus, memory
                             (bytes), balloon (bytes), uptime (seconds), command, ssh (tcp, the address here that leads to
                             its port 22, and vsock)
    {\"request\":\"stat\"}       the answer has \"stat\": name, pid, uptime_ms, vm (the hypervisor's counters of the VM) and vcpus:
                             thread (the id of the vCPU's thread) and counters of each
    {\"request\":\"stop\"}       asks the guest to switch itself off, {\"request\":\"reboot\"} to restart; the answer comes at once.
                             Where loft has no agent, stop presses the power button, and reboot is an error
    {\"request\":\"end\"}        ends it at once. The connection ends with the launcher
    {\"request\":\"pause\"}      stops its vCPUs, {\"request\":\"resume\"} starts them again
    {\"request\":\"memory\",\"bytes\":N}    has its balloon leave it so much; \"balloon\" in its status is what it has given back
    {\"request\":\"console\"}    what follows the answer is the console itself, in both directions, its last 64 KiB first
    {\"request\":\"resize\",\"columns\":80,\"rows\":24}    the size of the terminal at the console
    {\"request\":\"exec\",\"argv\":[\"ls\"],\"env\":{\"A\":\"b\"},\"terminal\":[80,24]}    runs a command; env and terminal may be left out.
                             Frames follow the answer, in both directions: a kind (1 byte), the content's length (4 bytes,
                             little-endian, at most 65,536), the content. To the guest: 2 input, 3 its end, 4 the terminal's
                             columns and rows (2 bytes each), 11 and 12 nobody reads output or errors any more. From it:
                             5 output, 6 errors, 9 a message, 7 the exit code, the last one. Closing the connection
                             ends the command.";

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who the guest is, and how it is.
    Status,
    /// What the hypervisor has counted of it.
    Stat,
    /// To switch itself off.
    Stop,
    /// To restart.
    Reboot,
    /// To end at once.
    End,
    /// To stop its vCPUs.
    Pause,
    /// To start them again.
    Resume,
    /// To make do with less of its memory.
    Memory {
        /// What it is to keep.
        bytes: u64,
    },
    /// To give this connection the console.
    Console,
    /// A new size of the terminal at the console.
    Resize {
        /// Its columns.
        columns: u16,
        /// Its rows.
        rows: u16,
    },
    /// To run a command, to which this connection then belongs.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Variables of its environment.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        /// Columns and rows of its terminal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terminal: Option<(u16, u16)>,
    },
}

/// An answer.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What [`Request::Status`] asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What [`Request::Stat`] asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat: Option<Stat>,
}

impl Answer {
    /// That it was done.
    pub fn done() -> Self {
        Self { ok: true, ..Self::default() }
    }
}

/// A guest as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The launcher's process.
    pub pid: u32,
    /// How it is.
    pub state: State,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// Bytes of them that the guest says are in its balloon.
    #[serde(default)]
    pub balloon: u64,
    /// Seconds since it was started.
    pub uptime: u64,
    /// The command that it is for, if it is for one.
    pub command: Vec<String>,
    /// The ways to its SSH server.
    #[serde(default, skip_serializing_if = "Ways::is_empty")]
    pub ssh: Ways,
}

/// A guest's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Its name.
    pub name: String,
    /// The launcher's process.
    pub pid: u32,
    /// Milliseconds since it was started.
    pub uptime_ms: u64,
    /// What was counted until then.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What a hypervisor has counted of a guest, by KVM_GET_STATS_FD's names.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Of the VM as a whole.
    pub vm: BTreeMap<String, u64>,
    /// Of each vCPU.
    pub vcpus: Vec<VcpuCounts>,
}

/// What a hypervisor has counted of a vCPU.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuCounts {
    /// The thread that runs it (gettid(2)); 0 before it does.
    pub thread: u32,
    /// The counters.
    pub counters: BTreeMap<String, u64>,
}

/// How a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its vCPUs run.
    Running,
    /// They do not.
    Paused,
    /// It has not got any at the moment.
    Restarting,
    /// Another program's: nobody knows.
    Foreign,
}

impl std::fmt::Display for State {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Foreign => "foreign",
        })
    }
}

#[cfg(test)]
mod tests;
