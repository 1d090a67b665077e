//! Decides what each process may still do once it has what it needs: capabilities, Landlock, seccomp.
//!
//! All of it acts on the calling thread and on what it starts later, so it is done before any other thread exists.
//! *Invariant:* nothing here can be undone, and each step that fails is an error: a process that cannot be confined
//! does not go on.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// What was achieved, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Capabilities that are left.
    pub capabilities: Vec<String>,
    /// How much of Landlock the kernel enforces; `None`: not asked for.
    pub landlock: Option<String>,
    /// How many system calls are refused.
    pub seccomp: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capabilities = if self.capabilities.is_empty() { "none".to_owned() } else { self.capabilities.join(",") };
        let landlock = self.landlock.as_deref().unwrap_or("not used");
        write!(out, "capabilities: {capabilities}; landlock: {landlock}; seccomp: {} calls refused", self.seccomp)
    }
}

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

/// Confines the guard: it keeps what supervising the proxy needs, and of bpf(2) the commands that work on maps and
/// links which are there already. The proxy, started later, inherits the filter.
///
/// # Errors
/// [`SandboxError`].
pub fn guard() -> Result<Report, SandboxError> {
    let keep = CapsHashSet::from([Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_KILL]);
    keep_capabilities(&keep)?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| SandboxError::NoNewPrivileges(error.into()))?;
    let seccomp = refuse(&REFUSED, true)?;
    Ok(Report { capabilities: capabilities()?, landlock: None, seccomp })
}

/// Confines the proxy: no capability, no program started, no bpf(2), files only below `readable` (those that exist)
/// and only for reading, no TCP socket bound, its memory nobody else's.
///
/// # Errors
/// [`SandboxError`].
pub fn proxy(readable: &[&Path]) -> Result<Report, SandboxError> {
    keep_capabilities(&CapsHashSet::new())?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| SandboxError::NoNewPrivileges(error.into()))?;
    // It holds private keys: another process of its user could read its memory, and a core dump would keep it.
    nix::sys::prctl::set_dumpable(false).map_err(|error| SandboxError::NotDumpable(error.into()))?;
    let landlock = restrict_files(readable)?;
    let refused: Vec<i64> = REFUSED.into_iter().chain(REFUSED_TO_PROXY).collect();
    let seccomp = refuse(&refused, false)?;
    Ok(Report { capabilities: capabilities()?, landlock: Some(landlock), seccomp })
}

/// What resolving a name reads, through the C library and the libraries that it loads for it.
pub const RESOLVER: [&str; 16] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/run/systemd/resolve",
    "/proc/sys/net",
    "/dev/urandom",
];

fn keep_capabilities(keep: &CapsHashSet) -> Result<(), SandboxError> {
    // Nothing can be gained from the bounding set by starting a program: neither process keeps any of it, not even what
    // the guard itself goes on using. It can be reduced with CAP_SETPCAP only; without, no_new_privs has the same effect.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::all() {
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

fn restrict_files(readable: &[&Path]) -> Result<String, SandboxError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Best effort: an older kernel enforces what it knows, and the report says how much that is.
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let paths = readable.iter().map(|path| path.to_path_buf()).chain(RESOLVER.iter().map(PathBuf::from));
    let mut ruleset = ruleset.no_new_privs(false);
    for path in paths {
        let Ok(opened) = PathFd::new(&path) else { continue };
        let access = if path.is_dir() { read } else { AccessFs::ReadFile.into() };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
    }
    let status = ruleset.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "enforced".to_owned(),
        RulesetStatus::PartiallyEnforced => "enforced in part: the kernel is older than Linux 6.12".to_owned(),
        RulesetStatus::NotEnforced => "NOT enforced: the kernel has no Landlock".to_owned(),
    })
}

/// bpf(2) commands that the guard goes on using: element lookup, update, delete, next key (1 to 4), pin and open a pin
/// (6, 7), information (15), batches (24 to 27), create, update and detach a link (28, 29, 34). Creating maps and
/// loading programs are not among them.
const BPF_COMMANDS: [u64; 14] = [1, 2, 3, 4, 6, 7, 15, 24, 25, 26, 27, 28, 29, 34];

/// System calls that neither process has any use for and that attacks on the kernel start from.
const REFUSED: [i64; 50] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// What the proxy has no use for either.
const REFUSED_TO_PROXY: [i64; 12] = [
    libc::SYS_bpf,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
];

/// Refuses calls with `EPERM`: whoever makes one by mistake is told, not killed.
fn refuse(calls: &[i64], some_bpf: bool) -> Result<usize, SandboxError> {
    let failed = |error: &dyn fmt::Display| SandboxError::Seccomp(error.to_string());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    if some_bpf {
        let others = BPF_COMMANDS
            .into_iter()
            .map(|command| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, command));
        let others = others.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
        rules.insert(libc::SYS_bpf, vec![SeccompRule::new(others).map_err(|error| failed(&error))?]);
    }
    if cfg!(target_arch = "x86_64") {
        // The same calls by the numbers of the x32 ABI, which a kernel may offer besides.
        let x32: Vec<_> = rules.iter().map(|(call, rule)| (call | 0x4000_0000, rule.clone())).collect();
        rules.extend(x32);
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, arch).map_err(|error| failed(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error: seccompiler::BackendError| failed(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))?;
    Ok(calls.len() + usize::from(some_bpf))
}
