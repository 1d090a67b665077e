//! The files of a chain: closed ones, named after their first record, and the one that is written.
//!
//! *Invariant:* a file that was closed is never renamed again, so that its name says which records it holds.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use super::record::Record;
use crate::{
    guard::state_files::LOG,
    log::rotated::{COMPRESSED, with},
    settings::audit::MOST_COMPRESSED,
};

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
    /// Its length on the disk, in bytes.
    pub(super) length: u64,
}

impl Closed {
    pub(super) fn is_compressed(&self) -> bool {
        is_compressed(&self.path)
    }
}

fn is_compressed(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(COMPRESSED))
}

/// The name of the file whose first record has this number, once it is closed.
pub(super) fn closed_name(first: u64) -> String {
    format!("{}{first:020}{}", AROUND.0, AROUND.1)
}

/// The closed files of a folder, the oldest first. One that is there in both forms was being compressed when somebody died:
/// the file that is not compressed has everything.
pub(super) fn closed(folder: &Path) -> io::Result<Vec<Closed>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let plain = name.to_str().map(|name| name.strip_suffix(COMPRESSED).unwrap_or(name));
        let number = plain.and_then(|name| name.strip_prefix(AROUND.0)?.strip_suffix(AROUND.1));
        let Some(first) = number.filter(|digits| digits.len() == 20).and_then(|digits| digits.parse().ok()) else {
            continue;
        };
        // Opening anything else could wait for ever.
        let found = fs::metadata(entry.path())?;
        if found.is_file() {
            all.push(Closed { path: entry.path(), first, length: found.len() });
        }
    }
    all.sort_by_key(|closed| (closed.first, closed.is_compressed()));
    all.dedup_by_key(|closed| closed.first);
    Ok(all)
}

/// Whether a chain was begun in this folder.
pub(crate) fn has_records(folder: &Path) -> bool {
    fs::metadata(folder.join(LOG)).is_ok_and(|found| found.len() > 0)
        || closed(folder).is_ok_and(|closed| !closed.is_empty())
}

/// A file that is open for reading.
pub(super) struct OpenChainFile {
    pub(super) path: PathBuf,
    file: File,
    /// How many bytes of records it has; of a compressed file, as it says itself.
    pub(super) length: u64,
}

impl OpenChainFile {
    /// What it holds.
    pub(super) fn reader(&self) -> Box<dyn Read + '_> {
        match is_compressed(&self.path) {
            true => Box::new(MultiGzDecoder::new(&self.file)),
            false => Box::new(&self.file),
        }
    }

    /// What it holds as a file that can be read from its end, and its length. A compressed one is unpacked in memory.
    pub(super) fn plain(self) -> io::Result<(File, u64)> {
        if is_compressed(&self.path) { unpacked(&self.path) } else { Ok((self.file, self.length)) }
    }
}

/// Opens a closed file; what it holds.
pub(super) fn open_closed(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    Ok(if is_compressed(path) { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// A compressed file unpacked, in memory, and its length.
fn unpacked(path: &Path) -> io::Result<(File, u64)> {
    let mut plain = File::from(rustix::fs::memfd_create("audit", rustix::fs::MemfdFlags::CLOEXEC)?);
    // The guard compresses no larger one.
    let length = io::copy(&mut open_closed(path)?.take(MOST_COMPRESSED + 1), &mut plain)?;
    if length > MOST_COMPRESSED {
        return Err(io::Error::other(format!("{} is larger than what the guard compresses", path.display())));
    }
    Ok((plain, length))
}

/// How long a file is: a compressed one says it at its end (RFC 1952).
fn length(path: &Path, file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let Some(at) = length.checked_sub(4).filter(|_| is_compressed(path)) else { return Ok(length) };
    let mut size = [0; 4];
    file.read_exact_at(&mut size, at)?;
    Ok(u32::from_le_bytes(size).into())
}

/// Opens all files of a chain, the oldest first, the one that is written last. The guard may close that one meanwhile.
pub(super) fn open_all(folder: &Path) -> io::Result<Vec<OpenChainFile>> {
    let path = folder.join(LOG);
    let open = |path: PathBuf| -> io::Result<OpenChainFile> {
        let file = File::open(&path)?;
        let length = length(&path, &file)?;
        Ok(OpenChainFile { path, file, length })
    };
    // This one first: if it is closed after that, it is found twice, and no record is missed.
    let written = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    let same = |one: &OpenChainFile| -> io::Result<(u64, u64)> {
        let found = one.file.metadata()?;
        Ok((found.dev(), found.ino()))
    };
    let identity = written.as_ref().map(same).transpose()?;
    let mut all = Vec::new();
    for closed in closed(folder)? {
        let compressed = with(&closed.path, COMPRESSED);
        let opened = match open(closed.path) {
            // Compressed, or deleted by its age, since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match open(compressed) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            },
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

/// The number of the first record of a file, the hash of the record before it, and when it was written. `None`: there is
/// none that can be read. Of a compressed file no more is unpacked than that.
pub(super) fn first_record(path: &Path) -> io::Result<Option<(u64, String, String)>> {
    let mut line = Vec::new();
    BufReader::new(open_closed(path)?.take(LONGEST)).read_until(b'\n', &mut line)?;
    let record = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice::<Record<'_>>(line).ok());
    Ok(record.map(|record| (record.seq, record.prev.to_owned(), record.time.to_owned())))
}

/// The number and hash of the last record of a file, and when it was written. `None`: there is none that can be read.
pub(super) fn last_record(path: &Path) -> io::Result<Option<(u64, String, String)>> {
    let (mut file, length) = match is_compressed(path) {
        true => unpacked(path)?,
        false => {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            (file, length)
        }
    };
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
            format!("{}.gz", closed_name(9)),
            format!("{}.gz", closed_name(7)),
            format!("{}.gz.part", closed_name(6)),
        ] {
            fs::write(folder.join(name), "longer").unwrap();
        }
        fs::create_dir(folder.join(closed_name(3))).unwrap();
        let found: Vec<u64> = closed(&folder).unwrap().iter().map(|closed| closed.first).collect();
        assert_eq!(found, [7, 9, 10]);
        let compressed: Vec<bool> = closed(&folder).unwrap().iter().map(Closed::is_compressed).collect();
        assert_eq!(compressed, [true, false, false], "a file in both forms was being compressed");
        let opened: Vec<_> = open_all(&folder).unwrap().into_iter().map(|opened| opened.path).collect();
        let names = [format!("{}.gz", closed_name(7)), closed_name(9), closed_name(10), LOG.to_owned()];
        assert_eq!(opened, names.map(|name| folder.join(name)));
        fs::remove_dir_all(&folder).unwrap();
    }
}
