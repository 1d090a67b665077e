//! What a record of the chain holds: its members, and what the reader of a chain has to know of them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the first record names as the hash of the one before.
pub(super) const FIRST_PREV: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The event of a record that signs the one before it.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// The event of a record that names the next key, signed by both.
pub(super) const KEY_ROTATED: &str = "key_rotated";

/// The event of a record that says which closed files are deleted.
pub(super) const RETENTION: &str = "retention";

/// The event of the first record of every file but the first.
pub(super) const ROTATION: &str = "rotation";

/// The event of a record that tells of a break of the chain.
pub(super) const CHAIN_BROKEN: &str = "chain_broken";

/// What both keys sign when one takes the other's place after record `seq`.
pub(super) fn rotation_text(seq: u64, hash: &str, key: &str) -> Vec<u8> {
    format!("gateway audit key 1\n{seq}\n{hash}\n{key}\n").into_bytes()
}

/// What is read of a record to verify the chain.
#[derive(Deserialize)]
pub(super) struct Record<'line> {
    pub(super) seq: u64,
    pub(super) time: &'line str,
    pub(super) event: &'line str,
    pub(super) signature: Option<&'line str>,
    /// Of [`KEY_ROTATED`]: the next key, and what it has signed.
    pub(super) public_key: Option<&'line str>,
    pub(super) next_signature: Option<&'line str>,
    /// Of [`ROTATION`]: the hash of the first record of all.
    pub(super) chain: Option<&'line str>,
    /// Of [`RETENTION`].
    pub(super) retired: Option<Vec<Retired>>,
    #[serde(borrow)]
    pub(super) finding: Option<Cow<'line, str>>,
    pub(super) prev: &'line str,
    pub(super) hash: &'line str,
}

/// A closed file that is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retired {
    /// Its name.
    pub(super) file: String,
    /// The number of its last record.
    pub(super) last: u64,
    /// That record's hash, which the next file goes on from.
    pub(super) hash: String,
}

/// The members of a JSON object, for a record.
pub(crate) fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => members_of([("value", other)]),
    }
}

/// Members by name, for a record.
pub(crate) fn members_of<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
