//! A ban as it is told.

use std::net::IpAddr;

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

/// A block in force, with what the kernel counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEntry {
    /// The ban's id; absent: it is an entry of a list, which has none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub id: u64,
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// Why, for people: the operator's words, or the rule and what it counted.
    pub reason: String,
    /// Who did it: `rule:NAME`, `operator:UID`, `feed:NAME`.
    pub actor: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC; absent: until removed.
    pub expires: Option<String>,
    /// Seconds left; absent: until removed.
    pub remaining_seconds: Option<u64>,
    /// Seconds until it is taken back unless it is confirmed; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<u64>,
    /// Packets that the kernel dropped (in shadow: would have).
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// The trusted proxy that the client came through: enforced at layer 7 by the proxy, request by request; absent:
    /// in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<IpAddr>,
    /// Requests and connections that the proxy refused because of it.
    #[serde(default)]
    pub refused: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none(id: &u64) -> bool {
    *id == 0
}

/// An allowlisted source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowEntry {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// Why, for people.
    pub reason: String,
    /// `config` or `operator:UID`.
    pub actor: String,
}
