//! The open audit chain: records are appended, taken back, flushed and signed.

use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde_json::{Map, Value};

use super::{
    files::{self, Closed, LONGEST},
    finding::AuditFinding,
    flush::{Flush, Unflushed},
    key::SigningKey,
    record::{CHECKPOINT, FIRST_PREV, KEY_ROTATED, rotation_text},
    resume,
};
use crate::{
    anchor::{SignedHead, signed_text},
    guard::{
        state_files::{LOG, set_aside},
        store::CommittedHead,
    },
    os::clock,
    text::terminal::escape_json,
};

mod rotation;

/// At least one checkpoint for this many records.
const CHECKPOINT_RECORDS: u64 = 1_000;

/// What the hash and the end of a record take, in bytes.
const HASH_BYTES: usize = ",\"hash\":\"\"}\n".len() + FIRST_PREV.len();

/// The longest member of a record that is shortened, in bytes.
const LONGEST_MEMBER: usize = 1_024;

/// The longest members together of a record that is shortened, in bytes.
const LONGEST_MEMBERS: usize = 16 * 1_024;

/// The open chain.
#[derive(Debug)]
pub struct AuditChain {
    folder: PathBuf,
    /// `None`: it cannot be written, which is tried again with every record.
    file: Option<File>,
    /// What was read of it is what it holds.
    is_read: bool,
    key: SigningKey,
    seq: u64,
    hash: String,
    first: String,
    length: u64,
    /// The number of the first record of the file.
    file_first: u64,
    /// The files before it.
    closed: Vec<Closed>,
    unsynced: bool,
    /// What is to be brought to the disk, or deleted, beside the file.
    flush: Flush,
    since_checkpoint: u64,
    /// What was signed last.
    head: Option<SignedHead>,
}

/// A place in the chain to go back to.
#[derive(Clone, Debug)]
pub struct ChainPosition {
    seq: u64,
    hash: String,
    first: String,
    length: u64,
    since_checkpoint: u64,
}

impl AuditChain {
    /// Opens the chain in `state_dir`, making key and file where there are none, and recovers from a crash: a last
    /// line that was torn is cut off, records that are ahead of the store's anchor stay. Where the chain is
    /// broken it goes on after its last line: the break stays visible to [`verify`](super::verify()), and the findings say so. Where it
    /// cannot be written, appending fails until it can.
    ///
    /// # Errors
    /// No key can be made.
    pub fn open(state_dir: &Path, anchor: Option<&CommittedHead>) -> io::Result<(Self, Vec<AuditFinding>)> {
        Self::open_with(state_dir, anchor, SigningKey::open(state_dir)?)
    }

