//! Reads the records of a chain in order, over all its files, and finds the first that is not as it was written.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::{
    files::LONGEST,
    outside::Outside,
    public_keys::PublicKeys,
    record::{CHAIN_BROKEN, CHECKPOINT, FIRST_PREV, KEY_ROTATED, RETENTION, ROTATION, Record, Retired, rotation_text},
    redo::Redo,
};
use crate::{
    anchor::{SignedHead, signed_text},
    guard::store::CommittedHead,
    text::counted::counted,
};

/// How many notes are told, and of what.
const NOTES: usize = 20;
const NOTED: [&str; 6] =
    ["chain_broken", "key_exposed", "key_replaced", "store_missing", "store_replaced", "store_set_aside"];

/// How many deleted files are kept in mind.
const RETIRED: usize = 100_000;

const UNSIGNED: &str = "the checkpoint's signature is not of this chain's key";

/// What is wrong, and where.
#[derive(Clone, Debug)]
pub(super) struct ChainFault {
    pub(super) file: PathBuf,
    /// In that file, from 1.
    pub(super) line: u64,
    pub(super) seq: u64,
    pub(super) reason: String,
    /// It is the last line and has no end.
    pub(super) torn: bool,
    /// Which of all lines it is, from 1.
    place: u64,
}

/// What was read so far.
pub(super) struct Walked {
    /// Records before the first fault.
    pub(super) good: u64,
    pub(super) fault: Option<ChainFault>,
    /// Of the last line that can be read.
    pub(super) seq: u64,
    pub(super) hash: String,
    /// The hash of the chain's first record.
    pub(super) first: String,
    /// The number of the first record of the last file; `None`: it has none that can be read.
    pub(super) file_first: Option<u64>,
    /// Bytes of the last file up to and with its last complete line.
    pub(super) length: u64,
    /// Bytes after it.
    pub(super) torn: u64,
    pub(super) notes: Vec<String>,
    /// What the records after the anchor tell of, up to the first fault.
    pub(super) redo: Redo,
    /// The last checkpoint that is signed by a key that is believed, and how many there are.
    pub(super) checkpoint: Option<SignedHead>,
    pub(super) checkpoints: u64,
    /// The key that took the place of another last.
    pub(super) rotated_to: Option<Vec<u8>>,
    /// Nothing ties its beginning to what is known from elsewhere.
    pub(super) begins_behind: bool,
    /// The last fault is told in the chain itself, after it.
    pub(super) is_told: bool,
    /// When the first and the last record were written.
    pub(super) times: Option<(String, String)>,
    /// What was last told of a key that others can read.
    pub(super) exposed: Option<String>,
    /// The number of the first record that is there, the hash of the one before, and its file.
    begin: Option<(u64, String, PathBuf)>,
}

/// What a line says that is as it was written.
pub struct ChainLine<'line> {
    /// All of it, without its end.
    pub text: &'line [u8],
    /// Its number.
    pub seq: u64,
    /// What it tells of.
    pub event: &'line str,
    /// When: RFC 3339, UTC.
    pub time: &'line str,
    /// It is as it was written, and so is all before it.
    pub is_good: bool,
}

/// Told of every line that is a record, good or not.
pub(super) type Visit<'a> = dyn FnMut(&ChainLine<'_>) -> io::Result<()> + 'a;

/// Reads files one after the other.
pub(super) struct Walk<'a> {
    anchor: Option<&'a CommittedHead>,
    keys: PublicKeys,
    outside: Outside,
    visit: &'a mut Visit<'a>,
    /// The first record need not be the first of all: who reads vouches for what is before it.
    from_middle: bool,
    walked: Walked,
    /// Lines so far, and lines of this file.
    place: u64,
    line: u64,
    file: PathBuf,
    /// The first checkpoint that no known key has signed, before the chain tells that the key was lost.
    unsigned: Option<ChainFault>,
    retired: Vec<Retired>,
    /// Where the last fault is, and where the last record that tells of one.
    last_fault: u64,
    last_told: u64,
}

/// What is wrong with a line, and, if it can be read at all, where the chain would go on after it.
struct BrokenLine {
    reason: String,
    follow: Option<(u64, String)>,
}

