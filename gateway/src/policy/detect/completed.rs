//! What the detector learns of requests that are over: what sources and principals do, and whom an anomaly comes from.

use gateway_common::source::Source;

use super::{
    Detector,
    contributors::deviating::{Completed, Contribution, Deviating},
    profile::Finished,
};

impl Detector {
    /// Whether it is kept what sources and principals do.
    #[must_use]
    pub const fn keeps_profiles(&self) -> bool {
        self.profiles.is_some()
    }

    /// A request of `source` is over.
    pub fn finished(&self, source: Source, finished: &Finished<'_>, now: u64) {
        if let Some(profiles) = &self.profiles {
            profiles.note(source, finished, now);
        }
    }

    /// Whether it is counted who an anomaly may come from.
    #[must_use]
    pub const fn counts_contributors(&self) -> bool {
        self.contributors.is_some()
    }

    /// A request is over that an anomaly may come from.
    pub fn completed(&self, completed: &Completed<'_>) {
        if let Some(contributors) = &self.contributors {
            contributors.note(completed);
        }
    }

    /// Whom a deviation comes from.
    #[must_use]
    pub fn contribution(&self, deviating: &Deviating) -> Option<Contribution> {
        self.contributors.as_ref().map(|contributors| contributors.name(deviating))
    }

    /// Of each route, and of all: how many different sources and principals there were in a minute, summed over minutes.
    #[must_use]
    pub fn distinct_clients(&self) -> Vec<(String, [u64; 2])> {
        self.contributors.as_ref().map(|contributors| contributors.distinct()).unwrap_or_default()
    }
}
