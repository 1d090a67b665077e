//! The open store: what is read from it, and what a change of it writes.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use gateway_common::source::Source;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::{
    error::StoreError,
    record::{AllowanceRecord, BanEnd, BanRecord, CommittedHead},
    row::{record, signed, unsigned},
    source_filter::SourceFilter,
    unread_rows::UnreadRows,
};

/// How many ended bans are kept; the oldest go first.
pub const HISTORY: u64 = 100_000;

/// The open store. One connection, used by one thread.
#[derive(Debug)]
pub struct BanStore {
    pub(super) connection: Connection,
    /// Whose bans it may have.
    pub(super) seen: SourceFilter,
    /// Which of its rows were left out.
    pub(super) unread: UnreadRows,
    /// No other process can read it: see [`BanStore::share`].
    pub(super) alone: bool,
    /// Its file, and which one that was when it was opened.
    pub(super) file: Option<(PathBuf, u64)>,
    /// It is in memory alone, in the place of a file that cannot be written: why not, and whether another process has
    /// locked it.
    pub(super) stands_in: Option<(String, bool)>,
}

impl BanStore {
    /// Whose log is to be brought into its file by [`checkpoint`]; `None`: nobody else may open it.
    #[must_use]
    pub fn checkpointed(&self) -> Option<PathBuf> {
        let file = self.file.as_ref().filter(|_| !self.alone && !self.stands_in());
        file.map(|(path, _)| path.clone())
    }

    /// Starts a change. Nothing of it is kept unless it is committed.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn change(&mut self) -> Result<StoreChange<'_>, StoreError> {
        match &self.stands_in {
            Some((_, true)) => return Err(StoreError::Behind),
            Some((why, false)) => return Err(StoreError::Unwritable(why.clone())),
            None => {}
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(StoreChange(transaction, &self.seen))
    }

    /// Every ban in force, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError::Row`] if somebody else wrote into the file.
    pub fn in_force(&self) -> Result<Vec<BanRecord>, StoreError> {
        self.records("SELECT * FROM ban WHERE ended IS NULL ORDER BY id", [])
    }

    /// Bans that have ended and whose source holds `address` or is one of its prefixes, newest first. What cannot be
    /// read is left out.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn history(&self, address: IpAddr, most: usize) -> Result<Vec<BanRecord>, StoreError> {
        // Every source that could hold the address, from the narrowest: at most 129 texts, looked up by index.
        let width = if address.is_ipv4() { 32 } else { 128 };
        let names: Vec<String> = (0..=width)
            .filter_map(|length| Source::network(address, length))
            .map(|source| source.to_string())
            .collect();
        let marks = vec!["?"; names.len()].join(",");
        let mut query = self.connection.prepare_cached(&format!(
            "SELECT * FROM ban WHERE ended IS NOT NULL AND source IN ({marks}) ORDER BY id DESC LIMIT {most}"
        ))?;
        self.legible("ban", query.query(rusqlite::params_from_iter(names))?, record)
    }

    /// What operators have allowed.
    ///
    /// # Errors
    /// [`StoreError::Row`] if somebody else wrote into the file.
    pub fn allowed(&self) -> Result<Vec<AllowanceRecord>, StoreError> {
        let mut query =
            self.connection.prepare_cached("SELECT source, reason, actor FROM allow ORDER BY added, source")?;
        let mut rows = query.query([])?;
        let mut allowed = Vec::new();
        while let Some(row) = rows.next()? {
            allowed.push(allowance(row)?);
        }
        Ok(allowed)
    }

    /// The same, as far as it can be read.
    pub(super) fn salvage_allowed(&self) -> Vec<AllowanceRecord> {
        let query = self.connection.prepare("SELECT source, reason, actor FROM allow NOT INDEXED");
        let Ok(mut query) = query else { return Vec::new() };
        query.query([]).map(|rows| self.legible_until("allow", rows, allowance).0).unwrap_or_default()
    }

    /// The audit chain's head. `None`: no chain was ever begun.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn anchor(&self) -> Result<Option<CommittedHead>, StoreError> {
        anchor(&self.connection)
    }

    fn records(&self, query: &str, values: impl rusqlite::Params) -> Result<Vec<BanRecord>, StoreError> {
        let mut query = self.connection.prepare_cached(query)?;
        let mut rows = query.query(values)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            records.push(record(row)?);
        }
        Ok(records)
    }
}

/// Brings the log of a store that is open elsewhere into its file, which waits for the disk. Keeps nobody from reading
/// or writing meanwhile.
///
/// # Errors
/// [`StoreError::Database`].
pub fn checkpoint(path: &Path) -> Result<(), StoreError> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_row| Ok(()))?)
}

/// Reads the anchor of a store that another process may have open.
///
/// # Errors
/// [`StoreError`]; also if there is no store.
pub fn read_anchor(path: &Path) -> Result<Option<CommittedHead>, StoreError> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    anchor(&connection)
}

