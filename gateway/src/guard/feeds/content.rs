//! A feed's entries, and what changes when they are replaced. Pure.
//!
//! A million entries are one sorted array of 28 bytes each, and as many records in the store; reasons are kept once.

use std::collections::HashMap;

use gateway_common::{maps::NEVER, source::Source};

/// No end: in force for as long as it is listed.
pub(crate) const FOREVER: u32 = u32::MAX;

/// How many different reasons a feed keeps; the entries beyond have the first, which is empty.
const MAX_REASONS: usize = 4_096;

/// How many bytes of entries one row of the store holds, about.
const CHUNK: usize = 64 * 1_024;

const SECOND: u64 = 1_000_000_000;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Who.
    pub(crate) source: Source,
    /// When it ends, in seconds after [`FeedContent::base`], or [`FOREVER`].
    pub(crate) until: u32,
    /// Which of [`FeedContent::reasons`].
    pub(crate) reason: u16,
}

/// All entries of a feed, each source once, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FeedContent {
    /// What `until` counts from: `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) base: u64,
    /// Sorted by source.
    pub(crate) entries: Vec<Listing>,
    /// The first is empty.
    pub(crate) reasons: Vec<String>,
}

/// Entries as they arrive, in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct FeedDraft {
    content: FeedContent,
    known: HashMap<String, u16>,
}

/// What a replacement changes in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// New, or with another end.
    pub(crate) enter: Vec<Source>,
    /// Gone.
    pub(crate) leave: Vec<Source>,
    /// How many of `enter` were not listed before.
    pub(crate) added: u64,
    /// How many were listed before and still are.
    pub(crate) unchanged: u64,
}

/// What was in order already.
impl From<FeedContent> for FeedDraft {
    fn from(content: FeedContent) -> Self {
        let known = content.reasons.iter().zip(0..).skip(1).map(|(text, number)| (text.clone(), number)).collect();
        Self { content, known }
    }
}

impl FeedDraft {
    pub(crate) fn new(base: u64) -> Self {
        let content = FeedContent { base, entries: Vec::new(), reasons: vec![String::new()] };
        Self { content, known: HashMap::new() }
    }

    pub(crate) fn push(&mut self, source: Source, seconds: Option<u64>, reason: Option<&str>) {
        let until = seconds.map_or(FOREVER, |seconds| u32::try_from(seconds).unwrap_or(FOREVER - 1).min(FOREVER - 1));
        let reason = reason.map_or(0, |reason| self.reason(reason));
        self.content.entries.push(Listing { source, until, reason });
    }

    fn reason(&mut self, text: &str) -> u16 {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        let Some(next) = u16::try_from(self.content.reasons.len()).ok().filter(|next| usize::from(*next) < MAX_REASONS)
        else {
            return 0;
        };
        self.content.reasons.push(text.to_owned());
        self.known.insert(text.to_owned(), next);
        next
    }

    /// What its entries' times count from: `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) const fn base(&self) -> u64 {
        self.content.base
    }

    pub(crate) fn len(&self) -> usize {
        self.content.entries.len()
    }

    /// Puts them in order; of a source that is listed twice the longest stays. With `old` these are added to it.
    pub(crate) fn finish(mut self, old: Option<&FeedContent>) -> FeedContent {
        if let Some(old) = old {
            let reasons: Vec<u16> =
                old.reasons.iter().map(|text| if text.is_empty() { 0 } else { self.reason(text) }).collect();
            let base = self.content.base;
            self.content.entries.extend(old.entries.iter().filter_map(|entry| {
                let expires = old.expires(entry);
                let until = match expires {
                    NEVER => FOREVER,
                    expires => u32::try_from(expires.checked_sub(base)?.div_ceil(SECOND)).unwrap_or(FOREVER - 1),
                };
                let reason = reasons.get(usize::from(entry.reason)).copied().unwrap_or(0);
                Some(Listing { source: entry.source, until, reason })
            }));
        }
        // The longest comes first among equals, and is the one that is kept.
        self.content.entries.sort_unstable_by_key(|entry| (entry.source, u32::MAX - entry.until, entry.reason));
        self.content.entries.dedup_by_key(|entry| entry.source);
        self.content.entries.shrink_to_fit();
        self.content
    }
}

