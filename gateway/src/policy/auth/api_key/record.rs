//! An API key as it is stored and handed on: all that is known of it but its text.

use std::net::IpAddr;

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use super::pepper::Tag;

/// The most roles, sources or hosts of one key.
pub const MOST: usize = 64;

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its id.
    pub id: u64,
    /// Its hash.
    pub tag: Tag,
    /// Whom it names: the principal is `key:` and this. Keys that were rotated share it.
    pub name: String,
    /// What it may be used for.
    pub profile: Profile,
    /// Seconds since the Unix epoch; `None`: it does not expire.
    pub expires: Option<u64>,
    /// It was revoked.
    pub is_revoked: bool,
    /// Another took its place: once it has expired, what rests on it ends as if it were revoked.
    pub is_replaced: bool,
    /// Another program has made it, in its own form.
    pub is_foreign: bool,
}

/// What a key may be used for. Many keys share one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Profile {
    /// Its roles.
    pub roles: Vec<String>,
    /// From where it may be used; empty: from everywhere.
    pub sources: Vec<Network>,
    /// For which hosts, in lower case, `*.` for one label; empty: for all.
    pub hosts: Vec<String>,
    /// The plan that it has, by its name; `None`: the one that its roles or its name give.
    pub plan: Option<String>,
}

/// An address or a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Network(#[serde(with = "crate::text")] pub Source);

impl Profile {
    /// Whether the key may be used from this address. `None`: nobody knows from where.
    #[must_use]
    pub fn allows_source(&self, address: Option<IpAddr>) -> bool {
        let is_within = |address: IpAddr| self.sources.iter().any(|Network(source)| source.contains(address));
        self.sources.is_empty() || address.is_some_and(|address| is_within(address.to_canonical()))
    }

    /// Whether the key may be used for this host, which is in lower case.
    #[must_use]
    pub fn allows_host(&self, host: &str) -> bool {
        let matches = |allowed: &String| match allowed.strip_prefix("*.") {
            Some(behind) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == behind),
            None => host == allowed,
        };
        self.hosts.is_empty() || self.hosts.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_key_may_be_used() {
        let network = |text: &str| Network(text.parse().unwrap());
        let profile = Profile {
            roles: Vec::new(),
            sources: vec![network("192.0.2.0/24"), network("2001:db8::/32")],
            hosts: vec!["api.example".to_owned(), "*.eu.example".to_owned()],
            plan: None,
        };
        for (address, expect) in [
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("::ffff:192.0.2.1", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(profile.allows_source(Some(address.parse().unwrap())), expect, "{address}");
        }
        for (host, expect) in [
            ("api.example", true),
            ("a.eu.example", true),
            ("eu.example", false),
            ("a.b.eu.example", false),
            (".eu.example", false),
            ("xapi.example", false),
            ("", false),
        ] {
            assert_eq!(profile.allows_host(host), expect, "{host}");
        }
        let any = Profile::default();
        assert!(any.allows_source(Some("192.0.2.1".parse().unwrap())) && any.allows_host("anything"));
        assert!(any.allows_source(None) && !profile.allows_source(None), "whoever is nowhere is in no network");
    }
}
