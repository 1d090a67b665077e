//! The file of what was used up of quotas (SQLite), opened by one thread.
//!
//! *Invariant:* a row says of which period it is, and counts in no other.

use std::{collections::HashMap, fs, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::book::QuotaRows;
use crate::{
    guard::state_files::{
        set_aside,
        sqlite::{self, SqliteError, SqliteOptions},
    },
    os::clock::Now,
    policy::limit::quota::QuotaSpan,
    text::counted::counted,
};

/// The file in the state folder.
pub(crate) const FILE: &str = "quotas.db";

/// An empty file beside it: counts were written to it, so that a file without any has lost them.
pub(crate) const WRITTEN: &str = "quotas.written";

/// What `PRAGMA user_version` says. A newer file is set aside, never changed.
const SCHEMA: i64 = 1;

/// How long it waits for whoever has locked the file, a backup for example.
const TIMEOUT: Duration = Duration::from_secs(2);

const TABLES: &str = "
CREATE TABLE machine (one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT NOT NULL, seen INTEGER NOT NULL);
CREATE TABLE quota (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, counts TEXT NOT NULL,
    start INTEGER NOT NULL, until INTEGER NOT NULL, again INTEGER NOT NULL, ends INTEGER NOT NULL,
    UNIQUE (name, counts)
);
CREATE TABLE used (
    quota INTEGER NOT NULL, key INTEGER NOT NULL, units INTEGER NOT NULL, name TEXT, until INTEGER NOT NULL,
    PRIMARY KEY (quota, key)
) WITHOUT ROWID;
";

/// What later versions have besides, and earlier ones do not look at.
const MORE_TABLES: &str = "
CREATE TABLE IF NOT EXISTS word (
    quota INTEGER NOT NULL, key INTEGER NOT NULL, number INTEGER NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (quota, key)
) WITHOUT ROWID;
";

const WANTED: SqliteOptions = SqliteOptions { busy_timeout: TIMEOUT, schema: SCHEMA, tables: TABLES };

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{FILE}{0}")]
pub(super) struct QuotaStoreError(SqliteError);

impl QuotaStoreError {
    /// The file itself is of no use, now and later.
    pub(super) fn is_damage(&self) -> bool {
        match &self.0 {
            SqliteError::Database(error) if sqlite::is_of_a_row(error) => true,
            error => error.is_damage(),
        }
    }
}

impl From<SqliteError> for QuotaStoreError {
    fn from(error: SqliteError) -> Self {
        Self(error)
    }
}

impl From<rusqlite::Error> for QuotaStoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.into())
    }
}

impl From<io::Error> for QuotaStoreError {
    fn from(error: io::Error) -> Self {
        Self(error.into())
    }
}

/// The open file.
pub(super) struct QuotaStore {
    connection: Connection,
    boot: String,
}

impl QuotaStore {
    /// Opens the file, making it where there is none. One that is damaged is set aside, and that is told.
    pub(super) fn open(state_dir: &Path, boot: &str) -> Result<(Self, Option<String>), QuotaStoreError> {
        let path = state_dir.join(FILE);
        match connect(&path) {
            Err(error) if error.is_damage() => {
                let (store, told) = Self::begin_anew(state_dir, boot, &error.into())?;
                Ok((store, Some(told)))
            }
            opened => Ok((Self::of(opened?, boot), None)),
        }
    }

    /// Sets the file aside, makes another, and says so.
    pub(super) fn begin_anew(
        state_dir: &Path,
        boot: &str,
        because: &QuotaStoreError,
    ) -> Result<(Self, String), QuotaStoreError> {
        let path = state_dir.join(FILE);
        let aside = set_aside(&path)?;
        // What was lost is told here.
        forget_written(state_dir)?;
        let told = format!("{because}: it was set aside as {}", aside.display());
        tracing::error!("{told}");
        Ok((Self::of(connect(&path)?, boot), told))
    }

    fn of(connection: Connection, boot: &str) -> Self {
        Self { connection, boot: boot.to_owned() }
    }

