//! Rows of the store for the safety rules: what operators unbanned, confirmed and promoted, and what sources were
//! banned for before.

use gateway_common::source::Source;
use rusqlite::{Row, params};

use super::{
    database::{BanStore, StoreChange},
    error::StoreError,
    row::{of_ban, optional, signed, unsigned},
};

/// A source that an operator unbanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pardon {
    /// Who.
    pub source: Source,
    /// `operator:UID`.
    pub actor: String,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

/// What enforces although the configuration says `shadow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// `rule.NAME` or `limit.address`.
    pub what: String,
    /// `operator:UID`.
    pub actor: String,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

/// A ban that a rule asked for and that ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// Who.
    pub source: Source,
    /// Milliseconds since the Unix epoch.
    pub started: u64,
    /// Milliseconds since the Unix epoch.
    pub ended: u64,
}

/// Enforced bans by rules that nobody took back.
const OFFENCES: &str = "ended IS NOT NULL AND rule IS NOT NULL AND shadow = 0 AND how IN ('expired', 'replaced')";

impl BanStore {
    /// What operators have unbanned, the latest first. What cannot be read is left out.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn pardons(&self) -> Result<Vec<Pardon>, StoreError> {
        let mut query = self.connection.prepare_cached("SELECT source, actor, at FROM pardon ORDER BY at DESC")?;
        self.legible("pardon", query.query([])?, |row| {
            let source: String = row.get("source")?;
            let source = source.parse().map_err(|_error| StoreError::Row { what: "an unbanned source", id: 0 })?;
            Ok(Pardon { source, actor: row.get("actor")?, at: unsigned(row, "at")? })
        })
    }

    /// What operators have promoted. What cannot be read is left out.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn promotions(&self) -> Result<Vec<Promotion>, StoreError> {
        let mut query = self.connection.prepare_cached("SELECT what, actor, at FROM promotion ORDER BY what")?;
        self.legible("promotion", query.query([])?, |row| {
            Ok(Promotion { what: row.get("what")?, actor: row.get("actor")?, at: unsigned(row, "at")? })
        })
    }

    /// The latest offences of `source` and of what is around it, oldest first. What cannot be read is left out.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn offences(&self, source: Source, most: usize) -> Result<Vec<Offence>, StoreError> {
        let names: Vec<String> = (0..=source.length())
            .filter_map(|length| Source::network(source.address(), length))
            .filter(|source| self.seen.may_hold(*source))
            .map(|source| source.to_string())
            .collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let marks = vec!["?"; names.len()].join(",");
        let query = format!(
            "SELECT id, source, started, ended FROM ban WHERE {OFFENCES} AND source IN ({marks})
             ORDER BY id DESC LIMIT {most}"
        );
        let mut offences = self.read_offences(&query, rusqlite::params_from_iter(names))?;
        offences.reverse();
        Ok(offences)
    }

    /// Offences whose ban expired after `since`, the latest first.
    ///
    /// # Errors
    /// As [`Self::offences`].
    pub fn expired_since(&self, since: u64, most: usize) -> Result<Vec<Offence>, StoreError> {
        let query = format!(
            "SELECT id, source, started, ended FROM ban WHERE {OFFENCES} AND how = 'expired' AND ended >= ?
             ORDER BY ended DESC, id DESC LIMIT {most}"
        );
        self.read_offences(&query, [signed(since)])
    }

    fn read_offences(&self, query: &str, values: impl rusqlite::Params) -> Result<Vec<Offence>, StoreError> {
        let mut query = self.connection.prepare_cached(query)?;
        self.legible("ban", query.query(values)?, |row| {
            let id = unsigned(row, "id")?;
            offence(row, id).map_err(|error| of_ban(error, id))
        })
    }
}

fn offence(row: &Row<'_>, id: u64) -> Result<Offence, StoreError> {
    let source: String = row.get("source")?;
    Ok(Offence {
        source: source.parse().map_err(|_error| StoreError::Row { what: "a source", id })?,
        started: unsigned(row, "started")?,
        ended: optional(row, "ended")?.unwrap_or(0),
    })
}

impl StoreChange<'_> {
    /// Lets a ban stay for its whole time.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn confirm(&self, id: u64) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE ban SET confirm_by = NULL, confirm_monotonic = NULL WHERE id = ?")?
            .execute([signed(id)])?;
        Ok(())
    }

    /// Makes a shadow ban an enforced one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn enforce(&self, id: u64) -> Result<(), StoreError> {
        self.0.prepare_cached("UPDATE ban SET shadow = 0 WHERE id = ?")?.execute([signed(id)])?;
        Ok(())
    }

    /// Remembers that an operator unbanned a source, and forgets who was unbanned before `since`, and whoever was
    /// unbanned first where there are more than `most`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn pardon(&self, pardon: &Pardon, since: u64, most: usize) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT OR REPLACE INTO pardon (source, actor, at) VALUES (?, ?, ?)",
            params![pardon.source.to_string(), pardon.actor, signed(pardon.at)],
        )?;
        self.0.execute("DELETE FROM pardon WHERE at < ?", [signed(since)])?;
        self.0.execute(
            &format!(
                "DELETE FROM pardon WHERE source IN (SELECT source FROM pardon ORDER BY at DESC LIMIT -1 OFFSET {most})"
            ),
            [],
        )?;
        Ok(())
    }

    /// Takes back [`Self::pardon`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn unpardon(&self, source: Source) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM pardon WHERE source = ?", [source.to_string()])?;
        Ok(())
    }

    /// Remembers that a rule or limit enforces whatever the configuration says.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn promote(&self, promotion: &Promotion) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT OR REPLACE INTO promotion (what, actor, at) VALUES (?, ?, ?)",
            params![promotion.what, promotion.actor, signed(promotion.at)],
        )?;
        Ok(())
    }

    /// Takes back [`Self::promote`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn demote(&self, what: &str) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM promotion WHERE what = ?", [what])?;
        Ok(())
    }
}
