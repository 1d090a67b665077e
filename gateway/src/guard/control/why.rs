//! What becomes of an address, and why, as it is told.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{BlockEntry, ClampEntry, PlanEntry};
use crate::{
    policy::{
        detect::{Discounted, ProfileRow},
        limit::report::LimitRow,
    },
    web::request_id::RequestId,
};

/// All that is known about an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    /// Which.
    pub address: IpAddr,
    /// What happens to it: `blocked`, `shadow_blocked`, `allowed` or `passed`.
    pub verdict: String,
    /// It would be blocked by its packets, and none is dropped in the kernel: why, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattached: Option<String>,
    /// Its country; absent: there is no database that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The number of its autonomous system; absent: there is no database that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// The entry that decides, if one does.
    pub entry: Option<BlockEntry>,
    /// The requests that were the evidence, oldest first.
    pub evidence: Vec<RequestId>,
    /// From the offence to the entry in the kernel, in microseconds.
    pub reaction_micros: Option<u64>,
    /// Connections that were closed when the entry was made.
    pub connections_closed: Option<u32>,
    /// Why it would not be banned: `allowlisted 10.0.0.0/8 (config)`, `own address`, ...
    pub shields: Vec<String>,
    /// How far each rule is from banning it, as the proxy says; empty where that is not known.
    #[serde(default)]
    pub score: Vec<Score>,
    /// Failures of upstreams that do not count against it, and why; as the proxy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discounted: Option<Discounted>,
    /// What limits on requests have left for it, where they have counted it; as the proxy says.
    #[serde(default)]
    pub limits: Vec<LimitRow>,
    /// What it does, as the proxy says; absent: that is not kept, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Box<ProfileRow>>,
    /// Whether the kernel lets it send less, as it went on over a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamp: Option<ClampEntry>,
    /// How its requests are limited because of an anomaly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<String>,
    /// The plan whose budget of packets it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanEntry>,
    /// What its past means for its next ban.
    #[serde(default)]
    pub standing: BanHistory,
    /// Earlier entries for it that have ended, newest first, at most 10.
    pub history: Vec<Past>,
    /// Why earlier entries are not known, where they cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_unknown: Option<String>,
    /// What happens next, as a sentence.
    pub next: String,
}

/// How far a rule is from banning an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// The rule's name.
    pub rule: String,
    /// What it counts, for people.
    pub of: String,
    /// So many signals are held against the address.
    pub held: u32,
    /// So many ban it, or list it where the rule is in shadow.
    pub needed: u32,
    /// Within so many seconds.
    pub within_seconds: u64,
    /// Whether the rule only counts.
    pub shadow: bool,
}

/// What an address's past means for its next ban.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanHistory {
    /// Bans by rules that have ended and still count.
    pub earlier_bans: u64,
    /// How many times as long as its rule says the ban in force is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<u32>,
    /// How many times as long its next ban by a rule would be.
    pub next_factor: u32,
    /// For so many seconds half as many signals ask for its next ban.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation_seconds: Option<u64>,
    /// Principals that have been good there for a while.
    #[serde(default)]
    pub good_principals: u64,
    /// For so many seconds rules may not ban it, because an operator unbanned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unban_grace_seconds: Option<u64>,
}

/// An entry that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The ban's id.
    pub id: u64,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub actor: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC.
    pub ended: String,
    /// `expired`, `removed by operator:UID`, `flushed by ...`, `replaced`.
    pub how: String,
    /// Packets dropped.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
}
