//! Lists of sources as they are imported and exported.

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

/// An entry of a list: its line, its source, how many seconds it lasts, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportEntry(pub u32, #[serde(with = "crate::text")] pub Source, pub Option<u64>, pub Option<String>);

/// How far an import is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportProgress {
    /// Which.
    pub id: u64,
    /// The feed; empty: without a name.
    pub feed: String,
    /// Entries that were taken so far.
    pub taken: u64,
    /// Sources that were not listed before.
    pub added: u64,
    /// Sources that were listed before and still are.
    pub unchanged: u64,
    /// Sources that are not listed any more.
    pub removed: u64,
    /// Entries that must not be blocked.
    pub refused: u64,
    /// Those of the last chunk.
    pub refusals: Vec<ListRefusal>,
    /// There was no such list, but a warning about it, which is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dismissed: bool,
    /// Why nothing enforces the list, and what to do about it; absent: the kernel does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattached: Option<String>,
    /// What a removal that is in force is not recorded in yet, and why; absent: all of it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrecorded: Option<String>,
}

/// An entry that must not be blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRefusal {
    /// Which line of the list.
    pub line: u32,
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// As in [`Answer::Refused`].
    pub code: String,
    /// As in [`Answer::Refused`].
    pub message: String,
}

/// Where a page of an export ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportCursor {
    /// The feed's number; 0: blocks that were made one by one.
    pub feed: u32,
    /// The source that came last; absent: the feed is to begin.
    pub after: Option<String>,
}

/// An exported block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// Seconds left; absent: until removed.
    pub seconds: Option<u64>,
    /// Why.
    pub reason: String,
    /// `rule:NAME`, `operator:UID`, `feed:NAME`.
    pub actor: String,
    /// Counted only.
    pub shadow: bool,
}
