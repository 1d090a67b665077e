//! Locks the state folder: one guard may change it, or, while none runs, one command.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::set_aside;

/// How long a guard waits for another one to end.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long it waits for a command: those take milliseconds, and more on a machine that has much to do.
const COMMANDS: Duration = Duration::from_secs(30);

/// Why the lock is not held.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process holds it.
    #[error(
        "another gateway (pid {pid}) runs on {}: stop it, or give this one another guard.state_dir", .state_dir.display()
    )]
    Held {
        /// What it says its process id is.
        pid: String,
        /// Which directory.
        state_dir: PathBuf,
    },
    /// The file cannot be used.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LockError {
    /// Whether the right to the file is missing.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Takes the lock of a state directory for a guard, and says in it whom to stop for it. It goes with the process, however
/// that ends.
///
/// # Errors
/// [`LockError`].
pub(crate) fn lock(state_dir: &Path, pid: u32) -> Result<File, LockError> {
    let mut file = take(state_dir, |waited, pid| {
        let is_guard = pid.parse::<u32>().is_ok_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
        waited < if is_guard { TIMEOUT } else { COMMANDS }
    })?;
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{pid}")
    };
    // Who holds it is told to people alone: a disk that is full keeps nobody from holding it.
    if let Err(error) = write() {
        tracing::warn!(%error, "the lock of the state folder does not say whose it is");
    }
    Ok(file)
}

/// Takes the lock for a command while no guard runs.
///
/// # Errors
/// [`LockError`].
pub(crate) fn borrow(state_dir: &Path, timeout: Duration) -> Result<File, LockError> {
    take(state_dir, |waited, _pid| waited < timeout)
}

/// Waits while `go_on` says so, of how long it was waited and what the file says whose it is.
fn take(state_dir: &Path, go_on: impl Fn(Duration, &str) -> bool) -> Result<File, LockError> {
    let path = state_dir.join("lock");
    let fault = |source| LockError::Io { path: path.clone(), source };
    let mut file = open(state_dir, &path).map_err(fault)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.rewind().and_then(|()| file.read_to_string(&mut pid)).unwrap_or_default();
                let pid = pid.trim();
                if !go_on(start.elapsed(), pid) {
                    return Err(LockError::Held { pid: pid.to_owned(), state_dir: state_dir.to_owned() });
                }
                thread::sleep(Duration::from_millis(2));
            }
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
    }
}

/// What is locked: the file, or, where none can be written, what there is of it, or the folder itself.
fn open(state_dir: &Path, path: &Path) -> io::Result<File> {
    let make = || OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o644).open(path);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            set_aside(path)?;
            make()
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull) => {
            File::open(path).or_else(|_missing| File::open(state_dir))
        }
        made => made,
    }
}
