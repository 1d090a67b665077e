//! Why the kernel does not do what it is told, and what would help.

use std::io;

use aya::maps::MapError;

use super::host;

/// Why the kernel does not do what it is told. Each says what would help.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel or the driver failed where the rights are there.
    #[error("{what} failed: {source}")]
    Attach {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another XDP program holds the interface.
    #[error(
        "another XDP program{} is attached to {interface}: stop what attached it, if that is another gateway also `gateway detach` with its configuration. Else `bpftool link detach id N` where `bpftool link list` names it, `ip link set dev {interface} xdp off` where not. Or leave {interface} out of guard.interfaces",
        .program.map(|id| format!(" (id {id}{})", host::program_named(id).map(|name| format!(", {name}")).unwrap_or_default())).unwrap_or_default()
    )]
    Busy {
        /// Which.
        interface: String,
        /// The other program's id, where it could be found.
        program: Option<u32>,
    },
    /// A map is full; nothing was evicted.
    #[error("{map} is full ({capacity} entries): raise {setting}, or remove entries")]
    Full {
        /// Which map.
        map: &'static str,
        /// How many entries it has.
        capacity: u32,
        /// The setting that sizes it.
        setting: &'static str,
    },
    /// There is no such interface.
    #[error("there is no network interface {0}: see `ip link`, and guard.interfaces")]
    Interface(String),
    /// The kernel refused an operation on a map.
    #[error("{map}: {operation} failed: {source}")]
    Map {
        /// Which map.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Neither the driver of this interface nor the network stack can run XDP on it.
    #[error("{interface} runs no XDP program, neither in its driver nor in the network stack: {source}")]
    NoXdp {
        /// Which.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The driver of this interface cannot run XDP natively.
    #[error("the driver of {0} cannot run XDP natively: set guard.mode = \"auto\" or \"generic\"")]
    NoNative(String),
    /// bpffs is not mounted and cannot be.
    #[error(
        "{path} is not on a BPF file system: mount one first (`mount -t bpf -o mode=0700 bpf /sys/fs/bpf`): {source}"
    )]
    NoBpffs {
        /// Where it was looked for.
        path: String,
        /// Why mounting failed.
        source: io::Error,
    },
    /// Another gateway pins there.
    #[error("another gateway uses guard.pin_dir {0}: stop it, or give this one another guard.pin_dir")]
    Shared(String),
    /// The rights to load it are missing.
    #[error("{what} needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: {source}")]
    NotPermitted {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The embedded object is not what this program expects.
    #[error("the embedded kernel program is unusable: {0}: rebuild it with `cargo xtask ebpf`")]
    Object(String),
    /// A pinned map or link cannot be used.
    #[error("{path}: {reason}")]
    Pin {
        /// Which.
        path: String,
        /// What is wrong, and what would help.
        reason: String,
    },
    /// The maps cannot be used once the rights to load the program are given up.
    #[error(
        "this kernel lets nobody without rights use open BPF maps, and the guard gives up its rights: Linux 5.19 or later is needed: {0}"
    )]
    TooOld(io::Error),
    /// The kernel's verifier refused the program.
    #[error("the kernel refused the program (see docs/kernels.md for kernels that take it): {0}")]
    Verifier(String),
}

impl KernelError {
    /// Whether the kernel cannot do what is needed, whatever the configuration says.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Map { .. } | Self::NoXdp { .. } | Self::Object(_) | Self::TooOld(_) | Self::Verifier(_) => true,
            Self::Attach { .. }
            | Self::Busy { .. }
            | Self::Full { .. }
            | Self::Interface(_)
            | Self::NoBpffs { .. }
            | Self::NoNative(_)
            | Self::NotPermitted { .. }
            | Self::Pin { .. }
            | Self::Shared(_) => false,
        }
    }
}

/// Makes the kernel's refusal of `operation` on `map` an error.
pub(super) fn refused(map: &'static str, operation: &'static str) -> impl Fn(MapError) -> KernelError {
    move |error| {
        let source = match error {
            MapError::SyscallError(error) => error.io_error,
            MapError::CreateError { io_error, .. } => io_error,
            error => io::Error::other(error.to_string()),
        };
        KernelError::Map { map, operation, source }
    }
}
