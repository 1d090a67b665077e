//! What files each process may still open, by Landlock.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

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

/// Those of them that are read again whenever a name is resolved. Others may be put in their place while the gateway runs,
/// and a confined process cannot read these: Landlock knows a file by its inode.
pub const READ_AGAIN: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"];

/// What is written where, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// A folder in which files and folders are made, changed and removed.
    Everything(PathBuf),
    /// A file that is written to, and made again after it was moved away: its folder takes files, and keeps them.
    Log(PathBuf),
    /// A folder in which another file system may be mounted anew, where files and folders are made and removed. None is
    /// written to. A rule for what is mounted now says nothing of what is mounted there later.
    Mounted(PathBuf),
    /// As [`Self::Log`], and it is renamed, compressed and removed there.
    Rotated(PathBuf),
    /// A socket that is removed at the end.
    Socket(PathBuf),
}

/// The newest rights that are asked for; a kernel that is older enforces what it knows.
const NEWEST: ABI = ABI::V5;

/// No writing but this; reading stays as it was. No TCP port is bound.
pub(super) fn write_only(writes: &[Writes]) -> Result<String, RulesetError> {
    let mut rules = Vec::new();
    for one in writes {
        rules.extend(match one {
            Writes::Everything(folder) => Some((
                folder.as_path(),
                AccessFs::WriteFile
                    | AccessFs::Truncate
                    | AccessFs::MakeReg
                    | AccessFs::MakeDir
                    | AccessFs::RemoveFile
                    | AccessFs::RemoveDir
                    | AccessFs::Refer,
            )),
            // A log that lies in the root is written to and not made again: everything else lies there as well.
            Writes::Log(file) => Some(match folder(file) {
                Some(folder) => (folder, AccessFs::WriteFile | AccessFs::MakeReg),
                None => (file.as_path(), AccessFs::WriteFile.into()),
            }),
            Writes::Mounted(folder) => Some((
                folder.as_path(),
                AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::RemoveFile | AccessFs::RemoveDir,
            )),
            Writes::Rotated(file) => Some(match folder(file) {
                Some(folder) => {
                    (folder, AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate)
                }
                None => (file.as_path(), AccessFs::WriteFile.into()),
            }),
            Writes::Socket(file) => folder(file).map(|folder| (folder, AccessFs::RemoveFile.into())),
        });
    }
    restrict(AccessFs::from_write(NEWEST), &rules)
}

/// The folder of a file, but for the root.
fn folder(file: &Path) -> Option<&Path> {
    file.parent().filter(|folder| folder.parent().is_some())
}

/// No file but those below `readable` (those that exist) and what resolving names reads, for reading; nothing run. No
/// TCP port is bound.
pub(super) fn read_only(readable: &[&Path]) -> Result<String, RulesetError> {
    let paths = readable.iter().copied().chain(RESOLVER.iter().map(Path::new));
    let rules: Vec<_> = paths
        .map(|path| {
            let access = if path.is_dir() { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() };
            (path, access)
        })
        .collect();
    restrict(AccessFs::from_all(NEWEST), &rules)
}

fn restrict(handled: BitFlags<AccessFs>, rules: &[(&Path, BitFlags<AccessFs>)]) -> Result<String, RulesetError> {
    // Best effort: an older kernel enforces what it knows, and the report says how much that is.
    let ruleset = Ruleset::default()
        .handle_access(handled)?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let mut ruleset = ruleset.no_new_privs(false);
    for (path, access) in rules {
        let Ok(opened) = PathFd::new(path) else { continue };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, *access))?;
    }
    let status = ruleset.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "enforced".to_owned(),
        RulesetStatus::PartiallyEnforced => "enforced in part: the kernel is older than Linux 6.12".to_owned(),
        RulesetStatus::NotEnforced => "NOT enforced: the kernel has no Landlock".to_owned(),
    })
}
