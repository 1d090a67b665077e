//! What baselines would have told of series that somebody brings: the same code as in the observer, without a process.
//!
//! `cargo xtask bench detect` measures by it how much is told of labelled and generated series. *Invariant:* it reads no clock.

use jiff::tz::TimeZone;

use super::{
    MAX_SERIES,
    measure::{Measure, Scope},
    watch::Watch,
};
use crate::settings::anomalies;

/// Everything that is measured.
const MEASURES: [Measure; 8] = [
    Measure::Errors,
    Measure::Failures,
    Measure::Latency,
    Measure::Principals,
    Measure::Requests,
    Measure::RequestSize,
    Measure::ResponseSize,
    Measure::Sources,
];

/// A number of one minute.
#[derive(Clone, Copy, Debug)]
pub struct BaselineNumber<'a> {
    /// Of which route; `None`: of the whole.
    pub route: Option<&'a str>,
    /// What is measured, as `[[alert]]` names it. Others are left out.
    pub measure: &'a str,
    /// How much.
    pub value: f64,
}

/// Something that begins to be unusual.
#[derive(Clone, Debug)]
pub struct BaselineAnomaly {
    /// Of which route; `None`: of the whole.
    pub route: Option<String>,
    /// What is measured.
    pub measure: &'static str,
    /// What an operator is told.
    pub sentence: String,
}

/// Learns series, and says what is not usual of them.
#[derive(Debug)]
pub struct BaselineTrial {
    watch: Watch,
    settings: anomalies::Settings,
    zone: TimeZone,
}

impl BaselineTrial {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(settings: &anomalies::Settings) -> Self {
        let zone = TimeZone::get(&settings.zone).unwrap_or(TimeZone::UTC);
        Self { watch: Watch::default(), settings: settings.clone(), zone }
    }

    /// Takes the numbers of the minute that ended at `ended` (milliseconds since 1970). Returns what begins to be unusual.
    pub fn minute(&mut self, numbers: &[BaselineNumber<'_>], ended: u64) -> Vec<BaselineAnomaly> {
        let numbers = numbers.iter().filter_map(|number| {
            let measure = MEASURES.into_iter().find(|measure| measure.name() == number.measure)?;
            let scope = number.route.map_or(Scope::Whole, |route| Scope::Route(route.to_owned()));
            Some(((scope, measure), number.value))
        });
        let began = self.watch.minute(numbers.collect(), &self.settings, &self.zone, ended);
        self.watch.bound(MAX_SERIES);
        let told = began.into_iter().map(|deviation| BaselineAnomaly {
            route: match deviation.scope {
                Scope::Whole => None,
                Scope::Route(name) | Scope::Upstream(name) => Some(name),
            },
            measure: deviation.measure.name(),
            sentence: deviation.sentence,
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::anomalies::AnomalyActions;

    #[test]
    fn it_tells_what_the_observer_would() {
        let settings = anomalies::Settings {
            sensitivity: 6.0,
            minutes: 2,
            zone: "UTC".to_owned(),
            actions: AnomalyActions::default(),
            capacity: 256,
        };
        let mut trial = BaselineTrial::new(&settings);
        let mut minute = |at: u64, value: f64| {
            let of = |measure| BaselineNumber { route: Some("/a"), measure, value };
            trial.minute(&[of("requests"), of("nonsense")], at * 60_000)
        };
        let usual: usize = (1..=600).map(|at| minute(at, 100.0).len()).sum();
        assert_eq!((usual, minute(601, 900.0).len()), (0, 0), "one minute says nothing");
        let told = minute(602, 900.0);
        let told: Vec<_> = told.iter().map(|one| (one.route.as_deref(), one.measure)).collect();
        assert_eq!(told, [(Some("/a"), "requests")]);
    }
}