impl FeedContent {
    /// The entry of exactly this source.
    pub(crate) fn find(&self, source: Source) -> Option<&Listing> {
        let index = self.entries.binary_search_by_key(&source, |entry| entry.source).ok()?;
        self.entries.get(index)
    }

    /// When an entry ends: `CLOCK_MONOTONIC`, nanoseconds, or [`NEVER`].
    pub(crate) fn expires(&self, entry: &Listing) -> u64 {
        match entry.until {
            FOREVER => NEVER,
            seconds => self.base.saturating_add(u64::from(seconds) * SECOND),
        }
    }

    /// Why, for people.
    pub(crate) fn reason(&self, entry: &Listing) -> &str {
        self.reasons.get(usize::from(entry.reason)).map_or("", |reason| reason)
    }

    /// The first entry after `source`, or the first of all.
    pub(crate) fn after(&self, source: Option<Source>) -> &[Listing] {
        let start = source.map_or(0, |source| self.entries.partition_point(|entry| entry.source <= source));
        self.entries.get(start..).unwrap_or_default()
    }

    /// The same entries `seconds` later, counted from another clock's `base`; those that have ended are gone.
    pub(crate) fn later(&mut self, seconds: u64, base: u64) {
        self.base = base;
        self.entries.retain_mut(|entry| {
            if entry.until == FOREVER {
                return true;
            }
            let left = u32::try_from(u64::from(entry.until).saturating_sub(seconds)).unwrap_or(0);
            entry.until = left;
            left > 0
        });
    }

