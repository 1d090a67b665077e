//! Finds bans by a word, a page at a time: there may be more of them than anybody reads, or waits for.

use std::net::IpAddr;

use crate::{
    clock::Now,
    guard::{bans::Guard, control::Answer, store::Record},
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

    fn is(&self, record: &Record) -> bool {
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

impl Guard {
    /// Bans that have `text`, from the one before `before` on, the youngest first.
    pub(in crate::guard::bans) fn found(&self, text: &str, before: Option<u64>, most: u16, now: Now) -> Answer {
        let (wanted, most) = (Wanted::new(text), usize::from(most).clamp(1, PAGE));
        let (mut entries, mut next) = (Vec::new(), None);
        for (looked, record) in self.ledger.before(before.unwrap_or(u64::MAX)).enumerate() {
            if entries.len() >= most || looked >= LOOKED_AT {
                next = Some(record.id.saturating_add(1));
                break;
            }
            if wanted.is(record) {
                entries.push(self.entry(record, now));
            }
        }
        Answer::Found { entries, next, in_force: u64::try_from(self.ledger.len()).unwrap_or(u64::MAX) }
    }
}
