//! The networks of lists with `use = "never_ban"`: what is in them, or around them. Pure.

use gateway_common::source::Source;

use crate::guard::feeds::content::FeedContent;

/// The networks of all such lists, without those inside of others, in order.
#[derive(Debug, Default)]
pub(super) struct NeverBan(Vec<Source>);

impl NeverBan {
    pub(super) fn new(networks: impl Iterator<Item = Source>) -> Self {
        let mut all: Vec<Source> = networks.collect();
        // A network comes before everything inside it.
        all.sort_unstable();
        all.dedup_by(|later, earlier| earlier.covers(later));
        Self(all)
    }

    /// A network that `source` is in, or that is in `source`.
    pub(super) fn find(&self, source: Source) -> Option<Source> {
        let next = self.0.partition_point(|network| network.address() <= source.address());
        let before = next.checked_sub(1).and_then(|at| self.0.get(at));
        let near = before.into_iter().chain(self.0.get(next));
        near.copied().find(|network| network.covers(&source) || source.covers(network))
    }

    /// Whether a list has an entry in one of these networks, or around it.
    pub(super) fn meets(&self, content: &FeedContent) -> bool {
        self.0.iter().any(|network| {
            let first = content.entries.partition_point(|entry| entry.source.address() < network.address());
            let is_inside = content.entries.get(first).is_some_and(|entry| network.contains(entry.source.address()));
            let mut around = (0..=network.length()).filter_map(|length| Source::network(network.address(), length));
            is_inside || around.any(|wider| content.find(wider).is_some())
        })
    }

    /// Whether there is no such network.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::feeds::content::FeedDraft;

    #[test]
    fn what_is_in_or_around_a_network() {
        let networks = ["192.0.2.0/24", "192.0.2.128/25", "198.51.100.7", "2001:db8::/32"];
        let all = NeverBan::new(networks.into_iter().map(|text| text.parse().unwrap()));
        assert_eq!(all.0.len(), 3, "{all:?}");
        for (source, expect) in [
            ("192.0.2.200", Some("192.0.2.0/24")),
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("192.0.0.0/16", Some("192.0.2.0/24")),
            ("192.0.3.0", None),
            ("192.0.1.255", None),
            ("198.51.100.7", Some("198.51.100.7")),
            ("198.51.100.0/24", Some("198.51.100.7")),
            ("198.51.100.8", None),
            ("2001:db8:1::/64", Some("2001:db8::/32")),
            ("2001:db9::/64", None),
        ] {
            let source: Source = source.parse().unwrap();
            assert_eq!(all.find(source).map(|network| network.to_string()).as_deref(), expect, "{source}");
            let mut draft = FeedDraft::new(0);
            draft.push(source, None, None);
            draft.push("203.0.113.1".parse().unwrap(), None, None);
            assert_eq!(all.meets(&draft.finish(None)), expect.is_some(), "{source}");
        }
        assert_eq!(NeverBan::default().find("0.0.0.0/0".parse().unwrap()), None);
    }
}
