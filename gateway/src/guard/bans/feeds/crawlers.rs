//! Ranges of crawlers: lists that ban nobody. Proxies are told of them. They are not in the store: a guard that starts
//! reads or fetches them again, and proxies go on with what they were told before.
//!
//! *Invariant:* a list never verifies half of the internet by mistake: what is wider than [`WIDEST`] is passed over and told,
//! and a list that proxies have no room for changes nothing.

use super::{lists::RangeList, *};
use crate::{
    counted::counted,
    guard::feeds::list::FileContent,
    message::CrawlerRanges,
    settings::{crawlers::MAX_NETWORKS, feed::FeedPurpose},
};

/// The shortest prefix of IPv4, and of IPv6, that is taken for a crawler's.
const WIDEST: (u8, u8) = (8, 16);

impl Guard {
    /// Another list of ranges has come: it takes the place of the one before, or that stays with a warning.
    pub(super) fn take_ranges(&mut self, name: String, content: FileContent, now: Now) {
        let FileContent { digest, entries, errors, failed, is_blank } = content;
        let (networks, wide): (Vec<Source>, Vec<Source>) =
            entries.iter().map(|entry| entry.1).partition(|network| !is_too_wide(*network));
        let mut warnings: Vec<String> = Vec::new();
        warnings.extend(wide.first().map(|first| {
            let wide = counted(wide.len(), "network is", "networks are");
            format!("{wide} wider than any crawler's, and passed over: {first} is the first")
        }));
        warnings.extend(errors.first().map(|first| {
            let failed = counted(failed, "line", "lines");
            format!("{failed} cannot be read, the first is line {}: {}", first.line, first.message)
        }));
        let is_useless = networks.is_empty() && (failed > 0 || is_blank || !wide.is_empty());
        if is_useless {
            warnings.push("it names no network".to_owned());
        }
        let is_too_long = networks.len() > MAX_NETWORKS;
        if is_too_long {
            warnings.push(format!("it has {} networks, and proxies take {MAX_NETWORKS}", networks.len()));
        }
        if is_useless || is_too_long {
            warnings.push("what was loaded before stays in force".to_owned());
        }
        let warning = warnings.join("; ");
        if warning.is_empty() {
            self.feeds.warnings.remove(&name);
        } else {
            tracing::warn!(feed = name, warning, "ranges of a crawler");
            self.feeds.warnings.insert(name.clone(), ListWarning::of_file(warning));
        }
        if is_useless || is_too_long {
            return;
        }
        tracing::info!(feed = name, networks = networks.len(), "the ranges of a crawler are in force");
        self.notices.push(ToProxy::CrawlerRanges(CrawlerRanges::new(&name, Some(&networks))));
        self.feeds.ranges.insert(name, RangeList { digest, networks, loaded: now.unix_millis });
    }

    /// Forgets lists that the configuration does not have any more, or has to ban.
    pub(super) fn keep_ranges(&mut self) {
        let feeds = &self.settings.feeds;
        let is_kept =
            |name: &String| feeds.iter().any(|feed| feed.name == *name && feed.purpose == FeedPurpose::Crawlers);
        let gone: Vec<String> = self.feeds.ranges.keys().filter(|name| !is_kept(name)).cloned().collect();
        for name in gone {
            self.feeds.ranges.remove(&name);
            self.feeds.warnings.remove(&name);
            self.notices.push(ToProxy::CrawlerRanges(CrawlerRanges::new(&name, None)));
        }
    }

    /// All ranges, for a proxy that starts.
    pub(crate) fn crawler_ranges(&self) -> Vec<CrawlerRanges> {
        let ranges = self.feeds.ranges.iter();
        ranges.map(|(name, list)| CrawlerRanges::new(name, Some(&list.networks))).collect()
    }

    /// The digests of their lists, by feed.
    pub(super) fn range_digests(&self) -> impl Iterator<Item = (String, String)> {
        self.feeds.ranges.iter().map(|(name, list)| (name.clone(), list.digest.clone()))
    }

    /// How many networks a list names; `None`: it is none of ranges.
    pub(super) fn range_count(&self, name: &str) -> Option<usize> {
        self.feeds.ranges.get(name).map(|list| list.networks.len())
    }

    /// The same for `status`: name, networks, and when they came.
    pub(super) fn range_lists(&self) -> impl Iterator<Item = (&str, usize, u64)> {
        self.feeds.ranges.iter().map(|(name, list)| (name.as_str(), list.networks.len(), list.loaded))
    }
}

/// Whether a network is wider than any crawler's.
fn is_too_wide(network: Source) -> bool {
    let (ipv4, ipv6) = WIDEST;
    network.length() < if network.address().is_ipv4() { ipv4 } else { ipv6 }
}
