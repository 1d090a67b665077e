//! What a record of the chain holds beside what it tells: the hash of the one before, and what a checkpoint signs.

/// What the first record names as the hash of the one before.
pub(super) const FIRST_PREV: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a checkpoint that follows record `seq` signs.
pub(super) fn signed_text(seq: u64, hash: &str) -> Vec<u8> {
    format!("gateway audit checkpoint 1\n{seq}\n{hash}\n").into_bytes()
}
