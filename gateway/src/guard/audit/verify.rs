//! Verifies the audit chain: whether it is whole, and which line is the first that is not.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::Deserialize;

use super::{
    finding::Finding,
    key::{Key, PublicKeys},
    record::{FIRST_PREV, signed_text},
    redo::Redo,
};
use crate::guard::{
    state_files::{LOG, STORE, not_files},
    store::{self, Anchor},
};

/// No record is longer: evidence and reasons are bounded. What is, was not written by the guard.
const LONGEST: u64 = 64 * 1024;

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// How many records were read and are good.
    pub records: u64,
    /// The first that is not; `None`: the chain is whole.
    pub first_bad: Option<Bad>,
    /// What happened to the files of the chain and its store, as the chain itself tells.
    pub notes: Vec<String>,
}

/// The first record that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Which file.
    pub file: PathBuf,
    /// Which line, from 1; one past the last where records are missing at the end.
    pub line: u64,
    /// The number that the record has or should have.
    pub seq: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads the whole chain in `state_dir` and compares it with the store's anchor. The guard may be running.
#[must_use]
pub fn verify(state_dir: &Path) -> Verification {
    let path = state_dir.join(LOG);
    let stop = |reason: String| Verification {
        records: 0,
        first_bad: Some(Bad { file: path.clone(), line: 1, seq: 1, reason }),
        notes: Vec::new(),
    };
    if let Some(odd) = not_files(state_dir).next() {
        return stop(format!("{} is no regular file", odd.display()));
    }
    // The anchor first: what the guard appends meanwhile is ahead of it, which is no fault.
    let anchor = match store::read_anchor(&state_dir.join(STORE)) {
        Ok(Some(anchor)) => anchor,
        Ok(None) => return stop("the store has no anchor: no chain was begun, or the store was replaced".to_owned()),
        Err(error) => return stop(format!("the anchor cannot be read: {error}")),
    };
    let public = match PublicKeys::read(state_dir) {
        Ok(public) => public,
        Err(reason) => return stop(reason),
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => return stop(format!("{LOG} cannot be read: {error}")),
    };
    match walk(&file, Some(&anchor), &|text, signature| public.verify(text, signature), false) {
        Err(error) => stop(format!("{LOG} cannot be read: {error}")),
        Ok(walked) => Verification {
            records: walked.good,
            notes: walked.notes,
            first_bad: walked.fault.map(|fault| Bad {
                file: path.clone(),
                line: fault.line,
                seq: fault.seq,
                reason: fault.reason,
            }),
        },
    }
}

/// Where writing goes on.
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: String,
    pub(super) first: String,
    pub(super) length: u64,
}

/// Reads the chain at the guard's start: where it goes on, and what was found.
pub(super) fn resume(path: &Path, file: &File, anchor: Option<&Anchor>, key: &Key) -> io::Result<(Head, Vec<Finding>)> {
    let walked = walk(file, anchor, &|text, signature| key.verify(text, signature), key.replaces)?;
    let mut findings = Vec::new();
    if walked.torn > 0 {
        // Where the file cannot be written this is done once it can.
        if let Err(error) = file.set_len(walked.length) {
            tracing::error!(%error, "the end of the audit chain is torn");
        }
        let text = format!("the last line was cut off in the middle: {} bytes of it were removed", walked.torn);
        findings.push(Finding::recovered(text, None, Redo::new()));
    }
    let anchored = anchor.map_or(0, |anchor| anchor.seq);
    let mut head = Head { seq: walked.seq, hash: walked.hash, first: walked.first, length: walked.length };
    match walked.fault {
        // A line that was torn is told above, unless it was complete once.
        Some(fault) if fault.line > 0 && !(fault.torn && walked.seq >= anchored) => {
            let text = format!("{}, line {}: {}", path.display(), fault.line, fault.reason);
            findings.push(Finding { redo: walked.redo, ..Finding::broken(text) });
            if let Some(anchor) = anchor {
                // The next record follows what the store knows, not what was put in its place, and is numbered after
                // both: the break stays visible however far the chain grows.
                head.seq = head.seq.max(anchor.seq);
                head.hash.clone_from(&anchor.hash);
                head.first.clone_from(&anchor.first);
            }
        }
        _ if anchor.is_none() && head.seq > 1 => {
            let text =
                format!("{} holds {} records, the store knows of none: it was replaced", path.display(), head.seq);
            findings.push(Finding { redo: walked.redo, ..Finding::broken(text) });
        }
        _ if head.seq > anchored => {
            let ahead = head.seq - anchored;
            let text = format!(
                "{ahead} records are ahead of the store, as after a crash, or where the store is a copy from before: \
                 what they tell of counts, but for lists"
            );
            findings.push(Finding::recovered(text, Some([anchored + 1, head.seq]), walked.redo));
        }
        _ => {}
    }
    Ok((head, findings))
}

#[derive(Deserialize)]
struct Record<'line> {
    seq: u64,
    event: &'line str,
    signature: Option<&'line str>,
    #[serde(borrow)]
    finding: Option<std::borrow::Cow<'line, str>>,
    prev: &'line str,
    hash: &'line str,
}

struct Fault {
    line: u64,
    seq: u64,
    reason: String,
    /// It is the last line and has no end.
    torn: bool,
}

struct Walked {
    /// Records before the first fault.
    good: u64,
    fault: Option<Fault>,
    /// Of the last line that can be read.
    seq: u64,
    hash: String,
    first: String,
    /// Bytes up to and with the last complete line.
    length: u64,
    /// Bytes after it.
    torn: u64,
    notes: Vec<String>,
    /// What the records after the anchor tell of, up to the first fault.
    redo: Redo,
    /// The first checkpoint that no known key has signed, before the chain tells that the key was lost.
    unsigned: Option<Fault>,
}

