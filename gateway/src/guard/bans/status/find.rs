//! Finds bans by a word, a page at a time: there may be more of them than anybody reads, or waits for.

use std::net::IpAddr;

use crate::{
    guard::{bans::Guard, control::ControlAnswer, store::BanRecord},
    os::clock::Now,
};

/// The most bans of a page: each costs a question to the kernel.
const PAGE: usize = 200;

/// The most bans that are looked at for a page, in about a millisecond: nobody waits for it.
const LOOKED_AT: usize = 5_000;

/// What is looked for.
struct Wanted {
    text: String,
    address: Option<IpAddr>,
}

impl Wanted {
    fn new(text: &str) -> Self {
        let text = text.trim();
        Self { text: text.to_owned(), address: text.parse().ok() }
    }

    fn is(&self, record: &BanRecord) -> bool {
        let has = |text: &str| {
            text.as_bytes().windows(self.text.len()).any(|part| part.eq_ignore_ascii_case(self.text.as_bytes()))
        };
        self.text.is_empty()
            || self.address.is_some_and(|address| record.source.contains(address))
            || has(&record.source.to_string())
            || has(&record.reason)
            || has(&record.actor)
    }
}

/// A page of bans that are wanted, and where the next one begins.
fn page<'a>(
    records: impl Iterator<Item = &'a BanRecord>,
    wanted: &Wanted,
    most: usize,
) -> (Vec<&'a BanRecord>, Option<u64>) {
    let mut found = Vec::new();
    for (looked, record) in records.enumerate() {
        if found.len() >= most || looked >= LOOKED_AT {
            return (found, Some(record.id.saturating_add(1)));
        }
        if wanted.is(record) {
            found.push(record);
        }
    }
    (found, None)
}

impl Guard {
    /// Bans that have `text`, of smaller numbers than `before`, the youngest first.
    pub(in crate::guard::bans) fn found(&self, text: &str, before: Option<u64>, most: u16, now: Now) -> ControlAnswer {
        let records = self.ledger.before(before.unwrap_or(u64::MAX));
        let (found, next) = page(records, &Wanted::new(text), usize::from(most).clamp(1, PAGE));
        let entries = found.into_iter().map(|record| self.entry(record, now)).collect();
        ControlAnswer::Found { entries, next, in_force: u64::try_from(self.ledger.len()).unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use gateway_common::source::Source;

    use super::*;

    fn record(id: u64) -> BanRecord {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0xc000_0000 + u32::try_from(id).unwrap()));
        let source = if id == 9 { "198.51.100.0/24".parse().unwrap() } else { Source::of(address, 64) };
        BanRecord {
            id,
            source,
            reason: format!("Number {id}, of many"),
            actor: if id == 7 { "token:ada" } else { "rule:scan" }.to_owned(),
            rule: None,
            relay: None,
            evidence: Vec::new(),
            shadow: false,
            started: 0,
            expires: None,
            boot: String::new(),
            expires_monotonic: None,
            reaction_micros: None,
            connections_closed: None,
            ended: None,
            confirm: None,
            packets: 0,
            bytes: 0,
        }
    }

    /// The numbers of all pages, and how many there were.
    fn pages(records: &[BanRecord], text: &str, most: usize) -> (Vec<u64>, usize) {
        let (mut all, mut before, mut pages) = (Vec::new(), u64::MAX, 0);
        loop {
            let from = records.iter().rev().filter(|record| record.id < before);
            let (found, next) = page(from, &Wanted::new(text), most);
            assert!(found.len() <= most);
            all.extend(found.into_iter().map(|record| record.id));
            pages += 1;
            let Some(next) = next else { return (all, pages) };
            assert!(next < before, "no page begins where another did");
            before = next;
        }
    }

    #[test]
    fn every_ban_is_on_one_page() {
        let records: Vec<BanRecord> = (1..=100_000).map(record).collect();
        let (all, many) = pages(&records, "", 200);
        assert_eq!((all.len(), many), (100_000, 500));
        assert!(all.is_sorted_by(|one, next| one > next));
        for (text, expect) in [
            ("number 99999,", &[99_999][..]),
            ("NUMBER 12, ", &[12]),
            ("token:ADA", &[7]),
            ("192.0.0.17", &[179, 178, 177, 176, 175, 174, 173, 172, 171, 170, 17]),
            ("198.51.100.200", &[9]),
            (" 198.51.100.0/24 ", &[9]),
            ("nowhere", &[]),
        ] {
            let (found, pages) = pages(&records, text, 50);
            // What is looked at at once is bounded, whatever is found.
            assert_eq!(pages, 20, "{text}");
            assert_eq!(found, expect, "{text}");
        }
    }
}
