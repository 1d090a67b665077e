//! The rows of what is told of a quota.

use serde::{Deserialize, Serialize};

use super::clock::QuotaSpan;

/// The most rows of one message.
pub const MAX_ROWS_TOLD: usize = 192;

/// What a key has used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedRow {
    /// The key: a hash, the same in every proxy of this guard.
    pub key: u64,
    /// So many units more than was told before; less than 0 where an operator has given some back.
    pub units: i64,
    /// The units are all that this process knows of, and another guard may have been told of them before.
    pub is_whole: bool,
    /// As operators write it, where it is new.
    pub name: Option<String>,
}

/// A key has used up so much of its quota that a line of the log is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warned {
    /// The key.
    pub key: u64,
    /// So many percent at least.
    pub percent: u8,
    /// The quota that it has.
    pub most: u64,
}

/// What is to be told of one quota.
#[derive(Debug, Default)]
pub(in crate::policy::limit) struct QuotaDelta {
    pub(in crate::policy::limit) span: QuotaSpan,
    pub(in crate::policy::limit) rows: Vec<UsedRow>,
    pub(in crate::policy::limit) warned: Vec<Warned>,
    /// Keys, and the numbers of operators' words about them that other machines or this one have said.
    pub(in crate::policy::limit) words: Vec<(u64, u64)>,
}
