//! The exit codes of all commands.

use std::{io, process::ExitCode};

use crate::config::Diagnostics;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It did what it was asked.
    Done = 0,
    /// Refused by the gateway; a configuration that is not valid; a chain that is broken.
    Refused = 1,
    /// Arguments that mean nothing, or a configuration that cannot be read.
    Usage = 2,
    /// The running gateway cannot be reached.
    Unreachable = 3,
    /// Whoever asks lacks a role, or may not open the control socket or a file.
    Denied = 4,
    /// What was asked cannot be told here: keys, an answer of another server, or a sound store are needed.
    Unknown = 5,
}

impl Exit {
    /// How a command ends that cannot open or write a file; `otherwise`: where the right to it is not what is missing.
    pub(super) fn of_file(error: &io::Error, otherwise: Self) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied { Self::Denied } else { otherwise }
    }

    /// How a command ends whose configuration has faults.
    pub(super) const fn of_configuration(errors: &Diagnostics) -> Self {
        if errors.readable() { Self::Refused } else { Self::Usage }
    }

    /// The word for it in `--json`.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// For `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  refused by the gateway, configuration not valid, audit chain broken
  2  wrong usage, or a configuration that cannot be read
  3  the running gateway cannot be reached
  4  denied: `gateway whoami` shows what you may do
  5  cannot be told here: `gateway can`, `gateway token inspect`,
     `gateway check --online`, `gateway audit verify` with a damaged store

Examples:
  gateway check --config gateway.toml
  gateway run --config gateway.toml
  gateway block add 203.0.113.7 --for 10m --reason \"scraping\"
  gateway why 203.0.113.7";