fn allowance(row: &Row<'_>) -> Result<AllowanceRecord, StoreError> {
    let source: String = row.get("source")?;
    let source = source.parse().map_err(|_error| StoreError::Row { what: "an allowed source", id: 0 })?;
    Ok(AllowanceRecord { source, reason: row.get("reason")?, actor: row.get("actor")? })
}

pub(super) fn anchor(connection: &Connection) -> Result<Option<CommittedHead>, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(CommittedHead { seq: unsigned(row, "seq")?, hash: row.get("hash")?, first: row.get("first")? })
    };
    Ok(connection.query_row("SELECT seq, hash, first FROM audit", [], read).optional()?)
}

/// A change to the store that is not committed yet.
#[derive(Debug)]
pub struct StoreChange<'store>(pub(super) Transaction<'store>, &'store SourceFilter);

impl StoreChange<'_> {
    /// Writes a ban; its id, which is a new one unless it has one.
    ///
    /// # Errors
    /// [`StoreError::Database`]; also if its source is banned already.
    pub fn begin(&self, record: &BanRecord) -> Result<u64, StoreError> {
        self.insert("INSERT", record)?;
        Ok(u64::try_from(self.0.last_insert_rowid()).unwrap_or(0))
    }

    pub(super) fn insert(&self, how: &str, record: &BanRecord) -> Result<(), StoreError> {
        self.1.note(record.source);
        let evidence: Vec<String> = record.evidence.iter().map(ToString::to_string).collect();
        self.0
            .prepare_cached(&format!(
                "{how} INTO ban (id, source, reason, actor, rule, evidence, shadow, started, expires, boot,
                     expires_monotonic, confirm_by, confirm_monotonic, relay, reaction_micros, connections_closed)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            ))?
            .execute(params![
                (record.id > 0).then(|| signed(record.id)),
                record.source.to_string(),
                record.reason,
                record.actor,
                record.rule,
                evidence.join(" "),
                record.shadow,
                signed(record.started),
                record.expires.map(signed),
                record.boot,
                record.expires_monotonic.map(signed),
                record.confirm.map(|confirm| signed(confirm.unix_millis)),
                record.confirm.map(|confirm| signed(confirm.monotonic)),
                record.relay.map(|relay| relay.to_string()),
                record.reaction_micros.map(signed),
                record.connections_closed,
            ])?;
        Ok(())
    }

    /// Ends a ban with what the kernel counted.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn end(&self, id: u64, ended: &BanEnd, packets: u64, bytes: u64) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE ban SET ended = ?, how = ?, packets = ?, bytes = ? WHERE id = ?")?
            .execute(params![signed(ended.at), ended.how, signed(packets), signed(bytes), signed(id)])?;
        Ok(())
    }

    /// Gives a ban its times on this boot's clock.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn rebase(&self, record: &BanRecord) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE ban SET boot = ?, expires_monotonic = ?, confirm_monotonic = ? WHERE id = ?")?
            .execute(params![
                record.boot,
                record.expires_monotonic.map(signed),
                record.confirm.map(|confirm| signed(confirm.monotonic)),
                signed(record.id)
            ])?;
        Ok(())
    }

    /// Notes how long the kernel's entry took from the offence on.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn reacted(&self, id: u64, micros: u64) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE ban SET reaction_micros = ? WHERE id = ?")?
            .execute(params![signed(micros), signed(id)])?;
        Ok(())
    }

    /// Notes how many connections were closed.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn closed(&self, id: u64, connections: u32) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE ban SET connections_closed = ? WHERE id = ?")?
            .execute(params![connections, signed(id)])?;
        Ok(())
    }

    /// Adds an allowance, or replaces its reason.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn allow(&self, allowed: &AllowanceRecord, now: u64) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT OR REPLACE INTO allow (source, reason, actor, added) VALUES (?, ?, ?, ?)",
            params![allowed.source.to_string(), allowed.reason, allowed.actor, signed(now)],
        )?;
        Ok(())
    }

    /// Removes an allowance; whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn disallow(&self, source: Source) -> Result<bool, StoreError> {
        Ok(self.0.execute("DELETE FROM allow WHERE source = ?", [source.to_string()])? > 0)
    }

    /// Removes the oldest ended bans beyond `most`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn prune(&self, most: u64) -> Result<usize, StoreError> {
        Ok(self.0.execute(
            "DELETE FROM ban WHERE ended IS NOT NULL AND id <= (
                 SELECT id FROM ban WHERE ended IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?)",
            [signed(most)],
        )?)
    }

    /// Keeps the change, and with it the audit chain's head.
    ///
    /// # Errors
    /// [`StoreError::Database`]: nothing was changed.
    pub fn commit(self, anchor: &CommittedHead) -> Result<(), StoreError> {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO audit (one, seq, hash, first) VALUES (1, ?, ?, ?)")?
            .execute(params![signed(anchor.seq), anchor.hash, anchor.first])?;
        Ok(self.0.commit()?)
    }

    /// Keeps the change where there is no audit chain yet that it could be anchored in.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(crate) fn commit_without_anchor(self) -> Result<(), StoreError> {
        Ok(self.0.commit()?)
    }
}
