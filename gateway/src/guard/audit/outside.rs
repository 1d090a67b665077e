//! What somebody else has kept of a chain, to compare it with: anchors, and time stamps of checkpoints.

use std::collections::BTreeMap;

use aws_lc_rs::digest;

use super::public_keys::PublicKeys;
use crate::anchor::SignedHead;
use crate::text::counted::counted;

/// What was kept outside, as far as it was not found in the chain yet.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// By the number of their record.
    anchors: BTreeMap<u64, Vec<AnchoredRecord>>,
    stamps: Vec<CheckpointStamp>,
    /// What was found in the chain.
    found: Vec<String>,
    found_anchors: u64,
    /// The number of the first record that was read.
    begin: Option<u64>,
}

/// What an anchor says of a record.
#[derive(Clone, Debug)]
struct AnchoredRecord {
    hash: String,
    /// Where it is from, and when it was signed.
    name: String,
    key: Vec<u8>,
}

/// A time stamp of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointStamp {
    /// Where it is from, for people.
    pub name: String,
    /// SHA-256 of what a checkpoint signs.
    pub imprint: Vec<u8>,
    /// When the service says that it has seen it.
    pub time: String,
}

impl AnchoredRecord {
    /// Its name, and whether the chain names the key that signed it.
    fn shown(&self, keys: &PublicKeys) -> String {
        let key = if keys.has(&self.key) { "" } else { ", by a key that the chain does not name" };
        format!("{}{key}", self.name)
    }
}

impl Outside {
    /// Adds an anchor, if it is signed as it says. That its key is one of the chain is known once that is read: an older
    /// copy does not name the newest key.
    ///
    /// # Errors
    /// It is not.
    pub fn add_anchor(&mut self, name: &str, head: &SignedHead) -> Result<(), String> {
        let keys = PublicKeys::parse(&head.key).unwrap_or_default();
        let signature = data_encoding::HEXLOWER.decode(head.signature.as_bytes()).unwrap_or_default();
        let text = crate::anchor::signed_text(head.seq, &head.hash);
        let Some(key) = keys.signer(&text, &signature).map(<[u8]>::to_vec) else {
            return Err(format!("{name}: the anchor of record {} is not signed by the key that it names", head.seq));
        };
        let name = format!("{name} ({})", head.time);
        self.anchors.entry(head.seq).or_default().push(AnchoredRecord { hash: head.hash.clone(), name, key });
        Ok(())
    }

    /// Adds a time stamp.
    pub fn add_stamp(&mut self, stamp: CheckpointStamp) {
        self.stamps.push(stamp);
    }

    /// A record was read: whether every anchor knows it so.
    pub(super) fn record(&mut self, seq: u64, hash: &str, keys: &PublicKeys) -> Result<(), String> {
        self.begin.get_or_insert(seq);
        let Some(anchors) = self.anchors.remove(&seq) else { return Ok(()) };
        match anchors.iter().find(|kept| kept.hash != hash) {
            Some(kept) => {
                let name = kept.shown(keys);
                Err(format!("the anchor {name} knows another record of this number: the file was replaced"))
            }
            None => {
                self.found_anchors += u64::try_from(anchors.len()).unwrap_or(0);
                Ok(())
            }
        }
    }

    /// What an anchor says against `hash`, which the chain names for record `seq`. That record is not there.
    pub(super) fn contradiction(&self, seq: u64, hash: &str, keys: &PublicKeys) -> Option<String> {
        let kept = self.anchors.get(&seq)?.iter().find(|kept| kept.hash != hash)?;
        let name = kept.shown(keys);
        Some(format!("the anchor {name} knows another record {seq} than the chain names: the file was replaced"))
    }

    /// A checkpoint of record `seq` was read, which signs `text`.
    pub(super) fn checkpoint(&mut self, seq: u64, text: &[u8]) {
        if self.stamps.is_empty() {
            return;
        }
        let imprint = digest::digest(&digest::SHA256, text);
        let found = &mut self.found;
        self.stamps.retain(|stamp| {
            let is_it = stamp.imprint == imprint.as_ref();
            if is_it {
                found.push(format!("{}: record {seq} and all before it existed at {}", stamp.name, stamp.time));
            }
            !is_it
        });
    }

    /// What the chain should have and has not; `last` is its last record.
    pub(super) fn missing(&self, last: u64, keys: &PublicKeys) -> Vec<String> {
        let newest = self.anchors.range(last + 1..).next_back();
        let anchors = newest.and_then(|(seq, kept)| {
            let name = kept.first()?.shown(keys);
            let records = counted(seq - last, "record is", "records are");
            Some(format!("{records} missing at the end: the anchor {name} knows number {seq}"))
        });
        // What is from before the chain's beginning alone says nothing of it.
        let unknown = self.anchors.last_key_value().filter(|_| anchors.is_none() && self.found_anchors == 0);
        let unknown = unknown.map(|(seq, _)| {
            format!(
                "no anchor is of a record that is there: the newest is of record {seq}, so none vouches for the chain"
            )
        });
        let stamps = self.stamps.iter().map(|stamp| {
            format!(
                "{}: no checkpoint of the chain is what was stamped at {}: its end was cut off, or this is an older copy",
                stamp.name, stamp.time
            )
        });
        anchors.into_iter().chain(unknown).chain(stamps).collect()
    }

    /// What was found, for people.
    pub(super) fn notes(&self) -> Vec<String> {
        let begin = self.begin.unwrap_or(0);
        let older = self.anchors.range(..begin).count();
        let found = (self.found_anchors > 0).then(|| {
            let anchors = counted(self.found_anchors, "anchor agrees", "anchors agree");
            format!("{anchors} with the chain")
        });
        let older = (older > 0).then(|| {
            let anchors = counted(older, "anchor is", "anchors are");
            format!("{anchors} of records that were deleted by their age")
        });
        found.into_iter().chain(older).chain(self.found.iter().cloned()).collect()
    }
}