    /// What is to be said where the file has nothing and had something. It is said once.
    pub(super) fn find_loss(&self, state_dir: &Path) -> Result<Option<String>, QuotaStoreError> {
        let has_rows = self.connection.prepare("SELECT 1 FROM machine")?.exists([])?;
        if has_rows || !state_dir.join(WRITTEN).exists() {
            return Ok(None);
        }
        forget_written(state_dir)?;
        Ok(Some(format!(
            "{} was missing or empty, and had counts before: quotas begin anew; stop the gateway and restore the file \
             from a backup, or set what was used by `gateway quota set`",
            state_dir.join(FILE).display()
        )))
    }

    /// What was written, as far as its periods are not over at `now`; and what to say of rows that cannot be read.
    pub(super) fn load(&self, now: Now) -> Result<(Vec<QuotaRows>, Option<String>), QuotaStoreError> {
        let mut query = self.connection.prepare("SELECT boot, seen FROM machine")?;
        let mut rows = query.query([])?;
        // In another life of the machine the monotonic clock was another.
        let seen = match rows.next()? {
            Some(row) => {
                Some(row.get(1).unwrap_or(0)).filter(|_| row.get::<_, String>(0).ok().as_ref() != Some(&self.boot))
            }
            None => Some(0),
        };
        let mut loaded: HashMap<i64, QuotaRows> = HashMap::new();
        let mut query = self.connection.prepare("SELECT number, name, counts, start, until, again, ends FROM quota")?;
        let mut rows = query.query([])?;
        let mut left_out = 0_u64;
        while let Some(row) = rows.next()? {
            let Some((number, quota)) = legible(quota(row, seen, now), &mut left_out)? else { continue };
            if quota.span.ends != 0 {
                loaded.insert(number, quota);
            }
        }
        let mut query = self.connection.prepare("SELECT quota, key, units, name, until FROM used")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let Some((quota, until, used)) = legible(used(row), &mut left_out)? else { continue };
            if let Some(written) = loaded.get_mut(&quota).filter(|written| written.span.end == until) {
                let (key, units, name) = used;
                written.rows.push((key.cast_unsigned(), units.cast_unsigned(), name.map(Into::into)));
            }
        }
        let mut query = self.connection.prepare("SELECT quota, key, number, until FROM word")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let Some((quota, until, key, word)) = legible(word(row), &mut left_out)? else { continue };
            if let Some(written) = loaded.get_mut(&quota).filter(|written| written.span.end == until) {
                written.words.push((key.cast_unsigned(), word.cast_unsigned()));
            }
        }
        let told = (left_out > 0).then(|| {
            let rows = counted(left_out, "row of quotas.db is", "rows of quotas.db are");
            format!("{rows} left out, as they cannot be read: what is counted there of quotas begins anew")
        });
        Ok((loaded.into_values().collect(), told))
    }

    /// Writes what has changed, all or nothing. What is of periods that are long over goes.
    pub(super) fn write(&mut self, changed: &[QuotaRows], now: Now) -> Result<(), QuotaStoreError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let seen = i64::try_from(now.unix_millis).unwrap_or(i64::MAX);
        change
            .execute("INSERT OR REPLACE INTO machine (one, boot, seen) VALUES (1, ?, ?)", params![self.boot, seen])?;
        for QuotaRows { name, counts, span, is_new, rows, words } in changed {
            let QuotaSpan { start, end, again, ends } = span;
            // Rows say when their period ends, and another one may have ended at the same time.
            let has_ended = *is_new
                && change
                    .prepare_cached("SELECT 1 FROM quota WHERE name = ? AND counts = ? AND until = ? AND again <> ?")?
                    .exists(params![name, counts, end, again])?;
            let number: i64 = change
                .prepare_cached(
                    "INSERT INTO quota (name, counts, start, until, again, ends) VALUES (?, ?, ?, ?, ?, ?)
                     ON CONFLICT (name, counts) DO UPDATE
                     SET start = excluded.start, until = excluded.until, again = excluded.again, ends = excluded.ends
                     RETURNING number",
                )?
                .query_row(params![name, counts, start, end, again, ends.cast_signed()], |row| row.get(0))?;
            if *is_new {
                for table in ["used", "word"] {
                    let delete = format!("DELETE FROM {table} WHERE quota = ? AND (until <> ? OR ?)");
                    change.execute(&delete, params![number, end, has_ended])?;
                }
                forget_over(&change, seen)?;
            }
            let mut put = change.prepare_cached(
                "INSERT INTO used (quota, key, units, name, until) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (quota, key) DO UPDATE SET units = excluded.units, until = excluded.until,
                 name = ifnull(excluded.name, name)",
            )?;
            for (key, units, name) in rows {
                put.execute(params![number, key.cast_signed(), units.cast_signed(), name.as_deref(), end])?;
            }
            let put = "INSERT OR REPLACE INTO word (quota, key, number, until) VALUES (?, ?, ?, ?)";
            let mut put = change.prepare_cached(put)?;
            for (key, word) in words {
                put.execute(params![number, key.cast_signed(), word.cast_signed(), end])?;
            }
        }
        Ok(change.commit()?)
    }
}

