//! What a record of the chain holds: members, the hash of the one before, and what a checkpoint signs.

use serde_json::{Map, Value};

/// What the first record names as the hash of the one before.
pub(super) const FIRST_PREV: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a checkpoint that follows record `seq` signs.
pub(super) fn signed_text(seq: u64, hash: &str) -> Vec<u8> {
    format!("gateway audit checkpoint 1\n{seq}\n{hash}\n").into_bytes()
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
