//! Verifies the audit chain over all its files: whether it is whole, and which line is the first that is not.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::unistd::geteuid;

use super::{
    files,
    outside::Outside,
    public_keys::PublicKeys,
    walk::{ChainLine, Visit, Walk, Walked},
};
use crate::{
    anchor::SignedHead,
    guard::{
        state_files::{LOG, PUBLIC, STORE, not_files},
        store::{self, CommittedHead, StoreError},
    },
};

/// What the guard was changing while it was read is whole after so long.
const SETTLE: Duration = Duration::from_millis(100);

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// How many records were read and are good.
    pub records: u64,
    /// How many files they are in.
    pub files: usize,
    /// The first that is not; `None`: the chain is whole.
    pub first_bad: Option<BadRecord>,
    /// Why nothing can be said of the chain. Then `first_bad` only says where the reading ended, so that it is never
    /// taken for whole.
    pub unjudged: Option<Unjudged>,
    /// What happened to the files of the chain and its store, as the chain itself tells.
    pub notes: Vec<String>,
    /// The last checkpoint whose signature is right. What follows it nobody has signed yet.
    pub checkpoint: Option<SignedHead>,
    /// How many there are.
    pub checkpoints: u64,
    /// When the first and the last record were written.
    pub times: Option<(String, String)>,
}

/// The first record that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Which file.
    pub file: PathBuf,
    /// Which line, from 1; one past the last where records are missing at the end.
    pub line: u64,
    /// The number that the record has or should have.
    pub seq: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}, record {}: {}", self.file.display(), self.line, self.seq, self.reason)
    }
}

/// Why it cannot be told whether a chain is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unjudged {
    /// For people.
    pub reason: String,
    /// Whoever asks lacks the right to read a file.
    pub is_denied: bool,
}

impl Unjudged {
    fn denied(path: &Path) -> Self {
        let reason = format!(
            "whether the chain is whole cannot be told: this user may not read {}; run as root, or as a user who may",
            path.display()
        );
        Self { reason, is_denied: true }
    }

    fn unusable(path: &Path, error: &StoreError) -> Self {
        let reason = format!(
            "whether the chain is whole cannot be told: {} cannot be used ({error}); `gateway run` repairs a damaged \
             store from the chain and records that, --no-store verifies the chain's files without it",
            path.display()
        );
        Self { reason, is_denied: false }
    }
}

/// What a chain is compared with.
#[derive(Clone, Debug, Default)]
pub struct Against {
    /// The keys that are believed; `None`: those of the folder.
    pub keys: Option<PublicKeys>,
    /// The files are a copy without their store: whether records are missing at the end is for `outside` to tell.
    pub without_store: bool,
    /// What was kept elsewhere.
    pub outside: Outside,
}

/// Reads the whole chain in `state_dir` and compares it with the store's anchor. The guard may be running.
#[must_use]
pub fn verify(state_dir: &Path) -> Verification {
    verify_against(state_dir, &Against::default(), &mut |_, _| {})
}

/// As [`verify`], compared with more. `progress` is told how many bytes are read, of how many.
#[must_use]
pub fn verify_against(state_dir: &Path, against: &Against, progress: &mut dyn FnMut(u64, u64)) -> Verification {
    let mut tries = 0;
    loop {
        let read = read(state_dir, against, &mut |_line| Ok(()), progress);
        let (found, is_passing) = read.unwrap_or_else(|error| {
            let unjudged = (error.kind() == io::ErrorKind::PermissionDenied).then(|| Unjudged::denied(state_dir));
            let found = stopped(state_dir, format!("the chain cannot be read: {error}"));
            (Verification { unjudged, ..found }, false)
        });
        tries += 1;
        if !is_passing || tries > 2 {
            return found;
        }
        thread::sleep(SETTLE);
    }
}

