//! Compares each minute with what is usual, and learns from it.

use std::collections::{BTreeMap, VecDeque};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    deviation::{Deviation, distance, range, sentence, unusual_from},
    measure::{Measure, Scope},
    model::{Hour, Model},
};
use crate::{
    message::observer::anomalies::ContributorsShown,
    policy::detect::{ALL_ROUTES, Deviating, LONGEST_CONTRIBUTOR, LONGEST_SENTENCE, MAX_DEVIATING},
    settings::anomalies::{self, ClientMeasure},
};

/// A series: what it is of, and what is measured.
pub(super) type SeriesKey = (Scope, Measure);

/// How many deviations that are over are remembered.
const PAST: usize = 100;

/// A deviation of which there is no number any more is over after so many minutes: nobody asks for the route. Shares and
/// times have no number in a minute with few requests.
const MISSING: u32 = 10;

/// How near to what is usual a number comes for a deviation to be over.
const OVER: f64 = 3.0;

/// What is kept of one series.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct WatchedSeries {
    model: Model,
    /// How many minutes in a row were not usual, and how many were.
    #[serde(skip)]
    unusual: u32,
    #[serde(skip)]
    usual: u32,
    /// For how many minutes there has been no number.
    #[serde(skip)]
    missing: u32,
    /// The last number, and what was usual then.
    #[serde(skip)]
    last: Option<(f64, f64)>,
    /// So many would not have been usual in the last minute, and what was said then.
    #[serde(skip)]
    from: f64,
    #[serde(skip)]
    said: String,
}

/// All series.
#[derive(Debug, Default)]
pub(super) struct Watch {
    series: BTreeMap<SeriesKey, WatchedSeries>,
    /// What is not usual now.
    pub(super) current: BTreeMap<SeriesKey, Deviation>,
    /// What was not, the latest last.
    pub(super) past: VecDeque<Deviation>,
}

/// What outlives the observer. Lists, as JSON has no keys but texts.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct SavedWatch {
    version: u32,
    series: Vec<(SeriesKey, WatchedSeries)>,
    current: Vec<Deviation>,
    past: VecDeque<Deviation>,
}

/// The version of [`SavedWatch`]. Another one is not read.
const VERSION: u32 = 1;

impl Watch {
    /// Goes on with what was kept.
    pub(super) fn restore(&mut self, kept: SavedWatch) {
        if kept.version != VERSION {
            return;
        }
        self.series = kept.series.into_iter().collect();
        self.current = kept.current.into_iter().map(|one| ((one.scope.clone(), one.measure), one)).collect();
        self.past = kept.past;
    }

    /// What is to be kept.
    pub(super) fn kept(&self) -> SavedWatch {
        let series = self.series.iter().map(|(key, watched)| (key.clone(), watched.clone())).collect();
        SavedWatch {
            version: VERSION,
            series,
            current: self.current.values().cloned().collect(),
            past: self.past.clone(),
        }
    }

    /// Takes the numbers of one minute, which ended at `now_unix` (milliseconds). Returns what begins to be unusual.
    pub(super) fn minute(
        &mut self,
        numbers: Vec<(SeriesKey, f64)>,
        settings: &anomalies::Settings,
        zone: &TimeZone,
        now_unix: u64,
    ) -> Vec<Deviation> {
        let hour = hour(now_unix.saturating_sub(60_000), zone);
        let mut began = Vec::new();
        for watched in self.series.values_mut() {
            watched.missing = watched.missing.saturating_add(1);
        }
        for (key, value) in numbers {
            let watched = self.series.entry(key.clone()).or_default();
            if std::mem::take(&mut watched.missing) > 1 {
                // Those before it were not the minutes before.
                watched.unusual = 0;
            }
            if let Some(usual) = watched.model.usual(hour) {
                watched.last = Some((value, usual.center));
                let away = distance(key.1, value, &usual);
                let is_far = away > settings.sensitivity || away < -settings.sensitivity && key.1.may_lack();
                (watched.unusual, watched.usual) = match (is_far, away.abs() < OVER) {
                    (true, _) => (watched.unusual.saturating_add(1), 0),
                    (false, true) => (0, watched.usual.saturating_add(1)),
                    (false, false) => (0, 0),
                };
                watched.from = unusual_from(key.1, &usual, settings.sensitivity);
                watched.said.clear();
                if is_far && watched.unusual >= settings.minutes {
                    let said = sentence(&key.0, key.1, value, &usual, hour);
                    watched.said.clone_from(&said);
                    let is_new = !self.current.contains_key(&key);
                    let deviation = self.current.entry(key.clone()).or_insert_with(|| Deviation {
                        scope: key.0.clone(),
                        measure: key.1,
                        value,
                        usual: range(key.1, &usual),
                        sentence: said.clone(),
                        began: now_unix,
                        ended: None,
                        contributors: None,
                        worst: away.abs(),
                    });
                    deviation.go_on(value, range(key.1, &usual), &said, away);
                    if is_new {
                        began.push(deviation.clone());
                    }
                }
            }
            watched.model.learn(value, hour, key.1);
        }
        let is_over = |watched: &WatchedSeries| {
            watched.usual >= settings.minutes || watched.missing >= settings.minutes.max(MISSING)
        };
        let over: Vec<SeriesKey> =
            self.current.keys().filter(|key| self.series.get(*key).is_none_or(is_over)).cloned().collect();
        for key in over {
            if let Some(deviation) = self.current.remove(&key) {
                if self.past.len() >= PAST {
                    self.past.pop_front();
                }
                self.past.push_back(Deviation { ended: Some(now_unix), ..deviation });
            }
        }
        began
    }

