//! Silences: alerts that nobody is told of for a while.

use serde::{Deserialize, Serialize};

use super::tracker::Alert;
use crate::{message::alert::NewSilence, settings::alert::Match};

/// The most silences at once.
const MOST: usize = 200;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Silence {
    pub(super) number: u64,
    /// What alerts must match, all of it.
    pub(super) matches: Vec<Match>,
    /// Milliseconds since 1970.
    pub(super) until: u64,
    pub(super) reason: String,
    pub(super) by: String,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Silences {
    pub(super) list: Vec<Silence>,
    last: u64,
}

impl Silences {
    /// Adds one; its number.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn add(&mut self, new: NewSilence, now_unix: u64) -> Result<u64, String> {
        self.expire(now_unix);
        if self.list.len() >= MOST {
            return Err(format!("there are {MOST} silences: end one with `gateway alert unsilence`"));
        }
        self.last += 1;
        let matches = new.labels.iter().map(|(label, pattern)| Match::new(label, pattern)).collect();
        let until = now_unix.saturating_add(new.seconds.saturating_mul(1_000));
        self.list.push(Silence { number: self.last, matches, until, reason: new.reason, by: new.by });
        Ok(self.last)
    }

    /// Ends one; whether there was one.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let before = self.list.len();
        self.list.retain(|silence| silence.number != number);
        self.list.len() < before
    }

    /// Forgets those that are over.
    pub(super) fn expire(&mut self, now_unix: u64) {
        self.list.retain(|silence| silence.until > now_unix);
    }

    /// Whether nobody is told of an alert.
    pub(super) fn cover(&self, alert: &Alert, now_unix: u64) -> bool {
        self.list.iter().any(|silence| silence.until > now_unix && matches(&silence.matches, alert))
    }
}

/// Whether the labels of an alert match. A label that it does not have is empty.
pub(super) fn matches(matches: &[Match], alert: &Alert) -> bool {
    matches.iter().all(|one| one.is_met(alert.labels.get(&one.label).map_or("", String::as_str)))
}
