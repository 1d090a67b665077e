//! Which programs processes are made from: the one that the launcher is, and those that it found in its place on disk and
//! judged.
//!
//! *Invariant:* a program is opened once, from the root folder down, and judged by what was opened; what is run is that
//! same file, whatever has its place by then. What is found is run only if root alone (or the launcher's own user, where
//! that is not root) could have put it there.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Component, Path, PathBuf},
    process::Command,
    rc::Rc,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, Stat, fstat, open, openat},
    process::geteuid,
};

use crate::os::launch::{ProgramFault, ProgramId, UnfitProgram};

/// How many programs that were found are kept beside those that run.
const MOST: usize = 8;

/// Whoever else may write, as a file's mode has it: its group, and everybody.
const OTHERS_WRITE: u32 = 0o022;

/// Only its owner and the folder's remove a file from such a folder.
const STICKY: u32 = 0o1000;

/// A program that processes are made from.
#[derive(Debug)]
pub(super) struct Program {
    /// Where it was started from.
    place: PathBuf,
    file: OwnedFd,
    id: ProgramId,
}

impl Program {
    fn of(place: &Path, file: OwnedFd, about: &Stat) -> Rc<Self> {
        let id = ProgramId { device: about.st_dev, inode: about.st_ino };
        Rc::new(Self { place: place.to_owned(), file, id })
    }

    /// Which file it is, whatever has its name.
    pub(super) const fn id(&self) -> ProgramId {
        self.id
    }

    /// What runs it.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command.arg0(&self.place);
        command
    }
}

/// The programs that processes may be made from.
pub(super) struct Programs {
    place: PathBuf,
    /// What the launcher is.
    own: Rc<Program>,
    /// What was found on disk, the last one last.
    found: Vec<Rc<Program>>,
}

impl Programs {
    /// The program of this process, whose place on disk is `place`.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(super) fn running(place: PathBuf) -> io::Result<Self> {
        let file = open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let about = fstat(&file)?;
        let own = Program::of(&place, file, &about);
        Ok(Self { place, own, found: Vec::new() })
    }

    /// What the launcher is.
    pub(super) fn own(&self) -> &Rc<Program> {
        &self.own
    }

    /// Looks at what is in the program's place on disk now, and keeps it if it may be run.
    ///
    /// # Errors
    /// It is not to be run.
    pub(super) fn find(&mut self) -> Result<ProgramId, UnfitProgram> {
        let (file, about) = judged(&self.place, geteuid().as_raw())?;
        let found = Program::of(&self.place, file, &about);
        let id = found.id();
        if self.known(id).is_none() {
            self.found.push(found);
            // Those that run are held by their processes as well.
            if self.found.len() > MOST
                && let Some(idle) = self.found.iter().position(|program| Rc::strong_count(program) == 1)
            {
                self.found.remove(idle);
            }
        }
        Ok(id)
    }

    /// The program with this id, where it is one of these. Nothing else is run.
    pub(super) fn known(&self, id: ProgramId) -> Option<Rc<Program>> {
        std::iter::once(&self.own).chain(&self.found).find(|program| program.id() == id).cloned()
    }
}

/// Opens a program in such a place, and judges it and every folder that leads to it by what was opened.
fn judged(place: &Path, own: u32) -> Result<(OwnedFd, Stat), UnfitProgram> {
    let names: Vec<Component<'_>> = place.components().collect();
    let mut at: Option<(OwnedFd, Stat)> = None;
    for (index, name) in names.iter().enumerate() {
        let unfit = |fault| UnfitProgram { fault, depth: u16::try_from(index).unwrap_or(u16::MAX) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match (&at, name) {
            (None, Component::RootDir) => openat(CWD, "/", flags, Mode::empty()),
            (Some((folder, _)), Component::Normal(name)) => openat(folder, *name, flags, Mode::empty()),
            _ => return Err(unfit(ProgramFault::Kind)),
        };
        let open = |number: rustix::io::Errno| unfit(ProgramFault::Open(number.raw_os_error()));
        let opened = opened.map_err(open)?;
        let about = fstat(&opened).map_err(open)?;
        let role = match names.len() - index {
            1 => Part::Program,
            2 => Part::Folder,
            _ => Part::Above,
        };
        judge(role, &about, own).map_err(unfit)?;
        at = Some((opened, about));
    }
    at.ok_or(UnfitProgram { fault: ProgramFault::Kind, depth: 0 })
}

/// What a part of the place leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A folder above the one that has the program.
    Above,
    /// The folder that has the program.
    Folder,
    Program,
}

