//! The files of a chain: closed ones, named after their first record, and the one that is written.
//!
//! *Invariant:* a file that was closed is never renamed again, so that its name says which records it holds.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::record::Record;
use crate::guard::state_files::LOG;

/// No record is longer: evidence and reasons are bounded. What is, was not written by the guard.
pub(super) const LONGEST: u64 = 64 * 1024;

/// What stands before and behind the number in the name of a closed file.
const AROUND: (&str, &str) = ("audit-", ".jsonl");

/// A closed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) path: PathBuf,
    /// The number of its first record.
    pub(super) first: u64,
    /// Its length, in bytes.
    pub(super) length: u64,
}

/// The name of the file whose first record has this number, once it is closed.
pub(super) fn closed_name(first: u64) -> String {
    format!("{}{first:020}{}", AROUND.0, AROUND.1)
}

/// The closed files of a folder, the oldest first.
pub(super) fn closed(folder: &Path) -> io::Result<Vec<Closed>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(AROUND.0)?.strip_suffix(AROUND.1));
        let Some(first) = number.filter(|digits| digits.len() == 20).and_then(|digits| digits.parse().ok()) else {
            continue;
        };
        // Opening anything else could wait for ever.
        let found = fs::metadata(entry.path())?;
        if found.is_file() {
            all.push(Closed { path: entry.path(), first, length: found.len() });
        }
    }
    all.sort_by_key(|closed| closed.first);
    Ok(all)
}

/// Whether a chain was begun in this folder.
pub(crate) fn has_records(folder: &Path) -> bool {
    fs::metadata(folder.join(LOG)).is_ok_and(|found| found.len() > 0)
        || closed(folder).is_ok_and(|closed| !closed.is_empty())
}

/// A file that is open for reading.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) length: u64,
}

/// Opens all files of a chain, the oldest first, the one that is written last. The guard may close that one meanwhile.
pub(super) fn open_all(folder: &Path) -> io::Result<Vec<Opened>> {
    let path = folder.join(LOG);
    let open = |path: PathBuf| -> io::Result<Opened> {
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        Ok(Opened { path, file, length })
    };
    // This one first: if it is closed after that, it is found twice, and no record is missed.
    let written = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    let same = |one: &Opened| -> io::Result<(u64, u64)> {
        let found = one.file.metadata()?;
        Ok((found.dev(), found.ino()))
    };
    let identity = written.as_ref().map(same).transpose()?;
    let mut all = Vec::new();
    for closed in closed(folder)? {
        let opened = match open(closed.path) {
            // Deleted by its age since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        if Some(same(&opened)?) == identity {
            break;
        }
        all.push(opened);
    }
    all.extend(written);
    Ok(all)
}

/// The number of the first record of a file. `None`: there is none that can be read.
pub(super) fn first_record(path: &Path) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?.take(LONGEST)).read_until(b'\n', &mut line)?;
    let record = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice::<Record<'_>>(line).ok());
    Ok(record.map(|record| record.seq))
}

/// The number and hash of the last record of a file, and when it was written. `None`: there is none that can be read.
pub(super) fn last_record(path: &Path) -> io::Result<Option<(u64, String, String)>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut end = Vec::new();
    file.take(LONGEST).read_to_end(&mut end)?;
    let line = end.strip_suffix(b"\n").and_then(|text| text.rsplit(|byte| *byte == b'\n').next());
    let record = line.and_then(|line| serde_json::from_slice::<Record<'_>>(line).ok());
    Ok(record.map(|record| (record.seq, record.hash.to_owned(), record.time.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_files_are_told_from_others_and_sorted_by_number() {
        let folder = std::env::temp_dir().join(format!("gateway-audit-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in [
            closed_name(10),
            closed_name(9),
            "audit-1.jsonl".into(),
            LOG.into(),
            format!("{}.damaged-1", closed_name(5)),
        ] {
            fs::write(folder.join(name), "x").unwrap();
        }
        fs::create_dir(folder.join(closed_name(3))).unwrap();
        let found: Vec<u64> = closed(&folder).unwrap().iter().map(|closed| closed.first).collect();
        assert_eq!(found, [9, 10]);
        let opened: Vec<_> = open_all(&folder).unwrap().into_iter().map(|opened| opened.path).collect();
        assert_eq!(opened, [closed_name(9), closed_name(10), LOG.to_owned()].map(|name| folder.join(name)));
        fs::remove_dir_all(&folder).unwrap();
    }
}
