//! The store of API keys and revocations: one SQLite file, opened by one thread. It holds hashes of keys, and no key.
//!
//! *Invariant:* a change and the record that tells of it are one transaction. What is acknowledged survives a power cut.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde_json::{Map, Value};

use super::{
    behind::SeenRecord,
    pepper,
    rows::{self, KeyRow, RevocationRow, SEEN, TABLES, signed},
};
use crate::{
    guard::{
        bans::Refused,
        state_files::{
            set_aside,
            sqlite::{self, SqliteError, SqliteOptions},
        },
    },
    message::credentials::CredentialChange,
    policy::auth::{api_key::Tag, revocation::Revoked},
};

mod catch_up;

/// The file in the state folder.
pub(crate) const FILE: &str = "credentials.db";

/// What `PRAGMA user_version` says. A newer file is refused, never changed.
const SCHEMA: i64 = 1;

/// How long it waits for whoever has locked the file, a backup for example.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long keys that may be used no longer are still told from those that never were, in seconds: 90 days.
const REMEMBERED: u64 = 90 * 86_400;

/// Why something of the store cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    /// The file cannot be used.
    #[error("the store of credentials{0}")]
    File(SqliteError),
    /// It is fine; what is asked cannot be done.
    #[error("{0}")]
    Refused(Refused),
}

impl From<SqliteError> for CredentialError {
    fn from(error: SqliteError) -> Self {
        Self::File(error)
    }
}

impl From<rusqlite::Error> for CredentialError {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error.into())
    }
}

impl From<io::Error> for CredentialError {
    fn from(error: io::Error) -> Self {
        Self::File(error.into())
    }
}

impl From<Refused> for CredentialError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<CredentialError> for Refused {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Refused(refused) => refused,
            error => Self::new("store_failed", format!("nothing was changed: {error}")),
        }
    }
}

impl CredentialError {
    /// The file itself is of no use, now and later.
    fn is_damage(&self) -> bool {
        matches!(self, Self::File(error) if error.is_damage())
    }

    /// A single row cannot be read.
    pub(super) fn is_of_a_row(&self) -> bool {
        matches!(self, Self::File(SqliteError::Database(error)) if sqlite::is_of_a_row(error))
    }
}

/// The open store.
#[derive(Debug)]
pub(crate) struct CredentialStore {
    connection: Connection,
}

/// A record that the audit chain is still to have.
pub(crate) struct Unrecorded {
    /// Its number in the store.
    pub(crate) number: i64,
    pub(crate) event: String,
    pub(crate) members: Map<String, Value>,
}