impl<'a> Walk<'a> {
    /// Begins with nothing read. `folder` is named where there is no file.
    pub(super) fn new(
        path: &Path,
        anchor: Option<&'a CommittedHead>,
        keys: PublicKeys,
        outside: Outside,
        visit: &'a mut Visit<'a>,
    ) -> Self {
        Self {
            anchor,
            keys,
            outside,
            visit,
            from_middle: false,
            walked: Walked {
                good: 0,
                fault: None,
                seq: 0,
                hash: FIRST_PREV.to_owned(),
                first: FIRST_PREV.to_owned(),
                file_first: None,
                length: 0,
                torn: 0,
                notes: Vec::new(),
                redo: Redo::new(),
                checkpoint: None,
                checkpoints: 0,
                rotated_to: None,
                begins_behind: false,
                is_told: false,
                times: None,
                exposed: None,
                begin: None,
            },
            place: 0,
            line: 0,
            file: path.to_owned(),
            unsigned: None,
            retired: Vec::new(),
            last_fault: 0,
            last_told: 0,
        }
    }

    /// The records before the first file that is read are not asked for: the last of them is this one.
    pub(super) fn after(mut self, seq: u64, hash: String) -> Self {
        (self.walked.seq, self.walked.hash) = (seq, hash);
        self.from_middle = true;
        self
    }

