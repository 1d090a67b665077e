//! Locks a folder of pins, and keeps pinned what is pinned there.
//!
//! The folder itself is locked: a BPF file system holds no other files. Links and maps are held open, so that their pins
//! can be made again when somebody removes them: without pins the guard's death would detach the program.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{error::KernelError, sys};

/// Who may use a folder of pins, for as long as it lives.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "the lock is in the open file")] File);

/// Takes a folder of pins for this process; `None` if there is none.
///
/// # Errors
/// [`KernelError::Shared`]: another gateway uses it.
pub fn hold(pin_dir: &Path) -> Result<Option<Hold>, KernelError> {
    let failed = |error: io::Error| KernelError::Pin { path: pin_dir.display().to_string(), reason: error.to_string() };
    let folder = match File::open(pin_dir) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            return Err(KernelError::NotPermitted { what: format!("opening {}", pin_dir.display()), source });
        }
        Err(error) => return Err(failed(error)),
    };
    match folder.try_lock() {
        Ok(()) => Ok(Some(Hold(folder))),
        Err(TryLockError::WouldBlock) => Err(KernelError::Shared(pin_dir.display().to_string())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// What is pinned, held open.
#[derive(Debug, Default)]
pub(super) struct HeldPins {
    pub(super) hold: Option<Hold>,
    pins: Vec<(PathBuf, OwnedFd)>,
}

impl HeldPins {
    /// Holds what is pinned now, and nothing else any more.
    pub(super) fn renew(&mut self, pin_dir: &Path) {
        self.pins.clear();
        for folder in entries(pin_dir).unwrap_or_default() {
            for path in entries(&folder).unwrap_or_default() {
                match sys::open_pin(&path) {
                    Ok(pin) => self.pins.push((path, pin)),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "a pin cannot be held"),
                }
            }
        }
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    /// Lets go of everything: what is not pinned then ends.
    pub(super) fn release(&mut self) {
        self.pins.clear();
    }

    /// As [`Self::release`], of these alone.
    pub(super) fn release_some(&mut self, are_these: impl Fn(&Path) -> bool) {
        self.pins.retain(|(path, _)| !are_these(path));
    }

    /// Pins again what is pinned no more; how many that were.
    pub(super) fn pin_again(&self) -> io::Result<usize> {
        let mut again = 0;
        for (path, pin) in &self.pins {
            match fs::symlink_metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Some(folder) = path.parent() {
                        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                    }
                    sys::pin(pin, path)?;
                    again += 1;
                }
                _ => {}
            }
        }
        Ok(again)
    }
}

/// Whether `path`, or the nearest folder around it that there is, is on a BPF file system.
pub(super) fn is_on_bpffs(path: &Path) -> bool {
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    statfs(there).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => {
            KernelError::NotPermitted { what: format!("reading {}", folder.display()), source }
        }
        _ => fault(folder, source.to_string()),
    };
    let listed = fs::read_dir(folder).map_err(unreadable)?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

pub(super) fn fault(path: &Path, reason: String) -> KernelError {
    KernelError::Pin { path: path.display().to_string(), reason }
}