    /// How many entries have ended by `now`: `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) fn ended(&self, now: u64) -> usize {
        self.entries.iter().filter(|entry| self.expires(entry) <= now).count()
    }

    /// What putting `self` in the place of `old` changes; all that is said of a source counts anew if `anew`.
    pub(crate) fn difference(&self, old: &Self, anew: bool) -> Difference {
        let mut difference = Difference::default();
        let mut before = old.entries.iter().peekable();
        for entry in &self.entries {
            while let Some(gone) = before.next_if(|gone| gone.source < entry.source) {
                difference.leave.push(gone.source);
            }
            match before.next_if(|there| there.source == entry.source) {
                Some(there) => {
                    difference.unchanged += 1;
                    if anew || old.expires(there) != self.expires(entry) {
                        difference.enter.push(entry.source);
                    }
                }
                None => {
                    difference.added += 1;
                    difference.enter.push(entry.source);
                }
            }
        }
        difference.leave.extend(before.map(|gone| gone.source));
        difference
    }

    /// The entries as rows of the store.
    pub(crate) fn rows(&self) -> Vec<Vec<u8>> {
        let (mut rows, mut row) = (Vec::new(), Vec::with_capacity(CHUNK + 32));
        for entry in &self.entries {
            match entry.source.address() {
                std::net::IpAddr::V4(address) => {
                    row.push(4);
                    row.extend(address.octets());
                }
                std::net::IpAddr::V6(address) => {
                    row.push(6);
                    row.extend(address.octets());
                }
            }
            row.push(entry.source.length());
            row.extend(entry.until.to_le_bytes());
            row.extend(entry.reason.to_le_bytes());
            if row.len() >= CHUNK {
                rows.push(std::mem::replace(&mut row, Vec::with_capacity(CHUNK + 32)));
            }
        }
        if !row.is_empty() {
            rows.push(row);
        }
        rows
    }

    /// Reads a row of the store into `self`; `None` if this program never wrote it. Rows come in their order.
    pub(crate) fn extend(&mut self, mut row: &[u8]) -> Option<()> {
        while let Some((family, rest)) = row.split_first() {
            let (address, rest): (std::net::IpAddr, &[u8]) = match family {
                4 => rest.split_first_chunk::<4>().map(|(octets, rest)| ((*octets).into(), rest))?,
                6 => rest.split_first_chunk::<16>().map(|(octets, rest)| ((*octets).into(), rest))?,
                _ => return None,
            };
            let (length, rest) = rest.split_first()?;
            let (until, rest) = rest.split_first_chunk::<4>()?;
            let (reason, rest) = rest.split_first_chunk::<2>()?;
            let source = Source::network(address, *length)?;
            let (until, reason) = (u32::from_le_bytes(*until), u16::from_le_bytes(*reason));
            if self.entries.last().is_some_and(|last| last.source >= source) {
                return None;
            }
            self.entries.push(Listing { source, until, reason });
            row = rest;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(base: u64, entries: &[(&str, Option<u64>)], old: Option<&FeedContent>) -> FeedContent {
        let mut draft = FeedDraft::new(base * SECOND);
        for (source, seconds) in entries {
            draft.push(source.parse().unwrap(), *seconds, seconds.map(|_| "timed"));
        }
        draft.finish(old)
    }

    fn texts(sources: &[Source]) -> Vec<String> {
        sources.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn replacing_names_what_changes() {
        let old = content(0, &[("192.0.2.1", None), ("192.0.2.2", Some(60)), ("192.0.2.0/24", None)], None);
        let new = content(10, &[("192.0.2.3", None), ("192.0.2.2", Some(60)), ("192.0.2.0/24", None)], None);
        let difference = new.difference(&old, false);
        assert_eq!(texts(&difference.enter), ["192.0.2.2", "192.0.2.3"]);
        assert_eq!(texts(&difference.leave), ["192.0.2.1"]);
        assert_eq!((difference.added, difference.unchanged), (1, 2));
        assert_eq!(new.difference(&new, false), Difference { unchanged: 3, ..Difference::default() });
        assert_eq!(new.difference(&new, true).enter.len(), 3);
    }

    #[test]
    fn adding_keeps_what_is_there() {
        let old = content(0, &[("192.0.2.1", None), ("192.0.2.2", Some(60)), ("192.0.2.3", Some(5))], None);
        let sum = content(10, &[("192.0.2.2", Some(20)), ("192.0.2.9", None)], Some(&old));
        let all: Vec<_> =
            sum.entries.iter().map(|entry| (entry.source.to_string(), sum.expires(entry) / SECOND)).collect();
        let never = NEVER / SECOND;
        // The third ended before; of the second the longer stays.
        let expect = [("192.0.2.1", never), ("192.0.2.2", 60), ("192.0.2.9", never)];
        assert_eq!(all, expect.map(|(source, at)| (source.to_owned(), at)));
        assert_eq!(sum.find("192.0.2.2".parse().unwrap()).map(|entry| sum.reason(entry)), Some("timed"));
        assert_eq!(sum.find("192.0.2.4".parse().unwrap()), None);
    }

    #[test]
    fn twice_listed_once_kept() {
        let list = content(0, &[("192.0.2.1", Some(5)), ("192.0.2.1", None), ("192.0.2.1", Some(9))], None);
        assert_eq!(list.entries.len(), 1);
        assert_eq!(list.entries[0].until, FOREVER);
    }

    #[test]
    fn rows_there_and_back() {
        let mut draft = FeedDraft::new(7);
        for number in 0..20_000_u32 {
            draft.push(Source::of(std::net::Ipv4Addr::from_bits(number * 7).into(), 64), Some(number.into()), None);
        }
        draft.push("2001:db8::/48".parse().unwrap(), None, Some("why"));
        let content = draft.finish(None);
        let rows = content.rows();
        assert!(rows.len() > 2 && rows.iter().all(|row| row.len() < CHUNK + 32), "{}", rows.len());
        let mut back = FeedContent { base: 7, entries: Vec::new(), reasons: content.reasons.clone() };
        for row in &rows {
            back.extend(row).unwrap();
        }
        assert_eq!(back, content);
        for broken in [&[4, 1][..], &[5], &[4, 1, 2, 3, 4, 33, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(FeedContent::default().extend(broken), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_row_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = FeedContent::default().extend(&bytes);
        }
    }
}
