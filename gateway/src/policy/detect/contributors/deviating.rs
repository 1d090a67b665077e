//! A series that deviates, and from whom that comes: what guard and proxy say to each other of it.

use std::net::IpAddr;

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use crate::{settings::anomalies::ClientMeasure, web::request_id::RequestId};

/// The most series that are said to deviate at once.
pub const MAX_DEVIATING: usize = 32;

/// The most sources and principals that are named for one series.
pub const MAX_NAMED: usize = 16;

/// The most requests that are named for each of them.
pub const MAX_REQUESTS: usize = 4;

/// The longest name of a route or principal, in bytes.
pub const LONGEST_NAME: usize = 200;

/// The longest sentence, in bytes.
pub const LONGEST_SENTENCE: usize = 500;

/// What stands for all routes together.
pub const ALL_ROUTES: &str = "all";

/// The route of requests that have none.
pub const NO_ROUTE: &str = "(none)";

/// The same of those that a limit refused before a route was looked for.
pub const LIMITED: &str = "(limited)";

/// A series that deviates: what is asked of proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deviating {
    /// The route, or [`ALL_ROUTES`].
    pub of: String,
    /// What there is more of than usual.
    pub measure: ClientMeasure,
    /// The minute that it was found in, since 1970: it is over.
    pub minute: u64,
    /// The first minute that was not usual, since 1970.
    pub since: u64,
    /// So many of one source alone would not be usual either.
    pub alone: u64,
    /// What the observer says of it.
    pub sentence: String,
}

/// Whom a deviation comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// How many there were of what is counted, in that minute.
    pub total: u64,
    /// Of how many sources.
    pub sources: u32,
    /// Of how many principals.
    pub principals: u32,
    /// Those with most, at most [`MAX_NAMED`].
    pub named: Vec<Contributor>,
}

/// A source or principal that a deviation comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contributor {
    /// Who.
    pub who: NamedContributor,
    /// How many it has of the total.
    pub count: u64,
    /// Its last requests of that kind, at most [`MAX_REQUESTS`].
    pub requests: Vec<RequestId>,
    /// It alone is more than is usual of all together, and it is no fault of ours.
    pub stands_out: bool,
}

/// Who is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamedContributor {
    /// Its name.
    Principal(String),
    /// A source: the address that it came from last, and the trusted proxy that it came through.
    Source(#[serde(with = "crate::text")] Source, IpAddr, Option<IpAddr>),
}

/// One request that is over.
#[derive(Clone, Copy, Debug)]
pub struct Completed<'a> {
    /// The name of its route, as it is measured.
    pub route: &'a str,
    /// Whose it was.
    pub source: Source,
    /// The client's address.
    pub address: IpAddr,
    /// The trusted proxy that it came through.
    pub relay: Option<IpAddr>,
    /// Who proved to have sent it.
    pub principal: Option<&'a str>,
    /// The status that it was answered with; `None`: its client had left.
    pub status: Option<u16>,
    /// Its number.
    pub id: RequestId,
    /// When it was over: minutes since 1970.
    pub minute: u64,
}

impl Deviating {
    /// Whether it keeps to its bounds.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.of.len() <= LONGEST_NAME && self.sentence.len() <= LONGEST_SENTENCE
    }
}

impl Contribution {
    /// Whether it keeps to its bounds.
    #[must_use]
    pub fn fits(&self) -> bool {
        let is_short = |contributor: &Contributor| {
            let name = if let NamedContributor::Principal(name) = &contributor.who { name.len() } else { 0 };
            name <= LONGEST_NAME && contributor.requests.len() <= MAX_REQUESTS
        };
        self.named.len() <= MAX_NAMED && self.named.iter().all(is_short)
    }
}
