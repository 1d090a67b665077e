//! What is not usual, and how it is said.

use serde::{Deserialize, Serialize};

use super::{
    measure::{Measure, Scope},
    model::{Coverage, Hour, Usual},
};
use crate::{
    message::observer::anomalies::{ContributorShown, ContributorsShown},
    policy::detect::MAX_NAMED,
    settings::alert::NumberUnit,
};

/// Something that is not usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Deviation {
    pub(super) scope: Scope,
    pub(super) measure: Measure,
    pub(super) value: f64,
    pub(super) usual: (f64, f64),
    pub(super) sentence: String,
    /// Milliseconds since 1970.
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
    /// From whom it comes, by the last word of a proxy.
    #[serde(default)]
    pub(super) contributors: Option<ContributorsShown>,
    /// How many deviations its worst minute was away, of which the sentence tells.
    #[serde(default)]
    pub(super) worst: f64,
}

/// How many contributors the sentence names.
const IN_SENTENCE: usize = 3;

impl Deviation {
    /// It goes on, with this number so many deviations away: whatever is told of it is of its worst minute.
    pub(super) fn go_on(&mut self, value: f64, usual: (f64, f64), sentence: &str, away: f64) {
        if away.abs() > self.worst {
            (self.value, self.usual, self.worst) = (value, usual, away.abs());
            sentence.clone_into(&mut self.sentence);
        }
    }

    /// It comes from these in the last minute. Whoever stood out before stays named, though it may have stopped: something was
    /// done about it.
    pub(super) fn attribute(&mut self, mut shown: ContributorsShown) {
        let before = self.contributors.take().map(|before| before.list).unwrap_or_default();
        for old in before.into_iter().filter(|one| one.stands_out) {
            match shown.list.iter_mut().find(|one| one.who == old.who && one.kind == old.kind) {
                Some(one) => (one.stands_out, one.done) = (true, one.done.take().or(old.done)),
                None => shown.list.push(ContributorShown { count: 0, ..old }),
            }
        }
        shown.list.sort_by_key(|one| !one.stands_out);
        shown.list.truncate(MAX_NAMED);
        self.contributors = Some(shown);
    }

    /// What is said of it, and from whom it comes: `...; 9 sources: 203.0.113.7 31 of 41 (banned)`.
    pub(super) fn whole_sentence(&self) -> String {
        let Some(ContributorsShown { total, sources, list, .. }) = self.contributors.as_ref().filter(|it| it.total > 0)
        else {
            return self.sentence.clone();
        };
        let plural = if *sources == 1 { "source" } else { "sources" };
        let name = |one: &ContributorShown| {
            let done = one.done.as_ref().map(|done| format!(" ({done})")).unwrap_or_default();
            let count = if one.count > 0 { format!(" {} of {total}", one.count) } else { String::new() };
            format!("{}{count}{done}", one.who)
        };
        let named: Vec<String> = list.iter().take(IN_SENTENCE).map(name).collect();
        let colon = if named.is_empty() { "" } else { ": " };
        format!("{}; {sources} {plural}{colon}{}", self.sentence, named.join(", "))
    }
}

/// How many deviations a number is away from what is usual; negative: it is less.
pub(super) fn distance(measure: Measure, value: f64, usual: &Usual) -> f64 {
    let away = value - usual.center;
    away / if away > 0.0 { scale_above(measure, usual) } else { scale(measure, usual) }
}

fn scale(measure: Measure, usual: &Usual) -> f64 {
    usual.spread.max(measure.floor(usual.center))
}

/// What the highest minutes of each such hour reach lies within so many deviations.
const PEAK_WITHIN: f64 = 4.0;

/// What recurs within the hour, as jobs do, is usual as well.
fn scale_above(measure: Measure, usual: &Usual) -> f64 {
    let peak = if measure.may_peak() { (usual.peak - usual.center) / PEAK_WITHIN } else { 0.0 };
    scale(measure, usual).max(peak)
}

/// So many are not usual, by `sensitivity`.
pub(super) fn unusual_from(measure: Measure, usual: &Usual, sensitivity: f64) -> f64 {
    usual.center + sensitivity * scale_above(measure, usual)
}

/// From where to where it is usual.
pub(super) fn range(measure: Measure, usual: &Usual) -> (f64, f64) {
    let most = if measure == Measure::Errors { 1.0 } else { f64::MAX };
    let around = 2.0 * usual.spread.max(measure.floor(usual.center) / 2.0);
    let peak = if measure.may_peak() { usual.peak } else { 0.0 };
    ((usual.center - around).max(0.0), (usual.center + around).max(peak).min(most))
}

/// What is said of it: `/login: 41 failures a minute, usually 0 to 3 on Saturdays at 14 h`.
pub(super) fn sentence(scope: &Scope, measure: Measure, value: f64, usual: &Usual, hour: Hour) -> String {
    let whose = match scope {
        Scope::Whole => "all routes".to_owned(),
        Scope::Route(route) => route.clone(),
        Scope::Upstream(upstream) => format!("upstream {upstream}"),
    };
    let (low, high) = range(measure, usual);
    let (what, low, high) = match measure {
        Measure::Failures => (format!("{} failures a minute", whole(value)), whole(low), whole(high)),
        Measure::Principals => (format!("{} principals a minute", whole(value)), whole(low), whole(high)),
        Measure::Requests => (format!("{} requests a minute", whole(value)), whole(low), whole(high)),
        Measure::Sources => (format!("{} sources a minute", whole(value)), whole(low), whole(high)),
        Measure::Errors => {
            let show = |share| NumberUnit::Share.show(share);
            (format!("{} of the requests fail", show(value)), show(low), show(high))
        }
        Measure::Latency => {
            let show = |seconds| NumberUnit::Seconds.show(seconds);
            (format!("95 of 100 requests take up to {}", show(value)), show(low), show(high))
        }
        Measure::RequestSize => (format!("requests of {}", bytes(value)), bytes(low), bytes(high)),
        Measure::ResponseSize => (format!("responses of {}", bytes(value)), bytes(low), bytes(high)),
    };
    let (day, clock) = (DAYS.get(hour.of_week / 24).copied().unwrap_or_default(), hour.of_week % 24);
    let when = match usual.known {
        Coverage::Week => format!(" on {day} at {clock} h"),
        Coverage::Day => format!(" at {clock} h"),
        Coverage::All => String::new(),
    };
    format!("{whose}: {what}, usually {low} to {high}{when}")
}

const DAYS: [&str; 7] = ["Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"];

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn bytes(value: f64) -> String {
    NumberUnit::Bytes.show(value.round())
}
