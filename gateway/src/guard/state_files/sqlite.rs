//! Opens a file of SQLite in the state folder that one thread owns, and makes it where there is none.
//!
//! The store of bans has its own way: it is read while other processes may have it locked.

use std::{fs, fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

/// What a file is to be.
pub(crate) struct SqliteOptions {
    /// How long whoever has locked it is waited for, a backup for example.
    pub(crate) busy_timeout: Duration,
    /// What `PRAGMA user_version` says. A file of another number is never changed.
    pub(crate) schema: i64,
    /// What makes the tables.
    pub(crate) tables: &'static str,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqliteError {
    /// SQLite says no: disk full, locked, not a database.
    #[error(": {0}")]
    Database(#[from] rusqlite::Error),
    /// The file cannot be made.
    #[error(": {0}")]
    File(#[from] io::Error),
    /// Its pages contradict each other, or another version wrote it.
    #[error(" {0}")]
    Unusable(String),
}

impl SqliteError {
    /// The file itself is of no use, now and later.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => {
                let code = error.sqlite_error_code();
                matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown))
            }
            Self::File(error) => matches!(error.raw_os_error(), Some(libc::EISDIR | libc::ELOOP)),
            Self::Unusable(_) => true,
        }
    }
}

/// Whether a single row holds what this program never wrote. The others are as good as before.
pub(crate) fn is_of_a_row(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..))
}

/// Opens a file. What is written to it survives a power cut: nobody waits for its thread but whoever asked.
///
/// # Errors
/// It cannot be used: at the moment, or at all.
pub(crate) fn open(path: &Path, wanted: &SqliteOptions) -> Result<Connection, SqliteError> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(SqliteError::Unusable("is no regular file".to_owned()));
    }
    // SQLite gives the files that it makes beside this one the same mode.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(wanted.busy_timeout)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(SqliteError::Unusable(format!("is damaged: {sound}")));
    }
    let schema = wanted.schema;
    match found {
        found if found == schema => {}
        0 => {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute_batch(wanted.tables)?;
            change.pragma_update(None, "user_version", schema)?;
            change.commit()?;
        }
        found => {
            let what =
                format!("has schema {found}, this program knows {schema}: run the version that wrote it, or newer");
            return Err(SqliteError::Unusable(what));
        }
    }
    Ok(connection)
}
