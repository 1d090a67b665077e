//! Why the store cannot be used.

use std::io;

use rusqlite::ErrorCode;

/// What `PRAGMA user_version` says. A newer file is refused, never changed.
pub(super) const SCHEMA: i64 = 3;

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
    /// Nothing could be recorded before, and nothing was tried since: why, as it was said then.
    #[error("{0}")]
    Failing(String),
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
    #[error("the ban store holds {what} that cannot be read{}", in_ban(.id))]
    Row {
        /// Which column.
        what: &'static str,
        /// Whose; 0: it is none of a ban.
        id: u64,
    },
}

fn in_ban(id: &u64) -> String {
    if *id == 0 { String::new() } else { format!(" in ban {id}") }
}

impl StoreError {
    /// Whoever asks lacks a right to its files.
    pub(crate) fn is_denied(&self) -> bool {
        match self {
            Self::Database(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly)
            ),
            Self::File(error) => error.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }
}
