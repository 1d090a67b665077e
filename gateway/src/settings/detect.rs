//! `[detect]` and `[[rule]]`: when signals about a source add up to a ban.

use std::time::Duration;

use crate::signal::Signal;

/// The most requests that a ban names as its evidence.
pub const MAX_EVIDENCE: usize = 64;

/// `[detect]` and `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `detect.capacity`: how many buckets (source and rule) are kept at once.
    pub capacity: usize,
    /// `[[rule]]`.
    pub rules: Vec<Rule>,
}

/// One leaky bucket: `count` signals within `within` ask for a ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `rule.name`: unique.
    pub name: String,
    /// `rule.signals`: which signals fill it.
    pub signals: Vec<Signal>,
    /// `rule.count`: how many make it overflow, at most [`MAX_EVIDENCE`].
    pub count: u32,
    /// `rule.within`: how long a full bucket takes to leak empty.
    pub within: Duration,
    /// `rule.ban`: how long the ban lasts.
    pub ban: Duration,
    /// `rule.shadow`: record and count only.
    pub shadow: bool,
}
