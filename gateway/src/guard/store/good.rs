//! Good clients in the store, one row each, so that a guard that starts knows them.

use gateway_common::source::Source;
use rusqlite::params;

use super::{
    database::{BanStore, StoreChange},
    error::StoreError,
    row::{signed, unsigned},
};

pub(super) const GOOD_TABLES: &str = "
    CREATE TABLE IF NOT EXISTS good (
        source TEXT PRIMARY KEY,
        last INTEGER NOT NULL,
        principals TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// A client that was served with a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GoodRow {
    /// Who.
    pub(crate) source: Source,
    /// Its principals.
    pub(crate) principals: Vec<GoodPrincipal>,
}

/// A principal of such a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoodPrincipal {
    /// Tells principals apart, names none.
    pub(crate) hash: u64,
    /// When it was served first: milliseconds since the Unix epoch.
    pub(crate) first: u64,
    /// And last.
    pub(crate) last: u64,
}

impl BanStore {
    /// The clients that were good after `since`, the latest first. What cannot be read is left out: it shields nobody.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn good(&self, since: u64, most: usize) -> Result<Vec<GoodRow>, StoreError> {
        let mut query = self.connection.prepare_cached(&format!(
            "SELECT source, last, principals FROM good WHERE last >= ? ORDER BY last DESC LIMIT {most}"
        ))?;
        let clients = self.legible("good", query.query([signed(since)])?, |row| {
            let (source, principals): (String, String) = (row.get("source")?, row.get("principals")?);
            let principals: Vec<_> = principals.split(' ').filter_map(principal).collect();
            let is_good = !principals.is_empty() && unsigned(row, "last")? >= since;
            Ok(source.parse().ok().filter(|_| is_good).map(|source| GoodRow { source, principals }))
        })?;
        Ok(clients.into_iter().flatten().collect())
    }
}

impl StoreChange<'_> {
    /// Remembers clients as they are now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn remember_good(&self, clients: &[GoodRow]) -> Result<(), StoreError> {
        let mut put =
            self.0.prepare_cached("INSERT OR REPLACE INTO good (source, last, principals) VALUES (?, ?, ?)")?;
        for GoodRow { source, principals } in clients {
            let last = principals.iter().map(|principal| principal.last).max().unwrap_or(0);
            let principals: Vec<String> =
                principals.iter().map(|one| format!("{:x}:{}:{}", one.hash, one.first, one.last)).collect();
            put.execute(params![source.to_string(), signed(last), principals.join(" ")])?;
        }
        Ok(())
    }

    /// Forgets clients.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn forget_good(&self, clients: &[Source]) -> Result<(), StoreError> {
        let mut delete = self.0.prepare_cached("DELETE FROM good WHERE source = ?")?;
        for source in clients {
            delete.execute([source.to_string()])?;
        }
        Ok(())
    }

    /// Forgets who was not good after `since`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn forget_good_before(&self, since: u64) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM good WHERE last < ?", [signed(since)])?;
        Ok(())
    }
}

fn principal(text: &str) -> Option<GoodPrincipal> {
    let mut parts = text.split(':');
    let hash = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some(GoodPrincipal { hash, first: parts.next()?.parse().ok()?, last: parts.next()?.parse().ok()? })
}
