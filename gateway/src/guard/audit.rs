//! Decides how decisions are written down so that nobody can change the past unseen: one JSON object a line, each
//! holding the hash of the one before and its own, now and then a signed checkpoint.
//!
//! A record is in the file before what it tells of is in the kernel. The file is flushed to the disk about once a
//! second and at the end: a power cut may cost the last second of records, which the store then tells of.
//!
//! *Invariant:* the head of the chain is in the store too, so that a tail that was cut off and an old copy put back are
//! found. Whoever can write both files and the key can forge both; keep the checkpoints elsewhere against that.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::guard::store::Anchor;

mod verify;

pub use verify::{Bad, Verification, verify};

/// The chain, in the state directory.
pub const LOG: &str = "audit.jsonl";
/// The key that signs checkpoints, PKCS#8; readable by the guard's user only.
pub const KEY: &str = "audit.key";
/// The public half, hexadecimal, for whoever verifies.
pub const PUBLIC: &str = "audit.pub";
/// The store, whose anchor the verification compares with.
pub const STORE: &str = "bans.db";

/// What the first record names as the hash of the one before.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// At least one checkpoint for this many records.
const CHECKPOINT_RECORDS: u64 = 1_000;

/// The open chain.
#[derive(Debug)]
pub struct Audit {
    file: File,
    key: Ed25519KeyPair,
    seq: u64,
    hash: String,
    first: String,
    length: u64,
    unsynced: bool,
    since_checkpoint: u64,
}

/// What was found at the start and is put right or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, as a sentence.
    pub text: String,
    /// Whether somebody must have changed the files; else a crash explains it.
    pub tampered: bool,
    /// The first and the last of the records whose changes never reached the store: what they tell of was not done.
    pub undone: Option<[u64; 2]>,
}

/// A place in the chain to go back to.
#[derive(Clone, Debug)]
pub struct Mark {
    seq: u64,
    hash: String,
    first: String,
    length: u64,
    since_checkpoint: u64,
}

impl Audit {
    /// Opens the chain in `state_dir`, making key and file where there are none, and recovers from a crash: a last
    /// line that was torn is cut off, records that are ahead of the store's anchor stay, and
    /// what they tell of was not done. Where the chain is
    /// broken it goes on after its last line: the break stays visible to [`verify`], and the findings say so.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn open(state_dir: &Path, anchor: Option<&Anchor>) -> io::Result<(Self, Vec<Finding>)> {
        let key = open_key(state_dir)?;
        let path = state_dir.join(LOG);
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o640).open(&path)?;
        let (read, findings) = verify::resume(&path, &file, anchor, key.public_key().as_ref())?;
        let audit = Self {
            file,
            key,
            seq: read.seq,
            hash: read.hash,
            first: read.first,
            length: read.length,
            unsynced: false,
            since_checkpoint: 0,
        };
        Ok((audit, findings))
    }

    /// Appends a record of `event` with `members`, in their order. Nothing is left of it if it fails.
    ///
    /// # Errors
    /// The disk is full, or worse: what the record tells of must not be done then.
    pub fn append(&mut self, event: &str, unix_millis: u64, members: Map<String, Value>) -> io::Result<()> {
        let mut line = self.line(event, unix_millis, members)?;
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, line.as_bytes()).as_ref());
        line.push_str(",\"hash\":\"");
        line.push_str(&hash);
        line.push_str("\"}\n");
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // Half a record would break the chain for good.
            self.file.set_len(self.length)?;
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

    /// The record without its own hash and the closing brace: exactly the bytes that are hashed.
    fn line(&self, event: &str, unix_millis: u64, members: Map<String, Value>) -> io::Result<String> {
        let mut line = String::with_capacity(512);
        line.push_str("{\"seq\":");
        line.push_str(&(self.seq + 1).to_string());
        line.push_str(",\"time\":\"");
        line.push_str(&time(unix_millis));
        line.push_str("\",\"event\":");
        line.push_str(&serde_json::to_string(event)?);
        for (name, value) in members {
            line.push(',');
            line.push_str(&serde_json::to_string(&name)?);
            line.push(':');
            line.push_str(&serde_json::to_string(&value)?);
        }
        line.push_str(",\"prev\":\"");
        line.push_str(&self.hash);
        line.push('"');
        Ok(line)
    }

    /// Where the chain ends; to be committed to the store.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor { seq: self.seq, hash: self.hash.clone(), first: self.first.clone() }
    }

    /// Where the chain ends now, to come back to if what is appended next turns out not to be done.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
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
    pub fn rewind(&mut self, mark: Mark) -> io::Result<()> {
        self.file.set_len(mark.length)?;
        let Mark { seq, hash, first, length, since_checkpoint } = mark;
        (self.seq, self.hash, self.first) = (seq, hash, first);
        (self.length, self.since_checkpoint) = (length, since_checkpoint);
        Ok(())
    }

    /// Flushes to the disk what was written since the last time.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
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
        let signature = self.key.sign(&signed_text(self.seq, &self.hash));
        let mut members = Map::new();
        members.insert("signature".to_owned(), Value::String(HEXLOWER.encode(signature.as_ref())));
        self.append("checkpoint", unix_millis, members)?;
        self.since_checkpoint = 0;
        Ok(())
    }
}

/// What a checkpoint that follows record `seq` signs.
fn signed_text(seq: u64, hash: &str) -> Vec<u8> {
    format!("gateway audit checkpoint 1\n{seq}\n{hash}\n").into_bytes()
}

/// RFC 3339, UTC, milliseconds.
pub(crate) fn time(unix_millis: u64) -> String {
    let millis = i64::try_from(unix_millis).unwrap_or(i64::MAX);
    format!("{:.3}", Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX))
}

fn open_key(state_dir: &Path) -> io::Result<Ed25519KeyPair> {
    let path = state_dir.join(KEY);
    let pkcs8 = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fresh = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
                .map_err(|_unspecified| io::Error::other("no key could be generated"))?;
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
            file.write_all(fresh.as_ref())?;
            file.sync_all()?;
            fresh.as_ref().to_vec()
        }
        Err(error) => return Err(error),
    };
    let key = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_rejected| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is not an Ed25519 key in PKCS#8", path.display()))
    })?;
    let public = state_dir.join(PUBLIC);
    if !public.exists() {
        std::fs::write(&public, HEXLOWER.encode(key.public_key().as_ref()))?;
        std::fs::set_permissions(&public, Permissions::from_mode(0o644))?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests;
