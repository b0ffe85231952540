// SPDX-License-Identifier: Apache-2.0
//! What the guest's first process has to do, as the launcher writes it into the initial RAM disk.

use serde::{Deserialize, Serialize};

/// Where loft's files are in the initial RAM disk, without the leading slash.
pub const DIRECTORY: &str = ".loft";
/// The binary, in [`DIRECTORY`].
pub const BINARY: &str = "init";
/// The task, in [`DIRECTORY`].
pub const FILE: &str = "task.json";
/// The directory of modules, in [`DIRECTORY`].
pub const MODULES: &str = "modules";
/// The name of the virtio-console port that the frames go over.
pub const PORT: &str = "org.loft.exec";
/// The ports over which a guest that runs is asked for more. The first is for what concerns the guest or another port, and
/// never waits for a command; each of the others is for one command at a time.
pub const SERVICE_PORTS: [&str; 5] =
    ["org.loft.service.0", "org.loft.service.1", "org.loft.service.2", "org.loft.service.3", "org.loft.service.4"];

/// The task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Files in the directory of modules, in the order in which they are loaded.
    pub modules: Vec<String>,
    /// The root file system; without one the initial RAM disk stays the root.
    pub root: Option<Root>,
    /// Directories of the launcher's machine.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// The network that a command finds ready; a root file system's own init has its own ways.
    #[serde(default)]
    pub network: Option<Network>,
    /// What to run there.
    pub action: Action,
}

/// A network card and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The card's address.
    pub mac: [u8; 6],
    /// The guest's IPv4 address.
    pub address: [u8; 4],
    /// Bits of it that the whole network has.
    pub prefix: u8,
    /// The way to everywhere else.
    pub gateway: [u8; 4],
    /// The name server.
    pub dns: [u8; 4],
    /// Whether the command cannot do without.
    pub required: bool,
}

/// A root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// A disk.
    Disk {
        /// The block device, such as `/dev/vda1`.
        device: String,
        /// What it is formatted with, as mount(2) names it.
        file_system: String,
        /// Whether it is mounted read-only.
        read_only: bool,
    },
    /// The files of the launcher's machine; what is written stays in the guest's memory.
    Host {
        /// The tag of the virtio file system.
        tag: String,
    },
}

/// What [`Root::Host`] and [`Share`] are formatted with, as mount(2) names it.
pub const SHARE_FILE_SYSTEM: &str = "virtiofs";
/// What puts the guest's memory over [`Root::Host`].
pub const OVERLAY_FILE_SYSTEM: &str = "overlay";

/// A directory of the launcher's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The tag of the virtio file system.
    pub tag: String,
    /// Where it is mounted.
    pub target: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The root file system's own /sbin/init, on this console.
    Init {
        /// The console, such as `/dev/hvc0`.
        console: String,
        /// Variables set in its environment, beside PATH and HOME.
        env: Vec<(String, Vec<u8>)>,
    },
    /// A command; then the guest is switched off.
    Command(Command),
}

/// A command. Arguments and variables are bytes, because that is what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables set in its environment, beside PATH and HOME.
    pub env: Vec<(String, Vec<u8>)>,
    /// Columns and rows of its terminal; without them it gets pipes.
    pub terminal: Option<(u16, u16)>,
    /// Who runs it; without one it is root.
    #[serde(default)]
    pub user: Option<User>,
    /// The directory that it starts in; without one it is HOME.
    #[serde(default)]
    pub directory: Option<Vec<u8>>,
}

/// A user, with the numbers that the kernel knows (credentials(7)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The other groups.
    pub groups: Vec<u32>,
}