impl CredentialStore {
    /// Opens the store, making it where there is none. One that is damaged is set aside, and what can be read of it is kept;
    /// one that is older than the audit chain catches up with it. Then it is said what happened.
    ///
    /// # Errors
    /// It cannot be used at the moment.
    pub(crate) fn open(state_dir: &Path, now: u64) -> Result<(Self, Option<String>), CredentialError> {
        let path = state_dir.join(FILE);
        let is_there = fs::symlink_metadata(&path).is_ok();
        match Self::at(&path) {
            Ok(mut store) if is_there => match store.catch_up(&path, state_dir, now) {
                Err(error) if error.is_of_a_row() => {
                    drop(store);
                    Self::replace(state_dir, &error, now).map(|(store, told)| (store, Some(told)))
                }
                told => Ok((store, told?)),
            },
            Ok(mut store) => {
                let taken = store.redo(state_dir, now)?;
                let told = || format!("{} was missing; {taken} were taken over from the audit chain", path.display());
                let is_lost = !taken.is_nothing() || state_dir.join(pepper::FILE).exists();
                Ok((store, is_lost.then(told)))
            }
            Err(error) if error.is_damage() => {
                Self::replace(state_dir, &error, now).map(|(store, told)| (store, Some(told)))
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the file aside and makes another of what can be read of it, and of what the audit chain tells; with what to
    /// say of it.
    pub(crate) fn replace(
        state_dir: &Path,
        because: &CredentialError,
        now: u64,
    ) -> Result<(Self, String), CredentialError> {
        let (mut store, told) = Self::begin_anew(&state_dir.join(FILE), because)?;
        // Whoever knows up to which number the audit chain has records takes none of these for one of them.
        let number = "INSERT INTO sqlite_sequence (name, seq) VALUES ('unrecorded', ?)";
        store.connection.execute(number, [signed(now.saturating_mul(1_000))])?;
        let taken = store.redo(state_dir, now)?;
        Ok((store, format!("{told}; {taken} were taken over from the audit chain")))
    }

    fn at(path: &Path) -> Result<Self, CredentialError> {
        let connection = sqlite::open(path, &SqliteOptions { busy_timeout: TIMEOUT, schema: SCHEMA, tables: TABLES })?;
        connection.execute_batch(SEEN)?;
        let has_plans = connection.prepare("SELECT 1 FROM pragma_table_info('key') WHERE name = 'plan'")?.exists([])?;
        if !has_plans {
            connection.execute_batch(rows::PLAN)?;
        }
        Ok(Self { connection })
    }

    fn begin_anew(path: &Path, because: &CredentialError) -> Result<(Self, String), CredentialError> {
        let aside = set_aside(path)?;
        let (keys, revocations, pepper) = salvage(&aside);
        let mut store = Self::at(path)?;
        let change = store.change()?;
        for row in &keys {
            rows::put_key(&change, row)?;
        }
        for row in &revocations {
            rows::put_revocation(&change, row)?;
        }
        if let Some(tag) = pepper {
            put_pepper(&change, &tag)?;
        }
        change.commit()?;
        let told = format!(
            "{} was set aside as {} ({because}); {} keys and {} revocations could be read of it and are kept",
            path.display(),
            aside.display(),
            keys.len(),
            revocations.len()
        );
        Ok((store, told))
    }

    /// Starts a change. Nothing of it is kept unless it is committed.
    pub(super) fn change(&mut self) -> Result<Transaction<'_>, CredentialError> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }

    /// Whether there is any key.
    pub(crate) fn has_keys(&self) -> Result<bool, CredentialError> {
        Ok(self.connection.prepare_cached("SELECT 1 FROM key LIMIT 1")?.exists([])?)
    }

    /// What tells the pepper from others that keys were hashed with; `None`: there was no key yet.
    pub(crate) fn pepper(&self) -> Result<Option<Tag>, CredentialError> {
        let tag = self.connection.query_row("SELECT tag FROM pepper", [], |row| row.get(0)).optional()?;
        Ok(tag)
    }

    /// Keys are hashed with this pepper from now on.
    pub(crate) fn adopt_pepper(&self, tag: &Tag) -> Result<(), CredentialError> {
        Ok(put_pepper(&self.connection, tag)?)
    }

    /// The key of an id.
    pub(crate) fn key(&self, id: u64) -> Result<Option<KeyRow>, CredentialError> {
        Ok(self.keys("SELECT * FROM key WHERE id = ?", [signed(id)])?.pop())
    }

    /// The keys of a name, the newest first.
    pub(crate) fn named(&self, name: &str) -> Result<Vec<KeyRow>, CredentialError> {
        self.keys("SELECT * FROM key WHERE name = ? ORDER BY created DESC, id", [name])
    }

    /// A page of all keys, in the order of their names, behind `after`.
    pub(crate) fn page(&self, after: Option<(&str, u64)>, most: usize) -> Result<Vec<KeyRow>, CredentialError> {
        let (name, id) = after.map_or(("", i64::MIN), |(name, id)| (name, signed(id)));
        let query = format!("SELECT * FROM key WHERE (name, id) > (?, ?) ORDER BY name, id LIMIT {most}");
        self.keys(&query, params![name, id])
    }

    fn keys(&self, query: &str, values: impl rusqlite::Params) -> Result<Vec<KeyRow>, CredentialError> {
        let mut query = self.connection.prepare_cached(query)?;
        let mut rows = query.query(values)?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.extend(rows::key(row)?);
        }
        Ok(keys)
    }

    /// Whether a row revokes this.
    pub(crate) fn is_revoked(&self, revoked: &Revoked) -> Result<bool, CredentialError> {
        Ok(rows::is_revoked(&self.connection, revoked)?)
    }

    /// How many revocations there are.
    pub(crate) fn count_revocations(&self) -> Result<usize, CredentialError> {
        let count: i64 = self.connection.query_row("SELECT count(*) FROM revocation", [], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// A page of all revocations, behind the one with the number `after`.
    pub(crate) fn revocations(&self, after: u64, most: usize) -> Result<Vec<RevocationRow>, CredentialError> {
        let query = format!("SELECT * FROM revocation WHERE number > ? ORDER BY number LIMIT {most}");
        let mut query = self.connection.prepare_cached(&query)?;
        let mut rows = query.query([signed(after)])?;
        let mut revocations = Vec::new();
        while let Some(row) = rows.next()? {
            revocations.extend(rows::revocation(row)?);
        }
        Ok(revocations)
    }

    /// What another machine revokes, by its name as an actor.
    pub(crate) fn revocations_of(&self, actor: &str) -> Result<Vec<RevocationRow>, CredentialError> {
        let mut query = self.connection.prepare_cached("SELECT * FROM revocation WHERE actor = ?")?;
        let mut rows = query.query([actor])?;
        let mut revocations = Vec::new();
        while let Some(row) = rows.next()? {
            revocations.extend(rows::revocation(row)?);
        }
        Ok(revocations)
    }

    /// The newest API keys that were made on this machine and may be good at `now`, in seconds since the Unix epoch.
    pub(crate) fn own_keys(&self, now: u64, most: usize) -> Result<Vec<KeyRow>, CredentialError> {
        let query = "SELECT * FROM key WHERE substr(actor, 1, ?1) <> ?2 AND (expires IS NULL OR expires > ?3)
             ORDER BY created DESC, id LIMIT ?4";
        let prefix = i64::try_from(rows::PEER.len()).unwrap_or(0);
        self.keys(query, params![prefix, rows::PEER, signed(now), i64::try_from(most).unwrap_or(i64::MAX)])
    }

    /// The same behind this one, by when it was made and its id.
    pub(crate) fn own_keys_behind(
        &self,
        now: u64,
        (created, id): (u64, u64),
        most: usize,
    ) -> Result<Vec<KeyRow>, CredentialError> {
        let query = "SELECT * FROM key WHERE substr(actor, 1, ?1) <> ?2 AND (expires IS NULL OR expires > ?3)
             AND (created < ?4 OR created = ?4 AND id > ?5) ORDER BY created DESC, id LIMIT ?6";
        let prefix = i64::try_from(rows::PEER.len()).unwrap_or(0);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.keys(query, params![prefix, rows::PEER, signed(now), signed(created), signed(id), most])
    }

    /// How many API keys there are, and how many of them another machine has made.
    pub(crate) fn count_keys(&self, actor: &str) -> Result<(usize, usize), CredentialError> {
        let query = "SELECT count(*), ifnull(sum(actor = ?), 0) FROM key";
        let (all, its): (i64, i64) = self.connection.query_row(query, [actor], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((usize::try_from(all).unwrap_or(0), usize::try_from(its).unwrap_or(0)))
    }

    /// What was revoked on this machine and still is at `now`, in milliseconds since the Unix epoch: tokens and keys, the
    /// newest first, at most `most` of each.
    pub(crate) fn own_revocations(&self, now: u64, most: usize) -> Result<Vec<RevocationRow>, CredentialError> {
        let mut query = self.connection.prepare_cached(
            "SELECT * FROM revocation WHERE substr(actor, 1, ?1) <> ?2 AND (expires IS NULL OR expires > ?3)
                 ORDER BY number DESC LIMIT ?4",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let prefix = i64::try_from(rows::PEER.len()).unwrap_or(0);
        let mut rows = query.query(params![prefix, rows::PEER, signed(now / 1_000), most])?;
        let mut revocations = Vec::new();
        while let Some(row) = rows.next()? {
            revocations.extend(rows::revocation(row)?);
        }
        let mut query = self
            .connection
            .prepare_cached("SELECT id, revoked, actor FROM key WHERE revoked > ? ORDER BY revoked DESC LIMIT ?")?;
        let since = now.saturating_sub(REMEMBERED.saturating_mul(1_000));
        let mut rows = query.query(params![signed(since), most])?;
        while let Some(row) = rows.next()? {
            let (id, revoked, actor): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            revocations.push(RevocationRow {
                number: 0,
                revoked: Revoked::Key(id.cast_unsigned()),
                expires: u64::try_from(revoked).ok().map(|revoked| (revoked / 1_000).saturating_add(REMEMBERED)),
                reason: String::new(),
                actor,
                added: u64::try_from(revoked).unwrap_or(0),
            });
        }
        Ok(revocations)
    }

    /// Hands on all that proxies are to know, at `now` in seconds since the Unix epoch; `steady`: by which time revocations
    /// end.
    pub(crate) fn each(
        &self,
        now: u64,
        steady: u64,
        mut hand: impl FnMut(CredentialChange) -> io::Result<()>,
    ) -> Result<(), CredentialError> {
        let mut query = self.connection.prepare_cached(
            "SELECT * FROM key WHERE (expires IS NULL OR expires > ?1) AND (revoked IS NULL OR revoked / 1000 > ?1)",
        )?;
        let mut rows = query.query([signed(now.saturating_sub(REMEMBERED))])?;
        while let Some(row) = rows.next()? {
            if let Some(key) = rows::key(row)? {
                hand(CredentialChange::Key(key.record))?;
            }
        }
        let mut query =
            self.connection.prepare_cached("SELECT * FROM revocation WHERE expires IS NULL OR expires > ?")?;
        let mut rows = query.query([signed(steady)])?;
        while let Some(row) = rows.next()? {
            if let Some(row) = rows::revocation(row)? {
                hand(CredentialChange::Revoked(row.revoked))?;
            }
        }
        Ok(())
    }

    /// Notes when keys were used last.
    pub(crate) fn note_used(&mut self, used: &[(u64, u64)]) -> Result<(), CredentialError> {
        let change = self.change()?;
        {
            let mut update = change.prepare_cached("UPDATE key SET used = max(ifnull(used, 0), ?) WHERE id = ?")?;
            for (id, seconds) in used {
                update.execute([signed(*seconds), signed(*id)])?;
            }
        }
        Ok(change.commit()?)
    }

    /// Records that the audit chain is still to have.
    pub(crate) fn unrecorded(&self) -> Result<Vec<Unrecorded>, CredentialError> {
        let mut query = self.connection.prepare_cached("SELECT * FROM unrecorded ORDER BY number LIMIT 1000")?;
        let rows = query.query_map([], |row| {
            let members: String = row.get("members")?;
            let members = serde_json::from_str(&members).unwrap_or_default();
            Ok(Unrecorded { number: row.get("number")?, event: row.get("event")?, members })
        })?;
        // A record that cannot be read keeps no other out of the chain.
        let legible = rows.filter(|row| !matches!(row, Err(error) if sqlite::is_of_a_row(error)));
        Ok(legible.collect::<Result<_, _>>()?)
    }

    /// The audit chain has these, and ends with a record that was written after them.
    pub(crate) fn recorded(&mut self, numbers: &[i64], newest: &SeenRecord) -> Result<(), CredentialError> {
        let change = self.change()?;
        for number in numbers {
            change.prepare_cached("DELETE FROM unrecorded WHERE number = ?")?.execute([number])?;
        }
        rows::put_seen(&change, newest.seq, &newest.hash)?;
        Ok(change.commit()?)
    }

    /// Removes revocations that are over at `now`, in seconds since the Unix epoch; which of them are lifted by that.
    pub(crate) fn expire(&mut self, now: u64) -> Result<Vec<Revoked>, CredentialError> {
        let due = {
            let mut query =
                self.connection.prepare_cached("SELECT * FROM revocation WHERE expires <= ? LIMIT 10000")?;
            let mut rows = query.query([signed(now)])?;
            let mut due = Vec::new();
            while let Some(row) = rows.next()? {
                due.extend(rows::revocation(row)?);
            }
            due
        };
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let change = self.change()?;
        let mut lifted = Vec::new();
        for row in due {
            lifted.extend(remove_revocation(&change, row)?);
        }
        change.commit()?;
        Ok(lifted)
    }
}

/// Removes a row; what is not revoked any more.
pub(super) fn remove_revocation(change: &Transaction<'_>, row: RevocationRow) -> rusqlite::Result<Option<Revoked>> {
    change.prepare_cached("DELETE FROM revocation WHERE number = ?")?.execute([signed(row.number)])?;
    // The other row of the same, an operator's or the file's, still revokes it.
    Ok((!rows::is_revoked(change, &row.revoked)?).then_some(row.revoked))
}

/// Notes what the audit chain is to have of a change.
pub(super) fn record(change: &Transaction<'_>, event: &str, members: &Value) -> rusqlite::Result<()> {
    change
        .prepare_cached("INSERT INTO unrecorded (event, members) VALUES (?, ?)")?
        .execute([event, &members.to_string()])
        .map(drop)
}

fn put_pepper(connection: &Connection, tag: &Tag) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO pepper (one, tag) VALUES (1, ?)", [&tag[..]]).map(drop)
}

/// What can be read of a damaged file.
fn salvage(aside: &PathBuf) -> (Vec<KeyRow>, Vec<RevocationRow>, Option<Tag>) {
    let (mut keys, mut revocations, mut pepper) = (Vec::new(), Vec::new(), None);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if let Ok(connection) = Connection::open_with_flags(aside, flags)
        && connection.pragma_update(None, "query_only", true).is_ok()
    {
        // Not by an index: that may be what is damaged.
        if let Ok(mut query) = connection.prepare("SELECT * FROM key NOT INDEXED")
            && let Ok(mut rows) = query.query([])
        {
            while let Ok(Some(row)) = rows.next() {
                keys.extend(rows::key(row).ok().flatten());
            }
        }
        if let Ok(mut query) = connection.prepare("SELECT * FROM revocation NOT INDEXED")
            && let Ok(mut rows) = query.query([])
        {
            while let Ok(Some(row)) = rows.next() {
                revocations.extend(rows::revocation(row).ok().flatten());
            }
        }
        pepper = connection.query_row("SELECT tag FROM pepper", [], |row| row.get(0)).ok();
    }
    (keys, revocations, pepper)
}
