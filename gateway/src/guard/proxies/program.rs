//! Which program proxies are made from: the one that served last, until a reload finds another on disk that gets ready.
//!
//! *Invariant:* it is held open from before it is judged until it is run, so whatever is put in its place meanwhile is
//! not what runs.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::Command,
};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open};

/// A program that proxies are made from.
pub(crate) struct Program {
    /// Where it was started from.
    path: PathBuf,
    file: OwnedFd,
    about: Stat,
}

impl Program {
    /// The program of this process. To be asked for before its file may be replaced.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(crate) fn running() -> io::Result<Self> {
        Self::open("/proc/self/exe".into(), std::env::current_exe()?)
    }

    /// What has its place on disk now. `None`: itself.
    ///
    /// # Errors
    /// It cannot be opened, or is to be trusted less than this one.
    pub(crate) fn on_disk(&self) -> io::Result<Option<Self>> {
        let found = Self::open(self.path.clone(), self.path.clone())?;
        if (found.about.st_dev, found.about.st_ino) == (self.about.st_dev, self.about.st_ino) {
            return Ok(None);
        }
        judge(&self.about, &found.about).map_err(io::Error::other)?;
        Ok(Some(found))
    }

    fn open(file: PathBuf, path: PathBuf) -> io::Result<Self> {
        let file = open(&file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let about = fstat(&file)?;
        Ok(Self { path, file, about })
    }

    /// What runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command.arg0(&self.path);
        command
    }
}

/// Whether `found` may be run where `running` was: whoever can write it gets what the proxy has, private keys among it.
fn judge(running: &Stat, found: &Stat) -> Result<(), &'static str> {
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_mode & 0o111 == 0 {
        return Err("it is no program");
    }
    if found.st_uid != running.st_uid {
        return Err("it belongs to another user than the one that runs");
    }
    if found.st_mode & 0o022 & !running.st_mode != 0 {
        return Err("more users may write it than the one that runs");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_trusted_as_much_as_the_one_before() {
        let stat = |mode: u32, uid: u32| {
            let mut stat = fstat(io::stdin()).unwrap();
            (stat.st_mode, stat.st_uid) = (mode, uid);
            stat
        };
        for (before, mode, uid, expect) in [
            (0o100_755, 0o100_755, 0, Ok(())),
            (0o100_755, 0o100_700, 0, Ok(())),
            (0o100_775, 0o100_775, 0, Ok(())),
            (0o100_755, 0o100_644, 0, Err("it is no program")),
            (0o100_755, 0o040_755, 0, Err("it is no program")),
            (0o100_755, 0o100_755, 7, Err("it belongs to another user than the one that runs")),
            (0o100_755, 0o100_775, 0, Err("more users may write it than the one that runs")),
            (0o100_755, 0o100_757, 0, Err("more users may write it than the one that runs")),
        ] {
            assert_eq!(judge(&stat(before, 0), &stat(mode, uid)), expect, "{before:o} {mode:o} {uid}");
        }
    }

    #[test]
    fn what_runs_is_on_disk() {
        assert!(Program::running().unwrap().on_disk().unwrap().is_none());
    }
}