    /// Nobody looks for a while: the minutes before and after it are not in a row.
    pub(super) fn interrupt(&mut self) {
        for watched in self.series.values_mut() {
            (watched.unusual, watched.usual, watched.last) = (0, 0, None);
        }
    }

    /// What there was more of than usual in the minute that ended at `now_unix`, and single clients are counted by: failures
    /// first.
    pub(super) fn deviating(&self, settings: &anomalies::Settings, now_unix: u64) -> Vec<Deviating> {
        let (now, mut found) = (now_unix / 60_000, Vec::new());
        for ((scope, measure), deviation) in &self.current {
            let key = (scope.clone(), *measure);
            let Some(watched) = self.series.get(&key).filter(|watched| watched.unusual > 0 && watched.missing == 0)
            else {
                continue;
            };
            let of = match scope {
                Scope::Whole => ALL_ROUTES,
                Scope::Route(route) => route,
                Scope::Upstream(_) => continue,
            };
            let is_more = watched.last.is_some_and(|(value, usual)| value > usual);
            let Some(measure) = measure.of_clients().filter(|_| is_more && of.len() <= LONGEST_CONTRIBUTOR) else {
                continue;
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is over 0, and no route has so many requests"
            )]
            let alone = watched.from.ceil().max(1.0) as u64;
            let said = if watched.said.is_empty() { &deviation.sentence } else { &watched.said };
            let mut sentence = said.clone();
            sentence.truncate(sentence.floor_char_boundary(LONGEST_SENTENCE));
            let began = (deviation.began / 60_000).saturating_sub(settings.minutes.into());
            found.push(Deviating {
                of: of.to_owned(),
                measure,
                minute: now.saturating_sub(1),
                since: began,
                alone,
                sentence,
            });
        }
        found.sort_by_key(|one| match one.measure {
            ClientMeasure::Failures => 0,
            ClientMeasure::Requests => 1,
            ClientMeasure::Errors => 2,
        });
        found.truncate(MAX_DEVIATING);
        found
    }

    /// A proxy says from whom a deviation comes.
    pub(super) fn attribute(&mut self, shown: ContributorsShown) {
        let is_it = |((scope, measure), _): &(&SeriesKey, &mut Deviation)| {
            let of = match scope {
                Scope::Whole => ALL_ROUTES,
                Scope::Route(route) => route,
                Scope::Upstream(_) => return false,
            };
            of == shown.of && measure.of_clients() == Some(shown.measure)
        };
        let Some((_, deviation)) = self.current.iter_mut().find(is_it) else { return };
        match &deviation.contributors {
            None => {
                let sources = shown.sources;
                tracing::info!(of = shown.of, sources, "it is known from whom something comes that is not usual");
            }
            // What nobody is named for says no more than what was known.
            Some(_) if shown.total == 0 => return,
            Some(_) => {}
        }
        deviation.attribute(shown);
    }

    /// How many times as much as usual each series was in the last minute, where something is usual and there is a number.
    pub(super) fn ratios(&self) -> impl Iterator<Item = (&SeriesKey, f64)> {
        self.series.iter().filter_map(|(key, watched)| {
            let (value, usual) = watched.last.filter(|_| watched.missing == 0)?;
            // Of nothing there are no times as much: what is no difference stands in its place.
            Some((key, value / usual.max(key.1.floor(0.0))))
        })
    }

    /// How many series there are, and how many of them are not known yet.
    pub(super) fn counts(&self) -> (usize, usize) {
        let learning = self.series.values().filter(|watched| watched.model.hours() < LEARNED).count();
        (self.series.len(), learning)
    }

    /// Forgets what is no longer configured or asked for, so that there is room: those that have learned least.
    pub(super) fn bound(&mut self, most: usize) {
        while self.series.len() > most {
            let least = self.series.iter().min_by_key(|(_, watched)| watched.model.hours()).map(|(key, _)| key.clone());
            let Some(least) = least else { return };
            self.series.remove(&least);
            self.current.remove(&least);
        }
    }
}

/// A series with fewer hours is being learned.
const LEARNED: u16 = 6;

/// The hour of a moment.
fn hour(unix_millis: u64, zone: &TimeZone) -> Hour {
    let millis = i64::try_from(unix_millis).unwrap_or(i64::MAX);
    let moment = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    let civil = zone.to_datetime(moment);
    let day = usize::try_from(civil.weekday().to_monday_zero_offset()).unwrap_or(0);
    let of_week = day * 24 + usize::try_from(civil.hour()).unwrap_or(0);
    // Where the clock is half an hour off, its hours begin within those of UTC.
    let seconds = i64::from(civil.minute()) * 60 + i64::from(civil.second());
    let began = millis.saturating_sub(seconds * 1_000);
    Hour { of_week, stamp: began.div_euclid(3_600_000) }
}

#[cfg(test)]
mod tests;
