//! Opens the store: in its file, in a new one, or in memory while its file cannot be written.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{
    database::BanStore,
    error::{SCHEMA, StoreError},
    feeds::FEED_TABLES,
    good::GOOD_TABLES,
    row::unsigned,
    salvage::Salvage,
    schema::MIGRATIONS,
    source_filter::SourceFilter,
    unread_rows::UnreadRows,
};

/// How many pages the log may have before whoever writes brings it into the file, and waits: 64 MiB.
const LONGEST_LOG: i64 = 16_384;

/// How long opening the store waits for whoever has locked it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long a decision waits: it is recorded later then.
const HURRY: Duration = Duration::from_millis(5);

impl BanStore {
    /// Opens the store, making it where there is none.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::is_damage`] tells whether the file is of no use.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_within(path, TIMEOUT)
    }

    fn open_within(path: &Path, timeout: Duration) -> Result<Self, StoreError> {
        // SQLite gives the files that it makes beside this one the same mode.
        if path != Path::new(":memory:") {
            OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        }
        match Self::ready(path, timeout, false) {
            // A full disk has no room for what readers in other processes need. What is stored can be read without.
            Err(StoreError::Database(error)) if is_out_of_room(&error) => Self::ready(path, timeout, true),
            ready => ready,
        }
    }

    fn ready(path: &Path, timeout: Duration, alone: bool) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(timeout)?;
        if alone {
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A power cut may cost the last commits, never the file: expiry makes up for a lost ban better than a
        // flush to disk per ban would under attack.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        if !alone {
            // Another thread brings the log into the file long before: see `checkpoint`.
            connection.pragma_update(None, "wal_autocheckpoint", LONGEST_LOG)?;
        }
        // Outside its own folder the guard writes nothing, and may not.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(StoreError::Damaged(sound));
        }
        if found != SCHEMA {
            let missing = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..));
            let missing = missing.filter(|missing| !missing.is_empty()).ok_or(StoreError::Newer { found })?;
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for migration in missing {
                change.execute_batch(migration)?;
            }
            change.pragma_update(None, "user_version", SCHEMA)?;
            change.commit()?;
        }
        connection.execute_batch(FEED_TABLES)?;
        connection.execute_batch(GOOD_TABLES)?;
        let file = fs::metadata(path).ok().map(|found| (path.to_owned(), found.ino()));
        let seen = SourceFilter::read(&connection);
        let unread = UnreadRows::default();
        Ok(Self { connection, seen, unread, alone, file, stands_in: None })
    }

    /// A store in memory in the place of the one at `path`, which cannot be written because of `why`: with what can
    /// be read of it. Nothing can be changed until [`Self::reopen`] has succeeded.
    ///
    /// # Errors
    /// [`StoreError`]: there is no memory.
    pub(crate) fn stand_in(path: &Path, why: &StoreError) -> Result<Self, StoreError> {
        let mut store = Self::open(Path::new(":memory:"))?;
        let salvage = Salvage::copied(path);
        let anchor = salvage.anchor.clone();
        let change = store.change()?;
        salvage.write(&change)?;
        match anchor {
            Some(anchor) => change.commit(&anchor)?,
            None => change.commit_without_anchor()?,
        }
        store.file = Some((path.to_owned(), 0));
        let text = why.to_string();
        // Whoever is told of it is told that it is about the store.
        let text = text.strip_prefix("the ban store: ").unwrap_or(&text).to_owned();
        store.stands_in = Some((text, why.is_busy()));
        Ok(store)
    }

    /// Opens the file again that it stands in for.
    ///
    /// # Errors
    /// [`StoreError`]: it stands in as before.
    pub(crate) fn reopen(&mut self) -> Result<(), StoreError> {
        if let Some((path, _)) = self.file.as_ref().filter(|_| self.stands_in()) {
            *self = Self::open_within(path, HURRY)?;
        }
        Ok(())
    }

    /// Whether it is in memory alone.
    pub(crate) const fn stands_in(&self) -> bool {
        self.stands_in.is_some()
    }

    /// Decisions wait for it, and others for them: whoever has locked it is not waited for.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn hurry(&self) -> Result<(), StoreError> {
        Ok(self.connection.busy_timeout(HURRY)?)
    }

    /// Nobody else waits any more: whoever has locked it is waited for.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn be_patient(&self) -> Result<(), StoreError> {
        Ok(self.connection.busy_timeout(TIMEOUT)?)
    }

    /// Whether its file is still where it was.
    pub(crate) fn is_in_place(&self) -> bool {
        let Some((path, inode)) = self.file.as_ref().filter(|_| !self.stands_in()) else { return true };
        match fs::metadata(path) {
            Ok(found) => found.ino() == *inode,
            // What cannot be looked at is not gone.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Where its file is.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| &**path)
    }

    /// The largest id that a ban ever had.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn newest(&self) -> Result<u64, StoreError> {
        let query = "SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'ban'), 0),
                         ifnull((SELECT max(id) FROM ban), 0)) AS newest";
        Ok(self.connection.query_row(query, [], |row| unsigned(row, "newest"))?)
    }

    /// The largest number that a list ever had.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn newest_feed(&self) -> Result<u64, StoreError> {
        let query = "SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'feed'), 0),
                         ifnull((SELECT max(id) FROM feed), 0)) AS newest";
        Ok(self.connection.query_row(query, [], |row| unsigned(row, "newest"))?)
    }

    /// There is room again: others may read the file, too, from the next change on.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn share(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.alone) {
            self.connection.pragma_update(None, "locking_mode", "NORMAL")?;
        }
        Ok(())
    }

    /// Reads a store that another process may have open, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; also if there is no store.
    pub(crate) fn read(path: &Path) -> Result<Self, StoreError> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(TIMEOUT)?;
        Ok(Self {
            seen: SourceFilter::everybody(),
            unread: UnreadRows::default(),
            connection,
            alone: false,
            file: None,
            stands_in: Some(("it was opened for reading".to_owned(), false)),
        })
    }
}

impl StoreError {
    /// Another process holds it: it is free again in a moment.
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Behind => true,
            Self::Database(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
            }
            _ => false,
        }
    }

    /// The file itself is of no use, now and later.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => true,
                // A table or a column is not there, or holds something else.
                Some(ErrorCode::Unknown | ErrorCode::TypeMismatch) => true,
                Some(_) => false,
                None => true,
            },
            // A folder, a link to itself, somebody else's.
            Self::File(error) => matches!(error.raw_os_error(), Some(libc::EISDIR | libc::ELOOP | libc::EACCES)),
            Self::Damaged(_) | Self::Newer { .. } | Self::Row { .. } => true,
            Self::Behind | Self::Failing(_) | Self::Unwritable(_) => false,
        }
    }
}

fn is_out_of_room(error: &rusqlite::Error) -> bool {
    use ErrorCode::{CannotOpen, DiskFull, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(CannotOpen | DiskFull | SystemIoFailure))
}