/// A row of quotas, by its number.
fn quota(row: &Row<'_>, seen: Option<i64>, now: Now) -> rusqlite::Result<(i64, QuotaRows)> {
    let ends: i64 = row.get(6)?;
    let (start, end, again) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let span = QuotaSpan { start, end, again, ends: ends.cast_unsigned() }.restored(seen, now);
    let (name, counts) = (row.get(1)?, row.get(2)?);
    Ok((row.get(0)?, QuotaRows { name, counts, span, is_new: false, rows: Vec::new(), words: Vec::new() }))
}

/// The key, units and name of a row of what was used.
type UsedUnits = (i64, i64, Option<String>);

/// A row of what was used: of which quota and until when, and the rest.
fn used(row: &Row<'_>) -> rusqlite::Result<(i64, i64, UsedUnits)> {
    Ok((row.get(0)?, row.get(4)?, (row.get(1)?, row.get(2)?, row.get(3)?)))
}

/// A row of words: of which quota and until when, its key and the word.
fn word(row: &Row<'_>) -> rusqlite::Result<(i64, i64, i64, i64)> {
    Ok((row.get(0)?, row.get(3)?, row.get(1)?, row.get(2)?))
}

/// A row that somebody else has written costs itself alone.
fn legible<T>(row: rusqlite::Result<T>, left_out: &mut u64) -> rusqlite::Result<Option<T>> {
    match row {
        Err(error) if sqlite::is_of_a_row(&error) => {
            if *left_out == 0 {
                tracing::warn!(%error, file = FILE, "a row is left out");
            }
            *left_out += 1;
            Ok(None)
        }
        row => row.map(Some),
    }
}

fn connect(path: &Path) -> Result<Connection, SqliteError> {
    let connection = sqlite::open(path, &WANTED)?;
    connection.execute_batch(MORE_TABLES)?;
    Ok(connection)
}

/// Notes that the file has counts.
pub(super) fn note_written(state_dir: &Path) -> io::Result<()> {
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(state_dir.join(WRITTEN)).map(drop)
}

fn forget_written(state_dir: &Path) -> io::Result<()> {
    match fs::remove_file(state_dir.join(WRITTEN)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Forgets quotas that ended over two months ago: whoever wrote them is configured no more.
fn forget_over(change: &rusqlite::Transaction<'_>, seen: i64) -> rusqlite::Result<()> {
    const LONG: i64 = 62 * 86_400_000;
    let before = seen.saturating_sub(LONG);
    change.execute("DELETE FROM used WHERE quota IN (SELECT number FROM quota WHERE until < ?)", [before])?;
    change.execute("DELETE FROM word WHERE quota IN (SELECT number FROM quota WHERE until < ?)", [before])?;
    change.execute("DELETE FROM quota WHERE until < ?", [before]).map(drop)
}
