//! The sandbox of each process: capabilities, Landlock, seccomp.
//!
//! All of it acts on the calling thread and on what it starts later, so it is done before any other thread exists.
//! *Invariant:* nothing here can be undone, and each step that fails is an error: a process that cannot be confined
//! does not go on.

use std::{fmt, path::Path};

use caps::{CapSet, Capability, CapsHashSet};

use calls::Families;

pub use confinement::Confinement;
pub use error::SandboxError;
pub use files::{READ_AGAIN, RESOLVER, Writes};

mod calls;
mod confinement;
mod error;
mod files;
mod filter;
mod name_services;

/// What was achieved, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxReport {
    /// Capabilities that are left.
    pub capabilities: Vec<String>,
    /// How much of Landlock the kernel enforces.
    pub landlock: String,
    /// How many system calls are let through.
    pub seccomp: usize,
}

impl fmt::Display for SandboxReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capabilities = if self.capabilities.is_empty() { "none".to_owned() } else { self.capabilities.join(",") };
        let Self { landlock, seccomp, .. } = self;
        write!(out, "capabilities: {capabilities}; landlock: {landlock}; seccomp: all but {seccomp} calls refused")
    }
}

/// What the launcher keeps, as it is all that the processes it starts can ever have:
/// - `BPF`, `NET_ADMIN`, `PERFMON`: a guard loads the kernel program and attaches it;
/// - `CHOWN`: a guard gives its control socket to the operators' group;
/// - `DAC_OVERRIDE`: a guard opens logs, certificates and state of other users;
/// - `SETPCAP`: each process empties the set of what could ever be gained;
/// - `NET_BIND_SERVICE`: ports below 1024;
/// - `SETUID`, `SETGID`, `KILL`: processes are started and ended as other users.
const LAUNCHER: [Capability; 10] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_KILL,
];

/// Confines the launcher: it keeps what the processes need that it starts, and makes no system call that none of them
/// makes. They begin with what it has, and give up the rest. It opens no file but programs: Landlock could not be undone
/// for the guard.
///
/// # Errors
/// [`SandboxError`].
pub fn launcher() -> Result<SandboxReport, SandboxError> {
    let keep = CapsHashSet::from(LAUNCHER);
    keep_capabilities(&keep)?;
    // Where it is not root, the processes that it starts get these alone.
    let left = caps::read(None, CapSet::Permitted)?;
    caps::set(None, CapSet::Inheritable, &left)?;
    caps::set(None, CapSet::Ambient, &left)?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| SandboxError::NoNewPrivileges(error.into()))?;
    let seccomp = refuse_others(calls::launcher(), Families::Netlink)?;
    Ok(SandboxReport { capabilities: capabilities()?, landlock: "left to those that it starts".to_owned(), seccomp })
}

/// Confines the guard: it keeps no capability, writes nowhere but where it `writes`, and makes no system call but those that it
/// has a use for. Of bpf(2) those are the commands that work on maps and links which are there already.
///
/// # Errors
/// [`SandboxError`].
pub fn guard(writes: &[Writes]) -> Result<SandboxReport, SandboxError> {
    keep_capabilities(&CapsHashSet::new())?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| SandboxError::NoNewPrivileges(error.into()))?;
    // Servers, operators and users of processes are named in the configuration, also in one that comes later.
    name_services::load(&["hosts", "passwd", "group", "initgroups"]);
    let landlock = files::write_only(writes)?;
    let seccomp = refuse_others(calls::guard(std::process::id()), Families::Netlink)?;
    Ok(SandboxReport { capabilities: capabilities()?, landlock, seccomp })
}

/// Confines the proxy: no capability, no other process, no bpf(2), files only below `readable` (those that exist) and
/// only for reading, sockets of the internet and of this host only, no TCP port bound, no code but what is loaded already,
/// its memory nobody else's.
///
/// # Errors
/// [`SandboxError`].
pub fn proxy(readable: &[&Path]) -> Result<SandboxReport, SandboxError> {
    alone(readable, calls::proxy(std::process::id()), Families::Usual)
}

fn alone(readable: &[&Path], allow: filter::AllowedCalls, families: Families) -> Result<SandboxReport, SandboxError> {
    keep_capabilities(&CapsHashSet::new())?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| SandboxError::NoNewPrivileges(error.into()))?;
    // It holds private keys: another process of its user could read its memory, and a core dump would keep it.
    nix::sys::prctl::set_dumpable(false).map_err(|error| SandboxError::NotDumpable(error.into()))?;
    if families != Families::None {
        name_services::load(&["hosts"]);
    }
    let landlock = files::read_only(readable)?;
    let seccomp = refuse_others(allow, families)?;
    Ok(SandboxReport { capabilities: capabilities()?, landlock, seccomp })
}

/// Confines the observer, as [`proxy`].
///
/// # Errors
/// [`SandboxError`].
pub fn observer() -> Result<SandboxReport, SandboxError> {
    proxy(&[])
}

/// Confines the compiler, as [`proxy`], and it makes no socket: what it is given to compile is all that it needs.
///
/// # Errors
/// [`SandboxError`].
pub fn compiler() -> Result<SandboxReport, SandboxError> {
    alone(&[], calls::compiler(std::process::id()), Families::None)
}

/// The last step: the list of calls does not let another filter be put in force.
fn refuse_others(mut allow: filter::AllowedCalls, families: Families) -> Result<usize, SandboxError> {
    let calls = allow.len();
    for (answered, error) in [(calls::families(families), libc::EAFNOSUPPORT), (calls::clone3(), libc::ENOSYS)] {
        // Of two errors, that of the filter put in force last is heard.
        allow.leave_to(&answered);
        answered.answer(error)?;
    }
    allow.enforce()?;
    Ok(calls)
}

fn keep_capabilities(keep: &CapsHashSet) -> Result<(), SandboxError> {
    // What could be gained by starting a program. It can be reduced with CAP_SETPCAP only; without, no_new_privs has the
    // same effect.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::all().difference(keep).copied() {
            if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    let have = caps::read(None, CapSet::Permitted)?;
    let left: CapsHashSet = have.intersection(keep).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &left)?;
    caps::set(None, CapSet::Permitted, &left)?;
    Ok(())
}

fn capabilities() -> Result<Vec<String>, SandboxError> {
    let mut left: Vec<String> = caps::read(None, CapSet::Permitted)?.into_iter().map(|one| one.to_string()).collect();
    left.sort();
    Ok(left)
}

#[cfg(test)]
mod tests;
