//! `[anomalies]`: how far from what is usual something must be for somebody to be told, and what is done then about the
//! clients that it comes from.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{detect::Rule, limit::Clamp};
use crate::signal::Signal;

/// `[anomalies]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `sensitivity`: how many deviations.
    pub sensitivity: f64,
    /// `minutes`: for how many minutes in a row.
    pub minutes: u32,
    /// `time_zone`: the name of the zone by whose hours of the week it is judged.
    pub zone: String,
    /// What is done about the sources.
    pub actions: AnomalyActions,
    /// `capacity`: of how many sources and principals, each on one route, requests are counted.
    pub capacity: usize,
}

/// The sensitivity is a whole number.
impl Eq for Settings {}

/// What the requests of single clients are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClientMeasure {
    /// Requests that were answered 5xx. They are nobody's fault but ours: nothing is done about the clients.
    Errors,
    /// Requests that were answered 4xx.
    Failures,
    /// All requests.
    Requests,
}

impl ClientMeasure {
    /// As the anomaly is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Errors => "error_share",
            Self::Failures => "failures",
            Self::Requests => "requests",
        }
    }

    /// Several of what is counted, for people.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Failures => "failures",
            Self::Requests => "requests",
        }
    }

    /// What a ban or clamp because of it is recorded under, in the place of a rule. No rule and no limit has such a name.
    #[must_use]
    pub fn rule(self) -> String {
        format!("anomaly.{}", self.name())
    }
}

/// What is done about a source that an anomaly comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnomalyAction {
    /// It is banned.
    Ban,
    /// Its packet budgets in the kernel are divided.
    Clamp,
    /// Its requests are limited.
    Limit,
    /// Nothing: somebody is told.
    #[default]
    Tell,
}

impl AnomalyAction {
    /// Their names in the configuration.
    pub const NAMES: [(&str, Self); 4] =
        [("tell", Self::Tell), ("limit", Self::Limit), ("clamp", Self::Clamp), ("ban", Self::Ban)];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Clamp => "clamp",
            Self::Limit => "limit",
            Self::Tell => "tell",
        }
    }
}

/// What is done about the sources that anomalies come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnomalyActions {
    /// `actions.failures`.
    pub failures: AnomalyAction,
    /// `actions.requests`.
    pub requests: AnomalyAction,
    /// `for`: how long it lasts.
    pub lasts: Duration,
    /// `per_minute`: how many requests `limit` leaves a source.
    pub per_minute: u32,
    /// `divide`: by how much `clamp` divides the budgets of a source.
    pub divide: u32,
}

impl Default for AnomalyActions {
    fn default() -> Self {
        let lasts = Duration::from_secs(600);
        Self { failures: AnomalyAction::Tell, requests: AnomalyAction::Tell, lasts, per_minute: 60, divide: 10 }
    }
}

impl AnomalyActions {
    /// What is done because of a measure.
    #[must_use]
    pub const fn of(&self, measure: ClientMeasure) -> AnomalyAction {
        match measure {
            ClientMeasure::Errors => AnomalyAction::Tell,
            ClientMeasure::Failures => self.failures,
            ClientMeasure::Requests => self.requests,
        }
    }

    /// What a ban because of a measure is made by.
    #[must_use]
    pub fn rule(&self, measure: ClientMeasure) -> Rule {
        Rule {
            name: measure.rule(),
            signals: vec![Signal::Anomaly],
            count: 1,
            within: Duration::from_secs(60),
            ban: self.lasts,
            ..Rule::default()
        }
    }

    /// What clamps are made by, where there are some.
    pub fn clamps(&self) -> impl Iterator<Item = (String, Clamp)> {
        let measures = [ClientMeasure::Failures, ClientMeasure::Requests];
        let clamp =
            Clamp { after: 1, within: Duration::from_secs(60), divide: self.divide, lasts: self.lasts, shadow: false };
        let own = measures.into_iter().filter(|measure| self.of(*measure) == AnomalyAction::Clamp);
        own.map(move |measure| (measure.rule(), clamp))
    }
}
