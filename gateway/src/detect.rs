//! Decides when signals about a source add up to a ban.

use std::{net::IpAddr, time::Duration};

use gateway_common::source::Source;
use signal::Signal;

use crate::message::{Ask, RequestId};

pub mod signal;

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
    /// `rule.count`: how many make it overflow, at most [`MAX_EVIDENCE`](crate::message::MAX_EVIDENCE).
    pub count: u32,
    /// `rule.within`: how long a full bucket takes to leak empty.
    pub within: Duration,
    /// `rule.ban`: how long the ban lasts.
    pub ban: Duration,
    /// `rule.shadow`: record and count only.
    pub shadow: bool,
}

/// The buckets of every rule.
#[derive(Debug)]
pub struct Detector {
    _settings: Settings,
}

impl Detector {
    /// Empty buckets.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { _settings: settings.clone() }
    }

    /// Counts one signal about `source`, seen in the request `id` from `address`, and says which bans to ask for:
    /// usually none. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    #[must_use]
    pub fn note(&self, _signal: Signal, _source: Source, _address: IpAddr, _id: RequestId, _now: u64) -> Vec<Ask> {
        Vec::new()
    }
}
