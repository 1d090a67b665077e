//! Decides what is remembered about bans and allowances: one SQLite file, written before the kernel is told.
//!
//! *Invariant:* every change and the audit record that tells of it are one transaction, whose last statement anchors
//! the audit chain's head. Ids only ever grow, also over removals and restarts.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use gateway_common::source::Source;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use crate::request_id::RequestId;

mod place;
mod safety;
mod salvage;

pub use safety::{Offence, Pardon, Promotion};
pub(crate) use salvage::Salvage;
pub(crate) mod feeds;
pub(crate) mod good;
mod row;

use row::{optional, record, signed, unsigned};

/// What `PRAGMA user_version` says. A newer file is refused, never changed.
const SCHEMA: i64 = 3;

/// How many pages the log may have before whoever writes brings it into the file, and waits: 64 MiB.
const LONGEST_LOG: i64 = 16_384;

/// How many ended bans are kept; the oldest go first.
pub const HISTORY: u64 = 100_000;

/// What makes each schema out of the one before it; the first out of an empty file.
const MIGRATIONS: [&str; 3] = [FIRST, SECOND, THIRD];

const FIRST: &str = "
    CREATE TABLE ban (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        source TEXT NOT NULL,
        reason TEXT NOT NULL,
        actor TEXT NOT NULL,
        rule TEXT,
        evidence TEXT NOT NULL,
        shadow INTEGER NOT NULL,
        started INTEGER NOT NULL,
        expires INTEGER,
        boot TEXT NOT NULL,
        expires_monotonic INTEGER,
        reaction_micros INTEGER,
        connections_closed INTEGER,
        ended INTEGER,
        how TEXT,
        packets INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX ban_in_force ON ban (source) WHERE ended IS NULL;
    CREATE INDEX ban_of_source ON ban (source, id);
    CREATE INDEX ban_ended ON ban (ended, id) WHERE ended IS NOT NULL;
    CREATE TABLE allow (source TEXT PRIMARY KEY, reason TEXT NOT NULL, actor TEXT NOT NULL, added INTEGER NOT NULL) STRICT;
    CREATE TABLE audit (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL, first TEXT NOT NULL) STRICT;
";

const SECOND: &str = "
    ALTER TABLE ban ADD COLUMN confirm_by INTEGER;
    ALTER TABLE ban ADD COLUMN confirm_monotonic INTEGER;
    CREATE TABLE pardon (source TEXT PRIMARY KEY, actor TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
    CREATE TABLE promotion (what TEXT PRIMARY KEY, actor TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
";

const THIRD: &str = "ALTER TABLE ban ADD COLUMN relay TEXT;";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says no: disk full, not a database, locked by a stranger.
    #[error("the ban store: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file cannot be made.
    #[error("the ban store: {0}")]
    File(#[from] io::Error),
    /// Its pages contradict each other.
    #[error("the ban store is damaged: {0}")]
    Damaged(String),
    /// What was decided before is not written yet.
    #[error("the ban store is locked by another process")]
    Behind,
    /// Nothing can be written to it at the moment.
    #[error("the ban store cannot be written: {0}")]
    Unwritable(String),
    /// A later version of this program wrote it.
    #[error("the ban store has schema {found}, this program knows {SCHEMA}: run the version that wrote it, or newer")]
    Newer {
        /// Its schema.
        found: i64,
    },
    /// A row holds what this program never wrote.
    #[error("the ban store holds {what} that cannot be read in ban {id}")]
    Row {
        /// Which column.
        what: &'static str,
        /// Whose.
        id: u64,
    },
}

/// A ban as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows by one with each ban; 0 until it is written.
    pub id: u64,
    /// Who.
    pub source: Source,
    /// Why, for people.
    pub reason: String,
    /// `rule:NAME` or `operator:UID`.
    pub actor: String,
    /// The rule that asked for it.
    pub rule: Option<String>,
    /// The trusted proxy that its evidence came through: the proxy enforces it, the kernel has no entry of it.
    pub relay: Option<IpAddr>,
    /// The requests that were the evidence, oldest first.
    pub evidence: Vec<RequestId>,
    /// Counted only.
    pub shadow: bool,
    /// Milliseconds since the Unix epoch.
    pub started: u64,
    /// Milliseconds since the Unix epoch; `None`: until removed. What people are shown, and what counts after a
    /// reboot.
    pub expires: Option<u64>,
    /// Which boot `expires_monotonic` belongs to.
    pub boot: String,
    /// `CLOCK_MONOTONIC`, nanoseconds; `None`: until removed. What decides within one boot.
    pub expires_monotonic: Option<u64>,
    /// From the offence to the entry in the kernel.
    pub reaction_micros: Option<u64>,
    /// Connections that the proxy closed for it.
    pub connections_closed: Option<u32>,
    /// When and how it ended; `None`: in force.
    pub ended: Option<Ended>,
    /// It goes unless an operator confirms it in time; `None`: it stays.
    pub confirm: Option<Deadline>,
    /// Packets at its end.
    pub packets: u64,
    /// Bytes at its end.
    pub bytes: u64,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Milliseconds since the Unix epoch: what people are shown, and what counts after a reboot.
    pub unix_millis: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds: what decides within one boot.
    pub monotonic: u64,
}

/// How a ban ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// `expired`, `removed by operator:0`, ...
    pub how: String,
}

/// An allowance that an operator added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Who.
    pub source: Source,
    /// Why, for people.
    pub reason: String,
    /// `operator:UID`.
    pub actor: String,
}

