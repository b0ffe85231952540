// SPDX-License-Identifier: Apache-2.0
//! How a run ends, and the exit code that tells.

/// The guest rebooted.
pub const REBOOT: u8 = 100;
/// The guest crashed.
pub const CRASH: u8 = 101;
/// The user ended the guest.
pub const ENDED: u8 = 102;
/// The guest ended before the command had.
pub const NO_STATUS: u8 = 103;
/// loft itself failed.
pub const FAILED: u8 = 125;
/// Nobody reads loft's output any more: what a shell reports of a program that SIGPIPE has ended.
pub const OUTPUT_CLOSED: u8 = 128 + libc::SIGPIPE as u8;

/// Why the machine stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reboot,
    /// The guest's kernel died, or the vCPU got into a state that cannot go on.
    Crash(String),
    /// Ctrl-a x.
    User,
    /// A signal that ends programs.
    Signal(i32),
    /// The hypervisor or the launcher failed.
    Failed(String),
    /// What the guest printed could not be written.
    OutputLost(String),
}

impl Ending {
    /// A word for machine-readable results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Reboot => "reboot",
            Self::Crash(_) => "crash",
            Self::User => "ended-by-user",
            Self::Signal(_) => "signal",
            Self::Failed(_) | Self::OutputLost(_) => "failed",
        }
    }

    /// What more there is to say.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Crash(text) | Self::Failed(text) | Self::OutputLost(text) => Some(text.clone()),
            Self::Signal(number) => Some(format!("signal {number}")),
            _ => None,
        }
    }

    /// The exit code of a run without a command.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PowerOff => 0,
            Self::Reboot => REBOOT,
            Self::Crash(_) => CRASH,
            Self::User => ENDED,
            Self::Signal(number) => 128u8.wrapping_add(*number as u8),
            Self::Failed(_) | Self::OutputLost(_) => FAILED,
        }
    }

    /// The exit code of a run with a command, whose own was `status` if it came to an end.
    pub fn exit_code_with(&self, status: Option<u8>) -> u8 {
        match (status, self) {
            // A result that is incomplete must not look like one.
            (_, Self::OutputLost(_)) => FAILED,
            (Some(status), _) => status,
            (None, Self::PowerOff) => NO_STATUS,
            (None, other) => other.exit_code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_has_its_own_code() {
        let endings = [
            Ending::PowerOff,
            Ending::Reboot,
            Ending::Crash(String::new()),
            Ending::User,
            Ending::Signal(15),
            Ending::Failed(String::new()),
        ];
        let mut codes: Vec<u8> = endings.iter().map(Ending::exit_code).collect();
        assert_eq!(codes[4], 143);
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), endings.len());
    }

    #[test]
    fn a_command_s_status_wins() {
        assert_eq!(Ending::PowerOff.exit_code_with(Some(7)), 7);
        assert_eq!(Ending::Crash(String::new()).exit_code_with(Some(0)), 0);
        assert_eq!(Ending::PowerOff.exit_code_with(None), NO_STATUS);
        assert_eq!(Ending::Reboot.exit_code_with(None), REBOOT);
        assert_eq!(Ending::OutputLost(String::new()).exit_code_with(Some(0)), FAILED);
    }
}
