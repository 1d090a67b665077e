//! Finds entries of a list that would block a client that was good lately. Pure.
//!
//! Lists come from strangers, and name the addresses of carriers and offices: one good client is enough to refuse the
//! line. A client that gets good while it is listed is blocked, and does not get good.

use super::*;

/// The code of a line that would block a good client.
pub(super) const GOOD_CLIENT: &str = "good_client";

/// Clients that were good when a list began to arrive, in order: a million entries are looked up in it.
#[derive(Debug, Default)]
pub(super) struct Shield {
    clients: Vec<Source>,
    ipv6_prefix: u8,
}

impl Shield {
    pub(super) fn new(clients: impl Iterator<Item = Source>, ipv6_prefix: u8) -> Self {
        let mut clients: Vec<Source> = clients.collect();
        clients.sort_unstable();
        Self { clients, ipv6_prefix }
    }

    /// A good client in `source`, or around it where clients are told apart by less.
    pub(super) fn hit(&self, source: Source) -> Option<Source> {
        if self.clients.is_empty() {
            return None;
        }
        let client = Source::of(source.address(), self.ipv6_prefix);
        let whole = if client.covers(&source) { client } else { source };
        let at = self.clients.partition_point(|client| client.address() < whole.address());
        self.clients.get(at).copied().filter(|client| whole.covers(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_clients_in_and_around_an_entry() {
        let clients = ["192.0.2.7", "10.0.0.2", "2001:db8:0:7::/64", "192.0.2.200"];
        let shield = Shield::new(clients.into_iter().map(|text| text.parse().unwrap()), 64);
        for (entry, hit) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.8", None),
            ("192.0.2.0/29", Some("192.0.2.7")),
            ("192.0.2.8/29", None),
            ("192.0.0.0/16", Some("192.0.2.7")),
            ("192.0.2.128/25", Some("192.0.2.200")),
            ("0.0.0.0/0", Some("10.0.0.2")),
            ("2001:db8:0:7::/64", Some("2001:db8:0:7::/64")),
            ("2001:db8:0:7::9", Some("2001:db8:0:7::/64")),
            ("2001:db8:0:8::9", None),
            ("2001:db8::/48", Some("2001:db8:0:7::/64")),
            ("2001:db9::/48", None),
        ] {
            let found = shield.hit(entry.parse().unwrap()).map(|client| client.to_string());
            assert_eq!(found.as_deref(), hit, "{entry}");
        }
        assert_eq!(Shield::default().hit("0.0.0.0/0".parse().unwrap()), None);
    }
}
