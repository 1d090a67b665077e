//! Finds whether the audit chain tells of keys and tokens what the store has not seen: it is a copy from a backup then.
//!
//! Only the records that the store has not seen are read: how long a start takes does not grow with the chain.

use std::{io, ops::ControlFlow, path::Path};

use super::redo::is_of_credentials;
use crate::guard::audit::{self, newest_first};

/// The record of the chain up to which a store knows what became of its keys and revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenRecord {
    pub(crate) seq: u64,
    pub(crate) hash: String,
}

/// What the chain has that a store has not seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UnseenRecords {
    /// The newest record.
    pub(super) newest: Option<SeenRecord>,
    /// The number of the newest record of keys or tokens that the store has not seen.
    pub(super) credentials: Option<u64>,
    /// The chain has the record that the store has seen, or goes on after it.
    pub(super) is_tied: bool,
    /// The first and the last record that the store has not seen and that are not there any more.
    pub(super) missing: Option<[u64; 2]>,
}

impl UnseenRecords {
    /// Reads the end of the chain.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn look(state_dir: &Path, seen: Option<&SeenRecord>) -> io::Result<Self> {
        let mut behind = Self::default();
        let mut oldest = 0;
        let mut has_reached = false;
        newest_first(state_dir, |audit::Recent { seq, hash, event }| {
            behind.newest.get_or_insert_with(|| SeenRecord { seq, hash: hash.to_owned() });
            match seen {
                Some(seen) if seq <= seen.seq => {
                    has_reached = true;
                    behind.is_tied = seq == seen.seq && hash == seen.hash;
                    return ControlFlow::Break(());
                }
                Some(_) => {}
                // It has seen nothing: one such record says enough.
                None if behind.credentials.is_some() => return ControlFlow::Break(()),
                None => {}
            }
            oldest = seq;
            if is_of_credentials(event) {
                behind.credentials.get_or_insert(seq);
            }
            ControlFlow::Continue(())
        })?;
        if let Some(seen) = seen
            && !has_reached
            && behind.newest.is_some()
        {
            behind.is_tied = true;
            behind.missing = (oldest > seen.seq + 1).then_some([seen.seq + 1, oldest - 1]);
        }
        Ok(behind)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::guard::state_files::LOG;

    #[test]
    fn what_a_store_has_not_seen() {
        let folder = std::env::temp_dir().join(format!("gateway-credentials-behind-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let events = ["ban", "token_revoke", "ban", "api_key_revoke", "unban", "start"];
        let lines = (5_u64..).zip(events).map(|(seq, event)| {
            format!("{{\"seq\":{seq},\"time\":\"t\",\"event\":\"{event}\",\"prev\":\"\",\"hash\":\"h{seq}\"}}\n")
        });
        fs::write(folder.join(LOG), lines.collect::<String>()).unwrap();
        let seen = |seq: u64, hash: &str| Some(SeenRecord { seq, hash: hash.to_owned() });
        for (from, credentials, is_tied, missing) in [
            (None, Some(8), false, None),
            (seen(10, "h10"), None, true, None),
            (seen(8, "h8"), None, true, None),
            (seen(7, "h7"), Some(8), true, None),
            (seen(4, "h4"), Some(8), true, None),
            (seen(2, "h2"), Some(8), true, Some([3, 4])),
            // Another chain, and one that has lost its end.
            (seen(9, "other"), None, false, None),
            (seen(11, "h11"), None, false, None),
        ] {
            let expected = UnseenRecords { newest: seen(10, "h10"), credentials, is_tied, missing };
            assert_eq!(UnseenRecords::look(&folder, from.as_ref()).unwrap(), expected, "{from:?}");
        }
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(UnseenRecords::look(&folder, seen(2, "h2").as_ref()).unwrap(), UnseenRecords::default());
        fs::remove_dir_all(&folder).unwrap();
    }
}
