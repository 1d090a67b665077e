//! Opens the files in which the observer keeps what outlives it, which has no right to open any.
//!
//! *Invariant:* only files that nobody writes are looked at: before an observer starts. One that is damaged is set aside,
//! and that is told.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use crate::{
    guard::state_files::set_aside,
    os::alternating_files::{AlternatingState, look, mark},
};

/// Their folder, in the state folder.
const FOLDER: &str = "observer";

/// Their names, and what is lost with both of a pair. The observer writes the two of a pair by turns.
const PAIRS: [([&str; 2], &str); 2] = [
    (["alerts.0", "alerts.1"], "silences are lost, and alerts that go on are told again"),
    (["usual.0", "usual.1"], "what is usual is learned anew"),
];

/// The files.
#[derive(Debug)]
pub(crate) struct ObserverFiles {
    folder: PathBuf,
    /// By name: what was found when they were opened.
    findings: BTreeMap<&'static str, String>,
}

impl ObserverFiles {
    /// Those of a state folder. Makes their folder.
    pub(crate) fn new(state_dir: &Path) -> Self {
        let folder = state_dir.join(FOLDER);
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
            tracing::error!(%error, folder = %folder.display(), "the observer can keep nothing on the disk");
        }
        Self { folder, findings: BTreeMap::new() }
    }

    /// Opens them for an observer that begins. What is damaged is set aside. Empty: they cannot be opened.
    pub(crate) fn open_for_new(&mut self) -> Vec<OwnedFd> {
        let opened = PAIRS.into_iter().map(|(names, lost)| self.pair(names, lost)).collect::<io::Result<Vec<_>>>();
        told(opened.map(|pairs| pairs.into_iter().flatten().collect()))
    }

    /// Opens them for an observer that writes them.
    pub(crate) fn open_for_known(&self) -> Vec<OwnedFd> {
        let names = PAIRS.into_iter().flat_map(|(names, _)| names);
        told(names.map(|name| open(&self.folder.join(name))).collect())
    }

    fn pair(&mut self, names: [&'static str; 2], lost: &str) -> io::Result<[OwnedFd; 2]> {
        let mut damaged = Vec::new();
        let mut is_kept = false;
        let mut sound = |name: &'static str| {
            let path = self.folder.join(name);
            let found = open(&path).and_then(|file| Ok((look(&file)?, file)));
            match found {
                Ok((AlternatingState::Damaged, _)) => damaged.push((name, "is damaged".to_owned(), set_aside(&path)?)),
                Ok((state, file)) => {
                    is_kept |= state == AlternatingState::Whole;
                    return Ok(file);
                }
                // Something else is in its place.
                Err(error) if path.symlink_metadata().is_ok_and(|found| !found.is_file()) => {
                    damaged.push((name, error.to_string(), set_aside(&path)?));
                }
                Err(error) => return Err(error),
            }
            open(&path)
        };
        let [first, second] = names;
        let files = [sound(first)?, sound(second)?];
        let so = if is_kept { "the state before it is used, a change or two older" } else { lost };
        for (name, why, aside) in damaged {
            let path = self.folder.join(name);
            let finding = format!("{} {why}, and was set aside as {}: {so}", path.display(), aside.display());
            tracing::error!("{finding}");
            self.findings.insert(name, finding);
        }
        Ok(files.map(OwnedFd::from))
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.findings.values().cloned()
    }
}

fn told(opened: io::Result<Vec<OwnedFd>>) -> Vec<OwnedFd> {
    opened.unwrap_or_else(|error| {
        tracing::error!(%error, "the observer can keep nothing on the disk");
        Vec::new()
    })
}

/// Opens one, or makes it.
fn open<F: From<File>>(path: &Path) -> io::Result<F> {
    let mut options = OpenOptions::new();
    // No link is followed, and no pipe waited for.
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = options.create_new(true).open(path)?;
            if let Err(error) = mark(&file) {
                tracing::warn!(%error, file = %path.display(), "there is no room for what the observer keeps");
            }
            file
        }
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::os::alternating_files::AlternatingFiles;

    #[test]
    fn what_is_damaged_is_set_aside_and_told() {
        let state = std::env::temp_dir().join(format!("gateway-observer-files-{}", std::process::id()));
        let folder = state.join(FOLDER);
        let write = |text: &str| {
            let mut files = ObserverFiles::new(&state).open_for_new().into_iter();
            let (mut saved_files, _) = AlternatingFiles::open::<String>([files.next().unwrap(), files.next().unwrap()]);
            saved_files.write(&text).unwrap();
        };
        let opened = || {
            let mut files = ObserverFiles::new(&state);
            let mut opened = files.open_for_new().into_iter();
            let (_, kept) = AlternatingFiles::open::<String>([opened.next().unwrap(), opened.next().unwrap()]);
            (kept, files.warnings().collect::<Vec<_>>())
        };
        assert_eq!(opened(), (None, vec![]), "nothing was written yet");
        write("one");
        write("two");
        assert_eq!(opened(), (Some("two".to_owned()), vec![]));
        // The second write is in the file of even numbers.
        let (even, odd) = (folder.join("alerts.0"), folder.join("alerts.1"));
        fs::write(&even, b"torn").unwrap();
        let (kept, told) = opened();
        assert_eq!(kept.as_deref(), Some("one"));
        let [told] = told.as_slice() else { panic!("{told:?}") };
        assert!(told.contains("alerts.0 is damaged, and was set aside as") && told.contains("older"), "{told}");
        assert_eq!(opened(), (Some("one".to_owned()), vec![]), "told once");
        // Cut to nothing, and something else in the place of the other.
        fs::write(&odd, b"").unwrap();
        fs::remove_file(&even).unwrap();
        fs::create_dir(&even).unwrap();
        let (kept, told) = opened();
        assert_eq!((kept, told.len()), (None, 2), "{told:?}");
        assert!(told.iter().all(|told| told.contains("silences are lost")), "{told:?}");
        let aside = |name: &str| {
            let names = fs::read_dir(&folder).unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.filter(|found| found.starts_with(&format!("{name}.damaged-"))).count()
        };
        assert_eq!((aside("alerts.0"), aside("alerts.1"), aside("usual.0")), (2, 1, 0));
        fs::remove_dir_all(&state).unwrap();
    }
}
