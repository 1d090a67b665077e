//! Lists that ban nobody: ranges of crawlers, which proxies are told of, and of whoever is never banned. Ranges of crawlers
//! are not kept: a guard that starts reads or fetches them again, and proxies go on with what they were told before.
//!
//! *Invariant:* a list never verifies or spares half of the internet by mistake: what is wider than [`WIDEST`] is passed over
//! and told, and a list that is too long changes nothing.

use super::{lists::RangeList, *};
use crate::{
    guard::feeds::list::FileContent,
    message::CrawlerRanges,
    settings::{crawlers::MAX_NETWORKS, feed::FeedPurpose},
    text::counted::counted,
};

/// The shortest prefix of IPv4, and of IPv6, that is taken for a crawler's or a CDN's.
const WIDEST: (u8, u8) = (8, 16);

/// How much of the IPv4 or IPv6 internet a list may name: as much as so many of the widest networks.
const MOST_OF_WIDEST: u128 = 4;

impl Guard {
    /// Another list of ranges has come: it takes the place of the one before, or that stays with a warning.
    pub(super) fn take_ranges(&mut self, name: String, purpose: FeedPurpose, content: FileContent, now: Now) {
        let FileContent { digest, entries, errors, failed, is_blank } = content;
        let (networks, wide): (Vec<Source>, Vec<Source>) =
            entries.iter().map(|entry| entry.1).partition(|network| !is_too_wide(*network));
        let mut warnings: Vec<String> = Vec::new();
        warnings.extend(wide.first().map(|first| {
            let wide = counted(wide.len(), "network is", "networks are");
            let whose = if purpose == FeedPurpose::Crawlers { "any crawler's" } else { "a list may spare" };
            format!("{wide} wider than {whose}, and passed over: {first} is the first")
        }));
        warnings.extend(errors.first().map(|first| {
            let failed = counted(failed, "line", "lines");
            format!("{failed} cannot be read, the first is line {}: {}", first.line, first.message)
        }));
        // A list of bans may become empty. One that spares becomes so by mistake: the way to end it is to remove it.
        let is_empty_by_mistake = purpose == FeedPurpose::NeverBan || failed > 0 || is_blank || !wide.is_empty();
        let is_useless = networks.is_empty() && is_empty_by_mistake;
        if is_useless {
            warnings.push("it names no network".to_owned());
        }
        let is_too_long = networks.len() > MAX_NETWORKS;
        if is_too_long {
            let most = if purpose == FeedPurpose::Crawlers {
                format!("proxies take {MAX_NETWORKS}")
            } else {
                format!("a list may spare {MAX_NETWORKS}; `services` takes a part of a long list")
            };
            warnings.push(format!("it has {} networks, and {most}", networks.len()));
        }
        let is_too_much = is_too_much(&networks);
        if is_too_much {
            warnings.push(format!("it names more of the internet than {MOST_OF_WIDEST} of the widest networks"));
        }
        let is_refused = is_useless || is_too_long || is_too_much;
        if is_refused {
            warnings.push("what was loaded before stays in force".to_owned());
        }
        let warning = warnings.join("; ");
        if warning.is_empty() {
            self.feeds.warnings.remove(&name);
        } else {
            tracing::warn!(feed = name, warning, "a list of ranges");
            self.feeds.warnings.insert(name.clone(), ListWarning::of_file(warning));
        }
        if is_refused {
            return;
        }
        tracing::info!(
            feed = name,
            networks = networks.len(),
            purpose = purpose.name(),
            "a list of ranges is in force"
        );
        if purpose == FeedPurpose::Crawlers {
            self.notices.push(ToProxy::CrawlerRanges(CrawlerRanges::new(&name, Some(&networks))));
        }
        self.feeds.ranges.insert(name, RangeList { purpose, digest, networks, loaded: now.unix_millis });
        if purpose == FeedPurpose::NeverBan {
            self.never_ban_changed(now);
        }
    }

    /// Why a list of ranges would not be taken; `None`: it would be, or it is a list of bans.
    pub(crate) fn refuses_ranges(purpose: FeedPurpose, content: &FileContent) -> Option<String> {
        if purpose == FeedPurpose::Ban {
            return None;
        }
        let all = content.entries.iter().map(|entry| entry.1);
        let networks: Vec<Source> = all.filter(|network| !is_too_wide(*network)).collect();
        if networks.is_empty() && !content.entries.is_empty() {
            return Some("all its networks are too wide".to_owned());
        }
        if networks.is_empty() && purpose == FeedPurpose::NeverBan {
            return Some("it names no network".to_owned());
        }
        if networks.len() > MAX_NETWORKS {
            return Some(format!("it has {} networks, and {MAX_NETWORKS} may be", networks.len()));
        }
        is_too_much(&networks).then(|| "it names too much of the internet".to_owned())
    }

    /// Forgets lists that the configuration does not have any more, or has for something else.
    pub(super) fn keep_ranges(&mut self, now: Now) {
        let feeds = &self.settings.feeds;
        let is_gone = |(name, list): &(&String, &RangeList)| {
            !feeds.iter().any(|feed| feed.name == **name && feed.purpose == list.purpose)
        };
        let gone: Vec<String> = self.feeds.ranges.iter().filter(is_gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.feeds.warnings.remove(&name);
            match self.feeds.ranges.remove(&name).map(|list| list.purpose) {
                Some(FeedPurpose::NeverBan) => self.never_ban_changed(now),
                _ => self.notices.push(ToProxy::CrawlerRanges(CrawlerRanges::new(&name, None))),
            }
        }
    }

    /// All ranges, for a proxy that starts.
    pub(crate) fn crawler_ranges(&self) -> Vec<CrawlerRanges> {
        let ranges = self.feeds.ranges.iter().filter(|(_, list)| list.purpose == FeedPurpose::Crawlers);
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
}

/// Whether networks are too much of the internet together: as many of the widest would be all of it.
pub(super) fn is_too_much(networks: &[Source]) -> bool {
    [true, false].into_iter().any(|ipv4| {
        let (bits, widest) = if ipv4 { (32_u32, WIDEST.0) } else { (128, WIDEST.1) };
        let of = networks.iter().filter(|network| network.address().is_ipv4() == ipv4);
        let size =
            |network: &Source| 1_u128.checked_shl(bits.saturating_sub(network.length().into())).unwrap_or(u128::MAX);
        let all = of.fold(0_u128, |all, network| all.saturating_add(size(network)));
        all > MOST_OF_WIDEST << (bits - u32::from(widest))
    })
}

/// Whether a network is wider than any crawler's.
pub(super) fn is_too_wide(network: Source) -> bool {
    let (ipv4, ipv6) = WIDEST;
    network.length() < if network.address().is_ipv4() { ipv4 } else { ipv6 }
}
