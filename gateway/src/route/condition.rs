//! Matches a request against a route's conditions, and finds two routes whose conditions one request could meet.
//!
//! *Invariant:* nothing is allocated, and what is there twice equals nothing: two readers could take different ones.

use http::HeaderMap;

use crate::{
    path,
    settings::route::{Condition, Subject, Test},
};

impl Condition {
    /// Whether a request with this query and these headers meets it.
    pub(super) fn is_met(&self, query: &str, headers: &HeaderMap) -> bool {
        match &self.subject {
            Subject::Header(name) => {
                let mut lines = headers.get_all(name).iter();
                let Some(first) = lines.next() else { return false };
                self.test.takes(|| first.as_bytes().iter().copied(), lines.next().is_some())
            }
            Subject::Query(name) => {
                let mut values = query.split('&').filter_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    decoded(key).eq(name.bytes()).then_some(value)
                });
                let Some(first) = values.next() else { return false };
                self.test.takes(|| decoded(first), values.next().is_some())
            }
        }
    }

    /// Whether no request meets both.
    fn excludes(&self, other: &Self) -> bool {
        self.subject == other.subject
            && match (&self.test, &other.test) {
                (Test::Equals(one), Test::Equals(two)) => one != two,
                (Test::Equals(whole), Test::Prefix(start)) | (Test::Prefix(start), Test::Equals(whole)) => {
                    !whole.starts_with(start.as_str())
                }
                (Test::Prefix(one), Test::Prefix(two)) => {
                    !one.starts_with(two.as_str()) && !two.starts_with(one.as_str())
                }
                (Test::Present, _) | (_, Test::Present) => false,
            }
    }
}

impl Test {
    fn takes<I: Iterator<Item = u8>>(&self, value: impl FnOnce() -> I, is_repeated: bool) -> bool {
        match self {
            Self::Present => true,
            Self::Equals(_) | Self::Prefix(_) if is_repeated => false,
            Self::Equals(whole) => value().eq(whole.bytes()),
            Self::Prefix(start) => value().take(start.len()).eq(start.bytes()),
        }
    }
}

/// Whether nothing says which of the two comes first, and a request could meet both.
pub(super) fn are_in_conflict(one: &[Condition], two: &[Condition]) -> bool {
    one.len() == two.len() && !one.iter().any(|condition| two.iter().any(|other| condition.excludes(other)))
}

/// The bytes that a part of a query stands for, as forms write them. A target's query holds whole escapes only.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.bytes();
    std::iter::from_fn(move || {
        Some(match rest.next()? {
            b'+' => b' ',
            b'%' => path::escape(&mut rest).unwrap_or(b'%'),
            byte => byte,
        })
    })
}