    /// As [`Self::open`], for a command while no guard runs: a key that is lost is left for the guard to tell of.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_whole(
        state_dir: &Path,
        anchor: Option<&CommittedHead>,
    ) -> io::Result<(Self, Vec<AuditFinding>)> {
        Self::open_with(state_dir, anchor, (SigningKey::read_only(state_dir)?, Vec::new()))
    }

    fn open_with(
        state_dir: &Path,
        anchor: Option<&CommittedHead>,
        (key, mut findings): (SigningKey, Vec<AuditFinding>),
    ) -> io::Result<(Self, Vec<AuditFinding>)> {
        let nothing = || FIRST_PREV.to_owned();
        let mut audit = Self {
            folder: state_dir.to_owned(),
            file: None,
            is_read: false,
            key,
            seq: anchor.map_or(0, |anchor| anchor.seq),
            hash: anchor.map_or_else(nothing, |anchor| anchor.hash.clone()),
            first: anchor.map_or_else(nothing, |anchor| anchor.first.clone()),
            length: 0,
            file_first: anchor.map_or(1, |anchor| anchor.seq + 1),
            closed: files::closed(state_dir).unwrap_or_default(),
            unsynced: false,
            flush: Flush::default(),
            since_checkpoint: 0,
            head: None,
        };
        let path = state_dir.join(LOG);
        if path.is_dir() {
            let aside = set_aside(&path)?;
            findings.push(AuditFinding::broken(format!(
                "{} was a folder: set aside as {}",
                path.display(),
                aside.display()
            )));
        }
        let read = match audit.open_file() {
            Ok(()) => audit.file.as_ref().map(File::try_clone).transpose(),
            // What cannot be written may be read: the chain goes on where it ends.
            Err(error) => {
                tracing::error!(%error, "the audit chain cannot be written");
                File::open(&path).map(Some)
            }
        };
        match read {
            Ok(Some(file)) => {
                let (head, found) = resume::resume(&path, &file, &audit.closed, anchor, &audit.key)?;
                (audit.seq, audit.hash, audit.first, audit.length) = (head.seq, head.hash, head.first, head.length);
                (audit.file_first, audit.head, audit.is_read) = (head.file_first, head.checkpoint, true);
                if let Some(named) = head.rotated_to.filter(|_| !audit.key.replaces) {
                    audit.key.settle(&named, state_dir);
                }
                let exposed = findings.iter_mut().filter(|finding| finding.event == "key_exposed");
                exposed.for_each(|finding| finding.is_told = head.exposed.as_ref() == Some(&finding.text));
                findings.extend(found);
            }
            Ok(None) | Err(_) => {
                findings.push(AuditFinding::broken(format!("{} cannot be read", path.display())));
            }
        }
        Ok((audit, findings))
    }

    fn open_file(&mut self) -> io::Result<()> {
        let path = self.folder.join(LOG);
        self.file = Some(OpenOptions::new().create(true).append(true).read(true).mode(0o640).open(path)?);
        Ok(())
    }

    /// The file, opened again if it could not be written so far.
    fn writer(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.open_file()?;
            let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let length = file.metadata()?.len();
            if self.is_read && length > self.length {
                // The rest is a line that was torn.
                file.set_len(self.length)?;
            } else {
                self.length = length;
            }
            self.is_read = true;
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether its file is still where it was.
    pub(crate) fn is_in_place(&self) -> bool {
        let Some(Ok(open)) = self.file.as_ref().map(File::metadata) else { return true };
        match std::fs::metadata(self.folder.join(LOG)) {
            Ok(found) => (found.dev(), found.ino()) == (open.dev(), open.ino()),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Begins another file in the place of one that is gone. The chain goes on: what is missing stays visible.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn begin_anew(&mut self) -> io::Result<()> {
        self.open_file()?;
        self.length = self.file.as_ref().map(File::metadata).transpose()?.map_or(0, |found| found.len());
        self.file_first = self.seq + 1;
        Ok(())
    }

    /// Appends a record of `event` with `members`, in their order. A record that nobody could read for its length loses its
    /// long members and says that it is `shortened`. Nothing is left of it if it fails.
    ///
    /// # Errors
    /// The disk is full, or worse: what the record tells of must not be done then.
    pub fn append(&mut self, event: &str, unix_millis: u64, members: Map<String, Value>) -> io::Result<()> {
        let mut line = self.line(event, unix_millis, &members)?;
        if line.len() + HASH_BYTES >= usize::try_from(LONGEST).unwrap_or(usize::MAX) {
            tracing::warn!(event, bytes = line.len(), "a record of the audit chain is too long: it is shortened");
            line = self.line(event, unix_millis, &shortened(members))?;
        }
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, line.as_bytes()).as_ref());
        line.push_str(",\"hash\":\"");
        line.push_str(&hash);
        line.push_str("\"}\n");
        let file = self.writer()?;
        if let Err(error) = file.write_all(line.as_bytes()) {
            // Half a record would break the chain for good.
            self.cut(self.length)?;
            return Err(error);
        }
        self.length = self.length.saturating_add(u64::try_from(line.len()).unwrap_or(0));
        self.seq += 1;
        self.hash = hash;
        if self.seq == 1 {
            self.first.clone_from(&self.hash);
        }
        self.unsynced = true;
        self.since_checkpoint += 1;
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.set_len(length))
    }

    /// The record without its own hash and the closing brace: exactly the bytes that are hashed.
    fn line(&self, event: &str, unix_millis: u64, members: &Map<String, Value>) -> io::Result<String> {
        let mut line = String::with_capacity(512);
        line.push_str("{\"seq\":");
        line.push_str(&(self.seq + 1).to_string());
        line.push_str(",\"time\":\"");
        line.push_str(&clock::rfc3339(unix_millis));
        line.push_str("\",\"event\":");
        line.push_str(&serde_json::to_string(event)?);
        for (name, value) in members {
            line.push(',');
            line.push_str(&serde_json::to_string(name)?);
            line.push(':');
            line.push_str(&serde_json::to_string(value)?);
        }
        line.push_str(",\"prev\":\"");
        line.push_str(&self.hash);
        line.push('"');
        // Whoever looks at the file by a terminal sees what stands there.
        Ok(match escape_json(&line) {
            Cow::Borrowed(_) => line,
            Cow::Owned(escaped) => escaped,
        })
    }

    /// Where the chain ends; to be committed to the store.
    #[must_use]
    pub fn anchor(&self) -> CommittedHead {
        CommittedHead { seq: self.seq, hash: self.hash.clone(), first: self.first.clone() }
    }

    /// Where the chain ends now, to come back to if what is appended next turns out not to be done.
    #[must_use]
    pub fn mark(&self) -> ChainPosition {
        ChainPosition {
            seq: self.seq,
            hash: self.hash.clone(),
            first: self.first.clone(),
            length: self.length,
            since_checkpoint: self.since_checkpoint,
        }
    }

    /// Takes back what was appended since `mark`. Only for records that no anchor was committed for.
    ///
    /// # Errors
    /// The file cannot be cut: the records stay, and the chain goes on after them.
    pub fn rewind(&mut self, mark: ChainPosition) -> io::Result<()> {
        self.cut(mark.length)?;
        let ChainPosition { seq, hash, first, length, since_checkpoint } = mark;
        (self.seq, self.hash, self.first) = (seq, hash, first);
        (self.length, self.since_checkpoint) = (length, since_checkpoint);
        Ok(())
    }

    /// Flushes to the disk what was written since the last time.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.unsynced) {
            file.sync_data()?;
            self.unsynced = false;
        }
        std::mem::take(&mut self.flush).run().map_err(|unflushed| self.not_flushed(unflushed))
    }

    /// What is to be brought to the disk by somebody else, if anything is. It counts as done until
    /// [`Self::not_flushed`].
    pub(crate) fn unflushed(&mut self) -> Option<Flush> {
        let mut flush = std::mem::take(&mut self.flush);
        if let Some(file) = self.file.as_ref().filter(|_| self.unsynced).and_then(|file| file.try_clone().ok()) {
            self.unsynced = false;
            flush.add(file);
        }
        (!flush.is_empty()).then_some(flush)
    }

    /// It could not be: what is left of it is to be done with the next. Why it could not.
    pub(crate) fn not_flushed(&mut self, Unflushed { error, left }: Unflushed) -> io::Error {
        self.flush.merge(left);
        error
    }

    /// Whether so much was written since the last checkpoint that one is due.
    #[must_use]
    pub const fn checkpoint_due(&self) -> bool {
        self.since_checkpoint >= CHECKPOINT_RECORDS
    }

    /// Whether anything was written since the last checkpoint.
    #[must_use]
    pub const fn checkpoint_worthwhile(&self) -> bool {
        self.since_checkpoint > 0
    }

    /// Appends a record that signs the head of the chain.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn checkpoint(&mut self, unix_millis: u64) -> io::Result<()> {
        let (seq, hash) = (self.seq, self.hash.clone());
        // A signature of a key that nobody can know is no use.
        let Some(signature) = self.key.sign(&self.folder, &signed_text(seq, &hash)) else { return Ok(()) };
        let (signature, key) = (HEXLOWER.encode(&signature), HEXLOWER.encode(self.key.own()));
        let mut members = Map::new();
        members.insert("key".to_owned(), Value::String(key.clone()));
        members.insert("signature".to_owned(), Value::String(signature.clone()));
        self.append(CHECKPOINT, unix_millis, members)?;
        self.since_checkpoint = 0;
        let (chain, time) = (self.first.clone(), clock::rfc3339(unix_millis));
        self.head = Some(SignedHead { anchor: SignedHead::VERSION, chain, seq, hash, time, key, signature });
        Ok(())
    }

    /// What was signed last.
    #[must_use]
    pub const fn signed_head(&self) -> Option<&SignedHead> {
        self.head.as_ref()
    }

    /// Puts a new key in the place of the one that signs; both sign the record that tells of it. Its public half.
    ///
    /// # Errors
    /// The new key cannot be kept, or the record not be written: the old one stays.
    pub(crate) fn rotate_key(&mut self, unix_millis: u64, mut members: Map<String, Value>) -> io::Result<String> {
        let next = self.key.next(&self.folder)?;
        let public = HEXLOWER.encode(next.public());
        let text = rotation_text(self.seq, &self.hash, &public);
        let signature = self.key.sign(&self.folder, &text).ok_or_else(|| io::Error::other("nothing is signed here"))?;
        members.insert("public_key".to_owned(), Value::String(public.clone()));
        members.insert("signature".to_owned(), Value::String(HEXLOWER.encode(&signature)));
        members.insert("next_signature".to_owned(), Value::String(HEXLOWER.encode(&next.sign(&text))));
        self.append(KEY_ROTATED, unix_millis, members)?;
        // The chain names the key before anything is signed by it, on the disk as well where that can be. It names it
        // whatever the disk does: the old key must sign no more.
        if let Err(error) = self.sync() {
            // What is left of it is flushed beside the loop.
            tracing::error!(%error, "the record of the next key is not on the disk yet");
        }
        self.key.replace(next, &self.folder);
        Ok(public)
    }
}

/// The members of a record that is too long: those that are short, and the beginning of texts.
fn shortened(members: Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    let mut bytes = 0_usize;
    for (name, mut value) in members {
        // A character takes up to six bytes once it is escaped.
        if let Value::String(text) = &mut value {
            text.truncate(text.floor_char_boundary(LONGEST_MEMBER / 8));
        }
        let length = name.len().saturating_add(value.to_string().len());
        if length <= LONGEST_MEMBER && bytes.saturating_add(length) <= LONGEST_MEMBERS {
            bytes = bytes.saturating_add(length);
            kept.insert(name, value);
        }
    }
    kept.insert("shortened".to_owned(), Value::Bool(true));
    kept
}