/// As [`verify_against`], and tells `visit` of every record.
///
/// # Errors
/// The files cannot be read, or `visit` has failed.
pub fn read_records(
    state_dir: &Path,
    against: &Against,
    visit: &mut dyn FnMut(&ChainLine<'_>) -> io::Result<()>,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<Verification> {
    read(state_dir, against, visit, progress).map(|(found, _)| found)
}

/// Also whether what is wrong may be right a moment later: the last line had no end, or the anchor is from before the
/// first record.
fn read(
    state_dir: &Path,
    against: &Against,
    visit: &mut Visit<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<(Verification, bool)> {
    let stop = |reason: String| Ok((stopped(state_dir, reason), false));
    if let Some(odd) = not_files(state_dir).next() {
        return stop(format!("{} is no regular file", odd.display()));
    }
    if let Some(unjudged) = unreadable(state_dir, against) {
        return Ok((stopped_by(state_dir, unjudged), false));
    }
    // The anchor first: what the guard appends meanwhile is ahead of it, which is no fault.
    let anchor = match anchor(state_dir, against.without_store) {
        Ok(anchor) => anchor,
        Err(AnchorError::Missing(reason)) => return stop(reason),
        Err(AnchorError::Unusable(unjudged)) => return Ok((stopped_by(state_dir, unjudged), false)),
    };
    let keys = match &against.keys {
        Some(keys) => keys.clone(),
        None => match PublicKeys::read(state_dir) {
            Ok(keys) => keys,
            Err(reason) => return stop(reason),
        },
    };
    let files = files::open_all(state_dir)?;
    if files.is_empty() {
        return stop(format!("{LOG} cannot be read: there is none"));
    }
    let total = files.iter().map(|file| file.length).sum();
    let mut walk = Walk::new(&state_dir.join(LOG), anchor.as_ref(), keys, against.outside.clone(), visit);
    let mut done = 0;
    for file in &files {
        let read = walk.read(&file.path, file.reader(), &mut |bytes| {
            done += bytes;
            progress(done, total);
        });
        read.or_else(|error| walk.damaged(error))?;
    }
    let walked = walk.finish(false);
    // Files may have been closed and deleted since the anchor was read.
    let is_passing = walked.begins_behind || walked.fault.as_ref().is_some_and(|fault| fault.torn);
    Ok((verification(walked, files.len()), is_passing))
}

/// A file that whoever asks may not read: what it would say is not known, and nothing is broken by that.
fn unreadable(state_dir: &Path, against: &Against) -> Option<Unjudged> {
    let store = (!against.without_store).then_some(STORE);
    let key = against.keys.is_none().then_some(PUBLIC);
    let mut files = store.into_iter().chain(key).chain([LOG]).map(|name| state_dir.join(name));
    let is_denied =
        |path: &PathBuf| File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    files.find(is_denied).map(|path| Unjudged::denied(&path))
}

/// Why there is no anchor to compare with.
enum AnchorError {
    /// There is none, where there must be one.
    Missing(String),
    /// It cannot be known.
    Unusable(Unjudged),
}

fn anchor(state_dir: &Path, without_store: bool) -> Result<Option<CommittedHead>, AnchorError> {
    if without_store {
        return Ok(None);
    }
    let path = state_dir.join(STORE);
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let missing = format!("{} is missing; verify a copy of the files alone with --no-store", path.display());
        return Err(AnchorError::Missing(missing));
    }
    match store::read_anchor(&path) {
        Ok(Some(anchor)) => Ok(Some(anchor)),
        Ok(None) => Err(AnchorError::Missing(
            "the store has no anchor: no chain was begun, or the store was replaced".to_owned(),
        )),
        // Its file may be read, and not what SQLite keeps beside it.
        Err(error) if error.is_denied() && !geteuid().is_root() => Err(AnchorError::Unusable(Unjudged::denied(&path))),
        Err(error) => Err(AnchorError::Unusable(Unjudged::unusable(&path, &error))),
    }
}

pub(super) fn verification(walked: Walked, files: usize) -> Verification {
    let Walked { good, fault, notes, checkpoint, checkpoints, times, .. } = walked;
    let first_bad =
        fault.map(|fault| BadRecord { file: fault.file, line: fault.line, seq: fault.seq, reason: fault.reason });
    Verification { records: good, files, first_bad, unjudged: None, notes, checkpoint, checkpoints, times }
}

/// Nothing was read.
fn stopped(state_dir: &Path, reason: String) -> Verification {
    let first_bad = Some(BadRecord { file: state_dir.join(LOG), line: 1, seq: 1, reason });
    Verification { first_bad, ..Verification::default() }
}

fn stopped_by(state_dir: &Path, unjudged: Unjudged) -> Verification {
    Verification { unjudged: Some(unjudged.clone()), ..stopped(state_dir, unjudged.reason) }
}