/// Whether a key that is known has signed this.
type Verify<'a> = dyn Fn(&[u8], &[u8]) -> bool + 'a;

/// How many notes are told, and of what.
const NOTES: usize = 20;
const NOTED: [&str; 5] = ["chain_broken", "key_exposed", "key_replaced", "store_missing", "store_set_aside"];

fn walk(file: &File, anchor: Option<&Anchor>, verify: &Verify<'_>, key_was_lost: bool) -> io::Result<Walked> {
    let mut reader = BufReader::new(file);
    let mut walked = Walked {
        good: 0,
        fault: None,
        seq: 0,
        hash: FIRST_PREV.to_owned(),
        first: FIRST_PREV.to_owned(),
        length: 0,
        torn: 0,
        notes: Vec::new(),
        redo: Redo::new(),
        unsigned: None,
    };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if line.pop_if(|last| *last == b'\n').is_none() && bytes < LONGEST {
            walked.torn = bytes;
            fault(&mut walked, number, "the line is cut off in the middle".to_owned(), true);
            break;
        }
        walked.length += bytes;
        match check(&line, &walked, anchor, verify) {
            Ok(Good { seq, hash, event, is_signed, note }) => {
                if walked.fault.is_none() && anchor.is_none_or(|anchor| seq > anchor.seq) {
                    walked.redo.note(&event, &line);
                }
                if event == "key_replaced"
                    && let Some(unsigned) = walked.unsigned.take()
                {
                    walked.notes.push(format!("record {}: {}", unsigned.seq, unsigned.reason));
                }
                if walked.notes.len() < NOTES {
                    walked.notes.extend(note);
                }
                if !is_signed {
                    let reason = UNSIGNED.to_owned();
                    walked.unsigned.get_or_insert(Fault { line: number, seq, reason, torn: false });
                }
                if walked.fault.is_none() {
                    walked.good += 1;
                }
                (walked.seq, walked.hash) = (seq, hash);
            }
            Err(Broken { reason, follow }) => {
                fault(&mut walked, number, reason, false);
                if let Some((seq, hash)) = follow {
                    (walked.seq, walked.hash) = (seq, hash);
                }
            }
        }
        if number == 1 {
            walked.first.clone_from(&walked.hash);
        }
    }
    if let Some(anchor) = anchor
        && walked.seq < anchor.seq
    {
        let lost = anchor.seq - walked.seq;
        let line = walked.good + 1;
        fault(
            &mut walked,
            line,
            format!("{lost} records are missing at the end: the store knows number {}", anchor.seq),
            false,
        );
    }
    if let Some(unsigned) = walked.unsigned.take().filter(|_| !key_was_lost)
        && walked.fault.as_ref().is_none_or(|fault| fault.line > unsigned.line)
    {
        walked.good = unsigned.line - 1;
        walked.fault = Some(unsigned);
    }
    Ok(walked)
}

const UNSIGNED: &str = "the checkpoint's signature is not of this chain's key";

/// What a line says that is as it was written.
struct Good {
    seq: u64,
    hash: String,
    /// It needs no signature, or has one of a key that is known.
    is_signed: bool,
    note: Option<String>,
    event: String,
}

/// Notes a fault unless there is one already. `line` from 1.
fn fault(walked: &mut Walked, line: u64, reason: String, torn: bool) {
    let seq = walked.seq + 1;
    walked.fault.get_or_insert(Fault { line, seq, reason, torn });
}

/// What is wrong with a line, and, if it can be read at all, where the chain would go on after it.
struct Broken {
    reason: String,
    follow: Option<(u64, String)>,
}

fn check(line: &[u8], before: &Walked, anchor: Option<&Anchor>, verify: &Verify<'_>) -> Result<Good, Broken> {
    let record: Record<'_> = serde_json::from_slice(line)
        .map_err(|_error| Broken { reason: "the line is no audit record".to_owned(), follow: None })?;
    let follow = Some((record.seq, record.hash.to_owned()));
    let broken = |reason: String| Broken { reason, follow: follow.clone() };
    let ending = record.hash.len() + ",\"hash\":\"\"}".len();
    let hashed = line.len().checked_sub(ending).and_then(|length| line.get(..length)).unwrap_or_default();
    if HEXLOWER.encode(digest::digest(&digest::SHA256, hashed).as_ref()) != record.hash
        || !line.ends_with(format!(",\"hash\":\"{}\"}}", record.hash).as_bytes())
    {
        return Err(broken("the record does not match its own hash: it was changed".to_owned()));
    }
    let expected = before.seq + 1;
    if record.seq != expected {
        return Err(broken(match record.seq {
            seq if seq > expected => format!("record {expected} should be here, this is {seq}: records are missing"),
            seq => format!("record {expected} should be here, this is {seq}: it is here twice or out of order"),
        }));
    }
    if record.prev != before.hash {
        return Err(broken("the record does not follow the one before it".to_owned()));
    }
    let signature = record.signature.and_then(|text| HEXLOWER.decode(text.as_bytes()).ok()).unwrap_or_default();
    let is_signed = record.event != "checkpoint" || verify(&signed_text(before.seq, &before.hash), &signature);
    if let Some(anchor) = anchor
        && (record.seq == 1 && record.hash != anchor.first || record.seq == anchor.seq && record.hash != anchor.hash)
    {
        return Err(broken("the store knows another record of this number: the file was replaced".to_owned()));
    }
    let note = NOTED.contains(&record.event).then(|| {
        let what = record.finding.as_deref().unwrap_or_default();
        format!("record {}, {}: {what}", record.seq, record.event.replace('_', " "))
    });
    let event = record.event.to_owned();
    Ok(Good { seq: record.seq, hash: record.hash.to_owned(), event, is_signed, note })
}
