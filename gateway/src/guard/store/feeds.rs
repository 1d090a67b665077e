//! Feeds in the store: a row that names the generation in force, and that generation's entries in chunks.
//!
//! *Invariant:* chunks are written under a generation that nothing refers to yet; one statement puts it in force. A
//! crash before it leaves the old content, and chunks that [`BanStore::sweep_feeds`] removes at the next start.

use rusqlite::{Row, params};

use super::{
    database::{BanStore, StoreChange},
    error::StoreError,
    row::{signed, unsigned},
};
use crate::guard::feeds::content::FeedContent;

pub(super) const FEED_TABLES: &str = "
    CREATE TABLE IF NOT EXISTS feed (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        file INTEGER NOT NULL,
        shadow INTEGER NOT NULL,
        actor TEXT NOT NULL,
        digest TEXT NOT NULL,
        boot TEXT NOT NULL,
        loaded INTEGER NOT NULL,
        base INTEGER NOT NULL,
        reasons TEXT NOT NULL,
        generation INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS feed_chunk (
        generation INTEGER NOT NULL,
        number INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (generation, number)
    ) STRICT, WITHOUT ROWID;
";

/// A feed as it is remembered; its entries aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeedRow {
    /// Its number, the same for each of its contents; 0 until it is written.
    pub(crate) id: u32,
    /// Its name; empty: what was imported without one.
    pub(crate) name: String,
    /// It follows a file of the configuration.
    pub(crate) file: bool,
    /// Counted only.
    pub(crate) shadow: bool,
    /// `operator:UID` or `config`.
    pub(crate) actor: String,
    /// Of what it was read from, hexadecimal.
    pub(crate) digest: String,
    /// Which boot the content's base belongs to.
    pub(crate) boot: String,
    /// When it was loaded: milliseconds since the Unix epoch.
    pub(crate) loaded: u64,
    /// Under which its chunks are.
    pub(crate) generation: u64,
}

/// Lists with their entries.
pub(crate) type Lists = Vec<(FeedRow, FeedContent)>;

impl BanStore {
    /// Every feed with its entries, and the names of those whose entries cannot be read.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn feeds(&self) -> Result<(Lists, Vec<String>), StoreError> {
        let mut query = self.connection.prepare_cached("SELECT * FROM feed ORDER BY id")?;
        let mut rows = query.query([])?;
        let (mut feeds, mut broken) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            match self.feed(row) {
                Ok(feed) => feeds.push(feed),
                Err(error) => {
                    tracing::error!(%error, "a list cannot be read from the ban store");
                    broken.push(row.get("name").unwrap_or_default());
                }
            }
        }
        Ok((feeds, broken))
    }

    fn feed(&self, row: &Row<'_>) -> Result<(FeedRow, FeedContent), StoreError> {
        let id = unsigned(row, "id")?;
        let broken = |what| StoreError::Row { what, id };
        let reasons: String = row.get("reasons")?;
        let feed = FeedRow {
            id: u32::try_from(id).map_err(|_large| broken("a feed's number"))?,
            name: row.get("name")?,
            file: row.get("file")?,
            shadow: row.get("shadow")?,
            actor: row.get("actor")?,
            digest: row.get("digest")?,
            boot: row.get("boot")?,
            loaded: unsigned(row, "loaded")?,
            generation: unsigned(row, "generation")?,
        };
        let mut content = FeedContent {
            base: unsigned(row, "base")?,
            entries: Vec::new(),
            reasons: serde_json::from_str(&reasons).map_err(|_error| broken("reasons"))?,
        };
        let mut chunks =
            self.connection.prepare_cached("SELECT content FROM feed_chunk WHERE generation = ? ORDER BY number")?;
        let mut found = chunks.query([signed(feed.generation)])?;
        while let Some(chunk) = found.next()? {
            content.extend(chunk.get_ref(0)?.as_blob().unwrap_or(b"?")).ok_or_else(|| broken("a feed's entries"))?;
        }
        Ok((feed, content))
    }

    /// Removes chunks that nothing refers to; the largest generation that is left. Where nothing can be written they
    /// stay, which does no harm.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn sweep_feeds(&self) -> Result<u64, StoreError> {
        let swept = "DELETE FROM feed_chunk WHERE generation NOT IN (SELECT generation FROM feed)";
        if let Err(error) = self.connection.execute(swept, []) {
            tracing::warn!(%error, "the store keeps parts of lists until the next start");
        }
        let most = "SELECT max(ifnull((SELECT max(generation) FROM feed), 0),
                        ifnull((SELECT max(generation) FROM feed_chunk), 0)) AS most";
        Ok(self.connection.query_row(most, [], |row| unsigned(row, "most"))?)
    }
}

impl StoreChange<'_> {
    /// Writes a chunk of a generation that is not in force.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn feed_chunk(&self, generation: u64, number: u64, content: &[u8]) -> Result<(), StoreError> {
        self.0
            .prepare_cached("INSERT INTO feed_chunk (generation, number, content) VALUES (?, ?, ?)")?
            .execute(params![signed(generation), signed(number), content])?;
        Ok(())
    }

    /// Puts a generation in force, whose chunks are all written; the feed's number.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn put_feed(&self, feed: &FeedRow, content: &FeedContent) -> Result<u32, StoreError> {
        let reasons = serde_json::to_string(&content.reasons).unwrap_or_else(|_error| "[]".to_owned());
        self.0.execute(
            "INSERT INTO feed (id, name, file, shadow, actor, digest, boot, loaded, base, reasons, generation)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET file = excluded.file, shadow = excluded.shadow, actor = excluded.actor,
                 digest = excluded.digest, boot = excluded.boot, loaded = excluded.loaded, base = excluded.base,
                 reasons = excluded.reasons, generation = excluded.generation",
            params![
                (feed.id > 0).then_some(feed.id),
                feed.name,
                feed.file,
                feed.shadow,
                feed.actor,
                feed.digest,
                feed.boot,
                signed(feed.loaded),
                signed(content.base),
                reasons,
                signed(feed.generation)
            ],
        )?;
        let id = self.0.query_row("SELECT id FROM feed WHERE name = ?", [&feed.name], |row| unsigned(row, "id"))?;
        u32::try_from(id).map_err(|_large| StoreError::Row { what: "a feed's number", id })
    }

    /// Forgets a feed; its chunks go with [`Self::drop_chunks`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn drop_feed(&self, id: u32) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM feed WHERE id = ?", [id])?;
        Ok(())
    }

    /// Removes some chunks of a generation that is not in force any more; whether none is left.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(crate) fn drop_chunks(&self, generation: u64, most: u64) -> Result<bool, StoreError> {
        let removed = self.0.execute(
            "DELETE FROM feed_chunk WHERE generation = ?1 AND number IN
                 (SELECT number FROM feed_chunk WHERE generation = ?1 LIMIT ?2)",
            params![signed(generation), signed(most)],
        )?;
        Ok(u64::try_from(removed).unwrap_or(0) < most)
    }
}
