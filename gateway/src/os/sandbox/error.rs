//! Why a process cannot be confined.

use std::io;

/// Why a process cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Capabilities cannot be given up.
    #[error("capabilities cannot be given up: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// The kernel refuses the Landlock rules.
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// The kernel refuses `no_new_privs`.
    #[error("no_new_privs cannot be set: {0}")]
    NoNewPrivileges(io::Error),
    /// The kernel refuses to keep the memory to the process itself.
    #[error("memory cannot be kept from other processes: {0}")]
    NotDumpable(io::Error),
    /// The kernel refuses the filter, or it cannot be made.
    #[error("seccomp: {0}")]
    Seccomp(String),
}
