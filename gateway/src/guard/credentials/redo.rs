//! Collects from the audit chain what was revoked, for a store that was lost or damaged or is older: it lifts nothing.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
};

use serde_json::{Map, Value};

use super::rows::RevocationRow;
use crate::{
    guard::audit::{Against, has_records, read_records},
    policy::auth::{api_key::text::KeyId, revocation::Revoked},
};

/// Whether a record tells of keys or tokens.
pub(super) fn is_of_credentials(event: &str) -> bool {
    event.starts_with("api_key_") || event.starts_with("token_")
}

/// What was revoked, and was not lifted.
#[derive(Debug, Default)]
pub(super) struct CredentialRedo {
    pub(super) revocations: HashMap<Revoked, RevocationRow>,
    pub(super) keys: HashMap<u64, RevocationRow>,
    /// Keys that others took the place of, and until when they are good: seconds since the Unix epoch.
    pub(super) replaced: HashMap<u64, u64>,
    /// Keys that were made after some record, and how many were imported.
    pub(super) made: HashSet<u64>,
    pub(super) imported: u64,
    /// The number of the last record that counts.
    pub(super) last: u64,
}

impl CredentialRedo {
    /// Reads the whole chain. A record that is not as it was written counts for nothing. Keys count as made if their record
    /// is behind number `after`.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub(super) fn read(state_dir: &Path, after: u64) -> io::Result<Self> {
        let mut redo = Self::default();
        if has_records(state_dir) {
            let against = Against { without_store: true, ..Against::default() };
            let mut visit = |line: &crate::guard::audit::ChainLine<'_>| {
                if line.is_good && is_of_credentials(line.event) {
                    redo.last = line.seq;
                    redo.note(line.event, line.text, line.seq > after);
                }
                Ok(())
            };
            read_records(state_dir, &against, &mut visit, &mut |_, _| {})?;
        }
        Ok(redo)
    }

    fn note(&mut self, event: &str, line: &[u8], is_new: bool) {
        let Ok(Value::Object(record)) = serde_json::from_slice(line) else { return };
        let id = |member: &str| {
            let id = record.get(member).and_then(Value::as_str).and_then(|id| id.parse().ok());
            id.map(|KeyId(id)| id)
        };
        match event {
            "api_key_revoke" => {
                let revoked = |id| (id, RevocationRow { expires: None, ..row(&record) });
                return self.keys.extend(id("key").map(revoked));
            }
            "api_key_new" | "api_key_rotate" => {
                let until = record.get("until").and_then(Value::as_str);
                let until = until.and_then(|until| until.parse::<jiff::Timestamp>().ok());
                let until = until.and_then(|until| u64::try_from(until.as_second()).ok());
                self.replaced.extend(id("replaces").zip(until));
                return self.made.extend(id("key").filter(|_| is_new));
            }
            "api_key_import" => {
                let keys = record.get("keys").and_then(Value::as_u64).filter(|_| is_new);
                self.imported = self.imported.saturating_add(keys.unwrap_or(0));
                return;
            }
            _ => {}
        }
        let Some(revoked) = record.get("revoked").cloned().and_then(|value| serde_json::from_value(value).ok()) else {
            return;
        };
        if event == "token_unrevoke" {
            self.revocations.remove(&revoked);
        } else {
            self.revocations.insert(revoked, row(&record));
        }
    }
}

/// The row without what it revokes.
fn row(record: &Map<String, Value>) -> RevocationRow {
    let text = |member: &str| record.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    let time = text("time").parse::<jiff::Timestamp>().map_or(0, |time| time.as_millisecond());
    RevocationRow {
        number: 0,
        revoked: Revoked::Key(0),
        expires: record.get("expires").and_then(Value::as_u64),
        reason: text("reason"),
        actor: text("actor"),
        added: u64::try_from(time).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_in_the_end() {
        let mut redo = CredentialRedo::default();
        let token = |id: &str| Revoked::Token { issuer: "i".to_owned(), id: id.to_owned() };
        let told =
            |id: &str| serde_json::json!({"revoked": token(id), "expires": 7, "actor": "operator:0", "reason": "x"});
        for (event, record) in [
            ("token_revoke", told("a")),
            ("token_revoke", told("b")),
            ("token_unrevoke", told("a")),
            ("api_key_new", serde_json::json!({"key": "0000000000y"})),
            (
                "api_key_rotate",
                serde_json::json!({"key": "0000000000x", "replaces": "0000000000y", "until": "1970-01-01T00:01:00.000Z"}),
            ),
            ("api_key_import", serde_json::json!({"keys": 3})),
            ("api_key_revoke", serde_json::json!({"key": "0000000000z"})),
            ("api_key_revoke", serde_json::json!({"key": "rubbish"})),
            ("token_revoke", serde_json::json!({"revoked": {"Token": 7}})),
        ] {
            redo.note(event, record.to_string().as_bytes(), event != "api_key_new");
        }
        assert_eq!((redo.keys.into_keys().collect::<Vec<_>>(), redo.revocations.len()), (vec![61], 1));
        assert_eq!((redo.replaced, redo.imported), (HashMap::from([(60, 60)]), 3));
        assert_eq!(redo.made, HashSet::from([59]), "the other was made before");
        let row = &redo.revocations[&token("b")];
        assert_eq!((row.expires, &*row.actor, &*row.reason), (Some(7), "operator:0", "x"));
    }
}