    /// Reads one file, the next of the chain. `is_last`: it may end in the middle of a line.
    pub(super) fn read(&mut self, path: &Path, file: impl io::Read, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        if self.walked.torn > 0 {
            // Only the last file is written to.
            self.walked.torn = 0;
            self.walked.fault.iter_mut().for_each(|fault| fault.torn = false);
        }
        path.clone_into(&mut self.file);
        (self.line, self.walked.length, self.walked.file_first) = (0, 0, None);
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            (self.line, self.place) = (self.line + 1, self.place + 1);
            let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
            progress(bytes);
            if line.pop_if(|last| *last == b'\n').is_none() && bytes < LONGEST {
                self.walked.torn = bytes;
                self.fault("the line is cut off in the middle".to_owned(), true);
                return Ok(());
            }
            self.walked.length += bytes;
            self.take(&line)?;
        }
    }

    /// A file could not be read to its end. That is its own fault where it was compressed, and was changed or cut off.
    pub(super) fn damaged(&mut self, error: io::Error) -> io::Result<()> {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        if !matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) {
            return Err(error);
        }
        (self.line, self.place) = (self.line + 1, self.place + 1);
        self.fault(format!("the file cannot be unpacked from here on: {error}"), false);
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> io::Result<()> {
        let Ok(record) = serde_json::from_slice::<Record<'_>>(line) else {
            self.fault("the line is no audit record".to_owned(), false);
            return Ok(());
        };
        let place = (self.place == 1, self.walked.file_first.is_none());
        self.walked.file_first.get_or_insert(record.seq);
        if place.0 && !self.from_middle {
            self.begin_at(&record);
        }
        match self.check(&record, line) {
            Ok(()) => self.accept(&record, line)?,
            Err(BrokenLine { reason, follow }) => {
                self.fault(reason, false);
                self.show(&record, line)?;
                let is_whole = follow.is_some();
                if let Some((seq, hash)) = follow {
                    (self.walked.seq, self.walked.hash) = (seq, hash);
                }
                // After a break the record that tells of it need not follow the one before.
                if is_whole && record.event == CHAIN_BROKEN {
                    self.last_told = self.place;
                }
            }
        }
        if place.0 && record.seq == 1 {
            self.walked.first.clone_from(&self.walked.hash);
        }
        Ok(())
    }

    /// Older files may have been deleted, which a later record tells of.
    fn begin_at(&mut self, record: &Record<'_>) {
        if record.seq > 1 {
            self.walked.begin = Some((record.seq, record.prev.to_owned(), self.file.clone()));
            (self.walked.seq, self.walked.hash) = (record.seq - 1, record.prev.to_owned());
        }
    }

    fn check(&mut self, record: &Record<'_>, line: &[u8]) -> Result<(), BrokenLine> {
        let ending = record.hash.len() + ",\"hash\":\"\"}".len();
        let hashed = line.len().checked_sub(ending).and_then(|length| line.get(..length)).unwrap_or_default();
        if HEXLOWER.encode(digest::digest(&digest::SHA256, hashed).as_ref()) != record.hash
            || !line.ends_with(format!(",\"hash\":\"{}\"}}", record.hash).as_bytes())
        {
            let reason = "the record does not match its own hash: it was changed".to_owned();
            // What it says of itself cannot be believed, but the next may well follow it.
            return Err(BrokenLine { reason, follow: Some((record.seq, record.hash.to_owned())) });
        }
        let broken = |reason: String| BrokenLine { reason, follow: Some((record.seq, record.hash.to_owned())) };
        let expected = self.walked.seq + 1;
        if record.seq != expected {
            return Err(broken(match record.seq {
                seq if seq > expected => {
                    format!("record {expected} should be here, this is {seq}: records are missing")
                }
                seq => format!("record {expected} should be here, this is {seq}: it is here twice or out of order"),
            }));
        }
        if record.prev != self.walked.hash {
            return Err(broken("the record does not follow the one before it".to_owned()));
        }
        if let Some(anchor) = self.anchor
            && (record.seq == 1 && record.hash != anchor.first
                || record.seq == anchor.seq && record.hash != anchor.hash)
        {
            return Err(broken("the store knows another record of this number: the file was replaced".to_owned()));
        }
        self.outside.record(record.seq, record.hash, &self.keys).map_err(broken)
    }

    /// A record that is as it was written.
    fn accept(&mut self, record: &Record<'_>, line: &[u8]) -> io::Result<()> {
        let (seq, before) = (record.seq, (self.walked.seq, std::mem::take(&mut self.walked.hash)));
        (self.walked.seq, self.walked.hash) = (seq, record.hash.to_owned());
        match record.event {
            CHECKPOINT => self.checkpoint(record, before),
            KEY_ROTATED => self.rotate_key(record, before),
            RETENTION => {
                let room = RETIRED.saturating_sub(self.retired.len());
                self.retired.extend(record.retired.iter().flatten().take(room).cloned());
            }
            ROTATION if self.walked.begin.is_some() && self.walked.first == FIRST_PREV => {
                self.walked.first = record.chain.unwrap_or(FIRST_PREV).to_owned();
            }
            "key_replaced" => {
                self.walked.rotated_to = None;
                if let Some(unsigned) = self.unsigned.take() {
                    self.walked.notes.push(format!("record {}: {}", unsigned.seq, unsigned.reason));
                }
            }
            CHAIN_BROKEN => self.last_told = self.place,
            _ => {}
        }
        if NOTED.contains(&record.event) {
            self.note(record);
        }
        // What follows a break that the chain tells of was written by the guard.
        if self.last_told >= self.last_fault && self.anchor.is_none_or(|anchor| seq > anchor.seq) {
            self.walked.redo.note(record.event, line);
        }
        if self.walked.fault.is_some() {
            return self.show(record, line);
        }
        self.walked.good += 1;
        match &mut self.walked.times {
            Some((_, last)) => record.time.clone_into(last),
            times => *times = Some((record.time.to_owned(), record.time.to_owned())),
        }
        self.show(record, line)
    }

    fn show(&mut self, record: &Record<'_>, text: &[u8]) -> io::Result<()> {
        let is_good = self.walked.fault.is_none();
        (self.visit)(&ChainLine { text, seq: record.seq, event: record.event, time: record.time, is_good })
    }

    /// Once for each thing that is told.
    fn note(&mut self, record: &Record<'_>) {
        let what = record.finding.as_deref().unwrap_or_default();
        if record.event == "key_exposed" {
            self.walked.exposed = Some(what.to_owned());
        }
        let note = format!(", {}: {what}", record.event.replace('_', " "));
        if self.walked.notes.len() < NOTES && !self.walked.notes.iter().any(|earlier| earlier.ends_with(&note)) {
            self.walked.notes.push(format!("record {}{note}", record.seq));
        }
    }

    fn checkpoint(&mut self, record: &Record<'_>, (seq, hash): (u64, String)) {
        let text = signed_text(seq, &hash);
        self.outside.checkpoint(seq, &text);
        let signer = self.keys.signer(&text, &decoded(record.signature)).map(|key| HEXLOWER.encode(key));
        let Some(key) = signer else { return self.unsigned(record.seq, UNSIGNED) };
        self.walked.checkpoints += 1;
        self.walked.checkpoint = Some(SignedHead {
            anchor: SignedHead::VERSION,
            chain: self.walked.first.clone(),
            seq,
            hash,
            time: record.time.to_owned(),
            key,
            signature: record.signature.unwrap_or_default().to_owned(),
        });
    }

    fn rotate_key(&mut self, record: &Record<'_>, (seq, hash): (u64, String)) {
        let hex = record.public_key.unwrap_or_default();
        let (key, text) = (decoded(Some(hex)), rotation_text(seq, &hash, hex));
        if self.keys.rotate(&key, &text, &decoded(record.signature), &decoded(record.next_signature)) {
            self.walked.rotated_to = Some(key);
        } else {
            self.unsigned(record.seq, "the next key is not signed by this chain's key and by itself");
        }
    }

    fn unsigned(&mut self, seq: u64, reason: &str) {
        let (file, line, place) = (self.file.clone(), self.line, self.place);
        self.unsigned.get_or_insert(ChainFault { file, line, seq, reason: reason.to_owned(), torn: false, place });
    }

    /// Notes a fault; the first one stays.
    fn fault(&mut self, reason: String, torn: bool) {
        self.last_fault = self.place;
        self.fault_at(self.line, self.place, reason, torn);
    }

    fn fault_at(&mut self, line: u64, place: u64, reason: String, torn: bool) {
        let (file, seq) = (self.file.clone(), self.walked.seq + 1);
        self.walked.fault.get_or_insert(ChainFault { file, line, seq, reason, torn, place });
    }

    /// All files are read. `key_was_lost`: a signature that no key explains is no fault.
    pub(super) fn finish(mut self, key_was_lost: bool) -> Walked {
        if let Some((first, prev, file)) = self.walked.begin.take() {
            let is_told = self.retired.iter().any(|file| file.last + 1 == first && file.hash == prev);
            if let Some(reason) = self.begins_behind(first, &prev) {
                // Nothing ties it to what is known: what it tells of does not count.
                self.walked.redo = Redo::new();
                self.walked.begins_behind = true;
                self.begin_is_wrong(file, reason);
            } else if is_told {
                self.walked.notes.push(format!(
                    "records 1 to {} are not there: the chain tells that their files were deleted by their number, size \
                     or age ([audit])",
                    first - 1
                ));
            } else {
                let reason = format!(
                    "record 1 should be here, this is {first}: records are missing, and none tells that they were deleted"
                );
                self.begin_is_wrong(file, reason);
            }
        }
        if let Some(anchor) = self.anchor
            && self.walked.seq < anchor.seq
        {
            let lost = anchor.seq - self.walked.seq;
            let lost = counted(lost, "record is", "records are");
            self.end(format!("{lost} missing at the end: the store knows number {}", anchor.seq));
        }
        for reason in self.outside.missing(self.walked.seq, &self.keys) {
            self.end(reason);
        }
        self.walked.notes.extend(self.outside.notes());
        if let Some(unsigned) = self.unsigned.take().filter(|_| !key_was_lost)
            && self.walked.fault.as_ref().is_none_or(|fault| fault.place > unsigned.place)
        {
            self.last_fault = self.last_fault.max(unsigned.place);
            self.walked.good = unsigned.place - 1;
            self.walked.fault = Some(unsigned);
        }
        // A chain that nothing ties to what is known tells of nothing.
        self.walked.is_told = self.last_told >= self.last_fault && !self.walked.begins_behind;
        self.walked
    }

    /// Why a chain whose first record is number `first` and follows `prev` is not the one that is known: all that is
    /// known of it is from before its beginning, or differs from what it says of that.
    fn begins_behind(&self, first: u64, prev: &str) -> Option<String> {
        let before = first - 1;
        if let Some(anchor) = self.anchor {
            if anchor.seq < before {
                return Some(format!(
                    "the chain begins with record {first}, the store knows number {} last: the records between are \
                     missing, and nothing ties this chain to the store (or the store is an older copy)",
                    anchor.seq
                ));
            }
            if anchor.seq == before && anchor.hash != prev {
                return Some("the store knows another record before this one: the file was replaced".to_owned());
            }
        }
        let told = self.retired.iter().map(|file| (file.last, file.hash.as_str()));
        let mut told = std::iter::once((before, prev)).chain(told);
        told.find_map(|(seq, hash)| self.outside.contradiction(seq, hash, &self.keys))
    }

    fn end(&mut self, reason: String) {
        self.last_fault = self.place + 1;
        self.fault_at(self.line + 1, self.place + 1, reason, false);
    }

    /// Nothing vouches for what is there where its beginning is gone.
    fn begin_is_wrong(&mut self, file: PathBuf, reason: String) {
        self.last_fault = self.last_fault.max(1);
        self.walked.good = 0;
        self.walked.fault = Some(ChainFault { file, line: 1, seq: 1, reason, torn: false, place: 1 });
    }
}

fn decoded(hex: Option<&str>) -> Vec<u8> {
    hex.and_then(|text| HEXLOWER.decode(text.as_bytes()).ok()).unwrap_or_default()
}
