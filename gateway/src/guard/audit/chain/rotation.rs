//! Closes the file of the chain once it is long, goes on in another, and deletes closed ones that are not to be kept.
//!
//! *Invariant:* whatever a crash leaves, no record is in two files and none is lost: the next file is made first, then the
//! old one gets its last name, then the next one gets the name that is written to. A start that finds none makes one.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    super::{
        files::{self, Closed, closed_name},
        record::{RETENTION, ROTATION, Retired, members_of},
    },
    AuditChain,
};
use crate::{
    guard::state_files::{LOG, NEXT_LOG},
    log::rotated::{COMPRESSED, with},
    os::clock,
    settings::audit::{MOST_COMPRESSED, Retention},
};

/// Why a file is deleted: the event and members of the record that says so, and the file's path.
pub(crate) type Retirement = (&'static str, Map<String, Value>, PathBuf);

impl AuditChain {
    /// Whether the file is so long that it is to be closed.
    pub(crate) const fn rotation_due(&self, max_size: u64) -> bool {
        self.file.is_some() && self.length >= max_size
    }

    /// Closes the file, and goes on in a new one, whose first record is to tell of it: that record's event and members.
    /// Where that fails everything is as it was.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn rotate(&mut self) -> io::Result<(&'static str, Map<String, Value>)> {
        let (written, next) = (self.folder.join(LOG), self.folder.join(NEXT_LOG));
        let name = closed_name(self.file_first);
        let path = self.folder.join(&name);
        if [path.clone(), with(&path, COMPRESSED)].iter().any(|path| fs::symlink_metadata(path).is_ok()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there is a {name} already")));
        }
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().create_new(true).append(true).read(true).mode(0o640).open(&next)?;
        fs::rename(&written, &path)?;
        if let Err(error) = fs::rename(&next, &written) {
            fs::rename(&path, &written)?;
            return Err(error);
        }
        self.closed.push(Closed { path, first: self.file_first, length: self.length });
        let old = self.file.replace(file);
        if let Some(old) = old.filter(|_| self.unsynced) {
            self.flush.add(old);
        }
        self.flush.folder = File::open(&self.folder).ok();
        (self.length, self.file_first, self.unsynced) = (0, self.seq + 1, false);
        Ok((ROTATION, members_of([("previous", name.into()), ("chain", self.first.clone().into())])))
    }

    /// The oldest closed file, if it is not to be kept: what the chain has to say before it is deleted, and its path for
    /// [`Self::delete`].
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn retirement(&self, keep: &Retention, unix_millis: u64) -> io::Result<Option<Retirement>> {
        if *keep == Retention::default() {
            return Ok(None);
        }
        let Some(oldest) = self.closed.first() else { return Ok(None) };
        let bytes: u64 = self.closed.iter().map(|closed| closed.length).sum();
        let because = if keep.files.is_some_and(|most| self.closed.len() > most) {
            "audit.keep_files"
        } else if keep.bytes.is_some_and(|most| bytes > most) {
            "audit.keep_size"
        } else if keep.age.is_some_and(|most| self.is_older(most, unix_millis)) {
            "audit.keep_for"
        } else {
            return Ok(None);
        };
        let Some((last, hash, _)) = self.oldest_end()? else {
            return Err(io::Error::other(format!("{} has no last record: it is kept", oldest.path.display())));
        };
        let file = oldest.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let retired = serde_json::to_value([Retired { file, last, hash }])?;
        let members = members_of([("because", because.into()), ("retired", retired)]);
        Ok(Some((RETENTION, members, oldest.path.clone())))
    }

    /// The number and the hash of the last record of the oldest closed file, and when it was written. A compressed one takes
    /// long to read to its end: the record that follows names the one before it, and was written at once after it.
    fn oldest_end(&self) -> io::Result<Option<(u64, String, String)>> {
        let Some(oldest) = self.closed.first() else { return Ok(None) };
        if oldest.is_compressed() {
            let next = self.closed.get(1).map_or_else(|| self.folder.join(LOG), |closed| closed.path.clone());
            if let Some((seq, prev, time)) = files::first_record(&next)? {
                return Ok(seq.checked_sub(1).map(|last| (last, prev, time)));
            }
        }
        files::last_record(&oldest.path)
    }

    /// Whether the oldest closed file is that old, by its first and its last record. The clock may have been set back while
    /// it was written: what begins with a newer record is kept, and so is what is from the future.
    fn is_older(&self, most: Duration, unix_millis: u64) -> bool {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let before = clock::rfc3339(unix_millis.saturating_sub(most));
        // Times of one form sort as text.
        let ends = self.oldest_end().ok().flatten().is_some_and(|(_, _, time)| time < before);
        let begins = || files::first_record(&self.closed.first()?.path).ok().flatten();
        ends && begins().is_none_or(|(_, _, time)| time < before)
    }

    /// Has a closed file deleted that the chain says is deleted: with the next flush.
    pub(crate) fn delete(&mut self, path: PathBuf) {
        self.closed.retain(|closed| closed.path != path);
        self.flush.delete.push(path);
    }

    /// A closed file that is to be compressed: the oldest that is not, but never the newest, whose end every start reads.
    pub(crate) fn compressible(&self) -> Option<PathBuf> {
        let (_newest, older) = self.closed.split_last()?;
        let plain = older.iter().find(|closed| !closed.is_compressed() && closed.length <= MOST_COMPRESSED);
        plain.map(|closed| closed.path.clone())
    }

    /// A closed file was compressed.
    pub(crate) fn compressed(&mut self, path: &Path) {
        if let Some(closed) = self.closed.iter_mut().find(|closed| closed.path == path) {
            closed.path = with(path, COMPRESSED);
            closed.length = fs::metadata(&closed.path).map_or(closed.length, |found| found.len());
        }
    }

    /// How many files the chain has, and their bytes.
    pub(crate) fn files(&self) -> (usize, u64) {
        let closed: u64 = self.closed.iter().map(|closed| closed.length).sum();
        (self.closed.len() + 1, closed.saturating_add(self.length))
    }
}
