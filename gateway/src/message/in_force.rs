//! What operators and rules have in force, as a proxy is told of it at once.

use std::net::IpAddr;

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

/// What operators and rules have in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Bans: who, until when (`CLOCK_MONOTONIC`, nanoseconds).
    pub bans: Vec<BanInForce>,
    /// Allowances, configured and added.
    pub allows: Vec<AllowInForce>,
    /// Who is on probation.
    pub probations: Vec<Probation>,
    /// What operators have promoted, as `gateway shadow promote` names it.
    pub promoted: Vec<String>,
    /// Whose requests are limited because of an anomaly.
    pub slowed: Vec<Slowed>,
    /// The ranges of crawlers.
    pub ranges: Vec<CrawlerRanges>,
}

/// The ranges that a list names for a crawler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrawlerRanges {
    /// The list.
    pub list: String,
    /// Its networks, each by its first address and its length, at most
    /// [`MAX_NETWORKS`](crate::settings::crawlers::MAX_NETWORKS); `None`: the list is known no more.
    pub networks: Option<Vec<(IpAddr, u8)>>,
}

impl CrawlerRanges {
    /// From what a list has; `None`: there is none.
    #[must_use]
    pub fn new(list: &str, networks: Option<&[Source]>) -> Self {
        let parts = |source: &Source| (source.address(), source.length());
        Self { list: list.to_owned(), networks: networks.map(|all| all.iter().map(parts).collect()) }
    }

    /// The networks as they are asked about.
    #[must_use]
    pub fn sources(&self) -> Option<Vec<Source>> {
        let networks = self.networks.as_ref()?.iter();
        Some(networks.filter_map(|(address, length)| Source::network(*address, *length)).collect())
    }
}

/// The most sources whose requests are limited at once because of anomalies.
pub const MAX_SLOWED: usize = 1_024;

/// A source whose requests are limited because of an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slowed {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// How many requests a minute it has.
    pub per_minute: u32,
    /// Until when: `CLOCK_MONOTONIC`, nanoseconds.
    pub until: u64,
}

/// A source that was banned until a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// Until when: `CLOCK_MONOTONIC`, nanoseconds.
    pub until: u64,
}

/// An allowance that is in force when the proxy starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowInForce {
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
}

/// A ban that is in force when the proxy starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanInForce {
    /// The ban.
    pub id: u64,
    /// Who.
    #[serde(with = "crate::text")]
    pub source: Source,
    /// When it ends: `CLOCK_MONOTONIC`, nanoseconds.
    pub expires: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::{MAX_BYTES, ToProxy},
        settings::crawlers::MAX_NETWORKS,
    };

    #[test]
    fn the_ranges_of_a_list_fit_into_a_message() {
        let source: Source = "2001:db8:ffff:ffff::/64".parse().unwrap();
        let ranges = CrawlerRanges::new(&"a".repeat(64), Some(&vec![source; MAX_NETWORKS]));
        assert_eq!(ranges.sources().unwrap(), vec![source; MAX_NETWORKS]);
        let bytes = postcard::to_stdvec(&ToProxy::CrawlerRanges(ranges)).unwrap().len();
        assert!(bytes <= MAX_BYTES - 64, "{bytes}");
        assert_eq!(CrawlerRanges::new("a", None).sources(), None);
    }
}