fn judge(part: Part, about: &Stat, own: u32) -> Result<(), ProgramFault> {
    let is_kind = match (FileType::from_raw_mode(about.st_mode), part) {
        (FileType::Symlink, _) => return Err(ProgramFault::Link),
        (FileType::RegularFile, Part::Program) => about.st_mode & 0o111 != 0,
        (FileType::Directory, Part::Above | Part::Folder) => true,
        _ => false,
    };
    if !is_kind {
        return Err(ProgramFault::Kind);
    }
    if about.st_uid != 0 && about.st_uid != own {
        return Err(ProgramFault::Owner);
    }
    // In /tmp others can add what they like, and take away or rename nothing that is root's.
    let is_kept = part == Part::Above && about.st_mode & STICKY != 0;
    if about.st_mode & OTHERS_WRITE != 0 && !is_kept {
        return Err(ProgramFault::Writable);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_part_is_trusted_where_nobody_else_can_change_it() {
        let own = 1_000;
        for (part, mode, uid, expect) in [
            (Part::Program, 0o100_755, 0, Ok(())),
            (Part::Program, 0o100_700, own, Ok(())),
            (Part::Program, 0o100_755, 7, Err(ProgramFault::Owner)),
            (Part::Program, 0o100_775, 0, Err(ProgramFault::Writable)),
            (Part::Program, 0o100_757, 0, Err(ProgramFault::Writable)),
            (Part::Program, 0o101_757, 0, Err(ProgramFault::Writable)),
            (Part::Program, 0o100_644, 0, Err(ProgramFault::Kind)),
            (Part::Program, 0o040_755, 0, Err(ProgramFault::Kind)),
            (Part::Program, 0o120_777, 0, Err(ProgramFault::Link)),
            (Part::Folder, 0o040_755, 0, Ok(())),
            (Part::Folder, 0o041_777, 0, Err(ProgramFault::Writable)),
            (Part::Folder, 0o040_755, 7, Err(ProgramFault::Owner)),
            (Part::Folder, 0o100_755, 0, Err(ProgramFault::Kind)),
            (Part::Above, 0o041_777, 0, Ok(())),
            (Part::Above, 0o041_777, 7, Err(ProgramFault::Owner)),
            (Part::Above, 0o040_777, 0, Err(ProgramFault::Writable)),
            (Part::Above, 0o120_777, 0, Err(ProgramFault::Link)),
        ] {
            let mut about = fstat(io::stdin()).unwrap();
            (about.st_mode, about.st_uid) = (mode, uid);
            assert_eq!(judge(part, &about, own), expect, "{part:?} {mode:o} {uid}");
        }
    }

    fn written(place: &Path, mode: u32) {
        let new = place.with_extension("new");
        fs::write(&new, "x").unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(&new, place).unwrap();
    }

    #[test]
    fn what_was_judged_is_what_is_known() {
        let folder = fs::canonicalize(std::env::temp_dir()).unwrap();
        let folder = folder.join(format!("gateway-programs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let place = folder.join("gateway");
        let mut programs = Programs::running(place.clone()).unwrap();
        let depth = u16::try_from(place.components().count() - 1).unwrap();
        assert_eq!(programs.find(), Err(UnfitProgram { fault: ProgramFault::Open(libc::ENOENT), depth }));
        written(&place, 0o755);
        let first = programs.find().unwrap();
        assert_eq!(programs.find(), Ok(first));
        assert!(programs.known(first).is_some() && programs.known(ProgramId::default()).is_none());
        written(&place, 0o775);
        assert_eq!(programs.find(), Err(UnfitProgram { fault: ProgramFault::Writable, depth }));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(programs.find(), Err(UnfitProgram { fault: ProgramFault::Writable, depth: depth - 1 }));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink("/bin/true", &place).unwrap();
        assert_eq!(programs.find(), Err(UnfitProgram { fault: ProgramFault::Link, depth }));
        fs::remove_file(&place).unwrap();

        // What runs is kept, whatever comes after it. Of the rest the oldest goes.
        let runs = programs.known(first).unwrap();
        for _ in 0..2 * MOST {
            written(&place, 0o755);
            let last = programs.find().unwrap();
            assert!(programs.known(last).is_some());
        }
        assert!(programs.found.len() <= MOST && programs.known(runs.id()).is_some());
        assert!(programs.known(programs.own().id()).is_some());
        fs::remove_dir_all(&folder).unwrap();
    }
}
