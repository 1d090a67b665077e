//! Which program a process is, and why the one on disk is not run.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Which program a process is. The launcher holds it open as long as the process lives, so the numbers name one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramId {
    /// The device that it is on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
}

impl ProgramId {
    /// The program of this process.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn own() -> io::Result<Self> {
        let about = std::fs::metadata("/proc/self/exe")?;
        Ok(Self { device: about.dev(), inode: about.ino() })
    }
}

/// Why what is on disk is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramFault {
    /// It is no regular file that may be run, or what should be a folder is none.
    Kind,
    /// It cannot be opened: the error's number.
    Open(i32),
    /// It belongs neither to root nor to the launcher's user.
    Owner,
    /// It is a symbolic link.
    Link,
    /// Others than its owner may write to it.
    Writable,
}

/// What is wrong with a part of the program's place on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfitProgram {
    /// What is wrong.
    pub fault: ProgramFault,
    /// How many names of the place lead to it: 0 is the root folder, 1 the first folder below.
    pub depth: u16,
}

impl UnfitProgram {
    /// For people; `place` is where the program was looked for.
    #[must_use]
    pub fn describe(self, place: &Path) -> String {
        let names = place.components().count().saturating_sub(1);
        let depth = usize::from(self.depth).min(names);
        let part: PathBuf = place.components().take(depth + 1).collect();
        format!("{}: {}", part.display(), self.fault)
    }
}

impl fmt::Display for ProgramFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => out.write_str("it is no program, or no folder where one should be"),
            Self::Open(number) => write!(out, "{}", io::Error::from_raw_os_error(*number)),
            Self::Owner => {
                out.write_str("it belongs to another user than root, who could replace the program: `chown root`")
            }
            Self::Link => out.write_str("it is a symbolic link: the program itself has to be in its place"),
            Self::Writable => {
                out.write_str("others than its owner may write to it, and could replace the program: `chmod go-w`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_is_wrong_is_named() {
        for (place, depth, part) in [
            ("/usr/bin/gateway", 0, "/: "),
            ("/usr/bin/gateway", 2, "/usr/bin: "),
            ("/usr/bin/gateway", 3, "/usr/bin/gateway: "),
            ("/usr/bin/gateway", u16::MAX, "/usr/bin/gateway: "),
        ] {
            let told = UnfitProgram { fault: ProgramFault::Writable, depth }.describe(Path::new(place));
            assert!(told.starts_with(part), "{told}");
        }
    }
}
