//! Reads what is still of use in a store that is damaged, of another version, or cannot be written: row by row.
//!
//! *Invariant:* nothing here fails. What cannot be read is not there.

use std::{fs, os::unix::fs::DirBuilderExt as _, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig, params};

use super::{
    database::{BanStore, StoreChange, anchor},
    error::StoreError,
    feeds::FeedRow,
    good::GoodRow,
    record::{AllowanceRecord, BanRecord, CommittedHead},
    row::{record, signed},
    safety::{Pardon, Promotion},
    source_filter::SourceFilter,
    unread_rows::UnreadRows,
};
use crate::guard::{feeds::content::FeedContent, state_files::beside};

/// How many good clients are kept.
const MOST_GOOD: usize = 65_536;

/// What could be read.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    /// Bans in force.
    pub(crate) records: Vec<BanRecord>,
    /// Allowances.
    pub(crate) allowed: Vec<AllowanceRecord>,
    /// What operators unbanned.
    pub(crate) pardons: Vec<Pardon>,
    /// What operators promoted.
    pub(crate) promotions: Vec<Promotion>,
    /// Which of those there were cannot be read.
    pub(crate) lost_promotions: bool,
    /// Lists.
    pub(crate) feeds: Vec<(FeedRow, FeedContent)>,
    /// Good clients.
    pub(crate) good: Vec<GoodRow>,
    /// The audit chain's head.
    pub(crate) anchor: Option<CommittedHead>,
}

impl Salvage {
    /// What can be read of the file at `path`, which is not changed.
    pub(crate) fn of(path: &Path) -> Self {
        // Readers of this kind of file have to write beside it.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(1))?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => Self::read(connection),
            Err(error) => {
                tracing::warn!(%error, "nothing can be read of the ban store");
                Self::default()
            }
        }
    }

    /// As [`Self::of`], of a copy in a folder for temporary files: where nothing can be written beside the file itself.
    pub(crate) fn copied(path: &Path) -> Self {
        let Some(name) = path.file_name().filter(|_| path.exists()) else { return Self::default() };
        for parent in [std::env::temp_dir(), "/dev/shm".into(), "/run".into()] {
            let folder = parent.join(format!("gateway-store-{}", std::process::id()));
            if fs::DirBuilder::new().mode(0o700).create(&folder).is_err() {
                continue;
            }
            let copied = fs::copy(path, folder.join(name)).map(|_bytes| {
                let wal = beside(path, "-wal");
                fs::copy(wal, beside(&folder.join(name), "-wal")).unwrap_or(0)
            });
            let salvage = copied.map(|_bytes| Self::of(&folder.join(name)));
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!(%error, folder = %folder.display(), "a copy of the ban store stays");
            }
            if let Ok(salvage) = salvage {
                return salvage;
            }
        }
        Self::default()
    }

    fn read(connection: Connection) -> Self {
        let anchor = anchor(&connection).ok().flatten();
        let (seen, unread) = (SourceFilter::everybody(), UnreadRows::default());
        let store = BanStore { connection, seen, unread, alone: false, file: None, stands_in: None };
        let mut records = Vec::new();
        // Not by an index: that may be what is damaged.
        if let Ok(mut query) = store.connection.prepare("SELECT * FROM ban NOT INDEXED WHERE ended IS NULL")
            && let Ok(mut rows) = query.query([])
        {
            while let Ok(Some(row)) = rows.next() {
                records.extend(record(row));
            }
        }
        // A page that is there twice, or a row that was put there.
        records.sort_by_key(|record| record.id);
        let mut seen = std::collections::HashSet::new();
        records.reverse();
        records.retain(|record| record.id > 0 && seen.insert(record.source));
        records.reverse();
        let promotions = store.promotions();
        Self {
            records,
            lost_promotions: promotions.is_err() || !store.unread.is_empty(),
            allowed: store.salvage_allowed(),
            pardons: store.pardons().unwrap_or_default(),
            promotions: promotions.unwrap_or_default(),
            good: store.good(0, MOST_GOOD).unwrap_or_default(),
            feeds: store.feeds().map(|(feeds, _broken)| feeds).unwrap_or_default(),
            anchor,
        }
    }

    /// Whether there is anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.allowed.is_empty() && self.promotions.is_empty() && self.feeds.is_empty()
    }

    /// Writes it into another store.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn write(&self, change: &StoreChange<'_>) -> Result<(), StoreError> {
        for record in &self.records {
            change.keep(record)?;
        }
        for allowed in &self.allowed {
            change.allow(allowed, 0)?;
        }
        for pardon in &self.pardons {
            change.pardon(pardon, 0, usize::MAX >> 1)?;
        }
        for promotion in &self.promotions {
            change.promote(promotion)?;
        }
        for (row, content) in &self.feeds {
            change.keep_feed(row, content)?;
        }
        change.remember_good(&self.good)
    }
}

impl StoreChange<'_> {
    /// Writes a ban in force with its id, in the place of what has this id or bans the same source.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn keep(&self, record: &BanRecord) -> Result<(), StoreError> {
        self.insert("INSERT OR REPLACE", record)
    }

    /// Writes a list with its number and all its entries.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn keep_feed(&self, row: &FeedRow, content: &FeedContent) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM feed_chunk WHERE generation = ?", [signed(row.generation)])?;
        for (number, chunk) in (0_u64..).zip(content.rows()) {
            self.feed_chunk(row.generation, number, &chunk)?;
        }
        self.0.execute("DELETE FROM feed WHERE id = ? AND name <> ?", params![row.id, row.name])?;
        self.put_feed(row, content).map(|_id| ())
    }
}