/// The audit chain's head as it was last committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The last record's number; 0: none yet.
    pub seq: u64,
    /// The last record's hash, hexadecimal.
    pub hash: String,
    /// The first record's hash: which chain this is.
    pub first: String,
}

/// The open store. One connection, used by one thread.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// No other process can read it: see [`Store::share`].
    alone: bool,
    /// Its file, and which one that was when it was opened.
    file: Option<(PathBuf, u64)>,
    /// It is in memory alone, in the place of a file that cannot be written: why not, and whether another process has
    /// locked it.
    stands_in: Option<(String, bool)>,
}

impl Store {
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
    pub fn change(&mut self) -> Result<Change<'_>, StoreError> {
        match &self.stands_in {
            Some((_, true)) => return Err(StoreError::Behind),
            Some((why, false)) => return Err(StoreError::Unwritable(why.clone())),
            None => {}
        }
        Ok(Change(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?))
    }

    /// Every ban in force, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError::Row`] if somebody else wrote into the file.
    pub fn in_force(&self) -> Result<Vec<Record>, StoreError> {
        self.records("SELECT * FROM ban WHERE ended IS NULL ORDER BY id", [])
    }

    /// Bans that have ended and whose source holds `address` or is one of its prefixes, newest first.
    ///
    /// # Errors
    /// As [`Self::in_force`].
    pub fn history(&self, address: IpAddr, most: usize) -> Result<Vec<Record>, StoreError> {
        // Every source that could hold the address, from the narrowest: at most 129 texts, looked up by index.
        let width = if address.is_ipv4() { 32 } else { 128 };
        let names: Vec<String> = (0..=width)
            .filter_map(|length| Source::network(address, length))
            .map(|source| source.to_string())
            .collect();
        let marks = vec!["?"; names.len()].join(",");
        self.records(
            &format!("SELECT * FROM ban WHERE ended IS NOT NULL AND source IN ({marks}) ORDER BY id DESC LIMIT {most}"),
            rusqlite::params_from_iter(names),
        )
    }

    /// What operators have allowed.
    ///
    /// # Errors
    /// [`StoreError::Row`] if somebody else wrote into the file.
    pub fn allowed(&self) -> Result<Vec<Allowed>, StoreError> {
        let mut query =
            self.connection.prepare_cached("SELECT source, reason, actor FROM allow ORDER BY added, source")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
        rows.map(|row| {
            let (source, reason, actor) = row?;
            let source = source.parse().map_err(|_error| StoreError::Row { what: "an allowed source", id: 0 })?;
            Ok(Allowed { source, reason, actor })
        })
        .collect()
    }

    /// The audit chain's head. `None`: no chain was ever begun.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn anchor(&self) -> Result<Option<Anchor>, StoreError> {
        anchor(&self.connection)
    }

    fn records(&self, query: &str, values: impl rusqlite::Params) -> Result<Vec<Record>, StoreError> {
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
pub fn read_anchor(path: &Path) -> Result<Option<Anchor>, StoreError> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    anchor(&connection)
}

fn anchor(connection: &Connection) -> Result<Option<Anchor>, StoreError> {
    let read =
        |row: &Row<'_>| Ok(Anchor { seq: unsigned(row, "seq")?, hash: row.get("hash")?, first: row.get("first")? });
    Ok(connection.query_row("SELECT seq, hash, first FROM audit", [], read).optional()?)
}

/// A change to the store that is not committed yet.
#[derive(Debug)]
pub struct Change<'store>(Transaction<'store>);

impl Change<'_> {
    /// Writes a ban; its id, which is a new one unless it has one.
    ///
    /// # Errors
    /// [`StoreError::Database`]; also if its source is banned already.
    pub fn begin(&self, record: &Record) -> Result<u64, StoreError> {
        self.insert("INSERT", record)?;
        Ok(u64::try_from(self.0.last_insert_rowid()).unwrap_or(0))
    }

    fn insert(&self, how: &str, record: &Record) -> Result<(), StoreError> {
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
    pub fn end(&self, id: u64, ended: &Ended, packets: u64, bytes: u64) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE ban SET ended = ?, how = ?, packets = ?, bytes = ? WHERE id = ?")?
            .execute(params![signed(ended.at), ended.how, signed(packets), signed(bytes), signed(id)])?;
        Ok(())
    }

    /// Gives a ban its times on this boot's clock.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn rebase(&self, record: &Record) -> Result<(), StoreError> {
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
    pub fn allow(&self, allowed: &Allowed, now: u64) -> Result<(), StoreError> {
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
    pub fn commit(self, anchor: &Anchor) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests;
