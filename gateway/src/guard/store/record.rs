//! Bans, allowances and the head of the audit chain as they are remembered.

use std::net::IpAddr;

use gateway_common::source::Source;

use crate::web::request_id::RequestId;

/// A ban as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanRecord {
    /// Grows by one with each ban; 0 until it is written.
    pub id: u64,
    /// Who.
    pub source: Source,
    /// Why, for people.
    pub reason: String,
    /// `rule:NAME` or `operator:UID`.
    pub actor: String,
    /// The rule that asked for it.
    pub rule: Option<String>,
    /// The trusted proxy that its evidence came through: the proxy enforces it, the kernel has no entry of it.
    pub relay: Option<IpAddr>,
    /// The requests that were the evidence, oldest first.
    pub evidence: Vec<RequestId>,
    /// Counted only.
    pub shadow: bool,
    /// Milliseconds since the Unix epoch.
    pub started: u64,
    /// Milliseconds since the Unix epoch; `None`: until removed. What people are shown, and what counts after a
    /// reboot.
    pub expires: Option<u64>,
    /// Which boot `expires_monotonic` belongs to.
    pub boot: String,
    /// `CLOCK_MONOTONIC`, nanoseconds; `None`: until removed. What decides within one boot.
    pub expires_monotonic: Option<u64>,
    /// From the offence to the entry in the kernel.
    pub reaction_micros: Option<u64>,
    /// Connections that the proxy closed for it.
    pub connections_closed: Option<u32>,
    /// When and how it ended; `None`: in force.
    pub ended: Option<BanEnd>,
    /// It goes unless an operator confirms it in time; `None`: it stays.
    pub confirm: Option<BanDeadline>,
    /// Packets at its end.
    pub packets: u64,
    /// Bytes at its end.
    pub bytes: u64,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanDeadline {
    /// Milliseconds since the Unix epoch: what people are shown, and what counts after a reboot.
    pub unix_millis: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds: what decides within one boot.
    pub monotonic: u64,
}

/// How a ban ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanEnd {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// `expired`, `removed by operator:0`, ...
    pub how: String,
}

/// An allowance that an operator added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowanceRecord {
    /// Who.
    pub source: Source,
    /// Why, for people.
    pub reason: String,
    /// `operator:UID`.
    pub actor: String,
}

/// The audit chain's head as it was last committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedHead {
    /// The last record's number; 0: none yet.
    pub seq: u64,
    /// The last record's hash, hexadecimal.
    pub hash: String,
    /// The first record's hash: which chain this is.
    pub first: String,
}
