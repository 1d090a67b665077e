//! Verifies the audit chain over all its files: whether it is whole, and which line is the first that is not.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    files,
    outside::Outside,
    public_keys::PublicKeys,
    walk::{ChainLine, Visit, Walk, Walked},
};
use crate::{
    anchor::SignedHead,
    guard::{
        state_files::{LOG, STORE, not_files},
        store::{self, Anchor},
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
        let (found, is_passing) = read(state_dir, against, &mut |_line| Ok(()), progress)
            .unwrap_or_else(|error| (stopped(state_dir, format!("the chain cannot be read: {error}")), false));
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
    // The anchor first: what the guard appends meanwhile is ahead of it, which is no fault.
    let anchor = match anchor(state_dir, against.without_store) {
        Ok(anchor) => anchor,
        Err(reason) => return stop(reason),
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

fn anchor(state_dir: &Path, without_store: bool) -> Result<Option<Anchor>, String> {
    if without_store {
        return Ok(None);
    }
    match store::read_anchor(&state_dir.join(STORE)) {
        Ok(Some(anchor)) => Ok(Some(anchor)),
        Ok(None) => Err("the store has no anchor: no chain was begun, or the store was replaced".to_owned()),
        Err(error) => Err(format!("the anchor cannot be read: {error}")),
    }
}

pub(super) fn verification(walked: Walked, files: usize) -> Verification {
    let Walked { good, fault, notes, checkpoint, checkpoints, times, .. } = walked;
    let first_bad =
        fault.map(|fault| BadRecord { file: fault.file, line: fault.line, seq: fault.seq, reason: fault.reason });
    Verification { records: good, files, first_bad, notes, checkpoint, checkpoints, times }
}

/// Nothing was read.
fn stopped(state_dir: &Path, reason: String) -> Verification {
    Verification {
        records: 0,
        files: 0,
        first_bad: Some(BadRecord { file: state_dir.join(LOG), line: 1, seq: 1, reason }),
        notes: Vec::new(),
        checkpoint: None,
        checkpoints: 0,
        times: None,
    }
}
