//! Remembers which sources the store may have bans of, so that it is not asked about all the others: to ask it takes half
//! of the time that a ban takes.
//!
//! *Invariant:* whoever has a row in the table of bans is remembered, and some who have none.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use gateway_common::source::Source;
use rusqlite::Connection;

/// A bit for several sources; rows are a hundred thousand, and those in force.
const BITS: u64 = 1 << 21;

/// The sources of all bans, and some others.
#[derive(Debug)]
pub(super) struct SourceFilter {
    /// Drawn at the start: nobody can aim at a bit.
    hasher: RandomState,
    /// Empty: everybody.
    words: Vec<AtomicU64>,
}

impl SourceFilter {
    /// Everybody: of a store that is read once.
    pub(super) fn everybody() -> Self {
        Self { hasher: RandomState::new(), words: Vec::new() }
    }

    /// The sources in the table of bans; everybody, if one of them cannot be read.
    pub(super) fn read(connection: &Connection) -> Self {
        let words = (0..BITS / 64).map(|_| AtomicU64::new(0)).collect();
        let seen = Self { hasher: RandomState::new(), words };
        let note = || -> rusqlite::Result<bool> {
            let mut query = connection.prepare("SELECT source FROM ban")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let Ok(source) = row.get_ref(0)?.as_str()?.parse() else { return Ok(false) };
                seen.note(source);
            }
            Ok(true)
        };
        if matches!(note(), Ok(true)) { seen } else { Self::everybody() }
    }

    /// There is, or may soon be, a ban of this source.
    pub(super) fn note(&self, source: Source) {
        let (word, mask) = self.bit(source);
        if let Some(word) = self.words.get(word) {
            word.fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// Whether there may be a ban of this source.
    pub(super) fn may_hold(&self, source: Source) -> bool {
        let (word, mask) = self.bit(source);
        self.words.get(word).is_none_or(|word| word.load(Ordering::Relaxed) & mask != 0)
    }

    fn bit(&self, source: Source) -> (usize, u64) {
        let bit = self.hasher.hash_one(source) % BITS;
        (usize::try_from(bit / 64).unwrap_or(usize::MAX), 1 << (bit % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_row_is_remembered() {
        let connection = Connection::open_in_memory().unwrap();
        assert!(SourceFilter::read(&connection).may_hold("192.0.2.9".parse().unwrap()), "no table: everybody");
        connection.execute_batch("CREATE TABLE ban (source TEXT); INSERT INTO ban VALUES ('192.0.2.1')").unwrap();
        let seen = SourceFilter::read(&connection);
        let held = |text: &str| seen.may_hold(text.parse().unwrap());
        assert!(held("192.0.2.1") && !held("192.0.2.2") && !held("192.0.2.0/24"));
        seen.note("2001:db8::/64".parse().unwrap());
        assert!(held("2001:db8::/64"));
        connection.execute_batch("INSERT INTO ban VALUES ('no source')").unwrap();
        assert!(
            SourceFilter::read(&connection).may_hold("192.0.2.2".parse().unwrap()),
            "a row that cannot be read: everybody"
        );
    }
}
