//! Matches a request against a route's conditions, and finds two routes whose conditions one request could meet.
//!
//! *Invariant:* nothing is allocated. What is there more than once counts if all of it says the same: of two values an
//! upstream could take either, so that neither may decide what is asked of the request.

use http::HeaderMap;

use crate::{
    settings::route::{RouteCondition, Subject, Test},
    web::path,
};

/// Whether a request meets a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// It does, with every value that it has.
    Yes,
    /// It does not, with none of them.
    No,
    /// Some of its values do, and others do not.
    Ambiguous,
}

impl RouteCondition {
    /// Whether a request with this query and these headers meets it.
    pub(super) fn is_met(&self, query: &str, headers: &HeaderMap) -> Met {
        match &self.subject {
            Subject::Header(name) => {
                let lines = headers.get_all(name).iter();
                all_agree(lines.map(|line| self.test.takes(line.as_bytes().iter().copied())))
            }
            Subject::Query(name) => {
                let values = query.split('&').filter_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    decoded(key).eq(name.bytes()).then_some(value)
                });
                all_agree(values.map(|value| self.test.takes(decoded(value))))
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
    fn takes(&self, value: impl Iterator<Item = u8>) -> bool {
        match self {
            Self::Present => true,
            Self::Equals(whole) => value.eq(whole.bytes()),
            Self::Prefix(start) => value.take(start.len()).eq(start.bytes()),
        }
    }
}

fn all_agree(mut values: impl Iterator<Item = bool>) -> Met {
    match values.next() {
        None => Met::No,
        Some(first) if values.any(|other| other != first) => Met::Ambiguous,
        Some(true) => Met::Yes,
        Some(false) => Met::No,
    }
}

/// Whether nothing says which of the two comes first, and a request could meet both.
pub(super) fn are_in_conflict(one: &[RouteCondition], two: &[RouteCondition]) -> bool {
    one.len() == two.len() && !one.iter().any(|condition| two.iter().any(|other| condition.excludes(other)))
}

/// The bytes that a part of a query stands for, as forms write them. Queries with other escapes than whole ones
/// do not come here.
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
